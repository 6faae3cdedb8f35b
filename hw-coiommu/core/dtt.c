/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The DMA tracking table: see dtt.h.
 */
#include "osdep.h"
#include "dtt.h"
#include "../include/coiommu_abi.h"

bool coiommu_dtt_init(CoiommuDtt *dtt, uint64_t root, uint64_t size,
                      unsigned unit_shift)
{
    const uint64_t page = COIOMMU_DTT_PAGE_SIZE;
    uint64_t units, leaves;

    if (root % page || size == 0 || size % page) {
        return false;
    }
    /* size >= 1, so rounding up this way cannot overflow. */
    units = ((size - 1) >> unit_shift) + 1;
    leaves = ((units - 1) >> COIOMMU_DTT_LEAF_SHIFT) + 1;
    if (leaves > (UINT64_MAX - root) / sizeof(uint64_t)) {
        return false;
    }
    *dtt = (CoiommuDtt) {
        .root = root,
        .size = size,
        .unit_shift = unit_shift,
        .units = units,
        .leaves = leaves,
    };
    return true;
}

uint64_t coiommu_dtt_dir_bytes(const CoiommuDtt *dtt)
{
    return dtt->leaves * sizeof(uint64_t);
}

bool coiommu_dtt_next_span(const CoiommuDtt *dtt, uint64_t *first,
                           uint64_t end, CoiommuDttSpan *span)
{
    uint64_t leaf, left;

    end = MIN(end, dtt->units);
    if (*first >= end) {
        return false;
    }
    leaf = *first >> COIOMMU_DTT_LEAF_SHIFT;
    span->dir_gpa = dtt->root + leaf * sizeof(uint64_t);
    span->slot = *first & (COIOMMU_DTT_LEAF_ENTRIES - 1);
    left = COIOMMU_DTT_LEAF_ENTRIES - span->slot;
    span->count = MIN(left, end - *first);
    *first += span->count;
    return true;
}

bool coiommu_dtt_leaf(uint64_t entry_le, uint64_t *leaf_gpa)
{
    uint64_t entry = GUINT64_FROM_LE(entry_le);

    if (!(entry & COIOMMU_DTT_DIR_PRESENT)) {
        return false;
    }
    *leaf_gpa = entry & COIOMMU_DTT_DIR_ADDR_MASK;
    return true;
}

void coiommu_dtt_publish(uint32_t *leaf, unsigned slot, unsigned count)
{
    const uint32_t pinned = GUINT32_TO_LE(COIOMMU_DTT_PINNED);
    unsigned i;

    for (i = slot; i < slot + count; i++) {
        /*
         * Release: a driver that sees PINNED may start DMA, so the maps that
         * make it true come first.  A read-modify-write, because the guest
         * changes the count in the same word.
         */
        __atomic_fetch_or(&leaf[i], pinned, __ATOMIC_RELEASE);
    }
}

bool coiommu_dtt_withdraw(uint32_t *leaf, unsigned slot, unsigned count)
{
    const uint32_t pinned = GUINT32_TO_LE(COIOMMU_DTT_PINNED);
    const uint32_t mask = GUINT32_TO_LE(COIOMMU_DTT_COUNT_MASK);
    uint32_t counts = 0;
    unsigned i;

    for (i = slot; i < slot + count; i++) {
        /*
         * One access clears PINNED and tells the count: a guest that counts
         * later finds PINNED clear.  Sequentially consistent: the unmap that
         * follows must not overtake it, and must come after the guest's last
         * use of the memory, for which the guest's release pairs with this.
         */
        counts |= __atomic_fetch_and(&leaf[i], ~pinned, __ATOMIC_SEQ_CST);
    }
    return counts & mask;
}

bool coiommu_dtt_busy(const uint32_t *leaf, unsigned slot, unsigned count)
{
    const uint32_t mask = GUINT32_TO_LE(COIOMMU_DTT_COUNT_MASK);
    unsigned i;

    for (i = slot; i < slot + count; i++) {
        /*
         * Acquire: pairs with the guest's release when it takes a count back.
         */
        if (__atomic_load_n(&leaf[i], __ATOMIC_ACQUIRE) & mask) {
            return true;
        }
    }
    return false;
}

bool coiommu_dtt_take_accessed(uint32_t *leaf, unsigned slot, unsigned count)
{
    const uint32_t accessed = GUINT32_TO_LE(COIOMMU_DTT_ACCESSED);
    bool found = false;
    unsigned i;

    for (i = slot; i < slot + count; i++) {
        /* A hint: no order.  Looked at first, to leave clean lines alone. */
        if (__atomic_load_n(&leaf[i], __ATOMIC_RELAXED) & accessed) {
            __atomic_fetch_and(&leaf[i], ~accessed, __ATOMIC_RELAXED);
            found = true;
        }
    }
    return found;
}
