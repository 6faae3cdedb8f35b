/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory of the machine that the fuzz target "table" plays, and what QEMU
 * tells the device of it.  For table.c alone: all of it is static there.
 */
#ifndef COIOMMU_FUZZ_TABLE_MEMORY_H
#define COIOMMU_FUZZ_TABLE_MEMORY_H

#include <sanitizer/asan_interface.h>
#include "coiommu.h"
#include "hostile.h"

#define PAGE            4096ull
#define GIB             (1ull << 30)

/* A contiguous part of the memory map, from page @page of region @mr. */
typedef struct Section {
    hwaddr gpa;
    unsigned pages;
    unsigned mr;
    unsigned page;
    bool readonly;
} Section;

/* Ascending.  What is guest RAM of these makes TABLE_PAGES pages. */
static const Section sections[] = {
    { 0x9c000, 104, 0, 0, false },          /* across the legacy hole */
    { 0x200000, 3, 1, 0, false },           /* one region in two parts */
    { 0x203000, 5, 1, 3, false },
    { 0x208000, 4, 2, 0, false },           /* another, right behind it */
    { 0x20c000, 1, 2, 8, false },           /* not what was behind it there */
    { 0x300000, 1, 3, 0, true },
    { 0x301000, 1, 4, 0, false },           /* ROM */
    { 0x302000, 1, 5, 0, false },           /* memory of a device */
    { 0x303000, 1, 6, 0, false },           /* virtio-mem */
    { 2 * GIB, 1, 7, 0, false },            /* in no window */
    { 4 * GIB - 4 * PAGE, 4, 8, 0, false }, /* in a window that is not RAM */
    { 4 * GIB, 4, 9, 0, false },
};

#define SECTIONS        G_N_ELEMENTS(sections)
#define REGIONS         10
#define REGION_PAGES    104

static uint8_t memory[REGIONS][REGION_PAGES * PAGE]
    __attribute__((aligned(4096)));
/* What it should be. */
static uint8_t shadow[REGIONS][REGION_PAGES * PAGE];

static MemoryRegion region[REGIONS];
static bool plugged[SECTIONS];
static CoiommuState state;
static MemoryListener *listener, *last_listener;
AddressSpace address_space_memory;

/* Of each page of guest RAM, plugged or not: its section, and which page. */
static struct {
    const Section *section;
    unsigned page;
} ram_page[TABLE_PAGES];

static hwaddr ram_page_gpa(unsigned i)
{
    return ram_page[i].section->gpa + ram_page[i].page * PAGE;
}

/* Where a page is in @memory or @shadow. */
static uint8_t *ram_page_in(uint8_t (*where)[REGION_PAGES * PAGE], unsigned i)
{
    const Section *section = ram_page[i].section;

    return where[section->mr] + (section->page + ram_page[i].page) * PAGE;
}

static bool ram_page_there(unsigned i)
{
    return plugged[ram_page[i].section - sections];
}

/* May devices reach this page of the memory map, by the rules? */
static bool is_guest_ram(const Section *section, unsigned page)
{
    hwaddr gpa = section->gpa + page * PAGE;

    return section->mr != 7 && section->mr != 8 &&
           region[section->mr].ram && !region[section->mr].rom &&
           !region[section->mr].device && !region[section->mr].discards &&
           !section->readonly && (gpa < 0xa0000 || gpa >= 0x100000);
}

void memory_listener_register(MemoryListener *one, AddressSpace *as)
{
    if (!listener) {
        listener = one;
    } else {
        last_listener = one;
    }
}

void memory_listener_unregister(MemoryListener *one)
{
}

void coiommu_vfio_transaction(CoiommuState *s)
{
}

/* coiommu-pin.c unpins what goes; here nothing is pinned. */
void coiommu_fallback_transaction(CoiommuState *s, bool changed)
{
}

void coiommu_pin_ram_changing(CoiommuState *s, GArray *next)
{
    g_assert_cmpuint(s->gate.closed, >, 0);
    g_assert_true(next != s->ram.extents);
}

static void memory_map_tell(void)
{
    size_t i;

    listener->begin(listener);
    for (i = 0; i < SECTIONS; i++) {
        const Section *section = &sections[i];
        MemoryRegionSection told = {
            .mr = &region[section->mr],
            .offset_within_address_space = section->gpa,
            .offset_within_region = section->page * PAGE,
            .size = section->pages * PAGE,
            .readonly = section->readonly,
        };

        if (plugged[i]) {
            listener->region_add(listener, &told);
        }
    }
    listener->commit(listener);
    last_listener->commit(last_listener);
    g_assert_cmpuint(state.gate.closed, ==, 0);
}

/* Bits of @which: sections.  Only pages that are RAM and there can be used. */
static void plug(uint16_t which)
{
    size_t i;

    for (i = 0; i < SECTIONS; i++) {
        plugged[i] = which & (1 << i);
    }
    memory_map_tell();
    for (i = 0; i < REGIONS; i++) {
        g_assert_cmpuint(region[i].refs, <=, 2);
    }
    for (i = 0; i < TABLE_PAGES; i++) {
        uint8_t *page = ram_page_in(memory, i);

        if (ram_page_there(i)) {
            g_assert_cmpuint(region[ram_page[i].section->mr].refs, >, 0);
            ASAN_UNPOISON_MEMORY_REGION(page, PAGE);
        } else {
            ASAN_POISON_MEMORY_REGION(page, PAGE);
        }
    }
}

#endif /* COIOMMU_FUZZ_TABLE_MEMORY_H */
