// SPDX-License-Identifier: GPL-2.0
/*
 * The DMA operations of a tracked device.
 *
 * Each tracked device has its own struct dma_map_ops inside its context, so
 * the context is found from dev->dma_ops by container_of().  What the
 * operations have to do is what the kernel does for a device without any
 * (dma-direct and swiotlb), and to count the result in the table.  Modules
 * cannot call dma-direct, but it is what the public DMA API does for a device
 * that has no operations: the *shadow*, a struct device that shares the real
 * one's masks and limits.
 *
 * Calling the shadow costs more than dma-direct itself, so the usual case is
 * done inline: without a range map and without forced bouncing an address
 * within the mask is its own DMA address, and nothing needs to be undone or
 * synchronized.  As soon as one mapping has gone through a bounce buffer,
 * @shadowed is set, and unmap and sync always call the shadow, which knows the
 * addresses that are bounced.
 *
 * Until then the device has no sync operations, and the DMA API knows that it
 * need not call them: a sync costs what it costs with dma-direct, next to
 * nothing.  They must be installed, and the flag by which it knows must be cleared,
 * before the first bounced address goes to the driver, or data is lost: swiotlb
 * clears that flag too, but on the shadow, at which the driver's syncs do not look.
 *
 * Going.  The DMA API reads dev->dma_ops and calls an operation, which reads it
 * once more to find the context.  An unmap that comes late, from another CPU, may
 * see two values.  A test for that would cost each unmap two instructions, so the
 * hot operations (map, unmap, and those of lists) have none.  Before dev->dma_ops
 * may become NULL they are replaced, in the device's own structure, by such as do
 * look and then use the shadow (coiommu_dma_leave()), and a grace period lets those
 * return that had been called before; coiommu_dev_take_ops() does all of it.  All
 * other operations (coiommu_alloc.c) always look.  A task that sleeps in an operation
 * is not waited for: only coherent memory is freed so, and drivers must free it before
 * they are unbound.
 *
 * Order.  Map: the shadow first, then count and pin what it returned.  Unmap:
 * the shadow first (it copies the bounce buffer), then the count.
 *
 * Tracing.  The usual case must not pay for it: while map or unmap is traced the
 * whole operation is done by a copy of it out of line, so that nothing is kept
 * in registers or on the stack for a trace that is off.
 */
#include <linux/memremap.h>
#include <linux/scatterlist.h>

#include "coiommu.h"
#include "coiommu_alloc.h"
#include "coiommu_books.h"
#include "coiommu_count.h"
#include "coiommu_dma.h"
#include "coiommu_mmio.h"
#include "coiommu_trace.h"

/*
 * For the counting operations only: coiommu_dma_leave() must have replaced them,
 * and the callers that were in them have returned, before dev->dma_ops changes.
 */
static __always_inline struct coiommu_dev *to_coiommu_dev(struct device *dev)
{
	return container_of(dev->dma_ops, struct coiommu_dev, ops);
}

/* Some drivers set dev->dma_mask in their probe, or another one (sdhci). */
static struct device *shadow_for_map(struct coiommu_dev *cdev)
{
	WRITE_ONCE(cdev->shadow.dma_mask, cdev->dev->dma_mask);
	return &cdev->shadow;
}

/* Would dma-direct just return the physical address? */
static __always_inline bool is_direct(struct coiommu_dev *cdev,
				      struct device *dev, phys_addr_t phys,
				      size_t size)
{
	const phys_addr_t last = phys + size - 1;

	return last <= cdev->direct_last && last <= *dev->dma_mask;
}

static __always_inline bool is_shadowed(struct coiommu_dev *cdev)
{
	return unlikely(READ_ONCE(cdev->shadowed));
}

static void install_sync(struct coiommu_dev *cdev)
{
	WRITE_ONCE(cdev->ops.sync_single_for_cpu,
		   coiommu_sync_single_for_cpu);
	WRITE_ONCE(cdev->ops.sync_single_for_device,
		   coiommu_sync_single_for_device);
	WRITE_ONCE(cdev->ops.sync_sg_for_cpu,
		   coiommu_sync_sg_for_cpu);
	WRITE_ONCE(cdev->ops.sync_sg_for_device,
		   coiommu_sync_sg_for_device);
}

/**
 * coiommu_dma_shadowed - from now on the shadow is asked at unmap and sync
 * @cdev: the device
 *
 * Any context, several CPUs at a time.  Must be called before the first address that
 * the shadow has bounced goes to the driver: the CPU that unmaps or syncs it has it
 * from there, and so sees what is written here.
 */
void coiommu_dma_shadowed(struct coiommu_dev *cdev)
{
	/* Acquire: if another CPU has been here, all of it is done. */
	if (smp_load_acquire(&cdev->shadowed))
		return;
	install_sync(cdev);
	compat_dev_clear_skip_sync(cdev->dev);
	/* Release: pairs with the acquire above. */
	smp_store_release(&cdev->shadowed, true);
}

/**
 * coiommu_dma_book - from now on each mapping is booked
 * @cdev: a device that has no driver
 *
 * Process context.  An unmap of an earlier mapping is not in the books, and takes no
 * count back.  Returns 0 or -ENOMEM.
 */
int coiommu_dma_book(struct coiommu_dev *cdev)
{
	if (cdev->books)
		return 0;
	cdev->books = coiommu_books_new();
	if (!cdev->books)
		return -ENOMEM;
	cdev->direct_last = 0;
	/* The flag that leaves syncs out is cleared when a driver binds. */
	install_sync(cdev);
	/* Release: a CPU that sees it in is_shadowed() must see the books. */
	smp_store_release(&cdev->shadowed, true);
	return 0;
}

/* Note what the shadow made of @phys, before the driver gets the address. */
static void note_mapped(struct coiommu_dev *cdev, phys_addr_t phys,
			dma_addr_t addr)
{
	if (addr != phys)
		coiommu_dma_shadowed(cdev);
}

static __always_inline void untrack(struct coiommu_dev *cdev, dma_addr_t addr,
				    size_t size)
{
	coiommu_dtt_put(&cdev->coi->dtt, addr, size);
}

static void untrack_sg(struct coiommu_dev *cdev, struct scatterlist *sgl,
		       int nents)
{
	struct scatterlist *sg;
	int i;

	for_each_sg(sgl, sg, nents, i)
		untrack(cdev, sg_dma_address(sg), sg_dma_len(sg));
}

/*
 * A list that has been counted inline, with flags COIOMMU_GET_*.  Returns its
 * length, or a negative errno and nothing is counted.
 */
static int pin_sg_direct(struct coiommu_dev *cdev, struct scatterlist *sgl,
			 int nents, int flags)
{
	int ret = coiommu_pin_counted_sg(cdev, sgl, nents, flags);

	if (ret)
		untrack_sg(cdev, sgl, nents);
	return ret ?: nents;
}

/*
 * Is a mapping of memory, and so counted?  A resource may be RAM that the kernel
 * does not use.  The answer for unmap is the one that map had.
 */
static bool is_memory(struct coiommu_dev *cdev, u64 addr, size_t size,
		      unsigned long attrs)
{
	return !(attrs & DMA_ATTR_MMIO) ||
	       !coiommu_is_mmio(&cdev->coi->mmio, addr, size);
}

/*
 * The address for @phys.  What is mapped as MMIO is never bounced, and a BAR may
 * well be above what memory is limited to.
 */
static dma_addr_t map_shadow(struct coiommu_dev *cdev, phys_addr_t phys,
			     size_t size, enum dma_data_direction dir,
			     unsigned long attrs)
{
	struct device *shadow = shadow_for_map(cdev);

	if (!(attrs & DMA_ATTR_MMIO) || cdev->coi->ram_limit == U64_MAX)
		return compat_map_phys(shadow, phys, size, dir, attrs);
	return phys + size - 1 <= *shadow->dma_mask ? phys : DMA_MAPPING_ERROR;
}

/*
 * What map and unmap do in other than the usual case is out of line, so that
 * the usual case needs no stack.
 */
static noinline dma_addr_t map_by_shadow(struct coiommu_dev *cdev,
					 phys_addr_t phys, size_t size,
					 enum dma_data_direction dir,
					 unsigned long attrs)
{
	dma_addr_t addr = map_shadow(cdev, phys, size, dir, attrs);

	if (dma_mapping_error(&cdev->shadow, addr))
		return DMA_MAPPING_ERROR;
	if (!is_memory(cdev, addr, size, attrs))
		return addr;
	/* RAM that the kernel does not know need not be in the table yet. */
	if (attrs & DMA_ATTR_MMIO)
		coiommu_dtt_add(&cdev->coi->dtt, addr, addr + size - 1,
				GFP_ATOMIC);
	note_mapped(cdev, phys, addr);
	if (coiommu_count(cdev, addr, size)) {
		compat_unmap_phys(&cdev->shadow, addr, size, dir,
				  attrs | DMA_ATTR_SKIP_CPU_SYNC);
		return DMA_MAPPING_ERROR;
	}
	return addr;
}

static noinline dma_addr_t map_slow(struct coiommu_dev *cdev, dma_addr_t addr,
				    size_t size, atomic_t *entry)
{
	return coiommu_count_slow(cdev, addr, size, entry) ?
	       DMA_MAPPING_ERROR : addr;
}

static noinline void unmap_by_shadow(struct coiommu_dev *cdev, dma_addr_t addr,
				     size_t size, enum dma_data_direction dir,
				     unsigned long attrs)
{
	struct coiommu_struck struck = { };
	const bool counted = is_memory(cdev, addr, size, attrs);

	/* Before the shadow frees @addr: it may be mapped anew at once. */
	if (counted)
		coiommu_strike(cdev, addr, size, &struck);
	compat_unmap_phys(&cdev->shadow, addr, size, dir, attrs);
	if (counted)
		coiommu_uncount(cdev, addr, size, &struck);
}

static __always_inline dma_addr_t map_phys(struct device *dev,
					   phys_addr_t phys, size_t size,
					   enum dma_data_direction dir,
					   unsigned long attrs)
{
	struct coiommu_dev *cdev = to_coiommu_dev(dev);
	atomic_t *entry;

	if (unlikely(attrs & DMA_ATTR_MMIO ||
		     !is_direct(cdev, dev, phys, size)))
		return map_by_shadow(cdev, phys, size, dir, attrs);
	if (likely(coiommu_dtt_get_fast(&cdev->coi->dtt, phys, size, &entry)))
		return phys;
	return map_slow(cdev, phys, size, entry);
}

static __always_inline void unmap_phys(struct device *dev, dma_addr_t addr,
				       size_t size,
				       enum dma_data_direction dir,
				       unsigned long attrs)
{
	struct coiommu_dev *cdev = to_coiommu_dev(dev);

	if (unlikely(attrs & DMA_ATTR_MMIO || is_shadowed(cdev)))
		unmap_by_shadow(cdev, addr, size, dir, attrs);
	else
		untrack(cdev, addr, size);
}

static void trace_mapped(struct coiommu_dev *cdev, dma_addr_t addr, size_t size,
			 unsigned long attrs)
{
	if (addr != DMA_MAPPING_ERROR && !(attrs & DMA_ATTR_MMIO))
		trace_coiommu_map(cdev->pdev, addr, size);
}

static void trace_unmap(struct coiommu_dev *cdev, dma_addr_t addr, size_t size,
			unsigned long attrs)
{
	if (!(attrs & DMA_ATTR_MMIO))
		trace_coiommu_unmap(cdev->pdev, addr, size);
}

static noinline dma_addr_t map_phys_traced(struct device *dev, phys_addr_t phys,
					   size_t size,
					   enum dma_data_direction dir,
					   unsigned long attrs)
{
	dma_addr_t addr = map_phys(dev, phys, size, dir, attrs);

	trace_mapped(to_coiommu_dev(dev), addr, size, attrs);
	return addr;
}

static noinline void unmap_phys_traced(struct device *dev, dma_addr_t addr,
				       size_t size,
				       enum dma_data_direction dir,
				       unsigned long attrs)
{
	trace_unmap(to_coiommu_dev(dev), addr, size, attrs);
	unmap_phys(dev, addr, size, dir, attrs);
}

static dma_addr_t coiommu_map_phys(struct device *dev, phys_addr_t phys,
				   size_t size, enum dma_data_direction dir,
				   unsigned long attrs)
{
	if (trace_coiommu_map_enabled())
		return map_phys_traced(dev, phys, size, dir, attrs);
	return map_phys(dev, phys, size, dir, attrs);
}

static void coiommu_unmap_phys(struct device *dev, dma_addr_t addr,
			       size_t size, enum dma_data_direction dir,
			       unsigned long attrs)
{
	if (trace_coiommu_unmap_enabled())
		unmap_phys_traced(dev, addr, size, dir, attrs);
	else
		unmap_phys(dev, addr, size, dir, attrs);
}

static dma_addr_t leaving_map_phys(struct device *dev, phys_addr_t phys,
				   size_t size, enum dma_data_direction dir,
				   unsigned long attrs)
{
	struct coiommu_dev *cdev = coiommu_find_context(dev);
	dma_addr_t addr;

	if (!cdev)
		return compat_map_phys(dev, phys, size, dir, attrs);
	addr = map_by_shadow(cdev, phys, size, dir, attrs);
	trace_mapped(cdev, addr, size, attrs);
	return addr;
}

static void leaving_unmap_phys(struct device *dev, dma_addr_t addr,
			       size_t size, enum dma_data_direction dir,
			       unsigned long attrs)
{
	struct coiommu_dev *cdev = coiommu_find_context(dev);

	if (!cdev) {
		compat_unmap_phys(dev, addr, size, dir, attrs);
		return;
	}
	trace_unmap(cdev, addr, size, attrs);
	unmap_by_shadow(cdev, addr, size, dir, attrs);
}

/* Each kernel's operations, made of the two pairs of functions above. */
#include "compat/map_ops.h"
COMPAT_DEFINE_MAP_OPS(coiommu)
COMPAT_DEFINE_MAP_OPS(leaving)

/*
 * The list as dma-direct would map it, in one pass.  Returns as
 * coiommu_dtt_get(), or -EAGAIN if an entry needs the shadow;
 * on an error nothing is counted.
 */
static int map_sg_direct(struct coiommu_dev *cdev, struct device *dev,
			 struct scatterlist *sgl, int nents)
{
	struct scatterlist *sg;
	int flags = 0;
	int i, ret;

	for_each_sg(sgl, sg, nents, i) {
		phys_addr_t phys = sg_phys(sg);

		ret = -EAGAIN;
		if (unlikely(!is_direct(cdev, dev, phys, sg->length) ||
			     is_pci_p2pdma_page(sg_page(sg))))
			goto err;
		ret = coiommu_dtt_get(&cdev->coi->dtt, phys, sg->length);
		if (unlikely(ret < 0))
			goto err;
		flags |= ret;
		sg_dma_address(sg) = phys;
		sg_dma_len(sg) = sg->length;
	}
	return flags;

err:
	untrack_sg(cdev, sgl, i);
	return ret;
}

static int map_sg_by_shadow(struct coiommu_dev *cdev, struct scatterlist *sgl,
			    int nents, enum dma_data_direction dir,
			    unsigned long attrs)
{
	/* dma_map_sg_attrs() would lose the error code. */
	struct sg_table table = { .sgl = sgl, .orig_nents = nents };
	struct scatterlist *sg;
	int i, ret;

	ret = dma_map_sgtable(shadow_for_map(cdev), &table, dir, attrs);
	if (ret)
		return ret;
	for_each_sg(sgl, sg, table.nents, i)
		note_mapped(cdev, sg_phys(sg), sg_dma_address(sg));
	ret = coiommu_count_sg(cdev, sgl, table.nents);
	if (ret) {
		dma_unmap_sgtable(&cdev->shadow, &table, dir,
				  attrs | DMA_ATTR_SKIP_CPU_SYNC);
		return ret;
	}
	return table.nents;
}

static noinline void trace_map_sg(struct coiommu_dev *cdev, struct scatterlist *sgl,
				  int nents)
{
	struct scatterlist *sg;
	int i;

	for_each_sg(sgl, sg, nents, i)
		trace_coiommu_map(cdev->pdev, sg_dma_address(sg), sg_dma_len(sg));
}

static int coiommu_map_sg(struct device *dev, struct scatterlist *sgl,
			  int nents, enum dma_data_direction dir,
			  unsigned long attrs)
{
	struct coiommu_dev *cdev = to_coiommu_dev(dev);
	int ret = map_sg_direct(cdev, dev, sgl, nents);

	if (unlikely(ret == -EAGAIN))
		ret = map_sg_by_shadow(cdev, sgl, nents, dir, attrs);
	else if (unlikely(ret > 0))
		ret = pin_sg_direct(cdev, sgl, nents, ret);
	else if (likely(!ret))
		ret = nents;
	if (trace_coiommu_map_enabled() && ret > 0)
		trace_map_sg(cdev, sgl, ret);
	return ret;
}

static int leaving_map_sg(struct device *dev, struct scatterlist *sgl,
			  int nents, enum dma_data_direction dir,
			  unsigned long attrs)
{
	struct sg_table table = { .sgl = sgl, .orig_nents = nents };
	struct coiommu_dev *cdev = coiommu_find_context(dev);
	int ret;

	if (!cdev)
		return dma_map_sgtable(dev, &table, dir, attrs) ?: table.nents;
	ret = map_sg_by_shadow(cdev, sgl, nents, dir, attrs);
	if (trace_coiommu_map_enabled() && ret > 0)
		trace_map_sg(cdev, sgl, ret);
	return ret;
}

static noinline void unmap_sg_by_shadow(struct coiommu_dev *cdev,
					struct scatterlist *sgl, int nents,
					enum dma_data_direction dir,
					unsigned long attrs)
{
	struct coiommu_struck struck = { };

	/* As in unmap_by_shadow(). */
	coiommu_strike_sg(cdev, sgl, nents, &struck);
	dma_unmap_sg_attrs(&cdev->shadow, sgl, nents, dir, attrs);
	coiommu_uncount_sg(cdev, sgl, nents, &struck);
}

static __always_inline void unmap_sg(struct device *dev,
				     struct scatterlist *sgl, int nents,
				     enum dma_data_direction dir,
				     unsigned long attrs)
{
	struct coiommu_dev *cdev = to_coiommu_dev(dev);

	if (is_shadowed(cdev))
		unmap_sg_by_shadow(cdev, sgl, nents, dir, attrs);
	else
		untrack_sg(cdev, sgl, nents);
}

static noinline void trace_unmap_sg(struct coiommu_dev *cdev,
				    struct scatterlist *sgl, int nents)
{
	struct scatterlist *sg;
	int i;

	for_each_sg(sgl, sg, nents, i)
		trace_coiommu_unmap(cdev->pdev, sg_dma_address(sg), sg_dma_len(sg));
}

static noinline void unmap_sg_traced(struct device *dev,
				     struct scatterlist *sgl, int nents,
				     enum dma_data_direction dir,
				     unsigned long attrs)
{
	trace_unmap_sg(to_coiommu_dev(dev), sgl, nents);
	unmap_sg(dev, sgl, nents, dir, attrs);
}

static void coiommu_unmap_sg(struct device *dev, struct scatterlist *sgl,
			     int nents, enum dma_data_direction dir,
			     unsigned long attrs)
{
	if (trace_coiommu_unmap_enabled())
		unmap_sg_traced(dev, sgl, nents, dir, attrs);
	else
		unmap_sg(dev, sgl, nents, dir, attrs);
}

static void leaving_unmap_sg(struct device *dev, struct scatterlist *sgl,
			     int nents, enum dma_data_direction dir,
			     unsigned long attrs)
{
	struct coiommu_dev *cdev = coiommu_find_context(dev);

	if (!cdev) {
		dma_unmap_sg_attrs(dev, sgl, nents, dir, attrs);
		return;
	}
	if (trace_coiommu_unmap_enabled())
		trace_unmap_sg(cdev, sgl, nents);
	unmap_sg_by_shadow(cdev, sgl, nents, dir, attrs);
}

/* A device's operations to begin with: see coiommu_dma_shadowed(). */
const struct dma_map_ops coiommu_dma_ops = {
	COMPAT_MAP_OPS(coiommu),
	.map_sg			= coiommu_map_sg,
	.unmap_sg		= coiommu_unmap_sg,
	.alloc			= coiommu_alloc,
	.free			= coiommu_free,
	.COMPAT_OP_ALLOC_PAGES	= coiommu_alloc_pages,
	.free_pages		= coiommu_free_pages,
	.mmap			= coiommu_mmap,
	.get_sgtable		= coiommu_get_sgtable,
	.dma_supported		= coiommu_dma_supported,
	.get_required_mask	= coiommu_get_required_mask,
	.max_mapping_size	= coiommu_max_mapping_size,
};

static const struct dma_map_ops leaving_ops = {
	COMPAT_MAP_OPS(leaving),
	.map_sg		= leaving_map_sg,
	.unmap_sg	= leaving_unmap_sg,
};

/* Replace the operations that find the context without a look. */
static void replace_hot(struct coiommu_dev *cdev,
			const struct dma_map_ops *ops)
{
	compat_set_map_ops(&cdev->ops, ops);
	WRITE_ONCE(cdev->ops.map_sg, ops->map_sg);
	WRITE_ONCE(cdev->ops.unmap_sg, ops->unmap_sg);
}

/**
 * coiommu_dma_install - from here on each mapping of the device is counted
 * @cdev: its context, refreshed; no driver maps with the device
 */
void coiommu_dma_install(struct coiommu_dev *cdev)
{
	replace_hot(cdev, &coiommu_dma_ops);
	set_dma_ops(cdev->dev, &cdev->ops);
	/* A flag from the time without operations would be stale. */
	if (cdev->shadowed)
		compat_dev_clear_skip_sync(cdev->dev);
}

/**
 * coiommu_dma_leave - make operations ready to be taken from their device
 * @cdev: its context
 *
 * The caller must call compat_synchronize_ops() before it changes dev->dma_ops.
 */
void coiommu_dma_leave(struct coiommu_dev *cdev)
{
	replace_hot(cdev, &leaving_ops);
}
