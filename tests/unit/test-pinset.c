/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pin set against a naive reference: an array with a slot for each block.
 * How it behaves with several threads is test-threads.c's.
 */
#include "osdep.h"
#include "pinset.h"

#define BLOCKS  512
#define STEPS   200000

/* 0 where the block is not pinned. */
typedef struct Reference {
    uint64_t bytes[BLOCKS];
    uint64_t total;
    uint64_t peak;
} Reference;

/* Numbers far apart and up to the largest, besides small ones. */
static uint64_t block_number(unsigned i)
{
    switch (i % 3) {
    case 0:
        return i;
    case 1:
        return (1ull << 52) - 1 - i;
    default:
        return (uint64_t)i << 32;
    }
}

static bool pin(CoiommuPinset *set, uint64_t block, uint64_t bytes)
{
    bool pinned = coiommu_pinset_enter(set, block, NULL);
    bool fits = pinned || coiommu_pinset_reserve(set, block, bytes);

    if (fits && !pinned) {
        coiommu_pinset_commit(set, block);
    }
    coiommu_pinset_leave(set, block);
    return fits;
}

static void unpin(CoiommuPinset *set, uint64_t block)
{
    if (coiommu_pinset_enter(set, block, NULL)) {
        coiommu_pinset_withdraw(set, block);
        coiommu_pinset_release(set, block, 0);
    }
    coiommu_pinset_leave(set, block);
}

static void compare(CoiommuPinset *set, const Reference *ref)
{
    CoiommuPinTotals totals = coiommu_pinset_totals(set);
    size_t i, count = 0;

    for (i = 0; i < BLOCKS; i++) {
        g_assert_cmpint(coiommu_pinset_has(set, block_number(i)), ==,
                        ref->bytes[i] != 0);
        count += ref->bytes[i] != 0;
    }
    g_assert_cmpuint(totals.pinned, ==, count);
    g_assert_cmpuint(coiommu_pinset_end(set), ==, count);
    g_assert_cmpuint(totals.bytes, ==, ref->total);
    g_assert_cmpuint(totals.charged, ==, ref->total);
    g_assert_cmpuint(totals.peak, ==, ref->peak);
}

/* The walk, in slices of any size, shows each pinned block once. */
static void compare_walk(CoiommuPinset *set, const Reference *ref)
{
    bool seen[BLOCKS] = { false };
    size_t hand = coiommu_pinset_end(set);
    uint64_t blocks[16];
    size_t i, j, found;

    while (hand) {
        found = coiommu_pinset_walk(set, &hand, NULL, NULL, blocks,
                                    g_test_rand_int_range(1, 17));
        for (i = 0; i < found; i++) {
            for (j = 0; j < BLOCKS && block_number(j) != blocks[i]; j++) {
                continue;
            }
            g_assert_cmpuint(j, <, BLOCKS);
            g_assert_false(seen[j]);
            seen[j] = true;
        }
    }
    for (j = 0; j < BLOCKS; j++) {
        g_assert_cmpint(seen[j], ==, ref->bytes[j] != 0);
    }
}

static void test_empty(void)
{
    CoiommuPinset set;
    CoiommuPin pin;
    size_t hand = 5;
    uint64_t block;

    coiommu_pinset_init(&set);
    g_assert_cmpuint(coiommu_pinset_totals(&set).pinned, ==, 0);
    g_assert_false(coiommu_pinset_has(&set, 0));
    g_assert_false(coiommu_pinset_get(&set, 0, &pin));
    g_assert_false(coiommu_pinset_try_enter(&set, 0, NULL, NULL, NULL));
    g_assert_false(coiommu_pinset_wait_release(&set));
    g_assert_cmpuint(coiommu_pinset_walk(&set, &hand, NULL, NULL, &block, 1),
                     ==, 0);
    g_assert_cmpuint(hand, ==, 0);
    /* A visit that pins nothing leaves nothing. */
    g_assert_false(coiommu_pinset_enter(&set, 7, NULL));
    g_assert_cmpuint(coiommu_pinset_end(&set), ==, 1);
    coiommu_pinset_leave(&set, 7);
    g_assert_cmpuint(coiommu_pinset_end(&set), ==, 0);
    coiommu_pinset_destroy(&set);
}

/* Bytes that the host does not let go of count, and keep the entry. */
static void test_stuck(void)
{
    CoiommuPinset set;
    CoiommuPin entry;
    size_t hand = 1;
    uint64_t block;

    coiommu_pinset_init(&set);
    coiommu_pinset_set_quota(&set, 100);
    g_assert_true(pin(&set, 3, 60));
    g_assert_true(coiommu_pinset_enter(&set, 3, NULL));
    coiommu_pinset_withdraw(&set, 3);
    coiommu_pinset_release(&set, 3, 40);
    coiommu_pinset_leave(&set, 3);

    /* Absent, but there, and charged; no peak came of it. */
    g_assert_false(coiommu_pinset_has(&set, 3));
    g_assert_true(coiommu_pinset_get(&set, 0, &entry));
    g_assert_cmpuint(entry.stuck, ==, 40);
    g_assert_cmpuint(entry.bytes, ==, 0);
    g_assert_cmpuint(coiommu_pinset_totals(&set).pinned, ==, 0);
    g_assert_cmpuint(coiommu_pinset_totals(&set).bytes, ==, 40);
    g_assert_cmpuint(coiommu_pinset_totals(&set).stuck, ==, 40);
    g_assert_cmpuint(coiommu_pinset_totals(&set).peak, ==, 60);
    g_assert_false(pin(&set, 4, 61));

    /* No walk, unpin or guess finds it. */
    g_assert_cmpuint(coiommu_pinset_walk(&set, &hand, NULL, NULL, &block, 1),
                     ==, 0);
    g_assert_false(coiommu_pinset_try_enter(&set, 3, NULL, NULL, NULL));
    g_assert_false(coiommu_pinset_try_add(&set, 3));

    /* It can be pinned beside what is stuck, and be let go of again. */
    g_assert_true(pin(&set, 3, 20));
    g_assert_cmpuint(coiommu_pinset_totals(&set).bytes, ==, 60);
    g_assert_true(coiommu_pinset_try_stuck(&set, 3));
    g_assert_false(coiommu_pinset_try_stuck(&set, 3));
    coiommu_pinset_set_stuck(&set, 3, 0);
    coiommu_pinset_leave(&set, 3);
    g_assert_cmpuint(coiommu_pinset_totals(&set).bytes, ==, 20);
    g_assert_false(coiommu_pinset_try_stuck(&set, 3));
    unpin(&set, 3);
    g_assert_cmpuint(coiommu_pinset_end(&set), ==, 0);
    g_assert_cmpuint(coiommu_pinset_totals(&set).charged, ==, 0);

    /* A map that has failed, and may have been done after all. */
    g_assert_false(coiommu_pinset_enter(&set, 5, NULL));
    g_assert_true(coiommu_pinset_reserve(&set, 5, 70));
    coiommu_pinset_release(&set, 5, 70);
    coiommu_pinset_leave(&set, 5);
    g_assert_cmpuint(coiommu_pinset_totals(&set).bytes, ==, 70);
    g_assert_cmpuint(coiommu_pinset_totals(&set).peak, ==, 70);
    g_assert_true(coiommu_pinset_try_stuck(&set, 5));
    coiommu_pinset_set_stuck(&set, 5, 0);
    coiommu_pinset_leave(&set, 5);
    g_assert_cmpuint(coiommu_pinset_end(&set), ==, 0);
    g_assert_cmpuint(coiommu_pinset_totals(&set).charged, ==, 0);
    coiommu_pinset_destroy(&set);
}

/* What other threads see of a block on its way. */
static void test_states(void)
{
    CoiommuPinset set;
    size_t hand;
    uint64_t block;

    coiommu_pinset_init(&set);
    g_assert_false(coiommu_pinset_enter(&set, 3, NULL));
    g_assert_true(coiommu_pinset_reserve(&set, 3, 4096));
    g_assert_false(coiommu_pinset_has(&set, 3));
    g_assert_cmpuint(coiommu_pinset_totals(&set).bytes, ==, 0);
    g_assert_cmpuint(coiommu_pinset_totals(&set).charged, ==, 4096);
    /* The map has failed. */
    coiommu_pinset_release(&set, 3, 0);
    g_assert_cmpuint(coiommu_pinset_totals(&set).charged, ==, 0);
    g_assert_true(coiommu_pinset_reserve(&set, 3, 8192));
    coiommu_pinset_commit(&set, 3);
    g_assert_true(coiommu_pinset_has(&set, 3));
    g_assert_cmpuint(coiommu_pinset_totals(&set).bytes, ==, 8192);
    /* Entered: nobody may try, no walk shows it. */
    g_assert_false(coiommu_pinset_try_enter(&set, 3, NULL, NULL, NULL));
    hand = coiommu_pinset_end(&set);
    g_assert_cmpuint(coiommu_pinset_walk(&set, &hand, NULL, NULL, &block, 1),
                     ==, 0);
    coiommu_pinset_leave(&set, 3);
    g_assert_true(coiommu_pinset_try_enter(&set, 3, NULL, NULL, NULL));
    g_assert_false(coiommu_pinset_try_enter(&set, 3, NULL, NULL, NULL));
    coiommu_pinset_withdraw(&set, 3);
    g_assert_false(coiommu_pinset_has(&set, 3));
    /* Not unmapped yet, so it still counts. */
    g_assert_cmpuint(coiommu_pinset_totals(&set).bytes, ==, 8192);
    coiommu_pinset_release(&set, 3, 0);
    g_assert_cmpuint(coiommu_pinset_totals(&set).bytes, ==, 0);
    coiommu_pinset_leave(&set, 3);
    g_assert_cmpuint(coiommu_pinset_end(&set), ==, 0);
    g_assert_cmpuint(coiommu_pinset_totals(&set).peak, ==, 8192);
    coiommu_pinset_destroy(&set);
}

/* A part of a block comes and goes; the quota holds for what comes. */
static void test_part(void)
{
    CoiommuPinset set;
    CoiommuPin pin;
    int part;

    coiommu_pinset_init(&set);
    g_assert_false(coiommu_pinset_enter(&set, 3, &pin));
    g_assert_cmpint(pin.state, ==, COIOMMU_PIN_ABSENT);
    g_assert_null(pin.part);
    g_assert_true(coiommu_pinset_reserve(&set, 3, 8192));
    coiommu_pinset_commit(&set, 3);
    coiommu_pinset_set_quota(&set, 12288);
    g_assert_true(coiommu_pinset_set_part(&set, 3, &part, 4096));
    g_assert_true(coiommu_pinset_get(&set, 0, &pin));
    g_assert_true(pin.part == &part && pin.bytes == 4096);
    g_assert_cmpuint(coiommu_pinset_totals(&set).bytes, ==, 4096);
    g_assert_cmpuint(coiommu_pinset_totals(&set).charged, ==, 4096);
    /* Too much: nothing changes. */
    g_assert_false(coiommu_pinset_set_part(&set, 3, NULL, 12289));
    g_assert_true(coiommu_pinset_get(&set, 0, &pin));
    g_assert_true(pin.part == &part);
    g_assert_cmpuint(coiommu_pinset_totals(&set).charged, ==, 4096);
    g_assert_true(coiommu_pinset_set_part(&set, 3, NULL, 12288));
    g_assert_cmpuint(coiommu_pinset_totals(&set).bytes, ==, 12288);
    g_assert_cmpuint(coiommu_pinset_totals(&set).peak, ==, 12288);
    /* A quota below what is pinned takes less, but not more. */
    coiommu_pinset_set_quota(&set, 4096);
    g_assert_true(coiommu_pinset_set_part(&set, 3, &part, 8192));
    g_assert_false(coiommu_pinset_set_part(&set, 3, NULL, 12288));
    /* Another way in tells the same. */
    coiommu_pinset_leave(&set, 3);
    g_assert_true(coiommu_pinset_try_enter(&set, 3, NULL, NULL, &pin));
    g_assert_true(pin.part == &part && pin.bytes == 8192);
    coiommu_pinset_withdraw(&set, 3);
    coiommu_pinset_release(&set, 3, 0);
    g_assert_true(coiommu_pinset_get(&set, 0, &pin));
    g_assert_null(pin.part);
    g_assert_cmpuint(coiommu_pinset_totals(&set).bytes, ==, 0);
    g_assert_cmpuint(coiommu_pinset_totals(&set).charged, ==, 0);
    coiommu_pinset_leave(&set, 3);
    coiommu_pinset_destroy(&set);
}

static void test_random(void)
{
    CoiommuPinset set;
    Reference ref = { 0 };
    uint64_t quota = 0;
    unsigned step;

    coiommu_pinset_init(&set);
    for (step = 0; step < STEPS; step++) {
        /* Fill up and drain in turns, so that all sizes come up. */
        bool drain = step / 5000 % 2;
        bool add = g_test_rand_int_range(0, 4) ? !drain : drain;
        unsigned i = g_test_rand_int_range(0, BLOCKS);

        if (step % 3000 == 0) {
            quota = g_test_rand_int_range(0, 3) *
                    (4096ull * (1 << 17) * BLOCKS / 4);
            coiommu_pinset_set_quota(&set, quota);
        }
        if (add) {
            uint64_t bytes = 4096ull * g_test_rand_int_range(1, 1 << 18);
            bool fits = ref.bytes[i] || !quota ||
                        ref.total + bytes <= quota;

            g_assert_cmpint(pin(&set, block_number(i), bytes), ==, fits);
            if (fits && !ref.bytes[i]) {
                ref.bytes[i] = bytes;
                ref.total += bytes;
                ref.peak = MAX(ref.peak, ref.total);
            }
        } else {
            unpin(&set, block_number(i));
            ref.total -= ref.bytes[i];
            ref.bytes[i] = 0;
        }
        if (step % 1000 == 0) {
            compare(&set, &ref);
            compare_walk(&set, &ref);
        }
    }
    coiommu_pinset_destroy(&set);
}

/* Guesses: their sums, their limit, and how they end. */
static void test_guesses(void)
{
    const CoiommuGuess ahead = COIOMMU_GUESS_AHEAD;
    CoiommuPinTotals totals;
    CoiommuPinset set;

    coiommu_pinset_init(&set);
    coiommu_pinset_set_quota(&set, 20000);
    /* Only where nothing is, and nobody. */
    g_assert_true(pin(&set, 1, 4096));
    g_assert_false(coiommu_pinset_try_add(&set, 1));
    g_assert_true(coiommu_pinset_try_add(&set, 2));
    g_assert_false(coiommu_pinset_try_add(&set, 2));
    /* The limit, and the quota. */
    g_assert_false(coiommu_pinset_reserve_guess(&set, 2, 4096, ahead, 4095));
    g_assert_false(coiommu_pinset_reserve_guess(&set, 2, 16384, ahead,
                                                UINT64_MAX));
    g_assert_true(coiommu_pinset_reserve_guess(&set, 2, 4096, ahead, 4096));
    g_assert_cmpuint(coiommu_pinset_totals(&set).ahead, ==, 4096);
    /* Used, says who is not in it, while it is being mapped: not yet. */
    g_assert_cmpint(coiommu_pinset_used(&set, 2), ==, COIOMMU_GUESS_NONE);
    coiommu_pinset_commit(&set, 2);
    coiommu_pinset_leave(&set, 2);
    g_assert_true(coiommu_pinset_try_add(&set, 3));
    g_assert_false(coiommu_pinset_reserve_guess(&set, 3, 4096, ahead, 8191));
    g_assert_true(coiommu_pinset_reserve_guess(&set, 3, 4096, ahead, 8192));
    coiommu_pinset_commit(&set, 3);
    coiommu_pinset_leave(&set, 3);
    /* A lower limit takes nothing away. */
    g_assert_true(coiommu_pinset_try_add(&set, 4));
    g_assert_false(coiommu_pinset_reserve_guess(&set, 4, 4096, ahead, 4096));
    g_assert_true(coiommu_pinset_reserve_guess(&set, 4, 4096,
                                               COIOMMU_GUESS_ESCAPE, 0));
    coiommu_pinset_commit(&set, 4);
    coiommu_pinset_leave(&set, 4);
    totals = coiommu_pinset_totals(&set);
    g_assert_cmpuint(totals.guesses, ==, 3);
    g_assert_cmpuint(totals.ahead, ==, 8192);
    g_assert_cmpuint(totals.bytes, ==, 16384);
    /* RAM goes from one, and comes back. */
    g_assert_true(coiommu_pinset_set_part(&set, 2, NULL, 1024));
    g_assert_cmpuint(coiommu_pinset_totals(&set).ahead, ==, 5120);
    g_assert_true(coiommu_pinset_set_part(&set, 2, NULL, 4096));
    /* One is used, one is unpinned, of one the map fails. */
    g_assert_cmpint(coiommu_pinset_used(&set, 2), ==, ahead);
    g_assert_cmpint(coiommu_pinset_used(&set, 2), ==, COIOMMU_GUESS_NONE);
    g_assert_cmpint(coiommu_pinset_used(&set, 77), ==, COIOMMU_GUESS_NONE);
    g_assert_true(coiommu_pinset_try_enter(&set, 3, NULL, NULL, NULL));
    g_assert_cmpint(coiommu_pinset_withdraw(&set, 3), ==, ahead);
    g_assert_cmpint(coiommu_pinset_used(&set, 3), ==, COIOMMU_GUESS_NONE);
    coiommu_pinset_release(&set, 3, 0);
    g_assert_cmpuint(coiommu_pinset_totals(&set).ahead, ==, 0);
    g_assert_true(coiommu_pinset_reserve_guess(&set, 3, 4096, ahead, 4096));
    coiommu_pinset_release(&set, 3, 0);
    coiommu_pinset_leave(&set, 3);
    totals = coiommu_pinset_totals(&set);
    g_assert_cmpuint(totals.guesses, ==, 1);
    g_assert_cmpuint(totals.ahead, ==, 0);
    g_assert_cmpuint(totals.charged, ==, 12288);
    /* Pinned again, for somebody who asks. */
    g_assert_true(pin(&set, 3, 4096));
    g_assert_true(coiommu_pinset_try_enter(&set, 3, NULL, NULL, NULL));
    g_assert_cmpint(coiommu_pinset_withdraw(&set, 3), ==, COIOMMU_GUESS_NONE);
    coiommu_pinset_release(&set, 3, 0);
    coiommu_pinset_leave(&set, 3);
    coiommu_pinset_destroy(&set);
}

/* A walk that removes as it goes meets every block. */
static void test_drain(void)
{
    CoiommuPinset set;
    uint64_t blocks[16];
    size_t i, found, met = 0, hand;

    coiommu_pinset_init(&set);
    for (i = 0; i < BLOCKS; i++) {
        g_assert_true(pin(&set, block_number(i), 4096));
    }
    hand = coiommu_pinset_end(&set);
    while (hand) {
        found = coiommu_pinset_walk(&set, &hand, NULL, NULL, blocks, 16);
        met += found;
        for (i = 0; i < found; i++) {
            /* Every third one stays, which moves entries about. */
            if (i % 3) {
                unpin(&set, blocks[i]);
            }
        }
    }
    /* One that was moved down may have been met twice. */
    g_assert_cmpuint(met, >=, BLOCKS);
    g_assert_cmpuint(met, <=, 2 * BLOCKS);
    coiommu_pinset_destroy(&set);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pinset/empty", test_empty);
    g_test_add_func("/pinset/states", test_states);
    g_test_add_func("/pinset/part", test_part);
    g_test_add_func("/pinset/random", test_random);
    g_test_add_func("/pinset/guesses", test_guesses);
    g_test_add_func("/pinset/drain", test_drain);
    g_test_add_func("/pinset/stuck", test_stuck);
    return g_test_run();
}
