/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Predictions against a naive reference, which keeps everything that was seen
 * in a field for each block and a list of hints.
 */
#include "osdep.h"
#include "predict.h"

/* Four blocks share each place in the tables. */
#define BLOCKS  (4 * COIOMMU_RECENT_SLOTS)
#define STEPS   200000

typedef struct Reference {
    /* -1 where it isn't so. */
    int64_t unpinned_ms[BLOCKS];
    uint64_t pass[BLOCKS];
    int64_t wrong_ms[BLOCKS];
    GQueue hints;
} Reference;

static Reference *reference_new(void)
{
    Reference *ref = g_new0(Reference, 1);
    size_t i;

    for (i = 0; i < BLOCKS; i++) {
        ref->unpinned_ms[i] = -1;
        ref->wrong_ms[i] = -1;
    }
    g_queue_init(&ref->hints);
    return ref;
}

static void reference_free(Reference *ref)
{
    g_queue_clear_full(&ref->hints, g_free);
    g_free(ref);
}

/* Whoever comes last to a place has it. */
static void reference_note(int64_t *at_ms, uint64_t block, int64_t now)
{
    size_t i;

    for (i = block % COIOMMU_RECENT_SLOTS; i < BLOCKS;
         i += COIOMMU_RECENT_SLOTS) {
        at_ms[i] = -1;
    }
    at_ms[block] = now;
}

static void reference_hint(Reference *ref, CoiommuHintKind kind,
                           uint64_t block, uint64_t detail)
{
    CoiommuHint *hint;
    GList *link;

    for (link = ref->hints.head; link; link = link->next) {
        hint = link->data;
        if (hint->kind != kind || hint->detail != detail) {
            continue;
        }
        if (hint->block == block ||
            (kind == COIOMMU_HINT_WIDEN &&
             hint->block / (1u << detail) == block / (1u << detail))) {
            return;
        }
    }
    if (g_queue_get_length(&ref->hints) < COIOMMU_HINTS) {
        hint = g_new(CoiommuHint, 1);
        *hint = (CoiommuHint) { kind, block, detail };
        g_queue_push_tail(&ref->hints, hint);
    }
}

static bool reference_pinned(Reference *ref, uint64_t block, unsigned level,
                             int64_t now)
{
    bool returned = ref->unpinned_ms[block] >= 0 &&
                    now - ref->unpinned_ms[block] <= 10000;

    ref->wrong_ms[block] = -1;
    ref->unpinned_ms[block] = -1;
    if (returned && ref->pass[block]) {
        reference_hint(ref, COIOMMU_HINT_RETURNED, block, ref->pass[block]);
    }
    if (level) {
        reference_hint(ref, COIOMMU_HINT_WIDEN, block, level);
    }
    return returned;
}

static size_t reference_companions(Reference *ref, const CoiommuHint *hint,
                                   int64_t now, uint64_t *blocks)
{
    size_t count = 0;
    int away, sign;
    uint64_t b;

    for (away = 1; away <= COIOMMU_RECENT_SLOTS / 2; away++) {
        for (sign = 1; sign >= -1; sign -= 2) {
            for (b = (hint->block + BLOCKS + sign * away) %
                     COIOMMU_RECENT_SLOTS;
                 b < BLOCKS; b += COIOMMU_RECENT_SLOTS) {
                if (ref->unpinned_ms[b] >= 0 && ref->pass[b] == hint->detail &&
                    now - ref->unpinned_ms[b] <= 10000 && count < 8) {
                    ref->unpinned_ms[b] = -1;
                    blocks[count++] = b;
                }
            }
        }
    }
    return count;
}

static size_t reference_take(Reference *ref, int64_t now, CoiommuGuess *guess,
                             uint64_t *blocks)
{
    size_t count = 0;

    while (!count && !g_queue_is_empty(&ref->hints)) {
        g_autofree CoiommuHint *hint = g_queue_pop_head(&ref->hints);
        uint64_t all[COIOMMU_HINT_BLOCKS];
        size_t i, found = 1;

        *guess = COIOMMU_GUESS_AHEAD;
        switch (hint->kind) {
        case COIOMMU_HINT_RETURNED:
            found = reference_companions(ref, hint, now, all);
            break;
        case COIOMMU_HINT_FIXED:
            all[0] = hint->block + 1;
            break;
        default:
            *guess = COIOMMU_GUESS_ESCAPE;
            found = coiommu_escape_group(hint->block, hint->detail, all);
            break;
        }
        for (i = 0; i < found; i++) {
            /* The last one's neighbour is past what the reference knows. */
            if (all[i] >= BLOCKS || ref->wrong_ms[all[i]] < 0 ||
                now - ref->wrong_ms[all[i]] > 60000) {
                blocks[count++] = all[i];
            }
        }
    }
    return count;
}

/* A block near the last one as a rule, so that things have to do with it. */
static uint64_t some_block(uint64_t last)
{
    return g_test_rand_int_range(0, 10) ?
           (last + BLOCKS + g_test_rand_int_range(-6, 7)) % BLOCKS :
           (uint64_t)g_test_rand_int_range(0, BLOCKS);
}

static void test_random(void)
{
    g_autofree CoiommuPredictor *predictor = g_new0(CoiommuPredictor, 1);
    unsigned taken[2] = { 0 }, returned = 0, full = 0;
    Reference *ref = reference_new();
    uint64_t block = 0, pass = 1;
    int64_t now = 0;
    int step;

    for (step = 0; step < STEPS; step++) {
        uint64_t got[COIOMMU_HINT_BLOCKS], want[COIOMMU_HINT_BLOCKS];
        CoiommuGuess guess, want_guess;
        unsigned level;
        size_t i, count;
        bool back;

        block = some_block(block);
        now += g_test_rand_int_range(0, 1000) ?
               g_test_rand_int_range(0, 50) :
               g_test_rand_int_range(0, 100000);
        switch (g_test_rand_int_range(0, 14)) {
        case 0 ... 5:
            pass += !g_test_rand_int_range(0, 10);
            coiommu_predict_unpinned(predictor, block, pass % 50, now);
            reference_note(ref->unpinned_ms, block, now);
            ref->pass[block] = pass % 50;
            break;
        case 6:
            coiommu_predict_wrong(predictor, block, now);
            reference_note(ref->wrong_ms, block, now);
            break;
        case 7 ... 9:
            level = g_test_rand_int_range(0, 3) ? 0 :
                    g_test_rand_int_range(0, COIOMMU_ESCAPE_LEVEL_MAX + 1);
            back = reference_pinned(ref, block, level, now);
            returned += back;
            g_assert_cmpint(coiommu_predict_pinned(predictor, block, level,
                                                   now), ==, back);
            break;
        case 10:
            coiommu_predict_fixed(predictor, block);
            reference_hint(ref, COIOMMU_HINT_FIXED, block, 0);
            break;
        default:
            /* Every now and then nobody takes hints out for a while. */
            if (step / 1000 % 10 == 0) {
                full += predictor->hints == COIOMMU_HINTS;
                break;
            }
            count = reference_take(ref, now, &want_guess, want);
            g_assert_cmpuint(coiommu_predict_take(predictor, now, &guess, got),
                             ==, count);
            if (count) {
                g_assert_cmpint(guess, ==, want_guess);
                taken[guess == COIOMMU_GUESS_ESCAPE]++;
            }
            for (i = 0; i < count; i++) {
                g_assert_cmpuint(got[i], ==, want[i]);
            }
            break;
        }
        g_assert_cmpuint(predictor->hints, ==,
                         g_queue_get_length(&ref->hints));
    }
    g_test_message("%u returned, %u lists ahead, %u for escape, %u times full",
                   returned, taken[0], taken[1], full);
    g_assert_cmpuint(MIN(MIN(returned, full), MIN(taken[0], taken[1])), >, 20);
    reference_free(ref);
}

/* Of a pass that let go of many, each return brings back a few. */
static void test_companions(void)
{
    g_autofree CoiommuPredictor *predictor = g_new0(CoiommuPredictor, 1);
    uint64_t blocks[COIOMMU_HINT_BLOCKS], b;
    CoiommuGuess guess;

    for (b = 100; b < 200; b++) {
        coiommu_predict_unpinned(predictor, b, 7, 0);
        coiommu_predict_unpinned(predictor, b + 200, 8, 0);
    }
    g_assert_true(coiommu_predict_pinned(predictor, 150, 0, 1000));
    g_assert_cmpuint(coiommu_predict_take(predictor, 1000, &guess, blocks), ==,
                     COIOMMU_COMPANIONS);
    g_assert_cmpint(guess, ==, COIOMMU_GUESS_AHEAD);
    g_assert_cmpuint(blocks[0], ==, 151);
    g_assert_cmpuint(blocks[1], ==, 149);
    g_assert_cmpuint(blocks[6], ==, 154);
    g_assert_cmpuint(blocks[7], ==, 146);
    g_assert_cmpuint(coiommu_predict_take(predictor, 1000, &guess, blocks), ==,
                     0);
    /* Each is predicted once. */
    g_assert_true(coiommu_predict_pinned(predictor, 155, 0, 1000));
    coiommu_predict_take(predictor, 1000, &guess, blocks);
    g_assert_cmpuint(blocks[0], ==, 156);
    g_assert_cmpuint(blocks[1], ==, 157);
    /* One that comes back late, or was reclaimed, brings nobody. */
    g_assert_false(coiommu_predict_pinned(predictor, 110, 0, 10001));
    coiommu_predict_unpinned(predictor, 500, 0, 0);
    coiommu_predict_unpinned(predictor, 501, 0, 0);
    g_assert_true(coiommu_predict_pinned(predictor, 500, 0, 1));
    g_assert_cmpuint(predictor->hints, ==, 0);
}

/* What was wrong is not predicted again for a while, unless it is asked for. */
static void test_wrong(void)
{
    g_autofree CoiommuPredictor *predictor = g_new0(CoiommuPredictor, 1);
    uint64_t blocks[COIOMMU_HINT_BLOCKS];
    CoiommuGuess guess;

    coiommu_predict_wrong(predictor, 11, 1000);
    coiommu_predict_fixed(predictor, 10);
    g_assert_cmpuint(coiommu_predict_take(predictor, 61000, &guess, blocks),
                     ==, 0);
    coiommu_predict_fixed(predictor, 10);
    g_assert_cmpuint(coiommu_predict_take(predictor, 61001, &guess, blocks),
                     ==, 1);
    g_assert_cmpuint(blocks[0], ==, 11);
    coiommu_predict_wrong(predictor, 11, 61001);
    coiommu_predict_pinned(predictor, 9, 2, 61002);
    g_assert_cmpuint(coiommu_predict_take(predictor, 61002, &guess, blocks),
                     ==, 2);
    g_assert_cmpint(guess, ==, COIOMMU_GUESS_ESCAPE);
    g_assert_cmpuint(blocks[0], ==, 10);
    g_assert_cmpuint(blocks[1], ==, 8);
    g_assert_false(coiommu_predict_pinned(predictor, 11, 0, 61003));
    coiommu_predict_fixed(predictor, 10);
    g_assert_cmpuint(coiommu_predict_take(predictor, 61003, &guess, blocks),
                     ==, 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/predict/random", test_random);
    g_test_add_func("/predict/companions", test_companions);
    g_test_add_func("/predict/wrong", test_wrong);
    return g_test_run();
}
