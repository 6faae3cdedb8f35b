/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which devices are tracked, and which of them are attached.  The caller must
 * hold the BQL.
 */
#ifndef COIOMMU_ENDPOINT_H
#define COIOMMU_ENDPOINT_H

#include "hw/coiommu/coiommu.h"

/* Start and stop watching for devices that come and go. */
void coiommu_endpoint_init(CoiommuState *s);
void coiommu_endpoint_exit(CoiommuState *s);

/* Is a VFIO device that was created before us in the machine? */
bool coiommu_endpoint_vfio_exists(void);

/* Is @dev tracked? */
bool coiommu_endpoint_tracked(CoiommuState *s, PCIDevice *dev);

/*
 * Does the device at @devfn of @bus get our address space?  @bus->devices may
 * not hold it yet.
 */
bool coiommu_endpoint_wants(CoiommuState *s, PCIBus *bus, int devfn);

/* The three requests about an endpoint.  Each returns a COIOMMU_ST_*. */
uint32_t coiommu_endpoint_probe(CoiommuState *s, uint32_t endpoint);
uint32_t coiommu_endpoint_attach(CoiommuState *s, uint32_t endpoint);
uint32_t coiommu_endpoint_detach(CoiommuState *s, uint32_t endpoint);

/* Forget all of them; pins are left alone.  The gate must be closed. */
void coiommu_endpoint_detach_all(CoiommuState *s);

#endif /* COIOMMU_ENDPOINT_H */
