/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pinning all guest RAM, and letting go of it again, by a thread.  The caller
 * must hold the BQL.
 */
#ifndef COIOMMU_PINALL_H
#define COIOMMU_PINALL_H

#include "hw/coiommu/core/pins.h"

typedef struct CoiommuPinAll CoiommuPinAll;

typedef enum CoiommuPinAllJob {
    COIOMMU_JOB_NONE,
    COIOMMU_JOB_PIN,
    COIOMMU_JOB_UNPIN,
} CoiommuPinAllJob;

/* @pins must outlive it. */
CoiommuPinAll *coiommu_pinall_new(CoiommuPins *pins);
void coiommu_pinall_free(CoiommuPinAll *all);

/* Start and stop the thread.  Stopping twice does nothing. */
void coiommu_pinall_start(CoiommuPinAll *all);
void coiommu_pinall_stop(CoiommuPinAll *all);

/*
 * Have @ended scheduled when a job has come to its end.  Set before the thread
 * is started.
 */
void coiommu_pinall_watch(CoiommuPinAll *all, QEMUBH *ended);

/* What is the thread at, and is everything pinned? */
CoiommuPinAllJob coiommu_pinall_job(CoiommuPinAll *all);
bool coiommu_pinall_complete(CoiommuPinAll *all);

/* How many bytes of guest RAM there are, and how many are not pinned. */
uint64_t coiommu_pinall_bytes(CoiommuPinAll *all);
uint64_t coiommu_pinall_missing(CoiommuPinAll *all);

/*
 * From now on nothing is let go of (CoiommuPins.keep), whether or not
 * anything is pinned for it already.
 */
void coiommu_pinall_keep(CoiommuPinAll *all);

/* Have the thread pin what is missing, from where it has got to. */
void coiommu_pinall_pin(CoiommuPinAll *all);

/* It stays where it is; nothing is let go of. */
void coiommu_pinall_pause(CoiommuPinAll *all);

/*
 * What is idle may go again.  With @unpin the thread unpins it, or if no device
 * is attached all that is pinned.
 */
void coiommu_pinall_end(CoiommuPinAll *all, bool unpin);

/* Unpin all at once, in this thread, for when no device is left to count. */
void coiommu_pinall_unpin_now(CoiommuPinAll *all);

/*
 * The list of RAM has changed, and the gate is closed.  What is missing is
 * pinned here if all was pinned before, and else by the thread in its time.
 * Returns 0 or the negative errno of the first block that fails; then not all
 * is pinned any more.
 */
int coiommu_pinall_ram_changed(CoiommuPinAll *all);

/*
 * Once after each job that has come to its end: returns which, in @error how it
 * went, and in @ns how long it has taken.  COIOMMU_JOB_NONE if none has since.
 */
CoiommuPinAllJob coiommu_pinall_ended(CoiommuPinAll *all, int *error,
                                      int64_t *ns);

#endif /* COIOMMU_PINALL_H */
