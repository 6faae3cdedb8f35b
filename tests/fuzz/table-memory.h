/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory of the machine that the fuzz target "table" plays, and the list of
 * guest RAM that the device's memory listener makes of it.  For table.c alone:
 * all of it is static there.
 */
#ifndef COIOMMU_FUZZ_TABLE_MEMORY_H
#define COIOMMU_FUZZ_TABLE_MEMORY_H

#include <sanitizer/asan_interface.h>
#include "osdep.h"
#include "hostile.h"
#include "ram.h"
#include "table.h"

/**
 * MemoryRegion - a part of the machine's memory
 * @host: its memory
 * @refs: how many references there are
 */
struct MemoryRegion {
    uint8_t *host;
    unsigned refs;
};

#define PAGE            4096ull
#define GIB             (1ull << 30)

/* A contiguous part of the memory map, from page @page of region @mr. */
typedef struct Section {
    uint64_t gpa;
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
static CoiommuRam ram;
static CoiommuTable table;

/* Of each page of guest RAM, plugged or not: its section, and which page. */
static struct {
    const Section *section;
    unsigned page;
} ram_page[TABLE_PAGES];

static uint64_t ram_page_gpa(unsigned i)
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

/* Regions that are ROM, a device's, virtio-mem's, and out of any window. */
static bool is_ram_section(const Section *section)
{
    return !section->readonly && (section->mr < 4 || section->mr == 9);
}

/* May devices reach this page of the memory map, by the rules? */
static bool is_guest_ram(const Section *section, unsigned page)
{
    uint64_t gpa = section->gpa + page * PAGE;

    return is_ram_section(section) && (gpa < 0xa0000 || gpa >= 0x100000);
}

static void extent_clear(gpointer data)
{
    CoiommuExtent *extent = data;

    g_assert_cmpuint(extent->mr->refs, >, 0);
    extent->mr->refs--;
}

static void set_dirty(const CoiommuExtent *piece)
{
    g_assert_cmpuint(piece->mr->refs, >, 0);
    g_assert_cmpuint(piece->offset, <=, REGION_PAGES * PAGE);
    g_assert_cmpuint(piece->size, <=, REGION_PAGES * PAGE - piece->offset);
    g_assert_true(piece->hva == piece->mr->host + piece->offset);
}

/* Add what of it is in [start, end). */
static void add_part(GArray *list, const CoiommuExtent *extent, uint64_t start,
                     uint64_t end)
{
    if (coiommu_extents_add(list, extent, start, end)) {
        extent->mr->refs++;
    }
}

/* As the memory listener does, around the legacy hole. */
static void memory_map_tell(void)
{
    GArray *next = g_array_new(false, false, sizeof(CoiommuExtent));
    size_t i;

    g_array_set_clear_func(next, extent_clear);
    for (i = 0; i < SECTIONS; i++) {
        const Section *section = &sections[i];
        CoiommuExtent extent = {
            .gpa = section->gpa,
            .size = section->pages * PAGE,
            .mr = &region[section->mr],
            .offset = section->page * PAGE,
            .hva = memory[section->mr] + section->page * PAGE,
        };

        if (plugged[i] && is_ram_section(section)) {
            add_part(next, &extent, 0, 0xa0000);
            add_part(next, &extent, 0x100000, GIB);
            add_part(next, &extent, 4 * GIB, 5 * GIB);
        }
    }
    g_assert_cmpint(coiommu_extents_equal(ram.extents, next), ==,
                    coiommu_extents_equal(next, ram.extents));
    g_array_unref(ram.extents);
    ram.extents = next;
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
