/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's table, from ENABLE on until it is given up.  The caller must hold
 * the BQL.
 */
#ifndef COIOMMU_SESSION_H
#define COIOMMU_SESSION_H

#include "hw/coiommu/coiommu.h"

/* What we offer. */
uint64_t coiommu_session_features(CoiommuState *s);

/*
 * Take over a table.  @rw: what the registers say, indexed by COIOMMU_RW_*.
 * Returns a COIOMMU_ST_*.
 */
uint32_t coiommu_session_enable(CoiommuState *s, const uint64_t *rw);

/*
 * Give it up; endpoints are detached.  For a device that may do DMA all is
 * pinned, and nothing is unpinned in between.  Does nothing without a table.
 * After a reset the table is written to no more, and the registers are what
 * they were in the beginning.
 */
void coiommu_session_disable(CoiommuState *s);
void coiommu_session_reset(CoiommuState *s);

#endif /* COIOMMU_SESSION_H */
