/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small machine around the engine of pinning, for its unit tests: guest RAM
 * with a table in it, and a host that maps, refuses, and leaves things open.
 *
 * For test-pins.c and test-threads.c: all of it is static there.
 */
#ifndef COIOMMU_TEST_ENGINE_H
#define COIOMMU_TEST_ENGINE_H

#include "osdep.h"
#include "pins.h"
#include "../include/coiommu_abi.h"

#define UNIT_SHIFT      12
#define BLOCK_SHIFT     14
#define UNIT            (UINT64_C(1) << UNIT_SHIFT)
#define BLOCK           (UINT64_C(1) << BLOCK_SHIFT)
#define BLOCK_UNITS     (BLOCK / UNIT)
#define BLOCKS          8

/* Directory and leaf lie above what is tracked. */
#define TABLE_GPA       (UINT64_C(1) << 20)

struct MemoryRegion {
    int unused;
};

/**
 * Host - what becomes of a block in the host; guarded by the block
 * @mapped: bytes of it that are mapped
 * @unknown: bytes that it has refused to unmap
 */
typedef struct Host {
    uint64_t mapped;
    uint64_t unknown;
} Host;

/**
 * Engine - the machine
 * @map_error, @refuse_unmap: asked by the host before it maps and unmaps; NULL:
 *                            it never refuses
 */
typedef struct Engine {
    CoiommuGate gate;
    CoiommuGeometry geometry;
    CoiommuRam ram;
    CoiommuStats stats;
    CoiommuPins pins;
    Host host[BLOCKS];
    int (*map_error)(void);
    bool (*refuse_unmap)(void);
    uint8_t memory[BLOCKS * BLOCK];
    uint64_t directory[COIOMMU_DTT_PAGE_SIZE / 8] __attribute__((aligned(8)));
    uint32_t leaf[COIOMMU_DTT_LEAF_ENTRIES];
} Engine;

static MemoryRegion memory_region;

static Host *host_at(Engine *e, uint64_t gpa)
{
    return &e->host[gpa >> BLOCK_SHIFT];
}

/* PINNED of a unit. */
static bool engine_published(Engine *e, unsigned unit)
{
    return GUINT32_FROM_LE(__atomic_load_n(&e->leaf[unit],
                                           __ATOMIC_ACQUIRE)) &
           COIOMMU_DTT_PINNED;
}

/*
 * As a range is mapped or unmapped, the table must not promise any of it: it is
 * published afterwards, or has been withdrawn before.
 */
static void check_order(Engine *e, uint64_t gpa, uint64_t size)
{
    unsigned unit;

    for (unit = gpa >> UNIT_SHIFT; unit <= (gpa + size - 1) >> UNIT_SHIFT;
         unit++) {
        g_assert_false(engine_published(e, unit));
    }
}

static int engine_map(void *opaque, const CoiommuExtent *piece)
{
    Engine *e = opaque;
    Host *host = host_at(e, piece->gpa);
    int ret = e->map_error ? e->map_error() : 0;

    check_order(e, piece->gpa, piece->size);
    if (ret || host->unknown) {
        return ret ?: -EBUSY;
    }
    g_assert_cmpuint(host->mapped + piece->size, <=, BLOCK);
    host->mapped += piece->size;
    return 0;
}

static void engine_unmap(void *opaque, uint64_t iova, uint64_t size)
{
    Engine *e = opaque;
    Host *host = host_at(e, iova);

    check_order(e, iova, size);
    g_assert_cmpuint(host->mapped, >=, size);
    host->mapped -= size;
    if (e->refuse_unmap && e->refuse_unmap()) {
        host->unknown += size;
    }
}

static uint64_t engine_unknown(void *opaque, uint64_t block)
{
    Engine *e = opaque;

    return e->host[block].unknown;
}

static void engine_clear(void *opaque, uint64_t block)
{
    Engine *e = opaque;

    if (!e->refuse_unmap || !e->refuse_unmap()) {
        e->host[block].unknown = 0;
    }
}

static void engine_pinned(void *opaque)
{
}

static void engine_set_dirty(const CoiommuExtent *piece)
{
    g_assert_true(piece->mr == &memory_region);
}

static const CoiommuPinsOps engine_ops = {
    .map = engine_map,
    .unmap = engine_unmap,
    .unknown = engine_unknown,
    .clear = engine_clear,
    .pinned = engine_pinned,
};

static void add_extent(GArray *list, uint64_t gpa, void *hva, uint64_t size)
{
    CoiommuExtent extent = {
        .gpa = gpa, .size = size, .mr = &memory_region, .offset = gpa,
        .hva = hva,
    };

    g_array_append_val(list, extent);
}

/* A list of guest RAM: [0, size), but for the hole, and the table. */
static GArray *engine_ram(Engine *e, uint64_t hole, uint64_t end,
                          uint64_t size)
{
    GArray *list = g_array_new(false, false, sizeof(CoiommuExtent));

    if (hole) {
        add_extent(list, 0, e->memory, hole);
    }
    if (end < size) {
        add_extent(list, end, e->memory + end, size - end);
    }
    add_extent(list, TABLE_GPA, e->directory, sizeof(e->directory));
    add_extent(list, TABLE_GPA + sizeof(e->directory), e->leaf,
               sizeof(e->leaf));
    return list;
}

static Engine *engine_new(void)
{
    Engine *e = g_new0(Engine, 1);

    coiommu_gate_init(&e->gate);
    e->geometry = (CoiommuGeometry) { UNIT_SHIFT, BLOCK_SHIFT };
    e->ram.extents = engine_ram(e, BLOCKS * BLOCK, BLOCKS * BLOCK,
                                BLOCKS * BLOCK);
    e->ram.set_dirty = engine_set_dirty;
    e->directory[0] = GUINT64_TO_LE((TABLE_GPA + sizeof(e->directory)) |
                                    COIOMMU_DTT_DIR_PRESENT);
    e->pins.ops = &engine_ops;
    e->pins.opaque = e;
    e->pins.geometry = &e->geometry;
    e->pins.ram = &e->ram;
    e->pins.gate = &e->gate;
    e->pins.stats = &e->stats;
    coiommu_pins_init(&e->pins);
    g_assert_true(coiommu_dtt_init(&e->pins.table.dtt, TABLE_GPA,
                                   BLOCKS * BLOCK, UNIT_SHIFT));
    e->pins.table.enabled = true;
    e->pins.counted = true;
    return e;
}

static void engine_free(Engine *e)
{
    coiommu_pins_destroy(&e->pins);
    g_array_unref(e->ram.extents);
    coiommu_gate_destroy(&e->gate);
    g_free(e);
}

/*
 * With no thread in any block: do the pin set, the table and the host agree?
 */
static void engine_check(Engine *e)
{
    CoiommuPinTotals totals = coiommu_pinset_totals(&e->pins.set);
    uint64_t bytes = 0, stuck = 0;
    unsigned block, unit;
    size_t entries = 0;

    for (block = 0; block < BLOCKS; block++) {
        bool pinned = coiommu_pinset_has(&e->pins.set, block);

        g_assert_cmpint(!!e->host[block].mapped, ==, pinned);
        bytes += e->host[block].mapped;
        stuck += e->host[block].unknown;
        entries += pinned || e->host[block].unknown;
        for (unit = 0; unit < BLOCK_UNITS; unit++) {
            if (engine_published(e, block * BLOCK_UNITS + unit)) {
                g_assert_true(pinned);
            }
        }
    }
    g_assert_cmpuint(totals.stuck, ==, stuck);
    g_assert_cmpuint(totals.bytes, ==, bytes + stuck);
    g_assert_cmpuint(totals.charged, ==, totals.bytes);
    /* Of what is neither there is nothing left. */
    g_assert_cmpuint(coiommu_pinset_end(&e->pins.set), ==, entries);
}

#endif /* COIOMMU_TEST_ENGINE_H */
