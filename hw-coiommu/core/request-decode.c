/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decoding a request page: see request-decode.h.
 */
#include "osdep.h"
#include "request-decode.h"

/* The atomic loads keep the compiler from reading a field a second time. */
static uint32_t load_le32(const __le32 *field)
{
    return GUINT32_FROM_LE(__atomic_load_n(field, __ATOMIC_RELAXED));
}

static uint64_t load_le64(const __le64 *field)
{
    return GUINT64_FROM_LE(__atomic_load_n(field, __ATOMIC_RELAXED));
}

static uint32_t decode_ranges(const struct coiommu_request *page,
                              CoiommuRequest *req)
{
    uint32_t count = load_le32(&page->count);
    uint64_t budget = COIOMMU_REQ_MAX_PAGES;
    uint32_t i;

    if (count == 0 || count > COIOMMU_REQ_MAX_RANGES) {
        return COIOMMU_ST_INVALID;
    }
    for (i = 0; i < count; i++) {
        uint64_t gfn = load_le64(&page->range[i].gfn);
        uint64_t npages = load_le64(&page->range[i].npages);

        if (npages == 0 || npages > budget) {
            return COIOMMU_ST_INVALID;
        }
        /* npages is small by now: the subtraction cannot wrap. */
        if (gfn > COIOMMU_GFN_END - npages) {
            return COIOMMU_ST_INVALID;
        }
        budget -= npages;
        req->range[i].gfn = gfn;
        req->range[i].npages = npages;
    }
    req->count = count;
    return COIOMMU_ST_OK;
}

uint32_t coiommu_request_decode(const struct coiommu_request *page,
                                CoiommuRequest *req)
{
    req->opcode = load_le32(&page->opcode);
    req->endpoint = load_le32(&page->endpoint);
    req->count = 0;

    switch (req->opcode) {
    case COIOMMU_OP_PROBE:
    case COIOMMU_OP_ATTACH:
    case COIOMMU_OP_DETACH:
        return COIOMMU_ST_OK;
    case COIOMMU_OP_PIN:
        return decode_ranges(page, req);
    default:
        return COIOMMU_ST_UNSUPPORTED;
    }
}
