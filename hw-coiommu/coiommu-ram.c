/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The list of guest RAM.
 *
 * This list alone decides what is guest RAM: pin requests, the table and its
 * directory, and request pages are all resolved through it, so there is one
 * answer to "may a device reach this, and where is it".
 *
 * A memory listener builds it from the flat view of system memory, a complete
 * new list for each transaction.  Only a list that differs replaces the old
 * one, and before it does, blocks whose RAM changes are unpinned: the old list
 * still knows where they are mapped, and holds the memory regions.
 *
 * Left out: what is outside our windows (BARs), ROM, RAM of devices, and RAM
 * whose pages come and go by themselves (virtio-mem).  The legacy hole from
 * 640 KiB to 1 MiB is always left out, whatever the chipset shows there: VGA
 * and shadow RAM change too often, and no DMA buffer is there.
 *
 * The list changes under the BQL with the gate closed, so who has the BQL or
 * is inside the gate may use it.  The gate is closed for the whole of a memory
 * transaction, not only for the change: in it a vfio-user container swallows
 * errors.  As listeners are called in the order of their priority, a first one
 * closes it before VFIO's listeners hear of the transaction, and a last one
 * opens it when they are done.
 */
#include "qemu/osdep.h"
#include "coiommu.h"
#include "exec/cpu-common.h"
#include "trace.h"

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

static bool extents_equal(const GArray *a, const GArray *b)
{
    guint i;

    if (a->len != b->len) {
        return false;
    }
    for (i = 0; i < a->len; i++) {
        const CoiommuExtent *x = extent_at(a, i), *y = extent_at(b, i);

        if (x->gpa != y->gpa || x->size != y->size || x->mr != y->mr ||
            x->offset != y->offset) {
            return false;
        }
    }
    return true;
}

/* Index of the first extent that ends after @gpa; the length if none does. */
static guint extent_search(const GArray *extents, hwaddr gpa)
{
    guint low = 0, high = extents->len;

    while (low < high) {
        guint mid = low + (high - low) / 2;
        const CoiommuExtent *extent = extent_at(extents, mid);

        if (extent->gpa + extent->size > gpa) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return low;
}

bool coiommu_ram_next(const GArray *extents, hwaddr *gpa, hwaddr end,
                      CoiommuExtent *piece)
{
    guint i = extent_search(extents, *gpa);
    const CoiommuExtent *extent;
    hwaddr start;

    if (i == extents->len) {
        return false;
    }
    extent = extent_at(extents, i);
    start = MAX(*gpa, extent->gpa);
    if (start >= end) {
        return false;
    }
    *piece = (CoiommuExtent) {
        .gpa = start,
        .size = MIN(end, extent->gpa + extent->size) - start,
        .mr = extent->mr,
        .offset = extent->offset + (start - extent->gpa),
        .hva = extent->hva + (start - extent->gpa),
    };
    *gpa = start + piece->size;
    return true;
}

bool coiommu_ram_contains(CoiommuState *s, hwaddr gpa, uint64_t size)
{
    CoiommuExtent piece;
    hwaddr end;

    if (size > UINT64_MAX - gpa) {
        return false;
    }
    end = gpa + size;
    while (gpa < end) {
        hwaddr start = gpa;

        if (!coiommu_ram_next(s->ram.extents, &gpa, end, &piece) ||
            piece.gpa != start) {
            return false;
        }
    }
    return true;
}

/* The piece of RAM that is all of [gpa, gpa + size), if one extent holds it. */
static bool ram_resolve(CoiommuState *s, hwaddr gpa, uint64_t size,
                        CoiommuExtent *piece)
{
    hwaddr next = gpa;

    return size <= UINT64_MAX - gpa &&
           coiommu_ram_next(s->ram.extents, &next, gpa + size, piece) &&
           piece->gpa == gpa && piece->size == size;
}

void *coiommu_ram_ptr(CoiommuState *s, hwaddr gpa, uint64_t size)
{
    CoiommuExtent piece;

    return ram_resolve(s, gpa, size, &piece) ? piece.hva : NULL;
}

void coiommu_ram_set_dirty(CoiommuState *s, hwaddr gpa, uint64_t size)
{
    CoiommuExtent piece;

    if (ram_resolve(s, gpa, size, &piece)) {
        memory_region_set_dirty(piece.mr, piece.offset, size);
    }
}

uint64_t coiommu_ram_page_size(CoiommuState *s)
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
static void extents_add(GArray *extents, const MemoryRegionSection *section,
                        hwaddr start, hwaddr end)
{
    hwaddr base = section->offset_within_address_space;
    hwaddr gpa = MAX(start, base);
    CoiommuExtent extent, *last;

    end = MIN(end, base + int128_get64(section->size));
    if (gpa >= end) {
        return;
    }
    extent = (CoiommuExtent) {
        .gpa = gpa,
        .size = end - gpa,
        .mr = section->mr,
        .offset = section->offset_within_region + (gpa - base),
    };
    extent.hva = (uint8_t *)memory_region_get_ram_ptr(extent.mr) +
                 extent.offset;

    /* The flat view cuts RAM where only dirty logging differs: join it. */
    last = extents->len ? extent_at(extents, extents->len - 1) : NULL;
    if (last && last->mr == extent.mr &&
        last->gpa + last->size == extent.gpa &&
        last->offset + last->size == extent.offset) {
        last->size += extent.size;
        return;
    }
    memory_region_ref(extent.mr);
    g_array_append_val(extents, extent);
}

static void ram_begin(MemoryListener *listener)
{
    CoiommuState *s = container_of(listener, CoiommuState, ram.listener);

    coiommu_gate_close(&s->gate);
    coiommu_vfio_transaction(s);
    s->ram.changed = false;
    g_array_set_size(s->ram.pending, 0);
}

/* The last listener's commit: containers tell of their errors again. */
static void ram_transaction_end(MemoryListener *listener)
{
    CoiommuState *s = container_of(listener, CoiommuState, ram.last_listener);

    coiommu_fallback_transaction(s, s->ram.changed);
    coiommu_gate_open(&s->gate);
}

/* Sections come in ascending order, those that stayed as well as new ones. */
static void ram_region(MemoryListener *listener, MemoryRegionSection *section)
{
    CoiommuState *s = container_of(listener, CoiommuState, ram.listener);
    unsigned i;

    if (!section_is_ram(section)) {
        return;
    }
    for (i = 0; i < s->nr_windows; i++) {
        hwaddr start = s->window[i].base;
        hwaddr end = start + s->window[i].size;

        if (!s->window[i].ram) {
            continue;
        }
        extents_add(s->ram.pending, section, start,
                    MIN(end, LEGACY_HOLE_START));
        extents_add(s->ram.pending, section, MAX(start, LEGACY_HOLE_END), end);
    }
}

static void ram_commit(MemoryListener *listener)
{
    CoiommuState *s = container_of(listener, CoiommuState, ram.listener);
    guint i;

    if (extents_equal(s->ram.extents, s->ram.pending)) {
        g_array_set_size(s->ram.pending, 0);
        return;
    }
    coiommu_pin_ram_changing(s, s->ram.pending);

    s->ram.changed = true;
    g_array_unref(s->ram.extents);
    s->ram.extents = s->ram.pending;
    s->ram.pending = extents_new();
    for (i = 0; i < s->ram.extents->len; i++) {
        const CoiommuExtent *extent = extent_at(s->ram.extents, i);

        trace_coiommu_ram_extent(i, extent->gpa, extent->size,
                                 memory_region_name(extent->mr));
    }
}

void coiommu_ram_init(CoiommuState *s)
{
    s->ram.extents = extents_new();
    s->ram.pending = extents_new();
    s->ram.listener = (MemoryListener) {
        .name = "coiommu-ram",
        .begin = ram_begin,
        .region_add = ram_region,
        .region_nop = ram_region,
        .commit = ram_commit,
    };
    s->ram.last_listener = (MemoryListener) {
        .name = "coiommu-ram-last",
        .priority = INT_MAX,
        .commit = ram_transaction_end,
    };
    /* Both hear of their own registration, as of a transaction. */
    memory_listener_register(&s->ram.listener, &address_space_memory);
    memory_listener_register(&s->ram.last_listener, &address_space_memory);
}

void coiommu_ram_exit(CoiommuState *s)
{
    memory_listener_unregister(&s->ram.listener);
    memory_listener_unregister(&s->ram.last_listener);
    g_array_unref(s->ram.extents);
    g_array_unref(s->ram.pending);
}
