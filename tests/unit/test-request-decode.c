/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decoding of request pages: what is refused, and a page that changes while it
 * is looked at.
 */
#include "osdep.h"
#include "request-decode.h"

#define ROUNDS 20000
/* Give up on a page that does not change after so long, in microseconds. */
#define PATIENCE (20 * G_USEC_PER_SEC)

static struct coiommu_request *page_new(uint32_t opcode, uint32_t count)
{
    struct coiommu_request *page = g_new0(struct coiommu_request, 1);

    page->opcode = GUINT32_TO_LE(opcode);
    page->count = GUINT32_TO_LE(count);
    return page;
}

static void set_range(struct coiommu_request *page, unsigned i, uint64_t gfn,
                      uint64_t npages)
{
    page->range[i].gfn = GUINT64_TO_LE(gfn);
    page->range[i].npages = GUINT64_TO_LE(npages);
}

static void test_opcodes(void)
{
    uint32_t opcode;

    for (opcode = 0; opcode < 300; opcode++) {
        g_autofree struct coiommu_request *page = page_new(opcode, 1);
        CoiommuRequest req;
        uint32_t status;

        page->endpoint = GUINT32_TO_LE(0x1234);
        set_range(page, 0, 7, 1);
        status = coiommu_request_decode(page, &req);
        g_assert_cmpuint(req.opcode, ==, opcode);
        if (opcode < COIOMMU_OP_PROBE || opcode > COIOMMU_OP_PIN) {
            g_assert_cmpuint(status, ==, COIOMMU_ST_UNSUPPORTED);
            continue;
        }
        g_assert_cmpuint(status, ==, COIOMMU_ST_OK);
        g_assert_cmpuint(req.endpoint, ==, 0x1234);
        g_assert_cmpuint(req.count, ==, opcode == COIOMMU_OP_PIN);
    }
}

static void test_counts(void)
{
    static const uint32_t bad[] = {
        0, COIOMMU_REQ_MAX_RANGES + 1, 256, 0x7fffffff, 0x80000000, UINT32_MAX
    };
    CoiommuRequest req;
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree struct coiommu_request *page = page_new(COIOMMU_OP_PIN,
                                                           bad[i]);

        set_range(page, 0, 1, 1);
        g_assert_cmpuint(coiommu_request_decode(page, &req), ==,
                         COIOMMU_ST_INVALID);
        g_assert_cmpuint(req.count, ==, 0);
    }
}

static void test_full_page(void)
{
    g_autofree struct coiommu_request *page =
        page_new(COIOMMU_OP_PIN, COIOMMU_REQ_MAX_RANGES);
    CoiommuRequest req;
    unsigned i;

    for (i = 0; i < COIOMMU_REQ_MAX_RANGES; i++) {
        set_range(page, i, 1000 * i, 1 + i % 64);
    }
    g_assert_cmpuint(coiommu_request_decode(page, &req), ==, COIOMMU_ST_OK);
    g_assert_cmpuint(req.count, ==, COIOMMU_REQ_MAX_RANGES);
    for (i = 0; i < COIOMMU_REQ_MAX_RANGES; i++) {
        g_assert_cmpuint(req.range[i].gfn, ==, 1000 * i);
        g_assert_cmpuint(req.range[i].npages, ==, 1 + i % 64);
    }
}

static void test_ranges(void)
{
    static const struct {
        uint64_t gfn[2];
        uint64_t npages[2];
        uint32_t want;
    } cases[] = {
        { { 0, 1 }, { 1, 1 }, COIOMMU_ST_OK },
        { { 0, 0 }, { 8192, 8192 }, COIOMMU_ST_OK },
        { { 0, 0 }, { 8192, 8193 }, COIOMMU_ST_INVALID },
        { { 0, 0 }, { 16384, 1 }, COIOMMU_ST_INVALID },
        { { 0, 0 }, { 16385, 1 }, COIOMMU_ST_INVALID },
        { { 0, 0 }, { 0, 1 }, COIOMMU_ST_INVALID },
        { { 0, 0 }, { 1, 0 }, COIOMMU_ST_INVALID },
        { { 0, 0 }, { UINT64_MAX, 2 }, COIOMMU_ST_INVALID },
        { { 0, 0 }, { 2, UINT64_MAX }, COIOMMU_ST_INVALID },
        { { 0, 0 }, { 1ull << 63, 1ull << 63 }, COIOMMU_ST_INVALID },
        { { COIOMMU_GFN_END - 1, 0 }, { 1, 1 }, COIOMMU_ST_OK },
        { { COIOMMU_GFN_END - 1, 0 }, { 2, 1 }, COIOMMU_ST_INVALID },
        { { COIOMMU_GFN_END, 0 }, { 1, 1 }, COIOMMU_ST_INVALID },
        { { UINT64_MAX, 0 }, { 1, 1 }, COIOMMU_ST_INVALID },
        { { 0, UINT64_MAX }, { 1, 16000 }, COIOMMU_ST_INVALID },
    };
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree struct coiommu_request *page = page_new(COIOMMU_OP_PIN, 2);
        CoiommuRequest req;

        set_range(page, 0, cases[i].gfn[0], cases[i].npages[0]);
        set_range(page, 1, cases[i].gfn[1], cases[i].npages[1]);
        g_test_message("case %zu", i);
        g_assert_cmpuint(coiommu_request_decode(page, &req), ==,
                         cases[i].want);
    }
}

/* What decoding promises of a request, whatever was in the page. */
static void check_promise(const CoiommuRequest *req, uint32_t status)
{
    uint64_t total = 0;
    uint32_t i;

    if (status != COIOMMU_ST_OK) {
        return;
    }
    g_assert_cmpuint(req->opcode, >=, COIOMMU_OP_PROBE);
    g_assert_cmpuint(req->opcode, <=, COIOMMU_OP_PIN);
    g_assert_cmpuint(req->count, <=, COIOMMU_REQ_MAX_RANGES);
    g_assert_cmpint(req->count != 0, ==, req->opcode == COIOMMU_OP_PIN);
    for (i = 0; i < req->count; i++) {
        g_assert_cmpuint(req->range[i].npages, >, 0);
        g_assert_cmpuint(req->range[i].npages, <=, COIOMMU_REQ_MAX_PAGES);
        g_assert_cmpuint(req->range[i].gfn, <=,
                         COIOMMU_GFN_END - req->range[i].npages);
        total += req->range[i].npages;
    }
    g_assert_cmpuint(total, <=, COIOMMU_REQ_MAX_PAGES);
}

/* Good and evil values for one field, in turns. */
static gpointer flip(gpointer data)
{
    struct coiommu_request *page = data;
    uint64_t n = 0;

    while (!__atomic_load_n(&page->reserved[0], __ATOMIC_RELAXED)) {
        uint32_t evil = n++ & 1;

        __atomic_store_n(&page->count, GUINT32_TO_LE(evil ? UINT32_MAX : 4),
                         __ATOMIC_RELAXED);
        __atomic_store_n(&page->range[1].npages,
                         GUINT64_TO_LE(evil ? UINT64_MAX : 3),
                         __ATOMIC_RELAXED);
        __atomic_store_n(&page->range[2].gfn,
                         GUINT64_TO_LE(evil ? UINT64_MAX - 1 : 3),
                         __ATOMIC_RELAXED);
    }
    return NULL;
}

static void test_changing_page(void)
{
    g_autofree struct coiommu_request *page = page_new(COIOMMU_OP_PIN, 4);
    gint64 end = g_get_monotonic_time() + PATIENCE;
    unsigned i, good = 0, bad = 0;
    GThread *thread;

    for (i = 0; i < 4; i++) {
        set_range(page, i, i, 1);
    }
    thread = g_thread_new("flip", flip, page);
    /* Until both faces of the page have been seen often. */
    while ((good < ROUNDS || bad < ROUNDS) && g_get_monotonic_time() < end) {
        CoiommuRequest req;
        uint32_t status = coiommu_request_decode(page, &req);

        check_promise(&req, status);
        if (status == COIOMMU_ST_OK) {
            good++;
        } else {
            bad++;
        }
    }
    __atomic_store_n(&page->reserved[0], 1, __ATOMIC_RELAXED);
    g_thread_join(thread);
    g_assert_cmpuint(good, >, 0);
    g_assert_cmpuint(bad, >, 0);
}

static void test_random_pages(void)
{
    unsigned round, i;

    for (round = 0; round < ROUNDS; round++) {
        g_autofree struct coiommu_request *page =
            page_new(g_test_rand_int_range(0, 6),
                     g_test_rand_int_range(0, 260));
        unsigned width = g_test_rand_int_range(1, 64);
        uint32_t status;
        CoiommuRequest req;

        for (i = 0; i < COIOMMU_REQ_MAX_RANGES; i++) {
            uint64_t x = (uint64_t)(uint32_t)g_test_rand_int() << 32 |
                         (uint32_t)g_test_rand_int();

            set_range(page, i, x >> width, 1 + (x >> 57));
        }
        status = coiommu_request_decode(page, &req);
        check_promise(&req, status);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/request/opcodes", test_opcodes);
    g_test_add_func("/request/counts", test_counts);
    g_test_add_func("/request/full-page", test_full_page);
    g_test_add_func("/request/ranges", test_ranges);
    g_test_add_func("/request/changing-page", test_changing_page);
    g_test_add_func("/request/random-pages", test_random_pages);
    return g_test_run();
}
