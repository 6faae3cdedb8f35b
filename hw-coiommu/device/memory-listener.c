/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory listener: it builds the list of guest RAM (core/ram.h).
 *
 * The list is built from the flat view of system memory, a complete new one for
 * each transaction.  Only a list that differs replaces the old one, and before
 * it does, blocks whose RAM changes are unpinned: the old list still knows
 * where they are mapped, and holds the memory regions.
 *
 * Left out: what is outside the machine's windows (BARs), ROM, RAM of devices,
 * and RAM whose pages come and go by themselves (virtio-mem).  The legacy hole
 * from 640 KiB to 1 MiB is always left out, whatever the chipset shows there:
 * VGA and shadow RAM change too often, and no DMA buffer is there.
 *
 * The gate is closed for the whole of a memory transaction, not only for the
 * change: in it a vfio-user container swallows errors.  As listeners are called
 * in the order of their priority, a first one closes it before VFIO's listeners
 * hear of the transaction, and a last one opens it when they are done.
 *
 * All of it runs under the BQL.
 */
#include "qemu/osdep.h"
#include "exec/cpu-common.h"
#include "hw/coiommu/endpoint/fallback.h"
#include "hw/coiommu/machine/pc.h"
#include "hw/coiommu/trace.h"
#include "memory-listener.h"

#define LEGACY_HOLE_START   0xa0000
#define LEGACY_HOLE_END     0x100000

static CoiommuExtent *extent_at(const GArray *extents, guint i)
{
    return &g_array_index(extents, CoiommuExtent, i);
}

static void extent_clear(gpointer data)
{
    CoiommuExtent *extent = data;

    memory_region_unref(extent->mr);
}

static GArray *extents_new(void)
{
    GArray *extents = g_array_new(false, false, sizeof(CoiommuExtent));

    g_array_set_clear_func(extents, extent_clear);
    return extents;
}

static void set_dirty(const CoiommuExtent *piece)
{
    memory_region_set_dirty(piece->mr, piece->offset, piece->size);
}

uint64_t coiommu_listener_page_size(CoiommuState *s)
{
    uint64_t size = 0;
    guint i;

    for (i = 0; i < s->ram.extents->len; i++) {
        MemoryRegion *mr = extent_at(s->ram.extents, i)->mr;

        size = MAX(size, qemu_ram_pagesize(mr->ram_block));
    }
    return size;
}

/* ---- Building the list ---- */

static bool section_is_ram(const MemoryRegionSection *section)
{
    MemoryRegion *mr = section->mr;

    return memory_region_is_ram(mr) && !section->readonly &&
           !memory_region_is_rom(mr) && !memory_region_is_romd(mr) &&
           !memory_region_is_ram_device(mr) &&
           !memory_region_has_ram_discard_manager(mr);
}

/* Add the part of the section that is in [start, end). */
static void add_part(CoiommuState *s, const CoiommuExtent *section,
                     hwaddr start, hwaddr end)
{
    if (coiommu_extents_add(s->ram_pending, section, start, end)) {
        memory_region_ref(section->mr);
    }
}

static void ram_begin(MemoryListener *listener)
{
    CoiommuState *s = container_of(listener, CoiommuState, memory_listener);

    coiommu_gate_close(&s->gate);
    coiommu_vfio_transaction(s->domain.vfio);
    s->ram_changed = false;
    g_array_set_size(s->ram_pending, 0);
}

/* The last listener's commit: containers tell of their errors again. */
static void ram_transaction_end(MemoryListener *listener)
{
    CoiommuState *s = container_of(listener, CoiommuState,
                                   last_memory_listener);

    coiommu_fallback_transaction(s, s->ram_changed);
    coiommu_gate_open(&s->gate);
}

/* Add what of it lies in the machine's windows, without the legacy hole. */
static void add_section(CoiommuState *s, const CoiommuExtent *section)
{
    CoiommuWindow windows[COIOMMU_WINDOWS_MAX];
    unsigned count = coiommu_machine_windows(windows), i;

    for (i = 0; i < count; i++) {
        hwaddr start = windows[i].base;
        hwaddr end = start + windows[i].size;

        if (windows[i].ram) {
            add_part(s, section, start, MIN(end, LEGACY_HOLE_START));
            add_part(s, section, MAX(start, LEGACY_HOLE_END), end);
        }
    }
}

/* Sections come in ascending order, those that stayed as well as new ones. */
static void ram_region(MemoryListener *listener, MemoryRegionSection *section)
{
    CoiommuState *s = container_of(listener, CoiommuState, memory_listener);
    hwaddr offset = section->offset_within_region;
    CoiommuExtent extent;

    if (!section_is_ram(section)) {
        return;
    }
    extent = (CoiommuExtent) {
        .gpa = section->offset_within_address_space,
        .size = int128_get64(section->size),
        .mr = section->mr,
        .offset = offset,
        .hva = (uint8_t *)memory_region_get_ram_ptr(section->mr) + offset,
    };
    add_section(s, &extent);
}

static void ram_commit(MemoryListener *listener)
{
    CoiommuState *s = container_of(listener, CoiommuState, memory_listener);
    guint i;

    if (coiommu_extents_equal(s->ram.extents, s->ram_pending)) {
        g_array_set_size(s->ram_pending, 0);
        return;
    }
    coiommu_domain_ram_changing(&s->domain, s->ram_pending);

    s->ram_changed = true;
    g_array_unref(s->ram.extents);
    s->ram.extents = s->ram_pending;
    s->ram_pending = extents_new();
    for (i = 0; i < s->ram.extents->len; i++) {
        const CoiommuExtent *extent = extent_at(s->ram.extents, i);

        trace_coiommu_ram_extent(i, extent->gpa, extent->size,
                                 memory_region_name(extent->mr));
    }
}

void coiommu_listener_init(CoiommuState *s)
{
    s->ram.set_dirty = set_dirty;
    s->ram.extents = extents_new();
    s->ram_pending = extents_new();
    s->memory_listener = (MemoryListener) {
        .name = "coiommu-ram",
        .begin = ram_begin,
        .region_add = ram_region,
        .region_nop = ram_region,
        .commit = ram_commit,
    };
    s->last_memory_listener = (MemoryListener) {
        .name = "coiommu-ram-last",
        .priority = INT_MAX,
        .commit = ram_transaction_end,
    };
    /* Both hear of their own registration, as of a transaction. */
    memory_listener_register(&s->memory_listener, &address_space_memory);
    memory_listener_register(&s->last_memory_listener, &address_space_memory);
}

void coiommu_listener_exit(CoiommuState *s)
{
    memory_listener_unregister(&s->memory_listener);
    memory_listener_unregister(&s->last_memory_listener);
    g_array_unref(s->ram.extents);
    g_array_unref(s->ram_pending);
}
