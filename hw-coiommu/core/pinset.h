/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pin set: the host's own record of which pin blocks are mapped, and the
 * lock of each block.
 *
 * It is the truth about pins; PINNED bits in guest memory are only a hint that
 * is published from it.  Memory and the cost of a walk are proportional to the
 * number of pinned blocks, never to the size of the guest.
 *
 * A thread must *enter* a block before it maps, unmaps or publishes it.  One
 * thread at a time is in a block; others wait for that block only, and come in
 * in the order in which they asked.  coiommu_pinset_try_enter() does not ask:
 * it comes in only where no thread is in and none waits, so the unpin thread,
 * which uses it, can't overtake a request.  A thread must not ask for a block
 * while it is in another one: so that can't deadlock.
 *
 * The thread in a block takes it through its states.  Bytes count against the
 * quota from reserve to release:
 *
 *   absent -- reserve --> mapping -- commit --> pinned
 *   mapping -- release --> absent           (the map has failed)
 *   pinned -- withdraw --> unmapping -- release --> absent
 *
 * Beside what is pinned a block may have bytes that are *stuck*: the host has
 * refused to unmap them, or has left open whether they are mapped.  They are
 * not part of the block any more, but count like pinned bytes until they are
 * known to be unmapped.  A block can be stuck in any state.
 *
 * Entries sit densely in an array, found through a hash from block number to
 * array index, so a walk by index can be interrupted and resumed.  A removal
 * moves the last entry into the hole: a walk goes from the end.  Entries of
 * absent blocks exist only while a thread is in or waits, or bytes are stuck.
 */
#ifndef COIOMMU_PINSET_H
#define COIOMMU_PINSET_H

#include "policy.h"
#include "sync.h"

typedef enum CoiommuPinState {
    COIOMMU_PIN_ABSENT,
    COIOMMU_PIN_MAPPING,
    COIOMMU_PIN_PINNED,
    COIOMMU_PIN_UNMAPPING,
} CoiommuPinState;

/**
 * CoiommuPin - one block
 * @block: block number, GPA >> block shift
 * @bytes: what is mapped of it, at most the block size; 0 while absent
 * @stuck: what may be mapped of it beside that
 * @part: the owner's record of what that is; NULL while it is all of its RAM
 * @next: the ticket that the next to ask for the block gets
 * @serving: whose turn it is; no thread is in the block when it equals @next
 * @state: changed only by the thread in the block
 * @guess: no request has asked for it, nor has it been used
 * @age: for the policy
 */
typedef struct CoiommuPin {
    uint64_t block;
    uint64_t bytes;
    uint64_t stuck;
    void *part;
    uint32_t next;
    uint32_t serving;
    CoiommuPinState state;
    CoiommuGuess guess;
    CoiommuAge age;
} CoiommuPin;

/**
 * CoiommuPinset - the set
 * @lock: guards all of it; innermost, held for a few instructions (or, in a
 *        walk, for a slice); the functions below take it themselves
 * @turn: some block's turn has passed on, or @released has changed
 * @pins: array of CoiommuPin
 * @index: block number -> index in @pins
 * @pinned: how many are pinned, or not unmapped yet
 * @unmapping: how many of these are being unmapped
 * @released: how many of those have become absent since the beginning
 * @bytes: sum of the bytes of what @pinned counts, and of what is stuck
 * @stuck: sum of what is stuck
 * @peak: the most that @bytes was
 * @charged: bytes that count against the quota: these, and what is being mapped
 * @quota: the most that @charged may be, 0 for no limit
 * @guesses: how many blocks are a guess
 * @ahead: bytes of those that are pinned ahead, not because of escape
 */
typedef struct CoiommuPinset {
    QemuMutex lock;
    QemuCond turn;
    GArray *pins;
    GHashTable *index;
    size_t pinned;
    size_t unmapping;
    uint64_t released;
    uint64_t bytes;
    uint64_t stuck;
    uint64_t peak;
    uint64_t charged;
    uint64_t quota;
    size_t guesses;
    uint64_t ahead;
} CoiommuPinset;

/**
 * CoiommuPinTotals - its sums at one moment; see CoiommuPinset
 */
typedef struct CoiommuPinTotals {
    size_t pinned;
    uint64_t bytes;
    uint64_t stuck;
    uint64_t peak;
    uint64_t charged;
    uint64_t quota;
    size_t guesses;
    uint64_t ahead;
} CoiommuPinTotals;

void coiommu_pinset_init(CoiommuPinset *set);
void coiommu_pinset_destroy(CoiommuPinset *set);

CoiommuPinTotals coiommu_pinset_totals(CoiommuPinset *set);

/* A lower quota than what is pinned takes nothing away by itself. */
void coiommu_pinset_set_quota(CoiommuPinset *set, uint64_t quota);

bool coiommu_pinset_has(CoiommuPinset *set, uint64_t block);

/*
 * Entry @i as it is now, pinned or not.  Returns false past the end.  An index
 * means the same block only as long as no other thread changes the set.
 */
bool coiommu_pinset_get(CoiommuPinset *set, size_t i, CoiommuPin *pin);

/*
 * Wait for our turn in a block and go in; without waiting if no thread is in
 * it.  Returns whether it is pinned, and in @pin, unless that is NULL, all that
 * is known of it.
 */
bool coiommu_pinset_enter(CoiommuPinset *set, uint64_t block, CoiommuPin *pin);
void coiommu_pinset_leave(CoiommuPinset *set, uint64_t block);

/*
 * Asked about a pinned block, with the set locked; may change its age.  Where
 * none is given, the answer is yes.
 */
typedef bool CoiommuPinFilter(CoiommuPin *pin, void *opaque);

/*
 * Go into a block if it is pinned, no thread is in it or waits for it, and
 * @filter says yes.  Never waits.  @pin: as above, if the answer is yes.
 */
bool coiommu_pinset_try_enter(CoiommuPinset *set, uint64_t block,
                              CoiommuPinFilter *filter, void *opaque,
                              CoiommuPin *pin);

/*
 * Go into a block that is absent, not stuck, and that no thread is in or
 * waits for.  Never waits.
 */
bool coiommu_pinset_try_add(CoiommuPinset *set, uint64_t block);

/*
 * Go into a block that has stuck bytes, if no thread is in it or waits for it.
 * Never waits.
 */
bool coiommu_pinset_try_stuck(CoiommuPinset *set, uint64_t block);

/*
 * The block has been used, or asked for: if it is pinned it is a guess no
 * more.  Returns what it was.
 */
CoiommuGuess coiommu_pinset_used(CoiommuPinset *set, uint64_t block);

/*
 * If other threads are unmapping blocks, wait until one of them is done.
 * Returns false if none is.  The caller must be in no block.
 */
bool coiommu_pinset_wait_release(CoiommuPinset *set);

/* For the following the caller must be in the block, in a state as above. */

/* Returns false, and changes nothing, if that would exceed the quota. */
bool coiommu_pinset_reserve(CoiommuPinset *set, uint64_t block,
                            uint64_t bytes);

/*
 * The same for a guess.  What is pinned ahead may come to @ahead bytes at
 * most, this block included.
 */
bool coiommu_pinset_reserve_guess(CoiommuPinset *set, uint64_t block,
                                  uint64_t bytes, CoiommuGuess guess,
                                  uint64_t ahead);
void coiommu_pinset_commit(CoiommuPinset *set, uint64_t block);

/* Returns what kind of guess the block still is. */
CoiommuGuess coiommu_pinset_withdraw(CoiommuPinset *set, uint64_t block);

/* @stuck bytes of the block may be mapped still. */
void coiommu_pinset_release(CoiommuPinset *set, uint64_t block,
                            uint64_t stuck);

/* The same for a block that stays in its state. */
void coiommu_pinset_set_stuck(CoiommuPinset *set, uint64_t block,
                              uint64_t stuck);

/*
 * Of a pinned block more or less is mapped than before: @bytes of it, and if
 * that isn't all of its RAM, @part tells which.  Returns false, and changes
 * nothing, if it would exceed the quota.  Release forgets @part.
 */
bool coiommu_pinset_set_part(CoiommuPinset *set, uint64_t block, void *part,
                             uint64_t bytes);

/*
 * A slice of a walk.  Goes down from *@hand (which is set to where it stopped,
 * 0 being the end), looks at no more than @max entries, and puts the numbers
 * of those that are pinned, not entered, and that @filter agrees to into
 * @blocks.  Returns how many.  What is added during a walk is not met; what is
 * in the set throughout is met at least once.
 */
size_t coiommu_pinset_walk(CoiommuPinset *set, size_t *hand,
                           CoiommuPinFilter *filter, void *opaque,
                           uint64_t *blocks, size_t max);

/* Where a walk begins. */
size_t coiommu_pinset_end(CoiommuPinset *set);

#endif /* COIOMMU_PINSET_H */
