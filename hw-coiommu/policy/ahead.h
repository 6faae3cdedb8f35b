/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The thread that pins ahead.
 */
#ifndef COIOMMU_AHEAD_H
#define COIOMMU_AHEAD_H

#include "hw/coiommu/vfio/containers.h"
#include "unpin.h"

typedef struct CoiommuAhead CoiommuAhead;

/* All must outlive it. */
CoiommuAhead *coiommu_ahead_new(CoiommuPins *pins,
                                CoiommuContainers *containers,
                                CoiommuUnpin *unpin);
void coiommu_ahead_free(CoiommuAhead *ahead);

/* Start and stop the thread.  BQL.  Stopping twice does nothing. */
void coiommu_ahead_start(CoiommuAhead *ahead);
void coiommu_ahead_stop(CoiommuAhead *ahead);

#endif /* COIOMMU_AHEAD_H */
