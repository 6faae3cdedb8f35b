/* SPDX-License-Identifier: GPL-2.0 */
/* Notifications of the auxiliary bus; see coiommu_auxiliary.c. */
#ifndef COIOMMU_AUXILIARY_H
#define COIOMMU_AUXILIARY_H

#include <linux/device.h>
#include <linux/kconfig.h>
#include <linux/notifier.h>

#if IS_ENABLED(CONFIG_AUXILIARY_BUS)
int coiommu_auxiliary_register(struct notifier_block *nb);
void coiommu_auxiliary_unregister(struct notifier_block *nb);
bool coiommu_is_auxiliary(const struct device *dev);
#else
static inline int coiommu_auxiliary_register(struct notifier_block *nb)
{
	return 0;
}

static inline void coiommu_auxiliary_unregister(struct notifier_block *nb) { }

static inline bool coiommu_is_auxiliary(const struct device *dev)
{
	return false;
}
#endif

#endif /* COIOMMU_AUXILIARY_H */
