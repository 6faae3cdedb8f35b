/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between the kernels that this module is built for.  Kbuild
 * reads the target's headers and defines COIOMMU_HAVE_*; only the files in
 * this folder look at those macros.
 */
#ifndef COIOMMU_COMPAT_H
#define COIOMMU_COMPAT_H

#include <linux/device.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/pci.h>
#include <linux/rcupdate.h>

/* CONFIG_DMA_OPS until 6.11, CONFIG_ARCH_HAS_DMA_OPS since. */
#if !defined(CONFIG_DMA_OPS) && !defined(CONFIG_ARCH_HAS_DMA_OPS)
#error "coiommu needs dev->dma_ops: CONFIG_ARCH_HAS_DMA_OPS (x86: by XEN or GART_IOMMU)"
#endif

#ifdef __BIG_ENDIAN
#error "coiommu needs a little-endian CPU: the table is little-endian"
#endif

/* Is the device's DMA translated by the kernel's dma-iommu without ops? */
static inline bool compat_dev_dma_iommu(struct device *dev)
{
#if defined(COIOMMU_HAVE_DEV_FLAGS)
	return dev_dma_iommu(dev);
#elif defined(COIOMMU_HAVE_DMA_IOMMU_BIT) && defined(CONFIG_IOMMU_DMA)
	return dev->dma_iommu;
#else
	return false;
#endif
}

/*
 * The function whose requester ID a PCI device's DMA has.  As the kernel's
 * pci_real_dma_dev(), which is not exported.
 */
static inline struct pci_dev *compat_real_dma_dev(struct pci_dev *pdev)
{
#if defined(CONFIG_X86) && IS_ENABLED(CONFIG_VMD)
	if (is_vmd(pdev->bus))
		return to_pci_sysdata(pdev->bus)->vmd_dev;
#endif
	return pdev;
}

/*
 * While this flag is set the DMA API leaves out the sync operations.  It is
 * computed by dma_set_mask() from the operations that there are at that time.
 */
static inline void compat_dev_clear_skip_sync(struct device *dev)
{
#if defined(CONFIG_DMA_NEED_SYNC)
#if defined(COIOMMU_HAVE_DEV_FLAGS)
	dev_clear_dma_skip_sync(dev);
#elif defined(COIOMMU_HAVE_SKIP_SYNC_BIT)
	dev->dma_skip_sync = false;
#endif
#endif
}

/* The attributes with which the DMA API may be called again from ->alloc(). */
static inline unsigned long compat_alloc_attrs(unsigned long attrs)
{
#ifdef COIOMMU_HAVE_ALLOC_CC_SHARED
	attrs &= ~__DMA_ATTR_ALLOC_CC_SHARED;
#endif
	return attrs;
}

/*
 * Wait until no CPU is in operations that have been taken from their devices.
 * They run without rcu_read_lock(), so where a task can be preempted in them RCU
 * alone does not wait for it.
 */
static inline void compat_synchronize_ops(void)
{
#ifdef CONFIG_TASKS_RCU
	synchronize_rcu_tasks();
#endif
	synchronize_rcu();
}

#ifdef COIOMMU_HAVE_OP_ALLOC_PAGES_OP
#define COMPAT_OP_ALLOC_PAGES	alloc_pages_op
#else
#define COMPAT_OP_ALLOC_PAGES	alloc_pages
#endif

/* Map RAM, or with DMA_ATTR_MMIO a resource, by its physical address. */
#ifdef COIOMMU_HAVE_OP_MAP_PHYS

#define compat_map_phys		dma_map_phys
#define compat_unmap_phys	dma_unmap_phys

#else

/* Only a name here: the bit never leaves this driver. */
#ifndef DMA_ATTR_MMIO
#define DMA_ATTR_MMIO		BIT(31)
#endif

static inline dma_addr_t compat_map_phys(struct device *dev, phys_addr_t phys,
					 size_t size,
					 enum dma_data_direction dir,
					 unsigned long attrs)
{
	if (attrs & DMA_ATTR_MMIO)
		return dma_map_resource(dev, phys, size, dir,
					attrs & ~DMA_ATTR_MMIO);
	return dma_map_page_attrs(dev, pfn_to_page(PHYS_PFN(phys)),
				  offset_in_page(phys), size, dir, attrs);
}

static inline void compat_unmap_phys(struct device *dev, dma_addr_t addr,
				     size_t size, enum dma_data_direction dir,
				     unsigned long attrs)
{
	if (attrs & DMA_ATTR_MMIO)
		dma_unmap_resource(dev, addr, size, dir,
				   attrs & ~DMA_ATTR_MMIO);
	else
		dma_unmap_page_attrs(dev, addr, size, dir, attrs);
}

#endif /* !COIOMMU_HAVE_OP_MAP_PHYS */

#endif /* COIOMMU_COMPAT_H */
