/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The doorbell, and the requests that it rings for.
 *
 * Where QEMU allows, the doorbell is served without the BQL, inside the gate:
 * two vCPUs pin different blocks at the same time.  Requests that change
 * what is attached take the BQL, after they have left the gate.
 *
 * A doorbell takes a bounded time, since its vCPU cannot be stopped meanwhile,
 * holds the BQL where QEMU does not allow otherwise, and is in an RCU read-side
 * section.  After some 10 ms, or when a thread wants to close the gate, a
 * request that pins is answered AGAIN between two blocks, and the driver rings
 * for the rest.  A driver that does not know AGAIN has the whole request served
 * at once; it leaves the gate between two blocks and comes back.
 *
 * What is decided under one lock and done under another (after such a pause,
 * or when the BQL had to be taken) must find the generation in which it was
 * decided: see ring.h.
 *
 * All requests go the same way: take what the guest wrote into locals, refuse
 * what is malformed, look up, act, tell the status.  A request is synchronous:
 * its status is in its page when the doorbell write returns.
 */
#include "qemu/osdep.h"
#include "hw/coiommu/endpoint/endpoint.h"
#include "hw/coiommu/trace.h"
#include "pin-request.h"
#include "request.h"

/*
 * Returns a COIOMMU_ST_*, PENDING if the table has gone meanwhile: the caller
 * must then write no answer.
 */
static uint32_t request_dispatch(CoiommuState *s, CoiommuRing *ring)
{
    switch (ring->req.opcode) {
    case COIOMMU_OP_PROBE:
        return coiommu_endpoint_probe(s, ring->req.endpoint);
    case COIOMMU_OP_ATTACH:
        return coiommu_endpoint_attach(s, ring->req.endpoint);
    case COIOMMU_OP_DETACH:
        return coiommu_endpoint_detach(s, ring->req.endpoint);
    case COIOMMU_OP_PIN:
        return coiommu_pin_request(s, ring);
    default:
        return COIOMMU_ST_UNSUPPORTED;
    }
}

/* There is no page to answer in. */
static void doorbell_bad(CoiommuState *s, uint32_t slot, uint32_t status)
{
    qatomic_set(&s->error, status);
    stat64_add(&s->stats.request_errors, 1);
    trace_coiommu_doorbell_bad(slot, status);
}

/* Has the request failed?  That a device is not tracked is what PROBE asks. */
static bool is_failure(const CoiommuRing *ring, uint32_t status)
{
    return status && status != COIOMMU_ST_AGAIN &&
           ring->req.opcode != COIOMMU_OP_PROBE;
}

static void request_serve(CoiommuState *s, CoiommuRing *ring)
{
    uint32_t status = request_dispatch(s, ring);

    trace_coiommu_request_done(ring->slot, status, ring->done);
    if (status == COIOMMU_ST_PENDING) {
        doorbell_bad(s, ring->slot, COIOMMU_ST_STATE);
        return;
    }
    if (is_failure(ring, status)) {
        stat64_add(&s->stats.request_errors, 1);
    }
    coiommu_ring_answer(s, ring, status);
}

/*
 * Look at the request in a slot: take it over into @ring, or answer what is
 * wrong with it.  Returns whether it is to be served.
 */
static bool request_take(CoiommuState *s, uint32_t slot, CoiommuRing *ring)
{
    void *page;
    uint32_t status = coiommu_ring_find(s, slot, ring, &page);

    if (status) {
        doorbell_bad(s, slot, status);
        return false;
    }
    ring->partial = s->features & COIOMMU_F_PARTIAL;
    ring->until = ring->partial ? get_clock() + s->doorbell_us * SCALE_US :
                                  INT64_MAX;
    ring->done = 0;
    ring->blocks = 0;
    ring->progress = false;
    status = coiommu_request_decode(page, &ring->req);
    trace_coiommu_request(slot, ring->req.opcode, ring->req.endpoint,
                          ring->req.count);
    if (status) {
        trace_coiommu_request_done(slot, status, 0);
        stat64_add(&s->stats.request_errors, 1);
        coiommu_ring_answer(s, ring, status);
    }
    return !status;
}

/* The BQL is held: no other thread can change the state meanwhile. */
static void doorbell_locked(CoiommuState *s, uint32_t slot)
{
    CoiommuRing ring;

    coiommu_vfio_refresh(s->domain.vfio);
    if (request_take(s, slot, &ring)) {
        request_serve(s, &ring);
    }
}

/*
 * Inside the gate.  A request that needs the BQL is served when we have left;
 * what it says was taken over once, and is served as it was taken, unless its
 * table has been given up before we had the BQL: another kernel may have
 * brought a new one by then.
 */
static void doorbell_inside(CoiommuState *s, uint32_t slot)
{
    bool take, later;
    CoiommuRing ring;

    take = request_take(s, slot, &ring);
    later = take && ring.req.opcode != COIOMMU_OP_PIN;
    if (take && !later) {
        request_serve(s, &ring);
    }
    coiommu_gate_leave(&s->gate);
    if (later) {
        BQL_LOCK_GUARD();
        coiommu_vfio_refresh(s->domain.vfio);
        if (!coiommu_ring_is_stale(s, &ring)) {
            request_serve(s, &ring);
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
        coiommu_gate_enter_with_bql(s);
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
