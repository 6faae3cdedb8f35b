/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tracked devices and their bus-master bit: what coiommu-master.c offers
 * the fallback.  The caller must hold the BQL.
 */
#ifndef COIOMMU_MASTER_H
#define COIOMMU_MASTER_H

#include "hw/pci/pci_device.h"

typedef struct CoiommuState CoiommuState;

/* What a device is to pin-all: see coiommu-fallback.c. */
typedef enum DmaState {
    DMA_NONE,
    DMA_WAITING,
    DMA_LEAVING,
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

void coiommu_master_init(CoiommuState *s);

/* Takes all devices off their hooks. */
void coiommu_master_exit(CoiommuState *s);

/* @dev is tracked from now on, until it goes: have @config_write called. */
void coiommu_master_hook(CoiommuState *s, PCIDevice *dev,
                         PCIConfigWriteFunc *config_write);
void coiommu_master_unhook(CoiommuState *s, PCIDevice *dev);

/* Forget hooked devices that are not on the bus: their realize has failed. */
void coiommu_master_prune(CoiommuState *s);

/* NULL if @dev is not tracked. */
CoiommuMaster *coiommu_master_find(CoiommuState *s, PCIDevice *dev);

/* All tracked devices (PCIDevice *), to be freed. */
GPtrArray *coiommu_master_devices(CoiommuState *s);

/* How many of them are in this state, or in @or. */
unsigned coiommu_master_count(CoiommuState *s, DmaState state, DmaState or);

/* Is the bit set?  And set or clear it, past the hook. */
bool coiommu_master_is_set(PCIDevice *dev);
void coiommu_master_set(CoiommuState *s, PCIDevice *dev, bool on);

/*
 * Tell the operator, once for each device: all is pinned for it; it is kept off
 * the bus by fallback=refuse, or by @limit, a sentence of coiommu-limits.c.
 */
void coiommu_master_tell_pinned(CoiommuState *s, PCIDevice *dev);
void coiommu_master_tell_refused(CoiommuState *s, PCIDevice *dev);
void coiommu_master_tell_no_room(CoiommuState *s, PCIDevice *dev,
                                 const char *limit);

#endif /* COIOMMU_MASTER_H */
