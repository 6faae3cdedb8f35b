// SPDX-License-Identifier: GPL-2.0
/*
 * Each way to allocate memory for DMA.  The device copies within it, at its
 * start and at its end, so that address and memory are seen to belong together;
 * and a process maps it.
 */
#include <linux/anon_inodes.h>
#include <linux/dmapool.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mman.h>
#include <linux/random.h>
#include <linux/scatterlist.h>
#include <linux/uaccess.h>

#include "edu.h"

#define PAGES	3

/**
 * struct shared - memory that a process maps
 * @map: maps it, or fails
 * @dev: for the DMA API
 * @size: bytes, whole pages
 * @cpu: where the kernel has it
 * @addr: where the device has it, if it is coherent
 * @page: the first of dma_alloc_pages()
 * @table: what dma_alloc_noncontiguous() made
 */
struct shared {
	int (*map)(struct shared *shared, struct vm_area_struct *vma);
	struct device *dev;
	size_t size;
	u8 *cpu;
	dma_addr_t addr;
	struct page *page;
	struct sg_table *table;
};

/* Have the device copy 64 bytes from the start of @cpu to its second half. */
static int check_coherent(struct edu *edu, const char *what, u8 *cpu,
			  dma_addr_t addr)
{
	int ret;

	if (no_dma)
		return 0;
	get_random_bytes(cpu, 64);
	memset(cpu + 64, 0, 64);
	ret = transfer(edu, addr, 64, false) ?:
	      transfer(edu, addr + 64, 64, true);
	if (!ret && memcmp(cpu, cpu + 64, 64))
		ret = FAIL(edu, "%s: wrong data\n", what);
	return ret;
}

/* The same at the start and at the end of @size bytes. */
static int check_ends(struct edu *edu, const char *what, u8 *cpu,
		      dma_addr_t addr, size_t size)
{
	return check_coherent(edu, what, cpu, addr) ?:
	       check_coherent(edu, what, cpu + size - 128, addr + size - 128);
}

static int map_coherent(struct shared *shared, struct vm_area_struct *vma)
{
	return dma_mmap_coherent(shared->dev, vma, shared->cpu, shared->addr,
				 shared->size);
}

static int map_pages(struct shared *shared, struct vm_area_struct *vma)
{
	return dma_mmap_pages(shared->dev, vma, shared->size, shared->page);
}

static int map_noncontiguous(struct shared *shared, struct vm_area_struct *vma)
{
	return dma_mmap_noncontiguous(shared->dev, vma, shared->size,
				      shared->table);
}

static int shared_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct shared *shared = file->private_data;

	return shared->map(shared, vma);
}

static const struct file_operations shared_fops = { .mmap = shared_mmap };

/* The last page as this process sees it, mapped by itself. */
static int check_user(struct edu *edu, const u8 *last, unsigned long user)
{
	u8 seen[64];

	if (copy_from_user(seen, (void __user *)user, sizeof(seen)))
		return FAIL(edu, "mmap: not readable\n");
	if (memcmp(seen, last, sizeof(seen)))
		return FAIL(edu, "mmap: another page\n");
	return 0;
}

static int check_mmap(struct edu *edu, struct shared *shared)
{
	const size_t size = shared->size, offset = size - PAGE_SIZE;
	struct file *file;
	unsigned long user;
	int ret;

	shared->dev = &edu->pdev->dev;
	if (!dma_can_mmap(shared->dev))
		return FAIL(edu, "mmap: cannot be done\n");
	file = anon_inode_getfile("edu", &shared_fops, shared, O_RDWR);
	if (IS_ERR(file))
		return PTR_ERR(file);
	get_random_bytes(shared->cpu + offset, 64);
	user = vm_mmap(file, 0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		       offset);
	if (IS_ERR_VALUE(user)) {
		ret = FAIL(edu, "mmap: failed (%ld)\n", (long)user);
	} else {
		ret = check_user(edu, shared->cpu + offset, user);
		vm_munmap(user, PAGE_SIZE);
	}
	if (!ret) {
		/* One page more than there is. */
		user = vm_mmap(file, 0, size + PAGE_SIZE, PROT_READ, MAP_SHARED,
			       0);
		if (!IS_ERR_VALUE(user)) {
			vm_munmap(user, size + PAGE_SIZE);
			ret = FAIL(edu, "mmap: more than there is\n");
		}
	}
	fput(file);
	return ret;
}

/* The table of a piece of memory has its pages. */
static int check_sgtable(struct edu *edu, void *cpu, dma_addr_t addr)
{
	struct sg_table table;
	struct scatterlist *sg;
	size_t size = 0;
	int i, ret = 0;

	if (dma_get_sgtable(&edu->pdev->dev, &table, cpu, addr,
			    PAGES * PAGE_SIZE))
		return FAIL(edu, "sgtable: none\n");
	for_each_sgtable_sg(&table, sg, i) {
		if (sg_phys(sg) != virt_to_phys(cpu + size))
			ret = FAIL(edu, "sgtable: other pages\n");
		size += sg->length;
	}
	if (!ret && size != PAGES * PAGE_SIZE)
		ret = FAIL(edu, "sgtable: of %zu bytes\n", size);
	sg_free_table(&table);
	return ret;
}

static int alloc_coherent(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	const size_t size = PAGES * PAGE_SIZE;
	struct shared shared = { .map = map_coherent, .size = size };
	dma_addr_t addr;
	u8 *cpu;
	int ret = 0;

	cpu = dma_alloc_coherent(dev, size, &addr, GFP_KERNEL);
	if (!cpu)
		return FAIL(edu, "coherent: no memory\n");
	if (addr + size - 1 > dev->coherent_dma_mask)
		ret = FAIL(edu, "coherent: %pad is beyond the mask\n", &addr);
	if (!ret && memchr_inv(cpu, 0, size))
		ret = FAIL(edu, "coherent: not zeroed\n");
	shared.cpu = cpu;
	shared.addr = addr;
	ret = ret ?: check_ends(edu, "coherent", cpu, addr, size) ?:
	      check_mmap(edu, &shared) ?: check_sgtable(edu, cpu, addr);
	dma_free_coherent(dev, size, cpu, addr);
	return ret;
}

/* Of an interrupt handler, for example: must not sleep. */
static int alloc_atomic(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	unsigned long flags;
	dma_addr_t addr;
	void *cpu;
	int ret;

	local_irq_save(flags);
	cpu = dma_alloc_coherent(dev, PAGE_SIZE, &addr, GFP_ATOMIC);
	local_irq_restore(flags);
	if (!cpu)
		return FAIL(edu, "atomic: no memory\n");
	ret = check_coherent(edu, "atomic", cpu, addr);
	dma_free_coherent(dev, PAGE_SIZE, cpu, addr);
	return ret;
}

static int alloc_attrs(struct edu *edu)
{
	static const unsigned long attrs[] = {
		DMA_ATTR_WRITE_COMBINE,
		DMA_ATTR_ALLOC_SINGLE_PAGES | DMA_ATTR_NO_WARN,
		DMA_ATTR_FORCE_CONTIGUOUS,
		DMA_ATTR_NO_KERNEL_MAPPING,
	};
	struct device *dev = &edu->pdev->dev;
	dma_addr_t addr;
	void *cpu;
	int i, ret = 0;

	for (i = 0; i < ARRAY_SIZE(attrs) && !ret; i++) {
		cpu = dma_alloc_attrs(dev, PAGE_SIZE, &addr, GFP_KERNEL,
				      attrs[i]);
		if (!cpu)
			return FAIL(edu, "attributes %#lx: no memory\n",
				    attrs[i]);
		/* Without a kernel mapping it is no pointer. */
		if (attrs[i] == DMA_ATTR_NO_KERNEL_MAPPING)
			ret = transfer(edu, addr, 64, false);
		else
			ret = check_coherent(edu, "attributes", cpu, addr);
		dma_free_attrs(dev, PAGE_SIZE, cpu, addr, attrs[i]);
	}
	return ret;
}

/* Small pieces of shared pages: each is where the pool says it is. */
static int alloc_pool(struct edu *edu)
{
	struct dma_pool *pool = dma_pool_create("edu", &edu->pdev->dev, 192, 64,
						0);
	dma_addr_t addr[40];
	void *cpu[40];
	int i, n, ret = 0;

	if (!pool)
		return FAIL(edu, "pool: cannot be made\n");
	for (n = 0; n < ARRAY_SIZE(cpu); n++) {
		cpu[n] = dma_pool_zalloc(pool, GFP_KERNEL, &addr[n]);
		if (!cpu[n])
			break;
	}
	if (n < ARRAY_SIZE(cpu))
		ret = FAIL(edu, "pool: no memory\n");
	for (i = 0; i < n; i++) {
		/* Some of each page: the device takes 100 ms for a copy. */
		if (i % 13 == 0)
			ret = ret ?: check_coherent(edu, "pool", cpu[i],
						    addr[i]);
		dma_pool_free(pool, cpu[i], addr[i]);
	}
	dma_pool_destroy(pool);
	return ret;
}

/* Pages for streaming: what the CPU has written is synced before the device. */
static int alloc_streaming(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	const size_t size = 2 * PAGE_SIZE;
	struct shared shared = { .map = map_pages, .size = size };
	struct page *page;
	dma_addr_t addr;
	int ret;

	page = dma_alloc_pages(dev, size, &addr, DMA_BIDIRECTIONAL, GFP_KERNEL);
	if (!page)
		return FAIL(edu, "pages: no memory\n");
	shared.page = page;
	shared.cpu = page_address(page);
	dma_sync_single_for_device(dev, addr, size, DMA_BIDIRECTIONAL);
	ret = check_ends(edu, "pages", shared.cpu, addr, size);
	dma_sync_single_for_cpu(dev, addr, size, DMA_BIDIRECTIONAL);
	ret = ret ?: check_mmap(edu, &shared);
	dma_free_pages(dev, size, page, addr, DMA_BIDIRECTIONAL);
	return ret;
}

static int alloc_noncontiguous(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	const size_t size = 5 * PAGE_SIZE;
	struct shared shared = { .map = map_noncontiguous, .size = size };
	struct sg_table *table;
	int ret;

	table = dma_alloc_noncontiguous(dev, size, DMA_BIDIRECTIONAL,
					GFP_KERNEL, 0);
	if (!table)
		return FAIL(edu, "noncontiguous: no memory\n");
	shared.table = table;
	shared.cpu = dma_vmap_noncontiguous(dev, size, table);
	if (shared.cpu) {
		/* One stretch of DMA addresses, whatever the memory is. */
		dma_sync_sgtable_for_device(dev, table, DMA_BIDIRECTIONAL);
		ret = check_ends(edu, "noncontiguous", shared.cpu,
				 sg_dma_address(table->sgl), size);
		dma_sync_sgtable_for_cpu(dev, table, DMA_BIDIRECTIONAL);
		ret = ret ?: check_mmap(edu, &shared);
		dma_vunmap_noncontiguous(dev, shared.cpu);
	} else {
		ret = FAIL(edu, "noncontiguous: no kernel mapping\n");
	}
	dma_free_noncontiguous(dev, size, table, DMA_BIDIRECTIONAL);
	return ret;
}

/**
 * test_alloc - each way to allocate
 * @edu: the device
 */
int test_alloc(struct edu *edu)
{
	return alloc_coherent(edu) ?: alloc_atomic(edu) ?: alloc_attrs(edu) ?:
	       alloc_pool(edu) ?: alloc_streaming(edu) ?:
	       alloc_noncontiguous(edu);
}
