/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A domain: an address space that assigned devices live in, the containers that
 * listen to it, and what is pinned for it, for which table.
 */
#ifndef COIOMMU_DOMAIN_H
#define COIOMMU_DOMAIN_H

#include "stuck.h"

/**
 * CoiommuDomain - a domain
 * @as: the address space, which endpoint/address-space.c makes
 * @containers: the record of containers
 * @vfio: how they come and go
 * @stuck: what they have refused to unmap
 * @pins: what is pinned
 * @pinned, @opaque: called when a block has been pinned, inside the gate or
 *                   under the BQL; set before the first one is
 */
typedef struct CoiommuDomain {
    AddressSpace as;
    CoiommuContainers *containers;
    CoiommuVfio *vfio;
    CoiommuStuck *stuck;
    CoiommuPins pins;
    void (*pinned)(void *opaque);
    void *opaque;
} CoiommuDomain;

/* What the device has one of, for all of its domains; must outlive them. */
typedef struct CoiommuShared {
    const CoiommuGeometry *geometry;
    const CoiommuRam *ram;
    CoiommuGate *gate;
    CoiommuStats *stats;
} CoiommuShared;

/* @iommu: the region in @domain's address space that containers listen to. */
void coiommu_domain_init(CoiommuDomain *domain, const CoiommuShared *shared,
                         IOMMUMemoryRegion *iommu);
void coiommu_domain_destroy(CoiommuDomain *domain);

/* At realize and at exit.  BQL. */
void coiommu_domain_start(CoiommuDomain *domain);
void coiommu_domain_stop(CoiommuDomain *domain);

/*
 * In a memory transaction: unmap what is not the same in the next list of RAM.
 * BQL, gate closed.
 */
void coiommu_domain_ram_changing(CoiommuDomain *domain, const GArray *next);

#endif /* COIOMMU_DOMAIN_H */
