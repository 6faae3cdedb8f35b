// SPDX-License-Identifier: GPL-2.0
/*
 * A driver for QEMU's edu device that walks the DMA API, for the tests in
 * tests/guest.  The device copies between its 4 KiB buffer and any DMA address,
 * so that what the API returns is used for real.
 *
 * Writing a test's name to the device's "run" file in sysfs runs it; the write
 * fails if the test does, with the reason in the kernel's log.
 *
 *   walk     each way to allocate, and the queries
 *   stream   map, sync and unmap with data, from pages as high as there are
 *   hold     map some ranges whose units can be counted; "release" undoes it
 *   refuse   mappings of what is no RAM must fail
 *   many     a list that needs several requests
 *   scatter  the largest mapping there may be, each page somewhere else
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/dmapool.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/random.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#define EDU_DMA_SRC	0x80
#define EDU_DMA_DST	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_CMD	0x98
#define EDU_CMD_START	BIT(0)
#define EDU_CMD_TO_RAM	BIT(1)
#define EDU_BUFFER	0x40000

/* In the first megabyte, where a PC has firmware: not RAM for devices. */
#define FIRMWARE_PFN	0xc0

#define HOLD_ORDER	6
#define MANY		600

static unsigned int bits = 32;
module_param(bits, uint, 0444);
MODULE_PARM_DESC(bits, "width of the DMA mask");

/**
 * struct edu - a bound device
 * @pdev: the device
 * @regs: BAR 0
 * @lock: one test at a time
 * @page: what "hold" has mapped, or NULL
 * @held: its DMA addresses
 */
struct edu {
	struct pci_dev *pdev;
	void __iomem *regs;
	struct mutex lock;	/* one test at a time */
	struct page *page;
	dma_addr_t held[3];
};

/* "hold": a unit's worth, across a boundary, and the first again. */
static const struct {
	unsigned long offset;
	size_t size;
} hold[] = {
	{ 0, SZ_64K },
	{ SZ_64K - 2048, 4096 },
	{ 0, SZ_64K },
};

#define FAIL(edu, ...)							\
	({								\
		pci_err((edu)->pdev, __VA_ARGS__);			\
		-EIO;							\
	})

/* Copy @size bytes between the device's buffer and @addr. */
static int transfer(struct edu *edu, dma_addr_t addr, size_t size, bool to_ram)
{
	int tries;

	writeq(to_ram ? EDU_BUFFER : addr, edu->regs + EDU_DMA_SRC);
	writeq(to_ram ? addr : EDU_BUFFER, edu->regs + EDU_DMA_DST);
	writeq(size, edu->regs + EDU_DMA_COUNT);
	writeq(EDU_CMD_START | (to_ram ? EDU_CMD_TO_RAM : 0),
	       edu->regs + EDU_DMA_CMD);
	for (tries = 0; tries < 5000; tries++) {
		if (!(readq(edu->regs + EDU_DMA_CMD) & EDU_CMD_START))
			return 0;
		usleep_range(500, 1000);
	}
	return FAIL(edu, "the copy does not end\n");
}

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

static int walk_coherent(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	const size_t size = 3 * PAGE_SIZE;
	struct sg_table table;
	dma_addr_t addr;
	void *cpu;
	int ret;

	cpu = dma_alloc_coherent(dev, size, &addr, GFP_KERNEL);
	if (!cpu)
		return FAIL(edu, "coherent: no memory\n");
	ret = check_coherent(edu, "coherent", cpu, addr);
	if (!ret && !dma_can_mmap(dev))
		ret = FAIL(edu, "coherent memory cannot be mapped to users\n");
	if (!ret) {
		ret = dma_get_sgtable(dev, &table, cpu, addr, size);
		if (!ret)
			sg_free_table(&table);
	}
	dma_free_coherent(dev, size, cpu, addr);
	return ret;
}

static int walk_attrs(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	const unsigned long attrs = DMA_ATTR_NO_KERNEL_MAPPING;
	dma_addr_t addr;
	void *cookie;

	cookie = dma_alloc_attrs(dev, PAGE_SIZE, &addr, GFP_KERNEL, attrs);
	if (!cookie)
		return FAIL(edu, "no kernel mapping: no memory\n");
	dma_free_attrs(dev, PAGE_SIZE, cookie, addr, attrs);
	return 0;
}

static int walk_pool(struct edu *edu)
{
	struct dma_pool *pool = dma_pool_create("edu", &edu->pdev->dev, 192, 64,
						0);
	dma_addr_t addr;
	void *cpu;
	int ret;

	if (!pool)
		return FAIL(edu, "pool: cannot be made\n");
	cpu = dma_pool_alloc(pool, GFP_KERNEL, &addr);
	ret = cpu ? check_coherent(edu, "pool", cpu, addr) :
		    FAIL(edu, "pool: no memory\n");
	if (cpu)
		dma_pool_free(pool, cpu, addr);
	dma_pool_destroy(pool);
	return ret;
}

static int walk_pages(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	struct sg_table *table;
	struct page *page;
	dma_addr_t addr;

	page = dma_alloc_pages(dev, 2 * PAGE_SIZE, &addr, DMA_BIDIRECTIONAL,
			       GFP_KERNEL);
	if (!page)
		return FAIL(edu, "pages: no memory\n");
	dma_free_pages(dev, 2 * PAGE_SIZE, page, addr, DMA_BIDIRECTIONAL);

	table = dma_alloc_noncontiguous(dev, 5 * PAGE_SIZE, DMA_BIDIRECTIONAL,
					GFP_KERNEL, 0);
	if (!table)
		return FAIL(edu, "noncontiguous: no memory\n");
	dma_free_noncontiguous(dev, 5 * PAGE_SIZE, table, DMA_BIDIRECTIONAL);
	return 0;
}

/* A resource is not memory: it is mapped, and nothing is counted or pinned. */
static int walk_resource(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	phys_addr_t bar = pci_resource_start(edu->pdev, 0);
	dma_addr_t addr = dma_map_resource(dev, bar, PAGE_SIZE,
					   DMA_BIDIRECTIONAL, 0);

	if (dma_mapping_error(dev, addr))
		return FAIL(edu, "resource: not mapped\n");
	dma_unmap_resource(dev, addr, PAGE_SIZE, DMA_BIDIRECTIONAL, 0);
	return 0;
}

static int test_walk(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;

	if (dma_set_mask_and_coherent(dev, DMA_BIT_MASK(bits)))
		return FAIL(edu, "a mask of %u bits is refused\n", bits);
	if (!dma_max_mapping_size(dev) || !dma_get_required_mask(dev))
		return FAIL(edu, "limits: none\n");
	return walk_coherent(edu) ?: walk_attrs(edu) ?: walk_pool(edu) ?:
	       walk_pages(edu) ?: walk_resource(edu);
}

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

static int test_stream(struct edu *edu)
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

static int test_release(struct edu *edu)
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
	return 0;
}

static int test_hold(struct edu *edu)
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
	if (ret)
		test_release(edu);
	return ret;
}

static int test_refuse(struct edu *edu)
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
	if (!ret && dma_map_sgtable(dev, &table, DMA_TO_DEVICE, 0) != -EIO)
		ret = FAIL(edu, "refuse: a list with firmware was mapped\n");
	__free_page(page);
	return ret;
}

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

static int test_many(struct edu *edu)
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

static int test_scatter(struct edu *edu)
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

static const struct {
	const char *name;
	int (*run)(struct edu *edu);
} tests[] = {
	{ "walk", test_walk },
	{ "stream", test_stream },
	{ "hold", test_hold },
	{ "release", test_release },
	{ "refuse", test_refuse },
	{ "many", test_many },
	{ "scatter", test_scatter },
};

static ssize_t run_store(struct device *dev, struct device_attribute *attr,
			 const char *buf, size_t count)
{
	struct edu *edu = dev_get_drvdata(dev);
	int i, ret = -ENOENT;

	mutex_lock(&edu->lock);
	for (i = 0; i < ARRAY_SIZE(tests); i++)
		if (sysfs_streq(buf, tests[i].name))
			ret = tests[i].run(edu);
	mutex_unlock(&edu->lock);
	return ret ?: count;
}
static DEVICE_ATTR_WO(run);

static struct attribute *edu_attrs[] = {
	&dev_attr_run.attr,
	NULL
};
ATTRIBUTE_GROUPS(edu);

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct edu *edu;
	int ret;

	edu = devm_kzalloc(&pdev->dev, sizeof(*edu), GFP_KERNEL);
	if (!edu)
		return -ENOMEM;
	edu->pdev = pdev;
	mutex_init(&edu->lock);
	pci_set_drvdata(pdev, edu);
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	edu->regs = pcim_iomap(pdev, 0, 0);
	if (!edu->regs)
		return -ENOMEM;
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(bits));
	if (ret)
		return ret;
	pci_set_master(pdev);
	return 0;
}

static void edu_remove(struct pci_dev *pdev)
{
	struct edu *edu = pci_get_drvdata(pdev);

	if (edu->page)
		test_release(edu);
	pci_clear_master(pdev);
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};
MODULE_DEVICE_TABLE(pci, edu_ids);

static struct pci_driver edu_driver = {
	.name		= KBUILD_MODNAME,
	.id_table	= edu_ids,
	.probe		= edu_probe,
	.remove		= edu_remove,
	.dev_groups	= edu_groups,
};
module_pci_driver(edu_driver);

MODULE_DESCRIPTION("walks the DMA API with QEMU's edu device");
MODULE_LICENSE("GPL");
