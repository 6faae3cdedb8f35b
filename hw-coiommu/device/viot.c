/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ACPI table VIOT (virtual I/O translation): it tells the guest which
 * functions are behind which IOMMU, before any driver runs.  A kernel that
 * reads it lets the drivers of those functions wait until the IOMMU's own has
 * registered, so the first DMA of a built-in driver is tracked already.
 *
 * The table knows virtio IOMMUs only; what is said about one is its place on
 * the PCI bus, which is all that we need said.  The specification of the device
 * makes that part of its contract.
 *
 * It is not there unless the operator asks for it: a guest without our driver
 * may wait for ever (Linux 6.12 does).
 *
 * Only tracked functions are named.  A function that is named and not tracked
 * would wait in vain, maybe for ever: the emulated disk with the driver on it.
 * So nothing is said about slots into which a device may be plugged later: by
 * then the guest's driver is there or will not come.
 */
#include "qemu/osdep.h"
#include "hw/acpi/acpi-defs.h"
#include "hw/coiommu/endpoint/endpoint.h"
#include "hw/coiommu/trace.h"
#include "hw/pci/pci_bus.h"
#include "viot.h"

#define VIOT_HEADER_SIZE 48
#define VIOT_PCI_RANGE 1
#define VIOT_PCI_RANGE_SIZE 24
#define VIOT_PCI_IOMMU 3
#define VIOT_PCI_IOMMU_SIZE 16

/* A run of tracked functions on a bus, as BDFs, both included. */
typedef struct Range16 {
    uint16_t first;
    uint16_t last;
} Range16;

typedef struct Ranges {
    CoiommuState *s;
    GArray *runs;
} Ranges;

/*
 * The bus's runs: tracked functions without another one between them.  A bus
 * that has no number yet can't be named; firmware numbers it before it asks.
 */
static void add_bus(PCIBus *bus, void *opaque)
{
    Ranges *ranges = opaque;
    int number = pci_bus_num(bus);
    Range16 *run = NULL;

    if (!number && !pci_bus_is_root(bus)) {
        return;
    }
    for (int devfn = 0; devfn < ARRAY_SIZE(bus->devices); devfn++) {
        PCIDevice *dev = bus->devices[devfn];
        uint16_t bdf = PCI_BUILD_BDF(number, devfn);

        if (!dev) {
            continue;
        }
        if (!coiommu_endpoint_tracked(ranges->s, dev)) {
            run = NULL;
            continue;
        }
        if (run) {
            run->last = bdf;
        } else {
            Range16 new = { .first = bdf, .last = bdf };

            g_array_append_val(ranges->runs, new);
            run = &g_array_index(ranges->runs, Range16, ranges->runs->len - 1);
        }
    }
}

static void add_iommu_node(GArray *data, PCIDevice *dev)
{
    build_append_int_noprefix(data, VIOT_PCI_IOMMU, 1);
    build_append_int_noprefix(data, 0, 1); /* reserved */
    build_append_int_noprefix(data, VIOT_PCI_IOMMU_SIZE, 2);
    build_append_int_noprefix(data, 0, 2); /* segment */
    build_append_int_noprefix(data, pci_get_bdf(dev), 2);
    build_append_int_noprefix(data, 0, 8); /* reserved */
}

static void add_range_node(GArray *data, const Range16 *run)
{
    build_append_int_noprefix(data, VIOT_PCI_RANGE, 1);
    build_append_int_noprefix(data, 0, 1); /* reserved */
    build_append_int_noprefix(data, VIOT_PCI_RANGE_SIZE, 2);
    /* The endpoints' IDs are those of our requests: the BDFs. */
    build_append_int_noprefix(data, run->first, 4);
    build_append_int_noprefix(data, 0, 2); /* first segment */
    build_append_int_noprefix(data, 0, 2); /* last segment */
    build_append_int_noprefix(data, run->first, 2);
    build_append_int_noprefix(data, run->last, 2);
    build_append_int_noprefix(data, VIOT_HEADER_SIZE, 2); /* the IOMMU's node */
    build_append_int_noprefix(data, 0, 6); /* reserved */
}

void coiommu_add_viot(DeviceState *iommu, GArray *offsets, GArray *data,
                      BIOSLinker *linker, const char *oem_id,
                      const char *oem_table_id)
{
    AcpiTable table = { .sig = "VIOT", .rev = 0, .oem_id = oem_id,
                        .oem_table_id = oem_table_id };
    CoiommuState *s = (CoiommuState *)object_dynamic_cast(OBJECT(iommu),
                                                          TYPE_COIOMMU);
    g_autoptr(GArray) runs = g_array_new(false, false, sizeof(Range16));
    Ranges ranges = { .s = s, .runs = runs };

    if (!s || !s->use_viot) {
        return;
    }
    pci_for_each_bus(pci_get_bus(PCI_DEVICE(s)), add_bus, &ranges);
    trace_coiommu_viot(runs->len);
    if (!runs->len) {
        return;
    }
    acpi_add_table(offsets, data);
    acpi_table_begin(&table, data);
    build_append_int_noprefix(data, 1 + runs->len, 2); /* nodes */
    build_append_int_noprefix(data, VIOT_HEADER_SIZE, 2); /* the first one */
    build_append_int_noprefix(data, 0, 8); /* reserved */
    add_iommu_node(data, PCI_DEVICE(s));
    for (int i = 0; i < runs->len; i++) {
        add_range_node(data, &g_array_index(runs, Range16, i));
    }
    acpi_table_end(linker, &table);
}
