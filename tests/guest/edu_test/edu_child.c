// SPDX-License-Identifier: GPL-2.0
/*
 * Children of the edu device that map with a struct device of their own, for the
 * device's DMA, as drivers of the kernel do.  A child's driver is probed when it
 * is made, and has the device copy from and to what the child maps.
 *
 *   platform	made with a mask, like macb_pci's or dwc2_pci's
 *   auxiliary	whose driver brings the mask
 *   vmd	a PCI device in a domain that edu makes; its requester ID is edu's
 *   foreign	a platform device with DMA operations of another kind
 *   copied	one with those of its function, that outlives edu's driver
 *   odd	on a bus of its own
 *
 * "keep" makes a platform device that outlives edu's driver as well, and "drop"
 * takes either away.  Their driver only maps a page.
 */
#include <linux/auxiliary_bus.h>
#include <linux/dma-map-ops.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/random.h>
#include <linux/slab.h>

#include "edu.h"

static bool auxiliary = IS_ENABLED(CONFIG_AUXILIARY_BUS);
module_param(auxiliary, bool, 0444);
MODULE_PARM_DESC(auxiliary, "this kernel has the auxiliary bus");

static bool vmd = IS_ENABLED(CONFIG_VMD);
module_param(vmd, bool, 0444);
MODULE_PARM_DESC(vmd, "this kernel knows VMD");

static struct platform_device *kept;

/* edu copies a page that @dev maps to one that it maps as well. */
static int child_copy(struct edu *edu, struct device *dev, void *from, void *to)
{
	dma_addr_t addr;
	int ret;

	addr = dma_map_single(dev, from, PAGE_SIZE, DMA_TO_DEVICE);
	if (dma_mapping_error(dev, addr))
		return FAIL(edu, "child: not mapped\n");
	ret = transfer(edu, addr, PAGE_SIZE, false);
	dma_unmap_single(dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
	if (ret)
		return ret;
	addr = dma_map_single(dev, to, PAGE_SIZE, DMA_FROM_DEVICE);
	if (dma_mapping_error(dev, addr))
		return FAIL(edu, "child: not mapped\n");
	ret = transfer(edu, addr, PAGE_SIZE, true);
	dma_unmap_single(dev, addr, PAGE_SIZE, DMA_FROM_DEVICE);
	if (!ret && memcmp(from, to, PAGE_SIZE))
		return FAIL(edu, "child: wrong data\n");
	return ret;
}

/* The same from streaming to coherent memory. */
static int copy_coherent(struct edu *edu, struct device *dev, void *from)
{
	dma_addr_t addr, coherent;
	void *to = dma_alloc_coherent(dev, PAGE_SIZE, &coherent, GFP_KERNEL);
	int ret;

	if (!to)
		return FAIL(edu, "child: no coherent memory\n");
	addr = dma_map_single(dev, from, PAGE_SIZE, DMA_TO_DEVICE);
	ret = transfer(edu, addr, PAGE_SIZE, false);
	dma_unmap_single(dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
	if (!ret)
		ret = transfer(edu, coherent, PAGE_SIZE, true);
	if (!ret && memcmp(from, to, PAGE_SIZE))
		ret = FAIL(edu, "child: wrong coherent data\n");
	dma_free_coherent(dev, PAGE_SIZE, to, coherent);
	return ret;
}

/**
 * edu_child_use - what a child's driver does in its probe
 * @edu: the device that copies
 * @dev: the child, which maps
 */
int edu_child_use(struct edu *edu, struct device *dev)
{
	void *from = (void *)__get_free_page(GFP_KERNEL);
	void *to = (void *)get_zeroed_page(GFP_KERNEL);
	int ret = -ENOMEM;

	if (from && to) {
		get_random_bytes(from, PAGE_SIZE);
		ret = child_copy(edu, dev, from, to) ?:
		      copy_coherent(edu, dev, from);
	}
	free_page((unsigned long)from);
	free_page((unsigned long)to);
	return ret;
}

/* Operations that nobody knows.  They are never called. */
static const struct dma_map_ops foreign_ops;

/* Whether edu has a driver or not. */
static int map_page(struct device *dev)
{
	struct page *page = alloc_page(GFP_KERNEL);
	dma_addr_t addr;
	int ret;

	if (!page)
		return -ENOMEM;
	addr = dma_map_page(dev, page, 0, PAGE_SIZE, DMA_TO_DEVICE);
	ret = dma_mapping_error(dev, addr);
	if (!ret)
		dma_unmap_page(dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
	__free_page(page);
	return ret;
}

static int child_probe(struct platform_device *child)
{
	struct edu *edu = dev_get_drvdata(child->dev.parent);

	if (get_dma_ops(&child->dev) == &foreign_ops)
		return 0;
	if (dev_get_platdata(&child->dev))
		return map_page(&child->dev);
	return edu->child_result = edu_child_use(edu, &child->dev);
}

static struct platform_driver child_driver = {
	.probe		= child_probe,
	.driver.name	= "edu_child",
};

static struct platform_device *make(struct edu *edu, const char *name,
				    bool idle)
{
	struct platform_device_info info = {
		.parent		= &edu->pdev->dev,
		.name		= name,
		.id		= PLATFORM_DEVID_AUTO,
		.dma_mask	= DMA_BIT_MASK(32),
		.data		= idle ? &idle : NULL,
		.size_data	= idle ? sizeof(idle) : 0,
	};

	return platform_device_register_full(&info);
}

int test_child_platform(struct edu *edu)
{
	struct platform_device *child;

	edu->child_result = -ENODEV;
	child = make(edu, "edu_child", false);
	if (IS_ERR(child))
		return PTR_ERR(child);
	platform_device_unregister(child);
	return edu->child_result;
}

int test_child_keep(struct edu *edu)
{
	kept = make(edu, "edu_child", true);
	return PTR_ERR_OR_ZERO(kept);
}

int test_child_drop(struct edu *edu)
{
	platform_device_unregister(kept);
	kept = NULL;
	return 0;
}

#if IS_ENABLED(CONFIG_AUXILIARY_BUS)

static int auxiliary_probe(struct auxiliary_device *child,
			   const struct auxiliary_device_id *id)
{
	struct edu *edu = dev_get_drvdata(child->dev.parent);
	int ret = dma_coerce_mask_and_coherent(&child->dev, DMA_BIT_MASK(32));

	return edu->child_result = ret ?: edu_child_use(edu, &child->dev);
}

static const struct auxiliary_device_id auxiliary_ids[] = {
	{ .name = KBUILD_MODNAME ".child" },
	{ }
};

static struct auxiliary_driver auxiliary_driver = {
	.name		= "child",
	.probe		= auxiliary_probe,
	.id_table	= auxiliary_ids,
};

static void auxiliary_release(struct device *dev)
{
	kfree(container_of(dev, struct auxiliary_device, dev));
}

int test_child_auxiliary(struct edu *edu)
{
	struct auxiliary_device *child = kzalloc(sizeof(*child), GFP_KERNEL);
	int ret;

	if (!child)
		return -ENOMEM;
	child->name = "child";
	child->dev.parent = &edu->pdev->dev;
	child->dev.release = auxiliary_release;
	ret = auxiliary_device_init(child);
	if (ret) {
		kfree(child);
		return ret;
	}
	edu->child_result = -ENODEV;
	ret = auxiliary_device_add(child);
	if (!ret)
		auxiliary_device_delete(child);
	auxiliary_device_uninit(child);
	return ret ?: edu->child_result;
}

static int auxiliary_init(void)
{
	return auxiliary_driver_register(&auxiliary_driver);
}

static void auxiliary_exit(void)
{
	auxiliary_driver_unregister(&auxiliary_driver);
}

#else

int test_child_auxiliary(struct edu *edu)
{
	return FAIL(edu, "child: this kernel has no auxiliary bus\n");
}

static int auxiliary_init(void)
{
	return 0;
}

static void auxiliary_exit(void) { }

#endif

static struct platform_device *make_with_ops(struct edu *edu, int id,
					     const struct dma_map_ops *ops)
{
	struct platform_device *child = platform_device_alloc("edu_child", id);
	bool idle = true;
	int ret;

	if (!child)
		return ERR_PTR(-ENOMEM);
	child->dev.parent = &edu->pdev->dev;
	set_dma_ops(&child->dev, ops);
	ret = platform_device_add_data(child, &idle, sizeof(idle)) ?:
	      platform_device_add(child);
	if (!ret)
		return child;
	platform_device_put(child);
	return ERR_PTR(ret);
}

int test_child_foreign(struct edu *edu)
{
	struct platform_device *child = make_with_ops(edu, 99, &foreign_ops);

	if (!IS_ERR(child))
		platform_device_unregister(child);
	return PTR_ERR_OR_ZERO(child);
}

int test_child_copied(struct edu *edu)
{
	kept = make_with_ops(edu, 98, get_dma_ops(&edu->pdev->dev));
	return PTR_ERR_OR_ZERO(kept);
}

static struct bus_type odd_bus = {
	.name	= "edu_odd",
};

static void odd_release(struct device *dev)
{
	kfree(dev);
}

/**
 * edu_child_odd - make a child on a bus of its own
 * @edu: the device
 */
int edu_child_odd(struct edu *edu)
{
	struct device *dev = kzalloc(sizeof(*dev), GFP_KERNEL);
	int ret;

	if (!dev)
		return -ENOMEM;
	dev->bus = &odd_bus;
	dev->parent = &edu->pdev->dev;
	dev->release = odd_release;
	dev->coherent_dma_mask = DMA_BIT_MASK(32);
	dev->dma_mask = &dev->coherent_dma_mask;
	dev_set_name(dev, "odd");
	ret = device_register(dev);
	if (ret)
		put_device(dev);
	else
		edu->odd = dev;
	return ret;
}

/**
 * edu_children_init - register the children's drivers
 */
int edu_children_init(void)
{
	int ret = bus_register(&odd_bus);

	if (ret)
		return ret;
	ret = platform_driver_register(&child_driver);
	if (ret)
		goto err_bus;
	ret = auxiliary_init();
	if (ret)
		goto err_platform;
	ret = edu_vmd_init();
	if (ret)
		goto err_auxiliary;
	return 0;

err_auxiliary:
	auxiliary_exit();
err_platform:
	platform_driver_unregister(&child_driver);
err_bus:
	bus_unregister(&odd_bus);
	return ret;
}

/**
 * edu_children_exit - undo edu_children_init()
 */
void edu_children_exit(void)
{
	edu_vmd_exit();
	auxiliary_exit();
	platform_driver_unregister(&child_driver);
	bus_unregister(&odd_bus);
}
