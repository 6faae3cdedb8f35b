/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver of the stress device (stress_abi.h), for the tests in tests/smp.
 *
 *   stress.c	the devices, their threads, what sysfs asks and tells
 *   mapping.c	one slot: map memory in one of many ways, hand it over, get it
 *		back, unmap, check the data
 *   arena.c	the memory that is mapped
 */
#ifndef STRESS_H
#define STRESS_H

#include <linux/atomic.h>
#include <linux/ktime.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>

#include "stress_abi.h"

#define THREADS_MAX		8

enum mapping_kind {
	MAPPING_SINGLE,
	MAPPING_PAGE,
	MAPPING_SG,
	MAPPING_COHERENT,
	MAPPING_KINDS
};

/**
 * struct run - pages of the arena that somebody has claimed
 * @first: index of the first
 * @count: how many, all in one piece; 0: none
 */
struct run {
	unsigned int first;
	unsigned int count;
};

/**
 * struct mapping - what is in a slot of the ring
 * @slot: the slot, shared with the device
 * @hot: it is for small and short mappings of hot memory
 * @kind: how it is mapped, while it is
 * @dir: for what
 * @seed: what its data is made of
 * @due: when it is to be given back
 * @units: by how much it raises the counts of coIOMMU's table
 * @count: stretches of memory
 * @run: whose pages they are; none for coherent memory
 * @cpu: where each begins
 * @sg: the list, for MAPPING_SG; address and size of each, for all
 */
struct mapping {
	struct stress_slot *slot;
	bool hot;
	enum mapping_kind kind;
	enum dma_data_direction dir;
	u64 seed;
	ktime_t due;
	long units;
	unsigned int count;
	struct run run[STRESS_SEGMENTS];
	void *cpu[STRESS_SEGMENTS];
	struct scatterlist sg[STRESS_SEGMENTS];
};

/**
 * struct stress - a bound device
 * @pdev: the device
 * @regs: BAR 0
 * @lock: one command of sysfs at a time
 * @ring: the slots
 * @ring_addr: their DMA address
 * @ring_units: what the ring adds to the counts of the table
 * @max_size: the largest mapping
 * @mapping: one for each slot
 * @thread: each has slots_per_thread slots; NULL if it doesn't run
 * @maps: mappings made
 * @unmaps: mappings undone
 * @failed: mappings that came to nothing: refused, or no free pages found
 * @mismatches: mappings that came back with wrong data
 * @live_units: what all live mappings but the ring add to the counts
 */
struct stress {
	struct pci_dev *pdev;
	void __iomem *regs;
	struct mutex lock;	/* one command of sysfs at a time */
	struct stress_slot *ring;
	dma_addr_t ring_addr;
	long ring_units;
	size_t max_size;
	struct mapping *mapping;
	struct task_struct *thread[THREADS_MAX];
	atomic_long_t maps;
	atomic_long_t unmaps;
	atomic_long_t failed;
	atomic_long_t mismatches;
	atomic_long_t live_units;
};

/* arena.c */
int arena_init(unsigned int mib, unsigned int hot_pages);
void arena_free(void);
void *arena_claim(struct run *run, unsigned int pages, bool is_hot);
void arena_release(const struct run *run);

/* mapping.c */
long mapping_units(dma_addr_t addr, size_t size);
bool mapping_step(struct stress *stress, struct mapping *m, bool draining);
bool mapping_is_free(const struct mapping *m);

extern unsigned int unit_shift;

#endif /* STRESS_H */
