/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counters: what the operator sees by qom-get.
 *
 * One table has all that is known of each; the properties are made from it.
 */
#ifndef COIOMMU_COUNTERS_H
#define COIOMMU_COUNTERS_H

#include "hw/coiommu/coiommu.h"

typedef enum CoiommuCounterKind {
    COIOMMU_COUNTER_CUMULATIVE,     /* grows only */
    COIOMMU_COUNTER_INSTANT,        /* what is so now */
    COIOMMU_COUNTER_PEAK,           /* the most that was */
} CoiommuCounterKind;

typedef enum CoiommuCounterUnit {
    COIOMMU_UNIT_NONE,
    COIOMMU_UNIT_BYTES,
    COIOMMU_UNIT_NS,
} CoiommuCounterUnit;

/**
 * CoiommuCounter - what is known of a counter
 * @name: of the property
 * @kind: whether it grows
 * @unit: of what
 * @description: for the operator, what it counts
 * @get: returns its value, before realize and after exit as well; NULL: it is
 *       the Stat64 at @stat in CoiommuStats.  BQL
 */
typedef struct CoiommuCounter {
    const char *name;
    CoiommuCounterKind kind;
    CoiommuCounterUnit unit;
    const char *description;
    uint64_t (*get)(CoiommuState *s);
    size_t stat;
} CoiommuCounter;

/* All counters but the histogram; the last one has no name. */
extern const CoiommuCounter coiommu_counters[];

/* The value of one.  BQL. */
uint64_t coiommu_counter_value(CoiommuState *s, const CoiommuCounter *counter);

/* Give the class a property for each, and the histogram. */
void coiommu_counters_class_init(ObjectClass *klass);

#endif /* COIOMMU_COUNTERS_H */
