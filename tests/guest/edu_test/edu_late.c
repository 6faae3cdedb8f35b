// SPDX-License-Identifier: GPL-2.0
/*
 * A mapping that outlives its driver, as those of page_pool do: they are undone
 * when the last packet has been read, and hold a reference on the device until
 * then.
 */
#include <linux/dma-map-ops.h>
#include <linux/jiffies.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/scatterlist.h>
#include <linux/workqueue.h>

#include "edu.h"

static struct device *late_dev;
static struct page *late_page;
static dma_addr_t late_addr;
static DEFINE_MUTEX(late_lock);	/* these */

static bool racing;
module_param(racing, bool, 0444);
MODULE_PARM_DESC(racing, "after a write to \"race\": it has looked at the operations");

/* Give up the page that test_late() has mapped.  Holds late_lock. */
static void forget_page(void)
{
	__free_page(late_page);
	put_device(late_dev);
	late_dev = NULL;
}

/*
 * Unmap as the DMA API does on a slow CPU: look for the operation, and call it
 * when the device's operations have gone, or somebody has begun to take them and
 * has not got further in half a second.  This thread does not sleep.
 */
static void unmap_slowly(struct device *dev)
{
	const struct dma_map_ops *ops = READ_ONCE(dev->dma_ops);
	typeof(ops->unmap_sg) unmap = READ_ONCE(ops->unmap_sg);
	unsigned long end = jiffies + 60 * HZ;
	struct scatterlist sg;

	sg_init_one(&sg, page_address(late_page), PAGE_SIZE);
	sg_dma_address(&sg) = late_addr;
	sg_dma_len(&sg) = PAGE_SIZE;
	WRITE_ONCE(racing, true);
	while (READ_ONCE(dev->dma_ops) == ops &&
	       READ_ONCE(ops->unmap_sg) == unmap && time_before(jiffies, end))
		cpu_relax();
	end = jiffies + HZ / 2;
	while (READ_ONCE(dev->dma_ops) == ops && time_before(jiffies, end))
		cpu_relax();
	unmap(dev, &sg, 1, DMA_TO_DEVICE, 0);
	WRITE_ONCE(racing, false);
}

static void race(struct work_struct *work)
{
	mutex_lock(&late_lock);
	if (late_dev) {
		unmap_slowly(late_dev);
		forget_page();
	}
	mutex_unlock(&late_lock);
}

static DECLARE_WORK(race_work, race);

/**
 * late_unmap - undo what test_late() has mapped, if it has
 */
void late_unmap(void)
{
	flush_work(&race_work);
	mutex_lock(&late_lock);
	if (late_dev) {
		dma_unmap_page(late_dev, late_addr, PAGE_SIZE, DMA_TO_DEVICE);
		forget_page();
	}
	mutex_unlock(&late_lock);
}

static int unmap_set(const char *value, const struct kernel_param *param)
{
	late_unmap();
	return 0;
}

static const struct kernel_param_ops unmap_ops = { .set = unmap_set };
module_param_cb(unmap, &unmap_ops, NULL, 0200);
MODULE_PARM_DESC(unmap, "undo what \"late\" has mapped");

/* Not by the writer, which holds a lock that readers of "racing" want. */
static int race_set(const char *value, const struct kernel_param *param)
{
	queue_work(system_unbound_wq, &race_work);
	return 0;
}

static const struct kernel_param_ops race_ops = { .set = race_set };
module_param_cb(race, &race_ops, NULL, 0200);
MODULE_PARM_DESC(race, "the same, while its operations are taken from the device");

/**
 * test_late - map a page for longer than the driver is bound
 * @edu: the device
 */
int test_late(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	int ret = 0;

	late_unmap();
	mutex_lock(&late_lock);
	late_page = alloc_page(GFP_KERNEL);
	if (!late_page) {
		mutex_unlock(&late_lock);
		return -ENOMEM;
	}
	late_addr = dma_map_page(dev, late_page, 0, PAGE_SIZE, DMA_TO_DEVICE);
	if (dma_mapping_error(dev, late_addr)) {
		__free_page(late_page);
		ret = FAIL(edu, "late: not mapped\n");
	} else {
		late_dev = get_device(dev);
	}
	mutex_unlock(&late_lock);
	return ret;
}
