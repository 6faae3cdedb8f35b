/* SPDX-License-Identifier: GPL-2.0 */
/* The operations that are not hot; see coiommu_alloc.c. */
#ifndef COIOMMU_ALLOC_H
#define COIOMMU_ALLOC_H

#include <linux/dma-map-ops.h>

struct coiommu_dev;

bool coiommu_dma_is_ours(const struct dma_map_ops *ops);
struct coiommu_dev *coiommu_find_context(struct device *dev);
struct device *coiommu_shadow_or_self(struct device *dev);

void *coiommu_alloc(struct device *dev, size_t size, dma_addr_t *addr,
		    gfp_t gfp, unsigned long attrs);
void coiommu_free(struct device *dev, size_t size, void *cpu_addr,
		  dma_addr_t addr, unsigned long attrs);
struct page *coiommu_alloc_pages(struct device *dev, size_t size,
				 dma_addr_t *addr,
				 enum dma_data_direction dir, gfp_t gfp);
void coiommu_free_pages(struct device *dev, size_t size, struct page *page,
			dma_addr_t addr, enum dma_data_direction dir);
int coiommu_mmap(struct device *dev, struct vm_area_struct *vma,
		 void *cpu_addr, dma_addr_t addr, size_t size,
		 unsigned long attrs);
int coiommu_get_sgtable(struct device *dev, struct sg_table *table,
			void *cpu_addr, dma_addr_t addr, size_t size,
			unsigned long attrs);
int coiommu_dma_supported(struct device *dev, u64 mask);
u64 coiommu_get_required_mask(struct device *dev);
size_t coiommu_max_mapping_size(struct device *dev);

void coiommu_sync_single_for_cpu(struct device *dev, dma_addr_t addr,
				 size_t size, enum dma_data_direction dir);
void coiommu_sync_single_for_device(struct device *dev, dma_addr_t addr,
				    size_t size, enum dma_data_direction dir);
void coiommu_sync_sg_for_cpu(struct device *dev, struct scatterlist *sgl,
			     int nents, enum dma_data_direction dir);
void coiommu_sync_sg_for_device(struct device *dev, struct scatterlist *sgl,
				int nents, enum dma_data_direction dir);

#endif /* COIOMMU_ALLOC_H */
