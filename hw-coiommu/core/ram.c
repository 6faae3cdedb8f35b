/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Look-ups in the list of guest RAM: see ram.h.
 */
#include "osdep.h"
#include "ram.h"

static const CoiommuExtent *extent_at(const GArray *extents, guint i)
{
    return &g_array_index(extents, CoiommuExtent, i);
}

bool coiommu_extent_equal(const CoiommuExtent *x, const CoiommuExtent *y)
{
    return x->gpa == y->gpa && x->size == y->size && x->mr == y->mr &&
           x->offset == y->offset;
}

bool coiommu_extents_equal(const GArray *a, const GArray *b)
{
    guint i;

    if (a->len != b->len) {
        return false;
    }
    for (i = 0; i < a->len; i++) {
        if (!coiommu_extent_equal(extent_at(a, i), extent_at(b, i))) {
            return false;
        }
    }
    return true;
}

bool coiommu_extents_add(GArray *extents, const CoiommuExtent *section,
                         uint64_t start, uint64_t end)
{
    uint64_t gpa = MAX(start, section->gpa);
    CoiommuExtent extent = *section, *last;

    end = MIN(end, section->gpa + section->size);
    if (gpa >= end) {
        return false;
    }
    extent.gpa = gpa;
    extent.size = end - gpa;
    extent.offset += gpa - section->gpa;
    extent.hva += gpa - section->gpa;
    last = extents->len ? &g_array_index(extents, CoiommuExtent,
                                         extents->len - 1) : NULL;
    if (last && last->mr == extent.mr &&
        last->gpa + last->size == extent.gpa &&
        last->offset + last->size == extent.offset) {
        last->size += extent.size;
        return false;
    }
    g_array_append_val(extents, extent);
    return true;
}

/* Index of the first extent that ends after @gpa; the length if none does. */
static guint extent_search(const GArray *extents, uint64_t gpa)
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

bool coiommu_ram_next(const GArray *extents, uint64_t *gpa, uint64_t end,
                      CoiommuExtent *piece)
{
    const CoiommuExtent *extent;
    uint64_t start;
    guint i;

    /* The last piece has reached the end: there is nothing to search for. */
    if (*gpa >= end) {
        return false;
    }
    i = extent_search(extents, *gpa);
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

uint64_t coiommu_ram_bytes(const GArray *extents, uint64_t gpa, uint64_t end)
{
    CoiommuExtent piece;
    uint64_t bytes = 0;

    while (coiommu_ram_next(extents, &gpa, end, &piece)) {
        bytes += piece.size;
    }
    return bytes;
}

bool coiommu_ram_contains(const CoiommuRam *ram, uint64_t gpa, uint64_t size)
{
    CoiommuExtent piece;
    uint64_t end;

    if (size > UINT64_MAX - gpa) {
        return false;
    }
    end = gpa + size;
    while (gpa < end) {
        uint64_t start = gpa;

        if (!coiommu_ram_next(ram->extents, &gpa, end, &piece) ||
            piece.gpa != start) {
            return false;
        }
    }
    return true;
}

bool coiommu_ram_resolve(const CoiommuRam *ram, uint64_t gpa, uint64_t size,
                         CoiommuExtent *piece)
{
    uint64_t next = gpa;

    return size <= UINT64_MAX - gpa &&
           coiommu_ram_next(ram->extents, &next, gpa + size, piece) &&
           piece->gpa == gpa && piece->size == size;
}

void *coiommu_ram_ptr(const CoiommuRam *ram, uint64_t gpa, uint64_t size)
{
    CoiommuExtent piece;

    return coiommu_ram_resolve(ram, gpa, size, &piece) ? piece.hva : NULL;
}
