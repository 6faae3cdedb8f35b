/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A doorbell that is being served, and its request page in guest memory.
 *
 * The caller must hold the BQL or be inside the gate.  What is decided under
 * one lock and done under another must find the generations in which it was
 * decided: @table and @pins.
 */
#ifndef COIOMMU_RING_H
#define COIOMMU_RING_H

#include "hw/coiommu/coiommu.h"
#include "hw/coiommu/core/request-decode.h"

/**
 * CoiommuRing - a doorbell that is being served
 * @slot: which it was
 * @gpa: its request page
 * @table: CoiommuTable.generation when that was looked up
 * @pins: CoiommuPins.generation then
 * @partial: the driver rings again for what is left
 * @until: when to leave that to it, by get_clock()
 * @req: what the page said
 * @done: PIN: ranges that are wholly pinned
 * @blocks: PIN: blocks that have been pinned for it
 * @progress: PIN: a block has been pinned, or let go to make room for one
 */
typedef struct CoiommuRing {
    uint32_t slot;
    hwaddr gpa;
    unsigned table;
    unsigned pins;
    bool partial;
    int64_t until;
    CoiommuRequest req;
    uint32_t done;
    uint64_t blocks;
    bool progress;
} CoiommuRing;

/*
 * Find the request page of a slot.  Returns a COIOMMU_ST_*, and in @page where
 * it is in this process, until the BQL is dropped or the gate left.
 */
uint32_t coiommu_ring_find(CoiommuState *s, uint32_t slot, CoiommuRing *ring,
                           void **page);

/*
 * Is the table given up that the request was rung for, or its page no longer
 * there?  Then no driver waits for an answer in the page.
 */
bool coiommu_ring_is_stale(CoiommuState *s, const CoiommuRing *ring);

/* Tell the status, in the request page if it is still RAM. */
void coiommu_ring_answer(CoiommuState *s, const CoiommuRing *ring,
                         uint32_t status);

#endif /* COIOMMU_RING_H */
