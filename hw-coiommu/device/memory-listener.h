/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory listener: it builds the list of guest RAM.  BQL.
 */
#ifndef COIOMMU_MEMORY_LISTENER_H
#define COIOMMU_MEMORY_LISTENER_H

#include "hw/coiommu/coiommu.h"

void coiommu_listener_init(CoiommuState *s);
void coiommu_listener_exit(CoiommuState *s);

/* The largest page that guest RAM is made of in the host. */
uint64_t coiommu_listener_page_size(CoiommuState *s);

#endif /* COIOMMU_MEMORY_LISTENER_H */
