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

static bool is_recent(const CoiommuRecent *recent, size_t i, int64_t now_ms,
                      int64_t window_ms)
{
    return now_ms - recent->slot[i].at_ms <= window_ms;
}

void coiommu_recent_note(CoiommuRecent *recent, uint64_t block, uint64_t pass,
                         int64_t now_ms)
{
    size_t i = slot_of(block);

    recent->slot[i].key = block + 1;
    recent->slot[i].pass = pass;
    recent->slot[i].at_ms = now_ms;
}

bool coiommu_recent_has(const CoiommuRecent *recent, uint64_t block,
                        int64_t now_ms, int64_t window_ms)
{
    size_t i = slot_of(block);

    return recent->slot[i].key == block + 1 &&
           is_recent(recent, i, now_ms, window_ms);
}

bool coiommu_recent_take(CoiommuRecent *recent, uint64_t block, int64_t now_ms,
                         int64_t window_ms, uint64_t *pass)
{
    size_t i = slot_of(block);

    if (recent->slot[i].key != block + 1) {
        return false;
    }
    recent->slot[i].key = 0;
    *pass = recent->slot[i].pass;
    return is_recent(recent, i, now_ms, window_ms);
}

size_t coiommu_recent_take_pass(CoiommuRecent *recent, uint64_t pass,
                                uint64_t near, int64_t now_ms,
                                int64_t window_ms, uint64_t *blocks,
                                size_t max)
{
    size_t found = 0, step;

    /* After that of @near: the next, the one before, the next but one, ... */
    for (step = 2; step <= COIOMMU_RECENT_SLOTS && found < max; step++) {
        size_t away = step / 2;
        size_t i = slot_of(step % 2 ? near - away : near + away);

        if (recent->slot[i].key && recent->slot[i].pass == pass &&
            is_recent(recent, i, now_ms, window_ms)) {
            blocks[found++] = recent->slot[i].key - 1;
            recent->slot[i].key = 0;
        }
    }
    return found;
}
