/* SPDX-License-Identifier: GPL-2.0 */
/* The operations that map and unmap; see coiommu_dma.c. */
#ifndef COIOMMU_DMA_H
#define COIOMMU_DMA_H

#include <linux/dma-map-ops.h>

struct coiommu_dev;

extern const struct dma_map_ops coiommu_dma_ops;

void coiommu_dma_shadowed(struct coiommu_dev *cdev);
int coiommu_dma_book(struct coiommu_dev *cdev);
void coiommu_dma_install(struct coiommu_dev *cdev);
void coiommu_dma_leave(struct coiommu_dev *cdev);

#endif /* COIOMMU_DMA_H */
