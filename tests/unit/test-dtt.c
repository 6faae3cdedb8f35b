/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table: which roots and sizes are taken, where entries are, and PINNED
 * next to a guest that counts.
 */
#include "osdep.h"
#include "dtt.h"
#include "../../hw-coiommu/include/coiommu_abi.h"

#define ENTRIES COIOMMU_DTT_LEAF_ENTRIES

static void test_init_refuses(void)
{
    static const struct {
        uint64_t root, size;
    } cases[] = {
        { 1, 4096 }, { 8, 4096 }, { 2048, 4096 }, { 4095, 4096 },
        { 0, 0 }, { 0, 1 }, { 0, 4095 }, { 0, 4097 }, { 0, UINT64_MAX },
        /* The directory runs past the end of the address space. */
        { -4096ull, -4096ull }, { -4096ull, 1ull << 63 },
    };
    CoiommuDtt dtt;
    size_t i;
    unsigned shift;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        for (shift = COIOMMU_UNIT_SHIFT_MIN; shift <= COIOMMU_UNIT_SHIFT_MAX;
             shift++) {
            g_assert_false(coiommu_dtt_init(&dtt, cases[i].root,
                                            cases[i].size, shift));
        }
    }
}

static void test_init_sizes(void)
{
    static const struct {
        uint64_t size;
        unsigned shift;
        uint64_t units, leaves;
    } cases[] = {
        { 4096, 12, 1, 1 },
        { 4096, 16, 1, 1 },
        { 65536 + 4096, 16, 2, 1 },
        { 64ull << 20, 16, 1024, 1 },
        { (64ull << 20) + 4096, 16, 1025, 2 },
        { 1ull << 40, 16, 1ull << 24, 1ull << 14 },
        { -4096ull, 12, (1ull << 52) - 1, 1ull << 42 },
        { -4096ull, 21, 1ull << 43, 1ull << 33 },
    };
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        CoiommuDtt dtt;

        g_assert_true(coiommu_dtt_init(&dtt, 0x1000, cases[i].size,
                                       cases[i].shift));
        g_assert_cmpuint(dtt.units, ==, cases[i].units);
        g_assert_cmpuint(dtt.leaves, ==, cases[i].leaves);
        g_assert_cmpuint(coiommu_dtt_dir_bytes(&dtt), ==,
                         cases[i].leaves * 8);
        g_assert_cmpuint(dtt.root, ==, 0x1000);
        g_assert_cmpuint(dtt.size, ==, cases[i].size);
    }
}

/* The pieces are the range, in order, each within one leaf. */
static void check_spans(const CoiommuDtt *dtt, uint64_t first, uint64_t end)
{
    uint64_t unit = first, at = first;
    CoiommuDttSpan span;

    while (coiommu_dtt_next_span(dtt, &unit, end, &span)) {
        g_assert_cmpuint(span.dir_gpa, ==, dtt->root + at / ENTRIES * 8);
        g_assert_cmpuint(span.slot, ==, at % ENTRIES);
        g_assert_cmpuint(span.count, >, 0);
        g_assert_cmpuint(span.slot + span.count, <=, ENTRIES);
        at += span.count;
        g_assert_cmpuint(unit, ==, at);
    }
    g_assert_cmpuint(at, ==, MAX(first, MIN(end, dtt->units)));
}

static void test_spans(void)
{
    CoiommuDtt dtt;
    unsigned i;

    g_assert_true(coiommu_dtt_init(&dtt, 0x7000, 300ull << 20, 16));
    check_spans(&dtt, 0, 0);
    check_spans(&dtt, 0, 1);
    check_spans(&dtt, 0, UINT64_MAX);
    check_spans(&dtt, ENTRIES - 1, ENTRIES + 1);
    check_spans(&dtt, ENTRIES, 3 * ENTRIES);
    check_spans(&dtt, dtt.units - 1, dtt.units + 5);
    check_spans(&dtt, dtt.units, dtt.units + 5);
    check_spans(&dtt, UINT64_MAX - 1, UINT64_MAX);
    check_spans(&dtt, 7, 3);
    for (i = 0; i < 10000; i++) {
        uint64_t first = g_test_rand_int_range(0, 6000);

        check_spans(&dtt, first, first + g_test_rand_int_range(0, 6000));
    }
}

static void test_directory_entry(void)
{
    uint64_t gpa = 1;

    g_assert_false(coiommu_dtt_leaf(0, &gpa));
    g_assert_false(coiommu_dtt_leaf(GUINT64_TO_LE(0x5000), &gpa));
    g_assert_false(coiommu_dtt_leaf(GUINT64_TO_LE(-2ull), &gpa));
    g_assert_cmpuint(gpa, ==, 1);
    g_assert_true(coiommu_dtt_leaf(GUINT64_TO_LE(0x5001), &gpa));
    g_assert_cmpuint(gpa, ==, 0x5000);
    /* Bits outside the address are ignored. */
    g_assert_true(coiommu_dtt_leaf(GUINT64_TO_LE(-1ull), &gpa));
    g_assert_cmpuint(gpa, ==, 0x000ffffffffff000ull);
}

/* Only PINNED changes, and only in the entries that are meant. */
static void test_publish(void)
{
    static uint32_t leaf[ENTRIES];
    const uint32_t other = COIOMMU_DTT_ACCESSED | COIOMMU_DTT_COUNT_MASK;
    unsigned i;

    for (i = 0; i < ENTRIES; i++) {
        leaf[i] = GUINT32_TO_LE(other);
    }
    coiommu_dtt_publish(leaf, 10, 20);
    coiommu_dtt_publish(leaf, 15, 1);
    coiommu_dtt_publish(leaf, ENTRIES - 1, 1);
    for (i = 0; i < ENTRIES; i++) {
        bool pinned = (i >= 10 && i < 30) || i == ENTRIES - 1;

        g_assert_cmphex(GUINT32_FROM_LE(leaf[i]), ==,
                        other | (pinned ? COIOMMU_DTT_PINNED : 0));
    }
    g_assert_true(coiommu_dtt_withdraw(leaf, 0, ENTRIES));
    for (i = 0; i < ENTRIES; i++) {
        g_assert_cmphex(GUINT32_FROM_LE(leaf[i]), ==, other);
    }
}

/* Withdrawing tells of a count in any of the entries, and of nothing else. */
static void test_withdraw(void)
{
    static uint32_t leaf[ENTRIES];
    unsigned i;

    for (i = 0; i < ENTRIES; i++) {
        leaf[i] = GUINT32_TO_LE(COIOMMU_DTT_PINNED | COIOMMU_DTT_ACCESSED);
    }
    leaf[9] = leaf[30] = GUINT32_TO_LE(COIOMMU_DTT_PINNED | 1);
    g_assert_false(coiommu_dtt_withdraw(leaf, 10, 20));
    g_assert_true(coiommu_dtt_withdraw(leaf, 10, 21));
    g_assert_true(coiommu_dtt_withdraw(leaf, 9, 1));
    for (i = 0; i < ENTRIES; i++) {
        g_assert_cmpint(!!(GUINT32_FROM_LE(leaf[i]) & COIOMMU_DTT_PINNED), ==,
                        i < 9 || i > 30);
    }
}

#define COUNTS 200000

typedef struct Counter {
    uint32_t *leaf;
    unsigned lost;
} Counter;

/* The guest's half: count up, look, count down. */
static gpointer count(gpointer data)
{
    Counter *counter = data;
    unsigned i;

    for (i = 0; i < COUNTS; i++) {
        uint32_t *entry = &counter->leaf[i % 4];

        __atomic_fetch_add(entry, GUINT32_TO_LE(1), __ATOMIC_SEQ_CST);
        if (!(GUINT32_FROM_LE(__atomic_load_n(entry, __ATOMIC_RELAXED)) &
              COIOMMU_DTT_COUNT_MASK)) {
            counter->lost++;
        }
        if (i % 8 >= 4) {
            __atomic_fetch_sub(entry, GUINT32_TO_LE(1), __ATOMIC_SEQ_CST);
        }
    }
    return NULL;
}

/* PINNED comes and goes while two guest CPUs count: no count is lost. */
static void test_publish_races(void)
{
    static uint32_t leaf[ENTRIES];
    Counter counters[2] = { { .leaf = leaf }, { .leaf = leaf } };
    GThread *threads[2];
    unsigned i;

    for (i = 0; i < 2; i++) {
        threads[i] = g_thread_new("count", count, &counters[i]);
    }
    for (i = 0; i < COUNTS; i++) {
        coiommu_dtt_publish(leaf, 0, 4);
        coiommu_dtt_withdraw(leaf, 0, 4);
    }
    for (i = 0; i < 2; i++) {
        g_thread_join(threads[i]);
        g_assert_cmpuint(counters[i].lost, ==, 0);
    }
    /* Each of the two leaves COUNTS / 2 up, spread over four entries. */
    for (i = 0; i < 4; i++) {
        g_assert_cmphex(GUINT32_FROM_LE(leaf[i]), ==, 2 * COUNTS / 2 / 4);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dtt/init/refuses", test_init_refuses);
    g_test_add_func("/dtt/init/sizes", test_init_sizes);
    g_test_add_func("/dtt/spans", test_spans);
    g_test_add_func("/dtt/directory-entry", test_directory_entry);
    g_test_add_func("/dtt/publish", test_publish);
    g_test_add_func("/dtt/withdraw", test_withdraw);
    g_test_add_func("/dtt/publish-races", test_publish_races);
    return g_test_run();
}
