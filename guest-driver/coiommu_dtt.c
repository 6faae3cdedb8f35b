// SPDX-License-Identifier: GPL-2.0
/*
 * The DMA tracking table (DTT).
 *
 * Words.  A *unit* is the granule of tracking, a power of two that the device
 * chooses (64 KiB by default).  An *entry* is the 32-bit word of one unit: the
 * PINNED and ACCESSED flags and the *count*.  A *leaf* is a page of entries,
 * the *directory* the contiguous array of the leaves' addresses.  "last" is
 * inclusive, "end" and "stop + 1" are exclusive.  All of the table is memory of
 * this guest, which the device reads and writes behind our back.
 *
 * What is counted.  A device behind coIOMMU uses guest physical addresses, but
 * the host keeps only those pinned that are in use.  Every DMA mapping adds
 * one to the count of each unit that the *DMA address* range touches; the
 * unmap takes it back.  The DMA address and not the buffer's: they differ when
 * swiotlb bounces, and the device is given the bounce buffer.  Mappings of
 * MMIO (dma_map_resource) are not memory and not counted; coiommu_mmio.c tells RAM
 * that is mapped so from MMIO.
 *
 * Writers.  The count belongs to the guest, PINNED to the host.  Both
 * only ever use atomic operations on the whole word, so neither loses the
 * other's update.  ACCESSED is set by the guest when it finds it clear, and
 * cleared by the host, which learns from it what is in use.
 *
 * The rules:
 *
 * 1. The count goes up before the address is given to a driver and goes down
 *    after the last use.  So what a device may reach has a count above zero,
 *    always, and the host unpins only what has zero.
 * 2. The addition is a full barrier, and PINNED is looked at in what it
 *    returned, or later.  The host looks at the count as it clears PINNED, or
 *    after a full barrier.  One of the two sees the other: either the host
 *    leaves the memory pinned, or we find PINNED clear and ask.
 * 3. PINNED clear is never an error, only a reason to ask (coiommu_pin()), and
 *    the answer counts, not the flag: while a request is made other CPUs may
 *    pin or the host may unpin what has no count.
 * 4. A map that fails has taken back every count that it added.
 * 5. The count never leaves its bits.  A driver that unmaps less than it maps
 *    has it grow without end.  At COIOMMU_DTT_COUNT_SATURATED, half of what the bits
 *    can hold, it stays: no unmap takes it below, a map puts it back there, and
 *    the other half has room for each task that has counted and not yet looked.
 *    So the unit stays PINNED, whatever else is counted wrong, and mappings go
 *    on, until coiommu_dtt_forget().  An unmap of what has no count is a bug of
 *    a driver, too: it is reported, and leaves the entry as it is.
 *
 * Memory.  RAM is System RAM and persistent memory (coiommu_ram.c).  The directory is
 * as long as the highest RAM needs, and RAM that the device says may be added, rounded
 * up to whole pages.  If there is no memory for so much, what may be added later does
 * without.  Leaves exist where RAM is.  System RAM is announced before it comes.
 * Persistent memory is not, so a mapping that finds no leaf has a work item look for
 * new memory; it fails, but the next one finds the leaf, and the block layer tries again
 * until it does.  Memory beyond the directory can be used, but a DMA mapping of it fails.
 *
 * Leaves must be freed with the table only: the hot path looks at them without a lock.
 */
#define pr_fmt(fmt) "coiommu: " fmt

#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/lockdep.h>
#include <linux/memory.h>
#include <linux/ratelimit.h>
#include <linux/slab.h>

#include "coiommu_dtt.h"
#include "coiommu_ram.h"

/* Bytes of memory that one leaf covers. */
static u64 leaf_span(const struct coiommu_dtt *dtt)
{
	return (u64)COIOMMU_DTT_LEAF_ENTRIES << dtt->unit_shift;
}

static size_t dir_bytes(const struct coiommu_dtt *dtt)
{
	return dtt->nleaves * sizeof(*dtt->dir);
}

/*
 * The rest of counting in a unit, when coiommu_dtt_get_unit() was not enough.  The
 * count of @entry has been raised: any later value may be looked at.  Returns
 * COIOMMU_GET_*.
 */
static int get_unit_tail(struct coiommu_dtt *dtt, atomic_t *entry)
{
	u32 value = atomic_read(entry);
	int ret = value & COIOMMU_DTT_PINNED ? 0 : COIOMMU_GET_UNPINNED;

	if (unlikely(value & COIOMMU_DTT_COUNT_SATURATED)) {
		atomic_andnot(COIOMMU_COUNT_EXACT, entry);
		WRITE_ONCE(dtt->saturated, true);
		ret |= COIOMMU_GET_SATURATED;
	}
	if (dtt->flag_accessed & ~value)
		atomic_or(dtt->flag_accessed, entry);
	return ret;
}

static bool is_saturated(const atomic_t *entry)
{
	return atomic_read(entry) & COIOMMU_DTT_COUNT_SATURATED;
}

/**
 * coiommu_dtt_put_slow - take one from each of some units
 * @dtt: the table
 * @first: first unit
 * @last: last unit; below @first there is none
 *
 * Any context.  Units that are not mapped, or not in the table, stay as they
 * are; the first of them is reported, all are counted.
 */
void coiommu_dtt_put_slow(struct coiommu_dtt *dtt, u64 first, u64 last)
{
	u64 unit = first;
	u64 wrong = 0;
	u64 wrong_at = U64_MAX;

	while (unit <= last) {
		const u64 stop = min(last, unit | COIOMMU_LEAF_MASK);
		atomic_t *entry = coiommu_dtt_entry(dtt, unit);

		if (unlikely(!entry)) {
			wrong += stop + 1 - unit;
			wrong_at = min(wrong_at, unit);
			unit = stop + 1;
			continue;
		}
		for (; unit <= stop; unit++, entry++) {
			if (likely(coiommu_dtt_put_unit(entry) ||
				   is_saturated(entry)))
				continue;
			wrong++;
			wrong_at = min(wrong_at, unit);
		}
	}
	if (likely(!wrong))
		return;
	atomic64_add(wrong, &dtt->underflows);
	pr_err_ratelimited("unmap of %#llx, which is not mapped: a driver's bug\n",
			   wrong_at << dtt->unit_shift);
}

/*
 * Add one to a unit.  Returns 0 if it is PINNED, COIOMMU_GET_*, or -EREMOTEIO
 * if the table has no entry for it.
 */
static int get_unit(struct coiommu_dtt *dtt, u64 unit)
{
	atomic_t *entry = coiommu_dtt_entry(dtt, unit);

	if (unlikely(!entry)) {
		atomic64_inc(&dtt->refused);
		if (unit >> COIOMMU_DTT_LEAF_SHIFT < dtt->nleaves)
			schedule_work(&dtt->grow_work);
		return -EREMOTEIO;
	}
	return coiommu_dtt_get_unit(dtt, entry) ? 0 : get_unit_tail(dtt, entry);
}

/**
 * coiommu_dtt_get_slow - count one mapping that is not as usual
 * @dtt: the table
 * @addr: DMA address
 * @size: bytes
 * @entry: what coiommu_dtt_get_fast() left, or NULL if nothing has been counted
 *
 * Any context.  Returns as coiommu_dtt_get().
 */
int coiommu_dtt_get_slow(struct coiommu_dtt *dtt, u64 addr, size_t size,
			 atomic_t *entry)
{
	const u64 first = addr >> dtt->unit_shift;
	const u64 end = ((addr + size - 1) >> dtt->unit_shift) + 1;
	u64 unit = first;
	int flags = 0;

	if (entry)
		unit += entry - coiommu_dtt_entry(dtt, first);
	for (; unit < end; unit++) {
		int ret = entry ? get_unit_tail(dtt, entry) : get_unit(dtt, unit);

		if (unlikely(ret < 0)) {
			if (unit > first)
				coiommu_dtt_put_slow(dtt, first, unit - 1);
			return ret;
		}
		flags |= ret;
		entry = NULL;
	}
	return flags;
}

/* Publish a zeroed page as the leaf at @index, unless there is one. */
static bool publish_leaf(struct coiommu_dtt *dtt, unsigned long index,
			 void *leaf)
{
	lockdep_assert_held(&dtt->grow);
	if (dtt->leaf[index])
		return false;
	WRITE_ONCE(dtt->dir[index],
		   cpu_to_le64(virt_to_phys(leaf) | COIOMMU_DTT_DIR_PRESENT));
	/*
	 * The zeroed leaf and the device's way to it come before the pointer
	 * by which a map finds it.  Pairs with the load in coiommu_dtt_leaf().
	 */
	smp_store_release(&dtt->leaf[index], (atomic_t *)leaf);
	return true;
}

/* Give the leaf at @index memory, unless it has some. */
static int add_leaf(struct coiommu_dtt *dtt, unsigned long index, gfp_t gfp)
{
	unsigned long flags;
	void *leaf;
	bool used;

	if (READ_ONCE(dtt->leaf[index]))
		return 0;
	leaf = (void *)get_zeroed_page(gfp);
	if (!leaf)
		return -ENOMEM;
	/* Another CPU may add the same one, in an interrupt as well. */
	spin_lock_irqsave(&dtt->grow, flags);
	used = publish_leaf(dtt, index, leaf);
	spin_unlock_irqrestore(&dtt->grow, flags);
	if (!used)
		free_page((unsigned long)leaf);
	return 0;
}

/**
 * coiommu_dtt_add - make leaves for memory, as far as the directory goes
 * @dtt: the table
 * @start: its first byte
 * @last: its last byte
 * @gfp: how to allocate them: GFP_ATOMIC in any context
 *
 * Returns 0 or -ENOMEM.
 */
int coiommu_dtt_add(struct coiommu_dtt *dtt, u64 start, u64 last, gfp_t gfp)
{
	u64 index = start / leaf_span(dtt);
	u64 stop = last / leaf_span(dtt);
	int ret = 0;

	if (stop >= dtt->nleaves) {
		pr_warn_once("memory at %#llx is beyond the table: DMA to it fails until the module is loaded again\n",
			     last);
		stop = dtt->nleaves - 1;
	}
	for (; index <= stop && !ret; index++)
		ret = add_leaf(dtt, index, gfp);
	return ret;
}

static int find_ram_last(struct resource *res, void *arg)
{
	u64 *last = arg;

	*last = max_t(u64, *last, res->end);
	return 0;
}

static int add_ram(struct resource *res, void *arg)
{
	return coiommu_dtt_add(arg, res->start, res->end, GFP_KERNEL);
}

/* A mapping has found no leaf: memory may have come since the table was made. */
static void add_new_ram(struct work_struct *work)
{
	struct coiommu_dtt *dtt = container_of(work, struct coiommu_dtt, grow_work);

	coiommu_ram_walk(dtt, add_ram);
}

/* Process context; an error keeps the memory from going online. */
static int memory_event(struct notifier_block *nb, unsigned long event,
			void *data)
{
	struct coiommu_dtt *dtt = container_of(nb, struct coiommu_dtt, hotplug);
	struct memory_notify *mem = data;
	u64 start = PFN_PHYS(mem->start_pfn);
	u64 last = start + PFN_PHYS(mem->nr_pages) - 1;
	int ret;

	if (event != MEM_GOING_ONLINE)
		return NOTIFY_DONE;
	ret = coiommu_ram_may_go_online(start, last);
	return notifier_from_errno(ret ?: coiommu_dtt_add(dtt, start, last,
							  GFP_KERNEL));
}

static void free_directory(struct coiommu_dtt *dtt)
{
	if (dtt->dir)
		free_pages_exact(dtt->dir, dir_bytes(dtt));
	kvfree(dtt->leaf);
}

/* A directory without leaves for all below @end.  Returns 0 or -ENOMEM. */
static int make_directory(struct coiommu_dtt *dtt, u64 end)
{
	const gfp_t gfp = GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN;

	dtt->nleaves = ALIGN(DIV_ROUND_UP(end, leaf_span(dtt)),
			     PAGE_SIZE / sizeof(*dtt->dir));
	dtt->leaf = kvcalloc(dtt->nleaves, sizeof(*dtt->leaf), gfp);
	dtt->dir = alloc_pages_exact(dir_bytes(dtt), gfp);
	if (dtt->leaf && dtt->dir)
		return 0;
	free_directory(dtt);
	return -ENOMEM;
}

/**
 * coiommu_dtt_init - make the table for the memory of this machine
 * @dtt: zeroed
 * @unit_shift: log2 of the tracking unit in bytes
 * @accessed: whether ACCESSED was negotiated
 * @hotplug_end: where memory that is added later ends, or 0
 *
 * Process context.  Returns 0 or a negative errno, and then nothing is left.
 */
int coiommu_dtt_init(struct coiommu_dtt *dtt, unsigned int unit_shift,
		     bool accessed, u64 hotplug_end)
{
	u64 last = 0;
	int ret;

	dtt->unit_shift = unit_shift;
	dtt->flag_accessed = accessed ? COIOMMU_DTT_ACCESSED : 0;
	spin_lock_init(&dtt->grow);
	INIT_WORK(&dtt->grow_work, add_new_ram);
	dtt->ready = COIOMMU_DTT_PINNED | dtt->flag_accessed;
	coiommu_ram_walk(&last, find_ram_last);
	ret = make_directory(dtt, max(last + 1, hotplug_end));
	if (ret)
		ret = make_directory(dtt, last + 1);
	if (ret)
		return ret;
	/* Must come before the walk, or memory that comes in between is missed. */
	dtt->hotplug.notifier_call = memory_event;
	ret = register_memory_notifier(&dtt->hotplug);
	if (ret)
		goto err;
	ret = coiommu_ram_walk(dtt, add_ram);
	if (ret)
		goto err;
	return 0;

err:
	coiommu_dtt_free(dtt);
	return ret;
}

/* Call @func for each entry that there is; returns the sum. */
static u64 sum(struct coiommu_dtt *dtt, u32 (*func)(atomic_t *entry))
{
	u64 unit, units = (u64)dtt->nleaves << COIOMMU_DTT_LEAF_SHIFT;
	u64 total = 0;

	for (unit = 0; unit < units; unit++) {
		atomic_t *entry = coiommu_dtt_entry(dtt, unit);

		if (entry)
			total += func(entry);
		else
			unit |= COIOMMU_LEAF_MASK;
	}
	return total;
}

static u32 entry_count(atomic_t *entry)
{
	return atomic_read(entry) & COIOMMU_DTT_COUNT_MASK;
}

static u32 entry_forget(atomic_t *entry)
{
	u32 count = entry_count(entry);

	if (count)
		atomic_andnot(COIOMMU_DTT_COUNT_MASK, entry);
	return count;
}

/**
 * coiommu_dtt_mappings - the sum of all counts
 * @dtt: the table
 */
u64 coiommu_dtt_mappings(struct coiommu_dtt *dtt)
{
	return sum(dtt, entry_count);
}

/**
 * coiommu_dtt_forget - set all counts to 0
 * @dtt: the table; no driver may map, and unmaps must find no count of theirs
 *
 * Returns what their sum was.
 */
u64 coiommu_dtt_forget(struct coiommu_dtt *dtt)
{
	dtt->saturated = false;
	return sum(dtt, entry_forget);
}

/**
 * coiommu_dtt_free - free the table
 * @dtt: what coiommu_dtt_init() made, or as far as it came
 *
 * No driver may map or unmap, and the device must be disabled.
 */
void coiommu_dtt_free(struct coiommu_dtt *dtt)
{
	unsigned long index;

	cancel_work_sync(&dtt->grow_work);
	unregister_memory_notifier(&dtt->hotplug);
	for (index = 0; index < dtt->nleaves; index++)
		free_page((unsigned long)dtt->leaf[index]);
	free_directory(dtt);
}
