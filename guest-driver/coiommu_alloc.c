// SPDX-License-Identifier: GPL-2.0
/*
 * The operations of a tracked device that are not hot: memory, syncs, masks and limits;
 * and how any but the hot operations find the context of the device.
 *
 * The operations may be taken from a device while a thread is about to call them
 * (coiommu_dma.c).  So those here look whether there is a context still, and without
 * one call the public DMA API for the device itself, which has no operations then.
 */
#include "coiommu.h"
#include "coiommu_alloc.h"
#include "coiommu_count.h"
#include "coiommu_trace.h"

/**
 * coiommu_dma_is_ours - do these operations belong to a context of ours?
 * @ops: operations, or NULL
 */
bool coiommu_dma_is_ours(const struct dma_map_ops *ops)
{
	return ops && ops->alloc == coiommu_alloc;
}

/**
 * coiommu_find_context - the context of a device whose operations have been called
 * @dev: the device
 *
 * Returns NULL if they have gone since the DMA API looked at them; the caller must
 * then do what the kernel does without.  Any context.
 */
struct coiommu_dev *coiommu_find_context(struct device *dev)
{
	const struct dma_map_ops *ops = READ_ONCE(dev->dma_ops);

	return coiommu_dma_is_ours(ops) ?
	       container_of(ops, struct coiommu_dev, ops) : NULL;
}

/**
 * coiommu_shadow_or_self - the device to call the public DMA API with
 * @dev: a device whose operations have been called
 */
struct device *coiommu_shadow_or_self(struct device *dev)
{
	struct coiommu_dev *cdev = coiommu_find_context(dev);

	return cdev ? &cdev->shadow : dev;
}

/* The same for memory: dma_set_coherent_mask() writes only the real device. */
static struct device *shadow_for_alloc(struct coiommu_dev *cdev,
				       struct device *dev)
{
	if (!cdev)
		return dev;
	WRITE_ONCE(cdev->shadow.coherent_dma_mask, dev->coherent_dma_mask);
	return &cdev->shadow;
}

void *coiommu_alloc(struct device *dev, size_t size, dma_addr_t *addr,
		    gfp_t gfp, unsigned long attrs)
{
	struct coiommu_dev *cdev = coiommu_find_context(dev);
	struct device *shadow = shadow_for_alloc(cdev, dev);
	void *cpu_addr;

	attrs = compat_alloc_attrs(attrs);
	cpu_addr = dma_alloc_attrs(shadow, size, addr, gfp, attrs);
	if (!cpu_addr || !cdev)
		return cpu_addr;
	if (coiommu_count(cdev, *addr, PAGE_ALIGN(size))) {
		dma_free_attrs(shadow, size, cpu_addr, *addr, attrs);
		return NULL;
	}
	trace_coiommu_map(cdev->pdev, *addr, PAGE_ALIGN(size));
	return cpu_addr;
}

/* Nothing is copied here, so the count may go before the memory does. */
void coiommu_free(struct device *dev, size_t size, void *cpu_addr,
		  dma_addr_t addr, unsigned long attrs)
{
	struct coiommu_dev *cdev = coiommu_find_context(dev);

	if (cdev) {
		trace_coiommu_unmap(cdev->pdev, addr, PAGE_ALIGN(size));
		coiommu_uncount_now(cdev, addr, PAGE_ALIGN(size));
	}
	dma_free_attrs(shadow_for_alloc(cdev, dev), size, cpu_addr, addr,
		       compat_alloc_attrs(attrs));
}

struct page *coiommu_alloc_pages(struct device *dev, size_t size,
				 dma_addr_t *addr,
				 enum dma_data_direction dir, gfp_t gfp)
{
	struct coiommu_dev *cdev = coiommu_find_context(dev);
	struct device *shadow = shadow_for_alloc(cdev, dev);
	struct page *page = dma_alloc_pages(shadow, size, addr, dir, gfp);

	if (!page || !cdev)
		return page;
	if (coiommu_count(cdev, *addr, PAGE_ALIGN(size))) {
		dma_free_pages(shadow, size, page, *addr, dir);
		return NULL;
	}
	trace_coiommu_map(cdev->pdev, *addr, PAGE_ALIGN(size));
	return page;
}

void coiommu_free_pages(struct device *dev, size_t size,
			struct page *page, dma_addr_t addr,
			enum dma_data_direction dir)
{
	struct coiommu_dev *cdev = coiommu_find_context(dev);

	if (cdev) {
		trace_coiommu_unmap(cdev->pdev, addr, PAGE_ALIGN(size));
		coiommu_uncount_now(cdev, addr, PAGE_ALIGN(size));
	}
	dma_free_pages(shadow_for_alloc(cdev, dev), size, page, addr, dir);
}

int coiommu_mmap(struct device *dev, struct vm_area_struct *vma,
		 void *cpu_addr, dma_addr_t addr, size_t size,
		 unsigned long attrs)
{
	return dma_mmap_attrs(shadow_for_alloc(coiommu_find_context(dev), dev), vma,
			      cpu_addr, addr, size, compat_alloc_attrs(attrs));
}

int coiommu_get_sgtable(struct device *dev, struct sg_table *table,
			void *cpu_addr, dma_addr_t addr, size_t size,
			unsigned long attrs)
{
	return dma_get_sgtable_attrs(shadow_for_alloc(coiommu_find_context(dev), dev),
				     table, cpu_addr, addr, size,
				     compat_alloc_attrs(attrs));
}

/*
 * Asked for the streaming and for the coherent mask.  The answer is dma-direct's
 * for the shadow; dma_set_mask() would write the real device's mask, which is
 * shared, so the other setter asks.
 */
int coiommu_dma_supported(struct device *dev, u64 mask)
{
	struct coiommu_dev *cdev = coiommu_find_context(dev);

	return !cdev || !dma_set_coherent_mask(&cdev->shadow, mask);
}

u64 coiommu_get_required_mask(struct device *dev)
{
	return dma_get_required_mask(coiommu_shadow_or_self(dev));
}

/*
 * A mapping that the device can never pin would be retried for ever, so drivers
 * are told what it can.
 */
size_t coiommu_max_mapping_size(struct device *dev)
{
	struct coiommu_dev *cdev = coiommu_find_context(dev);

	if (!cdev)
		return dma_max_mapping_size(dev);
	return min(cdev->max_mapping, dma_max_mapping_size(&cdev->shadow));
}

/* Installed when the shadow knows of bounced addresses: coiommu_dma_shadowed(). */
void coiommu_sync_single_for_cpu(struct device *dev, dma_addr_t addr,
				 size_t size,
				 enum dma_data_direction dir)
{
	dma_sync_single_for_cpu(coiommu_shadow_or_self(dev), addr, size, dir);
}

void coiommu_sync_single_for_device(struct device *dev, dma_addr_t addr,
				    size_t size,
				    enum dma_data_direction dir)
{
	dma_sync_single_for_device(coiommu_shadow_or_self(dev), addr, size, dir);
}

void coiommu_sync_sg_for_cpu(struct device *dev,
			     struct scatterlist *sgl, int nents,
			     enum dma_data_direction dir)
{
	dma_sync_sg_for_cpu(coiommu_shadow_or_self(dev), sgl, nents, dir);
}

void coiommu_sync_sg_for_device(struct device *dev,
				struct scatterlist *sgl, int nents,
				enum dma_data_direction dir)
{
	dma_sync_sg_for_device(coiommu_shadow_or_self(dev), sgl, nents, dir);
}
