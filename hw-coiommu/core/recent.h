/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which blocks have been unpinned lately, to count those that come back.
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
 * @slot.at_ms: when it was unpinned
 */
typedef struct CoiommuRecent {
    struct {
        uint64_t key;
        int64_t at_ms;
    } slot[COIOMMU_RECENT_SLOTS];
} CoiommuRecent;

void coiommu_recent_note(CoiommuRecent *recent, uint64_t block, int64_t now_ms);

/*
 * Was the block noted at most @window_ms ago?  It is forgotten, so each note
 * is answered once.
 */
bool coiommu_recent_take(CoiommuRecent *recent, uint64_t block, int64_t now_ms,
                         int64_t window_ms);

#endif /* COIOMMU_RECENT_H */
