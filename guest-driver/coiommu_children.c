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
 * physical as ours are; but they are not counted, and the host pins nothing for
 * them, or unpins memory in use.  So before a child's driver is probed the child
 * gets operations as its function has them, with masks and limits of its own
 * (coiommu_bus.c).  The table is one for all, so it doesn't matter for which device a
 * page is counted; and the function needs no reference to be held for its children,
 * because the driver that makes them takes them back before it is gone.
 *
 * All DMA of a tracked device must be counted.  Where it isn't, the function is
 * not attached, or is detached while its driver is bound: then the host has all
 * memory pinned for it, and the data are right.  That is so for a child
 *
 *   - whose driver bypasses the DMA API or is in the skip list, or that has
 *     operations which aren't ours;
 *   - that had a driver before its function was attached;
 *   - that has a DMA mask and is on another bus than these three, which doesn't
 *     notify us of its drivers.  Such children are looked for when the function's
 *     driver has bound.
 *
 * What maps for a function by other ways ends at one of these devices: SCSI
 * hosts (dma_dev), USB (bus->sysdev), dmaengine, networking, sound, and virtio
 * name the struct device of the function or of such a child.
 * scripts/dma-children lists the drivers; docs/user/dma-children.md has its result.
 */
#include <linux/platform_device.h>
#include <linux/string.h>

#include "coiommu_alloc.h"
#include "coiommu_auxiliary.h"
#include "coiommu_children.h"
#include "compat/compat.h"

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

/**
 * coiommu_never_maps - can a device be left out, whatever its driver is?
 * @dev: a device below a function
 *
 * Drivers of bridges do not map, and firmware's framebuffers, which are below the
 * graphics card, are memory for the CPU.
 */
bool coiommu_never_maps(struct device *dev)
{
	return (dev_is_pci(dev) && pci_is_bridge(to_pci_dev(dev))) ||
	       strstr(dev_name(dev), "-framebuffer");
}

/* May it map what is not counted, by its own or by copied operations? */
static bool may_map_uncounted(struct device *dev)
{
	return (dev->dma_mask || dev->coherent_dma_mask) &&
	       !coiommu_dma_is_ours(get_dma_ops(dev));
}

static bool is_watched(const struct device *dev)
{
	return dev_is_pci(dev) || dev_is_platform(dev) ||
	       coiommu_is_auxiliary(dev);
}

static int find_bound(struct device *dev, void *found)
{
	if (may_map_uncounted(dev) && dev->driver && !coiommu_never_maps(dev)) {
		*(struct device **)found = get_device(dev);
		return 1;
	}
	return device_for_each_child(dev, found, find_bound);
}

static int find_unwatched(struct device *dev, void *found)
{
	if (may_map_uncounted(dev) && !is_watched(dev)) {
		*(struct device **)found = get_device(dev);
		return 1;
	}
	return device_for_each_child(dev, found, find_unwatched);
}

/**
 * coiommu_bound_child - a child that may have mappings that are not counted
 * @pdev: a function to which a driver is about to bind
 *
 * Returns a child that has a driver, with a reference, or NULL.  Process context.
 */
struct device *coiommu_bound_child(struct pci_dev *pdev)
{
	struct device *found = NULL;

	device_for_each_child(&pdev->dev, &found, find_bound);
	return found;
}

/**
 * coiommu_unwatched_child - a child that may map without our being notified
 * @pdev: a function whose driver has bound
 *
 * Returns a child on a bus that has no notifier of ours, with a reference, or
 * NULL.  Process context.
 */
struct device *coiommu_unwatched_child(struct pci_dev *pdev)
{
	struct device *found = NULL;

	device_for_each_child(&pdev->dev, &found, find_unwatched);
	return found;
}
