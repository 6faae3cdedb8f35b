/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The list of guest RAM, and look-ups in it.
 *
 * This list alone decides what is guest RAM: pin requests, the table and its
 * directory, and request pages are all resolved through it, so there is one
 * answer to "may a device reach this, and where is it".
 *
 * It changes under the BQL with the gate closed (device/memory-listener.c); a
 * caller that holds the BQL or is inside the gate may use it.
 */
#ifndef COIOMMU_RAM_H
#define COIOMMU_RAM_H

typedef struct MemoryRegion MemoryRegion;

/**
 * CoiommuExtent - contiguous guest RAM
 * @gpa: first address
 * @size: bytes, not 0
 * @mr: QEMU's region behind it; the list of extents holds a reference
 * @offset: where in @mr it begins
 * @hva: where it is mapped in this process
 */
typedef struct CoiommuExtent {
    uint64_t gpa;
    uint64_t size;
    MemoryRegion *mr;
    uint64_t offset;
    uint8_t *hva;
} CoiommuExtent;

/**
 * CoiommuRam - the list of guest RAM
 * @extents: CoiommuExtent, ascending, disjoint
 * @set_dirty: tells dirty logging that QEMU has written to a piece of it; from
 *             any thread that may use the list
 */
typedef struct CoiommuRam {
    GArray *extents;
    void (*set_dirty)(const CoiommuExtent *piece);
} CoiommuRam;

/* Do both describe the same memory at the same place? */
bool coiommu_extent_equal(const CoiommuExtent *x, const CoiommuExtent *y);
bool coiommu_extents_equal(const GArray *a, const GArray *b);

/*
 * Add the part of @section that is in [start, end) to the end of the list; it
 * must lie above what is there.  Memory that goes on where the last extent ends
 * is joined with it: QEMU's flat view cuts RAM where only dirty logging
 * differs.  Returns true if there is a new extent, for which the caller must
 * take a reference.
 */
bool coiommu_extents_add(GArray *extents, const CoiommuExtent *section,
                         uint64_t start, uint64_t end);

/*
 * Walk the RAM in [*gpa, end): describe its first piece in @piece and advance
 * *gpa past it.  Returns false if there is none.
 */
bool coiommu_ram_next(const GArray *extents, uint64_t *gpa, uint64_t end,
                      CoiommuExtent *piece);

/* How many bytes of [gpa, end) are in the list? */
uint64_t coiommu_ram_bytes(const GArray *extents, uint64_t gpa, uint64_t end);

/* Is all of [gpa, gpa + size) guest RAM?  @size is not 0. */
bool coiommu_ram_contains(const CoiommuRam *ram, uint64_t gpa, uint64_t size);

/*
 * The piece of RAM that is all of [gpa, gpa + size), if one extent holds it.
 * Good until the BQL is dropped or the gate left.
 */
bool coiommu_ram_resolve(const CoiommuRam *ram, uint64_t gpa, uint64_t size,
                         CoiommuExtent *piece);

/* The same, of which only the place in this process is of interest, or NULL. */
void *coiommu_ram_ptr(const CoiommuRam *ram, uint64_t gpa, uint64_t size);

#endif /* COIOMMU_RAM_H */
