// SPDX-License-Identifier: GPL-2.0
/*
 * Which devices are tracked, and from when to when.
 *
 * A device's DMA is counted only if every mapping is, from the first.  So the
 * operations are installed before its driver's probe, when the PCI bus notifies that a
 * driver is about to bind, and the host is told by ATTACH.  A device that has a driver
 * already when this module loads has mappings that were not counted: it is left alone
 * until it is bound anew, and a line says so.
 *
 * So it is with the children of a device: coiommu_children.c.
 *
 * DETACH comes after the driver is gone.  A driver may leave bus mastering on,
 * and QEMU would pin all memory for a device that may do DMA and is not attached:
 * so the bit must be cleared first.  It is set again before the next driver that is
 * tracked, which finds the device as its predecessor left it.
 *
 * The operations stay after DETACH: what is freed late, as page_pool does when the
 * last packet has been read, still takes its count back.  They stay on an
 * unplugged device, too, until only our own reference keeps it.  They go
 * when a driver binds whose DMA is not tracked, as its own mappings would be
 * refused: what has not been unmapped by then stays counted until it is forgotten
 * (coiommu_forget.c).
 *
 * While a device that the host tracks has a driver, whether its DMA is counted or
 * not, the module holds a reference on itself, so it cannot be unloaded, and a
 * device link makes coIOMMU its supplier: it sleeps and is shut down before
 * coIOMMU.  The link is a stateless one.  With a managed one the driver core
 * would unbind the device before coIOMMU, too; but without a word, and a device
 * whose driver binds while coIOMMU is being unbound could not be refused.
 *
 * The end, in the order of the remove callback:
 *
 * 1. coiommu_track_stop() sets @going.  coiommu_track_bind() and coiommu_iommu_adopt()
 *    look at it and return at once from then on.  Then it takes from their drivers all
 *    devices that are held, as no group that goes may be in use
 *    (coiommu_iommu.c); their notifications end the tracking.
 * 2. coiommu_bus_exit() takes the notifiers from the buses, and so waits for all
 *    threads that are in them.
 * 3. coiommu_iommu_exit() takes all devices out of their groups.
 * 4. coiommu_track_exit() takes the operations from the devices.
 *
 * Step 1 unbinds other devices inside our own remove callback, and so with the PCI
 * core's rescan lock held if our function is removed by sysfs or unplugged.  A driver
 * must expect that anyhow, as its own device is removed with that lock held.
 */
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/string.h>

#include "coiommu.h"
#include "coiommu_children.h"
#include "coiommu_context.h"
#include "coiommu_dma.h"
#include "coiommu_forget.h"
#include "coiommu_pm.h"
#include "coiommu_rebind.h"
#include "coiommu_request.h"
#include "coiommu_trace.h"
#include "coiommu_track.h"

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
	struct device *child = coiommu_bound_child(pdev);

	put_device(child);
	return child;
}

/*
 * Why the device's DMA can't be counted, or NULL, and then its shadow is up to date.
 */
static const char *untracked_reason(struct coiommu_dev *cdev, struct device *dev)
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
 * awake as long as the device is.  Returns what is in the way, or NULL.  The caller
 * must hold coi->lock.
 */
static const char *hold(struct coiommu_dev *cdev)
{
	lockdep_assert_held(&cdev->coi->lock);
	/*
	 * With CONFIG_DEBUG_TEST_DRIVER_REMOVE the driver core removes a driver
	 * that it has just bound and binds it again, without a notification of
	 * the end.
	 */
	coiommu_track_release(cdev);
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

/* Undo hold().  The module may be unloaded when the caller drops coi->lock. */
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

/* From here on each mapping of the device is counted. */
static void install(struct coiommu_dev *cdev)
{
	cdev->suspect = true;
	cdev->saturated = false;
	cdev->max_mapping = max_mapping(cdev->coi);
	cdev->reported_reason = NULL;
	coiommu_dma_install(cdev);
}

static const char *attach_status_name(u32 status)
{
	if (status == COIOMMU_ST_UNSUPPORTED)
		return "the host knows that it does DMA past the DMA API";
	return coiommu_status_name(status);
}

/* ATTACH; returns why it was refused, or NULL. */
static const char *attach(struct coiommu *coi, struct coiommu_dev *cdev)
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

/* Returns why the function is not tracked from here on, or NULL. */
static const char *try_track(struct coiommu *coi, struct pci_dev *pdev)
{
	struct coiommu_dev *cdev = coiommu_dev_find(coi, &pdev->dev);
	const char *reason;

	if (coi->going)
		return "coIOMMU is being unbound";
	if (!cdev)
		cdev = coiommu_dev_new(coi, &pdev->dev, NULL);
	if (!cdev)
		return "out of memory";
	reason = hold(cdev) ?: untracked_reason(cdev, &pdev->dev);
	return reason ?: attach(coi, cdev);
}

/*
 * Say why a device is not tracked: once for each reason, as a probe may be
 * deferred and tried again many times.  @cdev is NULL if there was no memory for
 * it, or coIOMMU is going.
 */
static void report_untracked(struct pci_dev *pdev, struct coiommu_dev *cdev,
			     const char *reason)
{
	if (cdev && cdev->reported_reason == reason)
		return;
	if (cdev)
		cdev->reported_reason = reason;
	pci_info(pdev, "coiommu: not tracked: %s\n", reason);
}

/**
 * coiommu_track_bind - a driver is about to bind to a function
 * @coi: our function
 * @pdev: the other one, which is tracked from here on, or left alone
 *
 * The caller must hold the lock of @pdev, and coi->lock.
 */
void coiommu_track_bind(struct coiommu *coi, struct pci_dev *pdev)
{
	const struct pci_driver *driver = to_pci_driver(pdev->dev.driver);
	struct coiommu_dev *cdev;
	const char *reason = NULL;
	bool ours;

	lockdep_assert_held(&coi->lock);
	ours = coiommu_endpoint_request(coi, COIOMMU_OP_PROBE, pdev) ==
	       COIOMMU_ST_OK;
	if (ours)
		reason = try_track(coi, pdev);
	if (ours && !reason)
		return;
	cdev = coiommu_dev_find(coi, &pdev->dev);
	if (ours)
		report_untracked(pdev, cdev, reason);
	if (!cdev)
		return;
	cdev->was_master = false;
	/* A driver that does without the DMA API does not use them. */
	if (!driver->driver_managed_dma)
		coiommu_dev_take_ops(cdev, &pdev->dev);
}

/* Keep a device without a driver from doing DMA, and note whether it could. */
static void clear_bus_master(struct coiommu_dev *cdev)
{
	u16 cmd;

	pci_read_config_word(cdev->pdev, PCI_COMMAND, &cmd);
	cdev->was_master = cmd & PCI_COMMAND_MASTER;
	if (cdev->was_master)
		pci_clear_master(cdev->pdev);
}

/* DETACH. */
static void detach(struct coiommu_dev *cdev)
{
	struct pci_dev *pdev = cdev->pdev;
	u32 status;

	lockdep_assert_held(&cdev->coi->lock);
	status = coiommu_endpoint_request(cdev->coi, COIOMMU_OP_DETACH, pdev);
	trace_coiommu_detach(pdev, status);
	if (status != COIOMMU_ST_OK)
		pci_warn(pdev, "coiommu: end of tracking refused: %s\n",
			 coiommu_status_name(status));
	cdev->attached = false;
	coiommu_pm_unlink(cdev->coi, pdev);
}

/**
 * coiommu_track_release - a device's driver is gone
 * @cdev: its context; its operations stay, and count what is freed late
 *
 * Does nothing if the device is not held.  The caller must hold coi->lock, and must
 * expect the module to be unloaded as soon as it drops that.
 */
void coiommu_track_release(struct coiommu_dev *cdev)
{
	const bool counted = cdev->attached || cdev->given_up ||
			     coiommu_is_child(cdev);

	if (!cdev->held)
		return;
	if (cdev->attached) {
		clear_bus_master(cdev);
		detach(cdev);
	}
	release(cdev);
	if (!counted)
		return;
	WRITE_ONCE(cdev->given_up, false);
	/* The core has freed it. */
	cdev->shadow.dma_range_map = NULL;
	coiommu_forget_soon(cdev);
}

/**
 * coiommu_track_give_up - end the tracking of a function that has its driver
 * @function: its context, attached
 *
 * What is mapped stays counted.  The host has all memory pinned for the function,
 * or keeps it from doing DMA, before this returns.  The caller must hold coi->lock.
 */
void coiommu_track_give_up(struct coiommu_dev *function)
{
	detach(function);
	/* Must come after: a map that sees it does not wait for its pin. */
	WRITE_ONCE(function->given_up, true);
}

/**
 * coiommu_track_child - count what a child maps for a function
 * @function: the function's context, attached
 * @dev: a child to which a driver is about to bind
 *
 * The caller must hold the lock of @dev, and coi->lock.  Returns NULL, or what is in
 * the way; then the caller must call coiommu_track_give_up().  In either case it must
 * call coiommu_track_release() when the driver has gone, if @dev has a context.
 */
const char *coiommu_track_child(struct coiommu_dev *function,
				struct device *dev)
{
	struct coiommu_dev *cdev = coiommu_dev_find(function->coi, dev);
	const char *reason;

	if (!cdev)
		cdev = coiommu_dev_new(function->coi, dev, function);
	if (!cdev)
		return "out of memory";
	reason = hold(cdev) ?: untracked_reason(cdev, dev);
	if (reason)
		return reason;
	install(cdev);
	return NULL;
}

/**
 * coiommu_track_remove - a device is unplugged
 * @cdev: its context
 *
 * The caller must hold coi->lock.
 */
void coiommu_track_remove(struct coiommu_dev *cdev)
{
	coiommu_track_release(cdev);
	cdev->removed = true;
	coiommu_reap_soon(cdev->coi);
}

/**
 * coiommu_track_init - make the list of devices
 * @coi: the function, enabled
 */
void coiommu_track_init(struct coiommu *coi)
{
	mutex_init(&coi->lock);
	INIT_LIST_HEAD(&coi->devices);
	coiommu_forget_init(coi);
}

/* A function that has a driver and is held, with a reference, or NULL. */
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
 * To be called by the thread that unbinds @coi, which must hold no other device's
 * lock.  Afterwards no device is attached, and none will be.
 */
void coiommu_track_stop(struct coiommu *coi)
{
	struct pci_dev *pdev;

	mutex_lock(&coi->lock);
	WRITE_ONCE(coi->going, true);
	mutex_unlock(&coi->lock);
	/* No more are held, and the notification of each that goes releases it. */
	while ((pdev = find_held(coi))) {
		coiommu_rebind_take(pdev);
		pci_dev_put(pdev);
	}
}

/**
 * coiommu_track_exit - take the operations from all devices, and forget them
 * @coi: the function, after coiommu_bus_exit()
 *
 * Process context.
 */
void coiommu_track_exit(struct coiommu *coi)
{
	struct coiommu_dev *cdev, *next;

	coiommu_reap_cancel(coi);
	mutex_lock(&coi->lock);
	coiommu_dev_take_all_ops(coi);
	list_for_each_entry_safe(cdev, next, &coi->devices, node) {
		/* A child that has outlived its function's driver. */
		coiommu_track_release(cdev);
		coiommu_dev_drop(cdev);
	}
	coiommu_forget_counts(coi);
	mutex_unlock(&coi->lock);
	/* Not before: the release of such a child has it begin again. */
	coiommu_forget_cancel(coi);
}
