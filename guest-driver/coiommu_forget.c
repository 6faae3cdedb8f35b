// SPDX-License-Identifier: GPL-2.0
/*
 * What is left behind: counts that no driver takes back, and devices that have been
 * unplugged.
 *
 * Some counts are never taken back, because of a driver's bug.  The table does not
 * tell which device has made a count, so they are forgotten when none is attached:
 * FORGET_DELAY after the last DETACH, to let late unmaps come first, and at once
 * if a count is saturated.  An unmap that comes later still must not take the
 * count of a new mapping: from then on the devices from which it can come are
 * booked (coiommu_books.c).  What a booked device leaves behind is taken back when
 * its driver goes.
 *
 * An unplugged device keeps its operations, so that late unmaps take their counts
 * back, until only our own reference keeps it.  No event tells of the last
 * reference, so a work item looks at each REAP_INTERVAL.
 */
#include <linux/workqueue.h>

#include "coiommu.h"
#include "coiommu_books.h"
#include "coiommu_context.h"
#include "coiommu_dma.h"
#include "coiommu_forget.h"

/* In jiffies. */
#define REAP_INTERVAL	HZ
#define FORGET_DELAY	(5 * HZ)

/* Is there a device that is attached, or has a driver whose maps are counted? */
static bool any_counted(struct coiommu *coi)
{
	struct coiommu_dev *cdev;

	list_for_each_entry(cdev, &coi->devices, node)
		if (cdev->attached || cdev->given_up ||
		    (coiommu_is_child(cdev) && cdev->held))
			return true;
	return false;
}

/* Have each device booked from which an unmap may come late.  0 or -ENOMEM. */
static int book_suspects(struct coiommu *coi)
{
	struct coiommu_dev *cdev;
	int ret = 0;

	list_for_each_entry(cdev, &coi->devices, node)
		if (cdev->suspect && !ret)
			ret = coiommu_dma_book(cdev);
	return ret;
}

static void clear_suspects(struct coiommu *coi)
{
	struct coiommu_dev *cdev;

	list_for_each_entry(cdev, &coi->devices, node)
		cdev->suspect = false;
}

/**
 * coiommu_forget_counts - take back what no driver will
 * @coi: the function
 *
 * Does nothing while a device is counted.  What is left would be pinned as long as
 * another device is attached.  Process context; the caller must hold coi->lock.
 */
void coiommu_forget_counts(struct coiommu *coi)
{
	lockdep_assert_held(&coi->lock);
	if (any_counted(coi))
		return;
	if (!coiommu_dtt_mappings(&coi->dtt)) {
		clear_suspects(coi);
		return;
	}
	if (book_suspects(coi))
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
	coiommu_forget_counts(coi);
	mutex_unlock(&coi->lock);
}

/* Take back what the driver of a booked device has left. */
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

/**
 * coiommu_forget_soon - a counted device has no driver any more
 * @cdev: its context
 *
 * It may have been the last one.  The caller must hold coi->lock.
 */
void coiommu_forget_soon(struct coiommu_dev *cdev)
{
	struct coiommu *coi = cdev->coi;

	lockdep_assert_held(&coi->lock);
	close_books(cdev);
	if (READ_ONCE(coi->dtt.saturated))
		coiommu_forget_counts(coi);
	mod_delayed_work(system_wq, &coi->forget, FORGET_DELAY);
}

/**
 * coiommu_forget_cancel - wait for the work item, which does not come again
 * @coi: the function, without a device; coi->lock must not be held
 */
void coiommu_forget_cancel(struct coiommu *coi)
{
	cancel_delayed_work_sync(&coi->forget);
}

/* Does anything but us keep an unplugged device?  Only that can unmap. */
static bool is_used(const struct coiommu_dev *cdev)
{
	return kref_read(&cdev->dev->kobj.kref) > 1;
}

/* Drop unplugged devices that are not used any more.  Returns whether some are left. */
static bool drop_unused(struct coiommu *coi)
{
	struct coiommu_dev *cdev, *next;
	bool left = false;

	list_for_each_entry_safe(cdev, next, &coi->devices, node) {
		if (!cdev->removed)
			continue;
		if (is_used(cdev))
			left = true;
		else
			coiommu_dev_drop(cdev);
	}
	return left;
}

static void reap(struct work_struct *work)
{
	struct coiommu *coi = container_of(to_delayed_work(work),
					   struct coiommu, reap);
	bool left;

	mutex_lock(&coi->lock);
	left = drop_unused(coi);
	/* With the last device its unmaps are over. */
	if (list_empty(&coi->devices))
		coiommu_forget_counts(coi);
	mutex_unlock(&coi->lock);
	if (left)
		schedule_delayed_work(&coi->reap, REAP_INTERVAL);
}

/**
 * coiommu_reap_soon - look for unplugged devices that are not used any more
 * @coi: the function
 */
void coiommu_reap_soon(struct coiommu *coi)
{
	schedule_delayed_work(&coi->reap, 0);
}

/**
 * coiommu_reap_cancel - wait for the work item, which does not come again
 * @coi: the function, without notifiers; coi->lock must not be held
 */
void coiommu_reap_cancel(struct coiommu *coi)
{
	cancel_delayed_work_sync(&coi->reap);
}

/**
 * coiommu_forget_init - make the work items
 * @coi: the function
 */
void coiommu_forget_init(struct coiommu *coi)
{
	INIT_DELAYED_WORK(&coi->forget, forget);
	INIT_DELAYED_WORK(&coi->reap, reap);
}
