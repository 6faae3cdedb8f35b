/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The table, and the hot path: counting a mapping.  No lock, no allocation, one
 * atomic operation per unit, one lookup per leaf.  A mapping within one leaf is
 * counted inline, and until something is not as usual.  coiommu_dtt.c explains
 * the rest.
 */
#ifndef COIOMMU_DTT_H
#define COIOMMU_DTT_H

#include <linux/atomic.h>
#include <linux/minmax.h>
#include <linux/notifier.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/workqueue.h>

#include "coiommu_abi.h"

#define COIOMMU_LEAF_MASK	((u64)COIOMMU_DTT_LEAF_ENTRIES - 1)

/*
 * The bits of a count that is exact.  With COIOMMU_DTT_COUNT_SATURATED, the bit
 * above, they mean nothing: rule 5 in coiommu_dtt.c.
 */
#define COIOMMU_COUNT_EXACT	(COIOMMU_DTT_COUNT_SATURATED - 1)

/* What coiommu_dtt_get() returns: these, or a negative errno. */
#define COIOMMU_GET_UNPINNED	1	/* not all units are PINNED */
#define COIOMMU_GET_SATURATED	2	/* the count of one is saturated */

/**
 * struct coiommu_dtt - the DMA tracking table; see coiommu_dtt.c
 * @leaf: for each leaf the entries as the CPU sees them, or NULL.  Pointers
 *	only ever go from NULL to a leaf while a device may be mapping.
 * @nleaves: length of @leaf and of the directory
 * @unit_shift: log2 of the tracking unit in bytes
 * @ready: the flags of an entry that a map need not do anything about
 * @flag_accessed: COIOMMU_DTT_ACCESSED if negotiated, else 0
 * @dir: the directory that the device reads, contiguous
 * @hotplug: adds leaves before memory goes online
 * @grow: must be held to add leaves: memory may come while the table is being made
 * @grow_work: adds leaves for memory that came without being announced
 * @saturated: a count is saturated, or was since coiommu_dtt_forget()
 * @underflows: unmaps of what was not mapped
 * @refused: maps refused because there is no leaf
 */
struct coiommu_dtt {
	atomic_t **leaf;
	unsigned long nleaves;
	unsigned int unit_shift;
	u32 ready;
	u32 flag_accessed;
	__le64 *dir;
	struct notifier_block hotplug;
	spinlock_t grow;	/* leaves being added */
	struct work_struct grow_work;
	bool saturated;
	atomic64_t underflows;
	atomic64_t refused;
};

int coiommu_dtt_init(struct coiommu_dtt *dtt, unsigned int unit_shift,
		     bool accessed, u64 hotplug_end);
void coiommu_dtt_free(struct coiommu_dtt *dtt);
int coiommu_dtt_add(struct coiommu_dtt *dtt, u64 start, u64 last, gfp_t gfp);
u64 coiommu_dtt_mappings(struct coiommu_dtt *dtt);
u64 coiommu_dtt_forget(struct coiommu_dtt *dtt);
int coiommu_dtt_get_slow(struct coiommu_dtt *dtt, u64 addr, size_t size,
			 atomic_t *entry);
void coiommu_dtt_put_slow(struct coiommu_dtt *dtt, u64 first, u64 last);

/*
 * coiommu_dtt_leaf - the leaf that has a unit's entry, or NULL
 *
 * The load pairs with the release in publish_leaf(): a CPU that sees the pointer sees
 * a zeroed leaf.
 */
static __always_inline atomic_t *coiommu_dtt_leaf(struct coiommu_dtt *dtt,
						  u64 unit)
{
	const u64 index = unit >> COIOMMU_DTT_LEAF_SHIFT;

	return likely(index < dtt->nleaves) ? READ_ONCE(dtt->leaf[index]) :
					      NULL;
}

/*
 * coiommu_dtt_entry - the entry of a unit, or NULL where the table has no leaf
 *
 * The rest of the leaf follows it in memory.
 */
static __always_inline atomic_t *coiommu_dtt_entry(struct coiommu_dtt *dtt,
						   u64 unit)
{
	atomic_t *leaf = coiommu_dtt_leaf(dtt, unit);

	return likely(leaf) ? leaf + (unit & COIOMMU_LEAF_MASK) : NULL;
}

/* Add one to a count.  Returns whether that is all: the unit is PINNED. */
static __always_inline bool coiommu_dtt_get_unit(struct coiommu_dtt *dtt,
						 atomic_t *entry)
{
	/*
	 * The full barrier of a returning atomic: the count is visible before
	 * PINNED is looked at.  Pairs with the device's fence between clearing
	 * PINNED and reading the count, so that one of the two sees the other.
	 */
	u32 old = atomic_fetch_inc(entry);

	/* PINNED and ACCESSED set, and not saturated now? */
	return likely(old - dtt->ready < COIOMMU_COUNT_EXACT);
}

/*
 * Take one from a count; false if there is none, or if it is saturated and no CPU
 * has added to it just now.  That needs one look at the bits below the limit.
 *
 * Not a subtraction that is mended afterwards: a count of 0 would borrow from
 * the flags.  If the host withdraws PINNED while it is lent out, mending brings
 * back a PINNED for memory that is not pinned any more.
 */
static __always_inline bool coiommu_dtt_put_unit(atomic_t *entry)
{
	int value = atomic_read(entry);

	/*
	 * The barrier of the cmpxchg orders what was done with the memory before
	 * the count that allows the device to take it away.
	 */
	do {
		if (unlikely(!(value & COIOMMU_COUNT_EXACT)))
			return false;
	} while (unlikely(!atomic_try_cmpxchg(entry, &value, value - 1)));
	return true;
}

/*
 * coiommu_dtt_get_fast - count one mapping of [addr, addr + size) if it is easy
 *
 * Returns true if every unit was PINNED: they are counted and the address may
 * be used.  Otherwise coiommu_dtt_get_slow() goes on, with what is put into
 * @entry: the first entry that was not PINNED, with its count raised as those
 * of the units before it, or NULL if nothing has been counted.  Any context.
 */
static __always_inline bool coiommu_dtt_get_fast(struct coiommu_dtt *dtt,
						 u64 addr, size_t size,
						 atomic_t **entry)
{
	const u64 first = addr >> dtt->unit_shift;
	u64 left = ((addr + size - 1) >> dtt->unit_shift) - first;
	const u64 slot = first & COIOMMU_LEAF_MASK;
	atomic_t *leaf = coiommu_dtt_leaf(dtt, first);

	*entry = NULL;
	if (unlikely(!leaf || left > COIOMMU_LEAF_MASK - slot))
		return false;
	for (*entry = leaf + slot;; ++*entry) {
		if (unlikely(!coiommu_dtt_get_unit(dtt, *entry)))
			return false;
		if (likely(!left--))
			return true;
	}
}

/*
 * coiommu_dtt_get - count one mapping of [addr, addr + size)
 *
 * Returns 0 if every unit was PINNED; flags COIOMMU_GET_* if there was more to
 * see, and with _UNPINNED a request is needed before the address may be used; or
 * a negative errno, and then nothing is counted.  Any context.
 */
static __always_inline int coiommu_dtt_get(struct coiommu_dtt *dtt, u64 addr,
					   size_t size)
{
	atomic_t *entry;

	if (likely(coiommu_dtt_get_fast(dtt, addr, size, &entry)))
		return 0;
	return coiommu_dtt_get_slow(dtt, addr, size, entry);
}

/*
 * coiommu_dtt_put - take back one mapping of [addr, addr + size)
 *
 * Must be called after the last access through the mapping, the copy of a bounce
 * buffer included.  Any context.
 */
static __always_inline void coiommu_dtt_put(struct coiommu_dtt *dtt, u64 addr,
					    size_t size)
{
	const u64 first = addr >> dtt->unit_shift;
	const u64 last = (addr + size - 1) >> dtt->unit_shift;
	const u64 slot = first & COIOMMU_LEAF_MASK;
	atomic_t *entry = coiommu_dtt_leaf(dtt, first);
	u64 left = last - first;

	if (unlikely(!entry || left > COIOMMU_LEAF_MASK - slot)) {
		coiommu_dtt_put_slow(dtt, first, last);
		return;
	}
	for (entry += slot; coiommu_dtt_put_unit(entry); entry++)
		if (likely(!left--))
			return;
	coiommu_dtt_put_slow(dtt, last - left, last);
}

#endif /* COIOMMU_DTT_H */
