/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The doorbell.
 */
#ifndef COIOMMU_REQUEST_H
#define COIOMMU_REQUEST_H

#include "hw/coiommu/coiommu.h"

/* The page in which the doorbell is; its opaque is the CoiommuState. */
extern const MemoryRegionOps coiommu_doorbell_ops;

#endif /* COIOMMU_REQUEST_H */
