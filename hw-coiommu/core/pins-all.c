/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is done about all pinned blocks at once: see pins.h.
 *
 * The caller holds the BQL and has closed the gate, so no other thread is in
 * any block, and entering one never waits.
 */
#include "osdep.h"
#include "pieces.h"
#include "pins.h"
#include "trace.h"

void coiommu_pins_renew(CoiommuPins *pins)
{
    coiommu_assert_writer(pins->gate);
    pins->generation++;
    coiommu_history_reset(&pins->history, pins->generation);
}

static void unpin_alone(CoiommuPins *pins, uint64_t block)
{
    CoiommuPin pin;

    coiommu_pinset_enter(&pins->set, block, &pin);
    coiommu_pins_withdraw(pins, block);
    coiommu_pins_unpin(pins, &pin);
    coiommu_pinset_leave(&pins->set, block);
}

void coiommu_pins_unpin_all(CoiommuPins *pins)
{
    CoiommuPinTotals totals = coiommu_pinset_totals(&pins->set);
    size_t i = coiommu_pinset_end(&pins->set);
    CoiommuPin pin;

    trace_coiommu_unpin_all(totals.pinned, totals.bytes);
    coiommu_pins_renew(pins);
    while (i-- && coiommu_pinset_get(&pins->set, i, &pin)) {
        if (pin.state == COIOMMU_PIN_PINNED) {
            unpin_alone(pins, pin.block);
        }
    }
}

void coiommu_pins_publish_all(CoiommuPins *pins)
{
    CoiommuPin pin;
    size_t i;

    coiommu_assert_writer(pins->gate);
    for (i = 0; coiommu_pinset_get(&pins->set, i, &pin); i++) {
        if (pin.state == COIOMMU_PIN_PINNED) {
            coiommu_pins_publish(pins, &pin);
        }
    }
}

void coiommu_pins_withdraw_all(CoiommuPins *pins)
{
    CoiommuPin pin;
    size_t i;

    coiommu_assert_writer(pins->gate);
    for (i = 0; coiommu_pinset_get(&pins->set, i, &pin); i++) {
        if (pin.state == COIOMMU_PIN_PINNED) {
            coiommu_pins_withdraw(pins, pin.block);
        }
    }
}

/* ---- Replay into one container ---- */

/* Take the first @count of these pieces out of it. */
static void target_unmap(const CoiommuPinsTarget *target, const GArray *pieces,
                         guint count)
{
    guint i;

    for (i = 0; i < count; i++) {
        const CoiommuExtent *piece = &g_array_index(pieces, CoiommuExtent, i);

        target->unmap(target->opaque, piece->gpa, piece->size);
    }
}

/* Map what is mapped of a block into it, or nothing. */
static int target_map(const CoiommuPinsTarget *target, const GArray *pieces)
{
    guint i;
    int ret;

    for (i = 0; i < pieces->len; i++) {
        ret = target->map(target->opaque,
                          &g_array_index(pieces, CoiommuExtent, i));
        if (ret) {
            target_unmap(target, pieces, i);
            return ret;
        }
    }
    return 0;
}

static bool is_pinned_in(CoiommuPins *pins, const CoiommuPin *pin,
                         uint64_t start, uint64_t last)
{
    uint64_t gpa = coiommu_block_start(pins->geometry, pin->block);

    return pin->state == COIOMMU_PIN_PINNED && gpa >= start && gpa <= last;
}

int coiommu_pins_replay(CoiommuPins *pins, const CoiommuPinsTarget *target,
                        uint64_t start, uint64_t last)
{
    CoiommuPin pin;
    int ret = 0;
    size_t i;

    coiommu_assert_writer(pins->gate);
    for (i = 0; !ret && coiommu_pinset_get(&pins->set, i, &pin); i++) {
        if (is_pinned_in(pins, &pin, start, last)) {
            g_autoptr(GArray) pieces = coiommu_pins_mapped(pins, &pin);

            ret = target_map(target, pieces);
        }
    }
    if (!ret) {
        return 0;
    }
    stat64_add(&pins->stats->pin_errors, 1);
    /* Without the last one, which has not been mapped. */
    for (i--; i-- && coiommu_pinset_get(&pins->set, i, &pin); ) {
        if (is_pinned_in(pins, &pin, start, last)) {
            g_autoptr(GArray) pieces = coiommu_pins_mapped(pins, &pin);

            target_unmap(target, pieces, pieces->len);
        }
    }
    return ret;
}

/* ---- Changes of guest RAM ---- */

/*
 * Keep of a block what is in the next list as well.  A piece that is cut goes
 * as a whole: a mapping can't be split.
 */
static void block_keep(CoiommuPins *pins, uint64_t block, const GArray *mapped,
                       const GArray *next)
{
    const CoiommuGeometry *geometry = pins->geometry;
    GArray *keep = coiommu_pieces_select(geometry, mapped, next, block, true);
    g_autoptr(GArray) gone = coiommu_pieces_select(geometry, mapped, next,
                                                   block, false);
    g_autoptr(GArray) old = NULL;
    CoiommuPin pin;

    trace_coiommu_unpin_ram_gone(block, coiommu_block_start(geometry, block),
                                 coiommu_pieces_bytes(geometry, gone, block));
    coiommu_pinset_enter(&pins->set, block, &pin);
    coiommu_pins_withdraw(pins, block);
    coiommu_pins_unmap(pins, gone);
    old = pin.part;
    pin.part = keep;
    pin.bytes = coiommu_pieces_bytes(geometry, keep, block);
    coiommu_pinset_set_part(&pins->set, block, keep, pin.bytes);
    if (!keep->len) {
        coiommu_pins_unpin(pins, &pin);
    } else {
        coiommu_pins_update_stuck(pins, block);
        coiommu_pins_publish(pins, &pin);
    }
    coiommu_pinset_leave(&pins->set, block);
}

void coiommu_pins_ram_changing(CoiommuPins *pins, const GArray *next)
{
    size_t i = coiommu_pinset_end(&pins->set);
    CoiommuPin pin;

    coiommu_assert_writer(pins->gate);
    while (i-- && coiommu_pinset_get(&pins->set, i, &pin)) {
        const GArray *mapped = pin.part ?: pins->ram->extents;

        if (pin.state != COIOMMU_PIN_PINNED) {
            continue;
        }
        if (!coiommu_pieces_equal(pins->geometry, mapped, next, pin.block)) {
            block_keep(pins, pin.block, mapped, next);
        } else if (pin.part) {
            /* What was missing is no longer there. */
            coiommu_pinset_set_part(&pins->set, pin.block, NULL, pin.bytes);
            g_array_unref(pin.part);
        }
    }
}

/* ---- What is stuck ---- */

void coiommu_pins_refresh_stuck(CoiommuPins *pins)
{
    size_t i = coiommu_pinset_end(&pins->set);
    CoiommuPin pin;

    coiommu_assert_writer(pins->gate);
    while (i-- && coiommu_pinset_get(&pins->set, i, &pin)) {
        if (pin.stuck && coiommu_pinset_try_stuck(&pins->set, pin.block)) {
            coiommu_pins_update_stuck(pins, pin.block);
            coiommu_pinset_leave(&pins->set, pin.block);
        }
    }
}

void coiommu_pins_retry_stuck(CoiommuPins *pins, size_t *hand, unsigned max)
{
    unsigned tried = 0;
    CoiommuPin pin;

    coiommu_assert_reader(pins->gate);
    *hand = *hand ?: coiommu_pinset_end(&pins->set);
    while (*hand && tried < max) {
        if (!coiommu_pinset_get(&pins->set, --*hand, &pin) ||
            !pin.stuck || !coiommu_pinset_try_stuck(&pins->set, pin.block)) {
            continue;
        }
        coiommu_pins_clear_stuck(pins, pin.block);
        coiommu_pinset_leave(&pins->set, pin.block);
        tried++;
    }
}
