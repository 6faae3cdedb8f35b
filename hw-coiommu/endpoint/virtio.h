/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio devices whose driver bypasses the guest's DMA API.
 */
#ifndef COIOMMU_VIRTIO_H
#define COIOMMU_VIRTIO_H

#include "hw/pci/pci_device.h"

/*
 * Is @dev a virtio device whose driver does not use the guest's DMA API?  Must
 * be called before the guest can use the device.  BQL.
 */
bool coiommu_virtio_untrackable(PCIDevice *dev);

#endif /* COIOMMU_VIRTIO_H */
