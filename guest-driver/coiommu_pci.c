// SPDX-License-Identifier: GPL-2.0
/*
 * coIOMMU: the PCI driver of the function that the host shows to the guest.
 *
 * The function tracks the DMA of assigned devices in a table in this guest's
 * memory, so that the host pins only what is in use.  This file finds the
 * function, agrees with it on version and features, gives it the table and the
 * request pages, and takes all of that back.
 */
#include <linux/cc_platform.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "coiommu.h"
#include "coiommu_version.h"

/* A machine has one table; who holds this has it. */
static atomic_t coiommu_present = ATOMIC_INIT(0);

/* Run a command; returns the device's status. */
static u32 command(struct coiommu *coi, u32 cmd)
{
	/* The device is done when the write is, and orders its own accesses. */
	writel(cmd, coi->regs + COIOMMU_REG_COMMAND);
	return readl(coi->regs + COIOMMU_REG_ERROR);
}

/* Is this a device that we understand?  Explains itself if not. */
static int check_device(struct coiommu *coi)
{
	struct pci_dev *pdev = coi->pdev;
	u32 magic = readl(coi->regs + COIOMMU_REG_MAGIC);
	u32 version = readl(coi->regs + COIOMMU_REG_VERSION);
	u32 shift = readl(coi->regs + COIOMMU_REG_UNIT_SHIFT);

	if (magic != COIOMMU_MAGIC) {
		pci_err(pdev, "not a coIOMMU: magic %#x\n", magic);
		return -ENODEV;
	}
	if (version >> 16 != COIOMMU_VERSION_MAJOR) {
		pci_err(pdev, "interface version %u.%u is not supported, only %u.x\n",
			version >> 16, version & 0xffff, COIOMMU_VERSION_MAJOR);
		return -ENODEV;
	}
	if (shift < COIOMMU_UNIT_SHIFT_MIN || shift > COIOMMU_UNIT_SHIFT_MAX) {
		pci_err(pdev, "tracking unit of 2^%u bytes is not supported\n",
			shift);
		return -ENODEV;
	}
	return 0;
}

/**
 * coiommu_enable - tell the device where table and request pages are, and start
 * @coi: the function; no entry of the table is PINNED
 *
 * No tracked device may be doing DMA.  Returns 0, or -EIO after a line that says
 * why.
 */
int coiommu_enable(struct coiommu *coi)
{
	struct coiommu_dtt *dtt = &coi->dtt;
	u64 features = (dtt->flag_accessed ? COIOMMU_F_ACCESSED : 0) |
		       (coi->slots.partial ? COIOMMU_F_PARTIAL : 0);
	u64 span = (u64)dtt->nleaves << (COIOMMU_DTT_LEAF_SHIFT +
					 dtt->unit_shift);
	void __iomem *regs = coi->regs;
	u32 status;

	/* A kernel before us may have left it enabled. */
	command(coi, COIOMMU_CMD_DISABLE);
	writeq(features, regs + COIOMMU_REG_DRIVER_FEATURES);
	writeq(virt_to_phys(dtt->dir), regs + COIOMMU_REG_DTT_ROOT);
	writeq(span, regs + COIOMMU_REG_DTT_SIZE);
	writeq(virt_to_phys(coi->slots.root), regs + COIOMMU_REG_REQ_ROOT);
	writel(coi->slots.count, regs + COIOMMU_REG_REQ_SLOTS);
	status = command(coi, COIOMMU_CMD_ENABLE);
	if (status != COIOMMU_ST_OK) {
		pci_err(coi->pdev, "the device refuses to start: %s (status %u)\n",
			coiommu_status_name(status), status);
		return -EIO;
	}
	return 0;
}

/*
 * Keep a device from doing DMA.  Not pci_clear_master(): the PCI core is to
 * switch it on again when the device thaws.
 */
static void mute(struct pci_dev *pdev)
{
	u16 cmd;

	pci_read_config_word(pdev, PCI_COMMAND, &cmd);
	if (cmd & PCI_COMMAND_MASTER)
		pci_write_config_word(pdev, PCI_COMMAND,
				      cmd & ~PCI_COMMAND_MASTER);
}

/**
 * coiommu_quiesce - have the device forget table, endpoints and pins
 * @coi: the function
 *
 * The tracked devices have been shut down or put to sleep by their drivers.  A
 * driver that cannot do that leaves bus mastering on, so it is switched off
 * here: whatever a device still does must not meet memory that is not pinned.
 * Process context.
 */
void coiommu_quiesce(struct coiommu *coi)
{
	struct coiommu_dev *cdev;

	mutex_lock(&coi->lock);
	list_for_each_entry(cdev, &coi->devices, node)
		if (cdev->attached)
			mute(cdev->pdev);
	mutex_unlock(&coi->lock);
	command(coi, COIOMMU_CMD_DISABLE);
}

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
	command(coi, COIOMMU_CMD_DISABLE);
	coiommu_mmio_free(&coi->mmio);
	coiommu_slots_free(&coi->slots);
	coiommu_dtt_free(&coi->dtt);
}

static int coiommu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct coiommu *coi;
	int ret;

	if (cc_platform_has(CC_ATTR_MEM_ENCRYPT)) {
		pci_err(pdev, "memory is encrypted: the host cannot read the table\n");
		return -ENODEV;
	}
	if (atomic_xchg(&coiommu_present, 1)) {
		pci_err(pdev, "a second coIOMMU cannot be used\n");
		return -EBUSY;
	}
	ret = -ENOMEM;
	coi = kzalloc(sizeof(*coi), GFP_KERNEL);
	if (!coi)
		goto err_present;
	coi->pdev = pdev;
	pci_set_drvdata(pdev, coi);

	ret = pci_enable_device_mem(pdev);
	if (ret)
		goto err_free;
	ret = pci_request_mem_regions(pdev, KBUILD_MODNAME);
	if (ret)
		goto err_disable;
	ret = -ENOMEM;
	coi->regs = pci_ioremap_bar(pdev, COIOMMU_BAR);
	if (!coi->regs)
		goto err_regions;
	ret = check_device(coi);
	if (ret)
		goto err_unmap;
	ret = start(coi);
	if (ret)
		goto err_unmap;
	pci_info(pdev, "version %s, interface %u.%u, unit %u KiB, pin block %u KiB, table for %llu MiB\n",
		 COIOMMU_RELEASE, readl(coi->regs + COIOMMU_REG_VERSION) >> 16,
		 readl(coi->regs + COIOMMU_REG_VERSION) & 0xffff,
		 1u << (coi->dtt.unit_shift - 10),
		 1u << (readl(coi->regs + COIOMMU_REG_BLOCK_SHIFT) - 10),
		 (u64)coi->dtt.nleaves << (COIOMMU_DTT_LEAF_SHIFT +
					   coi->dtt.unit_shift - 20));
	ret = coiommu_track_init(coi);
	if (ret)
		goto err_stop;
	coiommu_iommu_init(coi);
	coiommu_debugfs_init(coi);
	coiommu_rebind_start();
	return 0;

err_stop:
	stop(coi);
err_unmap:
	iounmap(coi->regs);
err_regions:
	pci_release_mem_regions(pdev);
err_disable:
	pci_disable_device(pdev);
err_free:
	kfree(coi);
err_present:
	atomic_set(&coiommu_present, 0);
	return ret;
}

/*
 * The order is that of coiommu_track.c: from the first step on no device is
 * tracked or joins a group, and the second must come before the third.
 */
static void coiommu_remove(struct pci_dev *pdev)
{
	struct coiommu *coi = pci_get_drvdata(pdev);

	coiommu_debugfs_exit(coi);
	coiommu_track_stop(coi);
	coiommu_iommu_exit(coi);
	coiommu_track_exit(coi);
	stop(coi);
	iounmap(coi->regs);
	pci_release_mem_regions(pdev);
	pci_disable_device(pdev);
	kfree(coi);
	atomic_set(&coiommu_present, 0);
}

/*
 * Before a kexec the host must forget the table: the next kernel uses the
 * memory for other things.  The tracked devices have been shut down before.
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
