/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The DMA engine of the stress device: a thread that serves the slots of the
 * ring (see stress_abi.h) by way of the IOMMU (iommu.h), and keeps a record of
 * what went wrong.
 */
#ifndef ENGINE_H
#define ENGINE_H

#include <stdatomic.h>
#include <stdint.h>

struct engine_stats {
    _Atomic uint64_t accesses;      /* DMA accesses, those refused included */
    _Atomic uint64_t violations;    /* refused: not mapped at that moment */
    _Atomic uint64_t mismatches;    /* words that were not as they should be */
    _Atomic uint64_t served;        /* slots that have gone to DONE */
};

extern struct engine_stats engine_stats;

/* Start the thread; it does nothing yet. */
void engine_init(void);

/* Serve the ring from now on. */
void engine_enable(uint64_t ring, uint32_t slots);

/* When this returns, no access is under way and none will begin. */
void engine_disable(void);

#endif
