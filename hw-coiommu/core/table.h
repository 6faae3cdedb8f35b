/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's DMA tracking table: PINNED, ACCESSED and counts of a range.
 *
 * dtt.c knows where an entry is and how it changes; this file finds the leaves
 * in guest memory.  Directory and leaves are looked up anew each time, because
 * the guest adds leaves, and may do worse, while the table is in use.  A leaf
 * that isn't there, or not in guest RAM, holds no counts: a guest that lies so
 * harms itself.
 *
 * Without a table (before ENABLE, after DISABLE) nothing is published, and
 * nothing is in use by its counts.
 *
 * The caller must hold the BQL or be inside the gate.
 */
#ifndef COIOMMU_TABLE_H
#define COIOMMU_TABLE_H

#include "dtt.h"
#include "policy.h"
#include "ram.h"

/**
 * CoiommuTable - the table
 * @ram: guest RAM, where it is
 * @enabled: there is one: the rest is valid.  Changes under the BQL with the
 *           gate closed, as all of it
 * @generation: changes when a table is taken over or given up
 * @has_accessed: the guest sets ACCESSED
 * @dtt: its geometry
 */
typedef struct CoiommuTable {
    const CoiommuRam *ram;
    bool enabled;
    unsigned generation;
    bool has_accessed;
    CoiommuDtt dtt;
} CoiommuTable;

/*
 * Set or clear PINNED for the units in [gpa, gpa + size).  Entries that the
 * guest has not provided are passed over: it will ask for those units.
 * Withdrawing returns whether one of them had a count at that moment; if none
 * had, no device uses the range until it is published again.
 */
void coiommu_table_publish(const CoiommuTable *table, uint64_t gpa,
                           uint64_t size);
bool coiommu_table_withdraw(const CoiommuTable *table, uint64_t gpa,
                            uint64_t size);

/* Clear ACCESSED in these units.  Was it set in one of them? */
bool coiommu_table_take_accessed(const CoiommuTable *table, uint64_t gpa,
                                 uint64_t size);

/* The same, and has a unit a count?  Both are hints. */
CoiommuLook coiommu_table_look(const CoiommuTable *table, uint64_t gpa,
                               uint64_t size);

#endif /* COIOMMU_TABLE_H */
