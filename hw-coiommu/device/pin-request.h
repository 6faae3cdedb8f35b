/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PIN requests.
 */
#ifndef COIOMMU_PIN_REQUEST_H
#define COIOMMU_PIN_REQUEST_H

#include "ring.h"

/*
 * Go inside the gate by way of the BQL, for a thread that may wait and finds it
 * closed.  A writer keeps the BQL until it has opened the gate again, or leaves
 * that to the next thread with the BQL to settle.
 */
void coiommu_gate_enter_with_bql(CoiommuState *s);

/*
 * Pin what @ring asks for.  Inside the gate, which may be left and entered
 * again meanwhile, or under the BQL.  Returns a COIOMMU_ST_*, PENDING if the
 * guest gave up its table meanwhile: the caller must then write no answer.
 */
uint32_t coiommu_pin_request(CoiommuState *s, CoiommuRing *ring);

#endif /* COIOMMU_PIN_REQUEST_H */
