/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Holding the vCPU that waits for pin-all.
 */
#ifndef COIOMMU_HOLD_H
#define COIOMMU_HOLD_H

typedef struct CoiommuHold CoiommuHold;

/*
 * @waits: does something wait for pin-all?  @update: do what has become
 * possible; called by a vCPU that is held, as the main loop may wait for it.
 * BQL for these, and for the rest.
 */
CoiommuHold *coiommu_hold_new(bool (*waits)(void *opaque),
                              void (*update)(void *opaque), void *opaque);
void coiommu_hold_free(CoiommuHold *hold);

/* At realize and at exit: then vCPUs that are held go on. */
void coiommu_hold_start(CoiommuHold *hold);
void coiommu_hold_stop(CoiommuHold *hold);

/*
 * The vCPU that runs this, if it is one, goes on when nothing waits any more.
 */
void coiommu_hold_current(CoiommuHold *hold);

#endif /* COIOMMU_HOLD_H */
