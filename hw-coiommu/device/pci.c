/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * coIOMMU: DMA tracking between guest and host, so that assigned devices pin
 * only the guest memory that they use.
 *
 * This file is the PCI function: the checks of realize, and reset.
 *
 *   -device coiommu[,unit=SIZE][,block=SIZE][,pressure=on|off][,viot=on|off]
 *           [,x-pressure-path=PATH][,x-track-emulated=on|off]
 *           [,x-fallback-delay=MS]
 *           [,x-doorbell-us=N]
 *
 * and the settings in monitor/properties.c.  It must come before the vfio
 * devices that it is to serve, because VFIO looks for an IOMMU when a device
 * is realized, and maps all guest RAM if it finds none.
 */
#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "hw/coiommu/coiommu.h"
#include "hw/coiommu/endpoint/address-space.h"
#include "hw/coiommu/endpoint/blocker.h"
#include "hw/coiommu/endpoint/endpoint.h"
#include "hw/coiommu/endpoint/fallback.h"
#include "hw/coiommu/include/coiommu_version.h"
#include "hw/coiommu/machine/pc.h"
#include "hw/coiommu/monitor/properties.h"
#include "hw/coiommu/trace.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pcie.h"
#include "hw/qdev-properties.h"
#include "hw/resettable.h"
#include "memory-listener.h"
#include "registers.h"
#include "session.h"
#include "system/system.h"
#include "vmstate.h"

/* Longer than firmware takes from one device to the next. */
#define FALLBACK_DELAY_MS   2000

/* ---- Realize ---- */

/* Can this machine be served at all?  Each refusal says what to do. */
static bool check_machine(CoiommuState *s, Error **errp)
{
    if (object_dynamic_cast(OBJECT(coiommu_machine_iommu()), TYPE_COIOMMU)) {
        error_setg(errp, "there is a coiommu device already, and one serves "
                   "all assigned devices: remove the other one");
        return false;
    }
    if (!coiommu_machine_check(pci_get_bus(PCI_DEVICE(s)), errp)) {
        return false;
    }
    if (coiommu_endpoint_vfio_exists()) {
        error_setg(errp, "a vfio device was created before coiommu and has "
                   "pinned all guest memory: put -device coiommu before "
                   "the vfio devices, and in plain syntax if one of them is "
                   "(QEMU creates devices in JSON syntax last)");
        return false;
    }
    return true;
}

static bool check_sizes(CoiommuState *s, Error **errp)
{
    if (!is_power_of_2(s->unit_size) ||
        s->unit_size < 1ull << COIOMMU_UNIT_SHIFT_MIN ||
        s->unit_size > 1ull << COIOMMU_UNIT_SHIFT_MAX) {
        error_setg(errp, "coiommu: unit must be a power of two from 4K to 2M");
        return false;
    }
    s->geometry.unit_shift = ctz64(s->unit_size);

    if (s->block_size == 0) {
        /* Settled when the machine is complete: not less than this. */
        s->geometry.block_shift = MAX(COIOMMU_BLOCK_SHIFT_DEFAULT,
                                      s->geometry.unit_shift);
        return true;
    }
    if (!is_power_of_2(s->block_size) || s->block_size < s->unit_size ||
        s->block_size > 1ull << COIOMMU_BLOCK_SHIFT_MAX) {
        error_setg(errp, "coiommu: block must be a power of two from the unit "
                   "(%" PRIu64 " bytes) to 1G, or 0 for automatic",
                   s->unit_size);
        return false;
    }
    s->geometry.block_shift = ctz64(s->block_size);
    return true;
}

static bool check_quota(CoiommuState *s, Error **errp)
{
    uint64_t quota = coiommu_pinset_totals(&s->domain.pins.set).quota;

    return coiommu_check_quota(s, quota, errp);
}

/*
 * The machine is complete, and no CPU has run yet: the containers and the RAM
 * are there that the size of a block is computed from.  It stays as it is when
 * others come later.
 */
static void coiommu_machine_done(Notifier *notifier, void *data)
{
    CoiommuState *s = container_of(notifier, CoiommuState,
                                   machine_done_notifier);
    uint64_t budget = coiommu_vfio_budget(s->domain.vfio);
    uint64_t page = coiommu_listener_page_size(s);
    Error *err = NULL;

    if (s->block_size == 0) {
        s->geometry.block_shift =
            coiommu_auto_block_shift(coiommu_machine_max_ram(), page, budget,
                                     s->geometry.unit_shift);
    }
    trace_coiommu_machine_done(s->geometry.block_shift, budget, page);
    if (!check_quota(s, &err)) {
        error_report_err(err);
        exit(EXIT_FAILURE);
    }
}

/* What runs by itself. */
static void threads_start(CoiommuState *s)
{
    coiommu_unpin_start(s->unpin);
    coiommu_ahead_start(s->ahead);
    coiommu_pinall_start(s->all);
    if (s->use_pressure) {
        s->pressure = coiommu_pressure_start(
            s->pressure_path ?: "/proc/pressure/memory", s->unpin,
            &s->stats.pressure_events);
    }
}

static void threads_stop(CoiommuState *s)
{
    coiommu_pressure_stop(s->pressure);
    s->pressure = NULL;
    coiommu_pinall_stop(s->all);
    coiommu_ahead_stop(s->ahead);
    coiommu_unpin_stop(s->unpin);
}

/* exit() takes down what they use. */
static void coiommu_exiting(Notifier *notifier, void *data)
{
    threads_stop(container_of(notifier, CoiommuState, exit_notifier));
}

static void coiommu_realize(PCIDevice *pci_dev, Error **errp)
{
    CoiommuState *s = COIOMMU(pci_dev);
    int ret;

    if (!check_machine(s, errp) || !check_sizes(s, errp) ||
        !check_quota(s, errp) || !coiommu_blocker_check(s, errp)) {
        return;
    }
    ret = pcie_endpoint_cap_init(pci_dev, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "coiommu: no room for the PCI Express "
                         "capability");
        return;
    }
    pcie_cap_flr_init(pci_dev);
    coiommu_registers_init(s);
    pci_register_bar(pci_dev, COIOMMU_BAR,
                     PCI_BASE_ADDRESS_SPACE_MEMORY |
                     PCI_BASE_ADDRESS_MEM_TYPE_64, &s->bar);
    coiommu_domain_start(&s->domain);
    coiommu_space_init(s);
    coiommu_fallback_init(s);
    coiommu_listener_init(s);
    coiommu_endpoint_init(s);
    coiommu_space_setup(s);
    coiommu_machine_set_iommu(DEVICE(s));
    threads_start(s);
    s->exit_notifier.notify = coiommu_exiting;
    qemu_add_exit_notifier(&s->exit_notifier);
    trace_coiommu_realize(COIOMMU_RELEASE, s->geometry.unit_shift);
    s->machine_done_notifier.notify = coiommu_machine_done;
    qemu_add_machine_init_done_notifier(&s->machine_done_notifier);
}

/*
 * Around the PCI core's realize, which can't set up a function twice either:
 * what it has taken down may still wait for RCU.
 */
static void coiommu_device_realize(DeviceState *dev, Error **errp)
{
    DeviceClass *pci = DEVICE_CLASS(object_class_by_name(TYPE_PCI_DEVICE));

    if (COIOMMU(dev)->unrealized) {
        error_setg(errp, "coiommu cannot be realized a second time: start "
                   "QEMU anew");
        return;
    }
    pci->realize(dev, errp);
}

/*
 * Either our realize has failed after all, or the operator has written to the
 * property "realized", which QEMU gives a device no way to refuse.  The machine
 * must be as if we had not been there, but for the devices that we serve: they
 * keep an address space in which there is no memory for them.
 */
static void coiommu_exit(PCIDevice *pci_dev)
{
    CoiommuState *s = COIOMMU(pci_dev);

    if (coiommu_fallback_any(s)) {
        warn_report("coiommu has been unrealized: the devices behind it are "
                    "kept off the bus and reach no guest memory any more. "
                    "Start QEMU anew to use them");
    }
    s->unrealized = true;
    qemu_remove_machine_init_done_notifier(&s->machine_done_notifier);
    qemu_remove_exit_notifier(&s->exit_notifier);
    threads_stop(s);
    coiommu_vfio_refresh(s->domain.vfio);
    coiommu_fallback_stop_all(s);
    coiommu_session_reset(s);
    coiommu_pinall_unpin_now(s->all);
    coiommu_machine_set_iommu(NULL);
    coiommu_endpoint_exit(s);
    coiommu_listener_exit(s);
    coiommu_fallback_exit(s);
    coiommu_space_exit(s);
    coiommu_domain_stop(&s->domain);
    coiommu_blocker_exit(s);
    pcie_cap_exit(pci_dev);
}

/* ---- Reset ---- */

static uint64_t pinned_bytes(CoiommuState *s)
{
    return coiommu_pinset_totals(&s->domain.pins.set).bytes;
}

/*
 * In the exit phase: when the whole machine is reset, the assigned devices have
 * been reset by now and do no DMA any more.  When we alone are, they may.
 */
static void coiommu_reset_exit(Object *obj, ResetType type)
{
    CoiommuState *s = COIOMMU(obj);

    /* A device that has been unrealized is still on the bus, and is reset. */
    if (!DEVICE(s)->realized) {
        return;
    }
    trace_coiommu_reset(s->domain.pins.table.enabled, pinned_bytes(s));
    coiommu_session_reset(s);
}

/*
 * A function-level reset is the way out for a kernel started by kexec that
 * knows us.  One that doesn't, a crash kernel without the driver, would have
 * its devices do DMA by the dead kernel's table.  But any system that looks for
 * devices takes our BAR out of the memory map to see its size, and the driver
 * never does that while the table is in use: so the table is given up.
 */
static void coiommu_config_write(PCIDevice *pci_dev, uint32_t addr,
                                 uint32_t value, int len)
{
    CoiommuState *s = COIOMMU(pci_dev);

    pci_default_write_config(pci_dev, addr, value, len);
    if (s->domain.pins.table.enabled &&
        !(pci_get_word(pci_dev->config + PCI_COMMAND) & PCI_COMMAND_MEMORY)) {
        trace_coiommu_abandoned(pinned_bytes(s));
        coiommu_session_reset(s);
    }
    pcie_cap_flr_write_config(pci_dev, addr, value, len);
}

/* ---- The instance ---- */

static void coiommu_instance_init(Object *obj)
{
    CoiommuState *s = COIOMMU(obj);

    const CoiommuShared shared = {
        .geometry = &s->geometry,
        .ram = &s->ram,
        .gate = &s->gate,
        .stats = &s->stats,
    };

    coiommu_gate_init(&s->gate);
    coiommu_space_instance_init(s);
    coiommu_domain_init(&s->domain, &shared, coiommu_space_iommu(s->space));
    s->unpin = coiommu_unpin_new(&s->domain.pins);
    s->domain.pinned = coiommu_unpin_wake;
    s->domain.opaque = s->unpin;
    s->ahead = coiommu_ahead_new(&s->domain.pins, s->domain.containers,
                                 s->unpin);
    s->all = coiommu_pinall_new(&s->domain.pins);
    coiommu_fallback_instance_init(s);
    s->attached = g_hash_table_new(NULL, NULL);
    s->untrackable = g_hash_table_new(NULL, NULL);
}

static void coiommu_instance_finalize(Object *obj)
{
    CoiommuState *s = COIOMMU(obj);

    g_hash_table_destroy(s->untrackable);
    g_hash_table_destroy(s->attached);
    coiommu_fallback_instance_finalize(s);
    coiommu_pinall_free(s->all);
    coiommu_ahead_free(s->ahead);
    coiommu_unpin_free(s->unpin);
    coiommu_domain_destroy(&s->domain);
    coiommu_space_instance_finalize(s);
    coiommu_gate_destroy(&s->gate);
}

/* ---- The class ---- */

static const Property coiommu_properties[] = {
    DEFINE_PROP_SIZE("unit", CoiommuState, unit_size,
                     1ull << COIOMMU_UNIT_SHIFT_DEFAULT),
    DEFINE_PROP_SIZE("block", CoiommuState, block_size, 0),
    DEFINE_PROP_BOOL("pressure", CoiommuState, use_pressure, true),
    DEFINE_PROP_BOOL("viot", CoiommuState, use_viot, false),
    DEFINE_PROP_STRING("x-pressure-path", CoiommuState, pressure_path),
    DEFINE_PROP_BOOL("x-track-emulated", CoiommuState, track_emulated, false),
    DEFINE_PROP_UINT32("x-fallback-delay", CoiommuState, fallback_delay_ms,
                       FALLBACK_DELAY_MS),
    DEFINE_PROP_UINT32("x-doorbell-us", CoiommuState, doorbell_us, 10000),
};

static void coiommu_class_init(ObjectClass *klass, CoiommuClassData data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *pc = PCI_DEVICE_CLASS(klass);
    ResettableClass *rc = RESETTABLE_CLASS(klass);

    dc->realize = coiommu_device_realize;
    pc->realize = coiommu_realize;
    pc->exit = coiommu_exit;
    pc->config_write = coiommu_config_write;
    pc->vendor_id = COIOMMU_PCI_VENDOR_ID;
    pc->device_id = COIOMMU_PCI_DEVICE_ID;
    pc->class_id = COIOMMU_PCI_CLASS >> 8;
    pc->revision = COIOMMU_PCI_REVISION;
    rc->phases.exit = coiommu_reset_exit;
    dc->desc = "DMA tracking for on-demand pinning of guest memory";
    /* VFIO looks for an IOMMU when a device is realized: too late by then. */
    dc->hotpluggable = false;
    dc->vmsd = &coiommu_vmstate;
    device_class_set_props(dc, coiommu_properties);
    coiommu_properties_class_init(klass);
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    object_class_property_set_description(klass, "unit",
        "Tracking unit, a power of two from 4K to 2M");
    object_class_property_set_description(klass, "block",
        "Pin block, a power of two from the unit to 1G (0: automatic)");
    object_class_property_set_description(klass, "pressure",
        "Unpin idle memory at once when the host is short of memory");
    object_class_property_set_description(klass, "viot",
        "Name the tracked devices in the ACPI table VIOT");
    object_class_property_set_description(klass, "x-pressure-path",
        "The file to watch for that, or a FIFO, for tests");
    object_class_property_set_description(klass, "x-track-emulated",
        "Track emulated devices as well, for tests");
    object_class_property_set_description(klass, "x-fallback-delay",
        "Milliseconds for which all stays pinned when no device needs it");
    object_class_property_set_description(klass, "x-doorbell-us",
        "Microseconds after which a request is served in part (0: never)");
}

static const TypeInfo coiommu_info = {
    .name = TYPE_COIOMMU,
    .parent = TYPE_PCI_DEVICE,
    .instance_size = sizeof(CoiommuState),
    .instance_init = coiommu_instance_init,
    .instance_finalize = coiommu_instance_finalize,
    .class_init = coiommu_class_init,
    .interfaces = (InterfaceInfo[]) {
        { INTERFACE_PCIE_DEVICE },
        { }
    },
};

static void coiommu_register(void)
{
    type_register_static(&coiommu_info);
}

type_init(coiommu_register)
