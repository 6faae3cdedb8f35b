/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The address space that assigned devices live in.
 */
#ifndef COIOMMU_ADDRESS_SPACE_H
#define COIOMMU_ADDRESS_SPACE_H

#include "hw/coiommu/coiommu.h"

/* Make what it is made of, with the instance.  Freed by QEMU, with it. */
void coiommu_space_instance_init(CoiommuState *s);
void coiommu_space_instance_finalize(CoiommuState *s);

/* The region that containers listen to. */
IOMMUMemoryRegion *coiommu_space_iommu(CoiommuSpace *space);

/* Create the address space; _setup() hands it to the PCI bus.  BQL. */
void coiommu_space_init(CoiommuState *s);
void coiommu_space_setup(CoiommuState *s);
void coiommu_space_exit(CoiommuState *s);

#endif /* COIOMMU_ADDRESS_SPACE_H */
