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
        unsigned unit_shift;
        unsigned want;
    } cases[] = {
        { 4096, 12, 21 },
        { 1 * GIB, 16, 21 },
        { 1 * GIB, 21, 21 },
        { 32767ull << 21, 16, 21 },         /* just half of the budget */
        { (32767ull << 21) + 1, 16, 22 },
        { 64 * GIB, 16, 22 },
        { 128 * GIB, 16, 23 },
        { 1024 * GIB, 16, 26 },
        { 32767ull << 30, 16, 30 },
        { UINT64_MAX, 16, 30 },
    };
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_assert_cmpuint(coiommu_auto_block_shift(cases[i].ram,
                                                  cases[i].unit_shift),
                         ==, cases[i].want);
    }
}

/*
 * MAX_MAPPING bytes touch half of the budget, with each page in a block of its
 * own and the first one only by its last byte.
 */
static void test_max_mapping_fits(void)
{
    unsigned budget;

    for (budget = 0; budget < 300; budget++) {
        uint64_t size = coiommu_max_mapping(budget);
        uint64_t start = 4095;
        uint64_t pages = ((start + size - 1) >> 12) + 1;

        g_assert_cmpuint(size, >=, 4096);
        g_assert_cmpuint(pages, ==, MAX(budget / 2, 2));
    }
    g_assert_cmpuint(coiommu_max_mapping(65535), ==, 32766ull << 12);
}

static void test_max_mapping_unlimited(void)
{
    g_assert_cmpuint(coiommu_max_mapping(UINT64_MAX), ==, UINT64_MAX);
    g_assert_cmpuint(coiommu_max_mapping(UINT64_MAX - 1), ==, UINT64_MAX);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/geometry/auto-block", test_auto_block);
    g_test_add_func("/geometry/max-mapping/fits", test_max_mapping_fits);
    g_test_add_func("/geometry/max-mapping/unlimited",
                    test_max_mapping_unlimited);
    return g_test_run();
}
