/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The hot path: counting a mapping in the table.  No lock, no allocation, one
 * atomic operation per unit, one lookup per leaf.  coiommu_dtt.c explains it.
 */
#ifndef COIOMMU_DTT_H
#define COIOMMU_DTT_H

#include <linux/minmax.h>

#include "coiommu.h"

#define COIOMMU_LEAF_MASK	((u64)COIOMMU_DTT_LEAF_ENTRIES - 1)

int coiommu_dtt_settle(struct coiommu_dtt *dtt, atomic_t *entry, u32 value);
void coiommu_dtt_unwind(struct coiommu_dtt *dtt, u64 first, u64 end);
void coiommu_dtt_underflow(struct coiommu_dtt *dtt, u64 unit);

/*
 * coiommu_dtt_entry - the entry of a unit, or NULL where the table has no leaf
 *
 * The rest of the leaf follows it in memory.  The load pairs with the release
 * in add_leaf(): who sees the pointer sees a zeroed leaf.
 */
static __always_inline atomic_t *coiommu_dtt_entry(struct coiommu_dtt *dtt,
						   u64 unit)
{
	u64 index = unit >> COIOMMU_DTT_LEAF_SHIFT;
	atomic_t *leaf;

	if (unlikely(index >= dtt->nleaves))
		return NULL;
	leaf = READ_ONCE(dtt->leaf[index]);
	if (unlikely(!leaf))
		return NULL;
	return leaf + (unit & COIOMMU_LEAF_MASK);
}

/*
 * coiommu_dtt_get - count one mapping of [addr, addr + size)
 *
 * Returns 0 if every unit was PINNED, 1 if some were not and a request is
 * needed before the address may be used, or a negative errno, and then nothing
 * is counted.  Any context.
 */
static __always_inline int coiommu_dtt_get(struct coiommu_dtt *dtt, u64 addr,
					   size_t size)
{
	const u64 first = addr >> dtt->unit_shift;
	const u64 last = (addr + size - 1) >> dtt->unit_shift;
	u64 unit = first;
	int unpinned = 0;

	while (unit <= last) {
		const u64 stop = min(last, unit | COIOMMU_LEAF_MASK);
		atomic_t *entry = coiommu_dtt_entry(dtt, unit);

		if (unlikely(!entry)) {
			atomic64_inc(&dtt->refused);
			coiommu_dtt_unwind(dtt, first, unit);
			return -EIO;
		}
		for (; unit <= stop; unit++, entry++) {
			/*
			 * The full barrier of a returning atomic: the count is
			 * visible before PINNED is looked at.  Pairs with the
			 * device's fence between clearing PINNED and reading
			 * the count, so that one of the two sees the other.
			 */
			u32 value = atomic_inc_return(entry);
			int ret;

			/* PINNED and ACCESSED set, the count in its limit? */
			if (likely(value - dtt->ready <= COIOMMU_DTT_COUNT_MAX))
				continue;
			ret = coiommu_dtt_settle(dtt, entry, value);
			if (unlikely(ret < 0)) {
				coiommu_dtt_unwind(dtt, first, unit);
				return ret;
			}
			unpinned |= ret;
		}
	}
	return unpinned;
}

/*
 * coiommu_dtt_put - take back one mapping of [addr, addr + size)
 *
 * To be called when nobody touches the memory through the mapping any more,
 * the bounce buffer's copy included.  Any context.
 */
static __always_inline void coiommu_dtt_put(struct coiommu_dtt *dtt, u64 addr,
					    size_t size)
{
	const u64 last = (addr + size - 1) >> dtt->unit_shift;
	u64 unit = addr >> dtt->unit_shift;

	while (unit <= last) {
		const u64 stop = min(last, unit | COIOMMU_LEAF_MASK);
		atomic_t *entry = coiommu_dtt_entry(dtt, unit);

		if (unlikely(!entry)) {
			coiommu_dtt_underflow(dtt, unit);
			unit = stop + 1;
			continue;
		}
		for (; unit <= stop; unit++, entry++) {
			int value = atomic_read(entry);

			/*
			 * Not a plain decrement: a count of 0 would borrow
			 * from the flags.  The barrier of the cmpxchg orders
			 * what was done with the memory before the count that
			 * allows the device to take it away.
			 */
			do {
				if (unlikely(!(value & COIOMMU_DTT_COUNT_MASK))) {
					coiommu_dtt_underflow(dtt, unit);
					break;
				}
			} while (!atomic_try_cmpxchg(entry, &value, value - 1));
		}
	}
}

#endif /* COIOMMU_DTT_H */
