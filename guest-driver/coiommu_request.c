// SPDX-License-Identifier: GPL-2.0
/*
 * Requests to the device: a page that is filled, and a doorbell.
 *
 * There is a request page (a slot) for each possible CPU.  A slot is used on
 * its CPU, with interrupts off, from the first store to it to the load of the
 * status, and by no other CPU, so there is no lock.  That works in any context in
 * which memory may be mapped, hard interrupts included (an NMI must not).  The device
 * serves the request before the doorbell write completes.
 *
 * PIN requests are made from what has just been counted (see coiommu_dtt.c).
 * The count of the units is above zero by now, so those found PINNED here stay
 * so and are left out; the others are gathered straight into the request page.
 * A list that does not fit is sent in parts, with interrupts on in between, if
 * the caller has them on.
 *
 * What takes time in the host is a block that it has to pin, so a request
 * touches few of them: no more than as if all its pages lay side by side.  The
 * rest of a list that jumps between a few blocks costs no request then, as it is
 * found PINNED.  And the device may stop when it has taken some 10 ms, and
 * answer AGAIN: what is not PINNED by then is gathered and asked for again.
 */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/scatterlist.h>
#include <linux/sched.h>
#include <linux/sched/clock.h>
#include <linux/slab.h>
#include <linux/smp.h>

#include "coiommu.h"
#include "coiommu_trace.h"

/* ABI frame numbers are in 4 KiB whatever the page size. */
#define GFN_SHIFT	12

/**
 * struct pin_cursor - how far a PIN request has come
 * @addr: next DMA address to look at
 * @end: end of the current stretch
 * @sg: list entry after the current stretch
 * @left: list entries from @sg on
 */
struct pin_cursor {
	u64 addr;
	u64 end;
	struct scatterlist *sg;
	unsigned int left;
};

/**
 * struct pin_batch - the request being gathered
 * @req: the request page of this CPU
 * @block_shift: log2 of the pin block in frames
 * @blocks: how often the block was another than the one before
 * @block: number of the last one
 * @count: ranges in it
 * @pages: 4 KiB pages in it
 * @first: first GFN of the last range
 * @end: the GFN after the last range
 */
struct pin_batch {
	struct coiommu_request *req;
	unsigned int block_shift;
	u64 blocks;
	u64 block;
	u32 count;
	u64 pages;
	u64 first;
	u64 end;
};

static const char * const status_names[] = {
	[COIOMMU_ST_OK] = "ok",
	[COIOMMU_ST_INVALID] = "invalid request",
	[COIOMMU_ST_UNSUPPORTED] = "unsupported request",
	[COIOMMU_ST_STATE] = "not in this state",
	[COIOMMU_ST_RANGE] = "not guest RAM",
	[COIOMMU_ST_NODEV] = "no such endpoint",
	[COIOMMU_ST_NOMEM] = "host out of (locked) memory",
	[COIOMMU_ST_NOSPACE] = "host IOMMU out of mappings",
	[COIOMMU_ST_QUOTA] = "pin quota reached",
	[COIOMMU_ST_IO] = "host I/O error",
	[COIOMMU_ST_FEATURE] = "feature not offered",
};

/**
 * coiommu_status_name - a status of the device in words
 * @status: COIOMMU_ST_*
 */
const char *coiommu_status_name(u32 status)
{
	if (status == COIOMMU_ST_PENDING)
		return "no answer";
	if (status < ARRAY_SIZE(status_names))
		return status_names[status];
	return "unknown status";
}

/*
 * What the DMA API lets map_sg return: -ENOMEM for a lack, -EREMOTEIO for memory
 * that the device can't reach, which ends a disk's I/O with an error instead of
 * having it tried again for ever, else -EIO.
 */
static int status_errno(u32 status)
{
	switch (status) {
	case COIOMMU_ST_OK:
		return 0;
	case COIOMMU_ST_NOMEM:
	case COIOMMU_ST_NOSPACE:
	case COIOMMU_ST_QUOTA:
		return -ENOMEM;
	case COIOMMU_ST_RANGE:
		return -EREMOTEIO;
	default:
		return -EIO;
	}
}

/* A request took @ns. */
static void note_time(struct coiommu_slots *slots, s64 ns)
{
	s64 max = atomic64_read(&slots->ns_max);

	atomic64_add(ns, &slots->ns);
	while (ns > max && !atomic64_try_cmpxchg(&slots->ns_max, &max, ns))
		;
}

/*
 * Send what is in slot @cpu, a PIN of @pages pages or another request and 0.  The
 * caller must run on that CPU, with interrupts off.  Returns the status,
 * COIOMMU_ST_PENDING if the device did not serve it.
 */
static u32 ring(struct coiommu_slots *slots, unsigned int cpu, u64 pages)
{
	struct coiommu_request *req = slots->page[cpu];
	u64 start = local_clock();
	u32 status;
	s64 ns;

	req->status = cpu_to_le32(COIOMMU_ST_PENDING);
	atomic64_inc(&slots->requests);
	/*
	 * writel() orders the stores to the page before itself.  It traps, and
	 * the device has written the status when it returns.
	 */
	writel(cpu, slots->doorbell);
	status = le32_to_cpu(READ_ONCE(req->status));
	ns = local_clock() - start;
	note_time(slots, ns);
	trace_coiommu_request(req, pages, status, ns);
	return status;
}

/**
 * coiommu_endpoint_request - PROBE, ATTACH or DETACH an endpoint
 * @coi: the function
 * @opcode: COIOMMU_OP_PROBE, _ATTACH or _DETACH
 * @pdev: the endpoint
 *
 * Any context.  Returns the device's status; without asking it
 * COIOMMU_ST_NODEV if an endpoint number has no room for the PCI domain.
 */
u32 coiommu_endpoint_request(struct coiommu *coi, u32 opcode,
			     struct pci_dev *pdev)
{
	struct coiommu_slots *slots = &coi->slots;
	struct coiommu_request *req;
	unsigned long flags;
	unsigned int cpu;
	u32 status;

	/* VMD's domains begin there: another endpoint would be named. */
	if ((u32)pci_domain_nr(pdev->bus) > U16_MAX)
		return COIOMMU_ST_NODEV;
	/* The slot is this CPU's as long as interrupts are off. */
	local_irq_save(flags);
	cpu = smp_processor_id();
	req = slots->page[cpu];
	req->opcode = cpu_to_le32(opcode);
	req->count = 0;
	req->endpoint = cpu_to_le32(COIOMMU_ENDPOINT(pci_domain_nr(pdev->bus),
						     pdev->bus->number,
						     pdev->devfn));
	status = ring(slots, cpu, 0);
	local_irq_restore(flags);

	if (opcode != COIOMMU_OP_PROBE && status != COIOMMU_ST_OK)
		atomic64_inc(&slots->failures);
	return status;
}

/*
 * Note that the batch goes on in the block of frame @first.  False if it touches as
 * many as it may: those of the most pages that a request may have, if they lie side
 * by side.
 */
static bool batch_block(struct pin_batch *batch, u64 first)
{
	u64 block = first >> batch->block_shift;

	if (batch->count && block == batch->block)
		return true;
	if (batch->blocks > COIOMMU_REQ_MAX_PAGES >> batch->block_shift)
		return false;
	batch->blocks++;
	batch->block = block;
	return true;
}

/*
 * Add frames [first, end), all of one unit, to the batch: to the last range if
 * they touch it, else as a new one.  Never across a gap, which need not be RAM.
 * False if the request is full.
 */
static bool batch_add(struct pin_batch *batch, u64 first, u64 end)
{
	const u64 gfn = first;
	const bool grow = batch->count && first >= batch->first &&
			  first <= batch->end;
	u64 pages = batch->pages;
	struct coiommu_range *range;

	if (grow) {
		pages -= batch->end - batch->first;
		first = batch->first;
		end = max(end, batch->end);
	} else if (batch->count == COIOMMU_REQ_MAX_RANGES) {
		return false;
	}
	pages += end - first;
	if (pages > COIOMMU_REQ_MAX_PAGES || !batch_block(batch, gfn))
		return false;

	batch->pages = pages;
	batch->first = first;
	batch->end = end;
	if (!grow)
		batch->count++;
	range = &batch->req->range[batch->count - 1];
	range->gfn = cpu_to_le64(first);
	range->npages = cpu_to_le64(end - first);
	return true;
}

/* Move to the next stretch of the list; false at its end. */
static bool cursor_next(struct pin_cursor *cur)
{
	if (!cur->left)
		return false;
	cur->addr = sg_dma_address(cur->sg);
	cur->end = cur->addr + sg_dma_len(cur->sg);
	cur->sg = sg_next(cur->sg);
	cur->left--;
	return true;
}

/* Is this the entry of a unit that is mapped and not known to be pinned? */
static bool entry_wants_pin(const atomic_t *entry)
{
	u32 value = entry ? atomic_read(entry) : 0;

	return !(value & COIOMMU_DTT_PINNED) &&
	       value & COIOMMU_DTT_COUNT_MASK;
}

/*
 * Gather frames of units that are counted and not PINNED until the list ends or
 * the request is full.  Only the frames that the cursor covers are asked for:
 * the rest of a unit need not be RAM.
 */
static void gather(struct coiommu_dtt *dtt, struct pin_cursor *cur,
		   struct pin_batch *batch)
{
	const u64 unit_bytes = 1ull << dtt->unit_shift;

	while (cur->addr < cur->end || cursor_next(cur)) {
		u64 stop = min(cur->end, ALIGN(cur->addr + 1, unit_bytes));
		atomic_t *entry = coiommu_dtt_entry(dtt, cur->addr >>
						    dtt->unit_shift);

		/* The barrier of coiommu_dtt_get() came before this look. */
		if (entry_wants_pin(entry) &&
		    !batch_add(batch, cur->addr >> GFN_SHIFT,
			       ((stop - 1) >> GFN_SHIFT) + 1))
			return;
		cur->addr = stop;
	}
}

/*
 * Let other tasks run between two requests, if the caller may sleep.  Without
 * CONFIG_PREEMPT_COUNT that can't be known, and preemptible() is never true.
 */
static void let_others_run(void)
{
	if (preemptible() && !rcu_preempt_depth())
		cond_resched();
}

/* Is there more to ask for?  Only with F_PARTIAL may a device serve a part. */
static bool goes_on(const struct coiommu_slots *slots, u32 status,
		    const struct pin_cursor *cur)
{
	if (status == COIOMMU_ST_AGAIN)
		return slots->partial;
	return status == COIOMMU_ST_OK && (cur->addr < cur->end || cur->left);
}

/* Ask for all that the cursor covers and that is not PINNED. */
static int pin(struct coiommu *coi, struct pin_cursor *cur)
{
	struct coiommu_slots *slots = &coi->slots;
	unsigned long flags;
	unsigned int cpu;
	u32 status;

	for (;;) {
		const struct pin_cursor begin = *cur;
		struct pin_batch batch = {
			.block_shift = slots->block_shift - GFN_SHIFT,
		};

		status = COIOMMU_ST_OK;
		/* The slot is this CPU's as long as interrupts are off. */
		local_irq_save(flags);
		cpu = smp_processor_id();
		batch.req = slots->page[cpu];
		gather(&coi->dtt, cur, &batch);
		if (batch.count) {
			batch.req->opcode = cpu_to_le32(COIOMMU_OP_PIN);
			batch.req->count = cpu_to_le32(batch.count);
			batch.req->endpoint = 0;
			status = ring(slots, cpu, batch.pages);
		}
		local_irq_restore(flags);

		atomic64_add(batch.count, &slots->ranges);
		atomic64_add(batch.pages, &slots->pages);
		if (status == COIOMMU_ST_AGAIN) {
			atomic64_inc(&slots->again);
			*cur = begin;
		}
		if (!goes_on(slots, status, cur))
			break;
		let_others_run();
	}

	if (likely(status == COIOMMU_ST_OK))
		return 0;
	atomic64_inc(&slots->failures);
	dev_warn_ratelimited(&coi->pdev->dev, "pinning failed: %s (status %u)\n",
			     coiommu_status_name(status), status);
	return status_errno(status);
}

/**
 * coiommu_pin - have a range of memory pinned that has just been counted
 * @coi: the function
 * @addr: DMA address
 * @size: bytes
 *
 * Units in it that have no count are left out, and need not be in the table.
 * Any context.  Returns 0 when devices can reach all of it, and that holds
 * until the count is taken back; or -ENOMEM, -EREMOTEIO or -EIO.
 */
int coiommu_pin(struct coiommu *coi, u64 addr, size_t size)
{
	struct pin_cursor cur = { .addr = addr, .end = addr + size };

	return pin(coi, &cur);
}

/**
 * coiommu_pin_sg - the same for a list, with one request if it fits
 * @coi: the function
 * @sgl: list with DMA addresses and lengths, all counted
 * @nents: entries
 *
 * Any context.  Returns as coiommu_pin().
 */
int coiommu_pin_sg(struct coiommu *coi, struct scatterlist *sgl, int nents)
{
	struct pin_cursor cur = { .sg = sgl, .left = nents };

	return pin(coi, &cur);
}

/**
 * coiommu_slots_init - make the request pages
 * @slots: zeroed
 * @doorbell: the doorbell register
 * @max_slots: what the device can take
 * @block_shift: log2 of the pin block in bytes, from 12 to 63
 * @partial: the device may answer COIOMMU_ST_AGAIN
 *
 * Process context.  Returns 0, -ENOSPC if there are more CPUs than slots, or
 * -ENOMEM.
 */
int coiommu_slots_init(struct coiommu_slots *slots, void __iomem *doorbell,
		       u32 max_slots, unsigned int block_shift, bool partial)
{
	unsigned int cpu;

	if (nr_cpu_ids > max_slots)
		return -ENOSPC;
	slots->doorbell = doorbell;
	slots->block_shift = block_shift;
	slots->partial = partial;
	slots->count = nr_cpu_ids;
	slots->page = kcalloc(slots->count, sizeof(*slots->page), GFP_KERNEL);
	slots->root = alloc_pages_exact(slots->count * sizeof(*slots->root),
					GFP_KERNEL | __GFP_ZERO);
	if (!slots->page || !slots->root)
		goto err;
	for (cpu = 0; cpu < slots->count; cpu++) {
		slots->page[cpu] = (void *)get_zeroed_page(GFP_KERNEL);
		if (!slots->page[cpu])
			goto err;
		slots->root[cpu] = cpu_to_le64(virt_to_phys(slots->page[cpu]));
	}
	return 0;

err:
	coiommu_slots_free(slots);
	return -ENOMEM;
}

/**
 * coiommu_slots_free - free the request pages
 * @slots: what coiommu_slots_init() made, or as far as it came
 *
 * The device must be disabled.
 */
void coiommu_slots_free(struct coiommu_slots *slots)
{
	unsigned int cpu;

	for (cpu = 0; slots->page && cpu < slots->count; cpu++)
		free_page((unsigned long)slots->page[cpu]);
	if (slots->root)
		free_pages_exact(slots->root,
				 slots->count * sizeof(*slots->root));
	kfree(slots->page);
}
