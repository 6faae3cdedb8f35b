// SPDX-License-Identifier: GPL-2.0
/*
 * What dma_map_resource() is given: MMIO, or RAM.
 *
 * A kernel that is booted with "mem=" does not know of the rest of its RAM, and a
 * driver that owns some of that maps it as it would map a BAR.  The host does know:
 * such RAM must be counted and pinned, and MMIO must not, as the host refuses it.
 * The kernel's list of resources has the windows of the PCI host bridges, where
 * each BAR is, but its lock is none for atomic context, where mappings are made.
 * So the list is copied once.  What is added later lies in those windows.
 *
 * What is not in the list is taken for RAM.  If it is none, the host says so, and the
 * mapping fails.
 */
#include <linux/ioport.h>
#include <linux/slab.h>

#include "coiommu_mmio.h"

/*
 * Windows and BARs.  System RAM has a flag, persistent and firmware's memory a
 * type, and busy is what no device maps: interrupt controllers, and a "RAM buffer"
 * that the kernel makes of up to 64 MiB after the RAM that it uses.
 */
static int add_mmio(struct resource *res, void *arg)
{
	struct coiommu_mmio *mmio = arg;
	struct range *ranges;

	if (res->flags & (IORESOURCE_SYSRAM | IORESOURCE_BUSY) ||
	    res->desc != IORES_DESC_NONE)
		return 0;
	ranges = krealloc(mmio->ranges, array_size(mmio->count + 1,
						   sizeof(*ranges)),
			  GFP_KERNEL);
	if (!ranges)
		return -ENOMEM;
	ranges[mmio->count].start = res->start;
	ranges[mmio->count].end = res->end;
	mmio->ranges = ranges;
	mmio->count++;
	return 0;
}

/**
 * coiommu_mmio_init - copy the list of all MMIO
 * @mmio: zeroed
 *
 * Process context.  Returns 0 or -ENOMEM.  The caller must call coiommu_mmio_free()
 * in either case.
 */
int coiommu_mmio_init(struct coiommu_mmio *mmio)
{
	int ret = walk_iomem_res_desc(IORES_DESC_NONE, IORESOURCE_MEM, 0, -1,
				      mmio, add_mmio);

	return ret == -ENOMEM ? ret : 0;
}

/**
 * coiommu_is_mmio - is any of [addr, addr + size) MMIO?
 * @mmio: the list
 * @addr: physical address
 * @size: bytes
 *
 * Any context.  The answer for a range never changes.
 */
bool coiommu_is_mmio(const struct coiommu_mmio *mmio, u64 addr, size_t size)
{
	unsigned int i;

	for (i = 0; i < mmio->count; i++)
		if (addr <= mmio->ranges[i].end &&
		    addr + size > mmio->ranges[i].start)
			return true;
	return false;
}

/**
 * coiommu_mmio_free - free the list
 * @mmio: what coiommu_mmio_init() made, or as far as it came
 */
void coiommu_mmio_free(struct coiommu_mmio *mmio)
{
	kfree(mmio->ranges);
}
