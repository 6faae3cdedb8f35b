/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PIN requests: the blocks of their ranges are pinned one after the other.
 *
 * Between two blocks the request looks whether it is time to let others do
 * something: see request.c.  What may have changed when it comes back is looked
 * at again.
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/units.h"
#include "hw/coiommu/core/demand.h"
#include "hw/coiommu/policy/limits.h"
#include "hw/coiommu/trace.h"
#include "pin-request.h"

/*
 * What a request may pin for a driver that cannot ring for the rest.  With
 * blocks of 32 MiB no request comes to more.
 */
#define WHOLE_BYTES     (16 * GiB)

/*
 * How often a search for room may be cut short by writers that want the gate
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

/* May all of it be pinned?  Looked at before the first page is. */
static bool ranges_in_ram(CoiommuState *s, const CoiommuRequest *req)
{
    uint64_t tracked = s->domain.pins.table.dtt.size;
    uint32_t i;

    for (i = 0; i < req->count; i++) {
        uint64_t gpa = req->range[i].gfn << 12;
        uint64_t size = req->range[i].npages << 12;

        /* What is past the table cannot be counted, so it is not pinned. */
        if (gpa >= tracked || size > tracked - gpa ||
            !coiommu_ram_contains(&s->ram, gpa, size)) {
            return false;
        }
    }
    return true;
}

static uint32_t pin_check(CoiommuState *s, const CoiommuRequest *req)
{
    if (!s->domain.pins.counted) {
        return COIOMMU_ST_STATE;
    }
    return ranges_in_ram(s, req) ? COIOMMU_ST_OK : COIOMMU_ST_RANGE;
}

/*
 * A writer keeps the BQL until it has opened the gate again, or leaves that to
 * the next thread with the BQL to settle: this one.
 */
void coiommu_gate_enter_with_bql(CoiommuState *s)
{
    bool inside;

    do {
        BQL_LOCK_GUARD();
        coiommu_vfio_refresh(s->domain.vfio);
        inside = coiommu_gate_enter(&s->gate);
    } while (!inside);
}

/* May the request go on, after others were let in?  Returns a COIOMMU_ST_*. */
static uint32_t pin_recheck(CoiommuState *s, CoiommuRing *ring)
{
    /* What we have pinned so far may be gone. */
    if (s->domain.pins.generation != ring->pins ||
        coiommu_ring_is_stale(s, ring)) {
        return COIOMMU_ST_PENDING;
    }
    return pin_check(s, &ring->req);
}

/* Let writers in that wait for the gate.  Returns a COIOMMU_ST_*. */
static uint32_t pin_pause(CoiommuState *s, CoiommuRing *ring)
{
    trace_coiommu_request_pause();
    coiommu_gate_leave(&s->gate);
    coiommu_gate_enter_with_bql(s);
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
static uint32_t pin_yield(CoiommuState *s, CoiommuRing *ring)
{
    bool wanted = coiommu_gate_waited_for(&s->gate);

    if (ring->partial && ring->progress &&
        (wanted || get_clock() >= ring->until)) {
        return COIOMMU_ST_AGAIN;
    }
    if (!ring->partial &&
        ring->blocks >= coiommu_block_at(&s->geometry, WHOLE_BYTES)) {
        return pin_too_much(s);
    }
    return wanted ? pin_pause(s, ring) : COIOMMU_ST_OK;
}

/* As coiommu_demand_pin(); tells the operator of a failure. */
static int demand(CoiommuState *s, hwaddr gpa, uint64_t size, int64_t until)
{
    int ret = coiommu_demand_pin(&s->domain.pins, gpa, size, until);

    if (ret < 0 && ret != -EINTR && ret != -EAGAIN) {
        coiommu_limits_report(gpa, ret);
    }
    return ret;
}

static uint32_t pin_with_bql(CoiommuState *s, CoiommuRing *ring, hwaddr gpa,
                             uint64_t size, int *ret)
{
    uint32_t status;

    BQL_LOCK_GUARD();
    coiommu_vfio_refresh(s->domain.vfio);
    status = pin_recheck(s, ring);
    if (!status) {
        *ret = demand(s, gpa, size, ring->until);
    }
    return status;
}

/*
 * Pin a block, with the gate kept from being closed meanwhile.  Returns a
 * COIOMMU_ST_*; @ret: as coiommu_demand_pin(), but never -EINTR.
 */
static uint32_t pin_undisturbed(CoiommuState *s, CoiommuRing *ring, hwaddr gpa,
                                uint64_t size, int *ret)
{
    uint32_t status;

    trace_coiommu_request_undisturbed(gpa);
    coiommu_gate_leave(&s->gate);
    status = pin_with_bql(s, ring, gpa, size, ret);
    coiommu_gate_enter_with_bql(s);
    /* Whatever came of it: the page to answer in may have gone meanwhile. */
    return pin_recheck(s, ring) ?: status;
}

/* The part of a range that lies in one block.  Returns a COIOMMU_ST_*. */
static uint32_t pin_piece(CoiommuState *s, CoiommuRing *ring, hwaddr gpa,
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
        ret = demand(s, gpa, size, ring->until);
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

static uint32_t pin_range(CoiommuState *s, CoiommuRing *ring,
                          const CoiommuRange *range)
{
    hwaddr gpa = range->gfn << 12;
    hwaddr end = gpa + (range->npages << 12);
    uint32_t status = COIOMMU_ST_OK;

    while (!status && gpa < end) {
        hwaddr next = MIN(end, coiommu_block_end(&s->geometry,
                                          coiommu_block_at(&s->geometry, gpa)));

        status = pin_piece(s, ring, gpa, next - gpa);
        gpa = next;
    }
    return status;
}

uint32_t coiommu_pin_request(CoiommuState *s, CoiommuRing *ring)
{
    uint32_t status = pin_check(s, &ring->req);

    while (!status && ring->done < ring->req.count) {
        status = pin_range(s, ring, &ring->req.range[ring->done]);
        ring->done += !status;
    }
    if (ring->blocks) {
        stat64_add(&s->stats.demand_pin_requests, 1);
        stat64_add(&s->stats.demand_pin_blocks, ring->blocks);
        coiommu_history_miss(&s->domain.pins.history);
    }
    if (status == COIOMMU_ST_AGAIN) {
        stat64_add(&s->stats.partial_requests, 1);
    }
    return status;
}
