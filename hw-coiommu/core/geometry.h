/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sizes of tracking units and pin blocks, and what follows from a container's
 * mapping budget.
 *
 * VFIO type1 holds 65535 mappings per container by default.  A block is one
 * mapping (one more where a hole cuts it), and we never plan past half of the
 * budget, so that BARs, the rest of the machine and other devices fit too.
 */
#ifndef COIOMMU_GEOMETRY_H
#define COIOMMU_GEOMETRY_H

#define COIOMMU_BLOCK_SHIFT_DEFAULT 21
#define COIOMMU_BLOCK_SHIFT_MAX     30

/* VFIO type1's default, and what we assume where no container says. */
#define COIOMMU_DEFAULT_BUDGET      65535

/*
 * The smallest block, from 2 MiB (or the unit, if larger) to 1 GiB, that is not
 * a part of one page of @page_bytes, and of which half of a budget of @mappings
 * covers @ram_bytes (at least 1).  1 GiB if none is.
 */
unsigned coiommu_auto_block_shift(uint64_t ram_bytes, uint64_t page_bytes,
                                  uint64_t mappings, unsigned unit_shift);

/*
 * The largest DMA mapping, in bytes, that fits half of a budget of @mappings
 * blocks, wherever its pages are: each page of a scatterlist may lie in a block
 * of its own, and bytes that do not start with a page touch one page more.
 * Never less than one page; no limit where all of @ram_bytes (at least 1) fits.
 * UINT64_MAX, as a budget or as the result, is "no limit".
 */
uint64_t coiommu_max_mapping(uint64_t mappings, uint64_t ram_bytes,
                             unsigned block_shift);

#endif /* COIOMMU_GEOMETRY_H */
