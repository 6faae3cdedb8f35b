/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is migrated, and saved in snapshots.
 *
 * A machine with a tracked device is not: endpoint/blocker.c keeps it from it.
 *
 * Without one nothing is attached, so nothing is pinned, and no entry of the
 * guest's table says PINNED.  What is left are the registers, and the place of
 * table and request pages.  These are carried, so a device that is plugged in
 * on the other side works with the table that the guest has set up here.
 *
 * What a stream says is no better than what a guest writes.  It is loaded into
 * a copy, and what ENABLE has taken over goes through the checks of ENABLE once
 * more.
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "migration/vmstate.h"
#include "registers.h"
#include "vmstate.h"

static int coiommu_pre_save(void *opaque)
{
    CoiommuState *s = opaque;

    s->saved.unit_shift = s->geometry.unit_shift;
    s->saved.block_shift = s->geometry.block_shift;
    coiommu_registers_save(s, &s->saved);
    return 0;
}

static int coiommu_post_load(void *opaque, int version_id)
{
    CoiommuState *s = opaque;
    const CoiommuSaved *saved = &s->saved;
    uint32_t status;

    if (saved->unit_shift != s->geometry.unit_shift ||
        saved->block_shift != s->geometry.block_shift) {
        error_report("coiommu: the saved machine has units of 2^%u and blocks "
                     "of 2^%u bytes, this one has 2^%u and 2^%u: start it "
                     "with the same unit and block", saved->unit_shift,
                     saved->block_shift, s->geometry.unit_shift,
                     s->geometry.block_shift);
        return -EINVAL;
    }
    status = coiommu_registers_load(s, saved);
    if (status) {
        error_report("coiommu: the saved machine's table is not valid here "
                     "(status %" PRIu32 "): start this one with the same "
                     "memory", status);
        return -EINVAL;
    }
    return 0;
}

const VMStateDescription coiommu_vmstate = {
    .name = "coiommu",
    .version_id = 1,
    .minimum_version_id = 1,
    .pre_save = coiommu_pre_save,
    .post_load = coiommu_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_PCI_DEVICE(parent_obj, CoiommuState),
        VMSTATE_UINT8(saved.unit_shift, CoiommuState),
        VMSTATE_UINT8(saved.block_shift, CoiommuState),
        VMSTATE_BOOL(saved.enabled, CoiommuState),
        VMSTATE_UINT32(saved.error, CoiommuState),
        VMSTATE_UINT64_ARRAY(saved.rw, CoiommuState, COIOMMU_RW_COUNT),
        VMSTATE_UINT64_ARRAY(saved.taken, CoiommuState, COIOMMU_RW_COUNT),
        VMSTATE_END_OF_LIST()
    },
};
