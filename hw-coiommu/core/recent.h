/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which blocks were lately in some way, and when: those that have been
 * unpinned, to know them when they come back, and which others went in the
 * same pass.
 *
 * A small table of fixed size, each block having one place in it that it may
 * lose to another: the answer may be no where it should be yes, never the
 * other way round.
 */
#ifndef COIOMMU_RECENT_H
#define COIOMMU_RECENT_H

#define COIOMMU_RECENT_SLOTS 1024

/**
 * CoiommuRecent - the table; all zeroes is empty
 * @slot.key: block number + 1, 0 where there is none
 * @slot.pass: in which pass; what has the same number belongs together
 * @slot.at_ms: when it was noted
 */
typedef struct CoiommuRecent {
    struct {
        uint64_t key;
        uint64_t pass;
        int64_t at_ms;
    } slot[COIOMMU_RECENT_SLOTS];
} CoiommuRecent;

void coiommu_recent_note(CoiommuRecent *recent, uint64_t block, uint64_t pass,
                         int64_t now_ms);

/* Was the block noted at most @window_ms ago? */
bool coiommu_recent_has(const CoiommuRecent *recent, uint64_t block,
                        int64_t now_ms, int64_t window_ms);

/*
 * The same, and its pass goes into @pass.  It is forgotten, so each note is
 * answered once.
 */
bool coiommu_recent_take(CoiommuRecent *recent, uint64_t block, int64_t now_ms,
                         int64_t window_ms, uint64_t *pass);

/*
 * Take up to @max of the blocks that were noted in this pass, at most
 * @window_ms ago, into @blocks: those first whose places are nearest to that
 * of the block @near.  Returns how many.
 */
size_t coiommu_recent_take_pass(CoiommuRecent *recent, uint64_t pass,
                                uint64_t near, int64_t now_ms,
                                int64_t window_ms, uint64_t *blocks,
                                size_t max);

#endif /* COIOMMU_RECENT_H */
