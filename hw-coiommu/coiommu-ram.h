/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The list of guest RAM: what coiommu-ram.c offers the other files.
 */
#ifndef COIOMMU_RAM_H
#define COIOMMU_RAM_H

#include "coiommu-compat.h"

typedef struct CoiommuState CoiommuState;

/**
 * CoiommuExtent - contiguous guest RAM
 * @gpa: first address
 * @size: bytes, not 0
 * @mr: the region behind it; the list of extents holds a reference
 * @offset: where in @mr it begins
 * @hva: where it is mapped in this process
 */
typedef struct CoiommuExtent {
    hwaddr gpa;
    uint64_t size;
    MemoryRegion *mr;
    hwaddr offset;
    uint8_t *hva;
} CoiommuExtent;

/**
 * CoiommuRam - the list of guest RAM
 * @listener: on address_space_memory
 * @last_listener: the same, called after all others
 * @extents: CoiommuExtent, ascending, disjoint
 * @pending: the list that the memory transaction in progress builds
 * @changed: that transaction has changed @extents
 */
typedef struct CoiommuRam {
    MemoryListener listener;
    MemoryListener last_listener;
    GArray *extents;
    GArray *pending;
    bool changed;
} CoiommuRam;

void coiommu_ram_init(CoiommuState *s);
void coiommu_ram_exit(CoiommuState *s);

/* Is all of [gpa, gpa + size) guest RAM?  @size is not 0. */
bool coiommu_ram_contains(CoiommuState *s, hwaddr gpa, uint64_t size);

/*
 * Where [gpa, gpa + size) is in this process, or NULL unless one extent holds
 * all of it.  Good until the BQL is dropped or the gate left.
 */
void *coiommu_ram_ptr(CoiommuState *s, hwaddr gpa, uint64_t size);

/* The largest page that guest RAM is made of in the host.  BQL. */
uint64_t coiommu_ram_page_size(CoiommuState *s);

/* Tell dirty logging that we wrote there; coiommu_ram_ptr() was successful. */
void coiommu_ram_set_dirty(CoiommuState *s, hwaddr gpa, uint64_t size);

/*
 * Walk the RAM in [*gpa, end): describe its first piece in @piece and advance
 * *gpa past it.  Returns false if there is none.
 */
bool coiommu_ram_next(const GArray *extents, hwaddr *gpa, hwaddr end,
                      CoiommuExtent *piece);

#endif /* COIOMMU_RAM_H */
