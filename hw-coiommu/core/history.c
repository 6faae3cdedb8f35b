/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Notes of what happens to blocks: see history.h.
 */
#include "osdep.h"
#include "history.h"
#include "trace.h"

/* For how long nothing is pinned ahead after a lack of room. */
#define HOLD_MS                     1000

/* Twice what a disk's queue of 128 requests of 128 KiB needs. */
#define MAX_BYTES_DEFAULT           (32 * MiB)

/*
 * An estimate: a miss takes some 60 us, of which most is pinning 2 MiB of 4 KiB
 * pages.  So these are 3 % of a CPU.
 */
#define ESCAPE_THRESHOLD_DEFAULT    500

/* With the lock held. */
static unsigned escape_level(CoiommuHistory *history, int64_t now)
{
    unsigned before = history->escape.level;
    unsigned level = coiommu_escape_level(&history->escape, now);

    if (level != before) {
        trace_coiommu_escape(before, level);
    }
    return level;
}

/* ---- Notes ---- */

void coiommu_history_miss(CoiommuHistory *history)
{
    int64_t now = coiommu_now_ms();

    qemu_mutex_lock(&history->lock);
    escape_level(history, now);
    coiommu_escape_miss(&history->escape, now);
    qemu_mutex_unlock(&history->lock);
}

void coiommu_history_pinned(CoiommuHistory *history, uint64_t block)
{
    int64_t now = coiommu_now_ms();
    bool returned;

    qemu_mutex_lock(&history->lock);
    returned = coiommu_predict_pinned(&history->predictor, block,
                                      escape_level(history, now), now);
    if (history->predictor.hints) {
        qemu_cond_signal(&history->kick);
    }
    qemu_mutex_unlock(&history->lock);
    if (returned) {
        stat64_add(&history->stats->repins, 1);
    }
}

void coiommu_history_used(CoiommuHistory *history, CoiommuGuess guess)
{
    if (guess == COIOMMU_GUESS_AHEAD) {
        stat64_add(&history->stats->ahead_used, 1);
    }
}

void coiommu_history_fixed(CoiommuHistory *history, uint64_t block)
{
    qemu_mutex_lock(&history->lock);
    if (history->max_bytes) {
        coiommu_predict_fixed(&history->predictor, block);
        qemu_cond_signal(&history->kick);
    }
    qemu_mutex_unlock(&history->lock);
}

void coiommu_history_unpinned(CoiommuHistory *history, uint64_t block,
                              uint64_t pass)
{
    qemu_mutex_lock(&history->lock);
    /* With no pass it is only known when the block returns, for the counter. */
    coiommu_predict_unpinned(&history->predictor, block,
                             history->max_bytes ? pass : 0, coiommu_now_ms());
    qemu_mutex_unlock(&history->lock);
}

void coiommu_history_unused(CoiommuHistory *history, uint64_t block,
                            CoiommuGuess guess)
{
    if (guess == COIOMMU_GUESS_NONE) {
        return;
    }
    if (guess == COIOMMU_GUESS_AHEAD) {
        stat64_add(&history->stats->ahead_unused, 1);
    }
    trace_coiommu_ahead_unused(block, guess);
    qemu_mutex_lock(&history->lock);
    coiommu_predict_wrong(&history->predictor, block, coiommu_now_ms());
    qemu_mutex_unlock(&history->lock);
}

void coiommu_history_no_room(CoiommuHistory *history)
{
    qemu_mutex_lock(&history->lock);
    history->hold_until_ms = coiommu_now_ms() + HOLD_MS;
    qemu_mutex_unlock(&history->lock);
}

bool coiommu_history_pass_due(CoiommuHistory *history)
{
    int64_t now = coiommu_now_ms();
    bool due;

    qemu_mutex_lock(&history->lock);
    escape_level(history, now);
    due = coiommu_escape_pass_due(&history->escape, now);
    qemu_mutex_unlock(&history->lock);
    return due;
}

unsigned coiommu_history_level(CoiommuHistory *history)
{
    unsigned level;

    qemu_mutex_lock(&history->lock);
    level = escape_level(history, coiommu_now_ms());
    qemu_mutex_unlock(&history->lock);
    return level;
}

/* ---- Hints ---- */

/* With the lock held.  A hint that may not be followed now is lost. */
static bool take_hint(CoiommuHistory *history, CoiommuHinted *hinted)
{
    int64_t now = coiommu_now_ms();

    do {
        hinted->count = coiommu_predict_take(&history->predictor, now,
                                             &hinted->guess, hinted->blocks);
    } while (hinted->count && now < history->hold_until_ms);
    hinted->generation = history->generation;
    hinted->max_bytes = history->max_bytes;
    return hinted->count;
}

bool coiommu_history_next(CoiommuHistory *history, CoiommuHinted *hinted)
{
    bool stop;

    qemu_mutex_lock(&history->lock);
    while (!history->stop && !take_hint(history, hinted)) {
        qemu_cond_wait(&history->kick, &history->lock);
    }
    stop = history->stop;
    qemu_mutex_unlock(&history->lock);
    return !stop;
}

static void set_stop(CoiommuHistory *history, bool stop)
{
    qemu_mutex_lock(&history->lock);
    history->stop = stop;
    qemu_cond_signal(&history->kick);
    qemu_mutex_unlock(&history->lock);
}

void coiommu_history_start(CoiommuHistory *history)
{
    set_stop(history, false);
}

void coiommu_history_stop(CoiommuHistory *history)
{
    set_stop(history, true);
}

bool coiommu_history_stopped(CoiommuHistory *history)
{
    bool stop;

    qemu_mutex_lock(&history->lock);
    stop = history->stop;
    qemu_mutex_unlock(&history->lock);
    return stop;
}

/* ---- Settings, and life ---- */

void coiommu_history_get(CoiommuHistory *history, uint64_t *max_bytes,
                         uint32_t *threshold)
{
    qemu_mutex_lock(&history->lock);
    *max_bytes = history->max_bytes;
    *threshold = history->escape.threshold;
    qemu_mutex_unlock(&history->lock);
}

void coiommu_history_set_max_bytes(CoiommuHistory *history, uint64_t max_bytes)
{
    qemu_mutex_lock(&history->lock);
    history->max_bytes = max_bytes;
    qemu_mutex_unlock(&history->lock);
}

void coiommu_history_set_threshold(CoiommuHistory *history, uint32_t threshold)
{
    qemu_mutex_lock(&history->lock);
    coiommu_escape_reset(&history->escape, threshold);
    qemu_mutex_unlock(&history->lock);
}

void coiommu_history_reset(CoiommuHistory *history, unsigned generation)
{
    qemu_mutex_lock(&history->lock);
    history->generation = generation;
    memset(&history->predictor, 0, sizeof(history->predictor));
    coiommu_escape_reset(&history->escape, history->escape.threshold);
    history->hold_until_ms = 0;
    qemu_mutex_unlock(&history->lock);
}

void coiommu_history_init(CoiommuHistory *history, CoiommuStats *stats)
{
    *history = (CoiommuHistory) {
        .stats = stats,
        .max_bytes = MAX_BYTES_DEFAULT,
    };
    qemu_mutex_init(&history->lock);
    qemu_cond_init(&history->kick);
    coiommu_escape_reset(&history->escape, ESCAPE_THRESHOLD_DEFAULT);
}

void coiommu_history_destroy(CoiommuHistory *history)
{
    qemu_cond_destroy(&history->kick);
    qemu_mutex_destroy(&history->lock);
}
