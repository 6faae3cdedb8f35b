/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Blocks that have been unpinned lately: see recent.h.
 */
#include "osdep.h"
#include "recent.h"

/* Neighbours don't share a place. */
static size_t slot_of(uint64_t block)
{
    return block % COIOMMU_RECENT_SLOTS;
}

void coiommu_recent_note(CoiommuRecent *recent, uint64_t block, int64_t now_ms)
{
    size_t i = slot_of(block);

    recent->slot[i].key = block + 1;
    recent->slot[i].at_ms = now_ms;
}

bool coiommu_recent_take(CoiommuRecent *recent, uint64_t block, int64_t now_ms,
                         int64_t window_ms)
{
    size_t i = slot_of(block);

    if (recent->slot[i].key != block + 1) {
        return false;
    }
    recent->slot[i].key = 0;
    return now_ms - recent->slot[i].at_ms <= window_ms;
}
