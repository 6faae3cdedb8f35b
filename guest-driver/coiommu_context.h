/* SPDX-License-Identifier: GPL-2.0 */
/* The context of a device: made, found, dropped; see coiommu_context.c. */
#ifndef COIOMMU_CONTEXT_H
#define COIOMMU_CONTEXT_H

#include <linux/device.h>

struct coiommu;
struct coiommu_dev;

struct coiommu_dev *coiommu_dev_find(struct coiommu *coi,
				     const struct device *dev);
struct coiommu_dev *coiommu_dev_new(struct coiommu *coi, struct device *dev,
				    struct coiommu_dev *function);
void coiommu_dev_take_ops(struct coiommu_dev *cdev, struct device *dev);
void coiommu_dev_take_all_ops(struct coiommu *coi);
void coiommu_dev_drop(struct coiommu_dev *cdev);
void coiommu_dev_refresh(struct coiommu_dev *cdev);
bool coiommu_dev_can_bounce(struct coiommu_dev *cdev);

#endif /* COIOMMU_CONTEXT_H */
