/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pinning all guest RAM, and letting go of it again, by a thread: what
 * coiommu-pinall.c offers the fallback.  The caller must hold the BQL.
 */
#ifndef COIOMMU_PINALL_H
#define COIOMMU_PINALL_H

#include "qemu/thread.h"

typedef struct CoiommuState CoiommuState;

typedef enum CoiommuPinAllJob {
    COIOMMU_JOB_NONE,
    COIOMMU_JOB_PIN,
    COIOMMU_JOB_UNPIN,
} CoiommuPinAllJob;

/**
 * CoiommuPinAll - the thread that pins all guest RAM
 * @thread: valid while @running, which the BQL guards
 * @lock: guards the rest, but for @next and @hand
 * @kick: wakes the thread: a job, or @stop
 * @job: what it is at.  Changed by the thread inside the gate, by others with
 *       the gate closed
 * @complete: all of the present list of RAM is pinned; changed like @job
 * @ended: the job that has ended, until coiommu_pinall_ended() takes note of it
 * @error: how it has ended
 * @ended_bh: scheduled then; the fallback's, set before the thread is started
 * @start_ns: when the job was begun
 * @next: where pinning goes on; for the thread inside the gate, and for those
 *        who have closed it
 * @hand: where unpinning goes on, in the pin set; like @next
 */
typedef struct CoiommuPinAll {
    QemuThread thread;
    bool running;
    QemuMutex lock;
    QemuCond kick;
    CoiommuPinAllJob job;
    bool complete;
    CoiommuPinAllJob ended;
    int error;
    QEMUBH *ended_bh;
    bool stop;
    int64_t start_ns;
    hwaddr next;
    size_t hand;
} CoiommuPinAll;

void coiommu_pinall_init(CoiommuState *s);
void coiommu_pinall_destroy(CoiommuState *s);

/* Start and stop the thread.  Stopping twice does nothing. */
void coiommu_pinall_start(CoiommuState *s);
void coiommu_pinall_stop(CoiommuState *s);

/* What is the thread at, and is everything pinned? */
CoiommuPinAllJob coiommu_pinall_job(CoiommuState *s);
bool coiommu_pinall_complete(CoiommuState *s);

/* How many bytes of guest RAM there are, and how many are not pinned. */
uint64_t coiommu_pinall_bytes(CoiommuState *s);
uint64_t coiommu_pinall_missing(CoiommuState *s);

/*
 * From now on nothing is let go of (CoiommuState.pin_all), whether or not
 * anything is pinned for it already.
 */
void coiommu_pinall_keep(CoiommuState *s);

/* Have the thread pin what is missing, from where it has got to. */
void coiommu_pinall_pin(CoiommuState *s);

/* It stays where it is; nothing is let go of. */
void coiommu_pinall_pause(CoiommuState *s);

/*
 * What is idle may go again.  With @unpin the thread unpins it, or if no device
 * is attached all that is pinned.
 */
void coiommu_pinall_end(CoiommuState *s, bool unpin);

/* Unpin all at once, in this thread, for when no device is left to count. */
void coiommu_pinall_unpin_now(CoiommuState *s);

/*
 * The list of RAM has changed, and the gate is closed.  What is missing is
 * pinned here if all was pinned before, and else by the thread in its time.
 * Returns 0 or the negative errno of the first block that fails; then not all
 * is pinned any more.
 */
int coiommu_pinall_ram_changed(CoiommuState *s);

/*
 * Once after each job that has come to its end: returns which, and in @error
 * how it went.  COIOMMU_JOB_NONE if none has since.
 */
CoiommuPinAllJob coiommu_pinall_ended(CoiommuState *s, int *error);

#endif /* COIOMMU_PINALL_H */
