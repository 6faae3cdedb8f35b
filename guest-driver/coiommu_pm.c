// SPDX-License-Identifier: GPL-2.0
/*
 * Sleep: suspend to idle, suspend to RAM (S3), hibernation (S4).
 *
 * What the machine loses.  Waking up from S3 or S4 is a reset for the host's
 * devices: ours has forgotten table, request pages, attached endpoints and
 * everything that was pinned, and has not touched guest memory.  The drivers of
 * the tracked devices don't notice.  Their rings and buffers are still
 * mapped, counted in the table, and are used again as soon as the devices are
 * back.  So before the first of them resumes all of that is told anew, and what
 * has a count is pinned.  After suspend to idle, and after
 * a sleep that is broken off before the machine sleeps (pm_test), the device says that
 * it is still enabled, and all is left as it is.
 *
 * Order.  A device link makes us the supplier of each tracked device: it sleeps
 * before us and wakes after us.  It must all be done in the "noirq" phase,
 * because that is where the PCI core gives devices back their power and their
 * configuration, bus mastering included.  One more thing must be before us: the
 * host finds an endpoint by the bus numbers in the bridges above it, which the
 * PCI core restores in the same phase.  So we are made a consumer of those
 * bridges; coiommu_pm_link().
 *
 * Which frames.  The count says that something in a unit is mapped, not what.  A
 * unit may hold frames that are no RAM, for which the host would refuse the
 * whole request.  So all frames of the unit that are RAM which the kernel knows are
 * asked for, and as the host pins whole blocks it hardly ever pins more than what it
 * had pinned before.  What is counted then and not PINNED is RAM that the kernel does
 * not know (coiommu_mmio.c): all of the unit is asked for.
 *
 * Hints.  No entry may say PINNED when the host is told of the table, and those
 * from before the sleep do: they are cleared first.  A map that comes between
 * finds PINNED clear, and is refused by a device that is not enabled: drivers
 * whose devices are asleep do not map.
 *
 * Hibernation writes memory to a disk between freeze and thaw, and the kernel
 * that reads it back, which may have this driver as well, freezes its devices
 * before it overwrites itself.  The host must not write to a table then that is
 * being overwritten: it is told to forget it at freeze.  The image that is read
 * back thaws with nothing pinned, as after S3.
 */
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/pm.h>
#include <linux/sched.h>

#include "coiommu.h"
#include "coiommu_pm.h"
#include "coiommu_ram.h"
#include "coiommu_regs.h"

/**
 * coiommu_pm_link - wake up after the bridge above a device
 * @coi: the function
 * @pdev: a device that is about to be tracked
 *
 * Bridges further up wake before it anyway.  Process context.  Returns whether it
 * could be done; if so the caller must call coiommu_pm_unlink() in the end.
 */
bool coiommu_pm_link(struct coiommu *coi, struct pci_dev *pdev)
{
	struct pci_dev *bridge = pci_upstream_bridge(pdev);

	/* Stateless: it counts how often it is added, and orders, no more. */
	return !bridge || device_link_add(&coi->pdev->dev, &bridge->dev,
					  DL_FLAG_STATELESS);
}

/**
 * coiommu_pm_unlink - undo coiommu_pm_link()
 * @coi: the function
 * @pdev: the device, still in its place
 */
void coiommu_pm_unlink(struct coiommu *coi, struct pci_dev *pdev)
{
	struct pci_dev *bridge = pci_upstream_bridge(pdev);

	if (bridge)
		device_link_remove(&coi->pdev->dev, &bridge->dev);
}

#ifdef CONFIG_PM_SLEEP

/* The host does not know of the table, so only this CPU writes to the flag. */
static void clear_pinned(struct coiommu_dtt *dtt)
{
	u64 unit, units = (u64)dtt->nleaves << COIOMMU_DTT_LEAF_SHIFT;

	for (unit = 0; unit < units; unit++) {
		atomic_t *entry = coiommu_dtt_entry(dtt, unit);

		if (!entry)
			unit |= COIOMMU_LEAF_MASK;
		else if (atomic_read(entry) & COIOMMU_DTT_PINNED)
			atomic_andnot(COIOMMU_DTT_PINNED, entry);
	}
}

/**
 * struct wakeup - what telling the host again has come to
 * @coi: the function
 * @attached: devices that are attached again
 * @error: the first failure, or 0; each has its line in the log
 */
struct wakeup {
	struct coiommu *coi;
	unsigned int attached;
	int error;
};

/* The caller must hold coi->lock. */
static void attach_again(struct wakeup *wakeup)
{
	struct coiommu_dev *cdev;

	lockdep_assert_held(&wakeup->coi->lock);
	list_for_each_entry(cdev, &wakeup->coi->devices, node) {
		u32 status;

		if (!cdev->attached)
			continue;
		status = coiommu_endpoint_request(wakeup->coi,
						  COIOMMU_OP_ATTACH,
						  cdev->pdev);
		if (status == COIOMMU_ST_OK) {
			wakeup->attached++;
			continue;
		}
		pci_err(cdev->pdev, "coiommu: not tracked after sleep: %s (status %u)\n",
			coiommu_status_name(status), status);
		wakeup->error = -EIO;
	}
}

static u64 leaf_bytes(const struct coiommu_dtt *dtt)
{
	return (u64)COIOMMU_DTT_LEAF_ENTRIES << dtt->unit_shift;
}

/*
 * Have [addr, end) pinned where it is counted, leaf by leaf; the caller may sleep.  A
 * failure does not keep the rest of the machine from working.
 */
static void pin_range(struct wakeup *wakeup, u64 addr, u64 end)
{
	struct coiommu *coi = wakeup->coi;

	while (addr < end) {
		u64 stop = min(end, ALIGN(addr + 1, leaf_bytes(&coi->dtt)));
		int ret = coiommu_pin(coi, addr, stop - addr);

		wakeup->error = wakeup->error ?: ret;
		addr = stop;
		cond_resched();
	}
}

static int pin_ram(struct resource *res, void *arg)
{
	pin_range(arg, ALIGN(res->start, PAGE_SIZE),
		  ALIGN_DOWN(res->end + 1, PAGE_SIZE));
	return 0;
}

static void pin_counted(struct wakeup *wakeup)
{
	struct coiommu_dtt *dtt = &wakeup->coi->dtt;

	coiommu_ram_walk(wakeup, pin_ram);
	pin_range(wakeup, 0, dtt->nleaves * leaf_bytes(dtt));
}

/* Tell the host again what it has forgotten. */
static int coiommu_resume_noirq(struct device *dev)
{
	struct coiommu *coi = dev_get_drvdata(dev);
	struct wakeup wakeup = { .coi = coi };
	int ret;

	if (readl(coi->regs + COIOMMU_REG_STATUS) & COIOMMU_STATUS_ENABLED)
		return 0;
	clear_pinned(&coi->dtt);
	ret = coiommu_enable(coi);
	if (ret)
		return ret;
	mutex_lock(&coi->lock);
	attach_again(&wakeup);
	mutex_unlock(&coi->lock);
	/* Without an endpoint no memory can be pinned, nor needs to be. */
	if (wakeup.attached)
		pin_counted(&wakeup);
	return wakeup.error;
}

static int coiommu_freeze_noirq(struct device *dev)
{
	coiommu_quiesce(dev_get_drvdata(dev));
	return 0;
}

const struct dev_pm_ops coiommu_pm_ops = {
	.resume_noirq	= coiommu_resume_noirq,
	.freeze_noirq	= coiommu_freeze_noirq,
	.thaw_noirq	= coiommu_resume_noirq,
	.restore_noirq	= coiommu_resume_noirq,
};

#endif /* CONFIG_PM_SLEEP */
