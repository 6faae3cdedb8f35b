/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's DMA tracking table: PINNED, ACCESSED and counts of a block.
 *
 * core/dtt.c knows where an entry is and how it changes; this file finds the
 * leaves in guest memory.  Directory and leaves are looked up anew each time,
 * because the guest adds leaves, and may do worse, while the table is in use.
 * A leaf that isn't there, or not in guest RAM, holds no counts: a guest that
 * lies so harms itself.
 */
#include "qemu/osdep.h"
#include "coiommu.h"
#include "trace.h"

/* Returns what the walk is to return if it is so for any leaf. */
typedef bool LeafOp(uint32_t *leaf, unsigned slot, unsigned count);

/* GPA of the leaf that a directory entry in guest memory points to. */
static bool table_leaf(CoiommuState *s, hwaddr dir_gpa, uint64_t *leaf_gpa)
{
    uint64_t *entry = coiommu_ram_ptr(s, dir_gpa, sizeof(*entry));

    /*
     * Acquire: pairs with the guest's release of an entry for a leaf that it
     * has cleared.
     */
    return entry &&
           coiommu_dtt_leaf(__atomic_load_n(entry, __ATOMIC_ACQUIRE),
                            leaf_gpa);
}

/* Do @op to the entries of [gpa, gpa + size).  @writes: it changes them. */
static bool table_walk(CoiommuState *s, hwaddr gpa, uint64_t size, LeafOp *op,
                       bool writes)
{
    uint64_t unit = gpa >> s->unit_shift;
    uint64_t end = ((gpa + size - 1) >> s->unit_shift) + 1;
    CoiommuDttSpan span;
    bool any = false;

    while (coiommu_dtt_next_span(&s->dtt, &unit, end, &span)) {
        uint64_t leaf_gpa;
        uint32_t *leaf = NULL;

        if (table_leaf(s, span.dir_gpa, &leaf_gpa)) {
            leaf = coiommu_ram_ptr(s, leaf_gpa, COIOMMU_DTT_PAGE_SIZE);
        }
        if (!leaf) {
            trace_coiommu_table_hole(span.dir_gpa, unit);
            continue;
        }
        any |= op(leaf, span.slot, span.count);
        if (writes) {
            coiommu_ram_set_dirty(s, leaf_gpa, COIOMMU_DTT_PAGE_SIZE);
        }
    }
    return any;
}

static bool publish(uint32_t *leaf, unsigned slot, unsigned count)
{
    coiommu_dtt_publish(leaf, slot, count);
    return false;
}

static bool withdraw(uint32_t *leaf, unsigned slot, unsigned count)
{
    coiommu_dtt_withdraw(leaf, slot, count);
    return false;
}

static bool busy(uint32_t *leaf, unsigned slot, unsigned count)
{
    return coiommu_dtt_busy(leaf, slot, count);
}

void coiommu_table_publish(CoiommuState *s, hwaddr gpa, uint64_t size)
{
    uint64_t first = gpa >> s->unit_shift;
    uint64_t last = (gpa + size - 1) >> s->unit_shift;

    trace_coiommu_table_publish(gpa, size, last - first + 1);
    table_walk(s, gpa, size, publish, true);
}

void coiommu_table_withdraw(CoiommuState *s, hwaddr gpa, uint64_t size)
{
    table_walk(s, gpa, size, withdraw, true);
}

bool coiommu_table_busy(CoiommuState *s, hwaddr gpa, uint64_t size)
{
    return table_walk(s, gpa, size, busy, false);
}

bool coiommu_table_take_accessed(CoiommuState *s, hwaddr gpa, uint64_t size)
{
    return table_walk(s, gpa, size, coiommu_dtt_take_accessed, true);
}
