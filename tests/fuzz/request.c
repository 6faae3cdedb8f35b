/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz the decoding of request pages that change meanwhile.
 *
 * Input: a script of changes (hostile.h), whose places count words of 8 bytes
 * in the page, then the page.  Where the input ends within the ranges, its last
 * one is repeated, so that a short input can be a full page.
 *
 * Decoding must read no byte twice, so what it has read is one well-defined
 * page, however the real one changed.  From that page an independent decoder
 * must come to the same result.
 */
#include "osdep.h"
#include "request-decode.h"
#include "hostile.h"

static struct coiommu_request page;

static HostileScript script;

/* What was read, and which bytes of it were. */
static struct coiommu_request taken;
static bool is_taken[sizeof(taken)];

static void access_page(uint8_t *addr, size_t size, bool store)
{
    uint8_t *base = (uint8_t *)&page;
    size_t offset = addr - base;
    const Scribble *scribble;
    size_t i;

    if (addr < base || offset >= sizeof(page)) {
        return;
    }
    g_assert_false(store);
    g_assert_cmpuint(size, <=, sizeof(page) - offset);
    while ((scribble = hostile_script_next(&script))) {
        size_t word = scribble->kind & SCRIBBLE_HERE ? offset / 8 :
                      scribble->where % (sizeof(page) / 8);

        memcpy(base + word * 8, &scribble->value, 8);
    }
    for (i = offset; i < offset + size; i++) {
        g_assert_false(is_taken[i]);    /* read twice */
        is_taken[i] = true;
    }
    memcpy((uint8_t *)&taken + offset, addr, size);
}

/* A field as it was read. */
static uint64_t field(size_t offset, size_t size)
{
    uint64_t value = 0;
    size_t i;

    for (i = 0; i < size; i++) {
        g_assert_true(is_taken[offset + i]);
        value |= (uint64_t)((uint8_t *)&taken)[offset + i] << (8 * i);
    }
    return value;
}

#define FIELD(name) \
    field(offsetof(struct coiommu_request, name), sizeof(taken.name))

/* Checks @req against the specification's words; returns the status. */
static uint32_t reference(const CoiommuRequest *req)
{
    uint32_t opcode = FIELD(opcode), count, i;
    unsigned __int128 end, total = 0;

    g_assert_cmpuint(req->opcode, ==, opcode);
    if (opcode == COIOMMU_OP_PROBE || opcode == COIOMMU_OP_ATTACH ||
        opcode == COIOMMU_OP_DETACH) {
        g_assert_cmpuint(req->endpoint, ==, FIELD(endpoint));
        g_assert_cmpuint(req->count, ==, 0);
        return COIOMMU_ST_OK;
    }
    if (opcode != COIOMMU_OP_PIN) {
        return COIOMMU_ST_UNSUPPORTED;
    }
    count = FIELD(count);
    if (count < 1 || count > COIOMMU_REQ_MAX_RANGES) {
        return COIOMMU_ST_INVALID;
    }
    for (i = 0; i < count; i++) {
        uint64_t gfn = FIELD(range[i].gfn);
        uint64_t npages = FIELD(range[i].npages);

        end = ((unsigned __int128)gfn + npages) << 12;
        total += npages;
        if (npages == 0 || end > (unsigned __int128)1 << 64 ||
            total > COIOMMU_REQ_MAX_PAGES) {
            return COIOMMU_ST_INVALID;
        }
        g_assert_cmpuint(req->range[i].gfn, ==, gfn);
        g_assert_cmpuint(req->range[i].npages, ==, npages);
    }
    g_assert_cmpuint(req->count, ==, count);
    return COIOMMU_ST_OK;
}

static void page_take(Input *in)
{
    size_t header = offsetof(struct coiommu_request, range), given, i;

    given = in->size > header ? (in->size - header) / sizeof(page.range[0]) :
                                0;
    input_take(in, &page, sizeof(page));
    for (i = MAX(given, 1); i < COIOMMU_REQ_MAX_RANGES; i++) {
        page.range[i] = page.range[i - 1];
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = { data, size };
    CoiommuRequest req;
    uint32_t status;

    hostile_script_take(&script, &in);
    page_take(&in);
    memset(is_taken, 0, sizeof(is_taken));
    memset(&req, 0xa5, sizeof(req));

    hostile_access = access_page;
    status = coiommu_request_decode(&page, &req);
    hostile_access = NULL;

    g_assert_cmpuint(status, ==, reference(&req));
    return 0;
}
