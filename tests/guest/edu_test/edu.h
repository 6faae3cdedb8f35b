/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of edu_test share; edu_main.c lists the tests. */
#ifndef EDU_H
#define EDU_H

#include <linux/dma-mapping.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/mutex.h>
#include <linux/pci.h>

/**
 * struct edu - a bound device
 * @pdev: the device
 * @regs: BAR 0
 * @lock: one test at a time
 * @page: what "hold" has mapped, or NULL
 * @held: its DMA addresses
 * @hidden: the DMA address of what it has mapped of the parameter "phys"
 * @child_result: what the probe of a child's driver came to
 * @odd: the child on a bus of its own, or NULL
 */
struct edu {
	struct pci_dev *pdev;
	void __iomem *regs;
	struct mutex lock;	/* one test at a time */
	struct page *page;
	dma_addr_t held[3];
	dma_addr_t hidden;
	int child_result;
	struct device *odd;
};

/* The error of a test, with the reason in the kernel's log. */
#define FAIL(edu, ...)							\
	({								\
		pci_err((edu)->pdev, __VA_ARGS__);			\
		-EIO;							\
	})

extern unsigned int bits;
extern bool no_dma;
extern unsigned long phys;

int transfer(struct edu *edu, dma_addr_t addr, size_t size, bool to_ram);

void late_unmap(void);
int edu_child_use(struct edu *edu, struct device *dev);
int edu_child_odd(struct edu *edu);
int edu_children_init(void);
void edu_children_exit(void);
int edu_vmd_init(void);
void edu_vmd_exit(void);

int test_alloc(struct edu *edu);
int test_bounce(struct edu *edu);
int test_bounce_list(struct edu *edu);
int test_child_auxiliary(struct edu *edu);
int test_child_copied(struct edu *edu);
int test_child_drop(struct edu *edu);
int test_child_foreign(struct edu *edu);
int test_child_keep(struct edu *edu);
int test_child_platform(struct edu *edu);
int test_child_vmd(struct edu *edu);
int test_far(struct edu *edu);
int test_hold(struct edu *edu);
int test_late(struct edu *edu);
int test_leak(struct edu *edu);
int test_limit(struct edu *edu);
int test_many(struct edu *edu);
int test_masks(struct edu *edu);
int test_near(struct edu *edu);
int test_phys(struct edu *edu);
int test_hidden(struct edu *edu);
int test_refuse(struct edu *edu);
int test_release(struct edu *edu);
int test_resource(struct edu *edu);
int test_scatter(struct edu *edu);
int test_shrink(struct edu *edu);
int test_sizes(struct edu *edu);
int test_stream(struct edu *edu);
int test_twice(struct edu *edu);

#endif /* EDU_H */
