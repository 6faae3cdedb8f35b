// SPDX-License-Identifier: GPL-2.0
/*
 * Lists: many entries, chained, of pieces that are no neighbours.
 */
#include <linux/scatterlist.h>

#include "edu.h"

#define MANY		600
#define FAR		100

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

/* Map a list and take it back. */
static int map_list(struct edu *edu, struct sg_table *table)
{
	struct device *dev = &edu->pdev->dev;
	int ret = dma_map_sgtable(dev, table, DMA_TO_DEVICE, 0);

	if (!ret)
		dma_unmap_sgtable(dev, table, DMA_TO_DEVICE, 0);
	return ret;
}

/**
 * test_far - a list with each page in 2 MiB of its own
 * @edu: the device
 */
int test_far(struct edu *edu)
{
	struct sg_table table;
	int ret;

	ret = list_alloc(&table, FAR, get_order(SZ_2M), PAGE_SIZE, 0);
	if (ret)
		return ret;
	ret = map_list(edu, &table);
	list_free(&table, get_order(SZ_2M));
	return ret;
}

/**
 * test_near - a list that jumps between two areas of 2 MiB
 * @edu: the device
 */
int test_near(struct edu *edu)
{
	struct sg_table areas, table;
	struct scatterlist *sg;
	struct page *page[2];
	int i, ret;

	ret = list_alloc(&areas, 2, get_order(SZ_2M), PAGE_SIZE, 0);
	if (ret)
		return ret;
	page[0] = sg_page(areas.sgl);
	page[1] = sg_page(sg_next(areas.sgl));
	ret = sg_alloc_table(&table, FAR, GFP_KERNEL);
	if (!ret) {
		/* Each second page, so that no two are neighbours. */
		for_each_sgtable_sg(&table, sg, i)
			sg_set_page(sg, page[i % 2] + i * 2, PAGE_SIZE, 0);
		ret = map_list(edu, &table);
		sg_free_table(&table);
	}
	list_free(&areas, get_order(SZ_2M));
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
