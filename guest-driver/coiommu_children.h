/* SPDX-License-Identifier: GPL-2.0 */
/* Which struct devices map for a PCI function; see coiommu_children.c. */
#ifndef COIOMMU_CHILDREN_H
#define COIOMMU_CHILDREN_H

#include <linux/pci.h>

struct pci_dev *coiommu_function_of(struct device *dev);
bool coiommu_never_maps(struct device *dev);
struct device *coiommu_bound_child(struct pci_dev *pdev);
struct device *coiommu_unwatched_child(struct pci_dev *pdev);

#endif /* COIOMMU_CHILDREN_H */
