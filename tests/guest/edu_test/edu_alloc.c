// SPDX-License-Identifier: GPL-2.0
/*
 * Each way to allocate memory for DMA.  The device copies from the start of it
 * to elsewhere in it, so that address and memory are seen to belong together.
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
 * struct shared - coherent memory that a process maps
 * @dev: for the DMA API
 * @cpu: where the kernel has it
 * @addr: where the device has it
 */
struct shared {
	struct device *dev;
	void *cpu;
	dma_addr_t addr;
};

/* Have the device copy 64 bytes from the start of @cpu to its second half. */
static int check_coherent(struct edu *edu, const char *what, u8 *cpu,
			  dma_addr_t addr)
{
	int ret;

	get_random_bytes(cpu, 64);
	memset(cpu + 64, 0, 64);
	ret = transfer(edu, addr, 64, false) ?:
	      transfer(edu, addr + 64, 64, true);
	if (!ret && memcmp(cpu, cpu + 64, 64))
		ret = FAIL(edu, "%s: wrong data\n", what);
	return ret;
}

static int shared_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct shared *shared = file->private_data;

	return dma_mmap_coherent(shared->dev, vma, shared->cpu, shared->addr,
				 PAGES * PAGE_SIZE);
}

static const struct file_operations shared_fops = { .mmap = shared_mmap };

/* The last page as this process sees it, mapped by itself. */
static int check_user(struct edu *edu, const u8 *cpu, unsigned long user)
{
	u8 seen[64];

	if (copy_from_user(seen, (void __user *)user, sizeof(seen)))
		return FAIL(edu, "mmap: not readable\n");
	if (memcmp(seen, cpu + (PAGES - 1) * PAGE_SIZE, sizeof(seen)))
		return FAIL(edu, "mmap: another page\n");
	return 0;
}

static int check_mmap(struct edu *edu, u8 *cpu, dma_addr_t addr)
{
	struct shared shared = { &edu->pdev->dev, cpu, addr };
	struct file *file;
	unsigned long user;
	int ret;

	if (!dma_can_mmap(&edu->pdev->dev))
		return FAIL(edu, "mmap: cannot be done\n");
	file = anon_inode_getfile("edu", &shared_fops, &shared, O_RDWR);
	if (IS_ERR(file))
		return PTR_ERR(file);
	get_random_bytes(cpu + (PAGES - 1) * PAGE_SIZE, 64);
	user = vm_mmap(file, 0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		       (PAGES - 1) * PAGE_SIZE);
	if (IS_ERR_VALUE(user)) {
		ret = FAIL(edu, "mmap: failed (%ld)\n", (long)user);
	} else {
		ret = check_user(edu, cpu, user);
		vm_munmap(user, PAGE_SIZE);
	}
	if (!ret) {
		/* One page more than there is. */
		user = vm_mmap(file, 0, (PAGES + 1) * PAGE_SIZE, PROT_READ,
			       MAP_SHARED, 0);
		if (!IS_ERR_VALUE(user)) {
			vm_munmap(user, (PAGES + 1) * PAGE_SIZE);
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
	ret = ret ?: check_coherent(edu, "coherent", cpu, addr) ?:
	      check_mmap(edu, cpu, addr) ?: check_sgtable(edu, cpu, addr);
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
		ret = ret ?: check_coherent(edu, "pool", cpu[i], addr[i]);
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
	struct page *page;
	dma_addr_t addr;
	int ret;

	page = dma_alloc_pages(dev, size, &addr, DMA_BIDIRECTIONAL, GFP_KERNEL);
	if (!page)
		return FAIL(edu, "pages: no memory\n");
	dma_sync_single_for_device(dev, addr, size, DMA_BIDIRECTIONAL);
	ret = check_coherent(edu, "pages", page_address(page), addr);
	dma_sync_single_for_cpu(dev, addr, size, DMA_BIDIRECTIONAL);
	dma_free_pages(dev, size, page, addr, DMA_BIDIRECTIONAL);
	return ret;
}

static int alloc_noncontiguous(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	const size_t size = 5 * PAGE_SIZE;
	struct sg_table *table;
	u8 *cpu;
	int ret;

	table = dma_alloc_noncontiguous(dev, size, DMA_BIDIRECTIONAL,
					GFP_KERNEL, 0);
	if (!table)
		return FAIL(edu, "noncontiguous: no memory\n");
	cpu = dma_vmap_noncontiguous(dev, size, table);
	if (cpu) {
		dma_sync_sgtable_for_device(dev, table, DMA_BIDIRECTIONAL);
		ret = check_coherent(edu, "noncontiguous", cpu,
				     sg_dma_address(table->sgl));
		dma_sync_sgtable_for_cpu(dev, table, DMA_BIDIRECTIONAL);
		dma_vunmap_noncontiguous(dev, cpu);
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
