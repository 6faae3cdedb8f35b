/* SPDX-License-Identifier: GPL-2.0 */
/* Devices that get their drivers again with coIOMMU; see coiommu_rebind.c. */
#ifndef COIOMMU_REBIND_H
#define COIOMMU_REBIND_H

#include <linux/pci.h>

void coiommu_rebind_take(struct pci_dev *pdev);
void coiommu_rebind_start(void);
void coiommu_rebind_exit(void);

#endif /* COIOMMU_REBIND_H */
