/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VFIO devices that are not tracked.
 *
 * A device bypasses coIOMMU if QEMU does not give it our address space: its bus
 * has been told to bypass any IOMMU, or it is on a conventional bus, whose
 * devices share a requester ID, so that coIOMMU is asked about the bridge and
 * never about the device.  VFIO maps all guest RAM for such a device, as
 * without coIOMMU, and the host pins it.  No setting of ours applies to it.
 *
 * QEMU does not ask coIOMMU whether that may be, and VFIO has mapped the RAM
 * when the device is realized.  What is left is to tell the operator: a warning
 * for each device, and two counters.
 *
 * VFIO's own record of the system's address space is what the counters go by:
 * it has every VFIO device that all RAM is mapped for, whatever its bus, and
 * keeps a device that is being unplugged until its memory is unmapped.
 *
 * All of it runs under the BQL, and not during a reset of the machine:
 * coiommu_compat_space_get() may register a reset handler.
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/units.h"
#include "bypass.h"
#include "hw/coiommu/compat.h"
#include "hw/coiommu/trace.h"
#include "hw/pci/pci_bus.h"

static uint64_t ram_bytes(const CoiommuRam *ram)
{
    return coiommu_ram_bytes(ram->extents, 0, UINT64_MAX);
}

void coiommu_bypass_realized(const CoiommuRam *ram, PCIDevice *dev)
{
    g_autofree char *name = qdev_get_human_name(DEVICE(dev));
    uint64_t mib = DIV_ROUND_UP(ram_bytes(ram), MiB);

    trace_coiommu_bypass(dev->name, mib);
    if (pci_bus_bypass_iommu(pci_get_bus(dev))) {
        warn_report("coiommu: %s is on a PCI bus that bypasses any IOMMU, so "
                    "VFIO maps and pins all guest memory (%" PRIu64 " MiB) "
                    "for it, as without coiommu. Remove bypass_iommu=on from "
                    "that bus, or plug the device in elsewhere", name, mib);
    } else {
        warn_report("coiommu: %s is not on a PCI Express bus below pcie.0, so "
                    "VFIO maps and pins all guest memory (%" PRIu64 " MiB) "
                    "for it, as without coiommu. Plug it into pcie.0 or a "
                    "pcie-root-port", name, mib);
    }
}

unsigned coiommu_bypass_devices(void)
{
    VFIOAddressSpace *space = coiommu_compat_space_get(&address_space_memory);
    CoiommuContainer *container;
    VFIODevice *vbasedev;
    unsigned count = 0;

    QLIST_FOREACH(container, &space->containers, next) {
        QLIST_FOREACH(vbasedev, &container->device_list, container_next) {
            count++;
        }
    }
    /* A record that was made for this question; others stay. */
    coiommu_compat_space_put(space);
    return count;
}

uint64_t coiommu_bypass_bytes(const CoiommuRam *ram)
{
    return coiommu_bypass_devices() ? ram_bytes(ram) : 0;
}
