/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BAR 0: registers and commands.  The caller must hold the BQL.
 */
#ifndef COIOMMU_REGISTERS_H
#define COIOMMU_REGISTERS_H

#include "hw/coiommu/coiommu.h"

/* Create BAR 0. */
void coiommu_registers_init(CoiommuState *s);

/*
 * What the guest has said, but for the attached endpoints: take it down, and
 * have it said again, all of it unchecked.  Loading returns a COIOMMU_ST_*;
 * unless that is OK it ends as a reset does.
 */
void coiommu_registers_save(CoiommuState *s, CoiommuSaved *saved);
uint32_t coiommu_registers_load(CoiommuState *s, const CoiommuSaved *saved);

#endif /* COIOMMU_REGISTERS_H */
