/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unmapping again what the host has refused to unmap.
 */
#ifndef COIOMMU_STUCK_H
#define COIOMMU_STUCK_H

#include "vfio.h"

typedef struct CoiommuStuck CoiommuStuck;

/* Both must outlive it. */
CoiommuStuck *coiommu_stuck_new(CoiommuVfio *vfio, CoiommuPins *pins);
void coiommu_stuck_free(CoiommuStuck *stuck);

/* At realize and at exit.  BQL. */
void coiommu_stuck_start(CoiommuStuck *stuck);
void coiommu_stuck_stop(CoiommuStuck *stuck);

/* Something is stuck: try again later.  From any thread inside the gate. */
void coiommu_stuck_arm(CoiommuStuck *stuck);

#endif /* COIOMMU_STUCK_H */
