/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sizes of units and blocks: see geometry.h.
 */
#include "osdep.h"
#include "geometry.h"

/* The finest that a request can name, whatever the tracking unit. */
#define GFN_SHIFT 12

unsigned coiommu_auto_block_shift(uint64_t ram_bytes, uint64_t page_bytes,
                                  uint64_t mappings, unsigned unit_shift)
{
    unsigned shift = MAX(COIOMMU_BLOCK_SHIFT_DEFAULT, unit_shift);

    while (shift < COIOMMU_BLOCK_SHIFT_MAX &&
           (1ull << shift < page_bytes ||
            ((ram_bytes - 1) >> shift) + 1 > mappings / 2)) {
        shift++;
    }
    return shift;
}

uint64_t coiommu_max_mapping(uint64_t mappings, uint64_t ram_bytes,
                             unsigned block_shift)
{
    uint64_t pages = MAX(mappings / 2, 2) - 1;

    if (((ram_bytes - 1) >> block_shift) + 1 <= mappings / 2 ||
        pages > UINT64_MAX >> GFN_SHIFT) {
        return UINT64_MAX;
    }
    return pages << GFN_SHIFT;
}
