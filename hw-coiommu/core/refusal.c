/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Refusals by the host: see refusal.h.
 */
#include "osdep.h"
#include <errno.h>
#include "refusal.h"

void coiommu_refusal_init(CoiommuRefusal *refusal)
{
    *refusal = (CoiommuRefusal) { .error = 0 };
    qemu_mutex_init(&refusal->lock);
}

void coiommu_refusal_destroy(CoiommuRefusal *refusal)
{
    qemu_mutex_destroy(&refusal->lock);
}

bool coiommu_refusal_is_lack_of_room(int error)
{
    return error == -ENOMEM || error == -ENOSPC;
}

/* With the lock held, as the next ones. */
static bool is_block_refused(const CoiommuRefusal *refusal, uint64_t block)
{
    unsigned i;

    for (i = 0; i < MIN(refusal->count, COIOMMU_REFUSAL_BLOCKS); i++) {
        if (refusal->blocks[i] == block) {
            return true;
        }
    }
    return refusal->count > COIOMMU_REFUSAL_BLOCKS;
}

static void add_block(CoiommuRefusal *refusal, uint64_t block)
{
    if (is_block_refused(refusal, block)) {
        return;
    }
    if (refusal->count < COIOMMU_REFUSAL_BLOCKS) {
        refusal->blocks[refusal->count] = block;
    }
    refusal->count++;
}

static bool concerns(const CoiommuRefusal *refusal, uint64_t block,
                     uint64_t total)
{
    return coiommu_refusal_is_lack_of_room(refusal->error) ?
           total > refusal->ceiling : is_block_refused(refusal, block);
}

int coiommu_refusal_check(CoiommuRefusal *refusal, uint64_t block,
                          uint64_t total, int64_t now_ms)
{
    int error = 0;

    qemu_mutex_lock(&refusal->lock);
    if (now_ms < refusal->until_ms && concerns(refusal, block, total)) {
        error = refusal->error;
    }
    qemu_mutex_unlock(&refusal->lock);
    return error;
}

static int64_t pause_ms(const CoiommuRefusal *refusal)
{
    unsigned free = coiommu_refusal_is_lack_of_room(refusal->error) ?
                    0 : COIOMMU_REFUSAL_FREE;
    unsigned doubled;

    if (refusal->strikes <= free) {
        return 0;
    }
    /* No shift by more than is needed for the longest pause. */
    doubled = MIN(refusal->strikes - free - 1, 16);
    return MIN((int64_t)COIOMMU_REFUSAL_PAUSE_MIN << doubled,
               COIOMMU_REFUSAL_PAUSE_MAX);
}

void coiommu_refusal_note(CoiommuRefusal *refusal, int error, uint64_t block,
                          uint64_t pinned, uint64_t bytes, int64_t now_ms)
{
    qemu_mutex_lock(&refusal->lock);
    if (now_ms - refusal->last_ms >= COIOMMU_REFUSAL_FORGET ||
        coiommu_refusal_is_lack_of_room(error) !=
        coiommu_refusal_is_lack_of_room(refusal->error)) {
        refusal->strikes = 0;
        refusal->until_ms = now_ms;
        refusal->count = 0;
    }
    refusal->error = error;
    refusal->ceiling = pinned;
    refusal->refused = pinned + bytes;
    add_block(refusal, block);
    refusal->last_ms = now_ms;
    /* Callers that had asked when the pause began are the same refusal. */
    if (now_ms >= refusal->until_ms) {
        refusal->strikes++;
        refusal->until_ms = now_ms + pause_ms(refusal);
    }
    qemu_mutex_unlock(&refusal->lock);
}

void coiommu_refusal_success(CoiommuRefusal *refusal, uint64_t total)
{
    qemu_mutex_lock(&refusal->lock);
    if (coiommu_refusal_is_lack_of_room(refusal->error) &&
        total >= refusal->refused) {
        refusal->error = 0;
        refusal->strikes = 0;
        refusal->until_ms = 0;
    }
    qemu_mutex_unlock(&refusal->lock);
}

void coiommu_refusal_reset(CoiommuRefusal *refusal)
{
    qemu_mutex_lock(&refusal->lock);
    refusal->error = 0;
    refusal->count = 0;
    refusal->strikes = 0;
    refusal->until_ms = 0;
    qemu_mutex_unlock(&refusal->lock);
}
