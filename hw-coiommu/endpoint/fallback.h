/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fallback for devices that do DMA without being attached.  The caller must
 * hold the BQL.
 */
#ifndef COIOMMU_FALLBACK_H
#define COIOMMU_FALLBACK_H

#include "hw/coiommu/coiommu.h"

/* With the instance. */
void coiommu_fallback_instance_init(CoiommuState *s);
void coiommu_fallback_instance_finalize(CoiommuState *s);

/* At realize and at exit. */
void coiommu_fallback_init(CoiommuState *s);
void coiommu_fallback_exit(CoiommuState *s);

/* The setting: keep devices off the bus rather than pin everything. */
bool coiommu_fallback_get_refuse(CoiommuState *s);
void coiommu_fallback_set_refuse(CoiommuState *s, bool refuse);

/* A tracked device has come; a device has gone. */
void coiommu_fallback_realized(CoiommuState *s, PCIDevice *dev);
void coiommu_fallback_unrealized(CoiommuState *s, PCIDevice *dev);

/* Forget devices that came and are not on the bus: their realize has failed. */
void coiommu_fallback_prune(CoiommuState *s);

/*
 * Call before and after @dev (NULL: each device) is detached.  From the begin
 * on nothing is let go of that a device with the bit may have been using; the
 * end has all guest RAM pinned for it, or takes its bit away.
 */
void coiommu_fallback_detach_begin(CoiommuState *s, PCIDevice *dev);
void coiommu_fallback_detach_end(CoiommuState *s);

/* Take every tracked device off the bus: the memory behind them goes. */
void coiommu_fallback_stop_all(CoiommuState *s);

/*
 * Do what follows from the bits and the attached devices: begin or end pin-all,
 * give devices the bit that they wait for, and with no device left that uses
 * anything, unpin everything.
 */
void coiommu_fallback_update(CoiommuState *s);

/* What has kept pin-all from being possible may have changed: try again. */
void coiommu_fallback_retry(CoiommuState *s);

/*
 * A memory transaction is over, and the gate is still closed.  @changed: there
 * may be new guest RAM.
 */
void coiommu_fallback_transaction(CoiommuState *s, bool changed);

/* Is there a tracked device? */
bool coiommu_fallback_any(CoiommuState *s);

/* How many tracked devices may do DMA and are not attached. */
unsigned coiommu_fallback_untracked(CoiommuState *s);

/* How many devices wait until everything is pinned. */
unsigned coiommu_fallback_waiting(CoiommuState *s);

#endif /* COIOMMU_FALLBACK_H */
