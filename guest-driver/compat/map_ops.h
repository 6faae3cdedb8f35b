/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The operations that map one piece of memory, for coiommu_dma.c alone.  Kernels
 * differ: newer ones have map_phys and unmap_phys; older ones have four, of which
 * two are for resources, which are told apart by DMA_ATTR_MMIO here.
 *
 * COMPAT_DEFINE_MAP_OPS(p) makes what is missing of p_map_phys() and
 * p_unmap_phys(), COMPAT_MAP_OPS(p) names the members of struct dma_map_ops, and
 * compat_set_map_ops() copies just these.
 */
#ifndef COIOMMU_COMPAT_MAP_OPS_H
#define COIOMMU_COMPAT_MAP_OPS_H

#ifdef COIOMMU_HAVE_OP_MAP_PHYS

#define COMPAT_DEFINE_MAP_OPS(...)

#define COMPAT_MAP_OPS(p)						\
	.map_phys		= p##_map_phys,				\
	.unmap_phys		= p##_unmap_phys

static void compat_set_map_ops(struct dma_map_ops *to,
			       const struct dma_map_ops *from)
{
	WRITE_ONCE(to->map_phys, from->map_phys);
	WRITE_ONCE(to->unmap_phys, from->unmap_phys);
}

#else

#define COMPAT_DEFINE_MAP_OPS(p)					\
static dma_addr_t p##_map_page(struct device *dev, struct page *page,	\
			       unsigned long offset, size_t size,	\
			       enum dma_data_direction dir,		\
			       unsigned long attrs)			\
{									\
	return p##_map_phys(dev, page_to_phys(page) + offset, size,	\
			    dir, attrs);				\
}									\
									\
static dma_addr_t p##_map_resource(struct device *dev,			\
				   phys_addr_t phys, size_t size,	\
				   enum dma_data_direction dir,		\
				   unsigned long attrs)			\
{									\
	return p##_map_phys(dev, phys, size, dir, attrs | DMA_ATTR_MMIO); \
}									\
									\
static void p##_unmap_resource(struct device *dev, dma_addr_t addr,	\
			       size_t size,				\
			       enum dma_data_direction dir,		\
			       unsigned long attrs)			\
{									\
	p##_unmap_phys(dev, addr, size, dir, attrs | DMA_ATTR_MMIO);	\
}

#define COMPAT_MAP_OPS(p)						\
	.map_page		= p##_map_page,				\
	.unmap_page		= p##_unmap_phys,			\
	.map_resource		= p##_map_resource,			\
	.unmap_resource		= p##_unmap_resource

static void compat_set_map_ops(struct dma_map_ops *to,
			       const struct dma_map_ops *from)
{
	WRITE_ONCE(to->map_page, from->map_page);
	WRITE_ONCE(to->unmap_page, from->unmap_page);
	WRITE_ONCE(to->map_resource, from->map_resource);
	WRITE_ONCE(to->unmap_resource, from->unmap_resource);
}

#endif /* COIOMMU_HAVE_OP_MAP_PHYS */

#endif /* COIOMMU_COMPAT_MAP_OPS_H */
