/* SPDX-License-Identifier: GPL-2.0 */
/* Which devices are tracked, and from when to when; see coiommu_track.c. */
#ifndef COIOMMU_TRACK_H
#define COIOMMU_TRACK_H

#include <linux/pci.h>

struct coiommu;
struct coiommu_dev;

void coiommu_track_init(struct coiommu *coi);
void coiommu_track_bind(struct coiommu *coi, struct pci_dev *pdev);
const char *coiommu_track_child(struct coiommu_dev *function,
				struct device *dev);
void coiommu_track_give_up(struct coiommu_dev *function);
void coiommu_track_release(struct coiommu_dev *cdev);
void coiommu_track_remove(struct coiommu_dev *cdev);
void coiommu_track_stop(struct coiommu *coi);
void coiommu_track_exit(struct coiommu *coi);

#endif /* COIOMMU_TRACK_H */
