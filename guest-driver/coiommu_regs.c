// SPDX-License-Identifier: GPL-2.0
/*
 * The function's registers: what it is, and the commands that start and stop it.
 *
 * A command is done when the write to its register is, and the device orders its own
 * accesses to memory.  Commands are given by probe, remove, shutdown and sleep, of
 * which the driver core runs one at a time, so there is no lock.
 */
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/io.h>

#include "coiommu.h"
#include "coiommu_regs.h"

/* Run a command; returns the device's status. */
static u32 command(struct coiommu *coi, u32 cmd)
{
	/* The device is done when the write is, and orders its own accesses. */
	writel(cmd, coi->regs + COIOMMU_REG_COMMAND);
	return readl(coi->regs + COIOMMU_REG_ERROR);
}

/**
 * coiommu_check_device - is this a device that the driver understands?
 * @coi: the function, with its registers mapped
 *
 * Returns 0, or -ENODEV after a line that says why not.
 */
int coiommu_check_device(struct coiommu *coi)
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
 * coiommu_disable - have the device forget table, endpoints and pins
 * @coi: the function; no tracked device does DMA any more
 */
void coiommu_disable(struct coiommu *coi)
{
	command(coi, COIOMMU_CMD_DISABLE);
}

/**
 * coiommu_enable - tell the device where table and request pages are, and start
 * @coi: the function; no entry of the table is PINNED
 *
 * No tracked device may do DMA meanwhile.  Any context that does not hold a request
 * page.  Returns 0, or -EIO after a line that says why.
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
	coiommu_disable(coi);
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
 * Keep a device from doing DMA.  Must not be pci_clear_master(), which has the PCI
 * core leave the bit off when the device thaws.
 */
static void clear_bus_master(struct pci_dev *pdev)
{
	u16 cmd;

	pci_read_config_word(pdev, PCI_COMMAND, &cmd);
	if (cmd & PCI_COMMAND_MASTER)
		pci_write_config_word(pdev, PCI_COMMAND,
				      cmd & ~PCI_COMMAND_MASTER);
}

/**
 * coiommu_quiesce - disable the device before the kernel goes
 * @coi: the function
 *
 * To be called when the drivers of the tracked devices have shut them down or put
 * them to sleep.  A driver that cannot do that leaves bus mastering on, so it is
 * switched off here: a device that goes on must not meet memory that is not pinned.
 * Process context; takes coi->lock.
 */
void coiommu_quiesce(struct coiommu *coi)
{
	struct coiommu_dev *cdev;

	mutex_lock(&coi->lock);
	list_for_each_entry(cdev, &coi->devices, node)
		if (cdev->attached)
			clear_bus_master(cdev->pdev);
	mutex_unlock(&coi->lock);
	coiommu_disable(coi);
}
