/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The two structures that the files of the driver share: the function, and a device
 * that is tracked.  The functions of FILE.c are declared in FILE.h.  The device's
 * registers and the formats in memory are in coiommu_abi.h, which the device includes
 * too.
 */
#ifndef COIOMMU_H
#define COIOMMU_H

#include <linux/device.h>
#include <linux/iommu.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/pci.h>
#include <linux/types.h>
#include <linux/workqueue.h>

#include "coiommu_abi.h"
#include "coiommu_dtt.h"
#include "coiommu_mmio.h"
#include "coiommu_request.h"
#include "compat/compat.h"

struct coiommu_books;

/**
 * struct coiommu - one coIOMMU function, from probe to remove
 * @pdev: the function
 * @regs: BAR 0
 * @dtt: the table
 * @ram_limit: devices are given no memory above this address; U64_MAX: all of it
 * @mmio: what is no memory
 * @slots: the request pages
 * @pci_nb: learns of drivers that bind to PCI devices
 * @platform_nb: of those that bind to platform devices
 * @auxiliary_nb: of those that bind to auxiliary devices
 * @lock: protects @devices and all of struct coiommu_dev that map and unmap do not
 *	read.  Taken in process context, inside the lock of the device that binds or
 *	unbinds; a thread that holds it must not take a device's lock.
 * @going: the function is being unbound: no device is tracked any more, or
 *	joins a group.  Set once, with @lock held.
 * @devices: struct coiommu_dev: each device to which a driver has bound since probe,
 *	as long as it exists
 * @iommu: registered with the IOMMU core for devices that VIOT names; the one
 *	that all devices belong to
 * @iommu_unnamed: registered for all other devices
 * @forget: forgets what is counted some time after the last DETACH
 * @reap: looks for removed devices that have come to their end
 * @registered: both are; used by the threads of probe and remove only
 * @debugfs: the folder of the counters
 */
struct coiommu {
	struct pci_dev *pdev;
	void __iomem *regs;
	struct coiommu_dtt dtt;
	u64 ram_limit;
	struct coiommu_mmio mmio;
	struct coiommu_slots slots;
	struct notifier_block pci_nb;
	struct notifier_block platform_nb;
	struct notifier_block auxiliary_nb;
	struct mutex lock;	/* @devices and their state */
	bool going;
	struct list_head devices;
	struct delayed_work forget;
	struct delayed_work reap;
	struct iommu_device iommu;
	struct iommu_device iommu_unnamed;
	bool registered;
	struct dentry *debugfs;
};

/**
 * struct coiommu_dev - a struct device whose mappings are counted
 *
 * That is a PCI function which the host tracks, or a child that maps for one
 * (coiommu_children.c).
 *
 * @coi: the function in whose table the device's DMA is counted
 * @direct_last: memory up to this address needs no call of the shadow if it is
 *	within the device's mask: the shadow's bus limit, or 0 if there is a range map or
 *	everything is bounced.  Written at bind only.
 * @shadowed: the shadow has state that unmap and sync must take it to; see
 *	coiommu_dma_shadowed().  Never cleared.
 * @ops: the device's own operations: dev->dma_ops points here, so the context
 *	is found without a lookup
 * @max_mapping: the device's limit for one mapping, in bytes
 * @shadow: a device without ops on which the kernel's own dma-direct and
 *	swiotlb do what we do not do inline; owns this structure
 * @books: its mappings, one by one, or NULL; see coiommu_books.c.  Written
 *	without a driver only; a booked device is shadowed.
 * @saturated: the log has a line about a saturated count
 * @dev: the device; a reference is held
 * @pdev: the PCI function that does the DMA: @dev, or its ancestor
 * @function: the context of the PCI function that does the DMA, to whose shadow
 *	a reference is held; for the function itself this structure, without one
 * @node: in coiommu::devices
 * @held: a driver is bound or about to be; a module reference, and for a
 *	function a device link, are held
 * @attached: between ATTACH and DETACH; false for a child
 * @given_up: no longer attached, though its driver is bound
 * @removed: unplugged; kept for unmaps that come late
 * @suspect: has been attached since the table was last known to be empty
 * @reported_reason: why it was not tracked when a driver was last about to bind, or
 *	NULL; the log has a line for it
 * @was_master: its last driver had left bus mastering on
 *
 * What each map and unmap needs comes first, to share a cache line.
 */
struct coiommu_dev {
	struct coiommu *coi;
	u64 direct_last;
	bool shadowed;
	struct dma_map_ops ops;
	size_t max_mapping;
	struct device shadow;
	struct coiommu_books *books;
	bool saturated;
	struct device *dev;
	struct pci_dev *pdev;
	struct coiommu_dev *function;
	struct list_head node;
	bool held;
	bool attached;
	bool given_up;
	bool removed;
	bool suspect;
	bool was_master;
	const char *reported_reason;
};

static inline bool coiommu_is_child(const struct coiommu_dev *cdev)
{
	return cdev->function != cdev;
}

#endif /* COIOMMU_H */
