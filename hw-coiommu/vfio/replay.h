/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bringing a container that arrives up to date.
 */
#ifndef COIOMMU_REPLAY_H
#define COIOMMU_REPLAY_H

#include "containers.h"
#include "hw/coiommu/core/pins.h"

/*
 * Map what is pinned and lies in [start, last] into a new container, or say why
 * it can't be had; then nothing of it stays mapped in it.  BQL, gate closed.
 */
bool coiommu_replay(CoiommuPins *pins, CoiommuMember *member, hwaddr start,
                    hwaddr last, Error **errp);

#endif /* COIOMMU_REPLAY_H */
