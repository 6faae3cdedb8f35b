/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sizes of tracking units and pin blocks: the only owner of their arithmetic;
 * and what follows from a container's mapping budget.
 *
 * A *unit* is what the guest counts, a *block* what is pinned; a block is one
 * unit or more.  Both are aligned powers of two.
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

/**
 * CoiommuGeometry - both sizes
 * @unit_shift: log2 of the tracking unit, fixed by realize
 * @block_shift: log2 of the pin block, fixed when the machine is complete
 */
typedef struct CoiommuGeometry {
    unsigned unit_shift;
    unsigned block_shift;
} CoiommuGeometry;

static inline uint64_t coiommu_unit_size(const CoiommuGeometry *geometry)
{
    return UINT64_C(1) << geometry->unit_shift;
}

static inline uint64_t coiommu_block_size(const CoiommuGeometry *geometry)
{
    return UINT64_C(1) << geometry->block_shift;
}

/* The number of the block that @gpa lies in. */
static inline uint64_t coiommu_block_at(const CoiommuGeometry *geometry,
                                        uint64_t gpa)
{
    return gpa >> geometry->block_shift;
}

/* Where a block begins, and where the next one does. */
static inline uint64_t coiommu_block_start(const CoiommuGeometry *geometry,
                                           uint64_t block)
{
    return block << geometry->block_shift;
}

static inline uint64_t coiommu_block_end(const CoiommuGeometry *geometry,
                                         uint64_t block)
{
    return coiommu_block_start(geometry, block + 1);
}

/* How many blocks [gpa, gpa + size) lies in; @size is not 0. */
static inline uint64_t coiommu_blocks_of(const CoiommuGeometry *geometry,
                                         uint64_t gpa, uint64_t size)
{
    return coiommu_block_at(geometry, gpa + size - 1) -
           coiommu_block_at(geometry, gpa) + 1;
}

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
