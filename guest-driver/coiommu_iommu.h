/* SPDX-License-Identifier: GPL-2.0 */
/* coIOMMU as the kernel's IOMMU core sees it; see coiommu_iommu.c. */
#ifndef COIOMMU_IOMMU_H
#define COIOMMU_IOMMU_H

#include <linux/pci.h>

struct coiommu;

#ifdef CONFIG_IOMMU_API
void coiommu_iommu_init(struct coiommu *coi);
void coiommu_iommu_exit(struct coiommu *coi);
void coiommu_iommu_adopt(struct coiommu *coi, struct pci_dev *pdev);
#else
static inline void coiommu_iommu_init(struct coiommu *coi) { }
static inline void coiommu_iommu_exit(struct coiommu *coi) { }
static inline void coiommu_iommu_adopt(struct coiommu *coi,
				       struct pci_dev *pdev) { }
#endif

#endif /* COIOMMU_IOMMU_H */
