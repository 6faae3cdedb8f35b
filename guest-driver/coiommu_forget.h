/* SPDX-License-Identifier: GPL-2.0 */
/* Counts that no driver takes back, and devices that have gone; coiommu_forget.c. */
#ifndef COIOMMU_FORGET_H
#define COIOMMU_FORGET_H

struct coiommu;
struct coiommu_dev;

void coiommu_forget_init(struct coiommu *coi);
void coiommu_forget_counts(struct coiommu *coi);
void coiommu_forget_soon(struct coiommu_dev *cdev);
void coiommu_forget_cancel(struct coiommu *coi);
void coiommu_reap_soon(struct coiommu *coi);
void coiommu_reap_cancel(struct coiommu *coi);

#endif /* COIOMMU_FORGET_H */
