/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Walks over the guest's DMA tracking table: see table.h.
 */
#include "osdep.h"
#include "../include/coiommu_abi.h"
#include "table.h"
#include "trace.h"

/* What is done to the entries of one leaf; @opaque has what came of it. */
typedef void LeafOp(uint32_t *leaf, const CoiommuDttSpan *span, void *opaque);

/* GPA of the leaf that a directory entry in guest memory points to. */
static bool table_leaf(const CoiommuTable *table, uint64_t dir_gpa,
                       uint64_t *leaf_gpa)
{
    uint64_t *entry = coiommu_ram_ptr(table->ram, dir_gpa, sizeof(*entry));

    /*
     * Acquire: pairs with the guest's release of an entry for a leaf that it
     * has cleared.
     */
    return entry &&
           coiommu_dtt_leaf(__atomic_load_n(entry, __ATOMIC_ACQUIRE),
                            leaf_gpa);
}

/* Do @op to the entries of [gpa, gpa + size).  @writes: it changes them. */
static void table_walk(const CoiommuTable *table, uint64_t gpa, uint64_t size,
                       LeafOp *op, void *opaque, bool writes)
{
    unsigned shift = table->dtt.unit_shift;
    uint64_t unit = gpa >> shift;
    uint64_t end = ((gpa + size - 1) >> shift) + 1;
    CoiommuDttSpan span;

    while (coiommu_dtt_next_span(&table->dtt, &unit, end, &span)) {
        CoiommuExtent piece;
        uint64_t leaf_gpa;

        if (!table_leaf(table, span.dir_gpa, &leaf_gpa) ||
            !coiommu_ram_resolve(table->ram, leaf_gpa, COIOMMU_DTT_PAGE_SIZE,
                                 &piece)) {
            trace_coiommu_table_hole(span.dir_gpa, unit);
            continue;
        }
        op((uint32_t *)piece.hva, &span, opaque);
        if (writes) {
            table->ram->set_dirty(&piece);
        }
    }
}

static void publish(uint32_t *leaf, const CoiommuDttSpan *span, void *opaque)
{
    coiommu_dtt_publish(leaf, span->slot, span->count);
}

static void withdraw(uint32_t *leaf, const CoiommuDttSpan *span, void *opaque)
{
    bool *busy = opaque;

    *busy |= coiommu_dtt_withdraw(leaf, span->slot, span->count);
}

static void look_busy(uint32_t *leaf, const CoiommuDttSpan *span, void *opaque)
{
    CoiommuLook *look = opaque;

    look->busy |= coiommu_dtt_busy(leaf, span->slot, span->count);
}

static void take_accessed(uint32_t *leaf, const CoiommuDttSpan *span,
                          void *opaque)
{
    CoiommuLook *look = opaque;

    look->accessed |= coiommu_dtt_take_accessed(leaf, span->slot, span->count);
}

static void look_at(uint32_t *leaf, const CoiommuDttSpan *span, void *opaque)
{
    look_busy(leaf, span, opaque);
    take_accessed(leaf, span, opaque);
}

void coiommu_table_publish(const CoiommuTable *table, uint64_t gpa,
                           uint64_t size)
{
    unsigned shift = table->dtt.unit_shift;

    if (table->enabled) {
        trace_coiommu_table_publish(gpa, size, ((gpa + size - 1) >> shift) -
                                    (gpa >> shift) + 1);
        table_walk(table, gpa, size, publish, NULL, true);
    }
}

bool coiommu_table_withdraw(const CoiommuTable *table, uint64_t gpa,
                            uint64_t size)
{
    bool busy = false;

    if (table->enabled) {
        table_walk(table, gpa, size, withdraw, &busy, true);
    }
    return busy;
}

bool coiommu_table_take_accessed(const CoiommuTable *table, uint64_t gpa,
                                 uint64_t size)
{
    CoiommuLook look = { 0 };

    if (table->enabled && table->has_accessed) {
        table_walk(table, gpa, size, take_accessed, &look, true);
    }
    return look.accessed;
}

CoiommuLook coiommu_table_look(const CoiommuTable *table, uint64_t gpa,
                               uint64_t size)
{
    CoiommuLook look = { 0 };

    if (table->enabled) {
        table_walk(table, gpa, size, table->has_accessed ? look_at : look_busy,
                   &look, table->has_accessed);
    }
    return look;
}
