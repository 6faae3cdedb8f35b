/* SPDX-License-Identifier: GPL-2.0 */
/* What the buses notify of; see coiommu_bus.c. */
#ifndef COIOMMU_BUS_H
#define COIOMMU_BUS_H

struct coiommu;

int coiommu_bus_init(struct coiommu *coi);
void coiommu_bus_exit(struct coiommu *coi);

#endif /* COIOMMU_BUS_H */
