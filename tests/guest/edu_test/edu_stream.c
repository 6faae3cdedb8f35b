// SPDX-License-Identifier: GPL-2.0
/*
 * Streaming: map, sync, unmap with data.
 */
#include <linux/random.h>

#include "edu.h"

/* One page there and back: by sync, by sync for device, by unmap. */
static int stream_page(struct edu *edu, struct page *page, bool *bounced)
{
	struct device *dev = &edu->pdev->dev;
	const size_t size = 256;
	u8 *cpu = page_address(page);
	dma_addr_t addr;
	int ret;

	get_random_bytes(cpu + 1000, size);
	addr = dma_map_page(dev, page, 1000, size, DMA_TO_DEVICE);
	if (dma_mapping_error(dev, addr))
		return FAIL(edu, "stream: not mapped\n");
	*bounced |= addr != page_to_phys(page) + 1000;
	ret = transfer(edu, addr, size, false);
	dma_unmap_page(dev, addr, size, DMA_TO_DEVICE);
	if (ret)
		return ret;

	memset(cpu + 2000, 0, size);
	addr = dma_map_page(dev, page, 2000, size, DMA_BIDIRECTIONAL);
	if (dma_mapping_error(dev, addr))
		return FAIL(edu, "stream: not mapped\n");
	ret = transfer(edu, addr, size, true);
	dma_sync_single_for_cpu(dev, addr, size, DMA_BIDIRECTIONAL);
	if (!ret && memcmp(cpu + 1000, cpu + 2000, size))
		ret = FAIL(edu, "stream: wrong data after sync\n");
	get_random_bytes(cpu + 2000, size);
	memcpy(cpu + 1000, cpu + 2000, size);
	dma_sync_single_for_device(dev, addr, size, DMA_BIDIRECTIONAL);
	if (!ret)
		ret = transfer(edu, addr, size, false);
	memset(cpu + 2000, 0, size);
	dma_sync_single_for_device(dev, addr, size, DMA_BIDIRECTIONAL);
	if (!ret)
		ret = transfer(edu, addr, size, true);
	dma_unmap_page(dev, addr, size, DMA_BIDIRECTIONAL);
	if (!ret && memcmp(cpu + 1000, cpu + 2000, size))
		ret = FAIL(edu, "stream: wrong data after unmap\n");
	return ret;
}

/**
 * test_stream - some pages there and back
 * @edu: the device
 */
int test_stream(struct edu *edu)
{
	bool bounced = false;
	phys_addr_t highest = 0;
	int i, ret = 0;

	for (i = 0; i < 4 && !ret; i++) {
		struct page *page = alloc_page(GFP_KERNEL);

		if (!page)
			return -ENOMEM;
		highest = max(highest, page_to_phys(page));
		ret = stream_page(edu, page, &bounced);
		__free_page(page);
	}
	pci_info(edu->pdev, "stream: bounced %s, highest page %pap\n",
		 bounced ? "yes" : "no", &highest);
	return ret;
}

/**
 * test_resource - map what is no memory: nothing is counted or pinned
 * @edu: the device
 *
 * Whether the kernel does it at all is said in the log: some don't if everything
 * is bounced.
 */
int test_resource(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	phys_addr_t bar = pci_resource_start(edu->pdev, 0);
	dma_addr_t addr = dma_map_resource(dev, bar, PAGE_SIZE,
					   DMA_BIDIRECTIONAL, 0);

	if (dma_mapping_error(dev, addr)) {
		pci_info(edu->pdev, "resource: not mapped\n");
		return 0;
	}
	dma_unmap_resource(dev, addr, PAGE_SIZE, DMA_BIDIRECTIONAL, 0);
	if (addr != bar)
		return FAIL(edu, "resource: mapped elsewhere\n");
	pci_info(edu->pdev, "resource: mapped\n");
	return 0;
}
