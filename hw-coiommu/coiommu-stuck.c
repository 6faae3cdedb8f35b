/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the host has refused to unmap.
 *
 * Such bytes stay in the pin set as *stuck*: they count as pinned, for they may
 * be, and against max-pinned.  They are unmapped again from time to time, by a
 * timer, after a pause that grows while that is refused, and before anything is
 * mapped in that block, so that the guest can pin it when the host has come
 * round.  They need no table and no policy: DISABLE, a reset or an unplug
 * changes nothing about them.
 *
 * The record of containers knows where they are.  Here the pin set is kept in
 * agreement with it.
 */
#include "qemu/osdep.h"
#include "coiommu.h"
#include "qemu/timer.h"
#include "trace.h"

/* The first and the longest pause, in ms. */
#define STUCK_WAIT_MIN  100
#define STUCK_WAIT_MAX  10000

/* How many blocks are tried at most before others get the BQL. */
#define STUCK_BATCH     64

/* From any thread: @stuck_wait is a hint here. */
static void stuck_arm(CoiommuState *s)
{
    if (!timer_pending(s->stuck_timer)) {
        timer_mod(s->stuck_timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                  qatomic_read(&s->stuck_wait));
    }
}

uint64_t coiommu_stuck_bytes(CoiommuState *s, uint64_t block)
{
    uint64_t bytes = coiommu_containers_unknown(s, block);

    if (bytes) {
        trace_coiommu_stuck(block, bytes);
        stuck_arm(s);
    }
    return bytes;
}

void coiommu_stuck_update(CoiommuState *s, uint64_t block)
{
    coiommu_pinset_set_stuck(&s->pins, block, coiommu_stuck_bytes(s, block));
}

bool coiommu_stuck_clear(CoiommuState *s, uint64_t block)
{
    if (!coiommu_containers_unknown(s, block)) {
        return false;
    }
    coiommu_containers_clear(s, block);
    coiommu_stuck_update(s, block);
    return true;
}

void coiommu_stuck_refresh(CoiommuState *s)
{
    size_t i = coiommu_pinset_end(&s->pins);
    CoiommuPin pin;

    while (i-- && coiommu_pinset_get(&s->pins, i, &pin)) {
        if (pin.stuck && coiommu_pinset_try_stuck(&s->pins, pin.block)) {
            coiommu_stuck_update(s, pin.block);
            coiommu_pinset_leave(&s->pins, pin.block);
        }
    }
}

/* Some blocks, in turns. */
static void stuck_try(CoiommuState *s)
{
    unsigned tried = 0;
    CoiommuPin pin;

    s->stuck_hand = s->stuck_hand ?: coiommu_pinset_end(&s->pins);
    while (s->stuck_hand && tried < STUCK_BATCH) {
        if (!coiommu_pinset_get(&s->pins, --s->stuck_hand, &pin) ||
            !pin.stuck || !coiommu_pinset_try_stuck(&s->pins, pin.block)) {
            continue;
        }
        coiommu_stuck_clear(s, pin.block);
        coiommu_pinset_leave(&s->pins, pin.block);
        tried++;
    }
}

/* Under the BQL.  Goes on until nothing is stuck. */
static void stuck_timer(void *opaque)
{
    CoiommuState *s = opaque;
    uint64_t before = coiommu_pinset_totals(&s->pins).stuck, after;
    unsigned wait = STUCK_WAIT_MIN;

    coiommu_vfio_settle(s);
    stuck_try(s);
    after = coiommu_pinset_totals(&s->pins).stuck;
    trace_coiommu_stuck_retry(before, after);
    if (after >= before) {
        wait = MIN(s->stuck_wait * 2, STUCK_WAIT_MAX);
    }
    qatomic_set(&s->stuck_wait, wait);
    if (after) {
        stuck_arm(s);
    }
}

void coiommu_stuck_init(CoiommuState *s)
{
    s->stuck_wait = STUCK_WAIT_MIN;
    s->stuck_timer = timer_new_ms(QEMU_CLOCK_REALTIME, stuck_timer, s);
}

void coiommu_stuck_exit(CoiommuState *s)
{
    timer_free(s->stuck_timer);
}
