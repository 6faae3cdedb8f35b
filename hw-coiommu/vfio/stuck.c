/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the host has refused to unmap.
 *
 * Such bytes stay in the pin set as *stuck*: they count as pinned, for they may
 * be, and against max-pinned.  They are unmapped again from time to time, by a
 * timer, after a pause that grows while that is refused, and before anything is
 * mapped in that block (core/pins.c), so that the guest can pin it when the
 * host has come round.  They need no table and no policy: DISABLE, a reset or
 * an unplug changes nothing about them.
 *
 * The record of containers knows where they are; the pin set is kept in
 * agreement with it.
 */
#include "qemu/osdep.h"
#include "hw/coiommu/trace.h"
#include "qemu/timer.h"
#include "stuck.h"

/* The first and the longest pause, in ms. */
#define STUCK_WAIT_MIN  100
#define STUCK_WAIT_MAX  10000

/* How many blocks are tried at most before others get the BQL. */
#define STUCK_BATCH     64

/**
 * CoiommuStuck - when to unmap again
 * @vfio, @pins: the owner's
 * @timer: made by _start()
 * @wait: the pause, in ms; a hint for threads without the BQL, atomic
 * @hand: where the next round goes on; BQL
 */
struct CoiommuStuck {
    CoiommuVfio *vfio;
    CoiommuPins *pins;
    QEMUTimer *timer;
    unsigned wait;
    size_t hand;
};

void coiommu_stuck_arm(CoiommuStuck *stuck)
{
    if (!timer_pending(stuck->timer)) {
        timer_mod(stuck->timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                  qatomic_read(&stuck->wait));
    }
}

/* Under the BQL.  Goes on until nothing is stuck. */
static void stuck_timer(void *opaque)
{
    CoiommuStuck *stuck = opaque;
    CoiommuPinset *set = &stuck->pins->set;
    uint64_t before = coiommu_pinset_totals(set).stuck, after;
    unsigned wait = STUCK_WAIT_MIN;

    coiommu_vfio_refresh(stuck->vfio);
    coiommu_pins_retry_stuck(stuck->pins, &stuck->hand, STUCK_BATCH);
    after = coiommu_pinset_totals(set).stuck;
    trace_coiommu_stuck_retry(before, after);
    if (after >= before) {
        wait = MIN(stuck->wait * 2, STUCK_WAIT_MAX);
    }
    qatomic_set(&stuck->wait, wait);
    if (after) {
        coiommu_stuck_arm(stuck);
    }
}

void coiommu_stuck_start(CoiommuStuck *stuck)
{
    stuck->timer = timer_new_ms(QEMU_CLOCK_REALTIME, stuck_timer, stuck);
}

void coiommu_stuck_stop(CoiommuStuck *stuck)
{
    timer_free(stuck->timer);
    stuck->timer = NULL;
}

CoiommuStuck *coiommu_stuck_new(CoiommuVfio *vfio, CoiommuPins *pins)
{
    CoiommuStuck *stuck = g_new0(CoiommuStuck, 1);

    stuck->vfio = vfio;
    stuck->pins = pins;
    stuck->wait = STUCK_WAIT_MIN;
    return stuck;
}

void coiommu_stuck_free(CoiommuStuck *stuck)
{
    g_free(stuck);
}
