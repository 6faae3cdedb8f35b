// SPDX-License-Identifier: GPL-2.0
/*
 * Devices that lose their drivers because coIOMMU goes, and get them again.
 *
 * A device that is tracked can't keep its driver when coIOMMU's function is
 * removed or unbound: its mappings are counted in a table that is about to be
 * freed, and the IOMMU core wants no driver in a group that goes.  The remove
 * callback calls coiommu_rebind_take() for each such device, which says so in
 * the log, unbinds it, and notes it here.  When a coIOMMU function has been
 * bound again, a work item lets the driver core look for drivers for them, as a
 * write to drivers_probe does.
 *
 * The list belongs to the module and not to a function, so that it outlives the
 * function, and so that the remove callback need not wait for the work: a
 * driver's probe may want locks that the thread which removes us holds.
 * Unloading the module forgets the list.
 */
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "coiommu_rebind.h"

/**
 * struct taken - a device that has lost its driver to coiommu_rebind_take()
 * @node: in taken_list
 * @pdev: the device; a reference is held
 */
struct taken {
	struct list_head node;
	struct pci_dev *pdev;
};

static LIST_HEAD(taken_list);
static DEFINE_MUTEX(taken_lock);	/* taken_list */

/* The first device of the list, or NULL; the caller must drop its reference. */
static struct pci_dev *taken_pop(void)
{
	struct pci_dev *pdev = NULL;
	struct taken *taken;

	mutex_lock(&taken_lock);
	taken = list_first_entry_or_null(&taken_list, struct taken, node);
	if (taken) {
		pdev = taken->pdev;
		list_del(&taken->node);
	}
	mutex_unlock(&taken_lock);
	kfree(taken);
	return pdev;
}

static void rebind(struct work_struct *work)
{
	struct pci_dev *pdev;

	while ((pdev = taken_pop())) {
		/* Leaves a device alone that has gone, or has a driver. */
		if (!device_attach(&pdev->dev))
			pci_warn(pdev, "coiommu: no driver has taken the device back\n");
		pci_dev_put(pdev);
	}
}

static DECLARE_WORK(rebind_work, rebind);

/**
 * coiommu_rebind_take - unbind a device until coIOMMU is back
 * @pdev: a device that may have a driver
 *
 * Process context; the caller must hold neither the device's lock nor coi->lock, and
 * must not be a bus notifier.
 */
void coiommu_rebind_take(struct pci_dev *pdev)
{
	struct taken *taken = kzalloc(sizeof(*taken), GFP_KERNEL);

	pci_warn(pdev, "coiommu: taken from its driver, as coIOMMU is being unbound; it gets a driver again when coIOMMU does\n");
	device_release_driver(&pdev->dev);
	if (!taken)
		return;
	taken->pdev = pci_dev_get(pdev);
	mutex_lock(&taken_lock);
	list_add_tail(&taken->node, &taken_list);
	mutex_unlock(&taken_lock);
}

/**
 * coiommu_rebind_start - look for drivers for what was taken before
 *
 * To be called at the end of a function's probe.  Does not wait.
 */
void coiommu_rebind_start(void)
{
	schedule_work(&rebind_work);
}

/**
 * coiommu_rebind_exit - forget what was taken
 *
 * To be called when the module is unloaded and no function is left.
 */
void coiommu_rebind_exit(void)
{
	struct pci_dev *pdev;

	cancel_work_sync(&rebind_work);
	while ((pdev = taken_pop()))
		pci_dev_put(pdev);
}
