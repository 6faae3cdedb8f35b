/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine of pinning, in one thread that plays one with the BQL: what is
 * pinned, published and let go, as guest RAM changes and as the host refuses.
 */
#include "osdep.h"
#include "demand.h"
#include "engine.h"
#include "let-go.h"

/* How many maps the host lets pass before it refuses; and how it does. */
static unsigned maps_left;
static int error;
static bool refuse;

static int map_error(void)
{
    return maps_left-- ? 0 : error;
}

static bool refuse_unmap(void)
{
    return refuse;
}

static Engine *setup(void)
{
    Engine *e = engine_new();

    maps_left = UINT_MAX;
    error = -EIO;
    refuse = false;
    e->map_error = map_error;
    e->refuse_unmap = refuse_unmap;
    return e;
}

static void teardown(Engine *e)
{
    refuse = false;
    coiommu_gate_close(&e->gate);
    coiommu_pins_unpin_all(&e->pins);
    coiommu_gate_open(&e->gate);
    engine_check(e);
    g_assert_cmpuint(coiommu_pinset_totals(&e->pins.set).pinned, ==, 0);
    engine_free(e);
}

static int pin(Engine *e, unsigned block)
{
    return coiommu_pins_pin(&e->pins, block * BLOCK, UNIT);
}

/* Let the block go if it is idle, as reclaim does. */
static bool let_go(Engine *e, unsigned block)
{
    CoiommuCandidate c = { .look = coiommu_let_go_look(&e->pins, block) };

    return coiommu_let_go(&e->pins, block, &c);
}

static unsigned published(Engine *e, unsigned block)
{
    unsigned unit, count = 0;

    for (unit = 0; unit < BLOCK_UNITS; unit++) {
        count += engine_published(e, block * BLOCK_UNITS + unit);
    }
    return count;
}

/* The list of guest RAM is another from now on. */
static void ram_becomes(Engine *e, GArray *next)
{
    coiommu_gate_close(&e->gate);
    coiommu_pins_ram_changing(&e->pins, next);
    g_array_unref(e->ram.extents);
    e->ram.extents = next;
    coiommu_gate_open(&e->gate);
    engine_check(e);
}

/* Pinned as a whole and published; a count keeps it, and it goes without. */
static void test_pin(void)
{
    Engine *e = setup();

    g_assert_cmpint(pin(e, 2), ==, 1);
    g_assert_cmpint(pin(e, 2), ==, 0);
    g_assert_cmpuint(e->host[2].mapped, ==, BLOCK);
    g_assert_cmpuint(published(e, 2), ==, BLOCK_UNITS);
    engine_check(e);
    e->leaf[2 * BLOCK_UNITS + 3] += GUINT32_TO_LE(1);
    g_assert_false(let_go(e, 2));
    g_assert_cmpuint(published(e, 2), ==, BLOCK_UNITS);
    e->leaf[2 * BLOCK_UNITS + 3] -= GUINT32_TO_LE(1);
    g_assert_true(let_go(e, 2));
    g_assert_cmpuint(published(e, 2), ==, 0);
    teardown(e);
}

/* A count that comes between the look and the withdrawal is seen. */
static void test_race(void)
{
    Engine *e = setup();
    CoiommuCandidate c;

    g_assert_cmpint(pin(e, 2), ==, 1);
    c = (CoiommuCandidate) { .look = coiommu_let_go_look(&e->pins, 2) };
    e->leaf[2 * BLOCK_UNITS] += GUINT32_TO_LE(1);
    g_assert_false(coiommu_let_go(&e->pins, 2, &c));
    g_assert_cmpuint(stat64_get(&e->stats.unpin_races), ==, 1);
    g_assert_cmpuint(e->host[2].mapped, ==, BLOCK);
    g_assert_cmpuint(published(e, 2), ==, BLOCK_UNITS);
    e->leaf[2 * BLOCK_UNITS] -= GUINT32_TO_LE(1);
    teardown(e);
}

/*
 * The end of pin-all: what has no count goes; without an attached device
 * everything does.
 */
static void test_unpin_next(void)
{
    Engine *e = setup();
    unsigned block;
    size_t hand;

    for (block = 0; block < 4; block++) {
        g_assert_cmpint(coiommu_pins_fill(&e->pins, block), ==, 0);
        g_assert_cmpuint(published(e, block), ==, BLOCK_UNITS);
    }
    e->leaf[2 * BLOCK_UNITS] += GUINT32_TO_LE(1);
    for (hand = coiommu_pinset_end(&e->pins.set); hand; ) {
        coiommu_pins_unpin_next(&e->pins, &hand);
        engine_check(e);
    }
    g_assert_cmpuint(coiommu_pinset_totals(&e->pins.set).pinned, ==, 1);
    g_assert_cmpuint(published(e, 2), ==, BLOCK_UNITS);
    e->pins.counted = false;
    hand = coiommu_pinset_end(&e->pins.set);
    coiommu_pins_unpin_next(&e->pins, &hand);
    g_assert_cmpuint(hand, ==, 0);
    g_assert_cmpuint(coiommu_pinset_totals(&e->pins.set).pinned, ==, 0);
    g_assert_cmpuint(published(e, 2), ==, 0);
    teardown(e);
}

/*
 * A table that is given up: PINNED goes, what is pinned stays, and the table is
 * written to no more.  The next one is told of it.
 */
static void test_table_given_up(void)
{
    Engine *e = setup();
    unsigned generation = e->pins.generation;

    g_assert_cmpint(pin(e, 2), ==, 1);
    coiommu_gate_close(&e->gate);
    coiommu_pins_withdraw_all(&e->pins);
    g_assert_cmpuint(published(e, 2), ==, 0);
    e->pins.table.enabled = false;
    g_assert_cmpint(coiommu_pins_fill(&e->pins, 3), ==, 0);
    coiommu_pins_publish_all(&e->pins);
    g_assert_cmpuint(published(e, 2) + published(e, 3), ==, 0);
    e->pins.table.enabled = true;
    coiommu_pins_publish_all(&e->pins);
    coiommu_gate_open(&e->gate);
    g_assert_cmpuint(published(e, 2), ==, BLOCK_UNITS);
    g_assert_cmpuint(published(e, 3), ==, BLOCK_UNITS);
    engine_check(e);
    g_assert_cmpuint(e->pins.generation, ==, generation);
    coiommu_gate_close(&e->gate);
    coiommu_pins_unpin_all(&e->pins);
    coiommu_gate_open(&e->gate);
    g_assert_cmpuint(e->pins.generation, !=, generation);
    teardown(e);
}

/*
 * Speculative blocks: pinned if there is room for them and no entry, and taken
 * first where there is none.  ACCESSED of an earlier use is not one of theirs.
 */
static void test_guess(void)
{
    Engine *e = setup();

    e->pins.table.has_accessed = true;
    coiommu_pinset_set_quota(&e->pins.set, 2 * BLOCK);
    e->leaf[4 * BLOCK_UNITS] |= GUINT32_TO_LE(COIOMMU_DTT_ACCESSED);
    g_assert_cmpint(pin(e, 3), ==, 1);
    g_assert_cmpint(coiommu_pins_pin_guess(&e->pins, 3, COIOMMU_GUESS_AHEAD,
                                           BLOCK), ==, 0);
    g_assert_cmpint(coiommu_pins_pin_guess(&e->pins, 4, COIOMMU_GUESS_AHEAD,
                                           BLOCK), ==, 1);
    g_assert_cmpint(coiommu_pins_pin_guess(&e->pins, 5, COIOMMU_GUESS_AHEAD,
                                           BLOCK), ==, -EDQUOT);
    g_assert_cmpuint(published(e, 4), ==, BLOCK_UNITS);
    g_assert_false(coiommu_let_go_look(&e->pins, 4).accessed);
    engine_check(e);
    g_assert_cmpint(coiommu_demand_pin(&e->pins, 5 * BLOCK, UNIT, INT64_MAX),
                    ==, 1);
    g_assert_true(coiommu_pinset_has(&e->pins.set, 3));
    g_assert_false(coiommu_pinset_has(&e->pins.set, 4));
    g_assert_cmpuint(stat64_get(&e->stats.ahead_unused), ==, 1);
    teardown(e);
}

/* Two pieces around a hole; the second map fails: nothing stays mapped. */
static void test_map_fails(void)
{
    Engine *e = setup();

    ram_becomes(e, engine_ram(e, UNIT, 2 * UNIT, BLOCKS * BLOCK));
    maps_left = 1;
    g_assert_cmpint(pin(e, 0), ==, -EIO);
    g_assert_cmpuint(e->host[0].mapped, ==, 0);
    g_assert_cmpuint(published(e, 0), ==, 0);
    engine_check(e);
    maps_left = 2;
    g_assert_cmpint(pin(e, 0), ==, 1);
    g_assert_cmpuint(e->host[0].mapped, ==, BLOCK - UNIT);
    teardown(e);
}

/* What the host refuses to unmap counts, and must go before the next map. */
static void test_stuck(void)
{
    Engine *e = setup();
    size_t hand = 0;

    g_assert_cmpint(pin(e, 3), ==, 1);
    refuse = true;
    g_assert_true(let_go(e, 3));
    g_assert_cmpuint(coiommu_pinset_totals(&e->pins.set).stuck, ==, BLOCK);
    g_assert_cmpuint(published(e, 3), ==, 0);
    engine_check(e);
    g_assert_cmpint(pin(e, 3), ==, -EBUSY);
    coiommu_pins_retry_stuck(&e->pins, &hand, 64);
    g_assert_cmpuint(coiommu_pinset_totals(&e->pins.set).stuck, ==, BLOCK);
    refuse = false;
    g_assert_cmpint(pin(e, 3), ==, 1);
    g_assert_cmpuint(coiommu_pinset_totals(&e->pins.set).stuck, ==, 0);
    engine_check(e);
    /* By the timer, with no request for it. */
    refuse = true;
    g_assert_true(let_go(e, 3));
    refuse = false;
    coiommu_pins_retry_stuck(&e->pins, &hand, 64);
    g_assert_cmpuint(coiommu_pinset_totals(&e->pins.set).bytes, ==, 0);
    teardown(e);
}

/*
 * RAM goes from a pinned block: the rest stays mapped and published, whole
 * units of it only.  It comes back: the next request maps what is missing.
 */
static void test_part(void)
{
    Engine *e = setup();
    uint64_t hole = 5 * BLOCK + UNIT + UNIT / 2, end = hole + UNIT;

    ram_becomes(e, engine_ram(e, hole, end, BLOCKS * BLOCK));
    g_assert_cmpint(pin(e, 5), ==, 1);
    g_assert_cmpint(pin(e, 6), ==, 1);
    g_assert_cmpuint(published(e, 5), ==, BLOCK_UNITS);
    ram_becomes(e, engine_ram(e, 0, end, BLOCKS * BLOCK));
    g_assert_cmpuint(e->host[5].mapped, ==, UNIT + UNIT / 2);
    /* Half of the unit before may be in the piece that is not mapped. */
    g_assert_cmpuint(published(e, 5), ==, 1);
    g_assert_true(engine_published(e, 5 * BLOCK_UNITS + 3));
    g_assert_cmpuint(published(e, 6), ==, BLOCK_UNITS);
    ram_becomes(e, engine_ram(e, hole, end, BLOCKS * BLOCK));
    g_assert_cmpuint(e->host[5].mapped, ==, UNIT + UNIT / 2);
    maps_left = 0;
    g_assert_cmpint(pin(e, 5), ==, -EIO);
    g_assert_cmpuint(e->host[5].mapped, ==, UNIT + UNIT / 2);
    engine_check(e);
    maps_left = 1;
    g_assert_cmpint(pin(e, 5), ==, 0);
    g_assert_cmpuint(e->host[5].mapped, ==, BLOCK - UNIT);
    g_assert_cmpuint(published(e, 5), ==, BLOCK_UNITS);
    /* All of it goes. */
    ram_becomes(e, engine_ram(e, 5 * BLOCK, 6 * BLOCK, BLOCKS * BLOCK));
    g_assert_false(coiommu_pinset_has(&e->pins.set, 5));
    teardown(e);
}

/* No room: idle blocks go, those with a count stay. */
static void test_demand(void)
{
    Engine *e = setup();
    unsigned block;

    coiommu_pinset_set_quota(&e->pins.set, 4 * BLOCK);
    for (block = 0; block < 4; block++) {
        g_assert_cmpint(pin(e, block), ==, 1);
        e->leaf[block * BLOCK_UNITS] += GUINT32_TO_LE(1);
    }
    g_assert_cmpint(coiommu_demand_pin(&e->pins, 4 * BLOCK, UNIT, INT64_MAX),
                    ==, -EDQUOT);
    e->leaf[2 * BLOCK_UNITS] -= GUINT32_TO_LE(1);
    g_assert_cmpint(coiommu_demand_pin(&e->pins, 4 * BLOCK, UNIT, INT64_MAX),
                    ==, 1);
    g_assert_false(coiommu_pinset_has(&e->pins.set, 2));
    /* With nothing to be let go of, nothing is. */
    e->pins.keep = true;
    g_assert_cmpint(coiommu_demand_pin(&e->pins, 5 * BLOCK, UNIT, INT64_MAX),
                    ==, -EDQUOT);
    g_assert_cmpuint(coiommu_pinset_totals(&e->pins.set).pinned, ==, 4);
    e->pins.keep = false;
    memset(e->leaf, 0, sizeof(e->leaf));
    coiommu_gate_close(&e->gate);
    coiommu_pins_publish_all(&e->pins);
    coiommu_gate_open(&e->gate);
    teardown(e);
}

/* The search for room ends for a writer, and when its time is up. */
static void test_demand_ends(void)
{
    Engine *e = setup();
    unsigned block;

    coiommu_pinset_set_quota(&e->pins.set, 4 * BLOCK);
    for (block = 0; block < 4; block++) {
        g_assert_cmpint(pin(e, block), ==, 1);
    }
    coiommu_standalone_bql = false;
    g_assert_true(coiommu_gate_enter(&e->gate));
    /* A writer waits for us to leave. */
    e->gate.closed++;
    g_assert_cmpint(coiommu_demand_pin(&e->pins, 4 * BLOCK, UNIT, INT64_MAX),
                    ==, -EINTR);
    g_assert_cmpuint(coiommu_pinset_totals(&e->pins.set).pinned, ==, 4);
    e->gate.closed--;
    g_assert_cmpint(coiommu_demand_pin(&e->pins, 4 * BLOCK, UNIT, 0), ==,
                    -EAGAIN);
    g_assert_cmpuint(coiommu_pinset_totals(&e->pins.set).pinned, ==, 3);
    g_assert_cmpint(coiommu_demand_pin(&e->pins, 4 * BLOCK, UNIT, 0), ==, 1);
    g_assert_cmpuint(stat64_get(&e->stats.pin_errors), ==, 0);
    coiommu_gate_leave(&e->gate);
    coiommu_standalone_bql = true;
    teardown(e);
}

static uint64_t replayed[BLOCKS];
static unsigned replays_left;

static int replay_map(void *opaque, const CoiommuExtent *piece)
{
    if (!replays_left--) {
        return -ENOSPC;
    }
    replayed[piece->gpa >> BLOCK_SHIFT] += piece->size;
    return 0;
}

static void replay_unmap(void *opaque, uint64_t iova, uint64_t size)
{
    replayed[iova >> BLOCK_SHIFT] -= size;
}

/* A container that comes gets all, or nothing stays in it. */
static void test_replay(void)
{
    const CoiommuPinsTarget target = {
        .map = replay_map, .unmap = replay_unmap,
    };
    Engine *e = setup();
    unsigned block, left;

    ram_becomes(e, engine_ram(e, 2 * BLOCK + UNIT, 2 * BLOCK + 2 * UNIT,
                              BLOCKS * BLOCK));
    for (block = 1; block < 5; block++) {
        g_assert_cmpint(pin(e, block), ==, 1);
    }
    coiommu_gate_close(&e->gate);
    for (left = 0; left <= 5; left++) {
        replays_left = left;
        g_assert_cmpint(coiommu_pins_replay(&e->pins, &target, 0, UINT64_MAX),
                        ==, left == 5 ? 0 : -ENOSPC);
        for (block = 0; block < BLOCKS; block++) {
            g_assert_cmpuint(replayed[block], ==,
                             left == 5 ? e->host[block].mapped : 0);
        }
    }
    coiommu_gate_open(&e->gate);
    teardown(e);
}

int main(int argc, char **argv)
{
    coiommu_standalone_bql = true;
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pins/pin", test_pin);
    g_test_add_func("/pins/race", test_race);
    g_test_add_func("/pins/unpin-next", test_unpin_next);
    g_test_add_func("/pins/table-given-up", test_table_given_up);
    g_test_add_func("/pins/guess", test_guess);
    g_test_add_func("/pins/map-fails", test_map_fails);
    g_test_add_func("/pins/stuck", test_stuck);
    g_test_add_func("/pins/part", test_part);
    g_test_add_func("/pins/demand", test_demand);
    g_test_add_func("/pins/demand-ends", test_demand_ends);
    g_test_add_func("/pins/replay", test_replay);
    return g_test_run();
}
