// SPDX-License-Identifier: GPL-2.0
/*
 * Lists: many entries, chained, of pieces that are no neighbours.
 */
#include <linux/scatterlist.h>

#include "edu.h"

#define MANY		600

/* Undo list_alloc(). */
static void list_free(struct sg_table *table, unsigned int order)
{
	struct scatterlist *sg;
	int i;

	for_each_sgtable_sg(table, sg, i)
		if (sg_page(sg))
			__free_pages(sg_page(sg), order);
	sg_free_table(table);
}

/* @n pieces, each in a fresh area of @order that it does not fill. */
static int list_alloc(struct sg_table *table, int n, unsigned int order,
		      size_t size, size_t offset)
{
	struct scatterlist *sg;
	int i, ret;

	ret = sg_alloc_table(table, n, GFP_KERNEL);
	if (ret)
		return ret;
	for_each_sgtable_sg(table, sg, i) {
		struct page *page = alloc_pages(GFP_KERNEL, order);

		if (!page) {
			list_free(table, order);
			return -ENOMEM;
		}
		sg_set_page(sg, page, size, offset);
	}
	return 0;
}

/**
 * test_many - map, sync and unmap a list that needs several requests
 * @edu: the device
 */
int test_many(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	struct sg_table table;
	int ret;

	/* Of two pages, so that no two pieces are neighbours. */
	ret = list_alloc(&table, MANY, 1, 512, 128);
	if (ret)
		return ret;
	ret = dma_map_sgtable(dev, &table, DMA_TO_DEVICE, 0);
	if (!ret) {
		dma_sync_sgtable_for_device(dev, &table, DMA_TO_DEVICE);
		dma_sync_sgtable_for_cpu(dev, &table, DMA_TO_DEVICE);
		dma_unmap_sgtable(dev, &table, DMA_TO_DEVICE, 0);
	}
	list_free(&table, 1);
	return ret;
}

/**
 * test_scatter - the largest mapping there may be, each page somewhere else
 * @edu: the device
 */
int test_scatter(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	size_t pages = dma_max_mapping_size(dev) / PAGE_SIZE;
	struct sg_table table;
	struct scatterlist *sg;
	int i, ret;

	if (!pages || pages > MANY)
		return FAIL(edu, "scatter: %zu pages are too many\n", pages);
	/* Half a page, whole ones, half a page; a tracking unit for each. */
	ret = list_alloc(&table, pages + 1, get_order(SZ_64K), PAGE_SIZE, 0);
	if (ret)
		return ret;
	sg = table.sgl;
	sg_set_page(sg, sg_page(sg), PAGE_SIZE / 2, PAGE_SIZE / 2);
	for (i = 0; i < pages; i++)
		sg = sg_next(sg);
	sg->length = PAGE_SIZE / 2;
	ret = dma_map_sgtable(dev, &table, DMA_TO_DEVICE, 0);
	if (!ret) {
		for_each_sgtable_dma_sg(&table, sg, i)
			ret = ret ?: transfer(edu, sg_dma_address(sg), 64,
					      false);
		dma_unmap_sgtable(dev, &table, DMA_TO_DEVICE, 0);
	}
	list_free(&table, get_order(SZ_64K));
	return ret;
}
