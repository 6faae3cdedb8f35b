/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The doorbell, and the requests that it rings for.
 *
 * Where QEMU allows, the doorbell is served without the BQL, inside the gate:
 * two vCPUs pin different blocks at the same time.  Requests that change who
 * is attached take the BQL, after they have left the gate.  One that pins
 * leaves it between two blocks for whoever wants to close it, so nobody waits
 * for more than a block, however large the request.
 *
 * All requests go the same way: take what the guest wrote into locals, refuse
 * what is malformed, look up, act, tell the status.  A request is synchronous:
 * its status is in its page when the doorbell write returns.
 */
#include "qemu/osdep.h"
#include "coiommu.h"
#include "core/request-decode.h"
#include "trace.h"

/* ---- Requests ---- */

static uint32_t status_of_errno(int ret)
{
    switch (ret) {
    case 0:
        return COIOMMU_ST_OK;
    case -ENOMEM:
        return COIOMMU_ST_NOMEM;
    case -ENOSPC:
        return COIOMMU_ST_NOSPACE;
    case -EDQUOT:
        return COIOMMU_ST_QUOTA;
    default:
        return COIOMMU_ST_IO;
    }
}

/* May all of it be pinned?  Looked at before the first page is. */
static bool ranges_in_ram(CoiommuState *s, const CoiommuRequest *req)
{
    uint32_t i;

    for (i = 0; i < req->count; i++) {
        uint64_t gpa = req->range[i].gfn << 12;
        uint64_t size = req->range[i].npages << 12;

        /* What is past the table cannot be counted, so it is not pinned. */
        if (gpa >= s->dtt.size || size > s->dtt.size - gpa ||
            !coiommu_ram_contains(s, gpa, size)) {
            return false;
        }
    }
    return true;
}

static uint32_t pin_check(CoiommuState *s, const CoiommuRequest *req)
{
    if (!g_hash_table_size(s->attached)) {
        return COIOMMU_ST_STATE;
    }
    return ranges_in_ram(s, req) ? COIOMMU_ST_OK : COIOMMU_ST_RANGE;
}

/*
 * Go inside by way of the BQL.  Who closes the gate keeps the BQL until it is
 * open again, or leaves it to us to settle.
 */
static void gate_enter_with_bql(CoiommuState *s)
{
    bool inside;

    do {
        BQL_LOCK_GUARD();
        coiommu_vfio_settle(s);
        inside = coiommu_gate_enter(&s->gate);
    } while (!inside);
}

/* Let those in who wait for us to leave the gate.  Returns a COIOMMU_ST_*. */
static uint32_t pin_pause(CoiommuState *s, const CoiommuRequest *req)
{
    unsigned voided = s->voided;

    trace_coiommu_request_pause();
    coiommu_gate_leave(&s->gate);
    gate_enter_with_bql(s);
    /* What we have pinned so far may be gone, and the request page as well. */
    if (s->voided != voided) {
        return COIOMMU_ST_PENDING;
    }
    return pin_check(s, req);
}

/* Adds to *@blocks how many blocks have been pinned that were not. */
static uint32_t pin_range(CoiommuState *s, const CoiommuRequest *req,
                          const CoiommuRange *range, unsigned *blocks)
{
    hwaddr gpa = range->gfn << 12;
    hwaddr end = gpa + (range->npages << 12);

    while (gpa < end) {
        hwaddr next = MIN(end, ROUND_UP(gpa + 1, 1ull << s->block_shift));
        uint32_t status = COIOMMU_ST_OK;
        int ret;

        if (coiommu_waited_for(s)) {
            status = pin_pause(s, req);
        }
        if (status) {
            return status;
        }
        ret = coiommu_pin_block(s, gpa, next - gpa);
        if (ret >= 0) {
            *blocks += ret;
            gpa = next;
        } else if (ret != -EAGAIN) {
            return status_of_errno(ret);
        }
    }
    return COIOMMU_ST_OK;
}

static uint32_t request_pin(CoiommuState *s, const CoiommuRequest *req,
                            uint32_t *done)
{
    uint32_t status = pin_check(s, req);
    unsigned blocks = 0;

    while (!status && *done < req->count) {
        status = pin_range(s, req, &req->range[*done], &blocks);
        *done += !status;
    }
    if (blocks) {
        stat64_add(&s->stats.demand_pin_requests, 1);
        stat64_add(&s->stats.demand_pin_blocks, blocks);
        coiommu_ahead_miss(s);
    }
    return status;
}

/* PENDING is what is to become of a request that nobody is left to hear of. */
static uint32_t request_dispatch(CoiommuState *s, const CoiommuRequest *req,
                                 uint32_t *done)
{
    switch (req->opcode) {
    case COIOMMU_OP_PROBE:
        return coiommu_endpoint_probe(s, req->endpoint);
    case COIOMMU_OP_ATTACH:
        return coiommu_endpoint_attach(s, req->endpoint);
    case COIOMMU_OP_DETACH:
        return coiommu_endpoint_detach(s, req->endpoint);
    case COIOMMU_OP_PIN:
        return request_pin(s, req, done);
    default:
        return COIOMMU_ST_UNSUPPORTED;
    }
}

/* Where the request page of a slot is.  Returns a COIOMMU_ST_*. */
static uint32_t request_gpa(CoiommuState *s, uint32_t slot, hwaddr *gpa)
{
    uint64_t *entry;

    if (!s->enabled) {
        return COIOMMU_ST_STATE;
    }
    if (slot >= s->req_slots) {
        return COIOMMU_ST_INVALID;
    }
    /* ENABLE saw RAM here, but RAM can be unplugged. */
    entry = coiommu_ram_ptr(s, s->req_root + slot * sizeof(*entry),
                            sizeof(*entry));
    if (!entry) {
        return COIOMMU_ST_RANGE;
    }
    /* Once: the guest may change it. */
    *gpa = le64_to_cpu(qatomic_read(entry));
    if (*gpa % COIOMMU_REQ_PAGE_SIZE) {
        return COIOMMU_ST_INVALID;
    }
    return coiommu_ram_ptr(s, *gpa, COIOMMU_REQ_PAGE_SIZE) ?
           COIOMMU_ST_OK : COIOMMU_ST_RANGE;
}

/* Tell the status, in the request page if it is still RAM. */
static void request_answer(CoiommuState *s, hwaddr gpa, uint32_t status,
                           uint32_t done)
{
    struct coiommu_request *page = coiommu_ram_ptr(s, gpa,
                                                   COIOMMU_REQ_PAGE_SIZE);

    if (!page) {
        return;
    }
    qatomic_set(&page->done, cpu_to_le32(done));
    /* Release: who sees the status sees what came before, done and PINNED. */
    qatomic_store_release(&page->status, cpu_to_le32(status));
    coiommu_ram_set_dirty(s, gpa, COIOMMU_REQ_PAGE_SIZE);
}

/* There is no page to answer in. */
static void doorbell_bad(CoiommuState *s, uint32_t slot, uint32_t status)
{
    qatomic_set(&s->error, status);
    stat64_add(&s->stats.request_errors, 1);
    trace_coiommu_doorbell_bad(slot, status);
}

static void request_serve(CoiommuState *s, hwaddr gpa, uint32_t slot,
                          const CoiommuRequest *req)
{
    uint32_t done = 0;
    uint32_t status = request_dispatch(s, req, &done);

    trace_coiommu_request_done(slot, status, done);
    if (status == COIOMMU_ST_PENDING) {
        doorbell_bad(s, slot, COIOMMU_ST_STATE);
    } else {
        /* That a device is not tracked is what PROBE was asked. */
        if (status && req->opcode != COIOMMU_OP_PROBE) {
            stat64_add(&s->stats.request_errors, 1);
        }
        request_answer(s, gpa, status, done);
    }
}

/*
 * Look at the request in a slot: take it over into @req, or answer what is
 * wrong with it.  Returns whether it is to be served.
 */
static bool request_take(CoiommuState *s, uint32_t slot, hwaddr *gpa,
                         CoiommuRequest *req)
{
    uint32_t status = request_gpa(s, slot, gpa);

    if (status) {
        doorbell_bad(s, slot, status);
        return false;
    }
    status = coiommu_request_decode(coiommu_ram_ptr(s, *gpa,
                                                    COIOMMU_REQ_PAGE_SIZE),
                                    req);
    trace_coiommu_request(slot, req->opcode, req->endpoint, req->count);
    if (status) {
        trace_coiommu_request_done(slot, status, 0);
        stat64_add(&s->stats.request_errors, 1);
        request_answer(s, *gpa, status, 0);
    }
    return !status;
}

/* The BQL is held: nobody can change the state under us. */
static void doorbell_locked(CoiommuState *s, uint32_t slot)
{
    CoiommuRequest req;
    hwaddr gpa;

    coiommu_vfio_settle(s);
    if (request_take(s, slot, &gpa, &req)) {
        request_serve(s, gpa, slot, &req);
    }
}

/*
 * Inside the gate.  A request that needs the BQL is served when we have left;
 * what it says was taken over once, and is served as it was taken, unless the
 * table has been given up before we had the BQL: then nobody is left to hear of
 * it, and the page may be another kernel's.
 */
static void doorbell_inside(CoiommuState *s, uint32_t slot)
{
    CoiommuRequest req;
    bool take, later;
    hwaddr gpa;

    take = request_take(s, slot, &gpa, &req);
    later = take && req.opcode != COIOMMU_OP_PIN;
    if (take && !later) {
        request_serve(s, gpa, slot, &req);
    }
    coiommu_gate_leave(&s->gate);
    if (later) {
        BQL_LOCK_GUARD();
        coiommu_vfio_settle(s);
        if (s->enabled) {
            request_serve(s, gpa, slot, &req);
        } else {
            doorbell_bad(s, slot, COIOMMU_ST_STATE);
        }
    }
}

static void doorbell(CoiommuState *s, uint32_t slot)
{
    stat64_add(&s->stats.requests, 1);
    if (bql_locked()) {
        doorbell_locked(s, slot);
        return;
    }
    if (!coiommu_gate_enter(&s->gate)) {
        gate_enter_with_bql(s);
    }
    doorbell_inside(s, slot);
}

/* ---- The doorbell's page ---- */

static uint64_t coiommu_doorbell_read(void *opaque, hwaddr addr, unsigned size)
{
    return 0;
}

static void coiommu_doorbell_write(void *opaque, hwaddr addr, uint64_t value,
                                   unsigned size)
{
    if (addr == 0 && size == 4) {
        doorbell(opaque, value);
    }
}

/* Every access comes in as the guest made it: we look at its size. */
const MemoryRegionOps coiommu_doorbell_ops = {
    .read = coiommu_doorbell_read,
    .write = coiommu_doorbell_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
    .impl = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
};
