/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sizes of units and blocks: see geometry.h.
 */
#include "osdep.h"
#include "geometry.h"

unsigned coiommu_auto_block_shift(uint64_t ram_bytes, unsigned unit_shift)
{
    unsigned shift = MAX(COIOMMU_BLOCK_SHIFT_DEFAULT, unit_shift);

    while (shift < COIOMMU_BLOCK_SHIFT_MAX &&
           ((ram_bytes - 1) >> shift) + 1 > COIOMMU_DEFAULT_BUDGET / 2) {
        shift++;
    }
    return shift;
}

uint64_t coiommu_max_mapping(uint64_t mappings, unsigned block_shift)
{
    uint64_t blocks = MAX(mappings / 2, 2) - 1;

    if (blocks > UINT64_MAX >> block_shift) {
        return UINT64_MAX;
    }
    return blocks << block_shift;
}
