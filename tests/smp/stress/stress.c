// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The driver of the stress device: see stress.h.
 *
 * Commands are written to the device's "run" in sysfs:
 *
 *   start	threads on all CPUs map and unmap
 *   hold	they stop; what is mapped stays, and the device goes on using it
 *   drain	all of that is given back and unmapped
 *
 * "books" tells what was done, one "name value" per line.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/slab.h>

#include "stress.h"

#define DRAIN_MS	60000

unsigned int unit_shift = 16;
module_param(unit_shift, uint, 0444);
MODULE_PARM_DESC(unit_shift, "log2 of coIOMMU's tracking unit");

static unsigned int threads = 4;
module_param(threads, uint, 0444);
MODULE_PARM_DESC(threads, "for each device");

static unsigned int slots_per_thread = 4;
module_param(slots_per_thread, uint, 0444);
MODULE_PARM_DESC(slots_per_thread, "mappings that a thread has at a time");

static unsigned int arena_mib = 256;
module_param(arena_mib, uint, 0444);
MODULE_PARM_DESC(arena_mib, "how much memory is mapped");

static unsigned int hot_pages = 16;
module_param(hot_pages, uint, 0444);
MODULE_PARM_DESC(hot_pages, "how large a hot part of a piece of it is");

static bool only_hot;
module_param(only_hot, bool, 0644);
MODULE_PARM_DESC(only_hot, "no mappings but those of hot memory");

static unsigned int slots(void)
{
	return threads * slots_per_thread;
}

/* One step for each slot in a row; whether anything was done. */
static bool step_all(struct stress *stress, unsigned int first,
		     unsigned int count, bool draining)
{
	bool any = false;
	unsigned int i;

	for (i = first; i < first + count; i++)
		any |= mapping_step(stress, &stress->mapping[i], draining);
	return any;
}

static bool all_free(struct stress *stress, unsigned int first,
		     unsigned int count)
{
	unsigned int i;

	for (i = first; i < first + count; i++)
		if (!mapping_is_free(&stress->mapping[i]))
			return false;
	return true;
}

/**
 * struct work - what a thread is to do
 * @stress: on which device
 * @first: with these slots
 */
struct work {
	struct stress *stress;
	unsigned int first;
};

/*
 * Now and then a thread gives all back and rests, for a time like that between
 * two looks of the host, so that memory goes idle and comes back.
 */
static int stress_thread(void *data)
{
	struct work work = *(struct work *)data;
	bool hot = work.stress->mapping[work.first].hot;
	unsigned int until_rest = 0;
	bool resting = false;

	kfree(data);
	while (!kthread_should_stop()) {
		if (!until_rest-- || (READ_ONCE(only_hot) && !hot)) {
			resting = true;
			until_rest = get_random_u32_below(2000);
		}
		if (resting && all_free(work.stress, work.first,
					slots_per_thread)) {
			resting = false;
			usleep_range(100, 100 + get_random_u32_below(4000));
			continue;
		}
		if (!step_all(work.stress, work.first, slots_per_thread,
			      resting))
			usleep_range(20, 60);
		cond_resched();
	}
	return 0;
}

static int run_start(struct stress *stress)
{
	unsigned int i;

	for (i = 0; i < threads; i++) {
		struct task_struct *task;
		struct work *work;

		if (stress->thread[i])
			return -EBUSY;
		work = kzalloc(sizeof(*work), GFP_KERNEL);
		if (!work)
			return -ENOMEM;
		work->stress = stress;
		work->first = i * slots_per_thread;
		task = kthread_create(stress_thread, work, "stress/%u", i);
		if (IS_ERR(task)) {
			kfree(work);
			return PTR_ERR(task);
		}
		kthread_bind(task, i % num_online_cpus());
		stress->thread[i] = task;
		wake_up_process(task);
	}
	return 0;
}

static int run_hold(struct stress *stress)
{
	unsigned int i;

	for (i = 0; i < threads; i++)
		if (stress->thread[i])
			kthread_stop(stress->thread[i]);
	memset(stress->thread, 0, sizeof(stress->thread));
	return 0;
}

static int run_drain(struct stress *stress)
{
	ktime_t end = ktime_add_ms(ktime_get(), DRAIN_MS);

	run_hold(stress);
	while (!all_free(stress, 0, slots())) {
		if (ktime_after(ktime_get(), end))
			return -ETIMEDOUT;
		if (!step_all(stress, 0, slots(), true))
			usleep_range(100, 200);
	}
	return 0;
}

static const struct {
	const char *name;
	int (*run)(struct stress *stress);
} commands[] = {
	{ "start", run_start },
	{ "hold", run_hold },
	{ "drain", run_drain },
};

static ssize_t run_store(struct device *dev, struct device_attribute *attr,
			 const char *buf, size_t count)
{
	struct stress *stress = dev_get_drvdata(dev);
	int i, ret = -ENOENT;

	mutex_lock(&stress->lock);
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (sysfs_streq(buf, commands[i].name))
			ret = commands[i].run(stress);
	mutex_unlock(&stress->lock);
	return ret ?: count;
}
static DEVICE_ATTR_WO(run);

static ssize_t books_show(struct device *dev, struct device_attribute *attr,
			  char *buf)
{
	struct stress *stress = dev_get_drvdata(dev);
	const long maps = atomic_long_read(&stress->maps);
	int at = 0;

	at += sysfs_emit_at(buf, at, "maps %ld\n", maps);
	at += sysfs_emit_at(buf, at, "unmaps %ld\n",
			    atomic_long_read(&stress->unmaps));
	at += sysfs_emit_at(buf, at, "failed %ld\n",
			    atomic_long_read(&stress->failed));
	at += sysfs_emit_at(buf, at, "mismatches %ld\n",
			    atomic_long_read(&stress->mismatches));
	at += sysfs_emit_at(buf, at, "live-units %ld\n",
			    atomic_long_read(&stress->live_units));
	at += sysfs_emit_at(buf, at, "ring-units %ld\n", stress->ring_units);
	at += sysfs_emit_at(buf, at, "device-violations %u\n",
			    readl(stress->regs + STRESS_REG_VIOLATIONS));
	at += sysfs_emit_at(buf, at, "device-mismatches %u\n",
			    readl(stress->regs + STRESS_REG_MISMATCHES));
	return at;
}
static DEVICE_ATTR_RO(books);

static struct attribute *stress_attrs[] = {
	&dev_attr_run.attr,
	&dev_attr_books.attr,
	NULL
};
ATTRIBUTE_GROUPS(stress);

static int ring_init(struct stress *stress)
{
	size_t size = slots() * sizeof(*stress->ring);
	struct device *dev = &stress->pdev->dev;
	unsigned int i;

	stress->ring = dmam_alloc_coherent(dev, size, &stress->ring_addr,
					   GFP_KERNEL);
	stress->mapping = devm_kcalloc(dev, slots(), sizeof(*stress->mapping),
				       GFP_KERNEL);
	if (!stress->ring || !stress->mapping)
		return -ENOMEM;
	for (i = 0; i < slots(); i++) {
		stress->mapping[i].slot = &stress->ring[i];
		/* Threads come on each CPU in turn, then the hot ones. */
		stress->mapping[i].hot = i >= slots() / 2;
	}
	stress->ring_units = mapping_units(stress->ring_addr,
					   PAGE_ALIGN(size));
	return 0;
}

static void enable(struct stress *stress)
{
	writel(lower_32_bits(stress->ring_addr),
	       stress->regs + STRESS_REG_RING_LO);
	writel(upper_32_bits(stress->ring_addr),
	       stress->regs + STRESS_REG_RING_HI);
	writel(slots(), stress->regs + STRESS_REG_SLOTS);
	writel(1, stress->regs + STRESS_REG_ENABLE);
	readl(stress->regs + STRESS_REG_ENABLE);
}

static int stress_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct stress *stress;
	int ret;

	stress = devm_kzalloc(&pdev->dev, sizeof(*stress), GFP_KERNEL);
	if (!stress)
		return -ENOMEM;
	stress->pdev = pdev;
	mutex_init(&stress->lock);
	pci_set_drvdata(pdev, stress);
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	stress->regs = pcim_iomap(pdev, 0, 0);
	if (!stress->regs)
		return -ENOMEM;
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	stress->max_size = dma_max_mapping_size(&pdev->dev);
	pci_set_master(pdev);
	ret = ring_init(stress);
	if (ret)
		return ret;
	enable(stress);
	return 0;
}

static void stress_remove(struct pci_dev *pdev)
{
	struct stress *stress = pci_get_drvdata(pdev);

	if (run_drain(stress))
		pci_err(pdev, "the device doesn't give all memory back\n");
	writel(0, stress->regs + STRESS_REG_ENABLE);
	/* The device has done its last DMA when this returns. */
	readl(stress->regs + STRESS_REG_ENABLE);
	pci_clear_master(pdev);
}

static const struct pci_device_id stress_ids[] = {
	{ PCI_DEVICE(STRESS_VENDOR, STRESS_DEVICE) },
	{ }
};
MODULE_DEVICE_TABLE(pci, stress_ids);

static struct pci_driver stress_driver = {
	.name		= KBUILD_MODNAME,
	.id_table	= stress_ids,
	.probe		= stress_probe,
	.remove		= stress_remove,
	.dev_groups	= stress_groups,
};

static int __init stress_init(void)
{
	int ret;

	if (!threads || threads > THREADS_MAX || !slots_per_thread ||
	    slots() > STRESS_SLOTS_MAX)
		return -EINVAL;
	ret = arena_init(arena_mib, hot_pages);
	if (ret)
		return ret;
	ret = pci_register_driver(&stress_driver);
	if (ret)
		arena_free();
	return ret;
}
module_init(stress_init);

static void __exit stress_exit(void)
{
	pci_unregister_driver(&stress_driver);
	arena_free();
}
module_exit(stress_exit);

MODULE_DESCRIPTION("maps and unmaps all the time, for the tests of coIOMMU");
MODULE_LICENSE("GPL");
