/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pinning what a request asks for, and making room for it: see demand.h.
 *
 * Reclaim runs in the thread of a request that finds no room: any idle block
 * will do, those not used lately first.  It aims at the bytes that are lacking.
 */
#include "osdep.h"
#include "demand.h"
#include "let-go.h"
#include "trace.h"

/* How often a pin is tried that finds no room; see room_bytes(). */
#define ROOM_ATTEMPTS   12

/* Entries of the pin set in one slice of a walk. */
#define SLICE           64

/*
 * A reclaim frees so much, if it finds as much of the kind that it takes: the
 * next pins would find no room either.
 */
#define SPARE_BLOCKS    16
#define SPARE_BYTES     (32 * MiB)

/* ---- Reclaim ---- */

/**
 * Reclaim - the search for room
 * @bytes: how much is wanted
 * @until: when to end it, by get_clock(), if something has been freed
 * @freed: bytes that have been
 * @blocks: in how many blocks
 */
typedef struct Reclaim {
    uint64_t bytes;
    int64_t until;
    uint64_t freed;
    unsigned blocks;
} Reclaim;

/* CoiommuPinFilter: is it a guess? */
static bool filter_guess(CoiommuPin *pin, void *opaque)
{
    return pin->guess != COIOMMU_GUESS_NONE;
}

/* Looked at before each block. */
static bool reclaim_over(CoiommuPins *pins, const Reclaim *r)
{
    return r->freed >= r->bytes || coiommu_gate_waited_for(pins->gate) ||
           (r->freed && get_clock() >= r->until);
}

/* Let the block go if it is idle; @spare: and has not been used lately. */
static void reclaim_block(CoiommuPins *pins, Reclaim *r, uint64_t block,
                          bool spare)
{
    CoiommuCandidate c = {
        .now_ms = coiommu_now_ms(),
        .look = coiommu_let_go_look(pins, block),
    };

    if (spare && c.look.accessed) {
        /* The look has taken what would have told so later. */
        coiommu_history_used(&pins->history,
                             coiommu_pinset_used(&pins->set, block));
    } else if (coiommu_let_go(pins, block, &c)) {
        r->freed += c.bytes;
        r->blocks++;
    }
}

/*
 * One turn around the pin set from where the last reclaim stopped.  @filter:
 * which blocks; @spare: leave those that were used lately.
 */
static void reclaim_turn(CoiommuPins *pins, Reclaim *r,
                         CoiommuPinFilter *filter, bool spare)
{
    size_t left = coiommu_pinset_end(&pins->set);
    /* A hint: reclaims at the same time may well start at the same place. */
    size_t hand = qatomic_read(&pins->hand);
    uint64_t blocks[SLICE];

    while (left && !reclaim_over(pins, r)) {
        size_t slice = MIN(left, SLICE);
        size_t i, found;

        if (!hand) {
            hand = coiommu_pinset_end(&pins->set);
        }
        found = coiommu_pinset_walk(&pins->set, &hand, filter, NULL, blocks,
                                    slice);
        left -= slice;
        for (i = 0; i < found && !reclaim_over(pins, r); i++) {
            reclaim_block(pins, r, blocks[i], spare);
        }
    }
    qatomic_set(&pins->hand, hand);
}

/*
 * Let go of idle blocks until @bytes are free, as far as there are any.
 * Returns whether another attempt to pin may succeed.  Ends early when a writer
 * waits for the gate, and at @until if something has been freed by then.
 */
static bool reclaim(CoiommuPins *pins, uint64_t bytes, int64_t until)
{
    uint64_t block = coiommu_block_size(pins->geometry);
    uint64_t spare = MIN(SPARE_BLOCKS * block, SPARE_BYTES);
    Reclaim r = { .bytes = MAX(bytes, spare), .until = until };

    if (pins->keep) {
        return false;
    }
    coiommu_history_no_room(&pins->history);
    if (coiommu_pinset_totals(&pins->set).guesses) {
        reclaim_turn(pins, &r, filter_guess, true);
    }
    if (r.freed < bytes) {
        reclaim_turn(pins, &r, NULL, true);
    }
    if (r.freed < bytes) {
        reclaim_turn(pins, &r, NULL, false);
    }
    stat64_add(&pins->stats->reclaims, 1);
    stat64_add(&pins->stats->reclaimed_blocks, r.blocks);
    trace_coiommu_reclaim(r.blocks, r.freed, bytes);
    /* What the unpin thread is about to free is as good. */
    return r.blocks || coiommu_pinset_wait_release(&pins->set);
}

/* ---- Pin ---- */

static bool is_lack_of_room(int ret)
{
    return ret == -EDQUOT || coiommu_refusal_is_lack_of_room(ret);
}

/*
 * How much to free for a block that has found no room @attempt times before.
 * The quota says how much it lacks.  The host does not, and may log each
 * refusal, so each time it is four times as much: the last attempts let go of
 * all that is idle.
 */
static uint64_t room_bytes(CoiommuPins *pins, unsigned attempt)
{
    CoiommuPinTotals totals = coiommu_pinset_totals(&pins->set);
    uint64_t block = coiommu_block_size(pins->geometry);
    uint64_t lack = 0;

    if (totals.quota && totals.charged + block > totals.quota) {
        lack = totals.charged + block - totals.quota;
    }
    return MAX(lack, block << 2 * attempt);
}

int coiommu_demand_pin(CoiommuPins *pins, uint64_t gpa, uint64_t size,
                       int64_t until)
{
    unsigned attempt;
    int ret;

    for (attempt = 0; ; attempt++) {
        ret = coiommu_pins_pin(pins, gpa, size);
        if (!is_lack_of_room(ret) || attempt == ROOM_ATTEMPTS) {
            break;
        }
        if (!reclaim(pins, room_bytes(pins, attempt), until)) {
            if (coiommu_gate_waited_for(pins->gate)) {
                return -EINTR;
            }
            break;
        }
        if (get_clock() >= until) {
            return -EAGAIN;
        }
    }
    if (ret < 0) {
        stat64_add(&pins->stats->pin_errors, 1);
    }
    return ret;
}
