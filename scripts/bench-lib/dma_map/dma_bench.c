// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Times calls of the DMA API for QEMU's edu device, for scripts/bench dma-map.
 *
 * Writing an operation's name to the device's "run" in sysfs does it many times;
 * reading the file then gives how many times and what it took in ticks of the
 * TSC.  Under QEMU's -icount these are instructions of the guest.
 *
 *   page, 64k, 1m     map and unmap one stretch of memory
 *   sg-near, sg-far   a list of 32 pages that are neighbours, or each in a
 *                     64 KiB of its own
 *   sync              sync a mapped page for the CPU and for the device
 *   empty             the loop and the call of an operation
 *
 * Interrupts are off meanwhile, so nothing else is counted.  The device is not
 * made to do anything: nothing but the calls themselves takes time.  A store to
 * a register that does nothing marks begin and end for whoever watches the
 * accesses to devices.
 */
#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/irqflags.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/timex.h>

/* Keeps the complement of what is written; the values are dma_map.py's too. */
#define EDU_LIVENESS	0x04
#define MARK_BEGIN	0xbe9108e9
#define MARK_END	0xe9d0e9d0

#define WARM_UP		64
#define SG_ENTRIES	32
#define SG_ORDER	4	/* 64 KiB, coIOMMU's unit */
#define AREA_ORDER	8	/* 1 MiB */

static unsigned int count = 2048;
module_param(count, uint, 0444);
MODULE_PARM_DESC(count, "how many times an operation is done");

/**
 * struct bench - a bound device
 * @dev: for the DMA API
 * @regs: BAR 0
 * @lock: one run at a time
 * @area: 1 MiB, aligned
 * @near: the first pages of @area
 * @far: pages that share no 64 KiB
 * @addr: where @area is mapped, for "sync"
 * @count: how many times the last operation was done
 * @ticks: how long that took
 */
struct bench {
	struct device *dev;
	void __iomem *regs;
	struct mutex lock;	/* one run at a time */
	struct page *area;
	struct scatterlist near[SG_ENTRIES];
	struct scatterlist far[SG_ENTRIES];
	dma_addr_t addr;
	unsigned int count;
	u64 ticks;
};

static __always_inline bool map_unmap(struct bench *b, size_t size)
{
	dma_addr_t addr = dma_map_page(b->dev, b->area, 0, size,
				       DMA_BIDIRECTIONAL);

	if (unlikely(dma_mapping_error(b->dev, addr)))
		return false;
	dma_unmap_page(b->dev, addr, size, DMA_BIDIRECTIONAL);
	return true;
}

static __always_inline bool map_unmap_sg(struct bench *b,
					 struct scatterlist *list)
{
	if (unlikely(!dma_map_sg(b->dev, list, SG_ENTRIES, DMA_BIDIRECTIONAL)))
		return false;
	dma_unmap_sg(b->dev, list, SG_ENTRIES, DMA_BIDIRECTIONAL);
	return true;
}

static bool do_empty(struct bench *b)
{
	barrier();
	return true;
}

static bool do_page(struct bench *b)
{
	return map_unmap(b, PAGE_SIZE);
}

static bool do_64k(struct bench *b)
{
	return map_unmap(b, SZ_64K);
}

static bool do_1m(struct bench *b)
{
	return map_unmap(b, SZ_1M);
}

static bool do_sg_near(struct bench *b)
{
	return map_unmap_sg(b, b->near);
}

static bool do_sg_far(struct bench *b)
{
	return map_unmap_sg(b, b->far);
}

static bool do_sync(struct bench *b)
{
	dma_sync_single_for_cpu(b->dev, b->addr, PAGE_SIZE, DMA_BIDIRECTIONAL);
	dma_sync_single_for_device(b->dev, b->addr, PAGE_SIZE,
				   DMA_BIDIRECTIONAL);
	return true;
}

static const struct {
	const char *name;
	bool (*once)(struct bench *b);
} operations[] = {
	{ "empty", do_empty },
	{ "page", do_page },
	{ "64k", do_64k },
	{ "1m", do_1m },
	{ "sg-near", do_sg_near },
	{ "sg-far", do_sg_far },
	{ "sync", do_sync },
};

static bool repeat(struct bench *b, bool (*once)(struct bench *b),
		   unsigned int times)
{
	bool ok = true;

	while (ok && times--)
		ok = once(b);
	return ok;
}

static bool measure(struct bench *b, bool (*once)(struct bench *b))
{
	unsigned long flags;
	u64 begin, end;
	bool ok;

	b->addr = dma_map_page(b->dev, b->area, 0, PAGE_SIZE,
			       DMA_BIDIRECTIONAL);
	if (dma_mapping_error(b->dev, b->addr))
		return false;
	/* With interrupts off the count is of the loop alone. */
	local_irq_save(flags);
	ok = repeat(b, once, WARM_UP);
	writel(MARK_BEGIN, b->regs + EDU_LIVENESS);
	begin = get_cycles();
	ok = ok && repeat(b, once, count);
	end = get_cycles();
	writel(MARK_END, b->regs + EDU_LIVENESS);
	local_irq_restore(flags);
	dma_unmap_page(b->dev, b->addr, PAGE_SIZE, DMA_BIDIRECTIONAL);
	b->count = ok ? count : 0;
	b->ticks = end - begin;
	return ok;
}

static ssize_t run_store(struct device *dev, struct device_attribute *attr,
			 const char *buf, size_t len)
{
	struct bench *b = dev_get_drvdata(dev);
	ssize_t ret = -ENOENT;
	int i;

	mutex_lock(&b->lock);
	for (i = 0; i < ARRAY_SIZE(operations); i++)
		if (sysfs_streq(buf, operations[i].name))
			ret = measure(b, operations[i].once) ? len : -EIO;
	mutex_unlock(&b->lock);
	return ret;
}

static ssize_t run_show(struct device *dev, struct device_attribute *attr,
			char *buf)
{
	struct bench *b = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%u %llu\n", b->count, b->ticks);
}
static DEVICE_ATTR_RW(run);

static struct attribute *bench_attrs[] = {
	&dev_attr_run.attr,
	NULL
};
ATTRIBUTE_GROUPS(bench);

static void free_memory(void *data)
{
	struct bench *b = data;
	int i;

	for (i = 0; i < SG_ENTRIES; i++)
		if (sg_page(&b->far[i]))
			__free_pages(sg_page(&b->far[i]), SG_ORDER);
	if (b->area)
		__free_pages(b->area, AREA_ORDER);
}

static int get_memory(struct bench *b)
{
	struct page *page;
	int i;

	sg_init_table(b->near, SG_ENTRIES);
	sg_init_table(b->far, SG_ENTRIES);
	b->area = alloc_pages(GFP_KERNEL, AREA_ORDER);
	if (!b->area)
		return -ENOMEM;
	for (i = 0; i < SG_ENTRIES; i++) {
		sg_set_page(&b->near[i], b->area + i, PAGE_SIZE, 0);
		page = alloc_pages(GFP_KERNEL, SG_ORDER);
		if (!page)
			return -ENOMEM;
		sg_set_page(&b->far[i], page, PAGE_SIZE, 0);
	}
	return 0;
}

static int bench_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct bench *b;
	int ret;

	b = devm_kzalloc(&pdev->dev, sizeof(*b), GFP_KERNEL);
	if (!b)
		return -ENOMEM;
	b->dev = &pdev->dev;
	mutex_init(&b->lock);
	pci_set_drvdata(pdev, b);
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	b->regs = pcim_iomap(pdev, 0, 0);
	if (!b->regs)
		return -ENOMEM;
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	ret = get_memory(b);
	if (ret) {
		free_memory(b);
		return ret;
	}
	return devm_add_action_or_reset(&pdev->dev, free_memory, b);
}

static const struct pci_device_id bench_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};
MODULE_DEVICE_TABLE(pci, bench_ids);

static struct pci_driver bench_driver = {
	.name		= KBUILD_MODNAME,
	.id_table	= bench_ids,
	.probe		= bench_probe,
	.dev_groups	= bench_groups,
};
module_pci_driver(bench_driver);

MODULE_DESCRIPTION("times the DMA API with QEMU's edu device");
MODULE_LICENSE("GPL");
