// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A hostile guest: garbage for everything that the coIOMMU device reads.
 *
 * Loading the module makes so many "attacks", next to the driver, which knows
 * nothing of it and goes on serving its devices.  At random, it
 *
 *   - overwrites entries of the table, the directory and the slot array,
 *   - overwrites request pages, the driver's and its own, and rings,
 *   - reads and writes registers in every width, at every offset,
 *   - gives other tables and slot arrays and runs commands,
 *   - asks properly, too: enables, attaches, says that all memory is mapped, and
 *     pins as much of it as it can, so that the device is not refusing at the
 *     door all the time.
 *
 * An address of guest RAM that it puts in is one of its own pages, as the
 * device writes PINNED to what it takes for a leaf and a status to what it
 * takes for a request: a guest that corrupts its own kernel is dead before it
 * has tried much.  Pages that are read for addresses (the roots) are apart from
 * those that the device may write to, for the same reason.
 */
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/prandom.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "coiommu_abi.h"

/*
 * Of the roots only the first half is pointed at: a slot array has up to 32 KiB
 * from there on.
 */
#define ROOT_PAGES	32
#define PAGES		32

static unsigned int attacks = 20000;
module_param(attacks, uint, 0444);
MODULE_PARM_DESC(attacks, "how many");

static unsigned long seed = 1;
module_param(seed, ulong, 0444);
MODULE_PARM_DESC(seed, "of the random numbers");

/**
 * struct hostile - what there is to attack, and with what
 * @bar: address of BAR 0
 * @regs: the same, mapped
 * @dir_gpa: the driver's directory
 * @size: bytes that it tracks
 * @slots_gpa: the driver's slot array
 * @nslots: its length
 * @dir: the directory, mapped
 * @saved: what was in it
 * @nleaves: its length, as far as there are leaves
 * @slots: the slot array, mapped
 * @slot: what was in its first entry
 * @disk: the endpoint that is behind the device
 * @roots: pages that hold addresses
 * @pages: pages that hold anything
 * @rnd: the random numbers
 */
struct hostile {
	phys_addr_t bar;
	void __iomem *regs;
	u64 dir_gpa, size, slots_gpa;
	u32 nslots;
	__le64 *dir, *saved;
	u64 nleaves;
	__le64 *slots, slot;
	u32 disk;
	void *roots, *pages;
	struct rnd_state rnd;
};

static u32 any32(struct hostile *h)
{
	return prandom_u32_state(&h->rnd);
}

static u64 any64(struct hostile *h)
{
	return (u64)any32(h) << 32 | any32(h);
}

static u32 below(struct hostile *h, u32 end)
{
	return any32(h) % end;
}

static void *own_page(struct hostile *h)
{
	return h->pages + below(h, PAGES) * PAGE_SIZE;
}

/* An address that the device must not follow. */
static u64 bad_address(struct hostile *h)
{
	switch (below(h, 5)) {
	case 0:
		return 0xa0000 + (below(h, 0x60) << PAGE_SHIFT);
	case 1:
		return h->bar;
	case 2:
		return U64_MAX - below(h, 2 * PAGE_SIZE);
	case 3:
		return h->size + any32(h);
	default:
		return any64(h) | BIT_ULL(62);
	}
}

/* For an entry of a directory or of a slot array. */
static __le64 entry(struct hostile *h)
{
	u64 value = below(h, 3) ? virt_to_phys(own_page(h)) : bad_address(h);

	if (below(h, 4))
		value |= COIOMMU_DTT_DIR_PRESENT;
	return cpu_to_le64(value);
}

static u64 root(struct hostile *h)
{
	u64 offset = below(h, ROOT_PAGES / 2) << PAGE_SHIFT;

	if (!below(h, 3))
		return bad_address(h);
	if (!below(h, 4))
		offset += below(h, PAGE_SIZE);
	return virt_to_phys(h->roots) + offset;
}

/* ---- Tables ---- */

/* The driver's leaf, or NULL. */
static u32 *leaf(struct hostile *h, u64 i)
{
	u64 gpa = le64_to_cpu(h->saved[i]) & COIOMMU_DTT_DIR_ADDR_MASK;

	return gpa ? phys_to_virt(gpa) : NULL;
}

static void attack_leaf(struct hostile *h)
{
	u32 *entries = leaf(h, below(h, h->nleaves));
	u32 value = any32(h);

	/* Counts of 0, too, where devices use the memory. */
	if (below(h, 2))
		value &= ~COIOMMU_DTT_COUNT_MASK;
	if (entries)
		WRITE_ONCE(entries[below(h, COIOMMU_DTT_LEAF_ENTRIES)], value);
}

/* The same word for all memory: with a count nothing can be unpinned. */
static void fill_leaves(struct hostile *h, u32 value)
{
	u64 i;

	for (i = 0; i < h->nleaves; i++) {
		if (leaf(h, i))
			memset32(leaf(h, i), value, COIOMMU_DTT_LEAF_ENTRIES);
	}
}

static void attack_directory(struct hostile *h)
{
	u32 i = below(h, h->nleaves);

	WRITE_ONCE(h->dir[i], below(h, 2) ? entry(h) : h->saved[i]);
}

static void attack_slots(struct hostile *h)
{
	WRITE_ONCE(h->slots[0], below(h, 2) ? entry(h) : h->slot);
}

/* ---- Requests ---- */

static void fill_ranges(struct hostile *h, struct coiommu_request *req, u32 n)
{
	unsigned long ram = get_num_physpages();
	u32 i;

	for (i = 0; i < n; i++) {
		u64 gfn = below(h, ram), npages = 1 + below(h, 512);

		if (!below(h, 16))
			gfn = any64(h);
		if (!below(h, 16))
			npages = any64(h) >> below(h, 64);
		req->range[i].gfn = cpu_to_le64(gfn);
		req->range[i].npages = cpu_to_le64(npages);
	}
}

static void fill_request(struct hostile *h, struct coiommu_request *req)
{
	if (!below(h, 4)) {
		prandom_bytes_state(&h->rnd, req, sizeof(*req));
		return;
	}
	req->opcode = cpu_to_le32(below(h, 7));
	req->count = cpu_to_le32(below(h, COIOMMU_REQ_MAX_RANGES + 3));
	req->endpoint = cpu_to_le32(below(h, 2) ? h->disk : any32(h));
	fill_ranges(h, req, COIOMMU_REQ_MAX_RANGES);
}

static void attack_request(struct hostile *h)
{
	u64 gpa = le64_to_cpu(h->slot);

	fill_request(h, below(h, 4) ? own_page(h) : phys_to_virt(gpa));
	writel(below(h, 2) ? 0 : any32(h), h->regs + COIOMMU_REG_DOORBELL);
}

/* A request as it should be, in a page of our own. */
static void ask(struct hostile *h, u32 opcode, u32 count)
{
	struct coiommu_request *req = own_page(h);

	memset(req, 0, sizeof(*req));
	req->opcode = cpu_to_le32(opcode);
	req->count = cpu_to_le32(count);
	req->status = cpu_to_le32(COIOMMU_ST_PENDING);
	if (opcode == COIOMMU_OP_PIN)
		fill_ranges(h, req, count);
	else
		req->endpoint = cpu_to_le32(h->disk);
	WRITE_ONCE(h->slots[0], cpu_to_le64(virt_to_phys(req)));
	writel(0, h->regs + COIOMMU_REG_DOORBELL);
}

/* ---- Registers ---- */

/*
 * Accesses that the device must ignore, or answer harmlessly.  What makes it
 * use another table is in attack_command().
 */
static void attack_register(struct hostile *h)
{
	u32 offset = below(h, COIOMMU_BAR_SIZE);
	void __iomem *reg;

	if (below(h, 2))
		offset &= 0x7f;
	reg = h->regs + offset;
	switch (below(h, 6)) {
	case 0:
		writeb(any32(h), reg);
		break;
	case 1:
		readb(reg);
		break;
	case 2:
		readl(h->regs + (offset & ~3u));
		break;
	case 3:
		readq(h->regs + (offset & ~7u));
		break;
	case 4:
		writel(any32(h), h->regs + (offset & 0xc));
		break;
	default:
		writel(any32(h), h->regs + COIOMMU_REG_DOORBELL +
		       (offset & 0xffc));
	}
}

static void setup(struct hostile *h, u64 features, u64 dir, u64 size, u64 slots,
		  u32 nslots)
{
	writeq(features, h->regs + COIOMMU_REG_DRIVER_FEATURES);
	writeq(dir, h->regs + COIOMMU_REG_DTT_ROOT);
	writeq(size, h->regs + COIOMMU_REG_DTT_SIZE);
	writeq(slots, h->regs + COIOMMU_REG_REQ_ROOT);
	writel(nslots, h->regs + COIOMMU_REG_REQ_SLOTS);
}

/* Some of those that are offered. */
static u64 any_features(struct hostile *h)
{
	return any32(h) & (COIOMMU_F_ACCESSED | COIOMMU_F_PARTIAL);
}

static void attack_command(struct hostile *h)
{
	setup(h, below(h, 4) ? any_features(h) : any64(h), root(h),
	      below(h, 2) ? h->size : any64(h) >> below(h, 64), root(h),
	      below(h, 2) ? h->nslots : below(h, 2 * COIOMMU_SLOTS_MAX));
	writel(COIOMMU_CMD_DISABLE, h->regs + COIOMMU_REG_COMMAND);
	writel(below(h, 4) ? COIOMMU_CMD_ENABLE : any32(h),
	       h->regs + COIOMMU_REG_COMMAND);
	ask(h, COIOMMU_OP_ATTACH, 0);
	ask(h, COIOMMU_OP_PIN, COIOMMU_REQ_MAX_RANGES);
}

/* The driver's table, the disk attached, and as much pinned as goes. */
static void behave(struct hostile *h)
{
	int i;

	fill_leaves(h, below(h, 2));
	memcpy(h->dir, h->saved, h->nleaves * sizeof(*h->dir));
	setup(h, any_features(h), h->dir_gpa, h->size, h->slots_gpa,
	      h->nslots);
	writel(COIOMMU_CMD_ENABLE, h->regs + COIOMMU_REG_COMMAND);
	ask(h, COIOMMU_OP_ATTACH, 0);
	for (i = 0; i < 32; i++)
		ask(h, COIOMMU_OP_PIN, 1 + below(h, 4));
	WRITE_ONCE(h->slots[0], h->slot);
}

/* ---- All of it ---- */

static void attack(struct hostile *h)
{
	switch (below(h, 512)) {
	case 0:
		attack_command(h);
		break;
	case 1 ... 3:
		behave(h);
		break;
	case 4 ... 60:
		attack_directory(h);
		break;
	case 61 ... 120:
		attack_slots(h);
		break;
	case 121 ... 200:
		attack_register(h);
		break;
	case 201 ... 300:
		attack_request(h);
		break;
	default:
		attack_leaf(h);
	}
}

static void storm(struct hostile *h)
{
	unsigned long i;

	for (i = 0; i < ROOT_PAGES * PAGE_SIZE / sizeof(__le64); i++)
		((__le64 *)h->roots)[i] = entry(h);
	prandom_bytes_state(&h->rnd, h->pages, PAGES * PAGE_SIZE);
	for (i = 0; i < attacks; i++) {
		attack(h);
		cond_resched();
	}
}

/* Where the driver has its table and its slots, by the registers. */
static int find_tables(struct hostile *h)
{
	u32 shift = readl(h->regs + COIOMMU_REG_UNIT_SHIFT);

	if (!(readl(h->regs + COIOMMU_REG_STATUS) & COIOMMU_STATUS_ENABLED))
		return -ENODEV;
	h->dir_gpa = readq(h->regs + COIOMMU_REG_DTT_ROOT);
	h->size = readq(h->regs + COIOMMU_REG_DTT_SIZE);
	h->slots_gpa = readq(h->regs + COIOMMU_REG_REQ_ROOT);
	h->nslots = readl(h->regs + COIOMMU_REG_REQ_SLOTS);
	h->dir = phys_to_virt(h->dir_gpa);
	h->slots = phys_to_virt(h->slots_gpa);
	h->slot = h->slots[0];
	h->nleaves = h->size >> (COIOMMU_DTT_LEAF_SHIFT + shift);
	while (h->nleaves && !h->dir[h->nleaves - 1])
		h->nleaves--;
	if (!h->nleaves)
		return -ENODEV;
	h->saved = kmemdup(h->dir, h->nleaves * sizeof(*h->dir), GFP_KERNEL);
	return h->saved ? 0 : -ENOMEM;
}

static int attack_function(struct hostile *h, struct pci_dev *pdev)
{
	int ret = -ENOMEM;

	h->bar = pci_resource_start(pdev, COIOMMU_BAR);
	h->regs = ioremap(h->bar, COIOMMU_BAR_SIZE);
	h->roots = alloc_pages_exact(ROOT_PAGES * PAGE_SIZE, GFP_KERNEL);
	h->pages = alloc_pages_exact(PAGES * PAGE_SIZE, GFP_KERNEL);
	if (h->regs && h->roots && h->pages)
		ret = find_tables(h);
	if (!ret)
		storm(h);
	kfree(h->saved);
	/* The device may still write to the pages: they stay. */
	if (h->regs)
		iounmap(h->regs);
	return ret;
}

static int __init hostile_init(void)
{
	struct pci_dev *pdev, *disk;
	struct hostile *h;
	int ret = -ENODEV;

	h = kzalloc(sizeof(*h), GFP_KERNEL);
	if (!h)
		return -ENOMEM;
	prandom_seed_state(&h->rnd, seed);
	pdev = pci_get_device(COIOMMU_PCI_VENDOR_ID, COIOMMU_PCI_DEVICE_ID,
			      NULL);
	disk = pci_get_class(PCI_CLASS_STORAGE_EXPRESS, NULL);
	if (pdev && disk) {
		h->disk = COIOMMU_ENDPOINT(0, disk->bus->number, disk->devfn);
		ret = attack_function(h, pdev);
	}
	pci_dev_put(disk);
	pci_dev_put(pdev);
	kfree(h);
	return ret;
}
module_init(hostile_init);

MODULE_DESCRIPTION("Garbage for the coIOMMU device, for tests");
MODULE_LICENSE("GPL");
