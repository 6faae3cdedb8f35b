// SPDX-License-Identifier: GPL-2.0
/*
 * Which devices are tracked, and from when to when.
 *
 * A device's DMA is counted only if every mapping is, from the first.  So the
 * operations are installed before its driver's probe, when the PCI bus tells
 * that a driver is about to bind, and the device is told by ATTACH.  A device
 * that has a driver already when this module loads has mappings that nobody
 * counted: it is left alone until it is bound anew, and a line says so.
 *
 * DETACH comes after the driver is gone.  The operations stay: whatever is
 * freed late still takes its count back.  They go with the device, or with
 * this module.
 *
 * While a device that the host tracks has a driver, whether we count its DMA or
 * not, the module holds a reference on itself, so it cannot be unloaded, and a
 * device link makes coIOMMU its supplier: it is unbound before coIOMMU when
 * that is removed or unbound by hand, and shut down before it.  The IOMMU core
 * relies on that: nobody uses a group that goes (coiommu_iommu.c).
 */
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/swiotlb.h>

#include "coiommu.h"
#include "coiommu_trace.h"

static char *skip = "uio_pci_generic,igb_uio";
module_param(skip, charp, 0444);
MODULE_PARM_DESC(skip,
		 "drivers whose devices are not tracked because they give addresses to the device that the DMA API does not see, separated by commas (default: uio_pci_generic,igb_uio)");

/* Is @name one of the words of @list, which are separated by commas? */
static bool name_in_list(const char *name, const char *list)
{
	const size_t len = strlen(name);

	while (*list) {
		const size_t word = strcspn(list, ",");

		if (word == len && !strncmp(list, name, len))
			return true;
		list += word;
		list += strspn(list, ",");
	}
	return false;
}

/* Frees the context when the last reference to the shadow goes. */
static void shadow_release(struct device *shadow)
{
	kfree(container_of(shadow, struct coiommu_dev, shadow));
}

/* Holds coi->lock. */
static struct coiommu_dev *find_device(struct coiommu *coi,
				       const struct pci_dev *pdev)
{
	struct coiommu_dev *cdev;

	list_for_each_entry(cdev, &coi->devices, node)
		if (cdev->pdev == pdev)
			return cdev;
	return NULL;
}

static struct coiommu_dev *new_device(struct coiommu *coi,
				      struct pci_dev *pdev)
{
	struct coiommu_dev *cdev = kzalloc(sizeof(*cdev), GFP_KERNEL);

	if (!cdev)
		return NULL;
	cdev->ops = coiommu_dma_ops;
	cdev->coi = coi;
	cdev->pdev = pci_dev_get(pdev);
	device_initialize(&cdev->shadow);
	cdev->shadow.release = shadow_release;
	if (dev_set_name(&cdev->shadow, "coiommu-%s", pci_name(pdev))) {
		pci_dev_put(pdev);
		put_device(&cdev->shadow);
		return NULL;
	}
	list_add(&cdev->node, &coi->devices);
	return cdev;
}

/* Forget a device.  Holds coi->lock; nothing maps or unmaps any more. */
static void drop_device(struct coiommu_dev *cdev)
{
	struct pci_dev *pdev = cdev->pdev;

	if (get_dma_ops(&pdev->dev) == &cdev->ops)
		set_dma_ops(&pdev->dev, NULL);
	list_del(&cdev->node);
	put_device(&cdev->shadow);
	pci_dev_put(pdev);
}

/*
 * When the last device has been dropped, whatever is counted still stays so:
 * what its driver unmaps now, it unmaps without us.  It would be pinned for ever
 * as soon as another device is attached.  Holds coi->lock.
 */
static void forget_mappings(struct coiommu *coi)
{
	u64 left = list_empty(&coi->devices) ? coiommu_dtt_forget(&coi->dtt) : 0;

	if (left)
		pci_warn(coi->pdev, "%llu mappings of devices that are gone were never undone: a driver's bug\n",
			 left);
}

/*
 * Give the shadow all that dma-direct and swiotlb look at.  The streaming mask
 * and the segment limits are shared with the real device and follow it.
 */
static void refresh_shadow(struct coiommu_dev *cdev)
{
	struct device *dev = &cdev->pdev->dev;
	struct device *shadow = &cdev->shadow;

	shadow->dma_mask = dev->dma_mask;
	shadow->dma_parms = dev->dma_parms;
	shadow->coherent_dma_mask = dev->coherent_dma_mask;
	shadow->bus_dma_limit = dev->bus_dma_limit;
	shadow->dma_range_map = dev->dma_range_map;
#ifdef CONFIG_SWIOTLB
	shadow->dma_io_tlb_mem = dev->dma_io_tlb_mem;
#endif
	set_dev_node(shadow, dev_to_node(dev));

	cdev->direct_last = dev->bus_dma_limit ?: U64_MAX;
	if (dev->dma_range_map || is_swiotlb_force_bounce(shadow)) {
		cdev->direct_last = 0;
		coiommu_dma_shadowed(cdev);
	}
}

/* Why the device's DMA addresses are not ours to count, or NULL. */
static const char *why_not(struct coiommu_dev *cdev, struct device *dev)
{
	const struct dma_map_ops *ops = get_dma_ops(dev);
	struct iommu_domain *domain = iommu_get_domain_for_dev(dev);

	if (to_pci_driver(dev->driver)->driver_managed_dma)
		return "its driver does DMA past the DMA API";
	if (name_in_list(dev->driver->name, skip))
		return "its driver is in the module's skip list";
	if (compat_dev_dma_iommu(dev) ||
	    (domain && domain->type != IOMMU_DOMAIN_IDENTITY))
		return "it is behind another IOMMU";
	if (ops && !(cdev && ops == &cdev->ops))
		return "it has other DMA operations";
	return NULL;
}

/*
 * A driver is about to bind: keep this module, and the function's driver, until
 * it has gone.  Returns what is in the way, or NULL.  Holds coi->lock.
 */
static const char *hold(struct coiommu_dev *cdev)
{
	if (!try_module_get(THIS_MODULE))
		return "the module is being unloaded";
	/* The link goes when the driver does, or with its failed probe. */
	if (!device_link_add(&cdev->pdev->dev, &cdev->coi->pdev->dev,
			     DL_FLAG_AUTOREMOVE_CONSUMER)) {
		module_put(THIS_MODULE);
		return "no device link";
	}
	cdev->held = true;
	return NULL;
}

static size_t max_mapping(struct coiommu *coi)
{
	return min_t(u64, readq(coi->regs + COIOMMU_REG_MAX_MAPPING), SIZE_MAX);
}

/*
 * A driver is about to bind: track the device from here on, or leave it alone.
 * Holds the device's lock and coi->lock.
 */
static void attach(struct coiommu *coi, struct pci_dev *pdev)
{
	struct coiommu_dev *cdev = find_device(coi, pdev);
	struct device *dev = &pdev->dev;
	const char *reason;
	u32 status;

	status = coiommu_endpoint_request(coi, COIOMMU_OP_PROBE, pdev);
	if (status != COIOMMU_ST_OK)
		return;
	reason = "out of memory";
	if (!cdev)
		cdev = new_device(coi, pdev);
	if (!cdev)
		goto not_tracked;
	reason = hold(cdev);
	if (reason)
		goto not_tracked;
	reason = why_not(cdev, dev);
	if (reason)
		goto not_tracked;
	refresh_shadow(cdev);
	reason = "no device link";
	if (!coiommu_pm_link(coi, pdev))
		goto not_tracked;
	status = coiommu_endpoint_request(coi, COIOMMU_OP_ATTACH, pdev);
	trace_coiommu_attach(pdev, status);
	reason = coiommu_status_name(status);
	if (status != COIOMMU_ST_OK)
		goto err_link;

	cdev->max_mapping = max_mapping(coi);
	cdev->attached = true;
	set_dma_ops(dev, &cdev->ops);
	/* A flag from the time without operations would be stale. */
	if (cdev->shadowed)
		compat_dev_clear_skip_sync(dev);
	return;

err_link:
	coiommu_pm_unlink(coi, pdev);
not_tracked:
	pci_info(pdev, "coiommu: not tracked: %s\n", reason);
}

/* The driver is gone.  Holds the device's lock and coi->lock. */
static void detach(struct coiommu *coi, struct pci_dev *pdev)
{
	struct coiommu_dev *cdev = find_device(coi, pdev);
	u32 status;

	if (!cdev || !cdev->held)
		return;
	if (cdev->attached) {
		status = coiommu_endpoint_request(coi, COIOMMU_OP_DETACH, pdev);
		trace_coiommu_detach(pdev, status);
		if (status != COIOMMU_ST_OK)
			pci_warn(pdev, "coiommu: end of tracking refused: %s\n",
				 coiommu_status_name(status));
		cdev->attached = false;
		coiommu_pm_unlink(coi, pdev);
		/* The core has freed it. */
		cdev->shadow.dma_range_map = NULL;
	}
	cdev->held = false;
	module_put(THIS_MODULE);
}

static int bus_event(struct notifier_block *nb, unsigned long event, void *data)
{
	struct coiommu *coi = container_of(nb, struct coiommu, bus_nb);
	struct pci_dev *pdev = to_pci_dev(data);
	struct coiommu_dev *cdev;

	if (pdev == coi->pdev)
		return NOTIFY_DONE;
	mutex_lock(&coi->lock);
	switch (event) {
	case BUS_NOTIFY_BIND_DRIVER:
		attach(coi, pdev);
		break;
	case BUS_NOTIFY_DRIVER_NOT_BOUND:
	case BUS_NOTIFY_UNBOUND_DRIVER:
		detach(coi, pdev);
		break;
	case BUS_NOTIFY_REMOVED_DEVICE:
		detach(coi, pdev);
		cdev = find_device(coi, pdev);
		if (!cdev)
			break;
		drop_device(cdev);
		forget_mappings(coi);
		break;
	}
	mutex_unlock(&coi->lock);
	/* A device that had its driver before us. */
	if (event == BUS_NOTIFY_UNBOUND_DRIVER)
		coiommu_iommu_adopt(coi, pdev);
	return NOTIFY_OK;
}

/*
 * Name a device that was bound before we came.  A device that is binding right
 * now holds its lock, and waiting for it could wait for ever.
 */
static void report_bound(struct coiommu *coi, struct pci_dev *pdev)
{
	struct device *dev = &pdev->dev;

	if (pdev == coi->pdev || !device_trylock(dev))
		return;
	mutex_lock(&coi->lock);
	if (dev->driver && !find_device(coi, pdev) &&
	    coiommu_endpoint_request(coi, COIOMMU_OP_PROBE, pdev) ==
	    COIOMMU_ST_OK)
		pci_info(pdev, "coiommu: not tracked: bound to %s before coiommu was loaded; load it from the initramfs, or unbind the device and bind it again\n",
			 dev->driver->name);
	mutex_unlock(&coi->lock);
	device_unlock(dev);
}

/**
 * coiommu_track_init - begin to track devices
 * @coi: the function, enabled
 *
 * Process context.  Returns 0 or a negative errno.
 */
int coiommu_track_init(struct coiommu *coi)
{
	struct pci_dev *pdev = NULL;
	int ret;

	mutex_init(&coi->lock);
	INIT_LIST_HEAD(&coi->devices);
	coi->bus_nb.notifier_call = bus_event;
	ret = bus_register_notifier(&pci_bus_type, &coi->bus_nb);
	if (ret)
		return ret;
	for_each_pci_dev(pdev)
		report_bound(coi, pdev);
	return 0;
}

/**
 * coiommu_track_exit - forget all devices
 * @coi: the function
 *
 * Its consumers have been unbound by the driver core, so none is attached.
 */
void coiommu_track_exit(struct coiommu *coi)
{
	struct coiommu_dev *cdev, *next;

	bus_unregister_notifier(&pci_bus_type, &coi->bus_nb);
	mutex_lock(&coi->lock);
	list_for_each_entry_safe(cdev, next, &coi->devices, node)
		drop_device(cdev);
	forget_mappings(coi);
	mutex_unlock(&coi->lock);
}
