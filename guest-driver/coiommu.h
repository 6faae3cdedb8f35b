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
#include <linux/types.h>

#include "coiommu_abi.h"
#include "compat/compat.h"

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
 * @underflows: unmaps of what was not mapped
 * @refused: maps refused because there is no leaf or the count is at its limit
 */
struct coiommu_dtt {
	atomic_t **leaf;
	unsigned long nleaves;
	unsigned int unit_shift;
	u32 ready;
	u32 flag_accessed;
	__le64 *dir;
	struct notifier_block hotplug;
	struct mutex grow;	/* leaves being added */
	atomic64_t underflows;
	atomic64_t refused;
};

/**
 * struct coiommu_slots - the request pages; see coiommu_request.c
 * @page: one per possible CPU; used on that CPU with interrupts off
 * @root: the array of their addresses that the device reads
 * @count: nr_cpu_ids
 * @doorbell: where a slot's number is written
 * @requests: doorbells rung
 * @failures: requests that did not end with COIOMMU_ST_OK, PROBE apart
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
	atomic64_t requests;
	atomic64_t failures;
	atomic64_t ranges;
	atomic64_t pages;
	atomic64_t ns;
	atomic64_t ns_max;
};

/**
 * struct coiommu - one coIOMMU function, from probe to remove
 * @pdev: the function
 * @regs: BAR 0
 * @dtt: the table
 * @slots: the request pages
 * @bus_nb: learns of drivers that bind to PCI devices
 * @lock: protects @devices and what struct coiommu_dev says it does.  Taken in
 *	process context, inside the lock of the device that binds or unbinds.
 * @devices: struct coiommu_dev, all that we have seen a driver bind to and that
 *	still exist
 * @iommu: registered with the IOMMU core for devices that VIOT names; the one
 *	that all devices belong to
 * @iommu_unnamed: registered for all other devices
 * @registered: both are
 * @debugfs: the folder of the counters
 */
struct coiommu {
	struct pci_dev *pdev;
	void __iomem *regs;
	struct coiommu_dtt dtt;
	struct coiommu_slots slots;
	struct notifier_block bus_nb;
	struct mutex lock;	/* @devices and their state */
	struct list_head devices;
	struct iommu_device iommu;
	struct iommu_device iommu_unnamed;
	bool registered;
	struct dentry *debugfs;
};

/**
 * struct coiommu_dev - a PCI device that the host tracks
 * @coi: whose table the device's DMA is counted in
 * @direct_last: memory up to this address needs no call of the shadow if it is
 *	within the device's mask: the bus limit, or 0 if there is a range map or
 *	everything is bounced.  Written at bind only.
 * @shadowed: the shadow has state that unmap and sync must take it to; see
 *	coiommu_dma_shadowed().  Never cleared.
 * @ops: the device's own operations: dev->dma_ops points here, so the context
 *	is found without a lookup
 * @max_mapping: the device's limit for one mapping, in bytes
 * @shadow: a device without ops on which the kernel's own dma-direct and
 *	swiotlb do what we do not do inline; owns this structure
 * @pdev: the device; a reference is held
 * @node: in coiommu::devices
 * @held: a driver is bound or about to be; a module reference is held
 * @attached: between ATTACH and DETACH
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
	struct pci_dev *pdev;
	struct list_head node;
	bool held;
	bool attached;
};

/* coiommu_pci.c */
int coiommu_enable(struct coiommu *coi);
void coiommu_quiesce(struct coiommu *coi);

/* coiommu_pm.c */
extern const struct dev_pm_ops coiommu_pm_ops;
bool coiommu_pm_link(struct coiommu *coi, struct pci_dev *pdev);
void coiommu_pm_unlink(struct coiommu *coi, struct pci_dev *pdev);

/* coiommu_dtt.c */
int coiommu_walk_ram(void *arg, int (*func)(struct resource *, void *));
int coiommu_dtt_init(struct coiommu_dtt *dtt, unsigned int unit_shift,
		     bool accessed, u64 hotplug_end);
void coiommu_dtt_free(struct coiommu_dtt *dtt);
u64 coiommu_dtt_forget(struct coiommu_dtt *dtt);

/* coiommu_request.c */
int coiommu_slots_init(struct coiommu_slots *slots, void __iomem *doorbell,
		       u32 max_slots);
void coiommu_slots_free(struct coiommu_slots *slots);
u32 coiommu_endpoint_request(struct coiommu *coi, u32 opcode,
			     struct pci_dev *pdev);
int coiommu_pin(struct coiommu *coi, u64 addr, size_t size);
int coiommu_pin_sg(struct coiommu *coi, struct scatterlist *sgl, int nents);
const char *coiommu_status_name(u32 status);

/* coiommu_dma.c */
extern const struct dma_map_ops coiommu_dma_ops;
void coiommu_dma_shadowed(struct coiommu_dev *cdev);

/* coiommu_track.c */
int coiommu_track_init(struct coiommu *coi);
void coiommu_track_exit(struct coiommu *coi);

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
