// SPDX-License-Identifier: GPL-2.0
/*
 * Notifications of the auxiliary bus, which the kernel does not export: but a driver
 * that has been registered with it has its address.
 */
#include <linux/auxiliary_bus.h>
#include <linux/module.h>

#include "coiommu_auxiliary.h"

/* Written by coiommu_auxiliary_register() before a notification can come. */
static typeof(((struct device *)NULL)->bus) auxiliary_bus;

static int no_probe(struct auxiliary_device *adev,
		    const struct auxiliary_device_id *id)
{
	return -ENODEV;
}

static const struct auxiliary_device_id no_ids[] = {
	{ .name = KBUILD_MODNAME ".none" },
	{ }
};

static struct auxiliary_driver no_driver = {
	.name		= "none",
	.probe		= no_probe,
	.id_table	= no_ids,
};

/**
 * coiommu_auxiliary_register - be notified of drivers of auxiliary devices
 * @nb: the notifier
 *
 * Process context.  Returns 0 or a negative errno.
 */
int coiommu_auxiliary_register(struct notifier_block *nb)
{
	int ret = auxiliary_driver_register(&no_driver);

	if (ret)
		return ret;
	auxiliary_bus = no_driver.driver.bus;
	auxiliary_driver_unregister(&no_driver);
	return bus_register_notifier(auxiliary_bus, nb);
}

/**
 * coiommu_auxiliary_unregister - undo coiommu_auxiliary_register()
 * @nb: the notifier; when this returns it is not running
 */
void coiommu_auxiliary_unregister(struct notifier_block *nb)
{
	bus_unregister_notifier(auxiliary_bus, nb);
}

/**
 * coiommu_is_auxiliary - is a device on the auxiliary bus?
 * @dev: any device; coiommu_auxiliary_register() has succeeded
 */
bool coiommu_is_auxiliary(const struct device *dev)
{
	return dev->bus && dev->bus == auxiliary_bus;
}
