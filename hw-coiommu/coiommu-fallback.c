/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fallback for devices that nobody tracks.
 *
 * A tracked device whose driver has not attached it may do DMA all the same:
 * firmware uses it, or an operating system that has never heard of coIOMMU, or
 * a driver that was there before coIOMMU's.  None of them says what memory it
 * is about to use, but each has to let the device do DMA at all: it sets the
 * bus-master bit in PCI_COMMAND.  A device that has the bit and is not attached
 * is *untracked*.  While there is one, or one waits to be, all guest RAM is to
 * be pinned (pin-all), and nothing is let go of: as without coIOMMU.
 *
 * That is a goal, and a thread works on it (coiommu-pinall.c): so each device
 * has a state of its own, and what is done about the goal follows from these
 * states, in coiommu_fallback_settle().
 *
 *   the guest sets the bit    it is withheld (DMA_WAITING) until all is pinned
 *   DETACH, DISABLE, reset    the device keeps the bit (DMA_LEAVING).  What it
 *   of our function           may be using has counts, is pinned, and from now
 *                             on stays so; the rest is pinned meanwhile
 *   all is pinned             both have the bit (DMA_ALLOWED)
 *   that can't be, or         both lose it.  Those that have it already keep it
 *   fallback=refuse
 *   ATTACH, the bit cleared,  the device is no longer a reason (DMA_NONE)
 *   reset, unplug
 *   no reason is left         @delay_ms later pin-all ends, and the thread lets
 *                             go of what is idle.  So firmware that starts one
 *                             device after the other, or a guest that switches
 *                             the bit off and on, pays once.  At once if no
 *                             tracked device is left, or pinning has failed
 *
 * The guest finds the bit set when its write is over: coiommu-hold.c holds the
 * vCPU.  A write that is no vCPU's (the debugger's, qtest's) is over before the
 * bit is there.
 *
 * How we see the bit.  Writes come through the device's config_write, which we
 * replace when the device is realized: before the hardware hears of them.  What
 * goes past it, a reset, or a mirror of the configuration space in a BAR, shows
 * in QEMU's copy of the configuration space, and as a memory transaction (QEMU
 * switches the device's DMA in its own view of memory): at the end of each we
 * look.  A device that has got the bit that way loses it until all is pinned.
 *
 * All of it runs under the BQL.
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "coiommu.h"
#include "coiommu-master.h"
#include "hw/i386/pc.h"
#include "qemu/timer.h"
#include "system/reset.h"
#include "trace.h"

/* After this many doublings the pause after a refusal grows no more. */
#define PAUSE_DOUBLINGS 6

/* ---- The devices ---- */

static bool is_attached(CoiommuState *s, PCIDevice *dev)
{
    return g_hash_table_contains(s->attached, dev);
}

bool coiommu_fallback_any(CoiommuState *s)
{
    g_autoptr(GPtrArray) devices = coiommu_master_devices(s);

    return devices->len;
}

unsigned coiommu_fallback_untracked(CoiommuState *s)
{
    g_autoptr(GPtrArray) devices = coiommu_master_devices(s);
    unsigned count = 0;
    guint i;

    for (i = 0; i < devices->len; i++) {
        PCIDevice *dev = devices->pdata[i];

        count += coiommu_master_is_set(dev) && !is_attached(s, dev);
    }
    return count;
}

unsigned coiommu_fallback_waiting(CoiommuState *s)
{
    return coiommu_master_count(s, DMA_WAITING, DMA_LEAVING);
}

static bool is_wanted(CoiommuState *s)
{
    return coiommu_fallback_waiting(s) ||
           coiommu_master_count(s, DMA_ALLOWED, DMA_ALLOWED);
}

/*
 * The bus-master bit in a write of @len bytes at @addr, as it lies in the
 * value; 0 if the write does not touch it.
 */
static uint32_t bus_master_bit(uint32_t addr, int len)
{
    if (addr > PCI_COMMAND || PCI_COMMAND - addr >= len) {
        return 0;
    }
    return (uint32_t)PCI_COMMAND_MASTER << (PCI_COMMAND - addr) * 8;
}

/* ---- What becomes of a device ---- */

static void device_allow(CoiommuState *s, PCIDevice *dev)
{
    CoiommuMaster *hook = coiommu_master_find(s, dev);
    bool withheld = hook->state == DMA_WAITING;

    /* First: the write is a memory transaction, in which we look again. */
    hook->state = is_attached(s, dev) ? DMA_NONE : DMA_ALLOWED;
    if (hook->state == DMA_ALLOWED) {
        coiommu_master_tell_pinned(s, dev);
    }
    if (withheld) {
        coiommu_master_set(s, dev, true);
    }
}

/* @limit: why not all can be pinned; NULL: the operator does not want it. */
static void device_refuse(CoiommuState *s, PCIDevice *dev, const char *limit)
{
    coiommu_master_find(s, dev)->state = DMA_NONE;
    if (coiommu_master_is_set(dev)) {
        coiommu_master_set(s, dev, false);
    }
    if (limit) {
        coiommu_master_tell_no_room(s, dev, limit);
    } else {
        coiommu_master_tell_refused(s, dev);
    }
    stat64_add(&s->stats.fallback_refused, 1);
    trace_coiommu_fallback_refused(dev->name, limit ?: "fallback=refuse");
}

/* It has got the bit by itself, and may keep it only if all is pinned. */
static void device_caught(CoiommuState *s, PCIDevice *dev, bool complete)
{
    trace_coiommu_fallback_caught(dev->name);
    if (s->fallback.refuse) {
        device_refuse(s, dev, NULL);
    } else if (complete) {
        device_allow(s, dev);
    } else {
        coiommu_master_find(s, dev)->state = DMA_WAITING;
        coiommu_master_set(s, dev, false);
    }
}

/* Does it have the bit, and not by a write that we have seen? */
static bool is_caught(CoiommuState *s, PCIDevice *dev)
{
    DmaState state = coiommu_master_find(s, dev)->state;

    return (state == DMA_NONE || state == DMA_WAITING) &&
           coiommu_master_is_set(dev) && !is_attached(s, dev);
}

static void device_settle(CoiommuState *s, PCIDevice *dev, bool complete)
{
    CoiommuMaster *hook = coiommu_master_find(s, dev);

    if (is_attached(s, dev) ? hook->state == DMA_WAITING :
                              hook->state != DMA_NONE && complete) {
        device_allow(s, dev);
    } else if (is_caught(s, dev)) {
        device_caught(s, dev, complete);
    }
    if (is_attached(s, dev) ||
        (hook->state != DMA_WAITING && !coiommu_master_is_set(dev))) {
        hook->state = DMA_NONE;
    }
}

static void devices_settle(CoiommuState *s)
{
    g_autoptr(GPtrArray) devices = coiommu_master_devices(s);
    bool complete = coiommu_pinall_complete(s);
    guint i;

    s->fallback.held++;
    for (i = 0; i < devices->len; i++) {
        device_settle(s, devices->pdata[i], complete);
    }
    s->fallback.held--;
}

/* ---- Begin and end of pin-all ---- */

static int64_t now_ms(void)
{
    return qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
}

/*
 * No reason is left, or pinning has @failed: let go of what is idle, unless it
 * is for attached devices and the operator wants idle memory to stay.
 */
static void pin_all_end(CoiommuState *s, bool failed)
{
    unsigned attached = g_hash_table_size(s->attached);
    CoiommuUnpinSettings settings;

    trace_coiommu_fallback_end(attached);
    timer_del(s->fallback.delay);
    coiommu_unpin_get(s, &settings);
    coiommu_pinall_end(s, !attached || failed ||
                          settings.policy != COIOMMU_POLICY_OFF);
}

static void delay_over(void *opaque)
{
    CoiommuState *s = opaque;

    if (s->pin_all && !is_wanted(s)) {
        pin_all_end(s, false);
    }
}

/* No reason is left: let it end, if none comes up in time. */
static void pin_all_leave(CoiommuState *s)
{
    coiommu_pinall_pause(s);
    if (!s->fallback.delay_ms) {
        pin_all_end(s, false);
    } else if (!timer_pending(s->fallback.delay)) {
        timer_mod(s->fallback.delay, now_ms() + s->fallback.delay_ms);
    }
}

/* It can't be: who waits for it does without the bit. */
static void pin_all_refuse(CoiommuState *s, const char *limit)
{
    g_autoptr(GPtrArray) devices = coiommu_master_devices(s);
    guint i;

    coiommu_pinall_pause(s);
    s->fallback.held++;
    for (i = 0; i < devices->len; i++) {
        DmaState state = coiommu_master_find(s, devices->pdata[i])->state;

        if (state == DMA_WAITING || state == DMA_LEAVING) {
            device_refuse(s, devices->pdata[i], limit);
        }
    }
    s->fallback.held--;
    /* What it has pinned is not for anybody, and may be what others lack. */
    if (s->pin_all && !is_wanted(s)) {
        pin_all_end(s, true);
    }
}

/*
 * The host has refused something that no limit told of.  A guest that tries
 * again and again is not to have it pin and unpin gigabytes each time.
 */
static void pause_begin(CoiommuState *s, const char *why)
{
    CoiommuFallback *fallback = &s->fallback;
    int64_t longest = (int64_t)fallback->delay_ms << PAUSE_DOUBLINGS;

    fallback->pause_ms = MIN(MAX(fallback->pause_ms * 2, fallback->delay_ms),
                             longest);
    fallback->pause_end_ms = now_ms() + fallback->pause_ms;
    g_free(fallback->pause_why);
    fallback->pause_why = g_strdup(why);
}

static void pause_clear(CoiommuState *s)
{
    s->fallback.pause_ms = 0;
    s->fallback.pause_end_ms = 0;
    g_clear_pointer(&s->fallback.pause_why, g_free);
}

/* There is a reason for it: go on, or begin, unless it can't be. */
static void pin_all_want(CoiommuState *s)
{
    g_autofree char *limit = NULL;

    timer_del(s->fallback.delay);
    /* What was refused is not asked for again for those that have the bit. */
    if (coiommu_pinall_complete(s) ||
        coiommu_pinall_job(s) == COIOMMU_JOB_PIN ||
        (s->fallback.pause_why && !coiommu_fallback_waiting(s))) {
        return;
    }
    limit = now_ms() < s->fallback.pause_end_ms ?
            g_strdup(s->fallback.pause_why) : coiommu_limits_check(s);
    if (limit) {
        pin_all_refuse(s, limit);
    } else {
        trace_coiommu_fallback_begin(coiommu_pinall_missing(s));
        coiommu_pinall_pin(s);
    }
}

/* The thread has done what it was to do, or could not. */
static void take_note_of_end(CoiommuState *s)
{
    int64_t ns = get_clock() - s->all.start_ns;
    int error;

    if (coiommu_pinall_ended(s, &error) != COIOMMU_JOB_PIN) {
        return;
    }
    trace_coiommu_fallback_complete(coiommu_pinset_totals(&s->pins).bytes, ns,
                                    error);
    if (error) {
        g_autofree char *limit = coiommu_limits_of_error(s, error);

        pause_begin(s, limit);
        pin_all_refuse(s, limit);
        return;
    }
    pause_clear(s);
    stat64_add(&s->stats.fallback_pins, 1);
    stat64_set(&s->stats.fallback_pin_ns, ns);
}

void coiommu_fallback_settle(CoiommuState *s)
{
    if (s->fallback.held) {
        return;
    }
    coiommu_vfio_settle(s);
    take_note_of_end(s);
    devices_settle(s);
    if (is_wanted(s)) {
        pin_all_want(s);
    } else if (s->pin_all && coiommu_fallback_any(s)) {
        pin_all_leave(s);
    } else if (s->pin_all || (!g_hash_table_size(s->attached) &&
               coiommu_pinall_job(s) == COIOMMU_JOB_NONE)) {
        /* Without an attached endpoint nobody counts. */
        timer_del(s->fallback.delay);
        coiommu_pinall_unpin_now(s);
    }
}

static void settle_bh(void *opaque)
{
    coiommu_fallback_settle(opaque);
}

void coiommu_fallback_retry(CoiommuState *s)
{
    pause_clear(s);
    /* The limits are looked at before a job, not during one. */
    coiommu_pinall_pause(s);
    coiommu_fallback_settle(s);
}

/* ---- Reset ---- */

/* The machine is reset: what vCPUs have been waiting for is void. */
static void machine_reset(void *opaque)
{
    CoiommuState *s = opaque;
    g_autoptr(GPtrArray) devices = coiommu_master_devices(s);
    guint i;

    for (i = 0; i < devices->len; i++) {
        CoiommuMaster *hook = coiommu_master_find(s, devices->pdata[i]);

        if (hook->state == DMA_WAITING) {
            hook->state = DMA_NONE;
        }
    }
    qemu_bh_schedule(s->fallback.settle_bh);
}

/* ---- Detach ---- */

static void device_leaves(CoiommuState *s, PCIDevice *dev)
{
    if (!is_attached(s, dev) || !coiommu_master_is_set(dev)) {
        return;
    }
    if (s->fallback.refuse) {
        device_refuse(s, dev, NULL);
        return;
    }
    coiommu_master_find(s, dev)->state = DMA_LEAVING;
    coiommu_pinall_keep(s);
}

void coiommu_fallback_stop_all(CoiommuState *s)
{
    g_autoptr(GPtrArray) devices = coiommu_master_devices(s);
    guint i;

    s->fallback.held++;
    for (i = 0; i < devices->len; i++) {
        coiommu_master_find(s, devices->pdata[i])->state = DMA_NONE;
        if (coiommu_master_is_set(devices->pdata[i])) {
            coiommu_master_set(s, devices->pdata[i], false);
        }
    }
    s->fallback.held--;
}

void coiommu_fallback_detach_begin(CoiommuState *s, PCIDevice *dev)
{
    g_autoptr(GPtrArray) devices = coiommu_master_devices(s);
    guint i;

    s->fallback.held++;
    for (i = 0; i < devices->len; i++) {
        if (!dev || dev == devices->pdata[i]) {
            device_leaves(s, devices->pdata[i]);
        }
    }
}

void coiommu_fallback_detach_end(CoiommuState *s)
{
    s->fallback.held--;
    coiommu_fallback_settle(s);
    if (coiommu_fallback_waiting(s)) {
        coiommu_hold_current(s);
    }
}

/* ---- Writes to the configuration space ---- */

/* What the device is to hear instead of @val, which has the bit at @bit. */
static uint32_t filter_bus_master(CoiommuState *s, PCIDevice *dev,
                                  uint32_t val, uint32_t bit)
{
    CoiommuMaster *hook = coiommu_master_find(s, dev);

    if (!(val & bit)) {
        hook->state = DMA_NONE;
        return val;
    }
    if (is_attached(s, dev) || hook->state == DMA_LEAVING ||
        hook->state == DMA_ALLOWED) {
        return val;
    }
    if (s->fallback.refuse) {
        device_refuse(s, dev, NULL);
    } else if (coiommu_pinall_complete(s)) {
        device_allow(s, dev);
        return val;
    } else {
        hook->state = DMA_WAITING;
    }
    return val & ~bit;
}

static void fallback_config_write(PCIDevice *dev, uint32_t addr, uint32_t val,
                                  int len)
{
    CoiommuState *s = COIOMMU(PC_MACHINE(qdev_get_machine())->iommu);
    uint32_t bit = bus_master_bit(addr, len);

    s->fallback.held++;
    if (bit) {
        val = filter_bus_master(s, dev, val, bit);
    }
    coiommu_master_find(s, dev)->config_write(dev, addr, val, len);
    s->fallback.held--;
    /* Whatever the write was: a reset by a capability clears the bit, too. */
    if (bit || s->pin_all) {
        coiommu_fallback_settle(s);
    }
    if (bit && coiommu_fallback_waiting(s)) {
        coiommu_hold_current(s);
    }
}

void coiommu_fallback_realized(CoiommuState *s, PCIDevice *dev)
{
    coiommu_master_hook(s, dev, fallback_config_write);
}

void coiommu_fallback_unrealized(CoiommuState *s, PCIDevice *dev)
{
    coiommu_master_unhook(s, dev);
}

void coiommu_fallback_prune(CoiommuState *s)
{
    coiommu_master_prune(s);
}

/* ---- Memory transactions ---- */

/*
 * Memory that has come, or that the chipset has cut and so unmapped, is pinned
 * at the end of the transaction that brings it, before the guest hears of it.
 */
static void ram_changed(CoiommuState *s)
{
    int ret;

    coiommu_vfio_settle(s);
    /* A guest can have the chipset change it: that must not end a pause. */
    if (now_ms() >= s->fallback.pause_end_ms) {
        g_clear_pointer(&s->fallback.pause_why, g_free);
    }
    /* There may be more of it: that it fits is looked at again. */
    coiommu_pinall_pause(s);
    ret = coiommu_pinall_ram_changed(s);
    if (ret) {
        g_autofree char *limit = coiommu_limits_of_error(s, ret);

        /* Once: a guest can have the chipset cut its memory in a loop. */
        warn_report_once("coiommu: not all of the memory that was added can be "
                         "pinned, and a device that is used without the "
                         "guest's coiommu driver cannot reach it: %s, or load "
                         "the driver", limit);
    }
}

/* Has a device lost the bit that was a reason, or got it by itself? */
static bool bits_changed(CoiommuState *s)
{
    g_autoptr(GPtrArray) devices = coiommu_master_devices(s);
    guint i;

    for (i = 0; i < devices->len; i++) {
        PCIDevice *dev = devices->pdata[i];
        DmaState state = coiommu_master_find(s, dev)->state;

        if (is_caught(s, dev) || ((state == DMA_LEAVING ||
            state == DMA_ALLOWED) && !coiommu_master_is_set(dev))) {
            return true;
        }
    }
    return false;
}

void coiommu_fallback_transaction(CoiommuState *s, bool changed)
{
    if (s->pin_all && changed) {
        ram_changed(s);
    }
    if (s->fallback.held || !g_hash_table_size(s->fallback.hooks)) {
        return;
    }
    /* Outside of the transaction, which may be part of a device's reset. */
    if (bits_changed(s) || (s->pin_all && changed)) {
        qemu_bh_schedule(s->fallback.settle_bh);
        coiommu_hold_current(s);
    }
}

/* ---- Life ---- */

void coiommu_fallback_init(CoiommuState *s)
{
    coiommu_master_init(s);
    s->fallback.settle_bh = qemu_bh_new(settle_bh, s);
    s->fallback.delay = timer_new_ms(QEMU_CLOCK_REALTIME, delay_over, s);
    coiommu_hold_init(s);
    s->all.ended_bh = s->fallback.settle_bh;
    qemu_register_reset(machine_reset, s);
}

void coiommu_fallback_exit(CoiommuState *s)
{
    qemu_unregister_reset(machine_reset, s);
    coiommu_hold_exit(s);
    timer_free(s->fallback.delay);
    g_free(s->fallback.pause_why);
    qemu_bh_delete(s->fallback.settle_bh);
    coiommu_master_exit(s);
}
