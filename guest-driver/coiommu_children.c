// SPDX-License-Identifier: GPL-2.0
/*
 * Which struct devices map for a PCI function, other than the function's own.
 *
 * The DMA API is called with a struct device, and what a function may reach is
 * decided by its requester ID.  Most drivers map with the function's struct
 * device.  But there are drivers that make a child for each thing in the
 * function, whose driver maps with the child:
 *
 *   platform devices   sdhci on alcor_pci, macb_pci, dwc2_pci, cdns3-pci, xdma,
 *                      cells of MFD drivers: each has a DMA mask from birth
 *   auxiliary devices  if their driver, or the function's, gives them a mask
 *   PCI devices        behind a function that makes a PCI domain of its own and
 *                      puts its own requester ID on what they do: VMD
 *
 * A child without operations of its own gets dma-direct's addresses, which are
 * physical as ours are; but nobody counts them, and the host pins nothing for
 * them, or unpins memory in use.  So before a child's driver is probed the child
 * gets operations as its function has them, with masks and limits of its own.
 * The table is one for all, so it doesn't matter for whom a page is counted; and
 * the function needs no reference to be held for its children, because the
 * driver that makes them takes them back before it is gone.
 *
 * All DMA of a tracked device must be counted.  Where it isn't, the function is
 * not attached, or is detached while its driver is bound: then the host has all
 * memory pinned for it, and the data are right.  That is so for a child
 *
 *   - whose driver bypasses the DMA API or is in the skip list, or that has
 *     operations which aren't ours;
 *   - that had a driver before its function was attached;
 *   - that has a DMA mask and is on another bus than these three, which doesn't
 *     tell us of its drivers.  Such children are looked for when the function's
 *     driver has bound.
 *
 * What maps for a function by other ways ends at one of these devices: SCSI
 * hosts (dma_dev), USB (bus->sysdev), dmaengine, networking, sound, and virtio
 * name the struct device of the function or of such a child.
 * scripts/dma-children lists the drivers; docs/user/dma-children.md has its result.
 */
#include <linux/auxiliary_bus.h>
#include <linux/platform_device.h>
#include <linux/string.h>

#include "coiommu.h"

/**
 * coiommu_function_of - the PCI function that does a device's DMA
 * @dev: any device
 *
 * Returns the nearest PCI device that is @dev or above it, or the one behind
 * which that is; NULL if there is none.  Any context.
 */
struct pci_dev *coiommu_function_of(struct device *dev)
{
	while (dev && !dev_is_pci(dev))
		dev = dev->parent;
	return dev ? compat_real_dma_dev(to_pci_dev(dev)) : NULL;
}

/* Are its mappings counted, be it by its own or by copied operations? */
static bool is_counted(struct device *dev)
{
	return coiommu_dma_is_ours(get_dma_ops(dev));
}

/*
 * Drivers of bridges map nothing, and firmware's framebuffers, which are below
 * the graphics card, are memory for the CPU.
 */
static bool never_maps(struct device *dev)
{
	return (dev_is_pci(dev) && pci_is_bridge(to_pci_dev(dev))) ||
	       strstr(dev_name(dev), "-framebuffer");
}

/* What @dev may map is not counted, for a reason.  Holds coi->lock. */
static void give_up(struct coiommu_dev *function, struct device *dev,
		    const char *reason)
{
	coiommu_dev_give_up(function);
	pci_warn(function->pdev, "coiommu: no longer tracked, because its child %s (driver %s) may do DMA that cannot be counted: %s\n",
		 dev_name(dev), dev->driver ? dev->driver->name : "none",
		 reason);
}

/*
 * Take from a child what it has from the time when its function was attached, or
 * its mappings would be refused.  Holds coi->lock.
 */
static void take_stale_ops(struct coiommu_dev *function, struct device *dev)
{
	struct coiommu_dev *cdev = coiommu_dev_find(function->coi, dev);

	coiommu_dev_take_ops(function, dev);
	if (cdev)
		coiommu_dev_take_ops(cdev, dev);
}

/* Its driver is about to bind.  Holds coi->lock. */
static void child_bind(struct coiommu *coi, struct device *dev)
{
	struct pci_dev *pdev = coiommu_function_of(dev);
	struct coiommu_dev *function = coiommu_dev_find(coi, &pdev->dev);
	const char *reason;

	if (!function || never_maps(dev))
		return;
	if (!function->attached) {
		take_stale_ops(function, dev);
		return;
	}
	reason = coiommu_dev_count(function, dev);
	if (reason)
		give_up(function, dev, reason);
}

/**
 * coiommu_child_event - a bus tells of a device
 * @coi: the function
 * @event: BUS_NOTIFY_*
 * @dev: a device that is no PCI function of its own
 *
 * To be called from a bus notifier, with the lock of @dev held where it binds
 * or unbinds.
 */
int coiommu_child_event(struct coiommu *coi, unsigned long event,
			struct device *dev)
{
	struct coiommu_dev *cdev;

	if (!coiommu_function_of(dev))
		return NOTIFY_DONE;
	mutex_lock(&coi->lock);
	cdev = coiommu_dev_find(coi, dev);
	switch (event) {
	case BUS_NOTIFY_BIND_DRIVER:
		child_bind(coi, dev);
		break;
	case BUS_NOTIFY_DRIVER_NOT_BOUND:
	case BUS_NOTIFY_UNBOUND_DRIVER:
		if (cdev)
			coiommu_dev_release(cdev);
		break;
	case BUS_NOTIFY_REMOVED_DEVICE:
		if (cdev)
			coiommu_dev_remove(cdev);
		break;
	}
	mutex_unlock(&coi->lock);
	return NOTIFY_OK;
}

/**
 * struct child_walk - a look at all that is below a function
 * @bound: look for children with a driver, not for those on other buses
 * @found: the first child that may map uncounted, with a reference
 */
struct child_walk {
	bool bound;
	struct device *found;
};

static typeof(((struct device *)NULL)->bus) auxiliary_bus;

static bool is_watched(const struct device *dev)
{
	return dev_is_pci(dev) || dev_is_platform(dev) ||
	       (dev->bus && dev->bus == auxiliary_bus);
}

static int look_at_child(struct device *dev, void *data)
{
	struct child_walk *walk = data;

	if ((dev->dma_mask || dev->coherent_dma_mask) && !is_counted(dev) &&
	    (walk->bound ? dev->driver && !never_maps(dev) : !is_watched(dev)))
		walk->found = get_device(dev);
	return walk->found || device_for_each_child(dev, data, look_at_child);
}

/**
 * coiommu_child_uncounted - find a child that may map what nobody counts
 * @pdev: the function
 * @bound: before its driver binds: a child that has one;
 *	after it has bound: a child on a bus of which we aren't told
 *
 * Returns it with a reference, or NULL.  Process context; holds coi->lock.
 */
struct device *coiommu_child_uncounted(struct pci_dev *pdev, bool bound)
{
	struct child_walk walk = { .bound = bound };

	device_for_each_child(&pdev->dev, &walk, look_at_child);
	return walk.found;
}

/**
 * coiommu_children_check - a function's driver has bound
 * @function: its context
 *
 * The driver has made its children.  One whose binding we aren't told of may map
 * uncounted.  Holds the device's lock and coi->lock.
 */
void coiommu_children_check(struct coiommu_dev *function)
{
	struct device *dev;

	if (!function->attached)
		return;
	dev = coiommu_child_uncounted(function->pdev, false);
	if (dev)
		give_up(function, dev, "it is on a bus of its own");
	put_device(dev);
}

static int platform_event(struct notifier_block *nb, unsigned long event,
			  void *data)
{
	return coiommu_child_event(container_of(nb, struct coiommu,
						platform_nb), event, data);
}

#if IS_ENABLED(CONFIG_AUXILIARY_BUS)

static int auxiliary_event(struct notifier_block *nb, unsigned long event,
			   void *data)
{
	return coiommu_child_event(container_of(nb, struct coiommu,
						auxiliary_nb), event, data);
}

static int no_probe(struct auxiliary_device *adev,
		    const struct auxiliary_device_id *id)
{
	return -ENODEV;
}

static const struct auxiliary_device_id no_ids[] = {
	{ .name = KBUILD_MODNAME ".none" },
	{ }
};

static struct auxiliary_driver no_driver = {
	.name		= "none",
	.probe		= no_probe,
	.id_table	= no_ids,
};

/* The bus isn't exported, but a driver that has been on it knows it. */
static int auxiliary_init(struct coiommu *coi)
{
	int ret = auxiliary_driver_register(&no_driver);

	if (ret)
		return ret;
	auxiliary_bus = no_driver.driver.bus;
	auxiliary_driver_unregister(&no_driver);
	coi->auxiliary_nb.notifier_call = auxiliary_event;
	return bus_register_notifier(auxiliary_bus, &coi->auxiliary_nb);
}

static void auxiliary_exit(struct coiommu *coi)
{
	bus_unregister_notifier(auxiliary_bus, &coi->auxiliary_nb);
}

#else

static int auxiliary_init(struct coiommu *coi)
{
	return 0;
}

static void auxiliary_exit(struct coiommu *coi) { }

#endif

/**
 * coiommu_children_init - learn of the drivers of children
 * @coi: the function; its lock and list are made
 *
 * To be called before any function is attached.  Process context.  Returns 0 or
 * a negative errno.
 */
int coiommu_children_init(struct coiommu *coi)
{
	int ret;

	coi->platform_nb.notifier_call = platform_event;
	ret = bus_register_notifier(&platform_bus_type, &coi->platform_nb);
	if (ret)
		return ret;
	ret = auxiliary_init(coi);
	if (ret)
		bus_unregister_notifier(&platform_bus_type, &coi->platform_nb);
	return ret;
}

/**
 * coiommu_children_exit - undo coiommu_children_init()
 * @coi: the function; nothing is attached
 */
void coiommu_children_exit(struct coiommu *coi)
{
	auxiliary_exit(coi);
	bus_unregister_notifier(&platform_bus_type, &coi->platform_nb);
}
