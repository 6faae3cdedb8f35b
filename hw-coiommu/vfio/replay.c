/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bringing a container that arrives up to date: see replay.h.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "replay.h"
#include "system/replay.h"

static int replay_map(void *opaque, const CoiommuExtent *piece)
{
    return coiommu_containers_map_in(opaque, piece);
}

static void replay_unmap(void *opaque, uint64_t iova, uint64_t size)
{
    coiommu_containers_unmap_in(opaque, iova, size);
}

static void replay_error(CoiommuPins *pins, CoiommuMember *member, int ret,
                         Error **errp)
{
    CoiommuPinTotals totals = coiommu_pinset_totals(&pins->set);

    if (ret == -ENOSPC) {
        error_setg(errp, "coiommu: the device's IOMMU can hold %u mappings, "
                   "and the %zu blocks that are pinned for other devices need "
                   "more: plug it in when less is pinned, or start with a "
                   "larger block", member->container->dma_max_mappings,
                   totals.pinned);
        return;
    }
    error_setg_errno(errp, -ret, "coiommu: cannot map the %" PRIu64 " bytes "
                     "that are pinned for other devices", totals.bytes);
}

bool coiommu_replay(CoiommuPins *pins, CoiommuMember *member, hwaddr start,
                    hwaddr last, Error **errp)
{
    const CoiommuPinsTarget target = {
        .map = replay_map,
        .unmap = replay_unmap,
        .opaque = member,
    };
    int ret;

    /* QEMU's own replay is of what a machine did, from a log. */
    if (replay_mode != REPLAY_MODE_NONE) {
        error_setg(errp, "coiommu does not support record/replay with "
                   "assigned devices: remove them, or rr from -icount");
        return false;
    }
    coiommu_compat_sync_begin(member->container);
    ret = coiommu_pins_replay(pins, &target, start, last);
    coiommu_compat_sync_end(member->container);
    if (ret) {
        replay_error(pins, member, ret, errp);
    }
    return !ret;
}
