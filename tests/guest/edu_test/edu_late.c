// SPDX-License-Identifier: GPL-2.0
/*
 * A mapping that outlives its driver, as those of page_pool do: they are undone
 * when the last packet has been read, and hold a reference on the device until
 * then.
 */
#include <linux/module.h>
#include <linux/moduleparam.h>

#include "edu.h"

static struct device *late_dev;
static struct page *late_page;
static dma_addr_t late_addr;
static DEFINE_MUTEX(late_lock);	/* these */

/**
 * late_unmap - undo what test_late() has mapped, if it has
 */
void late_unmap(void)
{
	mutex_lock(&late_lock);
	if (late_dev) {
		dma_unmap_page(late_dev, late_addr, PAGE_SIZE, DMA_TO_DEVICE);
		__free_page(late_page);
		put_device(late_dev);
		late_dev = NULL;
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
