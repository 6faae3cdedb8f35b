/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine of pinning: blocks are mapped, published in the guest's table, and
 * let go.  It knows neither VFIO nor QEMU; CoiommuPinsOps are its way to them.
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
 * unpin.  They agree until RAM changes in the block.  Then pieces that go are
 * unmapped, and as the others must stay mapped, for a device may be using them,
 * the block is pinned in part from then on: the pin set has a list of what is
 * mapped.  The next request for the block maps what is missing.
 *
 * Locking.  Functions about one block must be called inside the gate or under
 * the BQL, with no block entered; no lock is held during a call to VFIO.
 * Functions about all blocks must be called under the BQL with the gate closed:
 * then no other thread is in any block.
 */
#ifndef COIOMMU_PINS_H
#define COIOMMU_PINS_H

#include "gate.h"
#include "geometry.h"
#include "history.h"
#include "pinset.h"
#include "ram.h"
#include "refusal.h"
#include "stats.h"
#include "table.h"

/**
 * CoiommuPinsOps - what the engine calls
 * @map: map a piece in all containers.  Returns 0 or a negative errno; then no
 *       container maps it, but for what is unknown
 * @unmap: unmap such a piece.  What is refused is unknown afterwards
 * @unknown: how many bytes of the block are unknown; if there are any, have
 *           coiommu_pins_retry_stuck() called later
 * @clear: try again to unmap those
 * @pinned: a block has been pinned
 *
 * All are called inside the gate or under the BQL, all but @pinned with the
 * block entered.
 */
typedef struct CoiommuPinsOps {
    int (*map)(void *opaque, const CoiommuExtent *piece);
    void (*unmap)(void *opaque, uint64_t iova, uint64_t size);
    uint64_t (*unknown)(void *opaque, uint64_t block);
    void (*clear)(void *opaque, uint64_t block);
    void (*pinned)(void *opaque);
} CoiommuPinsOps;

/**
 * CoiommuPins - what is pinned, and for which table
 * @ops, @opaque: see above
 * @geometry, @ram, @gate, @stats: the owner's, which must outlive it
 * @table: where pins are published
 * @set: the truth about pins; it has a lock of its own, as the next two
 * @refusal: what the host has refused
 * @history: what happened to blocks
 * @counted: a device is attached, so counts tell what is in use.  Changes under
 *           the BQL with the gate closed, as the next two
 * @keep: nothing is let go of, for a device that does not count
 * @generation: changes when the table is taken over or given up, and when
 *              everything has been unpinned.  What was decided before a lock
 *              and is done after it must find it as it was
 * @hand: where the next reclaim begins; a hint, atomic
 */
typedef struct CoiommuPins {
    const CoiommuPinsOps *ops;
    void *opaque;
    const CoiommuGeometry *geometry;
    const CoiommuRam *ram;
    CoiommuGate *gate;
    CoiommuStats *stats;
    CoiommuTable table;
    CoiommuPinset set;
    CoiommuRefusal refusal;
    CoiommuHistory history;
    bool counted;
    bool keep;
    unsigned generation;
    size_t hand;
} CoiommuPins;

/* @ops to @stats must be set; the rest is made here. */
void coiommu_pins_init(CoiommuPins *pins);
void coiommu_pins_destroy(CoiommuPins *pins);

/* ---- One block: pins.c ---- */

/*
 * Pin the block that [gpa, gpa + size) lies in, in all containers, and publish
 * it, if there is room.  Of a block that is pinned already what may be missing
 * is mapped; if nothing is, only the units of the range are published, so that
 * costs no more than the range is long.  Returns 1 if the block has been
 * pinned, 0 if it was, or a negative errno, -EDQUOT for the quota; after an
 * error no container holds anything that it did not hold before, but for what
 * is stuck.
 */
int coiommu_pins_pin(CoiommuPins *pins, uint64_t gpa, uint64_t size);

/*
 * Pin one that no request has asked for, if it is absent, no thread is in it,
 * and there is room: see coiommu_pinset_reserve_guess() for @ahead.  Never
 * waits for a block.  Returns as above; 0 also if there is nothing to pin.
 */
int coiommu_pins_pin_guess(CoiommuPins *pins, uint64_t block,
                           CoiommuGuess guess, uint64_t ahead);

/*
 * Pin what is missing of a block and publish it, whatever the host has refused
 * before.  Returns 0 or a negative errno.
 */
int coiommu_pins_fill(CoiommuPins *pins, uint64_t block);

/*
 * Unpin a block that the caller is in and that is pinned, unless the table has
 * counts in it.  Returns whether it was.  @pin: what the pin set said of it
 * when the caller entered it.
 */
bool coiommu_pins_unpin_try(CoiommuPins *pins, const CoiommuPin *pin);

/*
 * For walks from coiommu_pinset_end() down to 0: unpin the next block, unless
 * another thread is in it or waits for it, or a device is attached and the
 * table has counts in it.
 */
void coiommu_pins_unpin_next(CoiommuPins *pins, size_t *hand);

/* From any thread, for translate(): is the block of this address pinned? */
bool coiommu_pins_covers(CoiommuPins *pins, uint64_t gpa);

/* ---- All blocks: pins-all.c.  The BQL must be held, the gate closed ---- */

/*
 * What has been decided about pins and is not done yet must not be done any
 * more.
 */
void coiommu_pins_renew(CoiommuPins *pins);

/* Withdraw and unmap all. */
void coiommu_pins_unpin_all(CoiommuPins *pins);

/* Publish what is pinned in a table that the guest has just enabled. */
void coiommu_pins_publish_all(CoiommuPins *pins);

/* Clear PINNED in a table that is given up, and leave pinned what is. */
void coiommu_pins_withdraw_all(CoiommuPins *pins);

/* Unmap all pieces of blocks that are not the same in the next list of RAM. */
void coiommu_pins_ram_changing(CoiommuPins *pins, const GArray *next);

/**
 * CoiommuPinsTarget - one container, for a replay
 * @map: map a piece in it; returns 0 or a negative errno
 * @unmap: unmap such a piece
 */
typedef struct CoiommuPinsTarget {
    int (*map)(void *opaque, const CoiommuExtent *piece);
    void (*unmap)(void *opaque, uint64_t iova, uint64_t size);
    void *opaque;
} CoiommuPinsTarget;

/*
 * Map what is pinned and begins in [start, last] into a container that has just
 * been added.  Returns 0 or a negative errno; then it maps nothing of that.
 */
int coiommu_pins_replay(CoiommuPins *pins, const CoiommuPinsTarget *target,
                        uint64_t start, uint64_t last);

/* Containers have gone: less may be stuck. */
void coiommu_pins_refresh_stuck(CoiommuPins *pins);

/*
 * Try again to unmap what is stuck, in up to @max blocks; *@hand: where to go
 * on, 0 for a new turn.  The BQL must be held; the gate need not be closed.
 */
void coiommu_pins_retry_stuck(CoiommuPins *pins, size_t *hand, unsigned max);

/* ---- For pins-all.c and let-go.c, about a block that the caller is in ---- */

/* What is mapped of it, a new reference. */
GArray *coiommu_pins_mapped(CoiommuPins *pins, const CoiommuPin *pin);

/*
 * Without a table there is nothing to publish in, nor to withdraw from.
 * Withdrawing returns whether the table has a count in the block.
 */
void coiommu_pins_publish(CoiommuPins *pins, const CoiommuPin *pin);
bool coiommu_pins_withdraw(CoiommuPins *pins, uint64_t block);

/* Unmap these pieces. */
void coiommu_pins_unmap(CoiommuPins *pins, const GArray *pieces);

/* Unmap a block that is pinned, and withdrawn from the table. */
void coiommu_pins_unpin(CoiommuPins *pins, const CoiommuPin *pin);

/* Tell the pin set what is stuck of a block that stays in its state. */
void coiommu_pins_update_stuck(CoiommuPins *pins, uint64_t block);

/* Try to unmap what is stuck of a block.  Returns whether something was. */
bool coiommu_pins_clear_stuck(CoiommuPins *pins, uint64_t block);

#endif /* COIOMMU_PINS_H */
