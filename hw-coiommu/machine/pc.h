/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is known of the machine: here, of PCs.  The caller must hold the BQL.
 */
#ifndef COIOMMU_MACHINE_H
#define COIOMMU_MACHINE_H

#include "hw/pci/pci_device.h"

/* Guest RAM lies in: below 4 GiB, above it, and the BIOS ROM's top 16 MiB. */
#define COIOMMU_WINDOWS_MAX 3

/**
 * CoiommuWindow - a part of the address space that VFIO must not map itself
 * @base: first GPA
 * @size: bytes, not 0
 * @ram: guest RAM in it may be pinned
 */
typedef struct CoiommuWindow {
    hwaddr base;
    uint64_t size;
    bool ram;
} CoiommuWindow;

/* Can an IOMMU on @bus serve this machine?  Each refusal says what to do. */
bool coiommu_machine_check(PCIBus *bus, Error **errp);

/*
 * The machine's IOMMU, or NULL.  While there is one the machine refuses
 * another.
 */
DeviceState *coiommu_machine_iommu(void);
void coiommu_machine_set_iommu(DeviceState *iommu);

/* The windows: their number, at most COIOMMU_WINDOWS_MAX.  Never changes. */
unsigned coiommu_machine_windows(CoiommuWindow *windows);

/* Where memory that is plugged in ends, or 0 if none can be. */
uint64_t coiommu_machine_hotplug_end(void);

/* How many bytes of RAM there can be. */
uint64_t coiommu_machine_max_ram(void);

#endif /* COIOMMU_MACHINE_H */
