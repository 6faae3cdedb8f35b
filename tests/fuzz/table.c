/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz the list of guest RAM and the walks over the table in it: core/ram.c,
 * core/table.c and core/dtt.c, with memory that changes during a walk and RAM
 * that comes and goes between two.
 *
 * Input: a script of changes during walks (hostile.h), then a string of
 * TableStep.  Places count words of 8 bytes in all guest RAM, in ascending
 * order.
 *
 * The memory of what the guest cannot reach, or that is unplugged, is poisoned:
 * the address sanitizer notices each access.  What a walk does to the rest is
 * repeated by a naive one over a copy, to which the guest does the same at the
 * same moments; the results must not differ.
 */
#include "osdep.h"
#include "coiommu_abi.h"
#include "hostile.h"
#include "table-memory.h"

/* ---- The same questions, answered naively ---- */

/* Index of the page of RAM at @gpa, or -1. */
static int ref_page(uint64_t gpa)
{
    int i;

    for (i = 0; i < TABLE_PAGES; i++) {
        if (ram_page_there(i) && ram_page_gpa(i) == gpa / PAGE * PAGE) {
            return i;
        }
    }
    return -1;
}

static bool ref_contains(uint64_t gpa, uint64_t size)
{
    uint64_t end = gpa + size;

    if (end < gpa) {
        return false;
    }
    for (; gpa < end; gpa = gpa / PAGE * PAGE + PAGE) {
        if (ref_page(gpa) < 0) {
            return false;
        }
    }
    return true;
}

/* A pointer into @where; NULL if it isn't one piece of one region. */
static void *ref_ptr(uint8_t (*where)[REGION_PAGES * PAGE], uint64_t gpa,
                     uint64_t size)
{
    uint64_t last = gpa + size - 1;
    uint8_t *start, *end;

    if (!ref_contains(gpa, size)) {
        return NULL;
    }
    start = ram_page_in(where, ref_page(gpa)) + gpa % PAGE;
    end = ram_page_in(where, ref_page(last)) + last % PAGE;
    return ram_page[ref_page(gpa)].section->mr ==
           ram_page[ref_page(last)].section->mr &&
           (uint64_t)(end - start) == last - gpa ? start : NULL;
}

static void check_lookup(uint64_t gpa, uint64_t size)
{
    uint64_t end = gpa + size, at = gpa;
    CoiommuExtent piece;
    unsigned i;

    if (!size) {
        return;
    }
    g_assert_cmpint(coiommu_ram_contains(&ram, gpa, size), ==,
                    ref_contains(gpa, size));
    g_assert_true(coiommu_ram_ptr(&ram, gpa, size) ==
                  ref_ptr(memory, gpa, size));
    if (end < gpa) {
        return;
    }
    for (i = 0; i < TABLE_PAGES; i++) {
        uint64_t start = MAX(gpa, ram_page_gpa(i));
        uint64_t stop = MIN(end, ram_page_gpa(i) + PAGE);

        if (!ram_page_there(i) || start >= stop) {
            continue;
        }
        /* A new piece begins, or the last one goes on. */
        if (at <= start) {
            g_assert_true(coiommu_ram_next(ram.extents, &at, end,
                                           &piece));
            g_assert_cmpuint(piece.gpa, ==, start);
            g_assert_cmpuint(at, ==, piece.gpa + piece.size);
            g_assert_true(piece.mr == &region[ram_page[i].section->mr]);
        }
        g_assert_cmpuint(at, >=, stop);
        g_assert_true(piece.hva + (start - piece.gpa) ==
                      ram_page_in(memory, i) + start % PAGE);
    }
    g_assert_false(coiommu_ram_next(ram.extents, &at, end, &piece));
}

/* ---- The guest's writes, and what the device was seen to read ---- */

/* @addr is NULL: a write of the guest's; else, an access of the device. */
typedef struct Event {
    unsigned word;
    uint64_t value;
    uint8_t *addr;
    size_t size;
} Event;

static HostileScript script;
static GArray *events;
static guint event_next;

static void guest_write(uint8_t (*where)[REGION_PAGES * PAGE], unsigned word,
                        uint64_t value)
{
    unsigned page = word / (PAGE / 8);

    if (ram_page_there(page)) {
        memcpy(ram_page_in(where, page) + word % (PAGE / 8) * 8, &value, 8);
    }
}

static uint64_t scribble_value(const Scribble *scribble)
{
    uint64_t page = (scribble->value & COIOMMU_DTT_DIR_ADDR_MASK) / PAGE;

    if (!(scribble->kind & SCRIBBLE_LEAF)) {
        return scribble->value;
    }
    return ram_page_gpa(page % TABLE_PAGES) |
           (scribble->value & ~COIOMMU_DTT_DIR_ADDR_MASK);
}

/* The index of the word of guest RAM at @addr, or -1. */
static int word_at(const uint8_t *addr)
{
    unsigned i;

    for (i = 0; i < TABLE_PAGES; i++) {
        const uint8_t *page = ram_page_in(memory, i);

        if (addr >= page && addr < page + PAGE) {
            return i * (PAGE / 8) + (addr - page) / 8;
        }
    }
    return -1;
}

static void access_ram(uint8_t *addr, size_t size, bool store)
{
    Event access = { .addr = addr, .size = size };
    const Scribble *scribble;

    if (addr < (uint8_t *)memory ||
        addr >= (uint8_t *)memory + sizeof(memory)) {
        return;
    }
    /* The device changes guest memory by atomic operations only. */
    g_assert_false(store);
    while ((scribble = hostile_script_next(&script))) {
        int here = word_at(addr);
        Event write = {
            .word = scribble->kind & SCRIBBLE_HERE && here >= 0 ? here :
                    scribble->where % (TABLE_PAGES * (PAGE / 8)),
            .value = scribble_value(scribble),
        };

        guest_write(memory, write.word, write.value);
        g_array_append_val(events, write);
    }
    g_array_append_val(events, access);
}

/* Do the guest's next writes in the copy as well. */
static const Event *events_replay(void)
{
    while (event_next < events->len) {
        const Event *event = &g_array_index(events, Event, event_next++);

        if (event->addr) {
            return event;
        }
        guest_write(shadow, event->word, event->value);
    }
    return NULL;
}

/*
 * The naive walk reads @size bytes at @addr of the real memory; so must the
 * device have done, then.
 */
static void ref_load(const void *addr, size_t size)
{
    const Event *event = events_replay();

    g_assert_true(event && event->addr == addr && event->size == size);
}

/* ---- Walks ---- */

/* @entry, and what it should be. */
static bool ref_unit(uint8_t op, const uint32_t *entry, uint32_t *should)
{
    switch (op) {
    case TABLE_PUBLISH:
        *should |= COIOMMU_DTT_PINNED;
        return false;
    case TABLE_WITHDRAW:
        *should &= ~COIOMMU_DTT_PINNED;
        return *should & COIOMMU_DTT_COUNT_MASK;
    case TABLE_BUSY:
        ref_load(entry, sizeof(*entry));
        return *should & COIOMMU_DTT_COUNT_MASK;
    default:
        ref_load(entry, sizeof(*entry));
        if (!(*should & COIOMMU_DTT_ACCESSED)) {
            return false;
        }
        *should &= ~COIOMMU_DTT_ACCESSED;
        return true;
    }
}

/* Is there a leaf at the unit?  One read of its directory entry tells. */
static bool ref_leaf(uint64_t unit, uint64_t *leaf)
{
    uint64_t dir = table.dtt.root + unit / COIOMMU_DTT_LEAF_ENTRIES * 8;
    uint64_t *entry = ref_ptr(shadow, dir, sizeof(*entry));

    if (!entry) {
        return false;
    }
    ref_load(ref_ptr(memory, dir, sizeof(*entry)), sizeof(*entry));
    *leaf = *entry & COIOMMU_DTT_DIR_ADDR_MASK;
    return *entry & COIOMMU_DTT_DIR_PRESENT &&
           ref_ptr(memory, *leaf, PAGE);
}

static bool ref_units(uint8_t op, uint64_t leaf, unsigned slot, unsigned count)
{
    uint32_t *entries = ref_ptr(memory, leaf, PAGE);
    uint32_t *should = ref_ptr(shadow, leaf, PAGE);
    bool any = false;

    for (; count--; slot++) {
        if (ref_unit(op, &entries[slot], &should[slot])) {
            any = true;
            /* One count in a leaf is enough. */
            count = op == TABLE_BUSY ? 0 : count;
        }
    }
    return any;
}

static CoiommuLook ref_walk(uint8_t op, uint64_t gpa, uint64_t size)
{
    uint64_t unit = gpa >> table.dtt.unit_shift;
    uint64_t units = (table.dtt.size + (1ull << table.dtt.unit_shift) - 1) >>
                     table.dtt.unit_shift;
    uint64_t end = MIN(units, ((gpa + size - 1) >> table.dtt.unit_shift) + 1);
    CoiommuLook look = { 0 };

    while (unit < end) {
        unsigned slot = unit % COIOMMU_DTT_LEAF_ENTRIES;
        unsigned count = MIN(end - unit, COIOMMU_DTT_LEAF_ENTRIES - slot);
        uint64_t leaf;

        if (ref_leaf(unit, &leaf)) {
            if (op != TABLE_ACCESSED) {
                look.busy |= ref_units(op, leaf, slot, count);
            }
            /* A look finds out both. */
            if (op == TABLE_ACCESSED ||
                (op == TABLE_BUSY && table.has_accessed)) {
                look.accessed |= ref_units(TABLE_ACCESSED, leaf, slot, count);
            }
        }
        unit += count;
    }
    return look;
}

static CoiommuLook real_walk(uint8_t op, uint64_t gpa, uint64_t size)
{
    CoiommuLook look = { 0 };

    switch (op) {
    case TABLE_PUBLISH:
        coiommu_table_publish(&table, gpa, size);
        break;
    case TABLE_WITHDRAW:
        look.busy = coiommu_table_withdraw(&table, gpa, size);
        break;
    case TABLE_BUSY:
        look = coiommu_table_look(&table, gpa, size);
        break;
    default:
        table.has_accessed = true;
        look.accessed = coiommu_table_take_accessed(&table, gpa, size);
        break;
    }
    return look;
}

static void compare_memory(void)
{
    unsigned i;

    for (i = 0; i < TABLE_PAGES; i++) {
        if (ram_page_there(i)) {
            g_assert_cmpint(memcmp(ram_page_in(memory, i),
                                   ram_page_in(shadow, i), PAGE), ==, 0);
        }
    }
}

static void walk(uint8_t op, uint64_t gpa, uint64_t size, bool large)
{
    uint64_t units = large ? 2 * COIOMMU_DTT_LEAF_ENTRIES : 64;
    CoiommuLook look, should;

    if (!table.enabled) {
        return;
    }
    /* A block, or a part of one; it is where RAM can be. */
    gpa %= 1ull << 52;
    size = 1 + size % (units << table.dtt.unit_shift);
    g_array_set_size(events, 0);
    event_next = 0;

    hostile_access = access_ram;
    look = real_walk(op, gpa, size);
    hostile_access = NULL;

    should = ref_walk(op, gpa, size);
    g_assert_cmpint(look.busy, ==, should.busy);
    g_assert_cmpint(look.accessed, ==, should.accessed);
    g_assert_null(events_replay());
}

/* As cmd_enable(). */
static void enable(uint64_t root, uint64_t size, unsigned unit_shift)
{
    unsigned __int128 units, leaves;
    CoiommuDtt dtt;
    bool ok;

    units = (((unsigned __int128)size - 1) >> unit_shift) + 1;
    leaves = (units + COIOMMU_DTT_LEAF_ENTRIES - 1) /
             COIOMMU_DTT_LEAF_ENTRIES;
    ok = coiommu_dtt_init(&dtt, root, size, unit_shift);
    g_assert_cmpint(ok, ==, root % PAGE == 0 && size && size % PAGE == 0 &&
                            (root + leaves * 8) >> 64 == 0);
    if (!ok) {
        return;
    }
    g_assert_cmpuint(coiommu_dtt_dir_bytes(&dtt), ==, leaves * 8);
    if (!coiommu_ram_contains(&ram, root, coiommu_dtt_dir_bytes(&dtt))) {
        return;
    }
    table.dtt = dtt;
    table.enabled = true;
}

/* ---- One input ---- */

static void step(const TableStep *step, Input *in)
{
    uint64_t page_gpa = ram_page_gpa(step->page % TABLE_PAGES);
    uint64_t gpa = step->page < TABLE_PAGES ? page_gpa + step->gpa % PAGE :
                                            step->gpa;
    Scribble scribble;
    uint64_t value;

    switch (step->op % TABLE_OPS) {
    case TABLE_WRITE:
        input_take(in, &scribble, sizeof(scribble));
        value = scribble_value(&scribble);
        scribble.where %= TABLE_PAGES * (PAGE / 8);
        guest_write(memory, scribble.where, value);
        guest_write(shadow, scribble.where, value);
        break;
    case TABLE_ENABLE:
        enable(gpa, step->size, COIOMMU_UNIT_SHIFT_MIN + step->shift %
               (COIOMMU_UNIT_SHIFT_MAX - COIOMMU_UNIT_SHIFT_MIN + 1));
        break;
    case TABLE_PLUG:
        plug(step->shift);
        break;
    case TABLE_LOOKUP:
        check_lookup(gpa, step->size);
        break;
    default:
        table.has_accessed = step->shift & 2;
        walk(step->op % TABLE_OPS, gpa, step->size, step->shift & 1);
        break;
    }
}

static void start(void)
{
    unsigned i;

    ram = (CoiommuRam) {
        .extents = g_array_new(false, false, sizeof(CoiommuExtent)),
        .set_dirty = set_dirty,
    };
    table = (CoiommuTable) { .ram = &ram };
    events = g_array_new(false, false, sizeof(Event));
    plug(UINT16_MAX);
    for (i = 0; i < TABLE_PAGES; i++) {
        memset(ram_page_in(memory, i), 0, PAGE);
        memset(ram_page_in(shadow, i), 0, PAGE);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    unsigned i, page, found = 0;

    for (i = 0; i < REGIONS; i++) {
        region[i] = (MemoryRegion) { .host = memory[i] };
    }
    for (i = 0; i < SECTIONS; i++) {
        for (page = 0; page < sections[i].pages; page++) {
            if (is_guest_ram(&sections[i], page)) {
                g_assert_cmpuint(found, <, TABLE_PAGES);
                ram_page[found].section = &sections[i];
                ram_page[found++].page = page;
            }
        }
    }
    g_assert_cmpuint(found, ==, TABLE_PAGES);
    ASAN_POISON_MEMORY_REGION(memory, sizeof(memory));
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = { data, size };
    TableStep next;
    unsigned i;

    start();
    hostile_script_take(&script, &in);
    while (in.size) {
        input_take(&in, &next, sizeof(next));
        step(&next, &in);
    }
    compare_memory();
    g_array_unref(ram.extents);
    g_array_free(events, true);
    for (i = 0; i < REGIONS; i++) {
        g_assert_cmpuint(region[i].refs, ==, 0);
    }
    return 0;
}
