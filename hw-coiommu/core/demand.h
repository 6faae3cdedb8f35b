/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pinning what a request asks for, and making room for it.
 */
#ifndef COIOMMU_DEMAND_H
#define COIOMMU_DEMAND_H

#include "pins.h"

/*
 * As coiommu_pins_pin(), but lets go of idle blocks where there is no room.
 * The caller must call it again after -EINTR (a writer waits for the gate, and
 * not every block has been looked at) and after -EAGAIN (it is @until, by
 * get_clock(); some room has been made).
 */
int coiommu_demand_pin(CoiommuPins *pins, uint64_t gpa, uint64_t size,
                       int64_t until);

#endif /* COIOMMU_DEMAND_H */
