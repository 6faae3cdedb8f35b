// SPDX-License-Identifier: GPL-2.0
/*
 * What the API says of limits, and what happens beyond them; mappings whose
 * counts in the table are known.
 */
#include <linux/scatterlist.h>
#include <linux/sched.h>

#include "coiommu_abi.h"
#include "edu.h"

/* In the first megabyte, where a PC has firmware: not RAM for devices. */
#define FIRMWARE_PFN	0xc0

#define HOLD_ORDER	6

/* A boundary between two leaves of the table whatever the unit, in RAM. */
#define BOUNDARY	SZ_128M

/* "hold": a unit's worth, across a boundary, and the first again. */
static const struct {
	unsigned long offset;
	size_t size;
} hold[] = {
	{ 0, SZ_64K },
	{ SZ_64K - 2048, 4096 },
	{ 0, SZ_64K },
};

static int release_hidden(struct edu *edu)
{
	int ret;

	if (edu->hidden == DMA_MAPPING_ERROR)
		return 0;
	ret = transfer(edu, edu->hidden, 64, false);
	dma_unmap_resource(&edu->pdev->dev, edu->hidden, PAGE_SIZE,
			   DMA_TO_DEVICE, 0);
	return ret;
}

/**
 * test_release - unmap what test_hold() has mapped
 * @edu: the device
 */
int test_release(struct edu *edu)
{
	int i;

	if (!edu->page)
		return FAIL(edu, "nothing is held\n");
	for (i = 0; i < ARRAY_SIZE(hold); i++)
		if (!dma_mapping_error(&edu->pdev->dev, edu->held[i]))
			dma_unmap_page(&edu->pdev->dev, edu->held[i],
				       hold[i].size, DMA_TO_DEVICE);
	__free_pages(edu->page, HOLD_ORDER);
	edu->page = NULL;
	return release_hidden(edu);
}

/**
 * test_hold - map ranges whose units can be counted
 * @edu: the device
 */
int test_hold(struct edu *edu)
{
	int i, ret = 0;

	if (edu->page)
		return FAIL(edu, "something is held already\n");
	edu->page = alloc_pages(GFP_KERNEL, HOLD_ORDER);
	if (!edu->page)
		return -ENOMEM;
	for (i = 0; i < ARRAY_SIZE(hold); i++) {
		edu->held[i] = dma_map_page(&edu->pdev->dev, edu->page,
					    hold[i].offset, hold[i].size,
					    DMA_TO_DEVICE);
		if (dma_mapping_error(&edu->pdev->dev, edu->held[i]))
			ret = FAIL(edu, "hold: not mapped\n");
	}
	edu->hidden = DMA_MAPPING_ERROR;
	if (phys) {
		edu->hidden = dma_map_resource(&edu->pdev->dev, phys, PAGE_SIZE,
					       DMA_TO_DEVICE, 0);
		if (edu->hidden == DMA_MAPPING_ERROR)
			ret = FAIL(edu, "hold: hidden RAM is not mapped\n");
	}
	if (ret)
		test_release(edu);
	return ret;
}

/**
 * test_leak - map a page and forget it, as a bad driver does
 * @edu: the device
 */
int test_leak(struct edu *edu)
{
	struct page *page = alloc_page(GFP_KERNEL);
	dma_addr_t addr;

	if (!page)
		return -ENOMEM;
	addr = dma_map_page(&edu->pdev->dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
	if (!dma_mapping_error(&edu->pdev->dev, addr))
		return 0;
	__free_page(page);
	return FAIL(edu, "leak: not mapped\n");
}

/**
 * test_refuse - mappings of what is no RAM must fail
 * @edu: the device
 */
int test_refuse(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	struct page *page = alloc_page(GFP_KERNEL);
	struct page *firmware = pfn_to_page(FIRMWARE_PFN);
	struct scatterlist list[3];
	struct sg_table table = { .sgl = list, .orig_nents = 3 };
	dma_addr_t addr;
	int ret = 0;

	if (!page)
		return -ENOMEM;
	addr = dma_map_page(dev, firmware, 0, PAGE_SIZE, DMA_TO_DEVICE);
	if (!dma_mapping_error(dev, addr))
		ret = FAIL(edu, "refuse: firmware was mapped\n");

	sg_init_table(list, 3);
	sg_set_page(&list[0], page, PAGE_SIZE / 2, 0);
	sg_set_page(&list[1], firmware, PAGE_SIZE, 0);
	sg_set_page(&list[2], page, PAGE_SIZE / 2, PAGE_SIZE / 2);
	if (!ret && dma_map_sgtable(dev, &table, DMA_TO_DEVICE, 0) != -EREMOTEIO)
		ret = FAIL(edu, "refuse: a list with firmware was mapped\n");
	__free_page(page);
	return ret;
}

/**
 * test_phys - have the device read the memory that the parameter "phys" names
 * @edu: the device
 */
int test_phys(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	dma_addr_t addr = dma_map_page(dev, pfn_to_page(PHYS_PFN(phys)), 0,
				       PAGE_SIZE, DMA_TO_DEVICE);
	int ret;

	if (dma_mapping_error(dev, addr))
		return FAIL(edu, "phys: not mapped\n");
	ret = transfer(edu, addr, 64, false);
	dma_unmap_page(dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
	return ret;
}

/**
 * test_hidden - the same for memory that the kernel does not use
 * @edu: the device
 */
int test_hidden(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	dma_addr_t addr = dma_map_resource(dev, phys, PAGE_SIZE, DMA_TO_DEVICE,
					   0);
	int ret;

	if (dma_mapping_error(dev, addr))
		return FAIL(edu, "hidden: not mapped\n");
	ret = transfer(edu, addr, 64, false);
	dma_unmap_resource(dev, addr, PAGE_SIZE, DMA_TO_DEVICE, 0);
	return ret;
}

/* A mask that is refused changes nothing; each setter sets its own. */
static int check_set_mask(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	const u64 mask = DMA_BIT_MASK(bits);

	if (dma_set_mask_and_coherent(dev, mask))
		return FAIL(edu, "masks: %u bits are refused\n", bits);
	if (!dma_set_mask(dev, DMA_BIT_MASK(12)) ||
	    !dma_set_coherent_mask(dev, DMA_BIT_MASK(12)))
		return FAIL(edu, "masks: 12 bits are enough?\n");
	if (*dev->dma_mask != mask || dev->coherent_dma_mask != mask)
		return FAIL(edu, "masks: changed by a refusal\n");
	if (dma_set_mask(dev, DMA_BIT_MASK(40)) ||
	    dev->coherent_dma_mask != mask)
		return FAIL(edu, "masks: streaming sets coherent\n");
	if (dma_set_mask(dev, mask) ||
	    dma_set_coherent_mask(dev, DMA_BIT_MASK(30)) ||
	    *dev->dma_mask != mask)
		return FAIL(edu, "masks: coherent sets streaming\n");
	return 0;
}

/* The coherent mask is 30 bits now: memory comes from below 1 GiB. */
static int check_narrow(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	dma_addr_t addr;
	void *cpu;

	cpu = dma_alloc_coherent(dev, PAGE_SIZE, &addr, GFP_KERNEL);
	if (!cpu)
		return FAIL(edu, "masks: no memory below 1 GiB\n");
	dma_free_coherent(dev, PAGE_SIZE, cpu, addr);
	if (addr >= SZ_1G)
		return FAIL(edu, "masks: %pad is not below 1 GiB\n", &addr);
	return 0;
}

/* What the API answers has to fit the highest page there is. */
static int check_answers(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	size_t most = dma_max_mapping_size(dev);
	u64 needed = dma_get_required_mask(dev);
	struct page *page = alloc_page(GFP_KERNEL);
	phys_addr_t phys;

	if (!page)
		return -ENOMEM;
	phys = page_to_phys(page);
	__free_page(page);
	if ((needed & phys) != phys || needed & (needed + 1))
		return FAIL(edu, "masks: %#llx is needed?\n", needed);
	if (!most || dma_opt_mapping_size(dev) > most)
		return FAIL(edu, "masks: at most %zu bytes, best %zu\n", most,
			    dma_opt_mapping_size(dev));
	if (dma_get_merge_boundary(dev))
		return FAIL(edu, "masks: nothing is merged here\n");
	/* Addresses of other devices' memory are not translated. */
	if (dma_pci_p2pdma_supported(dev))
		return FAIL(edu, "masks: peer-to-peer DMA is offered\n");
	pci_info(edu->pdev, "masks: at most %zu bytes\n", most);
	return 0;
}

/**
 * test_masks - masks, and what the API says of limits
 * @edu: the device; its masks are as before afterwards
 */
int test_masks(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	int ret;

	ret = check_set_mask(edu) ?: check_narrow(edu) ?: check_answers(edu);
	return dma_set_mask_and_coherent(dev, DMA_BIT_MASK(bits)) ?: ret;
}

/**
 * test_sizes - mappings of all sizes around a boundary of the table's leaves
 * @edu: the device
 *
 * They are never used, so it does not matter whose memory it is.
 */
int test_sizes(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	size_t size, most = min_t(size_t, SZ_4M, dma_max_mapping_size(dev));
	dma_addr_t addr;
	phys_addr_t phys;

	for (size = 1; size <= most; size *= 2) {
		for (phys = BOUNDARY - size; phys <= BOUNDARY;
		     phys += DIV_ROUND_UP(size, 2)) {
			addr = dma_map_page(dev, pfn_to_page(PHYS_PFN(phys)),
					    offset_in_page(phys), size,
					    DMA_TO_DEVICE);
			if (dma_mapping_error(dev, addr))
				return FAIL(edu, "sizes: %zu not mapped\n",
					    size);
			dma_unmap_page(dev, addr, size, DMA_TO_DEVICE);
			if (addr != phys)
				return FAIL(edu, "sizes: %pad for %pap\n",
					    &addr, &phys);
		}
	}
	return 0;
}

/**
 * test_twice - unmap a page twice, and what cannot have been mapped
 * @edu: the device; nothing else may be mapped in the page's unit
 */
int test_twice(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	struct page *page = alloc_pages(GFP_KERNEL, HOLD_ORDER);
	dma_addr_t addr;

	if (!page)
		return -ENOMEM;
	addr = dma_map_page(dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
	if (!dma_mapping_error(dev, addr)) {
		dma_unmap_page(dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
		dma_unmap_page(dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
		/* Four units at once, beyond all memory. */
		dma_unmap_page(dev, BIT_ULL(50), PAGE_SIZE << HOLD_ORDER,
			       DMA_TO_DEVICE);
		/* And in it. */
		dma_unmap_page(dev, page_to_phys(page), PAGE_SIZE << HOLD_ORDER,
			       DMA_TO_DEVICE);
	}
	__free_pages(page, HOLD_ORDER);
	return dma_mapping_error(dev, addr);
}

/**
 * test_limit - map one page more often than can be counted, and unmap it
 * @edu: the device; nothing else may be mapped in the page's unit
 */
int test_limit(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	struct page *page = alloc_pages(GFP_KERNEL, HOLD_ORDER);
	unsigned int i, count;
	dma_addr_t addr = 0;

	if (!page)
		return -ENOMEM;
	for (count = 0; count < COIOMMU_DTT_COUNT_SATURATED + 8; count++) {
		dma_addr_t next = dma_map_page(dev, page, 0, PAGE_SIZE,
					       DMA_TO_DEVICE);

		if (dma_mapping_error(dev, next))
			break;
		addr = next;
		cond_resched();
	}
	for (i = 0; i < count; i++) {
		dma_unmap_page(dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
		cond_resched();
	}
	__free_pages(page, HOLD_ORDER);
	if (count != COIOMMU_DTT_COUNT_SATURATED + 8)
		return FAIL(edu, "limit: %u mappings\n", count);
	return 0;
}

/**
 * test_shrink - unmap less than was mapped, as bad drivers do
 * @edu: the device
 */
int test_shrink(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	struct page *page = alloc_pages(GFP_KERNEL, HOLD_ORDER);
	dma_addr_t addr;
	int i, ret = 0;

	if (!page)
		return -ENOMEM;
	for (i = 0; i < 10 && !ret; i++) {
		addr = dma_map_page(dev, page, 0, PAGE_SIZE << HOLD_ORDER,
				    DMA_TO_DEVICE);
		if (dma_mapping_error(dev, addr))
			ret = FAIL(edu, "shrink: not mapped\n");
		else
			dma_unmap_page(dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
	}
	__free_pages(page, HOLD_ORDER);
	return ret;
}
