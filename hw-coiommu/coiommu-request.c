/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The doorbell, and the requests that it rings for.
 *
 * Where QEMU allows, the doorbell is served without the BQL, inside the gate:
 * two vCPUs pin different blocks at the same time.  Requests that change who
 * is attached take the BQL, after they have left the gate.
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
 * decided: see CoiommuState.
 *
 * All requests go the same way: take what the guest wrote into locals, refuse
 * what is malformed, look up, act, tell the status.  A request is synchronous:
 * its status is in its page when the doorbell write returns.
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/units.h"
#include "coiommu.h"
#include "core/request-decode.h"
#include "trace.h"

/*
 * What a request may pin for a driver that cannot ring for the rest.  With
 * blocks of 32 MiB no request comes to more.
 */
#define WHOLE_BYTES     (16 * GiB)

/*
 * How often a search for room may be cut short by those who want the gate
 * closed.  A guest can have them come again and again.
 */
#define SEARCHES_MAX    8

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

/**
 * Ring - a doorbell that is being served
 * @slot: which it was
 * @gpa: its request page
 * @table: CoiommuState.table_generation when that was looked up
 * @pins: CoiommuState.pins_generation then
 * @partial: the driver rings again for what is left
 * @until: when to leave that to it, by get_clock()
 * @req: what the page said
 * @done: PIN: ranges that are wholly pinned
 * @blocks: PIN: blocks that have been pinned for it
 * @progress: PIN: a block has been pinned, or let go to make room for one
 */
typedef struct Ring {
    uint32_t slot;
    hwaddr gpa;
    unsigned table;
    unsigned pins;
    bool partial;
    int64_t until;
    CoiommuRequest req;
    uint32_t done;
    uint64_t blocks;
    bool progress;
} Ring;

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

/*
 * Is the table given up that the request was rung for, or its page no longer
 * there?  Then no driver waits for an answer in the page.
 */
static bool ring_is_stale(CoiommuState *s, const Ring *ring)
{
    hwaddr gpa;

    return s->table_generation != ring->table ||
           request_gpa(s, ring->slot, &gpa) || gpa != ring->gpa;
}

/* ---- PIN ---- */

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

/* May the request go on, after others were let in?  Returns a COIOMMU_ST_*. */
static uint32_t pin_recheck(CoiommuState *s, const Ring *ring)
{
    /* What we have pinned so far may be gone. */
    if (s->pins_generation != ring->pins || ring_is_stale(s, ring)) {
        return COIOMMU_ST_PENDING;
    }
    return pin_check(s, &ring->req);
}

/* Let those in who wait for us to leave the gate.  Returns a COIOMMU_ST_*. */
static uint32_t pin_pause(CoiommuState *s, const Ring *ring)
{
    trace_coiommu_request_pause();
    coiommu_gate_leave(&s->gate);
    gate_enter_with_bql(s);
    return pin_recheck(s, ring);
}

static uint32_t pin_too_much(CoiommuState *s)
{
    warn_report_once("coiommu: the guest's driver asks for more than 16 GiB at "
                     "once and cannot take less, so its DMA mapping fails. Use "
                     "a newer driver, or a smaller block");
    return COIOMMU_ST_NOMEM;
}

/*
 * Is it time to let others do something?  Looked at before each block, so each
 * doorbell gets at least one block further.  Returns a COIOMMU_ST_*.
 */
static uint32_t pin_yield(CoiommuState *s, const Ring *ring)
{
    bool wanted = coiommu_waited_for(s);

    if (ring->partial && ring->progress &&
        (wanted || get_clock() >= ring->until)) {
        return COIOMMU_ST_AGAIN;
    }
    if (!ring->partial && ring->blocks >= WHOLE_BYTES >> s->block_shift) {
        return pin_too_much(s);
    }
    return wanted ? pin_pause(s, ring) : COIOMMU_ST_OK;
}

static uint32_t pin_with_bql(CoiommuState *s, const Ring *ring, hwaddr gpa,
                             uint64_t size, int *ret)
{
    uint32_t status;

    BQL_LOCK_GUARD();
    coiommu_vfio_settle(s);
    status = pin_recheck(s, ring);
    if (!status) {
        *ret = coiommu_pin_block(s, gpa, size, ring->until);
    }
    return status;
}

/*
 * Pin a block, and let nobody close the gate meanwhile.  Returns a
 * COIOMMU_ST_*; @ret: as coiommu_pin_block(), but never -EINTR.
 */
static uint32_t pin_undisturbed(CoiommuState *s, const Ring *ring, hwaddr gpa,
                                uint64_t size, int *ret)
{
    uint32_t status;

    trace_coiommu_request_undisturbed(gpa);
    coiommu_gate_leave(&s->gate);
    status = pin_with_bql(s, ring, gpa, size, ret);
    gate_enter_with_bql(s);
    return status ?: pin_recheck(s, ring);
}

/* The part of a range that lies in one block.  Returns a COIOMMU_ST_*. */
static uint32_t pin_piece(CoiommuState *s, Ring *ring, hwaddr gpa,
                          uint64_t size)
{
    unsigned searches = 0;
    uint32_t status;
    int ret;

    do {
        status = pin_yield(s, ring);
        if (status) {
            return status;
        }
        ret = coiommu_pin_block(s, gpa, size, ring->until);
        if (ret == -EINTR && ++searches >= SEARCHES_MAX) {
            status = pin_undisturbed(s, ring, gpa, size, &ret);
            if (status) {
                return status;
            }
        }
        ring->progress |= ret > 0 || ret == -EAGAIN;
    } while (ret == -EAGAIN || ret == -EINTR);
    ring->blocks += ret > 0;
    return ret < 0 ? status_of_errno(ret) : COIOMMU_ST_OK;
}

static uint32_t pin_range(CoiommuState *s, Ring *ring,
                          const CoiommuRange *range)
{
    hwaddr gpa = range->gfn << 12;
    hwaddr end = gpa + (range->npages << 12);
    uint32_t status = COIOMMU_ST_OK;

    while (!status && gpa < end) {
        hwaddr next = MIN(end, ROUND_UP(gpa + 1, 1ull << s->block_shift));

        status = pin_piece(s, ring, gpa, next - gpa);
        gpa = next;
    }
    return status;
}

static uint32_t request_pin(CoiommuState *s, Ring *ring)
{
    uint32_t status = pin_check(s, &ring->req);

    while (!status && ring->done < ring->req.count) {
        status = pin_range(s, ring, &ring->req.range[ring->done]);
        ring->done += !status;
    }
    if (ring->blocks) {
        stat64_add(&s->stats.demand_pin_requests, 1);
        stat64_add(&s->stats.demand_pin_blocks, ring->blocks);
        coiommu_ahead_miss(s);
    }
    if (status == COIOMMU_ST_AGAIN) {
        stat64_add(&s->stats.partial_requests, 1);
    }
    return status;
}

/* ---- Requests ---- */

/* PENDING is what is to become of a request whose table has gone meanwhile. */
static uint32_t request_dispatch(CoiommuState *s, Ring *ring)
{
    switch (ring->req.opcode) {
    case COIOMMU_OP_PROBE:
        return coiommu_endpoint_probe(s, ring->req.endpoint);
    case COIOMMU_OP_ATTACH:
        return coiommu_endpoint_attach(s, ring->req.endpoint);
    case COIOMMU_OP_DETACH:
        return coiommu_endpoint_detach(s, ring->req.endpoint);
    case COIOMMU_OP_PIN:
        return request_pin(s, ring);
    default:
        return COIOMMU_ST_UNSUPPORTED;
    }
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

/* Has the request failed?  That a device is not tracked is what PROBE asks. */
static bool is_failure(const Ring *ring, uint32_t status)
{
    return status && status != COIOMMU_ST_AGAIN &&
           ring->req.opcode != COIOMMU_OP_PROBE;
}

static void request_serve(CoiommuState *s, Ring *ring)
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
    request_answer(s, ring->gpa, status, ring->done);
}

/*
 * Look at the request in a slot: take it over into @ring, or answer what is
 * wrong with it.  Returns whether it is to be served.
 */
static bool request_take(CoiommuState *s, uint32_t slot, Ring *ring)
{
    uint32_t status = request_gpa(s, slot, &ring->gpa);

    if (status) {
        doorbell_bad(s, slot, status);
        return false;
    }
    ring->slot = slot;
    ring->table = s->table_generation;
    ring->pins = s->pins_generation;
    ring->partial = s->features & COIOMMU_F_PARTIAL;
    ring->until = ring->partial ? get_clock() + s->doorbell_us * SCALE_US :
                                  INT64_MAX;
    ring->done = 0;
    ring->blocks = 0;
    ring->progress = false;
    status = coiommu_request_decode(coiommu_ram_ptr(s, ring->gpa,
                                                    COIOMMU_REQ_PAGE_SIZE),
                                    &ring->req);
    trace_coiommu_request(slot, ring->req.opcode, ring->req.endpoint,
                          ring->req.count);
    if (status) {
        trace_coiommu_request_done(slot, status, 0);
        stat64_add(&s->stats.request_errors, 1);
        request_answer(s, ring->gpa, status, 0);
    }
    return !status;
}

/* The BQL is held: nobody can change the state under us. */
static void doorbell_locked(CoiommuState *s, uint32_t slot)
{
    Ring ring;

    coiommu_vfio_settle(s);
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
    Ring ring;

    take = request_take(s, slot, &ring);
    later = take && ring.req.opcode != COIOMMU_OP_PIN;
    if (take && !later) {
        request_serve(s, &ring);
    }
    coiommu_gate_leave(&s->gate);
    if (later) {
        BQL_LOCK_GUARD();
        coiommu_vfio_settle(s);
        if (!ring_is_stale(s, &ring)) {
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
