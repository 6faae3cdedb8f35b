/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which devices are tracked, and which of them are attached.
 *
 * Tracked: the device has our address space, so VFIO maps nothing for it but
 * what we pin.  That is decided here, for address-space.c, when the PCI bus
 * asks; afterwards the bus's own answer counts, and there is no second list.
 *
 * Attached: the guest driver promises that each DMA mapping of the device is
 * in the table.  The guest names a device by the numbers that it has given to
 * buses; we remember the device itself, as the guest may renumber.  A virtio
 * device whose driver can't promise that is never attached: @untrackable.
 *
 * All of it runs under the BQL.  Threads inside the gate look whether there is
 * an attached device, so @attached must change with the gate closed.
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "blocker.h"
#include "bypass.h"
#include "endpoint.h"
#include "fallback.h"
#include "hw/boards.h"
#include "hw/coiommu/trace.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"
#include "virtio.h"

/* 10.2 has a type above vfio-pci and vfio-user-pci; 10.0 has vfio-pci only. */
static bool is_vfio(Object *obj)
{
    return object_dynamic_cast(obj, "vfio-pci-device") ||
           object_dynamic_cast(obj, "vfio-pci");
}

static int find_vfio(Object *obj, void *opaque)
{
    return is_vfio(obj) && DEVICE(obj)->realized;
}

bool coiommu_endpoint_vfio_exists(void)
{
    return object_child_foreach_recursive(qdev_get_machine(), find_vfio, NULL);
}

/*
 * x-track-emulated is about devices that the user has added, not about those
 * that make up the machine: firmware uses the latter before any driver runs.
 */
static bool is_added_by_user(PCIDevice *dev)
{
    Object *parent = OBJECT(dev)->parent;

    return parent == machine_get_container("peripheral") ||
           parent == machine_get_container("peripheral-anon");
}

/*
 * A device that is plugged while the machine runs is asked about before it is
 * in bus->devices; by then it is a child of the bus and has its number.
 */
static PCIDevice *bus_device(PCIBus *bus, int devfn)
{
    BusChild *kid;

    if (bus->devices[devfn]) {
        return bus->devices[devfn];
    }
    QTAILQ_FOREACH(kid, &BUS(bus)->children, sibling) {
        PCIDevice *dev = PCI_DEVICE(kid->child);

        if (dev->devfn == devfn && !DEVICE(dev)->realized) {
            return dev;
        }
    }
    return NULL;
}

bool coiommu_endpoint_wants(CoiommuState *s, PCIBus *bus, int devfn)
{
    PCIDevice *dev;

    /* Devices on a conventional bus share one requester ID. */
    if (!pci_bus_is_express(bus)) {
        return false;
    }
    dev = bus_device(bus, devfn);
    if (!dev || IS_PCI_BRIDGE(dev) || dev == PCI_DEVICE(s)) {
        return false;
    }
    return is_vfio(OBJECT(dev)) || (s->track_emulated &&
                                    is_added_by_user(dev));
}

bool coiommu_endpoint_tracked(CoiommuState *s, PCIDevice *dev)
{
    return pci_device_iommu_address_space(dev) == &s->domain.as;
}

/* The tracked device that the guest calls @endpoint, or NULL. */
static PCIDevice *endpoint_find(CoiommuState *s, uint32_t endpoint)
{
    PCIDevice *dev;

    /* There is one segment, 0. */
    if (endpoint >> 16) {
        return NULL;
    }
    dev = pci_find_device(pci_get_bus(PCI_DEVICE(s)), endpoint >> 8,
                          endpoint & 0xff);
    return dev && coiommu_endpoint_tracked(s, dev) ? dev : NULL;
}

uint32_t coiommu_endpoint_probe(CoiommuState *s, uint32_t endpoint)
{
    return endpoint_find(s, endpoint) ? COIOMMU_ST_OK : COIOMMU_ST_NODEV;
}

uint32_t coiommu_endpoint_attach(CoiommuState *s, uint32_t endpoint)
{
    PCIDevice *dev = endpoint_find(s, endpoint);

    if (!dev) {
        return COIOMMU_ST_NODEV;
    }
    if (g_hash_table_contains(s->untrackable, dev)) {
        stat64_add(&s->stats.attach_refused, 1);
        trace_coiommu_attach_refused(endpoint, dev->name);
        return COIOMMU_ST_UNSUPPORTED;
    }
    coiommu_gate_close(&s->gate);
    g_hash_table_add(s->attached, dev);
    s->domain.pins.counted = true;
    coiommu_gate_open(&s->gate);
    trace_coiommu_attach(endpoint, dev->name, g_hash_table_size(s->attached));
    coiommu_fallback_update(s);
    return COIOMMU_ST_OK;
}

static void forget(CoiommuState *s, PCIDevice *dev)
{
    coiommu_gate_close(&s->gate);
    g_hash_table_remove(s->attached, dev);
    /* From now on blocks go whatever their counts say. */
    s->domain.pins.counted = g_hash_table_size(s->attached);
    if (!s->domain.pins.counted) {
        coiommu_pins_renew(&s->domain.pins);
    }
    coiommu_gate_open(&s->gate);
    trace_coiommu_detach(dev->name, g_hash_table_size(s->attached));
}

uint32_t coiommu_endpoint_detach(CoiommuState *s, uint32_t endpoint)
{
    PCIDevice *dev = endpoint_find(s, endpoint);

    if (!dev) {
        return COIOMMU_ST_NODEV;
    }
    if (g_hash_table_contains(s->attached, dev)) {
        coiommu_fallback_detach_begin(s, dev);
        forget(s, dev);
        coiommu_fallback_detach_end(s);
    }
    return COIOMMU_ST_OK;
}

void coiommu_endpoint_detach_all(CoiommuState *s)
{
    trace_coiommu_detach_all(g_hash_table_size(s->attached));
    s->domain.pins.table.generation++;
    coiommu_pins_renew(&s->domain.pins);
    g_hash_table_remove_all(s->attached);
    s->domain.pins.counted = false;
}

static PCIDevice *pci_device_of(DeviceState *dev)
{
    return (PCIDevice *)object_dynamic_cast(OBJECT(dev), TYPE_PCI_DEVICE);
}

/*
 * QEMU calls device listeners in the middle of a realize, and not again if the
 * rest of it fails.  When it is over we look what has become of the device.
 */
static void realized_bh(void *opaque)
{
    CoiommuState *s = opaque;

    coiommu_fallback_prune(s);
    coiommu_blocker_update(s);
}

/*
 * Look whether its driver will use the guest's DMA API.  One that has failed to
 * realize may have left a note at the same address: it counts no longer.
 */
static void check_trackable(CoiommuState *s, PCIDevice *dev)
{
    g_hash_table_remove(s->untrackable, dev);
    if (coiommu_virtio_untrackable(dev)) {
        g_hash_table_add(s->untrackable, dev);
        warn_report("coiommu: the virtio device %s does not offer "
                    "VIRTIO_F_ACCESS_PLATFORM, so guests do not tell what "
                    "memory it uses, and it is treated as a device that is "
                    "used without the guest's coiommu driver. Have the device "
                    "offer it if you can",
                    DEVICE(dev)->id ?: dev->name);
    }
}

static void endpoint_realize(DeviceListener *listener, DeviceState *dev)
{
    CoiommuState *s = container_of(listener, CoiommuState, device_listener);
    PCIDevice *pci_dev = pci_device_of(dev);

    if (!pci_dev) {
        return;
    }
    if (coiommu_endpoint_tracked(s, pci_dev)) {
        coiommu_fallback_realized(s, pci_dev);
        check_trackable(s, pci_dev);
        coiommu_blocker_update(s);
        qemu_bh_schedule(s->realized_bh);
    } else if (is_vfio(OBJECT(dev))) {
        coiommu_bypass_realized(&s->ram, pci_dev);
    }
}

static void endpoint_unrealize(DeviceListener *listener, DeviceState *dev)
{
    CoiommuState *s = container_of(listener, CoiommuState, device_listener);
    PCIDevice *pci_dev = pci_device_of(dev);

    if (pci_dev) {
        coiommu_fallback_unrealized(s, pci_dev);
        g_hash_table_remove(s->untrackable, pci_dev);
        if (g_hash_table_contains(s->attached, pci_dev)) {
            forget(s, pci_dev);
        }
        coiommu_fallback_update(s);
        coiommu_vfio_unrealized(s->domain.vfio, dev);
        coiommu_blocker_update(s);
    }
}

void coiommu_endpoint_init(CoiommuState *s)
{
    s->realized_bh = qemu_bh_new(realized_bh, s);
    s->device_listener.realize = endpoint_realize;
    s->device_listener.unrealize = endpoint_unrealize;
    device_listener_register(&s->device_listener);
}

void coiommu_endpoint_exit(CoiommuState *s)
{
    device_listener_unregister(&s->device_listener);
    qemu_bh_delete(s->realized_bh);
}
