/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is migrated, and saved in snapshots.
 */
#ifndef COIOMMU_VMSTATE_H
#define COIOMMU_VMSTATE_H

extern const VMStateDescription coiommu_vmstate;

#endif /* COIOMMU_VMSTATE_H */
