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
 * So it is with the children of a device: coiommu_children.c.
 *
 * DETACH comes after the driver is gone.  A driver may leave bus mastering on,
 * and QEMU would pin all memory for a device that may do DMA and is not attached:
 * so the bit is cleared first.  It is set again before the next driver that is
 * tracked, which finds the device as its predecessor left it.
 *
 * The operations stay after DETACH: what is freed late, as page_pool does when the
 * last packet has been read, still takes its count back.  They stay on an
 * unplugged device, too, until nothing but our own reference keeps it.  They go
 * when a driver binds whose DMA is not tracked, as its own mappings would be
 * refused: what has not been unmapped by then stays counted.
 *
 * Some counts are never taken back, because of a driver's bug.  The table does
 * not tell whose a count is, so they are forgotten when no device is attached:
 * FORGET_DELAY after the last DETACH, to let late unmaps come first, and at once
 * if a count is saturated.  An unmap that comes later still must not take the
 * count of a new mapping: from then on the devices from which it can come are
 * booked (coiommu_books.c).  A booked device leaves nothing behind in any case.
 *
 * While a device that the host tracks has a driver, whether we count its DMA or
 * not, the module holds a reference on itself, so it cannot be unloaded, and a
 * device link makes coIOMMU its supplier: it sleeps and is shut down before
 * coIOMMU.  The link is a stateless one.  With a managed one the driver core
 * would unbind the device before coIOMMU, too; but without a word, and a device
 * whose driver binds while coIOMMU is being unbound could not be refused.
 *
 * The end, in the order of the remove callback:
 *
 * 1. coiommu_track_stop() sets @going.  attach() and coiommu_iommu_adopt() look
 *    at it and do nothing any more.  Then it takes from their drivers all
 *    devices that are held, as no group that goes may be in use
 *    (coiommu_iommu.c); their notifications end the tracking.  Then it takes
 *    the notifier from the bus, and so waits for all that are in it.
 * 2. coiommu_iommu_exit() takes all devices out of their groups.
 * 3. coiommu_track_exit() takes the operations from the devices.
 */
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/string.h>

#include "coiommu.h"
#include "coiommu_trace.h"

/* How often unplugged devices are looked at, in jiffies. */
#define REAP_INTERVAL	HZ

/* How long after the last DETACH counts are forgotten, in jiffies. */
#define FORGET_DELAY	(5 * HZ)

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

static struct coiommu_dev *find_device(struct coiommu *coi,
				       const struct pci_dev *pdev)
{
	return coiommu_dev_find(coi, &pdev->dev);
}

/* Is there a device that is attached, or has a driver whose maps we count? */
static bool any_counted(struct coiommu *coi)
{
	struct coiommu_dev *cdev;

	list_for_each_entry(cdev, &coi->devices, node)
		if (cdev->attached || cdev->given_up ||
		    (coiommu_is_child(cdev) && cdev->held))
			return true;
	return false;
}

/*
 * Take back what is counted though no device has a driver that could undo it: it
 * would be pinned as long as another device is attached.  Holds coi->lock.
 */
static void forget_mappings(struct coiommu *coi)
{
	struct coiommu_dev *cdev;

	if (any_counted(coi))
		return;
	if (!coiommu_dtt_mappings(&coi->dtt)) {
		list_for_each_entry(cdev, &coi->devices, node)
			cdev->suspect = false;
		return;
	}
	list_for_each_entry(cdev, &coi->devices, node)
		if (cdev->suspect && coiommu_dma_book(cdev))
			return;
	/* An unmap that has not seen the books must be over when counts go. */
	compat_synchronize_ops();
	pci_warn(coi->pdev, "%llu mappings of drivers that are gone were never undone and are forgotten: a driver's bug\n",
		 coiommu_dtt_forget(&coi->dtt));
}

static void forget(struct work_struct *work)
{
	struct coiommu *coi = container_of(to_delayed_work(work),
					   struct coiommu, forget);

	mutex_lock(&coi->lock);
	forget_mappings(coi);
	mutex_unlock(&coi->lock);
}

/* A device has been detached, perhaps the last.  Holds coi->lock. */
static void forget_soon(struct coiommu *coi)
{
	if (READ_ONCE(coi->dtt.saturated))
		forget_mappings(coi);
	mod_delayed_work(system_wq, &coi->forget, FORGET_DELAY);
}

/* A device's driver has gone: what it has not undone.  Holds coi->lock. */
static void close_books(struct coiommu_dev *cdev)
{
	struct coiommu_struck struck = { };
	u64 left;

	if (cdev->books)
		coiommu_books_strike_all(cdev->books, &struck);
	left = coiommu_struck_put(&struck, &cdev->coi->dtt);
	if (left)
		pci_warn(cdev->pdev, "coiommu: %llu mappings that its driver has left behind are taken back\n",
			 left);
}

/* Does the driver that is about to bind do DMA without the DMA API? */
static bool is_driver_managed(struct device *dev)
{
	if (dev_is_pci(dev))
		return to_pci_driver(dev->driver)->driver_managed_dma;
	return dev_is_platform(dev) &&
	       to_platform_driver(dev->driver)->driver_managed_dma;
}

static bool has_bound_child(struct pci_dev *pdev)
{
	struct device *child = coiommu_child_uncounted(pdev, true);

	put_device(child);
	return child;
}

/*
 * Why the device's DMA addresses are not ours to count, or NULL, and then its
 * shadow is up to date.
 */
static const char *why_not(struct coiommu_dev *cdev, struct device *dev)
{
	const struct dma_map_ops *ops = get_dma_ops(dev);
	struct iommu_domain *domain = iommu_get_domain_for_dev(dev);

	if (is_driver_managed(dev))
		return "its driver does DMA past the DMA API";
	if (name_in_list(dev->driver->name, skip))
		return "its driver is in the module's skip list";
	if (compat_dev_dma_iommu(dev) ||
	    (domain && domain->type != IOMMU_DOMAIN_IDENTITY))
		return "it is behind another IOMMU";
	/* What was copied from the function is replaced. */
	if (ops && ops != &cdev->ops && ops != &cdev->function->ops)
		return "it has other DMA operations";
	if (!coiommu_is_child(cdev) && has_bound_child(cdev->pdev))
		return "a child that may do DMA for it has a driver already";
	coiommu_dev_refresh(cdev);
	if (!coiommu_dev_can_bounce(cdev))
		return "memory that the host can't pin is online, and there are no bounce buffers";
	return NULL;
}

/*
 * A driver is about to bind: keep this module until it has gone, and the function
 * awake as long as the device is.  Returns what is in the way, or NULL.  Holds
 * coi->lock.
 */
static const char *hold(struct coiommu_dev *cdev)
{
	/*
	 * With CONFIG_DEBUG_TEST_DRIVER_REMOVE the driver core removes a driver
	 * that it has just bound, and binds it again, without telling of the end.
	 */
	coiommu_dev_release(cdev);
	if (!try_module_get(THIS_MODULE))
		return "the module is being unloaded";
	if (!coiommu_is_child(cdev) &&
	    !device_link_add(cdev->dev, &cdev->coi->pdev->dev,
			     DL_FLAG_STATELESS)) {
		module_put(THIS_MODULE);
		return "no device link";
	}
	cdev->held = true;
	return NULL;
}

/* Undo hold().  Holds coi->lock. */
static void release(struct coiommu_dev *cdev)
{
	if (!coiommu_is_child(cdev))
		device_link_remove(cdev->dev, &cdev->coi->pdev->dev);
	cdev->held = false;
	module_put(THIS_MODULE);
}

static size_t max_mapping(struct coiommu *coi)
{
	return min_t(u64, readq(coi->regs + COIOMMU_REG_MAX_MAPPING), SIZE_MAX);
}

/* From here on each mapping of the device is counted.  Holds coi->lock. */
static void install(struct coiommu_dev *cdev)
{
	cdev->suspect = true;
	cdev->saturated = false;
	cdev->max_mapping = max_mapping(cdev->coi);
	cdev->untracked_reason = NULL;
	coiommu_dma_install(cdev);
}

static const char *attach_status_name(u32 status)
{
	if (status == COIOMMU_ST_UNSUPPORTED)
		return "the host knows that it does DMA past the DMA API";
	return coiommu_status_name(status);
}

/* ATTACH; returns why it was refused, or NULL.  Holds coi->lock. */
static const char *begin(struct coiommu *coi, struct coiommu_dev *cdev)
{
	struct pci_dev *pdev = cdev->pdev;
	u32 status;

	if (!coiommu_pm_link(coi, pdev))
		return "no device link";
	status = coiommu_endpoint_request(coi, COIOMMU_OP_ATTACH, pdev);
	trace_coiommu_attach(pdev, status);
	if (status != COIOMMU_ST_OK) {
		coiommu_pm_unlink(coi, pdev);
		return attach_status_name(status);
	}

	cdev->attached = true;
	install(cdev);
	if (cdev->was_master)
		pci_set_master(pdev);
	return NULL;
}

/*
 * Track the device whose driver is about to bind.  Returns why it is not tracked,
 * or NULL.  Holds the device's lock and coi->lock.
 */
static const char *try_attach(struct coiommu *coi, struct pci_dev *pdev)
{
	struct coiommu_dev *cdev = find_device(coi, pdev);
	const char *reason;

	if (coi->going)
		return "coIOMMU is being unbound";
	if (!cdev)
		cdev = coiommu_dev_new(coi, &pdev->dev, NULL);
	if (!cdev)
		return "out of memory";
	reason = hold(cdev);
	if (reason)
		return reason;
	reason = why_not(cdev, &pdev->dev);
	return reason ?: begin(coi, cdev);
}

/*
 * Say why a device is not tracked: once for each reason, as a probe may be
 * deferred and tried again many times.  @cdev is NULL if there was no memory for
 * it, or coIOMMU is going.  Holds coi->lock.
 */
static void report_untracked(struct pci_dev *pdev, struct coiommu_dev *cdev,
			     const char *reason)
{
	if (cdev && cdev->untracked_reason == reason)
		return;
	if (cdev)
		cdev->untracked_reason = reason;
	pci_info(pdev, "coiommu: not tracked: %s\n", reason);
}

/*
 * A driver is about to bind: track the device from here on, or leave it alone.
 * Holds the device's lock and coi->lock.
 */
static void attach(struct coiommu *coi, struct pci_dev *pdev)
{
	const struct pci_driver *driver = to_pci_driver(pdev->dev.driver);
	struct coiommu_dev *cdev;
	const char *reason = NULL;
	bool ours;

	ours = coiommu_endpoint_request(coi, COIOMMU_OP_PROBE, pdev) ==
	       COIOMMU_ST_OK;
	if (ours)
		reason = try_attach(coi, pdev);
	if (ours && !reason)
		return;
	cdev = find_device(coi, pdev);
	if (ours)
		report_untracked(pdev, cdev, reason);
	if (!cdev)
		return;
	cdev->was_master = false;
	/* A driver that does without the DMA API may leave them to the last. */
	if (!driver->driver_managed_dma)
		coiommu_dev_take_ops(cdev, &pdev->dev);
}

/*
 * Keep a device without a driver from doing DMA, and note whether it could.  Holds
 * coi->lock.
 */
static void clear_master(struct coiommu_dev *cdev)
{
	u16 cmd;

	pci_read_config_word(cdev->pdev, PCI_COMMAND, &cmd);
	cdev->was_master = cmd & PCI_COMMAND_MASTER;
	if (cdev->was_master)
		pci_clear_master(cdev->pdev);
}

/* DETACH.  Holds coi->lock. */
static void end_tracking(struct coiommu_dev *cdev)
{
	struct pci_dev *pdev = cdev->pdev;
	u32 status;

	status = coiommu_endpoint_request(cdev->coi, COIOMMU_OP_DETACH, pdev);
	trace_coiommu_detach(pdev, status);
	if (status != COIOMMU_ST_OK)
		pci_warn(pdev, "coiommu: end of tracking refused: %s\n",
			 coiommu_status_name(status));
	cdev->attached = false;
	coiommu_pm_unlink(cdev->coi, pdev);
}

/**
 * coiommu_dev_release - a device's driver is gone
 * @cdev: its context; its operations stay, and count what is freed late
 *
 * Holds coi->lock, and the device's lock if it is a function.  The module may be
 * unloaded as soon as coi->lock is released.
 */
void coiommu_dev_release(struct coiommu_dev *cdev)
{
	const bool counted = cdev->attached || cdev->given_up ||
			     coiommu_is_child(cdev);

	if (!cdev->held)
		return;
	if (cdev->attached) {
		clear_master(cdev);
		end_tracking(cdev);
	}
	release(cdev);
	if (!counted)
		return;
	WRITE_ONCE(cdev->given_up, false);
	/* The core has freed it. */
	cdev->shadow.dma_range_map = NULL;
	close_books(cdev);
	forget_soon(cdev->coi);
}

/**
 * coiommu_dev_give_up - end the tracking of a function that has its driver
 * @function: its context, attached
 *
 * What is mapped stays counted.  The host has all memory pinned for the function,
 * or keeps it from doing DMA, before this returns.  Holds coi->lock.
 */
void coiommu_dev_give_up(struct coiommu_dev *function)
{
	end_tracking(function);
	/* Not before: a mapping would go on without waiting for its pin. */
	WRITE_ONCE(function->given_up, true);
}

/**
 * coiommu_dev_count - count what a child maps for a function
 * @function: the function's context, attached
 * @dev: a child to which a driver is about to bind
 *
 * Holds the lock of @dev and coi->lock.  Returns NULL, or what is in the way: the
 * function may be attached no longer then.  coiommu_dev_release() is to be called
 * when the driver has gone, if @dev has got a context.
 */
const char *coiommu_dev_count(struct coiommu_dev *function, struct device *dev)
{
	struct coiommu_dev *cdev = coiommu_dev_find(function->coi, dev);
	const char *reason;

	if (!cdev)
		cdev = coiommu_dev_new(function->coi, dev, function);
	if (!cdev)
		return "out of memory";
	reason = hold(cdev) ?: why_not(cdev, dev);
	if (reason)
		return reason;
	install(cdev);
	return NULL;
}

/* Does anything but us keep an unplugged device?  Only that can unmap. */
static bool is_used(const struct coiommu_dev *cdev)
{
	return kref_read(&cdev->dev->kobj.kref) > 1;
}

/*
 * Drop the unplugged devices that nothing uses any more, and look again later if
 * some are left: no event tells of the last reference.
 */
static void reap(struct work_struct *work)
{
	struct coiommu *coi = container_of(to_delayed_work(work),
					   struct coiommu, reap);
	struct coiommu_dev *cdev, *next;
	bool dropped = false;
	bool again = false;

	mutex_lock(&coi->lock);
	list_for_each_entry_safe(cdev, next, &coi->devices, node) {
		if (!cdev->removed)
			continue;
		if (is_used(cdev)) {
			again = true;
			continue;
		}
		coiommu_dev_drop(cdev);
		dropped = true;
	}
	/* With the last device its unmaps are over. */
	if (dropped && list_empty(&coi->devices))
		forget_mappings(coi);
	mutex_unlock(&coi->lock);
	if (again)
		schedule_delayed_work(&coi->reap, REAP_INTERVAL);
}

/**
 * coiommu_dev_remove - a device is unplugged
 * @cdev: its context
 *
 * Holds coi->lock.
 */
void coiommu_dev_remove(struct coiommu_dev *cdev)
{
	coiommu_dev_release(cdev);
	cdev->removed = true;
	schedule_delayed_work(&cdev->coi->reap, 0);
}

static int bus_event(struct notifier_block *nb, unsigned long event, void *data)
{
	struct coiommu *coi = container_of(nb, struct coiommu, bus_nb);
	struct pci_dev *pdev = to_pci_dev(data);
	struct coiommu_dev *cdev;

	if (pdev == coi->pdev)
		return NOTIFY_DONE;
	if (coiommu_function_of(data) != pdev)
		return coiommu_child_event(coi, event, data);
	mutex_lock(&coi->lock);
	cdev = find_device(coi, pdev);
	switch (event) {
	case BUS_NOTIFY_BIND_DRIVER:
		attach(coi, pdev);
		break;
	case BUS_NOTIFY_BOUND_DRIVER:
		if (cdev)
			coiommu_children_check(cdev);
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
	INIT_DELAYED_WORK(&coi->forget, forget);
	INIT_DELAYED_WORK(&coi->reap, reap);
	coi->bus_nb.notifier_call = bus_event;
	ret = coiommu_children_init(coi);
	if (ret)
		return ret;
	ret = bus_register_notifier(&pci_bus_type, &coi->bus_nb);
	if (ret) {
		coiommu_children_exit(coi);
		return ret;
	}
	for_each_pci_dev(pdev)
		report_bound(coi, pdev);
	return 0;
}

/* A device that has a driver and is held, with a reference, or NULL. */
static struct pci_dev *find_held(struct coiommu *coi)
{
	struct coiommu_dev *cdev;
	struct pci_dev *pdev = NULL;

	mutex_lock(&coi->lock);
	list_for_each_entry(cdev, &coi->devices, node)
		if (cdev->held && !coiommu_is_child(cdev)) {
			pdev = pci_dev_get(cdev->pdev);
			break;
		}
	mutex_unlock(&coi->lock);
	return pdev;
}

/**
 * coiommu_track_stop - end the tracking of all devices
 * @coi: the function, about to go
 *
 * Process context; the thread that unbinds the function, which must hold no
 * other device's lock.  Afterwards no device is attached, and none will be.
 */
void coiommu_track_stop(struct coiommu *coi)
{
	struct pci_dev *pdev;

	mutex_lock(&coi->lock);
	WRITE_ONCE(coi->going, true);
	mutex_unlock(&coi->lock);
	/* attach() adds no more, and bus_event() takes each from the held. */
	while ((pdev = find_held(coi))) {
		coiommu_rebind_take(pdev);
		pci_dev_put(pdev);
	}
	bus_unregister_notifier(&pci_bus_type, &coi->bus_nb);
	coiommu_children_exit(coi);
}

/**
 * coiommu_track_exit - forget all devices
 * @coi: the function, after coiommu_track_stop()
 */
void coiommu_track_exit(struct coiommu *coi)
{
	struct coiommu_dev *cdev, *next;

	cancel_delayed_work_sync(&coi->reap);
	mutex_lock(&coi->lock);
	coiommu_dev_take_all_ops(coi);
	list_for_each_entry_safe(cdev, next, &coi->devices, node) {
		/* A child that has outlived its function's driver. */
		coiommu_dev_release(cdev);
		coiommu_dev_drop(cdev);
	}
	forget_mappings(coi);
	mutex_unlock(&coi->lock);
	/* Not before: the release of such a child has it begin again. */
	cancel_delayed_work_sync(&coi->forget);
}
