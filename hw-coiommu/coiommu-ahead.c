/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pinning ahead, and escape.
 *
 * The unpin thread and requests tell here what happens to blocks: they only
 * take a note, under a mutex of this file.  core/predict.h makes predictions
 * of the notes, core/escape.h widens pins while there are many misses, and a
 * thread pins what comes of it.  No request waits for that thread, but for the
 * one block that it is mapping if the request asks for that very block.
 *
 * A block that is pinned here is a *guess* (core/pinset.h) until it is used:
 * until somebody asks for it, or a look at the table finds a count or ACCESSED
 * in it.  Guesses are pinned where there is room and nobody is in the way, and
 * go first when there is none: the thread only tries to get into a block,
 * reclaims nothing, stays below half of what the containers hold, and does
 * nothing for a while after any pin has found no room.
 *
 * The thread never takes the BQL.  It goes inside the gate for one block at a
 * time.
 */
#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/rcu.h"
#include "qemu/units.h"
#include "coiommu.h"
#include "trace.h"

/* For how long there are no guesses after a lack of room. */
#define HOLD_MS                     1000

/* Twice what a disk's queue of 128 requests of 128 KiB needs. */
#define MAX_BYTES_DEFAULT           (32 * MiB)

/*
 * An estimate: a miss takes some 60 us, of which most is pinning 2 MiB of 4 KiB
 * pages.  So these are 3 % of a CPU.
 */
#define ESCAPE_THRESHOLD_DEFAULT    500

static int64_t now_ms(void)
{
    return get_clock() / SCALE_MS;
}

/* ---- Notes ---- */

/* With the lock held. */
static unsigned escape_level(CoiommuState *s, int64_t now)
{
    unsigned before = s->ahead.escape.level;
    unsigned level = coiommu_escape_level(&s->ahead.escape, now);

    if (level != before) {
        trace_coiommu_escape(before, level);
    }
    return level;
}

void coiommu_ahead_miss(CoiommuState *s)
{
    int64_t now = now_ms();

    QEMU_LOCK_GUARD(&s->ahead.lock);
    escape_level(s, now);
    coiommu_escape_miss(&s->ahead.escape, now);
}

void coiommu_ahead_pinned(CoiommuState *s, uint64_t block)
{
    int64_t now = now_ms();
    bool returned;

    WITH_QEMU_LOCK_GUARD(&s->ahead.lock) {
        returned = coiommu_predict_pinned(&s->ahead.predictor, block,
                                          escape_level(s, now), now);
        if (s->ahead.predictor.hints) {
            qemu_cond_signal(&s->ahead.kick);
        }
    }
    if (returned) {
        stat64_add(&s->stats.repins, 1);
    }
}

void coiommu_ahead_used(CoiommuState *s, uint64_t block)
{
    if (coiommu_pinset_used(&s->pins, block) == COIOMMU_GUESS_AHEAD) {
        stat64_add(&s->stats.ahead_used, 1);
    }
}

void coiommu_ahead_settled(CoiommuState *s, uint64_t block)
{
    QEMU_LOCK_GUARD(&s->ahead.lock);
    if (s->ahead.max_bytes) {
        coiommu_predict_settled(&s->ahead.predictor, block);
        qemu_cond_signal(&s->ahead.kick);
    }
}

void coiommu_ahead_unpinned(CoiommuState *s, uint64_t block, uint64_t pass)
{
    QEMU_LOCK_GUARD(&s->ahead.lock);
    /* With no pass it is only known when the block returns, for the counter. */
    coiommu_predict_unpinned(&s->ahead.predictor, block,
                             s->ahead.max_bytes ? pass : 0, now_ms());
}

void coiommu_ahead_unused(CoiommuState *s, uint64_t block, CoiommuGuess guess)
{
    if (guess == COIOMMU_GUESS_NONE) {
        return;
    }
    if (guess == COIOMMU_GUESS_AHEAD) {
        stat64_add(&s->stats.ahead_unused, 1);
    }
    trace_coiommu_ahead_unused(block, guess);
    QEMU_LOCK_GUARD(&s->ahead.lock);
    coiommu_predict_wrong(&s->ahead.predictor, block, now_ms());
}

void coiommu_ahead_no_room(CoiommuState *s)
{
    QEMU_LOCK_GUARD(&s->ahead.lock);
    s->ahead.hold_until_ms = now_ms() + HOLD_MS;
}

bool coiommu_ahead_pass_due(CoiommuState *s)
{
    int64_t now = now_ms();

    QEMU_LOCK_GUARD(&s->ahead.lock);
    escape_level(s, now);
    return coiommu_escape_pass_due(&s->ahead.escape, now);
}

unsigned coiommu_ahead_level(CoiommuState *s)
{
    QEMU_LOCK_GUARD(&s->ahead.lock);
    return escape_level(s, now_ms());
}

/* ---- The thread ---- */

/* May a block be pinned that nobody has asked for?  In the gate. */
static bool may_guess(CoiommuState *s, uint64_t block, CoiommuGuess guess)
{
    CoiommuUnpinSettings settings;

    if (!s->enabled || !g_hash_table_size(s->attached)) {
        return false;
    }
    /* What is past the table cannot be counted. */
    if (block >= DIV_ROUND_UP(s->dtt.size, 1ull << s->block_shift)) {
        return false;
    }
    if (coiommu_pinset_totals(&s->pins).pinned >=
        coiommu_vfio_budget_inside(s) / 2) {
        return false;
    }
    /* With no passes nobody would find out that a guess was wrong. */
    coiommu_unpin_get(s, &settings);
    return guess == COIOMMU_GUESS_ESCAPE ||
           settings.policy != COIOMMU_POLICY_OFF;
}

/**
 * Hint - what is to be pinned, taken from the predictor
 * @guess: of which kind it is
 * @generation: of the pins that it was predicted from
 * @max_bytes: the most that pins ahead may hold which nobody has used
 */
typedef struct Hint {
    CoiommuGuess guess;
    unsigned generation;
    uint64_t max_bytes;
} Hint;

/* Returns false if there is no use in going on with the next block. */
static bool guess_block(CoiommuState *s, uint64_t block, const Hint *hint)
{
    CoiommuGuess guess = hint->guess;
    int ret = -ESTALE;

    if (!coiommu_gate_enter(&s->gate)) {
        return false;
    }
    if (s->pins_generation == hint->generation) {
        ret = may_guess(s, block, guess) ?
              coiommu_pin_guess(s, block, guess, hint->max_bytes) : 0;
    }
    coiommu_gate_leave(&s->gate);
    if (ret > 0) {
        stat64_add(guess == COIOMMU_GUESS_AHEAD ? &s->stats.ahead_pins :
                                                  &s->stats.escape_blocks, 1);
    } else if (ret < 0 && ret != -EDQUOT && ret != -ESTALE) {
        coiommu_ahead_no_room(s);
    }
    return ret >= 0;
}

static void *coiommu_ahead_thread(void *opaque)
{
    CoiommuState *s = opaque;
    uint64_t blocks[COIOMMU_HINT_BLOCKS];

    /* Marking guest memory dirty takes the RCU read lock. */
    rcu_register_thread();
    qemu_mutex_lock(&s->ahead.lock);
    while (!s->ahead.stop) {
        Hint hint = {
            .generation = s->ahead.generation,
            .max_bytes = s->ahead.max_bytes,
        };
        int64_t now = now_ms();
        size_t i, count;

        count = coiommu_predict_take(&s->ahead.predictor, now, &hint.guess,
                                     blocks);
        if (!count) {
            qemu_cond_wait(&s->ahead.kick, &s->ahead.lock);
            continue;
        }
        if (now < s->ahead.hold_until_ms) {
            continue;
        }
        qemu_mutex_unlock(&s->ahead.lock);
        for (i = 0; i < count && !qatomic_read(&s->ahead.stop); i++) {
            if (!guess_block(s, blocks[i], &hint)) {
                break;
            }
        }
        trace_coiommu_ahead(hint.guess, blocks[0], count, i);
        qemu_mutex_lock(&s->ahead.lock);
    }
    qemu_mutex_unlock(&s->ahead.lock);
    rcu_unregister_thread();
    return NULL;
}

/* ---- Life ---- */

void coiommu_ahead_get(CoiommuState *s, uint64_t *max_bytes,
                       uint32_t *threshold)
{
    QEMU_LOCK_GUARD(&s->ahead.lock);
    *max_bytes = s->ahead.max_bytes;
    *threshold = s->ahead.escape.threshold;
}

void coiommu_ahead_set_max_bytes(CoiommuState *s, uint64_t max_bytes)
{
    QEMU_LOCK_GUARD(&s->ahead.lock);
    s->ahead.max_bytes = max_bytes;
}

void coiommu_ahead_set_threshold(CoiommuState *s, uint32_t threshold)
{
    QEMU_LOCK_GUARD(&s->ahead.lock);
    coiommu_escape_reset(&s->ahead.escape, threshold);
}

void coiommu_ahead_reset(CoiommuState *s)
{
    QEMU_LOCK_GUARD(&s->ahead.lock);
    s->ahead.generation = s->pins_generation;
    memset(&s->ahead.predictor, 0, sizeof(s->ahead.predictor));
    coiommu_escape_reset(&s->ahead.escape, s->ahead.escape.threshold);
    s->ahead.hold_until_ms = 0;
}

void coiommu_ahead_start(CoiommuState *s)
{
    s->ahead.stop = false;
    qemu_thread_create(&s->ahead.thread, "coiommu-ahead", coiommu_ahead_thread,
                       s, QEMU_THREAD_JOINABLE);
    s->ahead.running = true;
}

void coiommu_ahead_stop(CoiommuState *s)
{
    if (!s->ahead.running) {
        return;
    }
    WITH_QEMU_LOCK_GUARD(&s->ahead.lock) {
        qatomic_set(&s->ahead.stop, true);
        qemu_cond_signal(&s->ahead.kick);
    }
    qemu_thread_join(&s->ahead.thread);
    s->ahead.running = false;
}

void coiommu_ahead_init(CoiommuState *s)
{
    qemu_mutex_init(&s->ahead.lock);
    qemu_cond_init(&s->ahead.kick);
    s->ahead.max_bytes = MAX_BYTES_DEFAULT;
    coiommu_escape_reset(&s->ahead.escape, ESCAPE_THRESHOLD_DEFAULT);
}

void coiommu_ahead_destroy(CoiommuState *s)
{
    qemu_cond_destroy(&s->ahead.kick);
    qemu_mutex_destroy(&s->ahead.lock);
}
