// SPDX-License-Identifier: GPL-2.0
/*
 * What the buses notify of: a driver that is about to bind, has bound, or has gone,
 * and a device that has been unplugged.
 *
 * There are notifiers on the PCI bus, for functions and for what is behind VMD, and on
 * the platform and the auxiliary bus, for the children of functions.  All three run in
 * the thread that binds or unbinds the device, which holds the device's lock.  They take
 * coi->lock inside of it, so no thread that holds coi->lock may take a device's lock.
 */
#include <linux/platform_device.h>

#include "coiommu.h"
#include "coiommu_auxiliary.h"
#include "coiommu_bus.h"
#include "coiommu_children.h"
#include "coiommu_context.h"
#include "coiommu_iommu.h"
#include "coiommu_request.h"
#include "coiommu_track.h"

/*
 * What @dev may map is not counted, for a reason: end the tracking of its function.
 * The caller must hold coi->lock.
 */
static void give_up(struct coiommu_dev *function, struct device *dev,
		    const char *reason)
{
	coiommu_track_give_up(function);
	pci_warn(function->pdev, "coiommu: no longer tracked, because its child %s (driver %s) may do DMA that cannot be counted: %s\n",
		 dev_name(dev), dev->driver ? dev->driver->name : "none",
		 reason);
}

/*
 * Take from a child the operations that it has from the time when its function was
 * attached: its mappings would be refused.  The caller must hold coi->lock.
 */
static void take_stale_ops(struct coiommu_dev *function, struct device *dev)
{
	struct coiommu_dev *cdev = coiommu_dev_find(function->coi, dev);

	coiommu_dev_take_ops(function, dev);
	if (cdev)
		coiommu_dev_take_ops(cdev, dev);
}

/* A driver is about to bind to a child.  The caller must hold coi->lock. */
static void child_bind(struct coiommu *coi, struct pci_dev *pdev,
		       struct device *dev)
{
	struct coiommu_dev *function = coiommu_dev_find(coi, &pdev->dev);
	const char *reason;

	if (!function || coiommu_never_maps(dev))
		return;
	if (!function->attached) {
		take_stale_ops(function, dev);
		return;
	}
	reason = coiommu_track_child(function, dev);
	if (reason)
		give_up(function, dev, reason);
}

/*
 * A function's driver has bound, and has made its children.  One whose driver we are
 * not notified of may map uncounted.  The caller must hold coi->lock.
 */
static void function_bound(struct coiommu_dev *function)
{
	struct device *dev;

	if (!function->attached)
		return;
	dev = coiommu_unwatched_child(function->pdev);
	if (dev)
		give_up(function, dev, "it is on a bus of its own");
	put_device(dev);
}

/*
 * @dev is @function's, or maps for it.  The caller must hold coi->lock, and where a
 * driver binds or unbinds the lock of @dev.
 */
static void handle_event(struct coiommu *coi, unsigned long event,
			 struct pci_dev *function, struct device *dev)
{
	struct coiommu_dev *cdev = coiommu_dev_find(coi, dev);

	lockdep_assert_held(&coi->lock);
	switch (event) {
	case BUS_NOTIFY_BIND_DRIVER:
		if (dev == &function->dev)
			coiommu_track_bind(coi, function);
		else
			child_bind(coi, function, dev);
		break;
	case BUS_NOTIFY_BOUND_DRIVER:
		if (cdev && !coiommu_is_child(cdev))
			function_bound(cdev);
		break;
	case BUS_NOTIFY_DRIVER_NOT_BOUND:
	case BUS_NOTIFY_UNBOUND_DRIVER:
		if (cdev)
			coiommu_track_release(cdev);
		break;
	case BUS_NOTIFY_REMOVED_DEVICE:
		if (cdev)
			coiommu_track_remove(cdev);
		break;
	}
}

/* A bus notifies of a device. */
static int device_event(struct coiommu *coi, unsigned long event,
			struct device *dev)
{
	struct pci_dev *function = coiommu_function_of(dev);

	if (!function || function == coi->pdev)
		return NOTIFY_DONE;
	mutex_lock(&coi->lock);
	handle_event(coi, event, function, dev);
	mutex_unlock(&coi->lock);
	/* A device that had its driver before us has no group yet. */
	if (event == BUS_NOTIFY_UNBOUND_DRIVER && dev == &function->dev)
		coiommu_iommu_adopt(coi, function);
	return NOTIFY_OK;
}

static int pci_event(struct notifier_block *nb, unsigned long event,
		     void *data)
{
	return device_event(container_of(nb, struct coiommu, pci_nb), event,
			    data);
}

static int platform_event(struct notifier_block *nb, unsigned long event,
			  void *data)
{
	return device_event(container_of(nb, struct coiommu, platform_nb),
			    event, data);
}

static int auxiliary_event(struct notifier_block *nb, unsigned long event,
			   void *data)
{
	return device_event(container_of(nb, struct coiommu, auxiliary_nb),
			    event, data);
}

/*
 * Name a device that was bound before coIOMMU came.  A thread that binds a device
 * right now holds its lock and may wait for us, so that must not be waited for.
 */
static void report_bound(struct coiommu *coi, struct pci_dev *pdev)
{
	struct device *dev = &pdev->dev;

	if (pdev == coi->pdev || !device_trylock(dev))
		return;
	mutex_lock(&coi->lock);
	if (dev->driver && !coiommu_dev_find(coi, dev) &&
	    coiommu_endpoint_request(coi, COIOMMU_OP_PROBE, pdev) ==
	    COIOMMU_ST_OK)
		pci_info(pdev, "coiommu: not tracked: bound to %s before coiommu was loaded; load it from the initramfs, or unbind the device and bind it again\n",
			 dev->driver->name);
	mutex_unlock(&coi->lock);
	device_unlock(dev);
}

/**
 * coiommu_bus_init - be notified of devices and drivers
 * @coi: the function, enabled, after coiommu_track_init()
 *
 * The children's notifiers come first: no function may be attached without them.
 * Process context.  Returns 0 or a negative errno, and then nothing is left.
 */
int coiommu_bus_init(struct coiommu *coi)
{
	struct pci_dev *pdev = NULL;
	int ret;

	coi->platform_nb.notifier_call = platform_event;
	coi->auxiliary_nb.notifier_call = auxiliary_event;
	coi->pci_nb.notifier_call = pci_event;
	ret = bus_register_notifier(&platform_bus_type, &coi->platform_nb);
	if (ret)
		return ret;
	ret = coiommu_auxiliary_register(&coi->auxiliary_nb);
	if (ret)
		goto err_platform;
	ret = bus_register_notifier(&pci_bus_type, &coi->pci_nb);
	if (ret)
		goto err_auxiliary;
	for_each_pci_dev(pdev)
		report_bound(coi, pdev);
	return 0;

err_auxiliary:
	coiommu_auxiliary_unregister(&coi->auxiliary_nb);
err_platform:
	bus_unregister_notifier(&platform_bus_type, &coi->platform_nb);
	return ret;
}

/**
 * coiommu_bus_exit - be notified no more
 * @coi: the function, after coiommu_track_stop()
 *
 * Process context; waits until no notifier runs.
 */
void coiommu_bus_exit(struct coiommu *coi)
{
	bus_unregister_notifier(&pci_bus_type, &coi->pci_nb);
	coiommu_auxiliary_unregister(&coi->auxiliary_nb);
	bus_unregister_notifier(&platform_bus_type, &coi->platform_nb);
}
