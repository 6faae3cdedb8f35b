/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The version of this release, which the QEMU device and the guest's module
 * both tell.  It is not the version of the interface between them, which is in
 * coiommu_abi.h.  docs/CHANGELOG.md says what a release is and how it is made.
 */
#ifndef COIOMMU_VERSION_H
#define COIOMMU_VERSION_H

#define COIOMMU_RELEASE "1.1"

#endif /* COIOMMU_VERSION_H */
