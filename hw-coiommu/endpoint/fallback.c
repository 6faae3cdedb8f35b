/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fallback for devices that the guest does not track.
 *
 * A tracked device whose driver has not attached it may do DMA all the same:
 * firmware uses it, or an operating system that has never heard of coIOMMU, or
 * a driver that was there before coIOMMU's.  None of them says what memory it
 * is about to use, but each has to let the device do DMA at all: it sets the
 * bus-master bit in PCI_COMMAND.  A device that has the bit and is not attached
 * is *untracked*.  While there is one, or one waits to be, all guest RAM is to
 * be pinned (pin-all), and nothing is let go of: as without coIOMMU.
 *
 * That is a goal, and a thread works on it (policy/pinall.c): so each device
 * has a state of its own, and what is done about the goal follows from these
 * states, in coiommu_fallback_update().
 *
 *   the guest sets the bit    it is withheld (DMA_WAITING) until all is pinned
 *   DETACH, DISABLE, reset    the device keeps the bit (DMA_DEPARTING).  What
 *   of our function           it may be using has counts, is pinned, and from
 *                             now on stays so; the rest is pinned meanwhile
 *   all is pinned             both have the bit (DMA_ALLOWED)
 *   that can't be, or         both lose it.  Those that have it already keep it
 *   fallback=refuse
 *   ATTACH, the bit cleared,  the device is no longer a reason (DMA_NONE)
 *   reset, unplug
 *   no reason is left         x-fallback-delay later pin-all ends, and the
 *                             thread lets go of what is idle.  So firmware that
 *                             starts one device after the other, or a guest
 *                             that switches the bit off and on, pays once.  At
 *                             once if no tracked device is left, or pinning has
 *                             failed
 *
 * The guest finds the bit set when its write is over: hold.c holds the
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
#include "fallback.h"
#include "hold.h"
#include "hw/coiommu/machine/pc.h"
#include "hw/coiommu/policy/limits.h"
#include "hw/coiommu/trace.h"
#include "master.h"
#include "pause.h"
#include "qemu/timer.h"
#include "system/reset.h"

/**
 * CoiommuFallback - for devices that do DMA without being attached
 * @refuse: keep them off the bus rather than pin everything
 * @held: pin-all neither begins nor ends as long as this is not 0
 * @update_bh: coiommu_fallback_update(), from the main loop
 * @delay: runs from the end of the last device to the end of pin-all
 * @pause: after the host's last refusal
 * @hold: holds vCPUs
 */
struct CoiommuFallback {
    bool refuse;
    unsigned held;
    QEMUBH *update_bh;
    QEMUTimer *delay;
    CoiommuPause pause;
    CoiommuHold *hold;
};

/* ---- The devices ---- */

static bool is_attached(CoiommuState *s, PCIDevice *dev)
{
    return g_hash_table_contains(s->attached, dev);
}

static uint64_t pinned_bytes(CoiommuState *s)
{
    return coiommu_pinset_totals(&s->domain.pins.set).bytes;
}

bool coiommu_fallback_any(CoiommuState *s)
{
    g_autoptr(GPtrArray) devices = coiommu_master_devices(s->masters);

    return devices->len;
}

unsigned coiommu_fallback_untracked(CoiommuState *s)
{
    g_autoptr(GPtrArray) devices = coiommu_master_devices(s->masters);
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
    return coiommu_master_count(s->masters, DMA_WAITING, DMA_DEPARTING);
}

static bool is_wanted(CoiommuState *s)
{
    return coiommu_fallback_waiting(s) ||
           coiommu_master_count(s->masters, DMA_ALLOWED, DMA_ALLOWED);
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
    CoiommuMaster *hook = coiommu_master_find(s->masters, dev);
    bool withheld = hook->state == DMA_WAITING;

    /* First: the write is a memory transaction, in which we look again. */
    hook->state = is_attached(s, dev) ? DMA_NONE : DMA_ALLOWED;
    if (hook->state == DMA_ALLOWED) {
        coiommu_master_tell_pinned(s->masters, dev, pinned_bytes(s));
    }
    if (withheld) {
        coiommu_master_set(s->masters, dev, true);
    }
}

/* @limit: why not all can be pinned; NULL: the operator does not want it. */
static void device_refuse(CoiommuState *s, PCIDevice *dev, const char *limit)
{
    coiommu_master_find(s->masters, dev)->state = DMA_NONE;
    if (coiommu_master_is_set(dev)) {
        coiommu_master_set(s->masters, dev, false);
    }
    if (limit) {
        coiommu_master_tell_no_room(s->masters, dev, limit);
    } else {
        coiommu_master_tell_refused(s->masters, dev);
    }
    stat64_add(&s->stats.fallback_refused, 1);
    trace_coiommu_fallback_refused(dev->name, limit ?: "fallback=refuse");
}

/* It has got the bit by itself, and may keep it only if all is pinned. */
static void device_caught(CoiommuState *s, PCIDevice *dev, bool complete)
{
    trace_coiommu_fallback_caught(dev->name);
    if (s->fallback->refuse) {
        device_refuse(s, dev, NULL);
    } else if (complete) {
        device_allow(s, dev);
    } else {
        coiommu_master_find(s->masters, dev)->state = DMA_WAITING;
        coiommu_master_set(s->masters, dev, false);
    }
}

/* Does it have the bit, and not by a write that we have seen? */
static bool is_caught(CoiommuState *s, PCIDevice *dev)
{
    DmaState state = coiommu_master_find(s->masters, dev)->state;

    return (state == DMA_NONE || state == DMA_WAITING) &&
           coiommu_master_is_set(dev) && !is_attached(s, dev);
}

static void device_update(CoiommuState *s, PCIDevice *dev, bool complete)
{
    CoiommuMaster *hook = coiommu_master_find(s->masters, dev);

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

static void devices_update(CoiommuState *s)
{
    g_autoptr(GPtrArray) devices = coiommu_master_devices(s->masters);
    bool complete = coiommu_pinall_complete(s->all);
    guint i;

    s->fallback->held++;
    for (i = 0; i < devices->len; i++) {
        device_update(s, devices->pdata[i], complete);
    }
    s->fallback->held--;
}

/* ---- Begin and end of pin-all ---- */

/*
 * No reason is left, or pinning has @failed: let go of what is idle, unless it
 * is for attached devices and the operator wants idle memory to stay.
 */
static void pin_all_end(CoiommuState *s, bool failed)
{
    unsigned attached = g_hash_table_size(s->attached);
    CoiommuUnpinSettings settings;

    trace_coiommu_fallback_end(attached);
    timer_del(s->fallback->delay);
    coiommu_unpin_get(s->unpin, &settings);
    coiommu_pinall_end(s->all, !attached || failed ||
                          settings.policy != COIOMMU_POLICY_OFF);
}

static void delay_over(void *opaque)
{
    CoiommuState *s = opaque;

    if (s->domain.pins.keep && !is_wanted(s)) {
        pin_all_end(s, false);
    }
}

/* No reason is left: let it end, if none comes up in time. */
static void pin_all_leave(CoiommuState *s)
{
    coiommu_pinall_pause(s->all);
    if (!s->fallback_delay_ms) {
        pin_all_end(s, false);
    } else if (!timer_pending(s->fallback->delay)) {
        timer_mod(s->fallback->delay, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                  s->fallback_delay_ms);
    }
}

/* It can't be: devices that wait for it do without the bit. */
static void pin_all_refuse(CoiommuState *s, const char *limit)
{
    g_autoptr(GPtrArray) devices = coiommu_master_devices(s->masters);
    guint i;

    coiommu_pinall_pause(s->all);
    s->fallback->held++;
    for (i = 0; i < devices->len; i++) {
        CoiommuMaster *hook = coiommu_master_find(s->masters,
                                                  devices->pdata[i]);

        if (hook->state == DMA_WAITING || hook->state == DMA_DEPARTING) {
            device_refuse(s, devices->pdata[i], limit);
        }
    }
    s->fallback->held--;
    /* What it has pinned is of no use, and may be what others lack. */
    if (s->domain.pins.keep && !is_wanted(s)) {
        pin_all_end(s, true);
    }
}

/* There is a reason for it: go on, or begin, unless it can't be. */
static void pin_all_want(CoiommuState *s)
{
    g_autofree char *limit = NULL;

    timer_del(s->fallback->delay);
    /* What was refused is not asked for again for those that have the bit. */
    if (coiommu_pinall_complete(s->all) ||
        coiommu_pinall_job(s->all) == COIOMMU_JOB_PIN ||
        (s->fallback->pause.why && !coiommu_fallback_waiting(s))) {
        return;
    }
    limit = coiommu_pause_is_on(&s->fallback->pause) ?
            g_strdup(s->fallback->pause.why) :
            coiommu_limits_check(&s->domain, s->all);
    if (limit) {
        pin_all_refuse(s, limit);
    } else {
        trace_coiommu_fallback_begin(coiommu_pinall_missing(s->all));
        coiommu_pinall_pin(s->all);
    }
}

/* The thread has done what it was to do, or could not. */
static void take_note_of_end(CoiommuState *s)
{
    int64_t ns;
    int error;

    if (coiommu_pinall_ended(s->all, &error, &ns) != COIOMMU_JOB_PIN) {
        return;
    }
    trace_coiommu_fallback_complete(pinned_bytes(s), ns, error);
    if (error) {
        g_autofree char *limit = coiommu_limits_of_error(&s->domain.pins,
                                                         error);

        coiommu_pause_begin(&s->fallback->pause, limit,
                            s->fallback_delay_ms);
        pin_all_refuse(s, limit);
        return;
    }
    coiommu_pause_clear(&s->fallback->pause);
    stat64_add(&s->stats.fallback_pins, 1);
    stat64_set(&s->stats.fallback_pin_ns, ns);
}

void coiommu_fallback_update(CoiommuState *s)
{
    if (s->fallback->held) {
        return;
    }
    coiommu_vfio_refresh(s->domain.vfio);
    take_note_of_end(s);
    devices_update(s);
    if (is_wanted(s)) {
        pin_all_want(s);
    } else if (s->domain.pins.keep && coiommu_fallback_any(s)) {
        pin_all_leave(s);
    } else if (s->domain.pins.keep || (!g_hash_table_size(s->attached) &&
               coiommu_pinall_job(s->all) == COIOMMU_JOB_NONE)) {
        /* Without an attached endpoint no driver counts. */
        timer_del(s->fallback->delay);
        coiommu_pinall_unpin_now(s->all);
    }
}

static void update_bh(void *opaque)
{
    coiommu_fallback_update(opaque);
}

void coiommu_fallback_retry(CoiommuState *s)
{
    coiommu_pause_clear(&s->fallback->pause);
    /* The limits are looked at before a job, not during one. */
    coiommu_pinall_pause(s->all);
    coiommu_fallback_update(s);
}

/* ---- Reset ---- */

/* The machine is reset: what vCPUs have been waiting for is void. */
static void machine_reset(void *opaque)
{
    CoiommuState *s = opaque;
    g_autoptr(GPtrArray) devices = coiommu_master_devices(s->masters);
    guint i;

    for (i = 0; i < devices->len; i++) {
        CoiommuMaster *hook = coiommu_master_find(s->masters,
                                                  devices->pdata[i]);

        if (hook->state == DMA_WAITING) {
            hook->state = DMA_NONE;
        }
    }
    qemu_bh_schedule(s->fallback->update_bh);
}

/* ---- Detach ---- */

static void device_departs(CoiommuState *s, PCIDevice *dev)
{
    if (!is_attached(s, dev) || !coiommu_master_is_set(dev)) {
        return;
    }
    if (s->fallback->refuse) {
        device_refuse(s, dev, NULL);
        return;
    }
    coiommu_master_find(s->masters, dev)->state = DMA_DEPARTING;
    coiommu_pinall_keep(s->all);
}

void coiommu_fallback_stop_all(CoiommuState *s)
{
    g_autoptr(GPtrArray) devices = coiommu_master_devices(s->masters);
    guint i;

    s->fallback->held++;
    for (i = 0; i < devices->len; i++) {
        coiommu_master_find(s->masters, devices->pdata[i])->state = DMA_NONE;
        if (coiommu_master_is_set(devices->pdata[i])) {
            coiommu_master_set(s->masters, devices->pdata[i], false);
        }
    }
    s->fallback->held--;
}

void coiommu_fallback_detach_begin(CoiommuState *s, PCIDevice *dev)
{
    g_autoptr(GPtrArray) devices = coiommu_master_devices(s->masters);
    guint i;

    s->fallback->held++;
    for (i = 0; i < devices->len; i++) {
        if (!dev || dev == devices->pdata[i]) {
            device_departs(s, devices->pdata[i]);
        }
    }
}

void coiommu_fallback_detach_end(CoiommuState *s)
{
    s->fallback->held--;
    coiommu_fallback_update(s);
    if (coiommu_fallback_waiting(s)) {
        coiommu_hold_current(s->fallback->hold);
    }
}

/* ---- Writes to the configuration space ---- */

/* What the device is to hear instead of @val, which has the bit at @bit. */
static uint32_t filter_bus_master(CoiommuState *s, PCIDevice *dev,
                                  uint32_t val, uint32_t bit)
{
    CoiommuMaster *hook = coiommu_master_find(s->masters, dev);

    if (!(val & bit)) {
        hook->state = DMA_NONE;
        return val;
    }
    if (is_attached(s, dev) || hook->state == DMA_DEPARTING ||
        hook->state == DMA_ALLOWED) {
        return val;
    }
    if (s->fallback->refuse) {
        device_refuse(s, dev, NULL);
    } else if (coiommu_pinall_complete(s->all)) {
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
    CoiommuState *s = COIOMMU(coiommu_machine_iommu());
    uint32_t bit = bus_master_bit(addr, len);

    s->fallback->held++;
    if (bit) {
        val = filter_bus_master(s, dev, val, bit);
    }
    coiommu_master_find(s->masters, dev)->config_write(dev, addr, val, len);
    s->fallback->held--;
    /* Whatever the write was: a reset by a capability clears the bit, too. */
    if (bit || s->domain.pins.keep) {
        coiommu_fallback_update(s);
    }
    if (bit && coiommu_fallback_waiting(s)) {
        coiommu_hold_current(s->fallback->hold);
    }
}

void coiommu_fallback_realized(CoiommuState *s, PCIDevice *dev)
{
    coiommu_master_hook(s->masters, dev, fallback_config_write);
}

void coiommu_fallback_unrealized(CoiommuState *s, PCIDevice *dev)
{
    coiommu_master_unhook(s->masters, dev);
}

void coiommu_fallback_prune(CoiommuState *s)
{
    coiommu_master_prune(s->masters);
}

/* ---- Memory transactions ---- */

/*
 * Memory that has come, or that the chipset has cut and so unmapped, is pinned
 * at the end of the transaction that brings it, before the guest hears of it.
 */
static void ram_changed(CoiommuState *s)
{
    int ret;

    coiommu_vfio_refresh(s->domain.vfio);
    /* A guest can have the chipset change it: that must not end a pause. */
    coiommu_pause_forgive(&s->fallback->pause);
    /* There may be more of it: that it fits is looked at again. */
    coiommu_pinall_pause(s->all);
    ret = coiommu_pinall_ram_changed(s->all);
    if (ret) {
        g_autofree char *limit = coiommu_limits_of_error(&s->domain.pins,
                                                         ret);

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
    g_autoptr(GPtrArray) devices = coiommu_master_devices(s->masters);
    guint i;

    for (i = 0; i < devices->len; i++) {
        PCIDevice *dev = devices->pdata[i];
        DmaState state = coiommu_master_find(s->masters, dev)->state;

        if (is_caught(s, dev) || ((state == DMA_DEPARTING ||
            state == DMA_ALLOWED) && !coiommu_master_is_set(dev))) {
            return true;
        }
    }
    return false;
}

void coiommu_fallback_transaction(CoiommuState *s, bool changed)
{
    if (s->domain.pins.keep && changed) {
        ram_changed(s);
    }
    if (s->fallback->held || !coiommu_master_any(s->masters)) {
        return;
    }
    /* Outside of the transaction, which may be part of a device's reset. */
    if (bits_changed(s) || (s->domain.pins.keep && changed)) {
        qemu_bh_schedule(s->fallback->update_bh);
        coiommu_hold_current(s->fallback->hold);
    }
}

/* ---- Life ---- */

static bool hold_waits(void *opaque)
{
    return coiommu_fallback_waiting(opaque);
}

static void hold_update(void *opaque)
{
    coiommu_fallback_update(opaque);
}

bool coiommu_fallback_get_refuse(CoiommuState *s)
{
    return s->fallback->refuse;
}

void coiommu_fallback_set_refuse(CoiommuState *s, bool refuse)
{
    s->fallback->refuse = refuse;
}

void coiommu_fallback_init(CoiommuState *s)
{
    coiommu_master_init(s->masters, pci_get_bus(PCI_DEVICE(s)));
    s->fallback->update_bh = qemu_bh_new(update_bh, s);
    s->fallback->delay = timer_new_ms(QEMU_CLOCK_REALTIME, delay_over, s);
    coiommu_hold_start(s->fallback->hold);
    coiommu_pinall_watch(s->all, s->fallback->update_bh);
    qemu_register_reset(machine_reset, s);
}

void coiommu_fallback_exit(CoiommuState *s)
{
    qemu_unregister_reset(machine_reset, s);
    coiommu_hold_stop(s->fallback->hold);
    timer_free(s->fallback->delay);
    coiommu_pause_clear(&s->fallback->pause);
    qemu_bh_delete(s->fallback->update_bh);
    coiommu_master_exit(s->masters);
}

void coiommu_fallback_instance_init(CoiommuState *s)
{
    s->masters = coiommu_master_new();
    s->fallback = g_new0(CoiommuFallback, 1);
    s->fallback->hold = coiommu_hold_new(hold_waits, hold_update, s);
}

void coiommu_fallback_instance_finalize(CoiommuState *s)
{
    coiommu_hold_free(s->fallback->hold);
    g_free(s->fallback);
    coiommu_master_free(s->masters);
}
