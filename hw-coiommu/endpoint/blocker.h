/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What keeps a machine with a tracked device from being migrated.
 */
#ifndef COIOMMU_BLOCKER_H
#define COIOMMU_BLOCKER_H

#include "hw/coiommu/coiommu.h"

/* Is it possible to keep this machine from being migrated?  BQL. */
bool coiommu_blocker_check(CoiommuState *s, Error **errp);

/* A tracked device has come or gone: block migration or allow it.  BQL. */
void coiommu_blocker_update(CoiommuState *s);

/* Block nothing any more.  BQL. */
void coiommu_blocker_exit(CoiommuState *s);

#endif /* COIOMMU_BLOCKER_H */
