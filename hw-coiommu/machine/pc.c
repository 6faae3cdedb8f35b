/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PC machines: see pc.h.
 */
#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/boards.h"
#include "hw/i386/pc.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pcie.h"
#include "pc.h"

/* The BIOS is in the last so many bytes below 4 GiB. */
#define BIOS_WINDOW (16 * MiB)

bool coiommu_machine_check(PCIBus *bus, Error **errp)
{
    PCMachineState *pcms;

    if (!object_dynamic_cast(qdev_get_machine(), TYPE_PC_MACHINE)) {
        error_setg(errp, "coiommu serves PC machines only: use -machine q35");
        return false;
    }
    pcms = PC_MACHINE(qdev_get_machine());
    if (!pci_bus_is_express(bus) || bus != pcms->pcibus) {
        error_setg(errp, "coiommu must be on the PCI Express root bus: use "
                   "-machine q35 and bus=pcie.0");
        return false;
    }
    if (pcms->iommu || bus->iommu_ops) {
        error_setg(errp, "coiommu cannot work next to another IOMMU: remove "
                   "the intel-iommu, amd-iommu or virtio-iommu device");
        return false;
    }
    if (pci_bus_bypass_iommu(bus)) {
        error_setg(errp, "devices on this bus bypass any IOMMU: remove "
                   "default-bus-bypass-iommu from the machine's options");
        return false;
    }
    if (current_machine->cgs) {
        error_setg(errp, "coiommu cannot pin the encrypted memory of a "
                   "confidential guest: remove coiommu or "
                   "confidential-guest-support");
        return false;
    }
    return true;
}

DeviceState *coiommu_machine_iommu(void)
{
    Object *machine = object_dynamic_cast(qdev_get_machine(), TYPE_PC_MACHINE);

    return machine ? PC_MACHINE(machine)->iommu : NULL;
}

void coiommu_machine_set_iommu(DeviceState *iommu)
{
    PC_MACHINE(qdev_get_machine())->iommu = iommu;
}

unsigned coiommu_machine_windows(CoiommuWindow *windows)
{
    X86MachineState *x86ms = X86_MACHINE(current_machine);
    hwaddr end = x86ms->above_4g_mem_start + x86ms->above_4g_mem_size;

    end = MAX(end, coiommu_machine_hotplug_end());
    windows[0] = (CoiommuWindow) { 0, x86ms->below_4g_mem_size, true };
    windows[1] = (CoiommuWindow) { 4 * GiB - BIOS_WINDOW, BIOS_WINDOW, false };
    if (end <= x86ms->above_4g_mem_start) {
        return 2;
    }
    windows[2] = (CoiommuWindow) {
        x86ms->above_4g_mem_start, end - x86ms->above_4g_mem_start, true
    };
    return 3;
}

uint64_t coiommu_machine_hotplug_end(void)
{
    DeviceMemoryState *region = current_machine->device_memory;

    return region ? region->base + memory_region_size(&region->mr) : 0;
}

uint64_t coiommu_machine_max_ram(void)
{
    return current_machine->maxram_size;
}
