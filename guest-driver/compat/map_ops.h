/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The operations that map one piece of memory, for coiommu_dma.c alone, which
 * includes this after coiommu_map_phys() and coiommu_unmap_phys().  Kernels
 * differ: newer ones have just those two; older ones have four, of which two
 * are for resources, which are told apart by DMA_ATTR_MMIO here.
 */
#ifndef COIOMMU_COMPAT_MAP_OPS_H
#define COIOMMU_COMPAT_MAP_OPS_H

#ifdef COIOMMU_HAVE_OP_MAP_PHYS

#define COMPAT_MAP_OPS							\
	.map_phys		= coiommu_map_phys,			\
	.unmap_phys		= coiommu_unmap_phys

#else

static dma_addr_t coiommu_map_page(struct device *dev, struct page *page,
				   unsigned long offset, size_t size,
				   enum dma_data_direction dir,
				   unsigned long attrs)
{
	return coiommu_map_phys(dev, page_to_phys(page) + offset, size, dir,
				attrs);
}

static dma_addr_t coiommu_map_resource(struct device *dev, phys_addr_t phys,
				       size_t size,
				       enum dma_data_direction dir,
				       unsigned long attrs)
{
	return coiommu_map_phys(dev, phys, size, dir, attrs | DMA_ATTR_MMIO);
}

static void coiommu_unmap_resource(struct device *dev, dma_addr_t addr,
				   size_t size, enum dma_data_direction dir,
				   unsigned long attrs)
{
	coiommu_unmap_phys(dev, addr, size, dir, attrs | DMA_ATTR_MMIO);
}

#define COMPAT_MAP_OPS							\
	.map_page		= coiommu_map_page,			\
	.unmap_page		= coiommu_unmap_phys,			\
	.map_resource		= coiommu_map_resource,			\
	.unmap_resource		= coiommu_unmap_resource

#endif /* COIOMMU_HAVE_OP_MAP_PHYS */

#endif /* COIOMMU_COMPAT_MAP_OPS_H */
