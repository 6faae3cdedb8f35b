/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tracked devices and their bus-master bit.  The caller must hold the BQL.
 */
#ifndef COIOMMU_MASTER_H
#define COIOMMU_MASTER_H

#include "hw/pci/pci_device.h"

typedef struct CoiommuMasters CoiommuMasters;

/* What a device is to pin-all: see fallback.c. */
typedef enum DmaState {
    DMA_NONE,
    DMA_WAITING,
    DMA_DEPARTING,
    DMA_ALLOWED,
} DmaState;

/**
 * CoiommuMaster - a tracked device
 * @config_write: what was there before us
 * @state: what it is to pin-all
 * @told: what the operator has been told of it
 */
typedef struct CoiommuMaster {
    PCIConfigWriteFunc *config_write;
    DmaState state;
    unsigned told;
} CoiommuMaster;

CoiommuMasters *coiommu_master_new(void);
void coiommu_master_free(CoiommuMasters *masters);

/*
 * From realize on: @bus, and what is below it, says which devices there are.
 * Until exit, which takes all devices off their hooks.
 */
void coiommu_master_init(CoiommuMasters *masters, PCIBus *bus);
void coiommu_master_exit(CoiommuMasters *masters);

/* @dev is tracked from now on, until it goes: have @config_write called. */
void coiommu_master_hook(CoiommuMasters *masters, PCIDevice *dev,
                         PCIConfigWriteFunc *config_write);
void coiommu_master_unhook(CoiommuMasters *masters, PCIDevice *dev);

/* Forget hooked devices that are not on the bus: their realize has failed. */
void coiommu_master_prune(CoiommuMasters *masters);

/* Is any device hooked? */
bool coiommu_master_any(CoiommuMasters *masters);

/* NULL if @dev is not tracked. */
CoiommuMaster *coiommu_master_find(CoiommuMasters *masters, PCIDevice *dev);

/* All tracked devices (PCIDevice *), to be freed. */
GPtrArray *coiommu_master_devices(CoiommuMasters *masters);

/* How many of them are in this state, or in @or. */
unsigned coiommu_master_count(CoiommuMasters *masters, DmaState state,
                              DmaState or);

/* Is the bit set?  And set or clear it, past the hook. */
bool coiommu_master_is_set(PCIDevice *dev);
void coiommu_master_set(CoiommuMasters *masters, PCIDevice *dev, bool on);

/*
 * Tell the operator, once for each device: all is pinned for it (@bytes); it is
 * kept off the bus by fallback=refuse, or by @limit, a sentence of
 * policy/limits.c.
 */
void coiommu_master_tell_pinned(CoiommuMasters *masters, PCIDevice *dev,
                                uint64_t bytes);
void coiommu_master_tell_refused(CoiommuMasters *masters, PCIDevice *dev);
void coiommu_master_tell_no_room(CoiommuMasters *masters, PCIDevice *dev,
                                 const char *limit);

#endif /* COIOMMU_MASTER_H */
