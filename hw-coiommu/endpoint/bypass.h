/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VFIO devices that are not tracked.
 */
#ifndef COIOMMU_BYPASS_H
#define COIOMMU_BYPASS_H

#include "hw/coiommu/core/ram.h"
#include "hw/pci/pci_device.h"

/* Tell the operator of a VFIO device that is not tracked.  BQL. */
void coiommu_bypass_realized(const CoiommuRam *ram, PCIDevice *dev);

/*
 * VFIO devices that VFIO maps all guest RAM for by itself, and how many bytes
 * that are.  BQL, not during a reset.
 */
unsigned coiommu_bypass_devices(void);
uint64_t coiommu_bypass_bytes(const CoiommuRam *ram);

#endif /* COIOMMU_BYPASS_H */
