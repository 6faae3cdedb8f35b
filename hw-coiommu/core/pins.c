/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pinning and unpinning of one block: see pins.h.
 *
 * A thread enters the block in the pin set first, and is the only one that
 * maps, unmaps or publishes it until it leaves.  What the set says of the block
 * when it is entered (CoiommuPin) stays true meanwhile, but for what this
 * thread changes itself; so it is asked once.
 */
#include "osdep.h"
#include "pieces.h"
#include "pins.h"
#include "trace.h"

static const CoiommuExtent *piece_at(const GArray *pieces, guint i)
{
    return &g_array_index(pieces, CoiommuExtent, i);
}

static uint64_t pieces_bytes(const GArray *pieces)
{
    uint64_t bytes = 0;
    guint i;

    for (i = 0; i < pieces->len; i++) {
        bytes += piece_at(pieces, i)->size;
    }
    return bytes;
}

/* All pieces of the block that guest RAM has now. */
static GArray *pieces_of_ram(CoiommuPins *pins, uint64_t block)
{
    return coiommu_pieces_list(pins->geometry, pins->ram->extents, block);
}

GArray *coiommu_pins_mapped(CoiommuPins *pins, const CoiommuPin *pin)
{
    return pin->part ? g_array_ref(pin->part) :
                       pieces_of_ram(pins, pin->block);
}

/* ---- In the containers ---- */

/* Unmap the first @count pieces. */
static void unmap_some(CoiommuPins *pins, const GArray *pieces, guint count)
{
    guint i;

    for (i = 0; i < count; i++) {
        const CoiommuExtent *piece = piece_at(pieces, i);

        pins->ops->unmap(pins->opaque, piece->gpa, piece->size);
    }
}

void coiommu_pins_unmap(CoiommuPins *pins, const GArray *pieces)
{
    unmap_some(pins, pieces, pieces->len);
}

/* A map in all containers, or a refusal, has taken @ns nanoseconds. */
static void count_time(CoiommuPins *pins, int64_t ns)
{
    uint64_t us = ns / SCALE_US;
    unsigned bucket = 64 - clz64(us);

    stat64_add(&pins->stats->pin_time[MIN(bucket,
                                          COIOMMU_PIN_TIME_BUCKETS - 1)], 1);
}

/* Map all pieces, or none.  Returns 0 or a negative errno. */
static int map_all(CoiommuPins *pins, const GArray *pieces)
{
    int64_t start = get_clock();
    int ret = 0;
    guint i;

    for (i = 0; i < pieces->len; i++) {
        ret = pins->ops->map(pins->opaque, piece_at(pieces, i));
        if (ret) {
            unmap_some(pins, pieces, i);
            break;
        }
    }
    count_time(pins, get_clock() - start);
    return ret;
}

/* ---- In the table ---- */

/* @whole: these are all pieces of RAM that the block has. */
static void publish_pieces(CoiommuPins *pins, const GArray *pieces, bool whole)
{
    uint64_t unit = coiommu_unit_size(pins->geometry);
    guint i;

    for (i = 0; i < pieces->len; i++) {
        uint64_t start = piece_at(pieces, i)->gpa;
        uint64_t end = start + piece_at(pieces, i)->size;

        if (!whole) {
            /* The rest of a unit may be in a piece that is not mapped. */
            start = ROUND_UP(start, unit);
            end = ROUND_DOWN(end, unit);
        }
        if (start < end) {
            coiommu_table_publish(&pins->table, start, end - start);
        }
    }
}

void coiommu_pins_publish(CoiommuPins *pins, const CoiommuPin *pin)
{
    if (pins->table.enabled) {
        g_autoptr(GArray) pieces = coiommu_pins_mapped(pins, pin);

        publish_pieces(pins, pieces, !pin->part);
    }
}

bool coiommu_pins_withdraw(CoiommuPins *pins, uint64_t block)
{
    return coiommu_table_withdraw(&pins->table,
                                  coiommu_block_start(pins->geometry, block),
                                  coiommu_block_size(pins->geometry));
}

/* ---- What the host has refused ---- */

void coiommu_pins_update_stuck(CoiommuPins *pins, uint64_t block)
{
    coiommu_pinset_set_stuck(&pins->set, block,
                             pins->ops->unknown(pins->opaque, block));
}

bool coiommu_pins_clear_stuck(CoiommuPins *pins, uint64_t block)
{
    if (!pins->ops->unknown(pins->opaque, block)) {
        return false;
    }
    pins->ops->clear(pins->opaque, block);
    coiommu_pins_update_stuck(pins, block);
    return true;
}

/*
 * May the host be asked for what is not mapped of a block?  If it has refused
 * lately, what it has said may be the answer.
 */
static int ask_host(CoiommuPins *pins, const CoiommuPin *pin)
{
    int64_t now = coiommu_now_ms();
    uint64_t total;
    int ret;

    /* Nearly always there is no refusal to go by. */
    if (!coiommu_refusal_check(&pins->refusal, pin->block, UINT64_MAX, now)) {
        return 0;
    }
    total = coiommu_pinset_totals(&pins->set).charged - pin->bytes +
            coiommu_pieces_bytes(pins->geometry, pins->ram->extents,
                                 pin->block);
    ret = coiommu_refusal_check(&pins->refusal, pin->block, total, now);
    if (ret) {
        stat64_add(&pins->stats->pin_unasked, 1);
        trace_coiommu_pin_unasked(pin->block, total, ret);
    }
    return ret;
}

/* It has been asked for @bytes of it, which are charged, and has refused. */
static void note_refusal(CoiommuPins *pins, uint64_t block, uint64_t bytes,
                         int ret)
{
    uint64_t total = coiommu_pinset_totals(&pins->set).charged;

    coiommu_refusal_note(&pins->refusal, ret, block, total - bytes, bytes,
                         coiommu_now_ms());
}

/*
 * It has pinned what it was asked for.  What other threads are asking for at
 * this moment is charged as well, but may be refused.
 */
static void note_success(CoiommuPins *pins)
{
    coiommu_refusal_success(&pins->refusal,
                            coiommu_pinset_totals(&pins->set).bytes);
}

/* ---- Pin ---- */

/*
 * Map a block that is entered and absent, and put it into the pin set.  See
 * coiommu_pinset_reserve_guess() for the last two.
 */
static int block_pin(CoiommuPins *pins, uint64_t block, const GArray *pieces,
                     CoiommuGuess guess, uint64_t ahead)
{
    uint64_t bytes = pieces_bytes(pieces);
    int ret = -EDQUOT;

    if (coiommu_pinset_reserve_guess(&pins->set, block, bytes, guess, ahead)) {
        ret = map_all(pins, pieces);
        if (ret) {
            /* After such a guess there are none for a while anyway. */
            if (guess == COIOMMU_GUESS_NONE) {
                note_refusal(pins, block, bytes, ret);
            }
            coiommu_pinset_release(&pins->set, block,
                                   pins->ops->unknown(pins->opaque, block));
        } else {
            coiommu_pinset_commit(&pins->set, block);
            note_success(pins);
            pins->ops->pinned(pins->opaque);
        }
    }
    trace_coiommu_pin(block, coiommu_block_start(pins->geometry, block), bytes,
                      ret);
    return ret;
}

/* Map what is missing of a block that is pinned in part. */
static int block_complete(CoiommuPins *pins, const CoiommuPin *pin)
{
    g_autoptr(GArray) missing = coiommu_pieces_select(pins->geometry,
                                                      pins->ram->extents,
                                                      pin->part, pin->block,
                                                      false);
    uint64_t block = pin->block, more = pieces_bytes(missing);
    int ret = -EDQUOT;

    if (coiommu_pinset_set_part(&pins->set, block, pin->part,
                                pin->bytes + more)) {
        ret = map_all(pins, missing);
        if (ret) {
            note_refusal(pins, block, more, ret);
        } else {
            note_success(pins);
        }
        coiommu_pinset_set_part(&pins->set, block, ret ? pin->part : NULL,
                                ret ? pin->bytes : pin->bytes + more);
    }
    if (!ret) {
        g_array_unref(pin->part);
    }
    trace_coiommu_pin_complete(block,
                               coiommu_block_start(pins->geometry, block),
                               more, ret);
    return ret;
}

/* Has something to be mapped for all of the block to be? */
static bool block_lacks(const CoiommuPin *pin)
{
    return pin->state != COIOMMU_PIN_PINNED || pin->part;
}

/* Map what is not mapped of a block that is entered, and publish it. */
static int block_fill(CoiommuPins *pins, const CoiommuPin *pin)
{
    g_autoptr(GArray) pieces = pieces_of_ram(pins, pin->block);
    bool stuck = coiommu_pins_clear_stuck(pins, pin->block);
    int ret = 0;

    if (pin->state != COIOMMU_PIN_PINNED) {
        ret = block_pin(pins, pin->block, pieces, COIOMMU_GUESS_NONE, 0);
    } else if (pin->part) {
        ret = block_complete(pins, pin);
    }
    if (stuck || ret) {
        coiommu_pins_update_stuck(pins, pin->block);
    }
    if (!ret) {
        publish_pieces(pins, pieces, true);
    }
    return ret;
}

int coiommu_pins_pin(CoiommuPins *pins, uint64_t gpa, uint64_t size)
{
    uint64_t block = coiommu_block_at(pins->geometry, gpa);
    int64_t start = get_clock();
    bool pinned;
    CoiommuPin pin;
    int ret = 0;

    coiommu_assert_reader(pins->gate);
    pinned = coiommu_pinset_enter(&pins->set, block, &pin);
    stat64_max(&pins->stats->wait_max_ns, get_clock() - start);
    if (block_lacks(&pin)) {
        ret = ask_host(pins, &pin) ?: block_fill(pins, &pin);
    } else {
        /* The leaf of these units may have come after the block was pinned. */
        coiommu_table_publish(&pins->table, gpa, size);
    }
    if (pinned) {
        coiommu_history_used(&pins->history,
                             coiommu_pinset_used(&pins->set, block));
    } else if (!ret) {
        coiommu_history_pinned(&pins->history, block);
    }
    coiommu_pinset_leave(&pins->set, block);
    return ret ? ret : !pinned;
}

int coiommu_pins_pin_guess(CoiommuPins *pins, uint64_t block,
                           CoiommuGuess guess, uint64_t ahead)
{
    uint64_t start = coiommu_block_start(pins->geometry, block);
    g_autoptr(GArray) pieces = pieces_of_ram(pins, block);
    CoiommuPin pin = { .block = block };
    int ret;

    coiommu_assert_reader(pins->gate);
    if (!pieces->len || !coiommu_pinset_try_add(&pins->set, block)) {
        return 0;
    }
    /* What is left of an earlier use is not a use of this pin. */
    coiommu_table_take_accessed(&pins->table, start,
                                coiommu_block_size(pins->geometry));
    ret = ask_host(pins, &pin) ?:
          block_pin(pins, block, pieces, guess, ahead);
    if (!ret) {
        publish_pieces(pins, pieces, true);
    }
    coiommu_pinset_leave(&pins->set, block);
    return ret ? ret : 1;
}

int coiommu_pins_fill(CoiommuPins *pins, uint64_t block)
{
    CoiommuPin pin;
    int ret = 0;

    coiommu_assert_reader(pins->gate);
    coiommu_pinset_enter(&pins->set, block, &pin);
    /* What is pinned has been published: no walk over its entries. */
    if (block_lacks(&pin)) {
        ret = block_fill(pins, &pin);
    }
    coiommu_pinset_leave(&pins->set, block);
    return ret;
}

/* ---- Unpin ---- */

void coiommu_pins_unpin(CoiommuPins *pins, const CoiommuPin *pin)
{
    g_autoptr(GArray) pieces = coiommu_pins_mapped(pins, pin);
    CoiommuGuess guess = coiommu_pinset_withdraw(&pins->set, pin->block);

    coiommu_pins_unmap(pins, pieces);
    coiommu_pinset_release(&pins->set, pin->block,
                           pins->ops->unknown(pins->opaque, pin->block));
    if (pin->part) {
        g_array_unref(pin->part);
    }
    coiommu_history_unused(&pins->history, pin->block, guess);
    stat64_add(&pins->stats->unpinned_blocks, 1);
    trace_coiommu_unpin(pin->block,
                        coiommu_block_start(pins->geometry, pin->block));
}

bool coiommu_pins_unpin_try(CoiommuPins *pins, const CoiommuPin *pin)
{
    if (coiommu_pins_withdraw(pins, pin->block)) {
        coiommu_pins_publish(pins, pin);
        trace_coiommu_unpin_race(pin->block,
                                 coiommu_block_start(pins->geometry,
                                                     pin->block));
        return false;
    }
    coiommu_pins_unpin(pins, pin);
    return true;
}

void coiommu_pins_unpin_next(CoiommuPins *pins, size_t *hand)
{
    uint64_t block;
    CoiommuPin pin;

    coiommu_assert_reader(pins->gate);
    if (!coiommu_pinset_walk(&pins->set, hand, NULL, NULL, &block, 1) ||
        !coiommu_pinset_try_enter(&pins->set, block, NULL, NULL, &pin)) {
        return;
    }
    if (pins->counted) {
        coiommu_pins_unpin_try(pins, &pin);
    } else {
        coiommu_pins_withdraw(pins, block);
        coiommu_pins_unpin(pins, &pin);
    }
    coiommu_pinset_leave(&pins->set, block);
}

/*
 * What is missing of a block that is pinned in part counts as pinned here: the
 * caller can't go inside the gate, where the list of pieces is.
 */
bool coiommu_pins_covers(CoiommuPins *pins, uint64_t gpa)
{
    return coiommu_pinset_has(&pins->set,
                              coiommu_block_at(pins->geometry, gpa));
}

/* ---- Life ---- */

void coiommu_pins_init(CoiommuPins *pins)
{
    pins->table.ram = pins->ram;
    coiommu_pinset_init(&pins->set);
    coiommu_refusal_init(&pins->refusal);
    coiommu_history_init(&pins->history, pins->stats);
}

void coiommu_pins_destroy(CoiommuPins *pins)
{
    coiommu_history_destroy(&pins->history);
    coiommu_refusal_destroy(&pins->refusal);
    coiommu_pinset_destroy(&pins->set);
}
