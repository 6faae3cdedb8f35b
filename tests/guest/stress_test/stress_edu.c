// SPDX-License-Identifier: GPL-2.0
/*
 * The devices: two of QEMU's edu, each with a buffer of 4 KiB which it copies
 * to or from any DMA address.
 */
#define pr_fmt(fmt) "stress_test: " fmt

#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/slab.h>

#include "stress.h"

#define EDU_DMA_SRC	0x80
#define EDU_DMA_DST	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_CMD	0x98
#define EDU_CMD_START	BIT(0)
#define EDU_CMD_TO_RAM	BIT(1)
#define EDU_BUFFER	0x40000
#define EDU_SIZE	4096u

/* A copy takes 100 ms; a busy host takes longer. */
#define COPY_MS		60000

static unsigned int bits = 32;
module_param(bits, uint, 0444);
MODULE_PARM_DESC(bits, "width of the DMA mask");

struct stress_edu stress_edu[STRESS_DEVICES];

/* Have the device copy between its buffer and @addr. */
static bool have_copied(struct stress_edu *edu, dma_addr_t addr, size_t size,
			bool to_ram)
{
	int ms;

	writeq(to_ram ? EDU_BUFFER : addr, edu->regs + EDU_DMA_SRC);
	writeq(to_ram ? addr : EDU_BUFFER, edu->regs + EDU_DMA_DST);
	writeq(size, edu->regs + EDU_DMA_COUNT);
	writeq(EDU_CMD_START | (to_ram ? EDU_CMD_TO_RAM : 0),
	       edu->regs + EDU_DMA_CMD);
	for (ms = 0; ms < COPY_MS; ms += 20) {
		if (!(readq(edu->regs + EDU_DMA_CMD) & EDU_CMD_START))
			return true;
		msleep(20);
	}
	stress_fail("a copy by the device does not end");
	return false;
}

/* A stretch of the mapping: where the CPU and where the device has it. */
static size_t choose(struct stress_worker *w, struct stress_mapping *m,
		     u8 **cpu, dma_addr_t *addr)
{
	struct scatterlist *sg = m->table.sgl;
	size_t size = m->size;
	unsigned int offset, i;

	*cpu = m->cpu;
	*addr = m->addr;
	if (m->kind->list) {
		for (i = stress_below(w, m->table.nents); i; i--)
			sg = sg_next(sg);
		*cpu = sg_virt(sg);
		*addr = sg_dma_address(sg);
		size = sg_dma_len(sg);
	}
	offset = stress_below(w, size);
	*cpu += offset;
	*addr += offset;
	return min_t(size_t, size - offset, EDU_SIZE);
}

/**
 * stress_transfer - have the device read a part of a mapping and write it back
 * @w: whose mapping it is; its device is used by nobody else
 * @m: the mapping, in both directions
 *
 * Process context; takes at least 200 ms.  True if the data was right.
 */
bool stress_transfer(struct stress_worker *w, struct stress_mapping *m)
{
	struct stress_edu *edu = &stress_edu[m->index];
	u8 *data = kmalloc(EDU_SIZE, GFP_KERNEL);
	dma_addr_t addr;
	bool good = false;
	size_t size;
	u8 *cpu;

	if (!data)
		return false;
	size = choose(w, m, &cpu, &addr);
	prandom_bytes_state(&w->rng, data, size);
	memcpy(cpu, data, size);
	if (m->kind->sync)
		m->kind->sync(m, true);
	if (!have_copied(edu, addr, size, false))
		goto out;
	memset(cpu, 0, size);
	if (m->kind->sync)
		m->kind->sync(m, true);
	if (!have_copied(edu, addr, size, true))
		goto out;
	if (m->kind->sync)
		m->kind->sync(m, false);
	good = !memcmp(cpu, data, size);
	if (!good)
		stress_fail("%s: wrong data at %pad", m->kind->name, &addr);
out:
	kfree(data);
	return good;
}

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct stress_edu *edu = stress_edu;
	int ret;

	while (edu->pdev)
		if (++edu == stress_edu + STRESS_DEVICES)
			return -ENOSPC;
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	edu->regs = pcim_iomap(pdev, 0, 0);
	if (!edu->regs)
		return -ENOMEM;
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(bits));
	if (ret)
		return ret;
	dma_set_max_seg_size(&pdev->dev, UINT_MAX);
	pci_set_master(pdev);
	pci_set_drvdata(pdev, edu);
	edu->pdev = pdev;
	return 0;
}

static void edu_remove(struct pci_dev *pdev)
{
	struct stress_edu *edu = pci_get_drvdata(pdev);

	stress_unbound();
	pci_clear_master(pdev);
	edu->pdev = NULL;
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};
MODULE_DEVICE_TABLE(pci, edu_ids);

struct pci_driver stress_edu_driver = {
	.name		= KBUILD_MODNAME,
	.id_table	= edu_ids,
	.probe		= edu_probe,
	.remove		= edu_remove,
};
