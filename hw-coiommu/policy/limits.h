/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which limit keeps memory from being pinned, and what to do about it.
 */
#ifndef COIOMMU_LIMITS_H
#define COIOMMU_LIMITS_H

#include "hw/coiommu/vfio/domain.h"
#include "pinall.h"

/*
 * Can all guest RAM be pinned, by what is known before it is tried?  Returns
 * NULL, or a sentence that names the limit and what to do about it, to be
 * freed.  BQL.
 */
char *coiommu_limits_check(CoiommuDomain *domain, CoiommuPinAll *all);

/* The same for a negative errno that has come of trying. */
char *coiommu_limits_of_error(CoiommuPins *pins, int error);

/*
 * Tell the operator, once, that a request to pin @gpa has failed with @error.
 * From any thread.
 */
void coiommu_limits_report(uint64_t gpa, int error);

#endif /* COIOMMU_LIMITS_H */
