/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How much memory the control groups allow that a process is in.
 */
#ifndef COIOMMU_CGROUP_H
#define COIOMMU_CGROUP_H

/*
 * The lowest limit, in bytes, of the memory cgroup that @file names (the
 * kernel's /proc/PID/cgroup) and of those above it, below the folder @root in
 * which the hierarchies are mounted (/sys/fs/cgroup), of either version.
 * UINT64_MAX if there is none, or none that can be read.
 */
uint64_t coiommu_cgroup_memory_limit(const char *file, const char *root);

#endif /* COIOMMU_CGROUP_H */
