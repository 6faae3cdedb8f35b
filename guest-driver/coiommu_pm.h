/* SPDX-License-Identifier: GPL-2.0 */
/* Sleep; see coiommu_pm.c. */
#ifndef COIOMMU_PM_H
#define COIOMMU_PM_H

#include <linux/pci.h>
#include <linux/pm.h>

struct coiommu;

extern const struct dev_pm_ops coiommu_pm_ops;

bool coiommu_pm_link(struct coiommu *coi, struct pci_dev *pdev);
void coiommu_pm_unlink(struct coiommu *coi, struct pci_dev *pdev);

#endif /* COIOMMU_PM_H */
