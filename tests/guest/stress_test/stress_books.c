// SPDX-License-Identifier: GPL-2.0
/*
 * The checker's own books: for each tracking unit how many of our mappings
 * touch it.  They are compared with the table as the device sees it, found
 * through the device's registers and read as the specification says; nothing
 * of the driver is asked.  Only the stress's devices may be tracked.
 *
 * A mapping is entered after it was made and struck out before it is undone,
 * so the books never say more than the table has to, and the same when nobody
 * is mapping.
 */
#define pr_fmt(fmt) "stress_test: " fmt

#include <linux/delay.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/io.h>
#include <linux/vmalloc.h>

#include "coiommu_abi.h"
#include "stress.h"

/* How long the host may take to set PINNED again that it has tried to clear. */
#define PINNED_MS	20000

static atomic_t *books;
static const __le64 *dir;
static u64 units;
static unsigned int unit_shift;

/**
 * stress_books_open - find the table, and begin books for it
 *
 * Process context.  The driver must be bound to the function.
 */
int stress_books_open(void)
{
	struct pci_dev *pdev = pci_get_device(COIOMMU_PCI_VENDOR_ID,
					      COIOMMU_PCI_DEVICE_ID, NULL);
	void __iomem *regs;
	u64 root, size;
	u32 status;

	regs = pdev ? pci_ioremap_bar(pdev, COIOMMU_BAR) : NULL;
	pci_dev_put(pdev);
	if (!regs)
		return -ENODEV;
	unit_shift = readl(regs + COIOMMU_REG_UNIT_SHIFT);
	status = readl(regs + COIOMMU_REG_STATUS);
	root = readq(regs + COIOMMU_REG_DTT_ROOT);
	size = readq(regs + COIOMMU_REG_DTT_SIZE);
	iounmap(regs);
	if (!(status & COIOMMU_STATUS_ENABLED))
		return -ENODEV;
	dir = phys_to_virt(root);
	units = size >> unit_shift;
	books = vzalloc(units * sizeof(*books));
	return books ? 0 : -ENOMEM;
}

void stress_books_close(void)
{
	vfree(books);
	books = NULL;
}

/* The entry of a unit: 0 where the table has no leaf. */
static u32 entry(u64 unit)
{
	u64 leaf = le64_to_cpu(READ_ONCE(dir[unit >> COIOMMU_DTT_LEAF_SHIFT]));
	const __le32 *entries;

	if (!(leaf & COIOMMU_DTT_DIR_PRESENT))
		return 0;
	entries = phys_to_virt(leaf & COIOMMU_DTT_DIR_ADDR_MASK);
	return le32_to_cpu(READ_ONCE(entries[unit &
					     (COIOMMU_DTT_LEAF_ENTRIES - 1)]));
}

/*
 * Who has mapped a unit may count on PINNED, but for the moment in which the
 * host clears it, looks at the count, and sets it again.
 */
static void wait_pinned(u64 unit)
{
	int ms;

	for (ms = 0; ms < PINNED_MS; ms++) {
		if (entry(unit) & COIOMMU_DTT_PINNED)
			return;
		usleep_range(1000, 1100);
	}
	stress_fail("unit %#llx is mapped and not PINNED: %#x", unit,
		    entry(unit));
}

/**
 * stress_books_count - enter a mapping, or strike it out
 * @addr: DMA address
 * @size: bytes
 * @by: 1 or -1
 *
 * Any context.
 */
void stress_books_count(dma_addr_t addr, size_t size, int by)
{
	u64 unit = addr >> unit_shift;

	for (; unit <= (addr + size - 1) >> unit_shift; unit++) {
		if (unit >= units)
			stress_fail("%pad is outside of the table", &addr);
		else if (atomic_add_return(by, &books[unit]) < 0)
			stress_fail("the books are wrong at %#llx", unit);
	}
}

/**
 * stress_books_expect - check that the table has what the caller has mapped
 * @addr: DMA address
 * @size: bytes
 * @wait: for PINNED, if it is not set at the first look; process context
 */
void stress_books_expect(dma_addr_t addr, size_t size, bool wait)
{
	u64 unit = addr >> unit_shift;

	for (; unit <= (addr + size - 1) >> unit_shift; unit++) {
		if (unit >= units)
			return;
		if (!(entry(unit) & COIOMMU_DTT_COUNT_MASK))
			stress_fail("unit %#llx is mapped and not counted: %#x",
				    unit, entry(unit));
		if (wait)
			wait_pinned(unit);
	}
}

/**
 * stress_books_compare - compare books and table, unit by unit
 *
 * Process context; nobody maps or unmaps.
 */
void stress_books_compare(void)
{
	u64 unit;

	for (unit = 0; unit < units; unit++) {
		int expected = atomic_read(&books[unit]);
		u32 count = entry(unit) & COIOMMU_DTT_COUNT_MASK;

		if (count != expected)
			stress_fail("unit %#llx: the table has %u, the books %d",
				    unit, count, expected);
		else if (count)
			wait_pinned(unit);
	}
}

/**
 * stress_books_sum - the totals of the books
 * @mapped: set to the number of units with a mapping
 * @mappings: set to the sum
 */
void stress_books_sum(u64 *mapped, u64 *mappings)
{
	u64 unit;

	*mapped = 0;
	*mappings = 0;
	for (unit = 0; books && unit < units; unit++) {
		*mapped += !!atomic_read(&books[unit]);
		*mappings += atomic_read(&books[unit]);
	}
}
