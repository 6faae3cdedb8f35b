/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How often a host that refuses is asked.
 */
#include "osdep.h"
#include <errno.h>
#include "refusal.h"

#define BLOCK   (2ull << 20)

static void setup(CoiommuRefusal *refusal)
{
    coiommu_refusal_init(refusal);
}

/* A guest asks each ms for @ms: how often does the host get to hear of it? */
static unsigned asked(CoiommuRefusal *refusal, int error, uint64_t pinned,
                      int64_t from, int64_t ms)
{
    unsigned count = 0;
    int64_t now;

    for (now = from; now < from + ms; now++) {
        int ret = coiommu_refusal_check(refusal, 0, pinned + BLOCK, now);

        if (!ret) {
            coiommu_refusal_note(refusal, error, 0, pinned, BLOCK, now);
            count++;
        } else {
            g_assert_cmpint(ret, ==, error);
        }
    }
    return count;
}

/* Pauses of 10, 20, ... 1280 ms, and then one of 2 s at a time. */
static void test_pauses(void)
{
    static const int errors[] = { -ENOMEM, -ENOSPC };
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(errors); i++) {
        CoiommuRefusal refusal;

        setup(&refusal);
        g_assert_cmpuint(asked(&refusal, errors[i], BLOCK, 0, 2550), ==, 8);
        g_assert_cmpuint(asked(&refusal, errors[i], BLOCK, 2550, 30000), ==,
                         15);
        coiommu_refusal_destroy(&refusal);
    }
}

/* What is unpinned makes room, whatever the time. */
static void test_room(void)
{
    CoiommuRefusal refusal;

    setup(&refusal);
    coiommu_refusal_note(&refusal, -ENOMEM, 0, 8 * BLOCK, BLOCK, 100);
    g_assert_cmpint(coiommu_refusal_check(&refusal, 0, 9 * BLOCK, 100), ==,
                    -ENOMEM);
    g_assert_cmpint(coiommu_refusal_check(&refusal, 0, 8 * BLOCK, 100), ==, 0);
    /* A success up to there proves nothing. */
    coiommu_refusal_success(&refusal, 8 * BLOCK);
    g_assert_cmpint(coiommu_refusal_check(&refusal, 0, 9 * BLOCK, 109), ==,
                    -ENOMEM);
    /* Refused below: so much for that. */
    coiommu_refusal_note(&refusal, -ENOMEM, 0, 4 * BLOCK, BLOCK, 109);
    g_assert_cmpint(coiommu_refusal_check(&refusal, 0, 8 * BLOCK, 109), ==,
                    -ENOMEM);
    g_assert_cmpint(coiommu_refusal_check(&refusal, 0, 9 * BLOCK, 110), ==, 0);
    coiommu_refusal_note(&refusal, -ENOMEM, 0, 8 * BLOCK, BLOCK, 110);
    g_assert_cmpint(coiommu_refusal_check(&refusal, 0, 9 * BLOCK, 129), ==,
                    -ENOMEM);
    /* Nor does a smaller one than was refused. */
    coiommu_refusal_success(&refusal, 9 * BLOCK - 4096);
    g_assert_cmpint(coiommu_refusal_check(&refusal, 0, 9 * BLOCK, 129), ==,
                    -ENOMEM);
    /* One beyond it: the limit has gone. */
    coiommu_refusal_success(&refusal, 9 * BLOCK);
    g_assert_cmpint(coiommu_refusal_check(&refusal, 0, 99 * BLOCK, 111), ==, 0);
    coiommu_refusal_note(&refusal, -ENOMEM, 0, 8 * BLOCK, BLOCK, 130);
    g_assert_cmpint(coiommu_refusal_check(&refusal, 0, 9 * BLOCK, 139), ==,
                    -ENOMEM);
    g_assert_cmpint(coiommu_refusal_check(&refusal, 0, 9 * BLOCK, 140), ==, 0);
    coiommu_refusal_destroy(&refusal);
}

/* Several that have asked at the same time are refused once. */
static void test_together(void)
{
    CoiommuRefusal refusal;
    unsigned i;

    setup(&refusal);
    for (i = 0; i < 100; i++) {
        coiommu_refusal_note(&refusal, -ENOSPC, 0, BLOCK, BLOCK, 50);
    }
    g_assert_cmpint(coiommu_refusal_check(&refusal, 0, 2 * BLOCK, 59), ==,
                    -ENOSPC);
    g_assert_cmpint(coiommu_refusal_check(&refusal, 0, 2 * BLOCK, 60), ==, 0);
    coiommu_refusal_destroy(&refusal);
}

/* Other errors: some are free, and no success wipes them out. */
static void test_others(void)
{
    CoiommuRefusal refusal;
    unsigned i;

    setup(&refusal);
    for (i = 0; i < COIOMMU_REFUSAL_FREE; i++) {
        coiommu_refusal_note(&refusal, -EFAULT, 0, BLOCK, BLOCK, 0);
        g_assert_cmpint(coiommu_refusal_check(&refusal, 0, 2 * BLOCK, 0), ==,
                        0);
        coiommu_refusal_success(&refusal, 3 * BLOCK);
    }
    coiommu_refusal_note(&refusal, -EFAULT, 0, BLOCK, BLOCK, 0);
    g_assert_cmpint(coiommu_refusal_check(&refusal, 0, BLOCK, 9), ==, -EFAULT);
    g_assert_cmpint(coiommu_refusal_check(&refusal, 0, BLOCK, 10), ==, 0);
    g_assert_cmpuint(asked(&refusal, -EFAULT, BLOCK, 10, 60000), <=, 40);
    coiommu_refusal_destroy(&refusal);
}

/*
 * A block that somebody asks for again and again keeps no other one from being
 * pinned, unless there are many of them.
 */
static void test_blocks(void)
{
    CoiommuRefusal refusal;
    uint64_t block;

    setup(&refusal);
    g_assert_cmpuint(asked(&refusal, -EFAULT, BLOCK, 0, 60000), <=, 45);
    for (block = 1; block < COIOMMU_REFUSAL_BLOCKS; block++) {
        g_assert_cmpint(coiommu_refusal_check(&refusal, block, 2 * BLOCK,
                                              60000), ==, 0);
        coiommu_refusal_note(&refusal, -EFAULT, block, BLOCK, BLOCK, 60000);
        g_assert_cmpint(coiommu_refusal_check(&refusal, block, 2 * BLOCK,
                                              60000), ==, -EFAULT);
    }
    g_assert_cmpint(coiommu_refusal_check(&refusal, block, 2 * BLOCK, 60000),
                    ==, 0);
    coiommu_refusal_note(&refusal, -EFAULT, block, BLOCK, BLOCK, 60000);
    g_assert_cmpint(coiommu_refusal_check(&refusal, 99, 2 * BLOCK, 60000), ==,
                    -EFAULT);
    coiommu_refusal_reset(&refusal);
    g_assert_cmpint(coiommu_refusal_check(&refusal, 0, 2 * BLOCK, 60000), ==,
                    0);
    coiommu_refusal_destroy(&refusal);
}

/* What went long ago, another kind of error, and a reset begin anew. */
static void test_forget(void)
{
    CoiommuRefusal refusal;

    setup(&refusal);
    asked(&refusal, -ENOMEM, BLOCK, 0, 10000);
    coiommu_refusal_note(&refusal, -ENOMEM, 0, BLOCK, BLOCK,
                         10000 + COIOMMU_REFUSAL_FORGET);
    g_assert_cmpint(coiommu_refusal_check(&refusal, 0, 2 * BLOCK,
                                          10010 + COIOMMU_REFUSAL_FORGET), ==,
                    0);
    asked(&refusal, -ENOMEM, BLOCK, 30000, 10000);
    coiommu_refusal_note(&refusal, -EIO, 0, BLOCK, BLOCK, 40000);
    g_assert_cmpint(coiommu_refusal_check(&refusal, 0, 2 * BLOCK, 40000), ==,
                    0);
    coiommu_refusal_note(&refusal, -ENOMEM, 0, BLOCK, BLOCK, 40000);
    g_assert_cmpint(coiommu_refusal_check(&refusal, 0, 2 * BLOCK, 40009), ==,
                    -ENOMEM);
    coiommu_refusal_reset(&refusal);
    g_assert_cmpint(coiommu_refusal_check(&refusal, 0, 2 * BLOCK, 40009), ==,
                    0);
    coiommu_refusal_destroy(&refusal);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/refusal/pauses", test_pauses);
    g_test_add_func("/refusal/room", test_room);
    g_test_add_func("/refusal/together", test_together);
    g_test_add_func("/refusal/others", test_others);
    g_test_add_func("/refusal/blocks", test_blocks);
    g_test_add_func("/refusal/forget", test_forget);
    return g_test_run();
}
