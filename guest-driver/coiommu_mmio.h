/* SPDX-License-Identifier: GPL-2.0 */
/* What dma_map_resource() is given: MMIO, or RAM; see coiommu_mmio.c. */
#ifndef COIOMMU_MMIO_H
#define COIOMMU_MMIO_H

#include <linux/range.h>
#include <linux/types.h>

/**
 * struct coiommu_mmio - where MMIO is; see coiommu_mmio.c
 * @ranges: from start to end, which is inclusive
 * @count: how many
 */
struct coiommu_mmio {
	struct range *ranges;
	unsigned int count;
};

int coiommu_mmio_init(struct coiommu_mmio *mmio);
void coiommu_mmio_free(struct coiommu_mmio *mmio);
bool coiommu_is_mmio(const struct coiommu_mmio *mmio, u64 addr, size_t size);

#endif /* COIOMMU_MMIO_H */
