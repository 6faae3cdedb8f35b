// SPDX-License-Identifier: GPL-2.0
/*
 * A device that cannot reach all memory.  Pages that it can reach are used where
 * they are, others through bounce buffers, and whether a sync does something is
 * known only when the first of these has come.
 */
#include <linux/random.h>
#include <linux/scatterlist.h>

#include "edu.h"

#define SIZE	1024
#define OFFSET	512

/**
 * struct piece - a mapped page
 * @page: the page
 * @cpu: where its mapping begins
 * @addr: where the device has it
 */
struct piece {
	struct page *page;
	u8 *cpu;
	dma_addr_t addr;
};

static bool is_bounced(const struct piece *piece)
{
	return piece->addr != page_to_phys(piece->page) + OFFSET;
}

static int piece_map(struct edu *edu, struct piece *piece, gfp_t gfp,
		     unsigned long attrs)
{
	struct device *dev = &edu->pdev->dev;

	piece->page = alloc_page(gfp);
	if (!piece->page)
		return -ENOMEM;
	piece->cpu = page_address(piece->page) + OFFSET;
	get_random_bytes(piece->cpu, SIZE);
	piece->addr = dma_map_page_attrs(dev, piece->page, OFFSET, SIZE,
					 DMA_BIDIRECTIONAL, attrs);
	if (!dma_mapping_error(dev, piece->addr))
		return 0;
	__free_page(piece->page);
	return FAIL(edu, "bounce: not mapped\n");
}

static void piece_unmap(struct edu *edu, struct piece *piece,
			unsigned long attrs)
{
	dma_unmap_page_attrs(&edu->pdev->dev, piece->addr, SIZE,
			     DMA_BIDIRECTIONAL, attrs);
	__free_page(piece->page);
}

/* New data to the device and back, in the second half of the piece only. */
static int piece_check(struct edu *edu, const struct piece *piece)
{
	struct device *dev = &edu->pdev->dev;
	u8 *half = piece->cpu + SIZE / 2;
	u8 sent[SIZE / 2];
	int ret;

	get_random_bytes(sent, sizeof(sent));
	memcpy(half, sent, sizeof(sent));
	dma_sync_single_range_for_device(dev, piece->addr, SIZE / 2, SIZE / 2,
					 DMA_BIDIRECTIONAL);
	ret = transfer(edu, piece->addr + SIZE / 2, SIZE / 2, false);
	memset(half, 0, sizeof(sent));
	dma_sync_single_range_for_device(dev, piece->addr, SIZE / 2, SIZE / 2,
					 DMA_BIDIRECTIONAL);
	ret = ret ?: transfer(edu, piece->addr + SIZE / 2, SIZE / 2, true);
	dma_sync_single_range_for_cpu(dev, piece->addr, SIZE / 2, SIZE / 2,
				      DMA_BIDIRECTIONAL);
	if (!ret && memcmp(half, sent, sizeof(sent)))
		ret = FAIL(edu, "bounce: wrong data %s\n",
			   is_bounced(piece) ? "bounced" : "in place");
	return ret;
}

/* A page that needs no bouncing before and after the first that does. */
static int bounce_first(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	struct piece low, high;
	int ret;

	ret = piece_map(edu, &low, GFP_KERNEL | GFP_DMA32, 0);
	if (ret)
		return ret;
	if (is_bounced(&low))
		ret = FAIL(edu, "bounce: a page that is in reach\n");
	ret = ret ?: piece_check(edu, &low) ?:
	      piece_map(edu, &high, GFP_KERNEL, 0);
	if (!ret) {
		if (!is_bounced(&high))
			ret = FAIL(edu, "bounce: no page is out of reach\n");
		if (!dma_need_sync(dev, high.addr))
			ret = FAIL(edu, "bounce: no sync needed?\n");
		ret = ret ?: piece_check(edu, &high) ?: piece_check(edu, &low);
		piece_unmap(edu, &high, 0);
	}
	piece_unmap(edu, &low, 0);
	return ret;
}

/* Without a sync by map and unmap the driver's own syncs are all there is. */
static int bounce_skip(struct edu *edu)
{
	struct piece piece;
	u8 before[SIZE];
	int ret;

	ret = piece_map(edu, &piece, GFP_KERNEL, DMA_ATTR_SKIP_CPU_SYNC);
	if (ret)
		return ret;
	ret = piece_check(edu, &piece);
	/* What comes from the device now must not arrive. */
	memcpy(before, piece.cpu, SIZE);
	ret = ret ?: transfer(edu, piece.addr, SIZE, true);
	get_page(piece.page);
	piece_unmap(edu, &piece, DMA_ATTR_SKIP_CPU_SYNC);
	if (!ret && memcmp(before, piece.cpu, SIZE))
		ret = FAIL(edu, "bounce: copied back in spite of SKIP_CPU_SYNC\n");
	put_page(piece.page);
	return ret;
}

/**
 * test_bounce_list - a list of pages in reach and out of reach
 * @edu: the device, in a guest with more memory than it can reach
 */
int test_bounce_list(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	struct page *pages[4] = { };
	struct scatterlist list[ARRAY_SIZE(pages)], *sg;
	u8 sent[SIZE];
	int i, n, ret = 0;

	sg_init_table(list, ARRAY_SIZE(list));
	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		pages[i] = alloc_page(i & 1 ? GFP_KERNEL :
					      GFP_KERNEL | GFP_DMA32);
		if (!pages[i])
			goto free;
		memset(page_address(pages[i]), i, SIZE);
		sg_set_page(&list[i], pages[i], SIZE, 0);
	}
	n = dma_map_sg(dev, list, ARRAY_SIZE(list), DMA_BIDIRECTIONAL);
	if (n != ARRAY_SIZE(list)) {
		ret = FAIL(edu, "bounce: list not mapped\n");
		goto free;
	}
	/* The first's data goes to all others. */
	get_random_bytes(sent, SIZE);
	memcpy(page_address(pages[0]), sent, SIZE);
	dma_sync_sg_for_device(dev, list, ARRAY_SIZE(list), DMA_BIDIRECTIONAL);
	ret = transfer(edu, sg_dma_address(list), SIZE, false);
	for_each_sg(list, sg, n, i)
		ret = ret ?: transfer(edu, sg_dma_address(sg), SIZE, true);
	dma_sync_sg_for_cpu(dev, list, ARRAY_SIZE(list), DMA_BIDIRECTIONAL);
	for (i = 0; i < ARRAY_SIZE(pages) && !ret; i++)
		if (memcmp(page_address(pages[i]), sent, SIZE))
			ret = FAIL(edu, "bounce: wrong data in the list\n");
	dma_unmap_sg(dev, list, ARRAY_SIZE(list), DMA_BIDIRECTIONAL);
free:
	for (i = 0; i < ARRAY_SIZE(pages); i++)
		if (pages[i])
			__free_page(pages[i]);
	return ret;
}

/**
 * test_bounce - streaming to pages in reach and out of reach
 * @edu: the device, in a guest with more memory than it can reach
 */
int test_bounce(struct edu *edu)
{
	return bounce_first(edu) ?: bounce_skip(edu);
}
