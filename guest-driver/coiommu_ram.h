/* SPDX-License-Identifier: GPL-2.0 */
/* Which memory there is, and which of it the host can't pin; see coiommu_ram.c. */
#ifndef COIOMMU_RAM_H
#define COIOMMU_RAM_H

#include <linux/types.h>

struct resource;

int coiommu_ram_walk(void *arg, int (*func)(struct resource *, void *));
int coiommu_ram_may_go_online(u64 start, u64 last);
u64 coiommu_ram_limit(void);

#endif /* COIOMMU_RAM_H */
