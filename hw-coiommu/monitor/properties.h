/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Settings that can be changed while the machine runs.
 */
#ifndef COIOMMU_PROPERTIES_H
#define COIOMMU_PROPERTIES_H

#include "hw/coiommu/coiommu.h"

/* Give the class its settings, counters and version; call once. */
void coiommu_properties_class_init(ObjectClass *klass);

/* Is @quota one that devices can work with?  0 is no limit. */
bool coiommu_check_quota(CoiommuState *s, uint64_t quota, Error **errp);

#endif /* COIOMMU_PROPERTIES_H */
