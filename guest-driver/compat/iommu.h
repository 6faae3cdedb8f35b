/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between kernels in struct iommu_ops, for coiommu_iommu.c alone:
 * domains with nothing to do, how the core gets them, and when a device may
 * join a group.
 */
#ifndef COIOMMU_COMPAT_IOMMU_H
#define COIOMMU_COMPAT_IOMMU_H

#include <linux/iommu.h>
#include <linux/pci.h>
#include <linux/platform_device.h>

/* Newer kernels tell which domain the device leaves. */
#ifdef COIOMMU_HAVE_ATTACH_DEV_OLD
static int compat_attach_nothing(struct iommu_domain *domain,
				 struct device *dev, struct iommu_domain *old)
#else
static int compat_attach_nothing(struct iommu_domain *domain,
				 struct device *dev)
#endif
{
	return 0;
}

/* Older kernels free what they have been given. */
static void compat_free_nothing(struct iommu_domain *domain)
{
}

static const struct iommu_domain_ops compat_domain_ops = {
	.attach_dev	= compat_attach_nothing,
	.free		= compat_free_nothing,
};

static struct iommu_domain compat_identity_domain = {
	.type	= IOMMU_DOMAIN_IDENTITY,
	.ops	= &compat_domain_ops,
};

static struct iommu_domain compat_blocked_domain = {
	.type	= IOMMU_DOMAIN_BLOCKED,
	.ops	= &compat_domain_ops,
};

/* The members of struct iommu_ops that name these domains, and no other. */
#ifdef COIOMMU_HAVE_IDENTITY_DOMAIN

#define COMPAT_IOMMU_DOMAINS						\
	.identity_domain	= &compat_identity_domain,		\
	.blocked_domain		= &compat_blocked_domain

#else

static struct iommu_domain *compat_domain_alloc(unsigned int type)
{
	switch (type) {
	case IOMMU_DOMAIN_IDENTITY:
		return &compat_identity_domain;
	case IOMMU_DOMAIN_BLOCKED:
		return &compat_blocked_domain;
	default:
		return NULL;
	}
}

#define COMPAT_IOMMU_DOMAINS						\
	.domain_alloc		= compat_domain_alloc

#endif

/*
 * May a device join a group, as far as its driver is concerned?  Not when it
 * has one.  But kernels that read VIOT only when a driver binds ask at that
 * time, when the driver is named and the group not yet counted as in use: the
 * sign is that VIOT's answer, the fwspec, is there.  Newer ones read VIOT when
 * the device comes, and warn if they find a driver.
 */
static inline bool compat_iommu_may_join(struct device *dev)
{
#ifdef COIOMMU_HAVE_IOMMU_READY
	return !dev->driver;
#else
	return !dev->driver || dev_iommu_fwspec_get(dev);
#endif
}

/*
 * Kernels that have one IOMMU driver for a bus never take it back: devices
 * that come later, and the IOMMU that is registered next, would find operations of a
 * module that has gone.  Must be called when the last registration has been undone.
 */
static inline void compat_iommu_leave_buses(const struct iommu_ops *ops)
{
#ifdef COIOMMU_HAVE_BUS_IOMMU_OPS
	if (pci_bus_type.iommu_ops == ops)
		pci_bus_type.iommu_ops = NULL;
	if (platform_bus_type.iommu_ops == ops)
		platform_bus_type.iommu_ops = NULL;
#endif
}

#endif /* COIOMMU_COMPAT_IOMMU_H */
