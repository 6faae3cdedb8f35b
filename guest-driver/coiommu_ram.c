// SPDX-License-Identifier: GPL-2.0
/*
 * Which memory there is, and which of it the host can't pin.
 *
 * RAM is what drivers may map: System RAM, and persistent memory, with struct pages for
 * O_DIRECT into files on it or without.
 *
 * Memory of a virtio-mem device is none that can be pinned, as the host may take
 * it back page by page.  A mapping of it fails, and disk drivers try that again for
 * ever.  So it is kept from going online, which the driver can do for memory that
 * comes when the driver is there.  What was online before can't be taken from the
 * kernel.  Then devices are given no address from the lowest such memory upwards:
 * it is a limit of their shadows, as that of a bus that has fewer address lines,
 * and the kernel's own bounce buffers, which lie lower, do the rest.  Memory that
 * could be pinned and lies higher is bounced as well, which costs time and is right.
 * As no more can go online, the limit stays until the driver is loaded anew.
 */
#define pr_fmt(fmt) "coiommu: " fmt

#include <linux/ioport.h>
#include <linux/kernel.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/ratelimit.h>

#include "coiommu_ram.h"

/* What devices may be told to reach: System RAM, and persistent memory. */
static const struct {
	unsigned long desc;
	unsigned long flags;
} ram_kinds[] = {
	{ IORES_DESC_NONE, IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY },
	{ IORES_DESC_PERSISTENT_MEMORY, IORESOURCE_MEM },
	{ IORES_DESC_PERSISTENT_MEMORY_LEGACY, IORESOURCE_MEM },
};

/**
 * coiommu_ram_walk - call a function for each range of RAM that can be mapped
 * @arg: handed to it
 * @func: the function; ends the walk when it returns other than 0, and must not
 *	return -EINVAL
 *
 * Process context.  Returns what @func returned last.
 */
int coiommu_ram_walk(void *arg, int (*func)(struct resource *, void *))
{
	int i, ret;

	for (i = 0; i < ARRAY_SIZE(ram_kinds); i++) {
		ret = walk_iomem_res_desc(ram_kinds[i].desc, ram_kinds[i].flags,
					  0, -1, arg, func);
		/* -EINVAL: there is none of this kind. */
		if (ret && ret != -EINVAL)
			return ret;
	}
	return 0;
}

/*
 * What a virtio-mem device manages, as the kernel itself tells such memory from
 * other: the range is System RAM that is not for use as a whole, and what is in
 * use lies in it.
 */
static int walk_unpinnable(u64 start, u64 last, void *arg,
			   int (*func)(struct resource *, void *))
{
	return walk_iomem_res_desc(IORES_DESC_NONE, IORESOURCE_SYSTEM_RAM |
				   IORESOURCE_EXCLUSIVE, start, last, arg,
				   func);
}

static int found(struct resource *res, void *arg)
{
	return 1;
}

/**
 * coiommu_ram_may_go_online - can the host pin this memory?
 * @start: its first byte
 * @last: its last byte
 *
 * Process context.  Returns 0 or a negative errno, after a line that says why.
 */
int coiommu_ram_may_go_online(u64 start, u64 last)
{
	if (walk_unpinnable(start, last, NULL, found) != 1)
		return 0;
	pr_warn_ratelimited("memory %#llx-%#llx is virtio-mem's, which the host can't pin: it stays offline; add memory as pc-dimm instead\n",
			    start, last);
	return -EOPNOTSUPP;
}

/* Stop at the first memory of @res that is online, after a note of where it is. */
static int find_online(struct resource *res, void *arg)
{
	unsigned long pfn = PHYS_PFN(res->start);
	u64 *limit = arg;

	for (; pfn <= PHYS_PFN(res->end); pfn += PAGES_PER_SECTION) {
		if (!pfn_to_online_page(pfn))
			continue;
		*limit = PFN_PHYS(pfn) - 1;
		return 1;
	}
	return 0;
}

/**
 * coiommu_ram_limit - up to where may devices be given memory?
 *
 * Process context; to be called when coiommu_ram_may_go_online() is asked about
 * memory that comes.  Returns the last byte below all memory that is online and
 * can't be pinned, after a line that names it; U64_MAX if there is none.
 */
u64 coiommu_ram_limit(void)
{
	u64 limit = U64_MAX;

	if (walk_unpinnable(0, U64_MAX, &limit, find_online) == 1)
		pr_warn("memory at %#llx is virtio-mem's, which the host can't pin, and online already: I/O to memory from there on is copied, which is slow; set it offline, and load coiommu before virtio_mem\n",
			limit + 1);
	return limit;
}
