/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pieces of a block: see pieces.h.
 */
#include "osdep.h"
#include "pieces.h"

uint64_t coiommu_pieces_bytes(const CoiommuGeometry *geometry,
                              const GArray *list, uint64_t block)
{
    return coiommu_ram_bytes(list, coiommu_block_start(geometry, block),
                             coiommu_block_end(geometry, block));
}

GArray *coiommu_pieces_list(const CoiommuGeometry *geometry,
                            const GArray *list, uint64_t block)
{
    GArray *pieces = g_array_new(false, false, sizeof(CoiommuExtent));
    uint64_t gpa = coiommu_block_start(geometry, block);
    uint64_t end = coiommu_block_end(geometry, block);
    CoiommuExtent piece;

    while (coiommu_ram_next(list, &gpa, end, &piece)) {
        g_array_append_val(pieces, piece);
    }
    return pieces;
}

static bool pieces_have(const CoiommuGeometry *geometry, const GArray *list,
                        uint64_t block, const CoiommuExtent *want)
{
    uint64_t gpa = coiommu_block_start(geometry, block);
    uint64_t end = coiommu_block_end(geometry, block);
    CoiommuExtent piece;

    while (coiommu_ram_next(list, &gpa, end, &piece)) {
        if (coiommu_extent_equal(&piece, want)) {
            return true;
        }
    }
    return false;
}

GArray *coiommu_pieces_select(const CoiommuGeometry *geometry,
                              const GArray *list, const GArray *other,
                              uint64_t block, bool in)
{
    GArray *selected = g_array_new(false, false, sizeof(CoiommuExtent));
    uint64_t gpa = coiommu_block_start(geometry, block);
    uint64_t end = coiommu_block_end(geometry, block);
    CoiommuExtent piece;

    while (coiommu_ram_next(list, &gpa, end, &piece)) {
        if (pieces_have(geometry, other, block, &piece) == in) {
            g_array_append_val(selected, piece);
        }
    }
    return selected;
}

bool coiommu_pieces_equal(const CoiommuGeometry *geometry, const GArray *a,
                          const GArray *b, uint64_t block)
{
    uint64_t gpa_a = coiommu_block_start(geometry, block), gpa_b = gpa_a;
    uint64_t end = coiommu_block_end(geometry, block);
    CoiommuExtent x, y;

    for (;;) {
        bool more = coiommu_ram_next(a, &gpa_a, end, &x);

        if (more != coiommu_ram_next(b, &gpa_b, end, &y)) {
            return false;
        }
        if (!more) {
            return true;
        }
        if (!coiommu_extent_equal(&x, &y)) {
            return false;
        }
    }
}
