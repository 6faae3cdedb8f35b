/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pinning ahead, and escape: what the other files call.  A part of coiommu.h.
 */
#ifndef COIOMMU_AHEAD_H
#define COIOMMU_AHEAD_H

void coiommu_ahead_init(CoiommuState *s);
void coiommu_ahead_destroy(CoiommuState *s);

/* Start and stop the thread.  BQL.  Stopping twice does nothing. */
void coiommu_ahead_start(CoiommuState *s);
void coiommu_ahead_stop(CoiommuState *s);

/* Forget what was seen: it was about pins that are void.  BQL, gate closed. */
void coiommu_ahead_reset(CoiommuState *s);

/* The settings; @threshold is in misses per second, 0 is off for both. */
void coiommu_ahead_get(CoiommuState *s, uint64_t *max_bytes,
                       uint32_t *threshold);
void coiommu_ahead_set_max_bytes(CoiommuState *s, uint64_t max_bytes);
void coiommu_ahead_set_threshold(CoiommuState *s, uint32_t threshold);

/* The level of escape. */
unsigned coiommu_ahead_level(CoiommuState *s);

/* Once for each interval of the unpin thread: is it time for a pass? */
bool coiommu_ahead_pass_due(CoiommuState *s);

/*
 * Notes of what has happened.  They can be taken from anywhere: no more than
 * mutexes are needed for them.
 *
 *   miss      a request has had to pin something
 *   pinned    this block has been pinned for somebody who has asked for it
 *   used      it is in use: if it was a guess, it was a right one
 *   settled   it holds nothing but mappings that stay
 *   unpinned  it has been let go by this pass, or 0
 *   unused    it has been unpinned, and if it still was a guess, a wrong one
 *   no_room   a pin has not found room: no guesses for a while
 */
void coiommu_ahead_miss(CoiommuState *s);
void coiommu_ahead_pinned(CoiommuState *s, uint64_t block);
void coiommu_ahead_used(CoiommuState *s, uint64_t block);
void coiommu_ahead_settled(CoiommuState *s, uint64_t block);
void coiommu_ahead_unpinned(CoiommuState *s, uint64_t block, uint64_t pass);
void coiommu_ahead_unused(CoiommuState *s, uint64_t block, CoiommuGuess guess);
void coiommu_ahead_no_room(CoiommuState *s);

#endif /* COIOMMU_AHEAD_H */
