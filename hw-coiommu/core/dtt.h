/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The DMA tracking table as the host sees it: where an entry is, and the
 * atomic changes of its PINNED bit.
 *
 * The table is guest memory.  Everything read from it may be a lie and may
 * change at any time: a directory entry is read once into a local, checked,
 * and resolved by the caller through its list of guest RAM.  Nothing here
 * dereferences a guest address.
 *
 * "first" and "end" delimit a half-open range of units, [first, end).
 */
#ifndef COIOMMU_DTT_H
#define COIOMMU_DTT_H

/**
 * CoiommuDtt - the table's geometry, fixed at ENABLE
 * @root: GPA of the directory
 * @size: bytes tracked, from GPA 0
 * @unit_shift: log2 of the tracking unit
 * @units: entries in use
 * @leaves: directory entries in use
 */
typedef struct CoiommuDtt {
    uint64_t root;
    uint64_t size;
    unsigned unit_shift;
    uint64_t units;
    uint64_t leaves;
} CoiommuDtt;

/**
 * CoiommuDttSpan - neighbouring entries in one leaf
 * @dir_gpa: GPA of the leaf's directory entry
 * @slot: first entry in the leaf
 * @count: number of entries, at least 1
 */
typedef struct CoiommuDttSpan {
    uint64_t dir_gpa;
    unsigned slot;
    unsigned count;
} CoiommuDttSpan;

/*
 * Take over the guest's root and size.  Returns false, leaving @dtt unset, if
 * they are malformed: root not page-aligned, size 0 or not a multiple of
 * 4 KiB, or a directory that runs past the end of the address space.
 */
bool coiommu_dtt_init(CoiommuDtt *dtt, uint64_t root, uint64_t size,
                      unsigned unit_shift);

/* Size in bytes of the directory. */
uint64_t coiommu_dtt_dir_bytes(const CoiommuDtt *dtt);

/*
 * Cut [*first, end) at leaf borders: describe the first piece in @span and
 * advance *first past it.  Returns false when nothing is left, be it that the
 * range is empty or that it lies past the table.
 */
bool coiommu_dtt_next_span(const CoiommuDtt *dtt, uint64_t *first,
                           uint64_t end, CoiommuDttSpan *span);

/*
 * Decode a directory entry as it is in memory (little-endian).  Returns false
 * if the leaf is not present.
 */
bool coiommu_dtt_leaf(uint64_t entry_le, uint64_t *leaf_gpa);

/*
 * Set or clear PINNED in @count entries of a leaf, starting at @slot.  The
 * guest counts in the same words at the same time.  Withdrawing returns whether
 * one of the entries had a count as its PINNED was cleared: a no is final.
 */
void coiommu_dtt_publish(uint32_t *leaf, unsigned slot, unsigned count);
bool coiommu_dtt_withdraw(uint32_t *leaf, unsigned slot, unsigned count);

/* Has one of these entries a count?  A no is a hint. */
bool coiommu_dtt_busy(const uint32_t *leaf, unsigned slot, unsigned count);

/* Clear ACCESSED in these entries.  Was it set in one of them? */
bool coiommu_dtt_take_accessed(uint32_t *leaf, unsigned slot, unsigned count);

#endif /* COIOMMU_DTT_H */
