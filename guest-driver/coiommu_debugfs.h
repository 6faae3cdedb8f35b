/* SPDX-License-Identifier: GPL-2.0 */
/* Counters; see coiommu_debugfs.c. */
#ifndef COIOMMU_DEBUGFS_H
#define COIOMMU_DEBUGFS_H

struct coiommu;

#ifdef CONFIG_DEBUG_FS
void coiommu_debugfs_init(struct coiommu *coi);
void coiommu_debugfs_exit(struct coiommu *coi);
#else
static inline void coiommu_debugfs_init(struct coiommu *coi) { }
static inline void coiommu_debugfs_exit(struct coiommu *coi) { }
#endif

#endif /* COIOMMU_DEBUGFS_H */
