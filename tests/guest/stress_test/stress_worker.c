// SPDX-License-Identifier: GPL-2.0
/*
 * The workers: on each CPU a thread, and what it sets off on any CPU, in the
 * midst of what runs there: a hard interrupt, which maps and unmaps and asks
 * for a soft interrupt, which does as well.  For each device there is one more
 * thread, which has the device use its mappings.  Mappings stay when workers
 * stop; stress_workers_drain() undoes them.
 */
#define pr_fmt(fmt) "stress_test: " fmt

#include <linux/cpu.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/sched.h>
#include <linux/vmalloc.h>

#include "stress.h"

/* On each CPU: a thread, one in soft and one in hard interrupt. */
#define PER_CPU		3

static struct stress_worker *workers;
static unsigned int count;

/* Fill a slot, or empty it. */
static void step(struct stress_worker *w)
{
	struct stress_mapping *m = &w->slot[stress_below(w, STRESS_SLOTS)];

	if (m->kind)
		stress_unmap(w, m);
	else
		stress_map(w, m);
}

static void run_softirq(struct tasklet_struct *tasklet)
{
	struct stress_worker *w = from_tasklet(w, tasklet, tasklet);

	step(w);
}

/* The worker in hard interrupt is followed by its CPU's in soft interrupt. */
static void run_hardirq(struct irq_work *work)
{
	struct stress_worker *w = container_of(work, struct stress_worker,
					       work);

	step(w);
	tasklet_schedule(&w[1].tasklet);
	/* The step is done for whoever calls next, or waits for the end. */
	atomic_set_release(&w->called, 0);
}

/* Not every lock may be taken here, but in what follows at once. */
static void run_call(void *data)
{
	struct stress_worker *w = data;

	irq_work_queue(&w->work);
}

static void interrupt_somebody(struct stress_worker *w)
{
	struct stress_worker *hard = &workers[stress_below(w, nr_cpu_ids) *
					      PER_CPU + 1];

	if (cpu_online(hard->cpu) && !atomic_xchg(&hard->called, 1))
		smp_call_function_single_async(hard->cpu, &hard->call);
}

static int run_thread(void *data)
{
	struct stress_worker *w = data;

	while (!kthread_should_stop()) {
		if (!stress_failed()) {
			step(w);
			if (!stress_below(w, 4))
				interrupt_somebody(w);
		}
		cond_resched();
	}
	return 0;
}

/* New mappings are tried at once, old ones as well: they must last. */
static int run_device(void *data)
{
	struct stress_worker *w = data;
	struct stress_mapping *m;

	while (!kthread_should_stop() && !stress_failed()) {
		cond_resched();
		m = &w->slot[stress_below(w, STRESS_SLOTS / 4)];
		if (!m->kind && stress_map(w, m))
			continue;
		if (m->cpu)
			w->transfers += stress_transfer(w, m);
		if (stress_below(w, 2))
			stress_unmap(w, m);
	}
	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

static void init_worker(struct stress_worker *w, unsigned int context, int cpu,
			int index)
{
	w->context = context;
	w->cpu = cpu;
	w->index = index;
	w->gfp = __GFP_NOWARN |
		 (context == STRESS_THREAD ? GFP_KERNEL : GFP_ATOMIC);
	INIT_CSD(&w->call, run_call, w);
	init_irq_work(&w->work, run_hardirq);
	tasklet_setup(&w->tasklet, run_softirq);
}

/**
 * stress_workers_open - make the workers, with nothing mapped
 * @seed: of their random numbers
 *
 * Process context.  Returns 0 or a negative errno.
 */
int stress_workers_open(u64 seed)
{
	unsigned int i, cpu;
	int ret = 0;

	count = nr_cpu_ids * PER_CPU + STRESS_DEVICES;
	workers = vzalloc(count * sizeof(*workers));
	if (!workers)
		return -ENOMEM;
	for (cpu = 0; cpu < nr_cpu_ids; cpu++) {
		i = cpu * PER_CPU;
		init_worker(&workers[i], STRESS_THREAD, cpu, -1);
		init_worker(&workers[i + 1], STRESS_HARDIRQ, cpu, -1);
		init_worker(&workers[i + 2], STRESS_SOFTIRQ, cpu, -1);
	}
	for (i = 0; i < STRESS_DEVICES; i++)
		init_worker(&workers[cpu * PER_CPU + i], STRESS_THREAD, -1, i);
	for (i = 0; i < count && !ret; i++) {
		prandom_seed_state(&workers[i].rng, seed * count + i);
		ret = stress_pools_open(&workers[i]);
	}
	if (ret)
		stress_workers_close();
	return ret;
}

/**
 * stress_workers_start - have them map and unmap
 *
 * Process context.  Returns 0 or a negative errno; in either case
 * stress_workers_stop() is to follow.
 */
int stress_workers_start(void)
{
	struct task_struct *task;
	unsigned int i;

	for (i = 0; i < count; i++) {
		struct stress_worker *w = &workers[i];

		if (w->context != STRESS_THREAD ||
		    (w->cpu >= 0 && !cpu_online(w->cpu)))
			continue;
		task = kthread_create(w->cpu < 0 ? run_device : run_thread, w,
				      "stress/%u", i);
		if (IS_ERR(task))
			return PTR_ERR(task);
		if (w->cpu >= 0)
			kthread_bind(task, w->cpu);
		w->task = task;
		wake_up_process(task);
	}
	return 0;
}

/**
 * stress_workers_stop - wait until nobody maps or unmaps any more
 *
 * Process context.  Threads set off interrupts, and hard ones soft ones.
 */
void stress_workers_stop(void)
{
	unsigned int i;

	for (i = 0; i < count; i++) {
		if (workers[i].task)
			kthread_stop(workers[i].task);
		workers[i].task = NULL;
	}
	for (i = 0; i < count; i++)
		while (atomic_read_acquire(&workers[i].called))
			msleep(20);
	for (i = 0; i < count; i++)
		tasklet_kill(&workers[i].tasklet);
}

/**
 * stress_workers_drain - undo all mappings
 * @reopen: to go on afterwards
 *
 * Process context; the workers are stopped.  Returns 0 or a negative errno.
 */
int stress_workers_drain(bool reopen)
{
	unsigned int i, slot;
	int ret = 0;

	for (i = 0; i < count; i++) {
		struct stress_worker *w = &workers[i];

		for (slot = 0; slot < STRESS_SLOTS; slot++)
			if (w->slot[slot].kind)
				stress_unmap(w, &w->slot[slot]);
		stress_pools_close(w);
		if (reopen && !ret)
			ret = stress_pools_open(w);
	}
	return ret;
}

/**
 * stress_workers_close - drain, and forget the workers
 *
 * Process context; they are stopped.
 */
void stress_workers_close(void)
{
	stress_workers_drain(false);
	vfree(workers);
	workers = NULL;
	count = 0;
}

/**
 * stress_workers_sum - what has been done since stress_workers_open()
 * @maps: set to the number of mappings
 * @refused: of those refused
 * @transfers: of copies by the devices
 */
void stress_workers_sum(u64 *maps, u64 *refused, u64 *transfers)
{
	unsigned int i;

	*maps = 0;
	*refused = 0;
	*transfers = 0;
	for (i = 0; i < count; i++) {
		*maps += workers[i].maps;
		*refused += workers[i].refused;
		*transfers += workers[i].transfers;
	}
}
