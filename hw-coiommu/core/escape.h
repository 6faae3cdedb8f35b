/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way out of a storm of misses.
 *
 * A miss is a PIN request that has to pin something: a VM exit and a call to
 * VFIO.  Where they keep coming, pinning block by block costs more than the
 * memory that it saves.  So when the misses per second stay over a threshold
 * the *level* rises, step by step; at level n a pin of one block is widened to
 * the aligned group of (1 << n) blocks around it, and the unpin thread makes
 * fewer passes.  When the misses have been few for a while the level falls
 * again, step by step.
 *
 * Misses are counted in windows of half a second, cut at multiples of it:
 *
 *   over the threshold   from the second such window in a row on, each raises
 *                        the level by one
 *   at most half of it   every fourth such window in a row lowers it by one
 *   in between           nothing changes, and both rows end
 *
 * Pure: no clock of its own, no lock.  The time that callers tell must not go
 * backwards by more than a window is long.
 */
#ifndef COIOMMU_ESCAPE_H
#define COIOMMU_ESCAPE_H

#define COIOMMU_ESCAPE_WINDOW_MS    500
#define COIOMMU_ESCAPE_HOT_WINDOWS  2
#define COIOMMU_ESCAPE_CALM_WINDOWS 4
#define COIOMMU_ESCAPE_LEVEL_MAX    6

/* The unpin thread leaves out at most 7 of 8 passes. */
#define COIOMMU_ESCAPE_STRETCH_MAX  3

/**
 * CoiommuEscape - what is known about misses; all zeroes is "off"
 * @threshold: misses per second, 0 to do nothing
 * @window: number of the window in progress
 * @misses: in it
 * @hot: how many windows in a row were over the threshold
 * @calm: how many in a row, since the last step down, had few misses
 * @level: see above
 * @left_out: passes that have been left out since the last one
 */
typedef struct CoiommuEscape {
    uint32_t threshold;
    int64_t window;
    uint64_t misses;
    unsigned hot;
    unsigned calm;
    unsigned level;
    unsigned left_out;
} CoiommuEscape;

/* Forget everything, and take another threshold. */
void coiommu_escape_reset(CoiommuEscape *escape, uint32_t threshold);

/* There was a miss. */
void coiommu_escape_miss(CoiommuEscape *escape, int64_t now_ms);

unsigned coiommu_escape_level(CoiommuEscape *escape, int64_t now_ms);

/* For the unpin thread, once for each interval: is it time for a pass? */
bool coiommu_escape_pass_due(CoiommuEscape *escape, int64_t now_ms);

/*
 * The other blocks of the group that @block is in, from the one after it to
 * the end, then those before it.  Returns how many: (1 << level) - 1.
 */
size_t coiommu_escape_group(uint64_t block, unsigned level, uint64_t *blocks);

#endif /* COIOMMU_ESCAPE_H */
