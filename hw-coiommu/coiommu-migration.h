/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Migration and snapshots: what coiommu-migration.c offers the other files, and
 * the state that is carried.
 */
#ifndef COIOMMU_MIGRATION_H
#define COIOMMU_MIGRATION_H

typedef struct CoiommuState CoiommuState;

/* The registers that the guest can write, by index. */
enum {
    COIOMMU_RW_DRIVER_FEATURES,
    COIOMMU_RW_DTT_ROOT,
    COIOMMU_RW_DTT_SIZE,
    COIOMMU_RW_REQ_ROOT,
    COIOMMU_RW_REQ_SLOTS,
    COIOMMU_RW_COUNT,
};

/**
 * CoiommuSaved - all that there is to carry when no device is tracked
 * @unit_shift, @block_shift: for which the guest has laid out its table
 * @enabled: there is a table
 * @error: register ERROR
 * @rw: registers that the guest can write
 * @taken: their values at ENABLE; without a table 0
 *
 * A copy: what comes in a stream has not been checked.
 */
typedef struct CoiommuSaved {
    uint8_t unit_shift;
    uint8_t block_shift;
    bool enabled;
    uint32_t error;
    uint64_t rw[COIOMMU_RW_COUNT];
    uint64_t taken[COIOMMU_RW_COUNT];
} CoiommuSaved;

extern const VMStateDescription coiommu_vmstate;

/* Is it possible to keep this machine from being migrated?  BQL. */
bool coiommu_migration_check(CoiommuState *s, Error **errp);

/* A tracked device has come or gone: block migration or allow it.  BQL. */
void coiommu_migration_update(CoiommuState *s);

/* Block nothing any more.  BQL. */
void coiommu_migration_exit(CoiommuState *s);

#endif /* COIOMMU_MIGRATION_H */
