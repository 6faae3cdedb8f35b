/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fallback for devices that nobody tracks.
 *
 * A tracked device whose driver has not attached it may do DMA all the same:
 * firmware uses it, or an operating system that has never heard of coIOMMU, or
 * a driver that was there before coIOMMU's.  None of them says what memory it
 * is about to use, but each has to let the device do DMA at all: it sets the
 * bus-master bit in PCI_COMMAND.  A device that has the bit and is not attached
 * is *untracked*.  While there is one, all guest RAM is pinned (@pin_all), in
 * blocks like any other, and nothing is let go of: as without coIOMMU.
 *
 * The order of things, so that no device ever finds memory missing:
 *
 *   a device becomes untracked   pin everything, then let it happen: the write
 *                                of the bit, DETACH, DISABLE, reset of our
 *                                function
 *   it is attached               its mappings are counted from now on, and all
 *                                is PINNED in the table; then pin-all ends, and
 *                                what is idle is unpinned like any idle block
 *   it loses the bit             then pin-all ends
 *
 * Where fallback=refuse says so, or not all can be pinned, the device is kept
 * off the bus instead: the bit is not set, or taken away.
 *
 * How we see the bit.  Writes come through the device's config_write, which we
 * replace when the device is realized: before the hardware hears of them.  A
 * reset clears it behind our back, which shows in the configuration space, and
 * as a memory transaction (QEMU switches the device's DMA off in its own view
 * of memory).  The configuration space is the truth: nothing else is kept.
 *
 * All of it runs under the BQL.  @pin_all is changed, and everything is pinned,
 * with the gate closed: a request that runs meanwhile waits for the end of it,
 * and then finds its blocks pinned, rather than a quota used up.
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/units.h"
#include "coiommu.h"
#include "hw/i386/pc.h"
#include "hw/pci/pci_bus.h"
#include "trace.h"

/* What the operator is told about a device, each once. */
typedef enum Told {
    TOLD_PINNED = 1,
    TOLD_REFUSED = 2,
    TOLD_NO_ROOM = 4,
} Told;

/**
 * Hook - a tracked device
 * @config_write: what was there before us
 * @told: what has been said of it
 */
typedef struct Hook {
    PCIConfigWriteFunc *config_write;
    unsigned told;
} Hook;

/* ---- Devices and the bit ---- */

static Hook *hook_find(CoiommuState *s, PCIDevice *dev)
{
    return g_hash_table_lookup(s->fallback.hooks, dev);
}

static bool is_bus_master(PCIDevice *dev)
{
    return pci_get_word(dev->config + PCI_COMMAND) & PCI_COMMAND_MASTER;
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

static void add_device(PCIBus *bus, PCIDevice *dev, void *opaque)
{
    g_ptr_array_add(opaque, dev);
}

static void add_bus(PCIBus *bus, void *opaque)
{
    pci_for_each_device_under_bus(bus, add_device, opaque);
}

/*
 * The tracked devices.  The bus says which devices there are: one whose realize
 * has failed may still have a hook.
 */
static GPtrArray *tracked_devices(CoiommuState *s)
{
    GPtrArray *devices = g_ptr_array_new();
    guint i;

    pci_for_each_bus(pci_get_bus(PCI_DEVICE(s)), add_bus, devices);
    for (i = devices->len; i--; ) {
        if (!hook_find(s, devices->pdata[i])) {
            g_ptr_array_remove_index(devices, i);
        }
    }
    return devices;
}

bool coiommu_fallback_any(CoiommuState *s)
{
    g_autoptr(GPtrArray) devices = tracked_devices(s);

    return devices->len;
}

/* Those of them that may do DMA. */
static GPtrArray *bus_masters(CoiommuState *s)
{
    GPtrArray *devices = tracked_devices(s);
    guint i;

    for (i = devices->len; i--; ) {
        if (!is_bus_master(devices->pdata[i])) {
            g_ptr_array_remove_index(devices, i);
        }
    }
    return devices;
}

unsigned coiommu_fallback_untracked(CoiommuState *s)
{
    g_autoptr(GPtrArray) masters = bus_masters(s);
    unsigned count = 0;
    guint i;

    for (i = 0; i < masters->len; i++) {
        count += !g_hash_table_contains(s->attached, masters->pdata[i]);
    }
    return count;
}

/* ---- What the operator is told ---- */

/* Has it not been said of the device yet? */
static bool tell(CoiommuState *s, PCIDevice *dev, Told what)
{
    Hook *hook = hook_find(s, dev);
    bool first = !(hook->told & what);

    hook->told |= what;
    return first;
}

static void tell_pinned(CoiommuState *s, PCIDevice *dev)
{
    g_autofree char *name = qdev_get_human_name(DEVICE(dev));

    if (tell(s, dev, TOLD_PINNED)) {
        warn_report("coiommu: %s is used without the guest's coiommu driver, "
                    "so all guest memory (%" PRIu64 " MiB) is pinned until "
                    "the driver attaches the device. Load it before the "
                    "device's own driver; -boot strict=on keeps firmware away "
                    "from disks that it need not boot from", name,
                    coiommu_pinset_totals(&s->pins).bytes / MiB);
    }
}

static void tell_refused(CoiommuState *s, PCIDevice *dev)
{
    g_autofree char *name = qdev_get_human_name(DEVICE(dev));

    if (tell(s, dev, TOLD_REFUSED)) {
        warn_report("coiommu: %s is used without the guest's coiommu driver, "
                    "and fallback=refuse keeps it off the bus. Load the driver "
                    "before the device's own, or use fallback=pin-all", name);
    }
}

/* Which limit does not allow to pin everything, and what to do? */
static char *limit_of(CoiommuState *s, int ret)
{
    switch (ret) {
    case -EDQUOT:
        return g_strdup_printf("max-pinned is %" PRIu64 " MiB. Raise it",
                               coiommu_pinset_totals(&s->pins).quota / MiB);
    case -ENOMEM:
        return g_strdup("the host has no more memory, or the memlock limit is "
                        "reached. Raise that to the size of the guest's "
                        "memory");
    case -ENOSPC:
        return g_strdup("the host's IOMMU holds no more mappings. Raise "
                        "dma_entry_limit of vfio_iommu_type1, or give coiommu "
                        "a larger block");
    default:
        return g_strdup(strerror(-ret));
    }
}

static void tell_no_room(CoiommuState *s, PCIDevice *dev, int ret)
{
    g_autofree char *name = qdev_get_human_name(DEVICE(dev));
    g_autofree char *limit = limit_of(s, ret);

    if (tell(s, dev, TOLD_NO_ROOM)) {
        warn_report("coiommu: %s is used without the guest's coiommu driver "
                    "and is kept off the bus, because not all guest memory "
                    "can be pinned for it: %s, or load the driver before the "
                    "device's own", name, limit);
    }
}

/* ---- Begin and end of pin-all ---- */

static int pin_all_begin(CoiommuState *s)
{
    int64_t start = get_clock();
    int ret;

    coiommu_gate_close(&s->gate);
    /* Before anything is pinned: nobody is to make room for it. */
    s->pin_all = true;
    ret = coiommu_pin_all(s);
    s->pin_all = !ret;
    coiommu_gate_open(&s->gate);
    if (!ret) {
        stat64_add(&s->stats.fallback_pins, 1);
        stat64_set(&s->stats.fallback_pin_ns, get_clock() - start);
    }
    trace_coiommu_fallback_begin(coiommu_pinset_totals(&s->pins).bytes,
                                 get_clock() - start, ret);
    return ret;
}

static void pin_all_end(CoiommuState *s)
{
    unsigned attached = g_hash_table_size(s->attached);

    trace_coiommu_fallback_end(attached);
    coiommu_gate_close(&s->gate);
    s->pin_all = false;
    coiommu_gate_open(&s->gate);
    if (attached) {
        coiommu_unpin_hurry(s);
    }
}

void coiommu_fallback_settle(CoiommuState *s)
{
    if (s->fallback.held || (s->pin_all && coiommu_fallback_untracked(s))) {
        return;
    }
    coiommu_vfio_settle(s);
    if (s->pin_all) {
        pin_all_end(s);
    }
    /* Without an attached endpoint nobody counts. */
    if (!g_hash_table_size(s->attached)) {
        coiommu_gate_close(&s->gate);
        coiommu_unpin_all(s);
        coiommu_gate_open(&s->gate);
    }
}

static void settle_bh(void *opaque)
{
    coiommu_fallback_settle(opaque);
}

/*
 * A device is about to be untracked.  Returns false if that may not be: it has
 * to be kept off the bus.
 */
static bool may_be_untracked(CoiommuState *s, PCIDevice *dev)
{
    int ret = 0;

    if (s->fallback.refuse) {
        tell_refused(s, dev);
    } else {
        coiommu_vfio_settle(s);
        ret = s->pin_all ? 0 : pin_all_begin(s);
        if (!ret) {
            tell_pinned(s, dev);
            return true;
        }
        tell_no_room(s, dev, ret);
    }
    stat64_add(&s->stats.fallback_refused, 1);
    trace_coiommu_fallback_refused(dev->name, ret);
    return false;
}

/* Take the bit away from a device that has it. */
static void stop_device(CoiommuState *s, PCIDevice *dev)
{
    uint32_t command = dev->config_read(dev, PCI_COMMAND, 2);

    hook_find(s, dev)->config_write(dev, PCI_COMMAND,
                                    command & ~PCI_COMMAND_MASTER, 2);
}

void coiommu_fallback_stop_all(CoiommuState *s)
{
    g_autoptr(GPtrArray) masters = bus_masters(s);
    guint i;

    for (i = 0; i < masters->len; i++) {
        stop_device(s, masters->pdata[i]);
    }
}

void coiommu_fallback_detach_begin(CoiommuState *s, PCIDevice *dev)
{
    g_autoptr(GPtrArray) masters = bus_masters(s);
    guint i;

    s->fallback.held++;
    for (i = 0; i < masters->len; i++) {
        PCIDevice *master = masters->pdata[i];

        if ((!dev || dev == master) && !may_be_untracked(s, master)) {
            stop_device(s, master);
        }
    }
}

void coiommu_fallback_detach_end(CoiommuState *s)
{
    s->fallback.held--;
    coiommu_fallback_settle(s);
}

/* ---- Writes to the configuration space ---- */

static void fallback_config_write(PCIDevice *dev, uint32_t addr, uint32_t val,
                                  int len)
{
    CoiommuState *s = COIOMMU(PC_MACHINE(qdev_get_machine())->iommu);
    uint32_t bit = bus_master_bit(addr, len);
    bool before = is_bus_master(dev);

    /* What is pinned for the device stays while it has no bit yet. */
    s->fallback.held++;
    if ((val & bit) && !before && !g_hash_table_contains(s->attached, dev) &&
        !may_be_untracked(s, dev)) {
        val &= ~bit;
    }
    hook_find(s, dev)->config_write(dev, addr, val, len);
    s->fallback.held--;
    /* Whatever the write was: a reset by a capability clears the bit, too. */
    if (s->pin_all && !is_bus_master(dev)) {
        coiommu_fallback_settle(s);
    }
}

void coiommu_fallback_realized(CoiommuState *s, PCIDevice *dev)
{
    Hook *hook = g_new0(Hook, 1);

    hook->config_write = dev->config_write;
    dev->config_write = fallback_config_write;
    g_hash_table_replace(s->fallback.hooks, dev, hook);
    trace_coiommu_fallback_hook(dev->name);
}

void coiommu_fallback_unrealized(CoiommuState *s, PCIDevice *dev)
{
    Hook *hook = hook_find(s, dev);

    if (hook) {
        dev->config_write = hook->config_write;
        g_hash_table_remove(s->fallback.hooks, dev);
    }
}

static gboolean is_off_bus(gpointer dev, gpointer hook, gpointer devices)
{
    return !g_ptr_array_find(devices, dev, NULL);
}

void coiommu_fallback_prune(CoiommuState *s)
{
    g_autoptr(GPtrArray) devices = g_ptr_array_new();

    pci_for_each_bus(pci_get_bus(PCI_DEVICE(s)), add_bus, devices);
    g_hash_table_foreach_remove(s->fallback.hooks, is_off_bus, devices);
}

/* ---- Guest RAM ---- */

/*
 * Memory that has come, or that the chipset has cut and so unmapped, is pinned
 * at the end of the transaction that brings it, before the guest hears of it.
 */
static void ram_changed(CoiommuState *s)
{
    int ret;

    coiommu_vfio_settle(s);
    ret = coiommu_pin_all(s);
    if (ret) {
        g_autofree char *limit = limit_of(s, ret);

        /* Once: a guest can have the chipset cut its memory in a loop. */
        warn_report_once("coiommu: not all of the memory that was added can be "
                         "pinned, and a device that is used without the "
                         "guest's coiommu driver cannot reach it: %s, or load "
                         "the driver", limit);
    }
}

void coiommu_fallback_transaction(CoiommuState *s, bool changed)
{
    if (!s->pin_all) {
        return;
    }
    if (changed) {
        ram_changed(s);
    }
    /* Outside of the transaction, which may be part of a device's reset. */
    if (!coiommu_fallback_untracked(s)) {
        qemu_bh_schedule(s->fallback.settle_bh);
    }
}

/* ---- Life ---- */

void coiommu_fallback_init(CoiommuState *s)
{
    s->fallback.hooks = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    s->fallback.settle_bh = qemu_bh_new(settle_bh, s);
}

void coiommu_fallback_exit(CoiommuState *s)
{
    g_autoptr(GPtrArray) devices = g_ptr_array_new();
    guint i;

    pci_for_each_bus(pci_get_bus(PCI_DEVICE(s)), add_bus, devices);
    for (i = 0; i < devices->len; i++) {
        coiommu_fallback_unrealized(s, devices->pdata[i]);
    }
    qemu_bh_delete(s->fallback.settle_bh);
    g_hash_table_destroy(s->fallback.hooks);
}
