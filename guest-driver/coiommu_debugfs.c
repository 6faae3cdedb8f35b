// SPDX-License-Identifier: GPL-2.0
/*
 * Counters below /sys/kernel/debug/coiommu, one "name value" per line:
 *
 *   dtt      the table as it is now: units with a count, the sum of the counts,
 *            units PINNED and ACCESSED, and the faults found in it
 *   requests the requests made so far
 *   devices  one line for each device seen: name; attached, detached, or the
 *            PCI function that it maps for; its driver; and whether mappings go
 *            the direct or the shadowed way, or are booked
 *
 * The hot path pays for none of it: the table is scanned when read.
 */
#include <linux/debugfs.h>
#include <linux/seq_file.h>

#include "coiommu.h"
#include "coiommu_debugfs.h"

static int dtt_show(struct seq_file *m, void *unused)
{
	struct coiommu *coi = m->private;
	struct coiommu_dtt *dtt = &coi->dtt;
	u64 mapped = 0, mappings = 0, pinned = 0, accessed = 0, leaves = 0;
	u64 unpinned = 0, saturated = 0;
	u64 unit, units = (u64)dtt->nleaves << COIOMMU_DTT_LEAF_SHIFT;

	for (unit = 0; unit < units; unit++) {
		atomic_t *entry = coiommu_dtt_entry(dtt, unit);
		u32 value, count;

		if (!entry) {
			unit |= COIOMMU_LEAF_MASK;
			continue;
		}
		value = atomic_read(entry);
		count = value & COIOMMU_DTT_COUNT_MASK;
		leaves += !(unit & COIOMMU_LEAF_MASK);
		mapped += !!count;
		mappings += count;
		pinned += !!(value & COIOMMU_DTT_PINNED);
		accessed += !!(value & COIOMMU_DTT_ACCESSED);
		unpinned += count && !(value & COIOMMU_DTT_PINNED);
		saturated += !!(value & COIOMMU_DTT_COUNT_SATURATED);
	}
	seq_printf(m, "unit-bytes %llu\n", 1ull << dtt->unit_shift);
	seq_printf(m, "leaves %llu\n", leaves);
	seq_printf(m, "mapped-units %llu\n", mapped);
	seq_printf(m, "mappings %llu\n", mappings);
	seq_printf(m, "pinned-units %llu\n", pinned);
	seq_printf(m, "unpinned-units %llu\n", unpinned);
	seq_printf(m, "accessed-units %llu\n", accessed);
	seq_printf(m, "saturated-units %llu\n", saturated);
	seq_printf(m, "underflows %lld\n", atomic64_read(&dtt->underflows));
	seq_printf(m, "refused-maps %lld\n", atomic64_read(&dtt->refused));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(dtt);

static int requests_show(struct seq_file *m, void *unused)
{
	struct coiommu *coi = m->private;
	struct coiommu_slots *slots = &coi->slots;

	seq_printf(m, "requests %lld\n", atomic64_read(&slots->requests));
	seq_printf(m, "failures %lld\n", atomic64_read(&slots->failures));
	seq_printf(m, "pin-again %lld\n", atomic64_read(&slots->again));
	seq_printf(m, "pin-ranges %lld\n", atomic64_read(&slots->ranges));
	seq_printf(m, "pin-pages %lld\n", atomic64_read(&slots->pages));
	seq_printf(m, "request-ns %lld\n", atomic64_read(&slots->ns));
	seq_printf(m, "request-max-ns %lld\n", atomic64_read(&slots->ns_max));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(requests);

static const char *state(const struct coiommu_dev *cdev)
{
	if (coiommu_is_child(cdev))
		return pci_name(cdev->pdev);
	return cdev->attached ? "attached" : "detached";
}

static int devices_show(struct seq_file *m, void *unused)
{
	struct coiommu *coi = m->private;
	struct coiommu_dev *cdev;

	mutex_lock(&coi->lock);
	list_for_each_entry(cdev, &coi->devices, node) {
		if (cdev->removed)
			continue;
		seq_printf(m, "%s %s %s %s\n", dev_name(cdev->dev),
			   state(cdev), dev_driver_string(cdev->dev),
			   cdev->books ? "booked" :
			   cdev->shadowed ? "shadowed" : "direct");
	}
	mutex_unlock(&coi->lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(devices);

/**
 * coiommu_debugfs_init - make the files
 * @coi: the function, tracking
 */
void coiommu_debugfs_init(struct coiommu *coi)
{
	coi->debugfs = debugfs_create_dir("coiommu", NULL);
	debugfs_create_file("dtt", 0400, coi->debugfs, coi, &dtt_fops);
	debugfs_create_file("requests", 0400, coi->debugfs, coi,
			    &requests_fops);
	debugfs_create_file("devices", 0400, coi->debugfs, coi, &devices_fops);
}

/**
 * coiommu_debugfs_exit - remove them, after the last reader
 * @coi: the function
 */
void coiommu_debugfs_exit(struct coiommu *coi)
{
	debugfs_remove_recursive(coi->debugfs);
}
