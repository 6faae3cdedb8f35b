// SPDX-License-Identifier: GPL-2.0
/*
 * struct coiommu_dev, the context of a device: made and found, and dropped.  From
 * when to when it counts is said in coiommu_track.c.
 */
#include <linux/slab.h>
#include <linux/swiotlb.h>

#include "coiommu.h"
#include "coiommu_context.h"
#include "coiommu_dma.h"

/* Frees the context when the last reference to the shadow goes. */
static void shadow_release(struct device *shadow)
{
	struct coiommu_dev *cdev = container_of(shadow, struct coiommu_dev,
						shadow);

	if (coiommu_is_child(cdev))
		put_device(&cdev->function->shadow);
	kfree(cdev->books);
	kfree(cdev);
}

/**
 * coiommu_dev_find - the context of a device, or NULL
 * @coi: the function
 * @dev: a device
 *
 * The caller must hold coi->lock, and may use the context until it drops that.
 */
struct coiommu_dev *coiommu_dev_find(struct coiommu *coi,
				     const struct device *dev)
{
	struct coiommu_dev *cdev;

	lockdep_assert_held(&coi->lock);
	list_for_each_entry(cdev, &coi->devices, node)
		if (cdev->dev == dev)
			return cdev;
	return NULL;
}

/**
 * coiommu_dev_new - make a context
 * @coi: the function
 * @dev: a device without a context
 * @function: the context of the function that it maps for, or NULL if it is one
 *
 * Process context; the caller must hold coi->lock.  Returns the context, or NULL.
 */
struct coiommu_dev *coiommu_dev_new(struct coiommu *coi, struct device *dev,
				    struct coiommu_dev *function)
{
	struct coiommu_dev *cdev = kzalloc(sizeof(*cdev), GFP_KERNEL);

	if (!cdev)
		return NULL;
	cdev->ops = coiommu_dma_ops;
	cdev->coi = coi;
	cdev->dev = get_device(dev);
	cdev->function = function ?: cdev;
	cdev->pdev = function ? function->pdev : to_pci_dev(dev);
	if (function)
		get_device(&function->shadow);
	device_initialize(&cdev->shadow);
	cdev->shadow.release = shadow_release;
	if (dev_set_name(&cdev->shadow, "coiommu-%s", dev_name(dev))) {
		put_device(dev);
		put_device(&cdev->shadow);
		return NULL;
	}
	list_add(&cdev->node, &coi->devices);
	return cdev;
}

/**
 * coiommu_dev_take_ops - from here on a device's mappings are the kernel's
 * @cdev: the context whose operations the device may have
 * @dev: the device: that of the context, or a child that has copied them
 *
 * Process context; waits for the threads that unmap at this moment.  The caller must
 * hold coi->lock.
 */
void coiommu_dev_take_ops(struct coiommu_dev *cdev, struct device *dev)
{
	lockdep_assert_held(&cdev->coi->lock);
	if (get_dma_ops(dev) != &cdev->ops)
		return;
	coiommu_dma_leave(cdev);
	/* Calls from before do not look, and must have returned. */
	compat_synchronize_ops();
	set_dma_ops(dev, NULL);
}

/* Take the operations of @data from @dev and from what is below it. */
static int take_ops_below(struct device *dev, void *data)
{
	struct coiommu_dev *cdev = data;

	if (get_dma_ops(dev) == &cdev->ops)
		set_dma_ops(dev, NULL);
	return device_for_each_child(dev, data, take_ops_below);
}

/**
 * coiommu_dev_take_all_ops - the same for all devices, and copies
 * @coi: the function, about to go
 *
 * Process context.  When this returns no CPU is in our operations.  The caller must
 * hold coi->lock.
 */
void coiommu_dev_take_all_ops(struct coiommu *coi)
{
	struct coiommu_dev *cdev;

	lockdep_assert_held(&coi->lock);
	list_for_each_entry(cdev, &coi->devices, node)
		coiommu_dma_leave(cdev);
	/* As above. */
	compat_synchronize_ops();
	list_for_each_entry(cdev, &coi->devices, node)
		take_ops_below(cdev->dev, cdev);
	/* Calls from before that may still use the context. */
	compat_synchronize_ops();
}

/**
 * coiommu_dev_drop - forget a device
 * @cdev: its context
 *
 * The caller must hold coi->lock, and no driver may map or unmap with the device any
 * more.
 */
void coiommu_dev_drop(struct coiommu_dev *cdev)
{
	struct device *dev = cdev->dev;

	lockdep_assert_held(&cdev->coi->lock);
	list_del(&cdev->node);
	put_device(&cdev->shadow);
	put_device(dev);
}

/**
 * coiommu_dev_refresh - give the shadow all that dma-direct and swiotlb look at
 * @cdev: the context; a driver is about to bind, so no driver maps with the device
 *
 * The streaming mask and the segment limits are shared with the real device and
 * follow it.
 */
void coiommu_dev_refresh(struct coiommu_dev *cdev)
{
	struct device *dev = cdev->dev;
	struct device *shadow = &cdev->shadow;
	const bool limited = cdev->coi->ram_limit != U64_MAX;

	shadow->dma_mask = dev->dma_mask;
	shadow->dma_parms = dev->dma_parms;
	shadow->coherent_dma_mask = dev->coherent_dma_mask;
	shadow->bus_dma_limit = dev->bus_dma_limit;
	if (limited)
		shadow->bus_dma_limit = min_not_zero(dev->bus_dma_limit,
						     cdev->coi->ram_limit);
	shadow->dma_range_map = dev->dma_range_map;
#ifdef CONFIG_SWIOTLB
	shadow->dma_io_tlb_mem = dev->dma_io_tlb_mem;
#endif
	set_dev_node(shadow, dev_to_node(dev));

	cdev->direct_last = shadow->bus_dma_limit ?: U64_MAX;
	if (dev->dma_range_map || is_swiotlb_force_bounce(shadow) ||
	    cdev->books)
		cdev->direct_last = 0;
	if (limited || !cdev->direct_last)
		coiommu_dma_shadowed(cdev);
}

/**
 * coiommu_dev_can_bounce - are there bounce buffers, if some are needed?
 * @cdev: the context, refreshed
 *
 * Memory above ram_limit can be mapped only by bouncing.  The DMA API tells by the
 * size of a mapping: a device that can't reach all RAM has no limit only without
 * bounce buffers.
 */
bool coiommu_dev_can_bounce(struct coiommu_dev *cdev)
{
	return cdev->coi->ram_limit == U64_MAX ||
	       dma_max_mapping_size(&cdev->shadow) != SIZE_MAX;
}
