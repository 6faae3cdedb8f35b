/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counters: what the device counts, for both builds of core/.
 *
 * Names and meanings are in monitor/counters.c.  Several threads add to them,
 * without a lock.
 */
#ifndef COIOMMU_STATS_H
#define COIOMMU_STATS_H

#ifdef COIOMMU_STANDALONE

typedef struct Stat64 {
    uint64_t value;
} Stat64;

static inline uint64_t stat64_get(const Stat64 *stat)
{
    return __atomic_load_n(&stat->value, __ATOMIC_RELAXED);
}

static inline void stat64_set(Stat64 *stat, uint64_t value)
{
    __atomic_store_n(&stat->value, value, __ATOMIC_RELAXED);
}

static inline void stat64_add(Stat64 *stat, uint64_t value)
{
    __atomic_fetch_add(&stat->value, value, __ATOMIC_RELAXED);
}

static inline void stat64_max(Stat64 *stat, uint64_t value)
{
    uint64_t old = stat64_get(stat);

    while (old < value &&
           !__atomic_compare_exchange_n(&stat->value, &old, value, true,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        continue;
    }
}

#else
#include "qemu/stats64.h"
#endif

/* The last bucket of the histogram has all calls from half a second on. */
#define COIOMMU_PIN_TIME_BUCKETS 20

/**
 * CoiommuStats - the counters
 */
typedef struct CoiommuStats {
    Stat64 demand_pin_requests;
    Stat64 demand_pin_blocks;
    Stat64 pin_errors;
    Stat64 pin_unasked;
    Stat64 unpin_errors;
    Stat64 unpinned_blocks;
    Stat64 lazy_unpinned_blocks;
    Stat64 unpin_passes;
    Stat64 unpin_races;
    Stat64 pass_last_ns;
    Stat64 repins;
    Stat64 mapped_bytes;
    Stat64 mapped_peak;
    Stat64 ahead_pins;
    Stat64 ahead_used;
    Stat64 ahead_unused;
    Stat64 escape_blocks;
    Stat64 reclaims;
    Stat64 reclaimed_blocks;
    Stat64 pressure_events;
    Stat64 fallback_pins;
    Stat64 fallback_pin_ns;
    Stat64 fallback_refused;
    Stat64 requests;
    Stat64 request_errors;
    Stat64 partial_requests;
    Stat64 wait_max_ns;
    Stat64 dma_faults;
    Stat64 attach_refused;
    Stat64 pin_time[COIOMMU_PIN_TIME_BUCKETS];
} CoiommuStats;

#endif /* COIOMMU_STATS_H */
