/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of the stress share; stress_main.c says what it does.
 */
#ifndef STRESS_H
#define STRESS_H

#include <linux/dma-direction.h>
#include <linux/interrupt.h>
#include <linux/irq_work.h>
#include <linux/pci.h>
#include <linux/prandom.h>
#include <linux/scatterlist.h>
#include <linux/smp.h>
#include <linux/types.h>

#define STRESS_DEVICES	2
#define STRESS_SLOTS	48

/* Contexts in which mappings are made; bits, for struct stress_kind. */
#define STRESS_THREAD	BIT(0)
#define STRESS_SOFTIRQ	BIT(1)
#define STRESS_HARDIRQ	BIT(2)
#define STRESS_ATOMIC	(STRESS_SOFTIRQ | STRESS_HARDIRQ)
#define STRESS_ANY	(STRESS_THREAD | STRESS_ATOMIC)

struct stress_worker;
struct stress_mapping;

/**
 * struct stress_kind - a way to map memory
 * @name: for messages
 * @contexts: where it may be done
 * @list: the DMA addresses are in the mapping's table
 * @uncounted: the mapping is not memory, or its count is kept by @map itself
 * @map: fill in the mapping, whose device and direction are set.  0, -EAGAIN
 *	when there was no memory to map, or the error of the DMA API
 * @unmap: undo it
 * @sync: for the device or for the CPU; NULL where that is not needed
 */
struct stress_kind {
	const char *name;
	unsigned int contexts;
	bool list;
	bool uncounted;
	int (*map)(struct stress_worker *w, struct stress_mapping *m);
	void (*unmap)(struct stress_worker *w, struct stress_mapping *m);
	void (*sync)(struct stress_mapping *m, bool for_device);
};

/**
 * struct stress_mapping - a mapping, owned by one worker
 * @kind: how it was made; NULL if there is none
 * @dev: for which device
 * @dir: direction, if it is streaming
 * @index: the device's number
 * @cpu: where the CPU finds it, the first of a list; NULL if it is no memory
 * @addr: its DMA address
 * @size: bytes
 * @page: its memory, of 2^@order pages
 * @order: also of each entry of a list
 * @table: a list
 * @sgt: what dma_alloc_noncontiguous() made
 */
struct stress_mapping {
	const struct stress_kind *kind;
	struct device *dev;
	enum dma_data_direction dir;
	unsigned int index;
	void *cpu;
	dma_addr_t addr;
	size_t size;
	struct page *page;
	unsigned int order;
	struct sg_table table;
	struct sg_table *sgt;
};

/**
 * struct stress_pool - a dma_pool, and the pages that it has taken so far
 * @pool: the pool; its blocks are less than a page
 * @size: of a block
 * @page: a page is taken only when no block is free, so there are never more
 *	than blocks in use at once
 * @pages: how many
 */
struct stress_pool {
	struct dma_pool *pool;
	size_t size;
	dma_addr_t page[STRESS_SLOTS];
	unsigned int pages;
};

/**
 * struct stress_worker - who maps and unmaps; its mappings are nobody else's
 * @context: STRESS_THREAD, _SOFTIRQ or _HARDIRQ
 * @cpu: where it runs; -1 anywhere
 * @index: of the device whose DMA it tries, or -1
 * @gfp: how it may allocate
 * @rng: its random numbers
 * @task: a thread, while one runs
 * @call: interrupts the CPU, and asks for @work
 * @work: runs in hard interrupt
 * @called: it will run, or runs
 * @tasklet: runs in soft interrupt
 * @pool: one for each device
 * @slot: its mappings
 * @maps: made so far
 * @refused: refused so far, as they should be or may be
 * @transfers: copies by the device that were right
 */
struct stress_worker {
	unsigned int context;
	int cpu;
	int index;
	gfp_t gfp;
	struct rnd_state rng;
	struct task_struct *task;
	call_single_data_t call;
	struct irq_work work;
	atomic_t called;
	struct tasklet_struct tasklet;
	struct stress_pool pool[STRESS_DEVICES];
	struct stress_mapping slot[STRESS_SLOTS];
	u64 maps;
	u64 refused;
	u64 transfers;
};

/**
 * struct stress_edu - a bound device
 * @pdev: the device, or NULL
 * @regs: its BAR 0
 */
struct stress_edu {
	struct pci_dev *pdev;
	void __iomem *regs;
};

/* stress_main.c */
extern bool stress_may_fail;
void stress_fail(const char *format, ...) __printf(1, 2);
bool stress_failed(void);
void stress_unbound(void);

/* stress_edu.c */
extern struct stress_edu stress_edu[STRESS_DEVICES];
extern struct pci_driver stress_edu_driver;
bool stress_transfer(struct stress_worker *w, struct stress_mapping *m);

/* stress_worker.c */
int stress_workers_open(u64 seed);
void stress_workers_close(void);
int stress_workers_start(void);
void stress_workers_stop(void);
int stress_workers_drain(bool reopen);
void stress_workers_sum(u64 *maps, u64 *refused, u64 *transfers);

/* stress_map.c */
u32 stress_below(struct stress_worker *w, u32 end);
int stress_map(struct stress_worker *w, struct stress_mapping *m);
void stress_unmap(struct stress_worker *w, struct stress_mapping *m);
int stress_pools_open(struct stress_worker *w);
void stress_pools_close(struct stress_worker *w);

/* stress_books.c */
int stress_books_open(void);
void stress_books_close(void);
void stress_books_count(dma_addr_t addr, size_t size, int by);
void stress_books_expect(dma_addr_t addr, size_t size, bool wait);
void stress_books_compare(void);
void stress_books_sum(u64 *units, u64 *mappings);

#endif /* STRESS_H */
