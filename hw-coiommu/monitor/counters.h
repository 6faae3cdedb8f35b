/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counters: the table of them, and how to read one.
 */
#ifndef COIOMMU_COUNTERS_H
#define COIOMMU_COUNTERS_H

#include "qapi/qapi-types-stats.h"
#include "hw/coiommu/coiommu.h"

typedef enum CoiommuUnit {
    COIOMMU_UNIT_NUMBER,
    COIOMMU_UNIT_BYTES,
    COIOMMU_UNIT_NS,
    COIOMMU_UNIT_US,
    COIOMMU_UNIT_YES_NO,
} CoiommuUnit;

/**
 * CoiommuCounter - one counter
 * @name: of the property, and in query-stats
 * @type: whether it only grows, is of now, a peak, or a histogram
 * @unit: of the value; of a histogram the limit of its first bucket is one
 * @stat: offset in CoiommuStats of a Stat64, or of a histogram's first
 * @get: returns the value if there is no such Stat64, before realize and after
 *       exit as well.  BQL
 * @description: for users
 */
typedef struct CoiommuCounter {
    const char *name;
    StatsType type;
    CoiommuUnit unit;
    size_t stat;
    uint64_t (*get)(CoiommuState *s);
    const char *description;
} CoiommuCounter;

extern const CoiommuCounter coiommu_counters[];
extern const size_t coiommu_counters_count;

/* The value of a counter; of a histogram, the list.  BQL. */
uint64_t coiommu_counter_get(CoiommuState *s, const CoiommuCounter *counter);
uint64List *coiommu_counter_list(CoiommuState *s,
                                 const CoiommuCounter *counter);

/* Give the class a property for each counter. */
void coiommu_counters_class_init(ObjectClass *klass);

/* Have query-stats tell the counters; call once. */
void coiommu_stats_init(void);

#endif /* COIOMMU_COUNTERS_H */
