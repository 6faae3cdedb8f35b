/* SPDX-License-Identifier: GPL-2.0 */
/* Registers and commands of the function; see coiommu_regs.c. */
#ifndef COIOMMU_REGS_H
#define COIOMMU_REGS_H

struct coiommu;

int coiommu_check_device(struct coiommu *coi);
int coiommu_enable(struct coiommu *coi);
void coiommu_disable(struct coiommu *coi);
void coiommu_quiesce(struct coiommu *coi);

#endif /* COIOMMU_REGS_H */
