/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of the driver share.  The device's registers and the formats
 * in memory are in coiommu_abi.h, which the device includes too.
 */
#ifndef COIOMMU_H
#define COIOMMU_H

#include <linux/atomic.h>
#include <linux/device.h>
#include <linux/iommu.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/pci.h>
#include <linux/range.h>
#include <linux/types.h>
#include <linux/workqueue.h>

#include "coiommu_abi.h"
#include "compat/compat.h"

struct coiommu_books;
struct resource;
struct scatterlist;

/**
 * struct coiommu_dtt - the DMA tracking table; see coiommu_dtt.c
 * @leaf: for each leaf the entries as the CPU sees them, or NULL.  Pointers
 *	only ever go from NULL to a leaf while a device may be mapping.
 * @nleaves: length of @leaf and of the directory
 * @unit_shift: log2 of the tracking unit in bytes
 * @ready: the flags of an entry that a map need not do anything about
 * @flag_accessed: COIOMMU_DTT_ACCESSED if negotiated, else 0
 * @dir: the directory that the device reads, contiguous
 * @hotplug: adds leaves before memory goes online
 * @grow: held to add leaves: memory may come while the table is being made
 * @look: adds leaves for memory that came without being announced
 * @saturated: a count is saturated, or was since coiommu_dtt_forget()
 * @underflows: unmaps of what was not mapped
 * @refused: maps refused because there is no leaf
 */
struct coiommu_dtt {
	atomic_t **leaf;
	unsigned long nleaves;
	unsigned int unit_shift;
	u32 ready;
	u32 flag_accessed;
	__le64 *dir;
	struct notifier_block hotplug;
	spinlock_t grow;	/* leaves being added */
	struct work_struct look;
	bool saturated;
	atomic64_t underflows;
	atomic64_t refused;
};

/**
 * struct coiommu_mmio - where MMIO is; see coiommu_mmio.c
 * @ranges: from start to end, which is inclusive
 * @count: how many
 */
struct coiommu_mmio {
	struct range *ranges;
	unsigned int count;
};

/**
 * struct coiommu_slots - the request pages; see coiommu_request.c
 * @page: one per possible CPU; used on that CPU with interrupts off
 * @root: the array of their addresses that the device reads
 * @count: nr_cpu_ids
 * @doorbell: where a slot's number is written
 * @block_shift: log2 of the pin block in bytes
 * @partial: the device may answer a PIN with COIOMMU_ST_AGAIN
 * @requests: doorbells rung
 * @failures: requests that ended neither with COIOMMU_ST_OK nor _AGAIN, PROBE
 *	apart
 * @again: PIN requests that were served in part
 * @ranges: ranges in PIN requests
 * @pages: 4 KiB pages in PIN requests
 * @ns: nanoseconds spent in all of them, from the doorbell write to its return
 * @ns_max: in the longest
 */
struct coiommu_slots {
	struct coiommu_request **page;
	__le64 *root;
	unsigned int count;
	void __iomem *doorbell;
	unsigned int block_shift;
	bool partial;
	atomic64_t requests;
	atomic64_t failures;
	atomic64_t again;
	atomic64_t ranges;
	atomic64_t pages;
	atomic64_t ns;
	atomic64_t ns_max;
};

/**
 * struct coiommu_struck - mappings struck off the books of a device
 * @list: struct mapping; see coiommu_books.c
 */
struct coiommu_struck {
	struct hlist_head list;
};

/**
 * struct coiommu - one coIOMMU function, from probe to remove
 * @pdev: the function
 * @regs: BAR 0
 * @dtt: the table
 * @ram_limit: devices are given no memory above this address; U64_MAX: all of it
 * @mmio: what is no memory
 * @slots: the request pages
 * @bus_nb: learns of drivers that bind to PCI devices
 * @platform_nb: of those that bind to platform devices
 * @auxiliary_nb: of those that bind to auxiliary devices
 * @lock: protects @devices and what struct coiommu_dev says it does.  Taken in
 *	process context, inside the lock of the device that binds or unbinds.
 * @going: the function is being unbound: no device is tracked any more, or
 *	joins a group.  Set once, with @lock held.
 * @devices: struct coiommu_dev, all that we have seen a driver bind to and that
 *	still exist
 * @iommu: registered with the IOMMU core for devices that VIOT names; the one
 *	that all devices belong to
 * @iommu_unnamed: registered for all other devices
 * @forget: forgets what is counted some time after the last DETACH
 * @reap: looks for removed devices that have come to their end
 * @registered: both are; used by the threads of probe and remove only
 * @debugfs: the folder of the counters
 */
struct coiommu {
	struct pci_dev *pdev;
	void __iomem *regs;
	struct coiommu_dtt dtt;
	u64 ram_limit;
	struct coiommu_mmio mmio;
	struct coiommu_slots slots;
	struct notifier_block bus_nb;
	struct notifier_block platform_nb;
	struct notifier_block auxiliary_nb;
	struct mutex lock;	/* @devices and their state */
	bool going;
	struct list_head devices;
	struct delayed_work forget;
	struct delayed_work reap;
	struct iommu_device iommu;
	struct iommu_device iommu_unnamed;
	bool registered;
	struct dentry *debugfs;
};

/**
 * struct coiommu_dev - a struct device whose mappings are counted
 *
 * That is a PCI function which the host tracks, or a child that maps for one
 * (coiommu_children.c).
 *
 * @coi: whose table the device's DMA is counted in
 * @direct_last: memory up to this address needs no call of the shadow if it is
 *	within the device's mask: the shadow's bus limit, or 0 if there is a range map or
 *	everything is bounced.  Written at bind only.
 * @shadowed: the shadow has state that unmap and sync must take it to; see
 *	coiommu_dma_shadowed().  Never cleared.
 * @ops: the device's own operations: dev->dma_ops points here, so the context
 *	is found without a lookup
 * @max_mapping: the device's limit for one mapping, in bytes
 * @shadow: a device without ops on which the kernel's own dma-direct and
 *	swiotlb do what we do not do inline; owns this structure
 * @books: its mappings, one by one, or NULL; see coiommu_books.c.  Written
 *	without a driver only; a booked device is shadowed.
 * @saturated: the log has a line about a saturated count
 * @dev: the device; a reference is held
 * @pdev: the PCI function that does the DMA: @dev, or its ancestor
 * @function: the context of the PCI function that does the DMA, to whose shadow
 *	a reference is held; for the function itself this structure, without one
 * @node: in coiommu::devices
 * @held: a driver is bound or about to be; a module reference, and for a
 *	function a device link, are held
 * @attached: between ATTACH and DETACH; false for a child
 * @given_up: no longer attached, though its driver is bound
 * @removed: unplugged; kept for unmaps that come late
 * @suspect: has been attached since the table was last known to be empty
 * @untracked_reason: why it was not tracked when a driver was last about to bind,
 *	or NULL; the log has a line for it
 * @was_master: its last driver had left bus mastering on
 *
 * What each map and unmap needs comes first, to share a cache line.
 */
struct coiommu_dev {
	struct coiommu *coi;
	u64 direct_last;
	bool shadowed;
	struct dma_map_ops ops;
	size_t max_mapping;
	struct device shadow;
	struct coiommu_books *books;
	bool saturated;
	struct device *dev;
	struct pci_dev *pdev;
	struct coiommu_dev *function;
	struct list_head node;
	bool held;
	bool attached;
	bool given_up;
	bool removed;
	bool suspect;
	bool was_master;
	const char *untracked_reason;
};

static inline bool coiommu_is_child(const struct coiommu_dev *cdev)
{
	return cdev->function != cdev;
}

/* coiommu_pci.c */
int coiommu_enable(struct coiommu *coi);
void coiommu_quiesce(struct coiommu *coi);

/* coiommu_pm.c */
extern const struct dev_pm_ops coiommu_pm_ops;
bool coiommu_pm_link(struct coiommu *coi, struct pci_dev *pdev);
void coiommu_pm_unlink(struct coiommu *coi, struct pci_dev *pdev);

/* coiommu_ram.c */
int coiommu_ram_walk(void *arg, int (*func)(struct resource *, void *));
int coiommu_ram_may_go_online(u64 start, u64 last);
u64 coiommu_ram_limit(void);

/* coiommu_dtt.c */
int coiommu_mmio_init(struct coiommu_mmio *mmio);
void coiommu_mmio_free(struct coiommu_mmio *mmio);
bool coiommu_is_mmio(const struct coiommu_mmio *mmio, u64 addr, size_t size);
int coiommu_dtt_add(struct coiommu_dtt *dtt, u64 start, u64 last, gfp_t gfp);
int coiommu_dtt_init(struct coiommu_dtt *dtt, unsigned int unit_shift,
		     bool accessed, u64 hotplug_end);
void coiommu_dtt_free(struct coiommu_dtt *dtt);
u64 coiommu_dtt_mappings(struct coiommu_dtt *dtt);
u64 coiommu_dtt_forget(struct coiommu_dtt *dtt);

/* coiommu_request.c */
int coiommu_slots_init(struct coiommu_slots *slots, void __iomem *doorbell,
		       u32 max_slots, unsigned int block_shift, bool partial);
void coiommu_slots_free(struct coiommu_slots *slots);
u32 coiommu_endpoint_request(struct coiommu *coi, u32 opcode,
			     struct pci_dev *pdev);
int coiommu_pin(struct coiommu *coi, u64 addr, size_t size);
int coiommu_pin_sg(struct coiommu *coi, struct scatterlist *sgl, int nents);
const char *coiommu_status_name(u32 status);

/* coiommu_count.c */
int coiommu_count_slow(struct coiommu_dev *cdev, u64 addr, size_t size,
		       atomic_t *entry);
int coiommu_count(struct coiommu_dev *cdev, u64 addr, size_t size);
void coiommu_strike(struct coiommu_dev *cdev, u64 addr, size_t size,
		    struct coiommu_struck *struck);
void coiommu_strike_sg(struct coiommu_dev *cdev, struct scatterlist *sgl,
		       int nents, struct coiommu_struck *struck);
void coiommu_uncount(struct coiommu_dev *cdev, u64 addr, size_t size,
		     struct coiommu_struck *struck);
void coiommu_uncount_now(struct coiommu_dev *cdev, u64 addr, size_t size);
int coiommu_count_sg(struct coiommu_dev *cdev, struct scatterlist *sgl,
		     int nents);
int coiommu_pin_counted_sg(struct coiommu_dev *cdev, struct scatterlist *sgl,
			   int nents, int flags);
void coiommu_uncount_sg(struct coiommu_dev *cdev, struct scatterlist *sgl,
			int nents, struct coiommu_struck *struck);

/* coiommu_books.c */
struct coiommu_books *coiommu_books_new(void);
int coiommu_books_add(struct coiommu_books *books, u64 addr, size_t size);
void coiommu_books_strike(struct coiommu_books *books, u64 addr, size_t size,
			  struct coiommu_struck *struck);
void coiommu_books_strike_all(struct coiommu_books *books,
			      struct coiommu_struck *struck);
u64 coiommu_struck_put(struct coiommu_struck *struck, struct coiommu_dtt *dtt);

/* coiommu_dma.c */
extern const struct dma_map_ops coiommu_dma_ops;
void coiommu_dma_shadowed(struct coiommu_dev *cdev);
int coiommu_dma_book(struct coiommu_dev *cdev);
void coiommu_dma_install(struct coiommu_dev *cdev);
void coiommu_dma_leave(struct coiommu_dev *cdev);
bool coiommu_dma_is_ours(const struct dma_map_ops *ops);

/* coiommu_children.c */
struct pci_dev *coiommu_function_of(struct device *dev);
int coiommu_children_init(struct coiommu *coi);
void coiommu_children_exit(struct coiommu *coi);
int coiommu_child_event(struct coiommu *coi, unsigned long event,
			struct device *dev);
struct device *coiommu_child_uncounted(struct pci_dev *pdev, bool bound);
void coiommu_children_check(struct coiommu_dev *function);

/* coiommu_context.c */
struct coiommu_dev *coiommu_dev_find(struct coiommu *coi,
				     const struct device *dev);
struct coiommu_dev *coiommu_dev_new(struct coiommu *coi, struct device *dev,
				    struct coiommu_dev *function);
void coiommu_dev_take_ops(struct coiommu_dev *cdev, struct device *dev);
void coiommu_dev_take_all_ops(struct coiommu *coi);
void coiommu_dev_drop(struct coiommu_dev *cdev);
void coiommu_dev_refresh(struct coiommu_dev *cdev);
bool coiommu_dev_can_bounce(struct coiommu_dev *cdev);

/* coiommu_track.c */
const char *coiommu_dev_count(struct coiommu_dev *function, struct device *dev);
void coiommu_dev_give_up(struct coiommu_dev *function);
void coiommu_dev_release(struct coiommu_dev *cdev);
void coiommu_dev_remove(struct coiommu_dev *cdev);
int coiommu_track_init(struct coiommu *coi);
void coiommu_track_stop(struct coiommu *coi);
void coiommu_track_exit(struct coiommu *coi);

/* coiommu_rebind.c */
void coiommu_rebind_take(struct pci_dev *pdev);
void coiommu_rebind_start(void);
void coiommu_rebind_exit(void);

/* coiommu_iommu.c */
#ifdef CONFIG_IOMMU_API
void coiommu_iommu_init(struct coiommu *coi);
void coiommu_iommu_exit(struct coiommu *coi);
void coiommu_iommu_adopt(struct coiommu *coi, struct pci_dev *pdev);
#else
static inline void coiommu_iommu_init(struct coiommu *coi) { }
static inline void coiommu_iommu_exit(struct coiommu *coi) { }
static inline void coiommu_iommu_adopt(struct coiommu *coi,
				       struct pci_dev *pdev) { }
#endif

/* coiommu_debugfs.c */
#ifdef CONFIG_DEBUG_FS
void coiommu_debugfs_init(struct coiommu *coi);
void coiommu_debugfs_exit(struct coiommu *coi);
#else
static inline void coiommu_debugfs_init(struct coiommu *coi) { }
static inline void coiommu_debugfs_exit(struct coiommu *coi) { }
#endif

#endif /* COIOMMU_H */
