// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A slot: memory is mapped in a random way, the device works in it for a random
 * time, gives it back, it is unmapped, and its data must be what the device
 * should have left there.
 */
#include <linux/dma-mapping.h>
#include <linux/random.h>

#include "stress.h"

/* The largest mapping, and the largest segment of a list. */
#define SIZE_MAX_BYTES	SZ_128K
#define SEGMENT_MAX	SZ_8K

/* How long the device has it, at most. */
#define HOLD_NS		(300 * NSEC_PER_USEC)

/**
 * mapping_units - how many units a DMA range touches
 * @addr: DMA address
 * @size: bytes
 */
long mapping_units(dma_addr_t addr, size_t size)
{
	return ((addr + size - 1) >> unit_shift) - (addr >> unit_shift) + 1;
}

/**
 * mapping_is_free - is nothing mapped in it?
 * @m: the mapping
 */
bool mapping_is_free(const struct mapping *m)
{
	return READ_ONCE(m->slot->state) == STRESS_FREE;
}

/* Mostly small, a multiple of 8. */
static size_t random_size(size_t most)
{
	static const u32 limit[] = { SZ_4K, SZ_4K, SZ_32K, SIZE_MAX_BYTES };
	size_t size = limit[get_random_u32_below(ARRAY_SIZE(limit))];

	return 8 * (1 + get_random_u32_below(min(size, most) / 8));
}

/* Memory of the arena for one stretch: any offset in a page. */
static bool stretch_get(struct mapping *m, unsigned int i, size_t most)
{
	unsigned int offset = 8 * get_random_u32_below(PAGE_SIZE / 8);
	size_t size = random_size(m->hot ? PAGE_SIZE - offset : most);
	void *page;

	page = arena_claim(&m->run[i], DIV_ROUND_UP(offset + size, PAGE_SIZE),
			   m->hot);
	if (!page)
		return false;
	m->cpu[i] = page + offset;
	sg_set_buf(&m->sg[i], m->cpu[i], size);
	m->count = i + 1;
	return true;
}

static void stretches_put(struct mapping *m)
{
	unsigned int i;

	for (i = 0; i < m->count; i++)
		arena_release(&m->run[i]);
}

static void fill(struct mapping *m)
{
	unsigned int i, word;
	u64 index = 0;

	for (i = 0; i < m->count; i++) {
		u64 *data = m->cpu[i];

		for (word = 0; word < m->sg[i].length / 8; word++)
			data[word] = stress_word(m->seed, index++);
	}
}

/* Is everything as the device should have left it? */
static bool check(const struct mapping *m)
{
	u64 seed = m->dir == DMA_BIDIRECTIONAL ? ~m->seed : m->seed;
	unsigned int i, word;
	u64 index = 0;

	for (i = 0; i < m->count; i++) {
		const u64 *data = m->cpu[i];

		for (word = 0; word < m->sg[i].length / 8; word++)
			if (data[word] != stress_word(seed, index++))
				return false;
	}
	return true;
}

static bool map_coherent(struct device *dev, struct mapping *m, size_t most)
{
	size_t size = min_t(size_t, random_size(most), SZ_32K);
	dma_addr_t addr;

	m->cpu[0] = dma_alloc_coherent(dev, size, &addr, GFP_KERNEL);
	if (!m->cpu[0])
		return false;
	m->count = 1;
	sg_init_table(m->sg, 1);
	m->sg[0].length = size;
	sg_dma_address(m->sg) = addr;
	sg_dma_len(m->sg) = size;
	m->run[0].count = 0;
	fill(m);
	return true;
}

static bool map_one(struct device *dev, struct mapping *m)
{
	size_t size = m->sg[0].length;
	dma_addr_t addr;

	if (m->kind == MAPPING_SINGLE)
		addr = dma_map_single(dev, m->cpu[0], size, m->dir);
	else
		addr = dma_map_page(dev, sg_page(m->sg), m->sg[0].offset, size,
				    m->dir);
	sg_dma_address(m->sg) = addr;
	sg_dma_len(m->sg) = size;
	return !dma_mapping_error(dev, addr);
}

static bool map_streaming(struct device *dev, struct mapping *m, size_t most)
{
	unsigned int i, want = 1;
	bool ok;

	if (m->kind == MAPPING_SG) {
		want = 1 + get_random_u32_below(STRESS_SEGMENTS);
		most = min_t(size_t, most / want, SEGMENT_MAX);
	}
	sg_init_table(m->sg, want);
	for (i = 0; i < want; i++)
		if (!stretch_get(m, i, most))
			break;
	ok = i == want;
	if (ok) {
		fill(m);
		ok = m->kind == MAPPING_SG ?
		     dma_map_sg(dev, m->sg, m->count, m->dir) == m->count :
		     map_one(dev, m);
	}
	if (!ok)
		stretches_put(m);
	return ok;
}

static void unmap(struct device *dev, struct mapping *m)
{
	switch (m->kind) {
	case MAPPING_SINGLE:
		dma_unmap_single(dev, sg_dma_address(m->sg),
				 sg_dma_len(m->sg), m->dir);
		break;
	case MAPPING_PAGE:
		dma_unmap_page(dev, sg_dma_address(m->sg), sg_dma_len(m->sg),
			       m->dir);
		break;
	case MAPPING_SG:
		dma_unmap_sg(dev, m->sg, m->count, m->dir);
		break;
	default:
		break;
	}
}

/* Hand it to the device. */
static void hand_over(struct mapping *m)
{
	struct stress_slot *slot = m->slot;
	struct scatterlist *sg;
	unsigned int i;

	m->units = 0;
	for_each_sg(m->sg, sg, m->count, i) {
		size_t size = sg_dma_len(sg);

		slot->segment[i].addr = sg_dma_address(sg);
		slot->segment[i].size = size;
		if (m->kind == MAPPING_COHERENT)
			size = PAGE_ALIGN(size);
		m->units += mapping_units(sg_dma_address(sg), size);
	}
	slot->segments = m->count;
	slot->access = m->dir == DMA_TO_DEVICE ? STRESS_MAY_READ :
		       m->dir == DMA_FROM_DEVICE ? STRESS_MAY_WRITE :
		       STRESS_MAY_READ | STRESS_MAY_WRITE;
	slot->seed = m->seed;
	m->due = ktime_get();
	if (!m->hot)
		m->due = ktime_add_ns(m->due, get_random_u32_below(HOLD_NS));
	/* Pairs with the device's acquire: all of the above comes first. */
	smp_store_release(&slot->state, STRESS_READY);
}

static bool begin(struct stress *stress, struct mapping *m)
{
	struct device *dev = &stress->pdev->dev;
	bool ok;

	m->kind = get_random_u32_below(m->hot ? MAPPING_SG : MAPPING_KINDS);
	m->dir = get_random_u32_below(DMA_FROM_DEVICE + 1);
	m->seed = get_random_u64();
	m->count = 0;
	if (m->kind == MAPPING_COHERENT)
		ok = map_coherent(dev, m, stress->max_size);
	else
		ok = map_streaming(dev, m, stress->max_size);
	if (!ok) {
		atomic_long_inc(&stress->failed);
		return false;
	}
	hand_over(m);
	atomic_long_inc(&stress->maps);
	atomic_long_add(m->units, &stress->live_units);
	return true;
}

static void end(struct stress *stress, struct mapping *m)
{
	struct device *dev = &stress->pdev->dev;

	unmap(dev, m);
	if (!check(m)) {
		atomic_long_inc(&stress->mismatches);
		dev_err_once(dev, "wrong data: kind %d, direction %d\n",
			     m->kind, m->dir);
	}
	if (m->kind == MAPPING_COHERENT)
		dma_free_coherent(dev, m->sg[0].length, m->cpu[0],
				  sg_dma_address(m->sg));
	stretches_put(m);
	atomic_long_sub(m->units, &stress->live_units);
	atomic_long_inc(&stress->unmaps);
	WRITE_ONCE(m->slot->state, STRESS_FREE);
}

/**
 * mapping_step - do with a slot what is to be done now
 * @stress: the device
 * @m: the slot's mapping
 * @draining: end it at once, begin none
 *
 * Returns whether anything was done.
 */
bool mapping_step(struct stress *stress, struct mapping *m, bool draining)
{
	/* Acquire: what the device did to the memory came before DONE. */
	switch (smp_load_acquire(&m->slot->state)) {
	case STRESS_FREE:
		return !draining && begin(stress, m);
	case STRESS_READY:
		if (!draining && ktime_before(ktime_get(), m->due))
			return false;
		/* Pairs with the device's acquire. */
		smp_store_release(&m->slot->state, STRESS_STOP);
		return true;
	case STRESS_DONE:
		end(stress, m);
		return true;
	default:
		return false;
	}
}
