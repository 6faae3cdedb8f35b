/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fallback for devices that do DMA without being attached: what
 * coiommu-fallback.c offers the other files.  All of it is for who has the BQL.
 */
#ifndef COIOMMU_FALLBACK_H
#define COIOMMU_FALLBACK_H

#include "hw/pci/pci_device.h"

typedef struct CoiommuState CoiommuState;

/**
 * CoiommuFallback - for devices that do DMA without being attached
 * @refuse: keep them off the bus rather than pin everything
 * @hooks: tracked devices, and what is known of them: see coiommu-fallback.c
 * @held: pin-all is not ended as long as this is not 0
 * @settle_bh: looks whether pin-all can end
 */
typedef struct CoiommuFallback {
    bool refuse;
    GHashTable *hooks;
    unsigned held;
    QEMUBH *settle_bh;
} CoiommuFallback;

void coiommu_fallback_init(CoiommuState *s);
void coiommu_fallback_exit(CoiommuState *s);

/* A tracked device has come; a device has gone. */
void coiommu_fallback_realized(CoiommuState *s, PCIDevice *dev);
void coiommu_fallback_unrealized(CoiommuState *s, PCIDevice *dev);

/* Forget devices that came and are not on the bus: their realize has failed. */
void coiommu_fallback_prune(CoiommuState *s);

/*
 * @dev, or with NULL each device, is about to be no longer attached.  If it may
 * do DMA, everything is pinned first, or it is kept from it.  Pin-all does not
 * end in between; the end settles.
 */
void coiommu_fallback_detach_begin(CoiommuState *s, PCIDevice *dev);
void coiommu_fallback_detach_end(CoiommuState *s);

/* Take every tracked device off the bus: the memory behind them goes. */
void coiommu_fallback_stop_all(CoiommuState *s);

/*
 * Fewer devices may need something: end pin-all if no device is left that it
 * is for, and unpin everything if none is attached either.
 */
void coiommu_fallback_settle(CoiommuState *s);

/*
 * A memory transaction is over, and the gate is still closed.  @changed: there
 * may be new guest RAM.
 */
void coiommu_fallback_transaction(CoiommuState *s, bool changed);

/* Is there a tracked device? */
bool coiommu_fallback_any(CoiommuState *s);

/* How many tracked devices may do DMA and are not attached. */
unsigned coiommu_fallback_untracked(CoiommuState *s);

#endif /* COIOMMU_FALLBACK_H */
