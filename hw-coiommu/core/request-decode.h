/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decoding a request page.
 *
 * The page is guest memory, and a hostile guest changes it while we look.  So
 * each field is read exactly once, into a CoiommuRequest of our own, and only
 * that copy is checked and used.
 */
#ifndef COIOMMU_REQUEST_DECODE_H
#define COIOMMU_REQUEST_DECODE_H

#include "../include/coiommu_abi.h"

/* Frame numbers stay below this, so that GFN << 12 fits 64 bits. */
#define COIOMMU_GFN_END (1ull << 52)

/**
 * CoiommuRange - guest memory that a request is about, host byte order
 * @gfn: first frame
 * @npages: number of frames, at least 1
 */
typedef struct CoiommuRange {
    uint64_t gfn;
    uint64_t npages;
} CoiommuRange;

/**
 * CoiommuRequest - a request, copied and checked
 * @opcode: COIOMMU_OP_*
 * @endpoint: PROBE, ATTACH, DETACH: which one
 * @count: PIN: valid entries of @range; else 0
 * @range: what to pin; no overflow, COIOMMU_REQ_MAX_PAGES pages in all
 */
typedef struct CoiommuRequest {
    uint32_t opcode;
    uint32_t endpoint;
    uint32_t count;
    CoiommuRange range[COIOMMU_REQ_MAX_RANGES];
} CoiommuRequest;

/*
 * Copy and check.  Returns a COIOMMU_ST_*: OK, INVALID for a malformed field,
 * UNSUPPORTED for an unknown opcode.  @req->opcode is valid in any case.
 */
uint32_t coiommu_request_decode(const struct coiommu_request *page,
                                CoiommuRequest *req);

#endif /* COIOMMU_REQUEST_DECODE_H */
