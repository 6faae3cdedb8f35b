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
 *   CoiommuState.pin_all    wanted: nothing that is pinned is let go of.  Set
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
#include "coiommu.h"
#include "trace.h"

/* How long the thread sleeps when it finds the gate closed, in ms. */
#define GATE_WAIT_MS    1

/* ---- The thread ---- */

/* The thread's job has come to its end.  Inside the gate. */
static void job_end(CoiommuState *s, CoiommuPinAllJob job, int error)
{
    CoiommuPinAll *all = &s->all;

    WITH_QEMU_LOCK_GUARD(&all->lock) {
        all->complete = job == COIOMMU_JOB_PIN && !error;
        all->job = COIOMMU_JOB_NONE;
        all->error = error;
        all->ended = job;
    }
    trace_coiommu_pinall_job_end(job, get_clock() - all->start_ns, error);
    qemu_bh_schedule(all->ended_bh);
}

/* Pin the next block that has RAM in it. */
static void pin_step(CoiommuState *s)
{
    hwaddr gpa = s->all.next;
    CoiommuExtent piece;
    uint64_t block;
    int ret;

    if (!coiommu_ram_next(s->ram.extents, &gpa, UINT64_MAX, &piece)) {
        job_end(s, COIOMMU_JOB_PIN, 0);
        return;
    }
    block = piece.gpa >> s->block_shift;
    ret = coiommu_pin_fill(s, block);
    if (ret) {
        job_end(s, COIOMMU_JOB_PIN, ret);
        return;
    }
    s->all.next = (block + 1) << s->block_shift;
}

static void unpin_step(CoiommuState *s)
{
    uint64_t block;

    if (coiommu_pinset_walk(&s->pins, &s->all.hand, NULL, NULL, &block, 1)) {
        coiommu_unpin_left(s, block);
    }
    if (!s->all.hand) {
        job_end(s, COIOMMU_JOB_UNPIN, 0);
    }
}

/* Do a block's part of the job.  Returns false if the gate is closed. */
static bool step(CoiommuState *s)
{
    if (!coiommu_gate_enter(&s->gate)) {
        return false;
    }
    /* Inside the gate the job stays what it is. */
    switch (coiommu_pinall_job(s)) {
    case COIOMMU_JOB_PIN:
        pin_step(s);
        break;
    case COIOMMU_JOB_UNPIN:
        unpin_step(s);
        break;
    default:
        break;
    }
    coiommu_gate_leave(&s->gate);
    return true;
}

static void *coiommu_pinall_thread(void *opaque)
{
    CoiommuState *s = opaque;
    CoiommuPinAll *all = &s->all;
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
        inside = step(s);
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

CoiommuPinAllJob coiommu_pinall_job(CoiommuState *s)
{
    QEMU_LOCK_GUARD(&s->all.lock);
    return s->all.job;
}

bool coiommu_pinall_complete(CoiommuState *s)
{
    QEMU_LOCK_GUARD(&s->all.lock);
    return s->all.complete;
}

uint64_t coiommu_pinall_bytes(CoiommuState *s)
{
    uint64_t bytes = 0;
    guint i;

    for (i = 0; i < s->ram.extents->len; i++) {
        bytes += g_array_index(s->ram.extents, CoiommuExtent, i).size;
    }
    return bytes;
}

uint64_t coiommu_pinall_missing(CoiommuState *s)
{
    uint64_t all = coiommu_pinall_bytes(s);
    uint64_t pinned = coiommu_pinset_totals(&s->pins).bytes;

    return all > pinned ? all - pinned : 0;
}

CoiommuPinAllJob coiommu_pinall_ended(CoiommuState *s, int *error)
{
    CoiommuPinAll *all = &s->all;
    CoiommuPinAllJob job;

    QEMU_LOCK_GUARD(&all->lock);
    job = all->ended;
    all->ended = COIOMMU_JOB_NONE;
    *error = all->error;
    return job;
}

/* Give the thread another job; the gate is closed. */
static void job_begin(CoiommuState *s, CoiommuPinAllJob job)
{
    CoiommuPinAll *all = &s->all;

    QEMU_LOCK_GUARD(&all->lock);
    all->job = job;
    all->complete = false;
    all->ended = COIOMMU_JOB_NONE;
    all->start_ns = get_clock();
    qemu_cond_signal(&all->kick);
}

void coiommu_pinall_keep(CoiommuState *s)
{
    if (s->pin_all) {
        return;
    }
    coiommu_gate_close(&s->gate);
    s->pin_all = true;
    s->all.next = 0;
    job_begin(s, COIOMMU_JOB_NONE);
    coiommu_gate_open(&s->gate);
}

void coiommu_pinall_pin(CoiommuState *s)
{
    coiommu_pinall_keep(s);
    coiommu_gate_close(&s->gate);
    job_begin(s, COIOMMU_JOB_PIN);
    coiommu_gate_open(&s->gate);
}

void coiommu_pinall_pause(CoiommuState *s)
{
    coiommu_gate_close(&s->gate);
    if (coiommu_pinall_job(s) == COIOMMU_JOB_PIN) {
        job_begin(s, COIOMMU_JOB_NONE);
    }
    coiommu_gate_open(&s->gate);
}

void coiommu_pinall_end(CoiommuState *s, bool unpin)
{
    coiommu_gate_close(&s->gate);
    s->pin_all = false;
    s->all.hand = coiommu_pinset_end(&s->pins);
    job_begin(s, unpin ? COIOMMU_JOB_UNPIN : COIOMMU_JOB_NONE);
    coiommu_gate_open(&s->gate);
}

void coiommu_pinall_unpin_now(CoiommuState *s)
{
    coiommu_gate_close(&s->gate);
    s->pin_all = false;
    job_begin(s, COIOMMU_JOB_NONE);
    coiommu_unpin_all(s);
    coiommu_gate_open(&s->gate);
}

int coiommu_pinall_ram_changed(CoiommuState *s)
{
    CoiommuExtent piece;
    hwaddr gpa = 0;
    int ret = 0;

    s->all.next = 0;
    if (!coiommu_pinall_complete(s)) {
        return 0;
    }
    while (!ret && coiommu_ram_next(s->ram.extents, &gpa, UINT64_MAX,
                                    &piece)) {
        uint64_t block = piece.gpa >> s->block_shift;

        ret = coiommu_pin_fill(s, block);
        gpa = (block + 1) << s->block_shift;
    }
    if (ret) {
        job_begin(s, COIOMMU_JOB_NONE);
    }
    return ret;
}

/* ---- Life ---- */

void coiommu_pinall_start(CoiommuState *s)
{
    s->all.stop = false;
    qemu_thread_create(&s->all.thread, "coiommu-pinall", coiommu_pinall_thread,
                       s, QEMU_THREAD_JOINABLE);
    s->all.running = true;
}

void coiommu_pinall_stop(CoiommuState *s)
{
    if (!s->all.running) {
        return;
    }
    WITH_QEMU_LOCK_GUARD(&s->all.lock) {
        s->all.stop = true;
        qemu_cond_signal(&s->all.kick);
    }
    qemu_thread_join(&s->all.thread);
    s->all.running = false;
}

void coiommu_pinall_init(CoiommuState *s)
{
    qemu_mutex_init(&s->all.lock);
    qemu_cond_init(&s->all.kick);
}

void coiommu_pinall_destroy(CoiommuState *s)
{
    qemu_cond_destroy(&s->all.kick);
    qemu_mutex_destroy(&s->all.lock);
}
