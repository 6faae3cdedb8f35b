/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pinning and unpinning of blocks.
 *
 * A block is the unit that is mapped and unmapped: aligned, of fixed size, and
 * never split, because VFIO cannot take a part out of a mapping.  It is mapped
 * piece by piece where a hole or the end of RAM cuts it: block 0, for one, is
 * in two pieces around the legacy hole.
 *
 * Order of things, so that the table never promises what is not so:
 *   pin:   map in all containers, then enter in the pin set, then publish;
 *   unpin: withdraw, then remove from the pin set, then unmap.
 *
 * The pieces of a block are computed from the list of RAM at pin and again at
 * unpin.  They agree, because a block whose RAM changes is unpinned before the
 * list does.
 *
 * Pinning and unpinning one block runs in the gate or under the BQL, and with
 * the block entered in the pin set: no lock is held during a call to VFIO.
 * What is about all blocks runs under the BQL with the gate closed, so that
 * nobody else is in any block.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "coiommu.h"
#include "trace.h"

/*
 * How often a pin that finds no room is tried again, each time after something
 * was freed for it.  More than once, as another pin may have taken that.
 */
#define ROOM_ATTEMPTS 8

static hwaddr block_start(CoiommuState *s, uint64_t block)
{
    return block << s->block_shift;
}

static hwaddr block_end(CoiommuState *s, uint64_t block)
{
    return (block + 1) << s->block_shift;
}

/* How much RAM is in a block? */
static uint64_t block_bytes(CoiommuState *s, uint64_t block)
{
    hwaddr gpa = block_start(s, block);
    uint64_t bytes = 0;
    CoiommuExtent piece;

    while (coiommu_ram_next(s->ram.extents, &gpa, block_end(s, block),
                            &piece)) {
        bytes += piece.size;
    }
    return bytes;
}

/* Unmap the pieces of a block that lie below @end, in all containers. */
static void block_unmap(CoiommuState *s, uint64_t block, hwaddr end)
{
    hwaddr gpa = block_start(s, block);
    CoiommuExtent piece;

    while (coiommu_ram_next(s->ram.extents, &gpa, end, &piece)) {
        coiommu_vfio_unmap(s, piece.gpa, piece.size);
    }
}

/* Map all pieces of a block, or none. */
static int block_map(CoiommuState *s, uint64_t block)
{
    hwaddr gpa = block_start(s, block);
    int64_t start = get_clock();
    CoiommuExtent piece;
    int ret = 0;

    while (coiommu_ram_next(s->ram.extents, &gpa, block_end(s, block),
                            &piece)) {
        ret = coiommu_vfio_map(s, &piece);
        if (ret) {
            block_unmap(s, block, piece.gpa);
            break;
        }
    }
    coiommu_stats_pin_time(s, get_clock() - start);
    return ret;
}

static void block_publish(CoiommuState *s, uint64_t block)
{
    hwaddr gpa = block_start(s, block);
    CoiommuExtent piece;

    while (coiommu_ram_next(s->ram.extents, &gpa, block_end(s, block),
                            &piece)) {
        coiommu_table_publish(s, piece.gpa, piece.size);
    }
}

static void block_withdraw(CoiommuState *s, uint64_t block)
{
    coiommu_table_withdraw(s, block_start(s, block), 1ull << s->block_shift);
}

/* ---- One block ---- */

/* Map a block that is entered and absent, and put it into the pin set. */
static int block_pin(CoiommuState *s, uint64_t block)
{
    uint64_t bytes = block_bytes(s, block);
    int ret = -EDQUOT;

    if (coiommu_pinset_reserve(&s->pins, block, bytes)) {
        ret = block_map(s, block);
        if (ret) {
            coiommu_pinset_release(&s->pins, block);
        } else {
            coiommu_pinset_commit(&s->pins, block);
            coiommu_unpin_pinned(s, block);
        }
    }
    trace_coiommu_pin(block, block_start(s, block), bytes, ret);
    return ret;
}

/* As coiommu_pin_block(), without making room. */
static int pin_attempt(CoiommuState *s, uint64_t block)
{
    int64_t start = get_clock();
    bool pinned = coiommu_pinset_enter(&s->pins, block);
    int ret = 0;

    stat64_max(&s->stats.wait_max_ns, get_clock() - start);
    if (!pinned) {
        ret = block_pin(s, block);
    }
    if (!ret) {
        block_publish(s, block);
    }
    coiommu_pinset_leave(&s->pins, block);
    return ret ? ret : !pinned;
}

static bool is_lack_of_room(int ret)
{
    return ret == -EDQUOT || ret == -ENOSPC || ret == -ENOMEM;
}

static void report_failure(CoiommuState *s, uint64_t block, int ret)
{
    stat64_add(&s->stats.pin_errors, 1);
    if (ret == -EDQUOT) {
        warn_report_once("coiommu: max-pinned does not allow to pin guest "
                         "memory at 0x%" HWADDR_PRIx ", and all that is "
                         "pinned is in use; the guest's DMA mapping fails. "
                         "Raise max-pinned", block_start(s, block));
        return;
    }
    warn_report_once("coiommu: pinning guest memory at 0x%" HWADDR_PRIx
                     " failed: %s; the guest's DMA mapping fails. Raise the "
                     "memlock limit or the number of DMA mappings if they "
                     "are the reason", block_start(s, block), strerror(-ret));
}

int coiommu_pin_block(CoiommuState *s, uint64_t block)
{
    int attempt, ret;

    for (attempt = 0; ; attempt++) {
        ret = pin_attempt(s, block);
        if (!is_lack_of_room(ret) || attempt == ROOM_ATTEMPTS) {
            break;
        }
        if (!coiommu_unpin_reclaim(s)) {
            if (coiommu_waited_for(s)) {
                return -EAGAIN;
            }
            break;
        }
    }
    if (ret < 0) {
        report_failure(s, block, ret);
    }
    return ret;
}

void coiommu_unpin_block(CoiommuState *s, uint64_t block)
{
    coiommu_pinset_withdraw(&s->pins, block);
    block_unmap(s, block, block_end(s, block));
    coiommu_pinset_release(&s->pins, block);
    stat64_add(&s->stats.unpinned_blocks, 1);
    trace_coiommu_unpin(block, block_start(s, block));
}

bool coiommu_unpin_try(CoiommuState *s, uint64_t block)
{
    block_withdraw(s, block);
    /*
     * The other half of the guest's barrier between its count and its look at
     * PINNED: one of the two sees what the other did.
     */
    smp_mb();
    if (coiommu_table_busy(s, block_start(s, block), 1ull << s->block_shift)) {
        block_publish(s, block);
        trace_coiommu_unpin_race(block, block_start(s, block));
        return false;
    }
    coiommu_unpin_block(s, block);
    return true;
}

/* ---- All blocks: BQL held, gate closed ---- */

/* Unpin one, with nobody about. */
static void unpin_alone(CoiommuState *s, uint64_t block)
{
    coiommu_pinset_enter(&s->pins, block);
    if (s->enabled) {
        block_withdraw(s, block);
    }
    coiommu_unpin_block(s, block);
    coiommu_pinset_leave(&s->pins, block);
}

void coiommu_unpin_all(CoiommuState *s)
{
    CoiommuPinTotals totals = coiommu_pinset_totals(&s->pins);
    CoiommuPin pin;

    trace_coiommu_unpin_all(totals.pinned, totals.bytes);
    s->unpinned_all++;
    while (totals.pinned-- &&
           coiommu_pinset_get(&s->pins, totals.pinned, &pin)) {
        unpin_alone(s, pin.block);
    }
}

void coiommu_pin_publish_all(CoiommuState *s)
{
    CoiommuPin pin;
    size_t i;

    for (i = 0; coiommu_pinset_get(&s->pins, i, &pin); i++) {
        block_publish(s, pin.block);
    }
}

/* ---- Replay into a new container ---- */

static void replay_undo(CoiommuState *s, CoiommuContainer *container,
                        hwaddr start, hwaddr end)
{
    CoiommuExtent piece;

    while (coiommu_ram_next(s->ram.extents, &start, end, &piece)) {
        coiommu_vfio_unmap_one(container, piece.gpa, piece.size);
    }
}

/* Map the pieces of a block in [start, end) into one container, or none. */
static int replay_block(CoiommuState *s, CoiommuContainer *container,
                        hwaddr start, hwaddr end)
{
    hwaddr gpa = start;
    CoiommuExtent piece;
    int ret;

    while (coiommu_ram_next(s->ram.extents, &gpa, end, &piece)) {
        ret = coiommu_vfio_map_one(container, &piece);
        if (ret) {
            replay_undo(s, container, start, piece.gpa);
            return ret;
        }
    }
    return 0;
}

static void replay_error(CoiommuState *s, CoiommuContainer *container,
                         int ret, Error **errp)
{
    CoiommuPinTotals totals = coiommu_pinset_totals(&s->pins);

    if (ret == -ENOSPC) {
        error_setg(errp, "coiommu: the device's IOMMU can hold %u mappings, "
                   "and the %zu blocks that are pinned for other devices need "
                   "more: plug it in when less is pinned, or start with a "
                   "larger block", container->dma_max_mappings, totals.pinned);
        return;
    }
    error_setg_errno(errp, -ret, "coiommu: cannot map the %" PRIu64 " bytes "
                     "that are pinned for other devices", totals.bytes);
}

bool coiommu_pin_replay(CoiommuState *s, CoiommuContainer *container,
                        hwaddr start, hwaddr last, Error **errp)
{
    CoiommuPin pin;
    int ret = 0;
    size_t i;

    for (i = 0; coiommu_pinset_get(&s->pins, i, &pin); i++) {
        hwaddr gpa = block_start(s, pin.block);

        if (gpa < start || gpa > last) {
            continue;
        }
        ret = replay_block(s, container, gpa, block_end(s, pin.block));
        if (ret) {
            replay_error(s, container, ret, errp);
            break;
        }
    }
    if (!ret) {
        return true;
    }
    stat64_add(&s->stats.pin_errors, 1);
    while (i-- && coiommu_pinset_get(&s->pins, i, &pin)) {
        hwaddr gpa = block_start(s, pin.block);

        if (gpa >= start && gpa <= last) {
            replay_undo(s, container, gpa, block_end(s, pin.block));
        }
    }
    return false;
}

/* ---- Changes of guest RAM ---- */

/* Is [gpa, end) the same memory in both lists? */
static bool pieces_equal(const GArray *a, const GArray *b, hwaddr gpa,
                         hwaddr end)
{
    hwaddr gpa_a = gpa, gpa_b = gpa;
    CoiommuExtent x, y;

    for (;;) {
        bool more = coiommu_ram_next(a, &gpa_a, end, &x);

        if (more != coiommu_ram_next(b, &gpa_b, end, &y)) {
            return false;
        }
        if (!more) {
            return true;
        }
        if (x.gpa != y.gpa || x.size != y.size || x.mr != y.mr ||
            x.offset != y.offset) {
            return false;
        }
    }
}

void coiommu_pin_ram_changing(CoiommuState *s, GArray *next)
{
    size_t i = coiommu_pinset_end(&s->pins);
    CoiommuPin pin;

    while (i-- && coiommu_pinset_get(&s->pins, i, &pin)) {
        if (!pieces_equal(s->ram.extents, next, block_start(s, pin.block),
                          block_end(s, pin.block))) {
            trace_coiommu_unpin_ram_gone(pin.block, block_start(s, pin.block));
            unpin_alone(s, pin.block);
        }
    }
}

bool coiommu_pin_covers(CoiommuState *s, hwaddr addr)
{
    return coiommu_pinset_has(&s->pins, addr >> s->block_shift);
}
