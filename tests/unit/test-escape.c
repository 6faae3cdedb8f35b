/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Escape: the level against a naive reference that counts misses from a list,
 * window by window, from the beginning of time.
 */
#include "osdep.h"
#include "escape.h"

#define WINDOW      COIOMMU_ESCAPE_WINDOW_MS
#define WINDOWS     200

typedef struct Reference {
    uint32_t threshold;
    unsigned misses[WINDOWS];
} Reference;

/* By the definition in escape.h. */
static unsigned reference_level(const Reference *ref, int64_t now)
{
    unsigned level = 0, hot = 0, calm = 0;
    int64_t w;

    for (w = 0; w < now / WINDOW; w++) {
        double rate = ref->misses[w] * 1000.0 / WINDOW;

        if (rate > ref->threshold) {
            calm = 0;
            hot++;
            if (hot >= 2 && level < COIOMMU_ESCAPE_LEVEL_MAX) {
                level++;
            }
        } else if (rate <= ref->threshold / 2.0) {
            hot = 0;
            calm++;
            if (calm % 4 == 0 && level) {
                level--;
            }
        } else {
            hot = 0;
            calm = 0;
        }
    }
    return level;
}

/* Storms, calm and all between, looked at often or seldom. */
static void test_random(void)
{
    unsigned seen = 0;
    int run;

    for (run = 0; run < 500; run++) {
        Reference ref = { .threshold = g_test_rand_int_range(2, 60) };
        int64_t now = 0, phase_end = 0;
        CoiommuEscape escape;
        int gap = 0;

        coiommu_escape_reset(&escape, ref.threshold);
        while (true) {
            /* From four times the threshold down to nothing. */
            if (now >= phase_end) {
                phase_end = now + g_test_rand_int_range(1, 20) * WINDOW;
                gap = (500 << g_test_rand_int_range(0, 6)) /
                      (int)ref.threshold;
            }
            now += g_test_rand_int_range(0, gap + 1);
            if (now >= WINDOWS * WINDOW) {
                break;
            }
            if (g_test_rand_int_range(0, 8)) {
                coiommu_escape_miss(&escape, now);
                ref.misses[now / WINDOW]++;
            } else {
                unsigned level = coiommu_escape_level(&escape, now);

                g_assert_cmpuint(level, ==, reference_level(&ref, now));
                seen |= 1u << level;
            }
        }
    }
    g_assert_cmpuint(seen, ==, (1u << (COIOMMU_ESCAPE_LEVEL_MAX + 1)) - 1);
}

static void storm(CoiommuEscape *escape, int64_t *now, int windows)
{
    int i;

    for (i = 0; i < windows * 10; i++) {
        coiommu_escape_miss(escape, *now);
        coiommu_escape_miss(escape, *now);
        *now += WINDOW / 10;
    }
}

/* Exactly the threshold is not over it; one window over it is not "stays". */
static void test_border(void)
{
    CoiommuEscape escape;
    int64_t now = 0;
    int i;

    /* 20 in half a second. */
    coiommu_escape_reset(&escape, 40);
    storm(&escape, &now, 50);
    g_assert_cmpuint(coiommu_escape_level(&escape, now), ==, 0);
    coiommu_escape_reset(&escape, 39);
    for (i = 0; i < 20; i++) {
        storm(&escape, &now, 1);
        now += WINDOW;
    }
    g_assert_cmpuint(coiommu_escape_level(&escape, now), ==, 0);
    storm(&escape, &now, 2);
    g_assert_cmpuint(coiommu_escape_level(&escape, now), ==, 1);
    storm(&escape, &now, 1);
    g_assert_cmpuint(coiommu_escape_level(&escape, now), ==, 2);
}

static void test_off(void)
{
    CoiommuEscape escape;
    int64_t now = 0;

    coiommu_escape_reset(&escape, 0);
    storm(&escape, &now, 50);
    g_assert_cmpuint(coiommu_escape_level(&escape, now), ==, 0);
    g_assert_true(coiommu_escape_pass_due(&escape, now));
    /* A new threshold starts anew. */
    coiommu_escape_reset(&escape, 39);
    storm(&escape, &now, 50);
    g_assert_cmpuint(coiommu_escape_level(&escape, now), ==,
                     COIOMMU_ESCAPE_LEVEL_MAX);
    coiommu_escape_reset(&escape, 0);
    g_assert_cmpuint(coiommu_escape_level(&escape, now), ==, 0);
}

/* When nobody looks for a long time it is calm at once, at no great cost. */
static void test_long_pause(void)
{
    CoiommuEscape escape;
    int64_t now = INT64_MAX / 2;

    coiommu_escape_reset(&escape, 39);
    storm(&escape, &now, 50);
    g_assert_cmpuint(coiommu_escape_level(&escape, now), ==,
                     COIOMMU_ESCAPE_LEVEL_MAX);
    g_assert_cmpuint(coiommu_escape_level(&escape, INT64_MAX), ==, 0);
}

/* The higher the level the fewer passes, down to one of eight. */
static void test_passes(void)
{
    const unsigned want[] = { 64, 32, 16, 8, 8, 8, 8 };
    CoiommuEscape escape;
    int64_t now = 0;
    unsigned level;

    coiommu_escape_reset(&escape, 39);
    for (level = 0; level <= COIOMMU_ESCAPE_LEVEL_MAX; level++) {
        unsigned i, passes = 0;

        g_assert_cmpuint(coiommu_escape_level(&escape, now), ==, level);
        for (i = 0; i < 64; i++) {
            passes += coiommu_escape_pass_due(&escape, now);
        }
        g_assert_cmpuint(passes, ==, want[level]);
        storm(&escape, &now, level ? 1 : 2);
    }
}

/* Every other block of the aligned group once, those that follow first. */
static void test_group(void)
{
    uint64_t blocks[1u << COIOMMU_ESCAPE_LEVEL_MAX];
    const uint64_t want[] = { 22, 23, 16, 17, 18, 19, 20 };
    unsigned level;
    uint64_t block;

    g_assert_cmpuint(coiommu_escape_group(21, 3, blocks), ==, 7);
    g_assert_cmpint(memcmp(blocks, want, sizeof(want)), ==, 0);
    for (level = 0; level <= COIOMMU_ESCAPE_LEVEL_MAX; level++) {
        for (block = 1000; block < 1200; block++) {
            uint64_t size = 1ull << level, seen = 0;
            size_t i, found = coiommu_escape_group(block, level, blocks);

            g_assert_cmpuint(found, ==, size - 1);
            for (i = 0; i < found; i++) {
                g_assert_cmpuint(blocks[i], !=, block);
                g_assert_cmpuint(blocks[i] / size, ==, block / size);
                seen |= 1ull << blocks[i] % size;
            }
            g_assert_cmpuint(__builtin_popcountll(seen), ==, found);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/escape/random", test_random);
    g_test_add_func("/escape/border", test_border);
    g_test_add_func("/escape/off", test_off);
    g_test_add_func("/escape/long-pause", test_long_pause);
    g_test_add_func("/escape/passes", test_passes);
    g_test_add_func("/escape/group", test_group);
    return g_test_run();
}
