/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pinning all guest RAM, and letting go of it again.
 *
 * That may be hundreds of gigabytes, and take minutes.  So a thread of its own
 * does it, block by block, inside the gate and without the BQL: QEMU goes on,
 * requests of attached devices are served meanwhile, and a thread that closes
 * the gate waits for one block.  While the gate is closed the thread sleeps.
 *
 * What is to be is kept apart from what is:
 *
 *   CoiommuPins.keep        wanted: nothing that is pinned is let go of.  Set
 *                           before the first block is pinned, so that what is
 *                           pinned stays pinned
 *   @complete               so: all of the present list of RAM is pinned
 *   @job                    what is being done about the difference
 *
 * All three change with the gate closed, or, when the thread has got to the
 * end, inside the gate by the thread.  So a block is pinned wholly under one
 * list of RAM, one set of containers and one job, and a thread with the BQL
 * that has seen @complete can rely on it until it lets go of the BQL.
 *
 * A job that is paused, or has failed, leaves what it has pinned.  Pinning goes
 * on at @next, since nothing below it is let go of; when the list of RAM
 * changes it begins anew, and passes over what is pinned.
 */
#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/rcu.h"
#include "hw/coiommu/trace.h"
#include "pinall.h"

/* How long the thread sleeps when it finds the gate closed, in ms. */
#define GATE_WAIT_MS    1

/**
 * CoiommuPinAll - the thread that pins all guest RAM
 * @pins: the owner's
 * @thread: valid while @running, which the BQL guards
 * @lock: guards the rest, but for @next and @hand
 * @kick: wakes the thread: a job, or @stop
 * @job: what it is at.  Changed by the thread inside the gate, by others with
 *       the gate closed
 * @complete: all of the present list of RAM is pinned; changed like @job
 * @ended: the job that has ended, until coiommu_pinall_ended() takes note of it
 * @error: how it has ended
 * @ended_bh: scheduled then; set before the thread is started
 * @start_ns: when the job was begun
 * @ended_ns: how long the last one has taken
 * @next: where pinning goes on; for the thread inside the gate, and for a
 *        writer that has closed it
 * @hand: where unpinning goes on, in the pin set; like @next
 */
struct CoiommuPinAll {
    CoiommuPins *pins;
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
    int64_t ended_ns;
    uint64_t next;
    size_t hand;
};

/* ---- The thread ---- */

/* The thread's job has come to its end.  Inside the gate. */
static void job_end(CoiommuPinAll *all, CoiommuPinAllJob job, int error)
{
    WITH_QEMU_LOCK_GUARD(&all->lock) {
        all->complete = job == COIOMMU_JOB_PIN && !error;
        all->job = COIOMMU_JOB_NONE;
        all->error = error;
        all->ended = job;
        all->ended_ns = get_clock() - all->start_ns;
    }
    trace_coiommu_pinall_job_end(job, get_clock() - all->start_ns, error);
    qemu_bh_schedule(all->ended_bh);
}

/* Pin the next block that has RAM in it. */
static void pin_step(CoiommuPinAll *all)
{
    uint64_t gpa = all->next;
    CoiommuExtent piece;
    uint64_t block;
    int ret;

    if (!coiommu_ram_next(all->pins->ram->extents, &gpa, UINT64_MAX, &piece)) {
        job_end(all, COIOMMU_JOB_PIN, 0);
        return;
    }
    block = coiommu_block_at(all->pins->geometry, piece.gpa);
    ret = coiommu_pins_fill(all->pins, block);
    if (ret) {
        job_end(all, COIOMMU_JOB_PIN, ret);
        return;
    }
    all->next = coiommu_block_end(all->pins->geometry, block);
}

static void unpin_step(CoiommuPinAll *all)
{
    coiommu_pins_unpin_next(all->pins, &all->hand);
    if (!all->hand) {
        job_end(all, COIOMMU_JOB_UNPIN, 0);
    }
}

/* Do a block's part of the job.  Returns false if the gate is closed. */
static bool step(CoiommuPinAll *all)
{
    if (!coiommu_gate_enter(all->pins->gate)) {
        return false;
    }
    /* Inside the gate the job stays what it is. */
    switch (coiommu_pinall_job(all)) {
    case COIOMMU_JOB_PIN:
        pin_step(all);
        break;
    case COIOMMU_JOB_UNPIN:
        unpin_step(all);
        break;
    default:
        break;
    }
    coiommu_gate_leave(all->pins->gate);
    return true;
}

static void *coiommu_pinall_thread(void *opaque)
{
    CoiommuPinAll *all = opaque;
    bool inside;

    /* Marking guest memory dirty takes the RCU read lock. */
    rcu_register_thread();
    qemu_mutex_lock(&all->lock);
    while (!all->stop) {
        if (all->job == COIOMMU_JOB_NONE) {
            qemu_cond_wait(&all->kick, &all->lock);
            continue;
        }
        qemu_mutex_unlock(&all->lock);
        inside = step(all);
        qemu_mutex_lock(&all->lock);
        if (!inside && !all->stop) {
            qemu_cond_timedwait(&all->kick, &all->lock, GATE_WAIT_MS);
        }
    }
    qemu_mutex_unlock(&all->lock);
    rcu_unregister_thread();
    return NULL;
}

/* ---- What it is to do: under the BQL ---- */

CoiommuPinAllJob coiommu_pinall_job(CoiommuPinAll *all)
{
    QEMU_LOCK_GUARD(&all->lock);
    return all->job;
}

bool coiommu_pinall_complete(CoiommuPinAll *all)
{
    QEMU_LOCK_GUARD(&all->lock);
    return all->complete;
}

uint64_t coiommu_pinall_bytes(CoiommuPinAll *all)
{
    return coiommu_ram_bytes(all->pins->ram->extents, 0, UINT64_MAX);
}

uint64_t coiommu_pinall_missing(CoiommuPinAll *all)
{
    uint64_t bytes = coiommu_pinall_bytes(all);
    uint64_t pinned = coiommu_pinset_totals(&all->pins->set).bytes;

    return bytes > pinned ? bytes - pinned : 0;
}

CoiommuPinAllJob coiommu_pinall_ended(CoiommuPinAll *all, int *error,
                                      int64_t *ns)
{
    CoiommuPinAllJob job;

    QEMU_LOCK_GUARD(&all->lock);
    job = all->ended;
    all->ended = COIOMMU_JOB_NONE;
    *error = all->error;
    *ns = all->ended_ns;
    return job;
}

/* Give the thread another job; the gate is closed. */
static void job_begin(CoiommuPinAll *all, CoiommuPinAllJob job)
{
    QEMU_LOCK_GUARD(&all->lock);
    all->job = job;
    all->complete = false;
    all->ended = COIOMMU_JOB_NONE;
    all->start_ns = get_clock();
    qemu_cond_signal(&all->kick);
}

void coiommu_pinall_keep(CoiommuPinAll *all)
{
    if (all->pins->keep) {
        return;
    }
    coiommu_gate_close(all->pins->gate);
    all->pins->keep = true;
    all->next = 0;
    job_begin(all, COIOMMU_JOB_NONE);
    coiommu_gate_open(all->pins->gate);
}

void coiommu_pinall_pin(CoiommuPinAll *all)
{
    coiommu_pinall_keep(all);
    coiommu_gate_close(all->pins->gate);
    job_begin(all, COIOMMU_JOB_PIN);
    coiommu_gate_open(all->pins->gate);
}

void coiommu_pinall_pause(CoiommuPinAll *all)
{
    coiommu_gate_close(all->pins->gate);
    if (coiommu_pinall_job(all) == COIOMMU_JOB_PIN) {
        job_begin(all, COIOMMU_JOB_NONE);
    }
    coiommu_gate_open(all->pins->gate);
}

void coiommu_pinall_end(CoiommuPinAll *all, bool unpin)
{
    coiommu_gate_close(all->pins->gate);
    all->pins->keep = false;
    all->hand = coiommu_pinset_end(&all->pins->set);
    job_begin(all, unpin ? COIOMMU_JOB_UNPIN : COIOMMU_JOB_NONE);
    coiommu_gate_open(all->pins->gate);
}

void coiommu_pinall_unpin_now(CoiommuPinAll *all)
{
    coiommu_gate_close(all->pins->gate);
    all->pins->keep = false;
    job_begin(all, COIOMMU_JOB_NONE);
    coiommu_pins_unpin_all(all->pins);
    coiommu_gate_open(all->pins->gate);
}

int coiommu_pinall_ram_changed(CoiommuPinAll *all)
{
    CoiommuExtent piece;
    uint64_t gpa = 0;
    int ret = 0;

    all->next = 0;
    if (!coiommu_pinall_complete(all)) {
        return 0;
    }
    while (!ret && coiommu_ram_next(all->pins->ram->extents, &gpa, UINT64_MAX,
                                    &piece)) {
        uint64_t block = coiommu_block_at(all->pins->geometry, piece.gpa);

        ret = coiommu_pins_fill(all->pins, block);
        gpa = coiommu_block_end(all->pins->geometry, block);
    }
    if (ret) {
        job_begin(all, COIOMMU_JOB_NONE);
    }
    return ret;
}

/* ---- Life ---- */

void coiommu_pinall_start(CoiommuPinAll *all)
{
    all->stop = false;
    qemu_thread_create(&all->thread, "coiommu-pinall", coiommu_pinall_thread,
                       all, QEMU_THREAD_JOINABLE);
    all->running = true;
}

void coiommu_pinall_stop(CoiommuPinAll *all)
{
    if (!all->running) {
        return;
    }
    WITH_QEMU_LOCK_GUARD(&all->lock) {
        all->stop = true;
        qemu_cond_signal(&all->kick);
    }
    qemu_thread_join(&all->thread);
    all->running = false;
}

void coiommu_pinall_watch(CoiommuPinAll *all, QEMUBH *ended)
{
    all->ended_bh = ended;
}

CoiommuPinAll *coiommu_pinall_new(CoiommuPins *pins)
{
    CoiommuPinAll *all = g_new0(CoiommuPinAll, 1);

    all->pins = pins;
    qemu_mutex_init(&all->lock);
    qemu_cond_init(&all->kick);
    return all;
}

void coiommu_pinall_free(CoiommuPinAll *all)
{
    qemu_cond_destroy(&all->kick);
    qemu_mutex_destroy(&all->lock);
    g_free(all);
}
