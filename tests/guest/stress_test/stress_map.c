// SPDX-License-Identifier: GPL-2.0
/*
 * The ways to map memory, each with random sizes.  Every mapping has pages of
 * its own, but shares tracking units with others.
 */
#define pr_fmt(fmt) "stress_test: " fmt

#include <linux/dma-mapping.h>
#include <linux/dmapool.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "stress.h"

/* In the first megabyte, where a PC has firmware: not RAM for devices. */
#define FIRMWARE_PFN	0xc0

#define NO_ENTRY	UINT_MAX

/**
 * stress_below - a random number
 * @w: whose
 * @end: at least 1
 *
 * Returns 0 to @end - 1.
 */
u32 stress_below(struct stress_worker *w, u32 end)
{
	return prandom_u32_state(&w->rng) % end;
}

/* Mostly a few pages, now and then as many as many units. */
static unsigned int random_order(struct stress_worker *w)
{
	if (w->context != STRESS_THREAD)
		return stress_below(w, 4);
	return stress_below(w, 8) ? stress_below(w, 5) : stress_below(w, 9);
}

/* A random stretch of @room bytes, of @most bytes at most. */
static size_t random_stretch(struct stress_worker *w, size_t room, size_t most,
			     unsigned int *offset)
{
	*offset = stress_below(w, room);
	return min(most, 1 + (size_t)stress_below(w, room - *offset));
}

static int page_map(struct stress_worker *w, struct stress_mapping *m)
{
	unsigned int offset;

	m->order = random_order(w);
	m->page = alloc_pages(w->gfp, m->order);
	if (!m->page)
		return -EAGAIN;
	m->size = random_stretch(w, PAGE_SIZE << m->order,
				 dma_max_mapping_size(m->dev), &offset);
	m->cpu = page_address(m->page) + offset;
	m->addr = dma_map_page(m->dev, m->page, offset, m->size, m->dir);
	if (dma_mapping_error(m->dev, m->addr)) {
		__free_pages(m->page, m->order);
		return -ENOMEM;
	}
	return 0;
}

static void page_unmap(struct stress_worker *w, struct stress_mapping *m)
{
	dma_unmap_page(m->dev, m->addr, m->size, m->dir);
	__free_pages(m->page, m->order);
}

static void page_sync(struct stress_mapping *m, bool for_device)
{
	if (for_device)
		dma_sync_single_for_device(m->dev, m->addr, m->size, m->dir);
	else
		dma_sync_single_for_cpu(m->dev, m->addr, m->size, m->dir);
}

/*
 * A register of the device itself: it is no memory, and nobody counts it.  All
 * map the same, which is only allowed to be read.
 */
static int resource_map(struct stress_worker *w, struct stress_mapping *m)
{
	m->cpu = NULL;
	m->dir = DMA_TO_DEVICE;
	m->size = 1 + stress_below(w, 4 * PAGE_SIZE);
	m->addr = dma_map_resource(m->dev,
				   pci_resource_start(to_pci_dev(m->dev), 0),
				   m->size, m->dir, 0);
	return dma_mapping_error(m->dev, m->addr) ? -ENOMEM : 0;
}

static void resource_unmap(struct stress_worker *w, struct stress_mapping *m)
{
	dma_unmap_resource(m->dev, m->addr, m->size, m->dir, 0);
}

static void list_free(struct stress_mapping *m)
{
	struct scatterlist *sg;
	int i;

	for_each_sgtable_sg(&m->table, sg, i)
		if (sg_page(sg) && page_to_pfn(sg_page(sg)) != FIRMWARE_PFN)
			__free_pages(sg_page(sg), m->order);
	sg_free_table(&m->table);
}

/* A list of random pieces, the one with index @firmware of firmware. */
static int list_make(struct stress_worker *w, struct stress_mapping *m,
		     unsigned int nents, unsigned int firmware)
{
	const size_t most = max_t(size_t, dma_max_mapping_size(m->dev) / nents,
				  1);
	struct scatterlist *sg;
	unsigned int offset;
	int i;

	m->order = stress_below(w, 4) ? 0 : stress_below(w, 4);
	if (sg_alloc_table(&m->table, nents, w->gfp))
		return -EAGAIN;
	for_each_sgtable_sg(&m->table, sg, i) {
		struct page *page = i == firmware ? pfn_to_page(FIRMWARE_PFN) :
						    alloc_pages(w->gfp, m->order);
		size_t room = i == firmware ? PAGE_SIZE : PAGE_SIZE << m->order;
		size_t size;

		if (!page) {
			list_free(m);
			return -EAGAIN;
		}
		size = random_stretch(w, room, most, &offset);
		sg_set_page(sg, page, size, offset);
	}
	return 0;
}

/* Mostly short, now and then for more than one request. */
static unsigned int random_nents(struct stress_worker *w)
{
	if (w->context != STRESS_THREAD)
		return 1 + stress_below(w, 8);
	return 1 + stress_below(w, stress_below(w, 32) ? 32 : 300);
}

static int list_map(struct stress_worker *w, struct stress_mapping *m)
{
	int ret = list_make(w, m, random_nents(w), NO_ENTRY);

	if (ret)
		return ret;
	m->cpu = sg_virt(m->table.sgl);
	ret = dma_map_sgtable(m->dev, &m->table, m->dir, 0);
	if (ret)
		list_free(m);
	return ret;
}

static void list_unmap(struct stress_worker *w, struct stress_mapping *m)
{
	dma_unmap_sgtable(m->dev, &m->table, m->dir, 0);
	list_free(m);
}

static void list_sync(struct stress_mapping *m, bool for_device)
{
	if (for_device)
		dma_sync_sgtable_for_device(m->dev, &m->table, m->dir);
	else
		dma_sync_sgtable_for_cpu(m->dev, &m->table, m->dir);
}

/*
 * A list with something that is no RAM: it must be refused as a whole.  Where
 * everything is bounced it is not, as the bounce buffer is RAM.
 */
static int refused_map(struct stress_worker *w, struct stress_mapping *m)
{
	const unsigned int nents = random_nents(w);
	const unsigned int firmware = stress_below(w, nents);
	struct scatterlist *sg;
	int i, ret;

	ret = list_make(w, m, nents, firmware);
	if (ret)
		return ret;
	ret = dma_map_sgtable(m->dev, &m->table, m->dir, 0);
	if (!ret) {
		for_each_sgtable_sg(&m->table, sg, i)
			if (i == firmware && sg_dma_address(sg) == sg_phys(sg))
				stress_fail("firmware was mapped");
		dma_unmap_sgtable(m->dev, &m->table, m->dir, 0);
	} else if (ret != -EREMOTEIO && !stress_may_fail) {
		stress_fail("a list with firmware: error %d", ret);
	}
	list_free(m);
	w->refused++;
	return -EAGAIN;
}

static int coherent_map(struct stress_worker *w, struct stress_mapping *m)
{
	m->size = 1 + stress_below(w, PAGE_SIZE << random_order(w));
	m->cpu = dma_alloc_coherent(m->dev, m->size, &m->addr, w->gfp);
	return m->cpu ? 0 : -EAGAIN;
}

static void coherent_unmap(struct stress_worker *w, struct stress_mapping *m)
{
	dma_free_coherent(m->dev, m->size, m->cpu, m->addr);
}

static int pages_map(struct stress_worker *w, struct stress_mapping *m)
{
	m->size = PAGE_SIZE << random_order(w);
	m->page = dma_alloc_pages(m->dev, m->size, &m->addr, m->dir, w->gfp);
	if (!m->page)
		return -EAGAIN;
	m->cpu = page_address(m->page);
	return 0;
}

static void pages_unmap(struct stress_worker *w, struct stress_mapping *m)
{
	dma_free_pages(m->dev, m->size, m->page, m->addr, m->dir);
}

static int scattered_map(struct stress_worker *w, struct stress_mapping *m)
{
	m->size = PAGE_SIZE * (1 + stress_below(w, 32));
	m->sgt = dma_alloc_noncontiguous(m->dev, m->size, m->dir, w->gfp, 0);
	if (!m->sgt)
		return -EAGAIN;
	/* Without an IOMMU that translates it is one stretch. */
	m->addr = sg_dma_address(m->sgt->sgl);
	m->cpu = sg_virt(m->sgt->sgl);
	return 0;
}

static void scattered_unmap(struct stress_worker *w, struct stress_mapping *m)
{
	dma_free_noncontiguous(m->dev, m->size, m->sgt, m->dir);
}

/* The pool's pages are coherent memory that it keeps until it is destroyed. */
static int pool_map(struct stress_worker *w, struct stress_mapping *m)
{
	struct stress_pool *pool = &w->pool[m->index];
	dma_addr_t page;
	unsigned int i;

	m->size = pool->size;
	m->cpu = dma_pool_alloc(pool->pool, w->gfp, &m->addr);
	if (!m->cpu)
		return -EAGAIN;
	page = m->addr & PAGE_MASK;
	for (i = 0; i < pool->pages; i++)
		if (pool->page[i] == page)
			return 0;
	if (pool->pages == ARRAY_SIZE(pool->page)) {
		stress_fail("the pool takes pages without need");
		return 0;
	}
	pool->page[pool->pages++] = page;
	stress_books_count(page, PAGE_SIZE, 1);
	stress_books_expect(page, PAGE_SIZE, false);
	return 0;
}

static void pool_unmap(struct stress_worker *w, struct stress_mapping *m)
{
	dma_pool_free(w->pool[m->index].pool, m->cpu, m->addr);
}

/**
 * stress_pools_open - make a worker's pools
 * @w: the worker
 *
 * Process context.
 */
int stress_pools_open(struct stress_worker *w)
{
	struct stress_pool *pool;
	int i;

	for (i = 0; i < STRESS_DEVICES; i++) {
		pool = &w->pool[i];
		pool->pages = 0;
		pool->size = 64 * (1 + stress_below(w, PAGE_SIZE / 64));
		pool->pool = dma_pool_create("stress",
					     &stress_edu[i].pdev->dev,
					     pool->size, 64, 0);
		if (!pool->pool)
			return -ENOMEM;
	}
	return 0;
}

/**
 * stress_pools_close - destroy a worker's pools, which are empty
 * @w: the worker
 *
 * Process context.
 */
void stress_pools_close(struct stress_worker *w)
{
	struct stress_pool *pool;
	int i;

	for (i = 0; i < STRESS_DEVICES; i++) {
		pool = &w->pool[i];
		while (pool->pages)
			stress_books_count(pool->page[--pool->pages], PAGE_SIZE,
					   -1);
		dma_pool_destroy(pool->pool);
		pool->pool = NULL;
	}
}

static const struct stress_kind page_kind = {
	.name = "page", .contexts = STRESS_ANY,
	.map = page_map, .unmap = page_unmap, .sync = page_sync,
};

static const struct stress_kind list_kind = {
	.name = "list", .contexts = STRESS_ANY, .list = true,
	.map = list_map, .unmap = list_unmap, .sync = list_sync,
};

static const struct stress_kind coherent_kind = {
	.name = "coherent", .contexts = STRESS_THREAD | STRESS_SOFTIRQ,
	.map = coherent_map, .unmap = coherent_unmap,
};

static const struct stress_kind pool_kind = {
	.name = "pool", .contexts = STRESS_THREAD | STRESS_SOFTIRQ,
	.uncounted = true,
	.map = pool_map, .unmap = pool_unmap,
};

static const struct stress_kind pages_kind = {
	.name = "pages", .contexts = STRESS_THREAD | STRESS_SOFTIRQ,
	.map = pages_map, .unmap = pages_unmap, .sync = page_sync,
};

static const struct stress_kind scattered_kind = {
	.name = "noncontiguous", .contexts = STRESS_THREAD,
	.map = scattered_map, .unmap = scattered_unmap,
};

static const struct stress_kind resource_kind = {
	.name = "resource", .contexts = STRESS_ANY, .uncounted = true,
	.map = resource_map, .unmap = resource_unmap,
};

static const struct stress_kind refused_kind = {
	.name = "refused", .contexts = STRESS_ANY,
	.map = refused_map,
};

/* What is done often stands more than once. */
static const struct stress_kind * const kinds[] = {
	&page_kind, &page_kind, &page_kind, &page_kind, &list_kind, &list_kind,
	&coherent_kind, &pool_kind, &pages_kind, &scattered_kind,
	&resource_kind, &refused_kind,
};

/* Enter a mapping in the books and look at the table, or strike it out. */
static void count(struct stress_worker *w, struct stress_mapping *m, int by)
{
	struct scatterlist *sg;
	int i;

	if (m->kind->uncounted)
		return;
	if (!m->kind->list) {
		stress_books_count(m->addr, m->size, by);
		if (by > 0)
			stress_books_expect(m->addr, m->size,
					    w->context == STRESS_THREAD);
		return;
	}
	for_each_sgtable_dma_sg(&m->table, sg, i) {
		stress_books_count(sg_dma_address(sg), sg_dma_len(sg), by);
		if (by > 0)
			stress_books_expect(sg_dma_address(sg), sg_dma_len(sg),
					    w->context == STRESS_THREAD);
	}
}

/**
 * stress_map - make a random mapping for a random device
 * @w: the worker; its context says what may be done
 * @m: a free slot of it
 *
 * Returns 0, or a negative errno and the slot is free still.
 */
int stress_map(struct stress_worker *w, struct stress_mapping *m)
{
	const struct stress_kind *kind;
	int ret;

	do
		kind = kinds[stress_below(w, ARRAY_SIZE(kinds))];
	while (!(kind->contexts & w->context));
	m->index = w->index >= 0 ? w->index : stress_below(w, STRESS_DEVICES);
	m->dev = &stress_edu[m->index].pdev->dev;
	m->dir = w->index >= 0 ? DMA_BIDIRECTIONAL : stress_below(w, 3);
	ret = kind->map(w, m);
	if (!ret) {
		m->kind = kind;
		w->maps++;
		count(w, m, 1);
	} else if (ret != -EAGAIN) {
		w->refused++;
		if (!stress_may_fail)
			stress_fail("%s: error %d", kind->name, ret);
	}
	return ret;
}

/**
 * stress_unmap - undo stress_map()
 * @w: the worker
 * @m: a slot in use; free afterwards
 */
void stress_unmap(struct stress_worker *w, struct stress_mapping *m)
{
	count(w, m, -1);
	m->kind->unmap(w, m);
	m->kind = NULL;
}
