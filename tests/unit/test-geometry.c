/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Block sizes and mapping budgets.
 */
#include "osdep.h"
#include "geometry.h"

#define GIB (1ull << 30)

static void test_auto_block(void)
{
    static const struct {
        uint64_t ram;
        uint64_t page;
        uint64_t mappings;
        unsigned unit_shift;
        unsigned want;
    } cases[] = {
        { 4096, 4096, 65535, 12, 21 },
        { 1 * GIB, 4096, 65535, 16, 21 },
        { 1 * GIB, 4096, 65535, 21, 21 },
        { 32767ull << 21, 4096, 65535, 16, 21 },    /* just half of them */
        { (32767ull << 21) + 1, 4096, 65535, 16, 22 },
        { 64 * GIB, 4096, 65535, 16, 22 },
        { 128 * GIB, 4096, 65535, 16, 23 },
        { 1024 * GIB, 4096, 65535, 16, 26 },
        { 32767ull << 30, 4096, 65535, 16, 30 },
        { UINT64_MAX, 4096, 65535, 16, 30 },
        /* No limit: as fine as it goes. */
        { 1024 * GIB, 4096, UINT64_MAX, 16, 21 },
        { UINT64_MAX, 4096, UINT64_MAX, 16, 21 },
        /* Few mappings. */
        { 1 * GIB, 4096, 1024, 16, 21 },
        { 1 * GIB, 4096, 1023, 16, 22 },
        { 1 * GIB, 4096, 2, 16, 30 },
        { 1 * GIB, 4096, 0, 16, 30 },
        /* Huge pages. */
        { 1 * GIB, 2ull << 20, 65535, 12, 21 },
        { 1 * GIB, 32ull << 20, 65535, 12, 25 },
        { 8 * GIB, 1 * GIB, UINT64_MAX, 12, 30 },
        { 8 * GIB, 16 * GIB, 65535, 12, 30 },
    };
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_assert_cmpuint(coiommu_auto_block_shift(cases[i].ram, cases[i].page,
                                                  cases[i].mappings,
                                                  cases[i].unit_shift),
                         ==, cases[i].want);
    }
}

/* Against its definition: it fits, and nothing smaller does. */
static void test_auto_block_smallest(void)
{
    GRand *rand = g_rand_new_with_seed(1);
    int i;

    for (i = 0; i < 20000; i++) {
        uint64_t ram = 1 + ((uint64_t)g_rand_int(rand) <<
                            g_rand_int_range(rand, 0, 20));
        uint64_t page = 1ull << g_rand_int_range(rand, 12, 31);
        uint64_t mappings = g_rand_int(rand) >> g_rand_int_range(rand, 0, 32);
        unsigned unit = g_rand_int_range(rand, 12, 22);
        unsigned shift = coiommu_auto_block_shift(ram, page, mappings, unit);
        unsigned s;

        g_assert_cmpuint(shift, <=, 30);
        for (s = MAX(unit, 21); s <= shift; s++) {
            bool fits = 1ull << s >= page &&
                        (ram + (1ull << s) - 1) >> s <= mappings / 2;

            g_assert_true(s == shift ? fits || s == 30 : !fits);
        }
    }
    g_rand_free(rand);
}

/*
 * MAX_MAPPING bytes touch half of the budget, with each page in a block of its
 * own and the first one only by its last byte.
 */
static void test_max_mapping_fits(void)
{
    unsigned budget;

    for (budget = 0; budget < 300; budget++) {
        uint64_t size = coiommu_max_mapping(budget, 1ull << 40, 21);
        uint64_t start = 4095;
        uint64_t pages = ((start + size - 1) >> 12) + 1;

        g_assert_cmpuint(size, >=, 4096);
        g_assert_cmpuint(pages, ==, MAX(budget / 2, 2));
    }
    g_assert_cmpuint(coiommu_max_mapping(65535, 1ull << 40, 21), ==,
                     32766ull << 12);
}

static void test_max_mapping_unlimited(void)
{
    g_assert_cmpuint(coiommu_max_mapping(UINT64_MAX, UINT64_MAX, 12), ==,
                     UINT64_MAX);
    g_assert_cmpuint(coiommu_max_mapping(UINT64_MAX - 1, UINT64_MAX, 12), ==,
                     UINT64_MAX);
    /* All of RAM is 16 blocks, which are half of 32 but not of 31. */
    g_assert_cmpuint(coiommu_max_mapping(32, 32ull << 20, 21), ==, UINT64_MAX);
    g_assert_cmpuint(coiommu_max_mapping(31, 32ull << 20, 21), ==, 14 << 12);
    g_assert_cmpuint(coiommu_max_mapping(32, (32ull << 20) + 1, 21), ==,
                     15 << 12);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/geometry/auto-block", test_auto_block);
    g_test_add_func("/geometry/auto-block/smallest",
                    test_auto_block_smallest);
    g_test_add_func("/geometry/max-mapping/fits", test_max_mapping_fits);
    g_test_add_func("/geometry/max-mapping/unlimited",
                    test_max_mapping_unlimited);
    return g_test_run();
}
