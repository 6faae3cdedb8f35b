// SPDX-License-Identifier: GPL-2.0
/*
 * A driver for QEMU's edu device that walks the DMA API, for the tests in
 * tests/guest.  The device copies between its 4 KiB buffer and any DMA address,
 * so that what the API returns is used for real.
 *
 * Writing a test's name to the device's "run" file in sysfs runs it; the write
 * fails if the test does, with the reason in the kernel's log.
 *
 *   walk      each way to allocate, and what can be done with it (edu_alloc.c)
 *   stream    map, sync and unmap with data, from pages as high as there are
 *             (edu_stream.c)
 *   resource  map what is no memory; says whether the kernel does that
 *   bounce    streaming when some mappings are bounced, and what attributes
 *             do then (edu_bounce.c)
 *   bounce_list  a list of which some pages are bounced
 *   many      a list that needs several requests (edu_list.c)
 *   scatter   the largest mapping there may be, each page somewhere else
 *   phys      map the page that the parameter "phys" names
 *   hidden    the same by dma_map_resource()
 *   refuse    mappings of what is no RAM must fail (edu_limits.c)
 *   masks     masks that are set and refused, and what the API says of limits
 *   sizes     mappings of all sizes, across leaves of the table
 *   hold      map some ranges whose units can be counted, and what "hidden" maps if
 *             there is "phys"; "release" uses that and undoes all
 *   leak      a driver's bug: map a page and forget it
 *   late      map a page that is unmapped by a write to the parameter "unmap",
 *             whether the device is still there or not, or to "race" (edu_late.c)
 *   twice     a driver's bug: unmap more than was mapped
 *   limit     map one page more often than can be counted
 *   shrink    a driver's bug: unmap less than was mapped
 *   child_*   children that map with a struct device of their own (edu_child.c)
 */
#include <linux/delay.h>
#include <linux/module.h>

#include "edu.h"

#define EDU_DMA_SRC	0x80
#define EDU_DMA_DST	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_CMD	0x98
#define EDU_CMD_START	BIT(0)
#define EDU_CMD_TO_RAM	BIT(1)
#define EDU_BUFFER	0x40000

unsigned int bits = 32;
module_param(bits, uint, 0444);
MODULE_PARM_DESC(bits, "width of the DMA mask");

bool no_dma;
module_param(no_dma, bool, 0644);
MODULE_PARM_DESC(no_dma, "\"walk\" has the device copy nothing, which takes seconds");

unsigned long phys;
module_param(phys, ulong, 0644);
MODULE_PARM_DESC(phys, "the memory that \"phys\" maps");

static bool keep_mask;
module_param(keep_mask, bool, 0644);
MODULE_PARM_DESC(keep_mask, "leave the DMA mask as the last driver set it");

static unsigned int defer;
module_param(defer, uint, 0644);
MODULE_PARM_DESC(defer, "so many probes fail when the device may do DMA already");

static bool keep_master;
module_param(keep_master, bool, 0644);
MODULE_PARM_DESC(keep_master, "leave the bus-master bit set at remove");

static bool no_master;
module_param(no_master, bool, 0644);
MODULE_PARM_DESC(no_master, "rely on a bus-master bit that is set already");

static bool odd_child;
module_param(odd_child, bool, 0644);
MODULE_PARM_DESC(odd_child, "make a child on a bus of its own in probe");

/**
 * transfer - have the device copy between its buffer and memory
 * @edu: the device
 * @addr: DMA address
 * @size: bytes, 4 KiB at most
 * @to_ram: the direction
 */
int transfer(struct edu *edu, dma_addr_t addr, size_t size, bool to_ram)
{
	int tries;

	writeq(to_ram ? EDU_BUFFER : addr, edu->regs + EDU_DMA_SRC);
	writeq(to_ram ? addr : EDU_BUFFER, edu->regs + EDU_DMA_DST);
	writeq(size, edu->regs + EDU_DMA_COUNT);
	writeq(EDU_CMD_START | (to_ram ? EDU_CMD_TO_RAM : 0),
	       edu->regs + EDU_DMA_CMD);
	/* It takes 100 ms; a busy host takes longer. */
	for (tries = 0; tries < 60000; tries++) {
		if (!(readq(edu->regs + EDU_DMA_CMD) & EDU_CMD_START))
			return 0;
		usleep_range(500, 1000);
	}
	return FAIL(edu, "the copy does not end\n");
}

static const struct {
	const char *name;
	int (*run)(struct edu *edu);
} tests[] = {
	{ "walk", test_alloc },
	{ "stream", test_stream },
	{ "resource", test_resource },
	{ "bounce", test_bounce },
	{ "bounce_list", test_bounce_list },
	{ "many", test_many },
	{ "scatter", test_scatter },
	{ "phys", test_phys },
	{ "hidden", test_hidden },
	{ "refuse", test_refuse },
	{ "masks", test_masks },
	{ "sizes", test_sizes },
	{ "near", test_near },
	{ "far", test_far },
	{ "hold", test_hold },
	{ "release", test_release },
	{ "leak", test_leak },
	{ "late", test_late },
	{ "twice", test_twice },
	{ "limit", test_limit },
	{ "shrink", test_shrink },
	{ "child_platform", test_child_platform },
	{ "child_auxiliary", test_child_auxiliary },
	{ "child_vmd", test_child_vmd },
	{ "child_foreign", test_child_foreign },
	{ "child_copied", test_child_copied },
	{ "child_keep", test_child_keep },
	{ "child_drop", test_child_drop },
};

static ssize_t run_store(struct device *dev, struct device_attribute *attr,
			 const char *buf, size_t count)
{
	struct edu *edu = dev_get_drvdata(dev);
	int i, ret = -ENOENT;

	mutex_lock(&edu->lock);
	for (i = 0; i < ARRAY_SIZE(tests); i++)
		if (sysfs_streq(buf, tests[i].name))
			ret = tests[i].run(edu);
	mutex_unlock(&edu->lock);
	return ret ?: count;
}
static DEVICE_ATTR_WO(run);

static struct attribute *edu_attrs[] = {
	&dev_attr_run.attr,
	NULL
};
ATTRIBUTE_GROUPS(edu);

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct edu *edu;
	int ret;

	edu = devm_kzalloc(&pdev->dev, sizeof(*edu), GFP_KERNEL);
	if (!edu)
		return -ENOMEM;
	edu->pdev = pdev;
	mutex_init(&edu->lock);
	pci_set_drvdata(pdev, edu);
	/*
	 * Interrupts are not used.  Without a pin nobody asks ACPI where they
	 * go, which uses freed memory when one of its allocations fails.
	 */
	pdev->pin = 0;
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	edu->regs = pcim_iomap(pdev, 0, 0);
	if (!edu->regs)
		return -ENOMEM;
	if (!keep_mask)
		ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(bits));
	if (ret)
		return ret;
	if (!no_master)
		pci_set_master(pdev);
	if (defer) {
		defer--;
		/* As drivers do that leave the device switched on. */
		pcim_pin_device(pdev);
		return -EPROBE_DEFER;
	}
	return odd_child ? edu_child_odd(edu) : 0;
}

static void edu_remove(struct pci_dev *pdev)
{
	struct edu *edu = pci_get_drvdata(pdev);

	if (edu->odd)
		device_unregister(edu->odd);
	if (edu->page)
		test_release(edu);
	if (keep_master)
		pcim_pin_device(pdev);
	else
		pci_clear_master(pdev);
}

/* As drivers of disks and NICs do; else all memory is pinned for the device. */
static void edu_shutdown(struct pci_dev *pdev)
{
	pci_clear_master(pdev);
}

/*
 * Without these the PCI core would take the device from the bus when it sleeps.
 * With them it leaves that to the driver, and gives the device its bus-master
 * bit back when it wakes, long before the driver is asked.
 */
static const struct dev_pm_ops edu_pm_ops = { };

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};
MODULE_DEVICE_TABLE(pci, edu_ids);

static struct pci_driver edu_driver = {
	.name		= KBUILD_MODNAME,
	.id_table	= edu_ids,
	.probe		= edu_probe,
	.remove		= edu_remove,
	.shutdown	= edu_shutdown,
	.dev_groups	= edu_groups,
	.driver.pm	= &edu_pm_ops,
};

/* The same by another name, which is bound by driver_override only. */
static struct pci_driver plain_driver = {
	.name		= "edu_plain",
	.probe		= edu_probe,
	.remove		= edu_remove,
	.shutdown	= edu_shutdown,
	.dev_groups	= edu_groups,
	.driver.pm	= &edu_pm_ops,
};

static int __init edu_init(void)
{
	int ret = edu_children_init();

	if (ret)
		return ret;
	ret = pci_register_driver(&edu_driver);
	if (ret)
		goto err_children;
	ret = pci_register_driver(&plain_driver);
	if (ret)
		goto err_driver;
	return 0;

err_driver:
	pci_unregister_driver(&edu_driver);
err_children:
	edu_children_exit();
	return ret;
}
module_init(edu_init);

static void __exit edu_exit(void)
{
	pci_unregister_driver(&plain_driver);
	pci_unregister_driver(&edu_driver);
	edu_children_exit();
	late_unmap();
}
module_exit(edu_exit);

MODULE_DESCRIPTION("walks the DMA API with QEMU's edu device");
MODULE_LICENSE("GPL");
