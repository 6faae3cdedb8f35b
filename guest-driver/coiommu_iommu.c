// SPDX-License-Identifier: GPL-2.0
/*
 * coIOMMU as an IOMMU of the kernel: groups, and drivers that wait for us.
 *
 * DMA is counted by coiommu_dma.c, not here.  What the IOMMU core is told is
 * only what it needs to know: which devices are behind this IOMMU, that their
 * DMA addresses are physical ones (an identity domain, and no other kind), and
 * where interrupts are written to.  In return there are IOMMU groups, for
 * exactly the devices that the host tracks (PROBE), and a driver that finds its
 * device named in the ACPI table VIOT waits until we are here.
 *
 * With an identity domain the core leaves a device's DMA alone, so that the
 * device's own dma_map_ops, which come when its driver binds, are in charge.
 * No hardware is to be programmed: the host learns of a device by ATTACH.  The only
 * other domain is the one that blocks, where the core puts a device while it is
 * reset, and before it looks for a domain of VFIO's, of which there is none: no
 * driver uses the DMA API then.
 *
 * Two registrations.  The core looks for a device's IOMMU by the firmware node
 * that VIOT gave it; a device that VIOT does not name, as without VIOT or when
 * it is plugged in later, is offered to each IOMMU that has registered without one.
 * Both find the same operations, and all devices belong to the first.
 *
 * A device that has a driver already can't join a group: the core counts the users
 * of a group when a driver binds.  It joins when that driver has gone;
 * coiommu_iommu_adopt().
 */
#include <linux/iommu.h>
#include <linux/module.h>

#include "coiommu.h"
#include "coiommu_iommu.h"
#include "coiommu_rebind.h"
#include "compat/iommu.h"

/* Where devices write to make an interrupt (x86: the local APICs' doorbell). */
#define MSI_START	0xfee00000
#define MSI_SIZE	0x00100000

/*
 * The core calls operations without a pointer of ours, and a machine has one coIOMMU.
 * NULL unless a function is registered and not about to go.
 */
static struct coiommu *active;
static DEFINE_MUTEX(active_lock);	/* @active; held as long as it is used */

static void set_active(struct coiommu *coi)
{
	mutex_lock(&active_lock);
	active = coi;
	mutex_unlock(&active_lock);
}

/* DMA is coherent on x86. */
static bool capable_of(struct device *dev, enum iommu_cap cap)
{
	return cap == IOMMU_CAP_CACHE_COHERENCY;
}

/* The IOMMU of a device that the host tracks, or an error. */
static struct iommu_device *iommu_of(struct pci_dev *pdev)
{
	struct iommu_device *iommu = ERR_PTR(-ENODEV);

	mutex_lock(&active_lock);
	if (active && coiommu_endpoint_request(active, COIOMMU_OP_PROBE,
					       pdev) == COIOMMU_ST_OK)
		iommu = &active->iommu;
	mutex_unlock(&active_lock);
	return iommu;
}

/* Does the host track this device?  If so it gets a group. */
static struct iommu_device *probe_device(struct device *dev)
{
	struct iommu_device *iommu;

	if (!dev_is_pci(dev) || !compat_iommu_may_join(dev))
		return ERR_PTR(-ENODEV);
	iommu = iommu_of(to_pci_dev(dev));
	if (IS_ERR(iommu))
		return iommu;
	/*
	 * The core has taken a reference on this module for as long as the
	 * device exists: it could never be unloaded.  What must keep it is a
	 * driver that is bound, and for that there is hold() in
	 * coiommu_track.c; unloading takes all devices out of their groups.
	 * So give it back.  The caller holds what unloading waits for: the
	 * lock of the bus's notifiers, or our own probe.
	 */
	module_put(THIS_MODULE);
	return iommu;
}

/* The device leaves its group.  The core is about to drop its reference. */
static void release_device(struct device *dev)
{
	__module_get(THIS_MODULE);
}

static void get_resv_regions(struct device *dev, struct list_head *head)
{
	struct iommu_resv_region *region;

	region = iommu_alloc_resv_region(MSI_START, MSI_SIZE,
					 IOMMU_WRITE | IOMMU_NOEXEC |
					 IOMMU_MMIO, IOMMU_RESV_MSI,
					 GFP_KERNEL);
	if (region)
		list_add_tail(&region->list, head);
}

/* Identity, whatever the command line says. */
static int def_domain_type(struct device *dev)
{
	return IOMMU_DOMAIN_IDENTITY;
}

static const struct iommu_ops iommu_ops = {
	.capable		= capable_of,
	COMPAT_IOMMU_DOMAINS,
	.probe_device		= probe_device,
	.release_device		= release_device,
	.device_group		= pci_device_group,
	.get_resv_regions	= get_resv_regions,
	.def_domain_type	= def_domain_type,
	.owner			= THIS_MODULE,
};

static int register_both(struct coiommu *coi)
{
	struct device *dev = &coi->pdev->dev;
	int ret;

	ret = iommu_device_sysfs_add(&coi->iommu, dev, NULL, KBUILD_MODNAME);
	if (ret)
		return ret;
	/* Devices that VIOT names.  Without VIOT these are none. */
	ret = iommu_device_register(&coi->iommu, &iommu_ops, dev);
	if (ret)
		goto err_sysfs;
	/* All others. */
	ret = iommu_device_register(&coi->iommu_unnamed, &iommu_ops, NULL);
	if (ret)
		goto err_register;
	return 0;

err_register:
	iommu_device_unregister(&coi->iommu);
err_sysfs:
	compat_iommu_leave_buses(&iommu_ops);
	iommu_device_sysfs_remove(&coi->iommu);
	return ret;
}

/**
 * coiommu_iommu_init - register with the IOMMU core
 * @coi: the function, enabled and with its bus notifier in place, so that no
 *	device of a group can bind unseen
 *
 * Must be called from the function's own probe: the driver core looks again at
 * drivers that wait for us when that has succeeded.  Where the core refuses
 * us there are no groups, and devices are tracked all the same.
 */
void coiommu_iommu_init(struct coiommu *coi)
{
	int ret;

	set_active(coi);
	ret = register_both(coi);
	WRITE_ONCE(coi->registered, !ret);
	if (ret) {
		set_active(NULL);
		pci_warn(coi->pdev, "no IOMMU groups: error %d\n", ret);
	}
}

static bool in_our_group(struct coiommu *coi, struct device *dev)
{
	return dev->iommu_group && dev->iommu &&
	       dev->iommu->iommu_dev == &coi->iommu;
}

/*
 * Take a device out of its group.  The core counts the drivers of a group, and
 * warns if one is left: the device's lock keeps one from coming.  One that came
 * after coiommu_track_stop() has to go again.
 */
static void leave_group(struct coiommu *coi, struct pci_dev *pdev)
{
	struct device *dev = &pdev->dev;

	if (coiommu_endpoint_request(coi, COIOMMU_OP_PROBE, pdev) !=
	    COIOMMU_ST_OK)
		return;
	device_lock(dev);
	while (in_our_group(coi, dev) && dev->driver) {
		device_unlock(dev);
		coiommu_rebind_take(pdev);
		device_lock(dev);
	}
	if (in_our_group(coi, dev))
		iommu_group_remove_device(dev);
	device_unlock(dev);
}

/**
 * coiommu_iommu_exit - take all devices out of their groups
 * @coi: the function, after coiommu_track_stop()
 *
 * A device joins in a bus notifier, which coiommu_track_stop() has waited for,
 * or with its own lock held, when its driver binds, for which leave_group()
 * waits; and from here on none does.  Process context.
 */
void coiommu_iommu_exit(struct coiommu *coi)
{
	struct pci_dev *pdev = NULL;

	if (!coi->registered)
		return;
	coi->registered = false;
	set_active(NULL);
	for_each_pci_dev(pdev)
		leave_group(coi, pdev);
	/* No device belongs to this one, and no more are offered. */
	iommu_device_unregister(&coi->iommu_unnamed);
	iommu_device_unregister(&coi->iommu);
	compat_iommu_leave_buses(&iommu_ops);
	iommu_device_sysfs_remove(&coi->iommu);
}

/**
 * coiommu_iommu_adopt - put a device into a group that had a driver before us
 * @coi: the function
 * @pdev: a device that has no driver any more
 *
 * The core looks at all devices when an IOMMU is registered, and else only when a
 * device comes.  Does nothing for devices that are in a group or not tracked.
 * Process context; the caller may hold the device's lock, and must not hold coi->lock.
 * Must be called by our bus notifier only, which is unregistered before
 * coiommu_iommu_exit() runs.
 */
void coiommu_iommu_adopt(struct coiommu *coi, struct pci_dev *pdev)
{
	struct iommu_device again = { };

	if (READ_ONCE(coi->going) || !READ_ONCE(coi->registered) ||
	    device_iommu_mapped(&pdev->dev) ||
	    coiommu_endpoint_request(coi, COIOMMU_OP_PROBE, pdev) !=
	    COIOMMU_ST_OK)
		return;
	if (!iommu_device_register(&again, &iommu_ops, NULL))
		iommu_device_unregister(&again);
}
