// SPDX-License-Identifier: GPL-2.0
/*
 * Counting the mappings of a device, where that is not done inline.
 *
 * What the usual case does not cover comes here: units that are not PINNED, counts
 * at their limit, and devices whose mappings are booked one by one
 * (coiommu_books.c).  A booked device takes no other way: it is shadowed, so all its
 * mappings come here.
 */
#include <linux/scatterlist.h>

#include "coiommu.h"
#include "coiommu_books.h"
#include "coiommu_count.h"

/* Warn once for each driver of a device that the count of a unit is at its limit. */
static void report_saturated(struct coiommu_dev *cdev)
{
	if (xchg(&cdev->saturated, true))
		return;
	pci_warn(cdev->pdev, "coiommu: memory that it maps has a count at its limit, as some driver unmaps less than it maps; it stays pinned until all tracked devices are unbound\n");
}

/*
 * Must what is counted be pinned?  A function whose tracking has ended while
 * its driver is bound (coiommu_track_give_up()) needs no request: the host has
 * pinned all memory for it, or keeps it from doing DMA.
 */
static bool wants_pins(const struct coiommu_dev *cdev)
{
	return !READ_ONCE(cdev->function->given_up);
}

/**
 * coiommu_count_slow - count a mapping that was tried inline, and have it pinned
 * @cdev: the device
 * @addr: DMA address
 * @size: bytes
 * @entry: what coiommu_dtt_get_fast() left, or NULL
 *
 * Any context.  Returns 0, or a negative errno and nothing is counted.
 */
int coiommu_count_slow(struct coiommu_dev *cdev, u64 addr, size_t size,
		       atomic_t *entry)
{
	struct coiommu *coi = cdev->coi;
	int ret = coiommu_dtt_get_slow(&coi->dtt, addr, size, entry);

	if (likely(ret <= 0))
		return ret;
	if (ret & COIOMMU_GET_SATURATED)
		report_saturated(cdev);
	if (!wants_pins(cdev))
		return 0;
	ret = coiommu_pin(coi, addr, size);
	if (ret)
		coiommu_dtt_put(&coi->dtt, addr, size);
	return ret;
}

/* Book what has been counted.  Returns 0, or an error and it is not counted. */
static int book(struct coiommu_dev *cdev, u64 addr, size_t size)
{
	if (!cdev->books || !coiommu_books_add(cdev->books, addr, size))
		return 0;
	coiommu_dtt_put(&cdev->coi->dtt, addr, size);
	return -ENOMEM;
}

/**
 * coiommu_count - count a mapping, have it pinned, and book it
 * @cdev: the device
 * @addr: DMA address
 * @size: bytes
 *
 * Any context.  Returns as coiommu_count_slow().
 */
int coiommu_count(struct coiommu_dev *cdev, u64 addr, size_t size)
{
	return coiommu_count_slow(cdev, addr, size, NULL) ?:
	       book(cdev, addr, size);
}

/**
 * coiommu_strike - strike a mapping off the books of a device that has some
 * @cdev: the device
 * @addr: DMA address
 * @size: bytes, as its driver says
 * @struck: for coiommu_uncount(), which must be called next
 *
 * Must be called before @addr can be mapped anew.  Any context.
 */
void coiommu_strike(struct coiommu_dev *cdev, u64 addr, size_t size,
		    struct coiommu_struck *struck)
{
	if (cdev->books)
		coiommu_books_strike(cdev->books, addr, size, struck);
}

/**
 * coiommu_strike_sg - the same for a list
 * @cdev: the device
 * @sgl: list with DMA addresses and lengths
 * @nents: entries
 * @struck: for coiommu_uncount_sg(), which must be called next
 */
void coiommu_strike_sg(struct coiommu_dev *cdev, struct scatterlist *sgl,
		       int nents, struct coiommu_struck *struck)
{
	struct scatterlist *sg;
	int i;

	for_each_sg(sgl, sg, nents, i)
		coiommu_strike(cdev, sg_dma_address(sg), sg_dma_len(sg),
			       struck);
}

/**
 * coiommu_uncount - take back one mapping of a device that may be booked
 * @cdev: the device
 * @addr: DMA address
 * @size: bytes, as its driver says
 * @struck: what coiommu_strike() has found
 *
 * Must be called when no device uses the mapping any more.  Any context.
 */
void coiommu_uncount(struct coiommu_dev *cdev, u64 addr, size_t size,
		     struct coiommu_struck *struck)
{
	if (cdev->books)
		coiommu_struck_put(struck, &cdev->coi->dtt);
	else
		coiommu_dtt_put(&cdev->coi->dtt, addr, size);
}

/**
 * coiommu_uncount_sg - the same for a list
 * @cdev: the device
 * @sgl: list with DMA addresses and lengths
 * @nents: entries
 * @struck: what coiommu_strike_sg() has found
 */
void coiommu_uncount_sg(struct coiommu_dev *cdev, struct scatterlist *sgl,
			int nents, struct coiommu_struck *struck)
{
	struct scatterlist *sg;
	int i;

	/* The first one takes all of @struck. */
	for_each_sg(sgl, sg, nents, i)
		coiommu_uncount(cdev, sg_dma_address(sg), sg_dma_len(sg),
				struck);
}

/**
 * coiommu_uncount_now - take back a mapping whose address is not free yet
 * @cdev: the device
 * @addr: DMA address
 * @size: bytes, as its driver says
 *
 * Any context.
 */
void coiommu_uncount_now(struct coiommu_dev *cdev, u64 addr, size_t size)
{
	struct coiommu_struck struck = { };

	coiommu_strike(cdev, addr, size, &struck);
	coiommu_uncount(cdev, addr, size, &struck);
}

/* The same for a list. */
static void uncount_sg_now(struct coiommu_dev *cdev, struct scatterlist *sgl,
			   int nents)
{
	struct coiommu_struck struck = { };

	coiommu_strike_sg(cdev, sgl, nents, &struck);
	coiommu_uncount_sg(cdev, sgl, nents, &struck);
}

/* Count an entry of a list, and book it; returns as coiommu_dtt_get(). */
static int count_entry(struct coiommu_dev *cdev, struct scatterlist *sg)
{
	u64 addr = sg_dma_address(sg);
	size_t size = sg_dma_len(sg);
	int ret = coiommu_dtt_get(&cdev->coi->dtt, addr, size);

	if (ret < 0)
		return ret;
	return book(cdev, addr, size) ?: ret;
}

/**
 * coiommu_pin_counted_sg - have a list pinned that has been counted
 * @cdev: the device
 * @sgl: list with DMA addresses and lengths
 * @nents: entries
 * @flags: COIOMMU_GET_*
 *
 * Any context.  Returns 0 or a negative errno, and then the caller must take the
 * counts back.
 */
int coiommu_pin_counted_sg(struct coiommu_dev *cdev, struct scatterlist *sgl,
			   int nents, int flags)
{
	if (flags & COIOMMU_GET_SATURATED)
		report_saturated(cdev);
	return wants_pins(cdev) ? coiommu_pin_sg(cdev->coi, sgl, nents) : 0;
}

/**
 * coiommu_count_sg - count a list that the shadow has mapped, and have it pinned
 * @cdev: the device
 * @sgl: list with DMA addresses and lengths
 * @nents: entries
 *
 * Every entry is memory: the shadow is no PCI device, so dma-direct refuses
 * peer-to-peer pages instead of giving them bus addresses.  Any context.  Returns
 * 0, or a negative errno and nothing is counted.
 */
int coiommu_count_sg(struct coiommu_dev *cdev, struct scatterlist *sgl,
		     int nents)
{
	struct scatterlist *sg;
	int flags = 0;
	int i, ret;

	for_each_sg(sgl, sg, nents, i) {
		ret = count_entry(cdev, sg);
		if (ret < 0) {
			uncount_sg_now(cdev, sgl, i);
			return ret;
		}
		flags |= ret;
	}
	ret = flags ? coiommu_pin_counted_sg(cdev, sgl, nents, flags) : 0;
	if (ret)
		uncount_sg_now(cdev, sgl, nents);
	return ret;
}
