// SPDX-License-Identifier: GPL-2.0
/*
 * Random maps and unmaps on two devices, by threads and interrupts of every
 * CPU, against books of our own.
 *
 * The work is done in rounds.  At the end of each nobody maps, and books and
 * table must be the same, unit by unit, with everything that is mapped PINNED.
 * After some rounds everything is unmapped, and the table must be empty.  In
 * between each mapping is looked at when it has been made, and the devices
 * copy to and from some, with data.
 *
 * In /sys/kernel/debug/stress_test:
 *
 *   run    "SECONDS SEED" written here runs for so long, and fails with the
 *          reasons in the log if anything was wrong.  The mappings of the last
 *          round stay, for others to count them.
 *   drain  anything written here undoes them
 *   state  what has been done, and the books' totals
 *
 * The seed fixes what each worker does; how they meet is up to the machine.
 */
#define pr_fmt(fmt) "stress_test: " fmt

#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>

#include "stress.h"

#define ROUND_MS	1500

/* One round in so many ends with everything unmapped. */
#define DRAIN_ROUNDS	3

/* What went wrong once goes wrong often. */
#define FAILURES_TOLD	20

bool stress_may_fail;
module_param_named(may_fail, stress_may_fail, bool, 0644);
MODULE_PARM_DESC(may_fail, "mappings may be refused, as with a quota");

static DEFINE_MUTEX(run_lock);	/* one run, drain, or unbind at a time */
static atomic_t failures = ATOMIC_INIT(0);
static struct dentry *folder;

/**
 * stress_fail - note that something is wrong
 * @format: what, without a newline
 *
 * Any context.
 */
void stress_fail(const char *format, ...)
{
	struct va_format text = { .fmt = format };
	va_list args;

	if (atomic_inc_return(&failures) > FAILURES_TOLD)
		return;
	va_start(args, format);
	text.va = &args;
	pr_err("%pV\n", &text);
	va_end(args);
}

/* Has it? */
bool stress_failed(void)
{
	return atomic_read(&failures);
}

/* Undo what a run has left.  Holds run_lock. */
static void finish(void)
{
	stress_workers_close();
	stress_books_close();
}

/* A device goes: its mappings have to go before. */
void stress_unbound(void)
{
	mutex_lock(&run_lock);
	finish();
	mutex_unlock(&run_lock);
}

/* Holds run_lock, as the following do. */
static int begin(u64 seed)
{
	int i, ret;

	for (i = 0; i < STRESS_DEVICES; i++)
		if (!stress_edu[i].pdev)
			return -ENODEV;
	atomic_set(&failures, 0);
	ret = stress_books_open();
	if (ret)
		return ret;
	ret = stress_workers_open(seed);
	if (ret)
		stress_books_close();
	return ret;
}

static int one_round(bool drain)
{
	int ret = stress_workers_start();

	if (!ret)
		msleep_interruptible(ROUND_MS);
	stress_workers_stop();
	stress_books_compare();
	if (!ret && drain) {
		ret = stress_workers_drain(true);
		stress_books_compare();
	}
	return ret;
}

static int run(unsigned int seconds, u64 seed)
{
	const unsigned long end = jiffies + seconds * HZ;
	unsigned int rounds = 0;
	int ret;

	pr_info("seed %llu\n", seed);
	finish();
	ret = begin(seed);
	if (ret)
		return ret;
	do
		ret = one_round(++rounds % DRAIN_ROUNDS == 0);
	while (!ret && !stress_failed() && time_before(jiffies, end) &&
	       !signal_pending(current));
	/* Once more, so that the mappings of a round are there. */
	if (!ret && !stress_failed())
		ret = one_round(false);
	if (!ret && stress_failed())
		ret = -EIO;
	pr_info("seed %llu: %u rounds, %d failures\n", seed, rounds + 1,
		atomic_read(&failures));
	return ret;
}

static ssize_t run_write(struct file *file, const char __user *user,
			 size_t count, loff_t *pos)
{
	unsigned int seconds;
	char text[64];
	u64 seed;
	int ret;

	if (count >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, user, count))
		return -EFAULT;
	text[count] = '\0';
	if (sscanf(text, "%u %llu", &seconds, &seed) != 2)
		return -EINVAL;
	mutex_lock(&run_lock);
	ret = run(seconds, seed);
	mutex_unlock(&run_lock);
	return ret ?: count;
}

static const struct file_operations run_fops = {
	.owner = THIS_MODULE,
	.write = run_write,
};

static ssize_t drain_write(struct file *file, const char __user *user,
			   size_t count, loff_t *pos)
{
	mutex_lock(&run_lock);
	finish();
	mutex_unlock(&run_lock);
	return count;
}

static const struct file_operations drain_fops = {
	.owner = THIS_MODULE,
	.write = drain_write,
};

static int state_show(struct seq_file *m, void *unused)
{
	u64 maps, refused, transfers, units, mappings;

	mutex_lock(&run_lock);
	stress_workers_sum(&maps, &refused, &transfers);
	stress_books_sum(&units, &mappings);
	mutex_unlock(&run_lock);
	seq_printf(m, "maps %llu\n", maps);
	seq_printf(m, "refused %llu\n", refused);
	seq_printf(m, "transfers %llu\n", transfers);
	seq_printf(m, "mapped-units %llu\n", units);
	seq_printf(m, "mappings %llu\n", mappings);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(state);

static int __init stress_init(void)
{
	int ret = pci_register_driver(&stress_edu_driver);

	if (ret)
		return ret;
	folder = debugfs_create_dir("stress_test", NULL);
	debugfs_create_file("run", 0200, folder, NULL, &run_fops);
	debugfs_create_file("drain", 0200, folder, NULL, &drain_fops);
	debugfs_create_file("state", 0400, folder, NULL, &state_fops);
	return 0;
}
module_init(stress_init);

static void __exit stress_exit(void)
{
	debugfs_remove_recursive(folder);
	pci_unregister_driver(&stress_edu_driver);
}
module_exit(stress_exit);

MODULE_DESCRIPTION("maps and unmaps at random against books of its own");
MODULE_LICENSE("GPL");
