/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VFIO's containers: which there are, as they come and go and die.
 */
#ifndef COIOMMU_VFIO_H
#define COIOMMU_VFIO_H

#include "containers.h"
#include "hw/coiommu/core/pins.h"

typedef struct CoiommuVfio CoiommuVfio;

/*
 * For containers that listen to @iommu in @as, and get what is in @pins.  All
 * must outlive it.
 */
CoiommuVfio *coiommu_vfio_new(AddressSpace *as, IOMMUMemoryRegion *iommu,
                              CoiommuContainers *containers,
                              CoiommuPins *pins);
void coiommu_vfio_free(CoiommuVfio *vfio);

/* At realize and at exit.  BQL. */
void coiommu_vfio_start(CoiommuVfio *vfio);
void coiommu_vfio_stop(CoiommuVfio *vfio);

/*
 * Find out which containers there are, if that is open.  BQL.  Must be called
 * before anything that goes to containers under the BQL.
 */
void coiommu_vfio_refresh(CoiommuVfio *vfio);

/*
 * If it is not settled which containers there are, make the record what VFIO
 * has now, and leave it unsettled.  BQL, gate closed.
 */
void coiommu_vfio_update(CoiommuVfio *vfio);

/* A device has been unrealized: its container may go.  BQL. */
void coiommu_vfio_unrealized(CoiommuVfio *vfio, DeviceState *dev);

/*
 * A memory transaction begins, in which VFIO must not call a container whose
 * server has gone.  BQL, gate closed.
 */
void coiommu_vfio_transaction(CoiommuVfio *vfio);

/*
 * VFIO asked for a replay to notifier @n: bring its container up to date.  BQL.
 */
void coiommu_vfio_replay(CoiommuVfio *vfio, IOMMUNotifier *n);

/* How many containers there are.  BQL, as for the following. */
unsigned coiommu_vfio_containers(CoiommuVfio *vfio);

/* The fewest mappings that any of them can hold. */
uint64_t coiommu_vfio_budget(CoiommuVfio *vfio);

/* How many of them charge what they pin to our memlock limit. */
unsigned coiommu_vfio_charged(CoiommuVfio *vfio);

#endif /* COIOMMU_VFIO_H */
