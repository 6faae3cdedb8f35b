// SPDX-License-Identifier: GPL-2.0
/*
 * coIOMMU: the PCI driver of the function that the host shows to the guest.
 *
 * The function tracks the DMA of assigned devices in a table in this guest's
 * memory, so that the host pins only what is in use.  This file has the function's
 * life: probe makes what all other files work with and starts them in order, remove
 * stops them in the reverse order.  docs/devel/driver.md says what calls what.
 */
#include <linux/cc_platform.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "coiommu.h"
#include "coiommu_bus.h"
#include "coiommu_debugfs.h"
#include "coiommu_iommu.h"
#include "coiommu_pm.h"
#include "coiommu_ram.h"
#include "coiommu_rebind.h"
#include "coiommu_regs.h"
#include "coiommu_track.h"
#include "coiommu_version.h"

/* A machine has one table: set by the probe that gets it, cleared when that goes. */
static atomic_t coiommu_present = ATOMIC_INIT(0);

/* The memory that the device works on, and the device started on it. */
static int start(struct coiommu *coi)
{
	struct pci_dev *pdev = coi->pdev;
	u64 features = readq(coi->regs + COIOMMU_REG_DEVICE_FEATURES);
	u32 shift = readl(coi->regs + COIOMMU_REG_UNIT_SHIFT);
	u32 block_shift = readl(coi->regs + COIOMMU_REG_BLOCK_SHIFT);
	u32 max_slots = readl(coi->regs + COIOMMU_REG_MAX_SLOTS);
	int ret;

	ret = coiommu_dtt_init(&coi->dtt, shift, features & COIOMMU_F_ACCESSED,
			       readq(coi->regs + COIOMMU_REG_HOTPLUG_END));
	if (ret) {
		pci_err(pdev, "no memory for the table\n");
		return ret;
	}
	coi->ram_limit = coiommu_ram_limit();
	ret = coiommu_slots_init(&coi->slots,
				 coi->regs + COIOMMU_REG_DOORBELL, max_slots,
				 clamp(block_shift, shift, 63u),
				 features & COIOMMU_F_PARTIAL);
	if (ret) {
		pci_err(pdev, "no request pages for %u CPUs (the device takes %u)\n",
			nr_cpu_ids, max_slots);
		goto err_dtt;
	}
	ret = coiommu_mmio_init(&coi->mmio);
	if (!ret)
		ret = coiommu_enable(coi);
	if (ret)
		goto err_slots;
	return 0;

err_slots:
	coiommu_mmio_free(&coi->mmio);
	coiommu_slots_free(&coi->slots);
err_dtt:
	coiommu_dtt_free(&coi->dtt);
	return ret;
}

static void stop(struct coiommu *coi)
{
	coiommu_disable(coi);
	coiommu_mmio_free(&coi->mmio);
	coiommu_slots_free(&coi->slots);
	coiommu_dtt_free(&coi->dtt);
}

/* Map the registers of a device that the driver understands. */
static int open_device(struct coiommu *coi)
{
	struct pci_dev *pdev = coi->pdev;
	int ret;

	ret = pci_enable_device_mem(pdev);
	if (ret)
		return ret;
	ret = pci_request_mem_regions(pdev, KBUILD_MODNAME);
	if (ret)
		goto err_disable;
	ret = -ENOMEM;
	coi->regs = pci_ioremap_bar(pdev, COIOMMU_BAR);
	if (!coi->regs)
		goto err_regions;
	ret = coiommu_check_device(coi);
	if (ret)
		goto err_unmap;
	return 0;

err_unmap:
	iounmap(coi->regs);
err_regions:
	pci_release_mem_regions(pdev);
err_disable:
	pci_disable_device(pdev);
	return ret;
}

static void close_device(struct coiommu *coi)
{
	iounmap(coi->regs);
	pci_release_mem_regions(coi->pdev);
	pci_disable_device(coi->pdev);
}

static void report_started(struct coiommu *coi)
{
	u32 version = readl(coi->regs + COIOMMU_REG_VERSION);
	u32 block_shift = readl(coi->regs + COIOMMU_REG_BLOCK_SHIFT);

	pci_info(coi->pdev, "version %s, interface %u.%u, unit %u KiB, pin block %u KiB, table for %llu MiB\n",
		 COIOMMU_RELEASE, version >> 16, version & 0xffff,
		 1u << (coi->dtt.unit_shift - 10), 1u << (block_shift - 10),
		 (u64)coi->dtt.nleaves << (COIOMMU_DTT_LEAF_SHIFT +
					   coi->dtt.unit_shift - 20));
}

/* Make and start all that works on an open device. */
static int start_all(struct coiommu *coi)
{
	int ret = start(coi);

	if (ret)
		return ret;
	report_started(coi);
	coiommu_track_init(coi);
	ret = coiommu_bus_init(coi);
	if (ret) {
		stop(coi);
		return ret;
	}
	coiommu_iommu_init(coi);
	coiommu_debugfs_init(coi);
	coiommu_rebind_start();
	return 0;
}

static int coiommu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct coiommu *coi;
	int ret = -ENOMEM;

	if (cc_platform_has(CC_ATTR_MEM_ENCRYPT)) {
		pci_err(pdev, "memory is encrypted: the host cannot read the table\n");
		return -ENODEV;
	}
	if (atomic_xchg(&coiommu_present, 1)) {
		pci_err(pdev, "a second coIOMMU cannot be used\n");
		return -EBUSY;
	}
	coi = kzalloc(sizeof(*coi), GFP_KERNEL);
	if (!coi)
		goto err_present;
	coi->pdev = pdev;
	pci_set_drvdata(pdev, coi);
	ret = open_device(coi);
	if (ret)
		goto err_free;
	ret = start_all(coi);
	if (ret)
		goto err_close;
	return 0;

err_close:
	close_device(coi);
err_free:
	kfree(coi);
err_present:
	atomic_set(&coiommu_present, 0);
	return ret;
}

/*
 * The order is that of coiommu_track.c, and must stay: after the first step no
 * device is attached or joins a group, after the second no notifier runs.
 */
static void coiommu_remove(struct pci_dev *pdev)
{
	struct coiommu *coi = pci_get_drvdata(pdev);

	coiommu_debugfs_exit(coi);
	coiommu_track_stop(coi);
	coiommu_bus_exit(coi);
	coiommu_iommu_exit(coi);
	coiommu_track_exit(coi);
	stop(coi);
	close_device(coi);
	kfree(coi);
	atomic_set(&coiommu_present, 0);
}

/*
 * Before a kexec the host must forget the table: the next kernel uses the memory for
 * other things.  The driver core has shut the tracked devices down before, as they
 * are linked to this one.
 */
static void coiommu_shutdown(struct pci_dev *pdev)
{
	coiommu_quiesce(pci_get_drvdata(pdev));
}

static const struct pci_device_id coiommu_ids[] = {
	{ PCI_DEVICE(COIOMMU_PCI_VENDOR_ID, COIOMMU_PCI_DEVICE_ID) },
	{ }
};
MODULE_DEVICE_TABLE(pci, coiommu_ids);

static struct pci_driver coiommu_driver = {
	.name		= KBUILD_MODNAME,
	.id_table	= coiommu_ids,
	.probe		= coiommu_probe,
	.remove		= coiommu_remove,
	.shutdown	= coiommu_shutdown,
	.driver.pm	= pm_sleep_ptr(&coiommu_pm_ops),
};

static int __init coiommu_init(void)
{
	return pci_register_driver(&coiommu_driver);
}
module_init(coiommu_init);

static void __exit coiommu_exit(void)
{
	pci_unregister_driver(&coiommu_driver);
	coiommu_rebind_exit();
}
module_exit(coiommu_exit);

MODULE_DESCRIPTION("coIOMMU: cooperative DMA tracking for assigned devices");
MODULE_AUTHOR("The coIOMMU project");
MODULE_LICENSE("GPL");
MODULE_VERSION(COIOMMU_RELEASE);
