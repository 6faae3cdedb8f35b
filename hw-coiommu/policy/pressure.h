/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The watch on the host's memory pressure.
 */
#ifndef COIOMMU_PRESSURE_H
#define COIOMMU_PRESSURE_H

#include "unpin.h"

typedef struct CoiommuPressure CoiommuPressure;

/*
 * Start to watch the file at @path, for @unpin to let go; each event is counted
 * in @events.  Both must outlive it.  Returns NULL where that can't be watched.
 * BQL, as for the end of it, which may be given NULL.
 */
CoiommuPressure *coiommu_pressure_start(const char *path, CoiommuUnpin *unpin,
                                        Stat64 *events);
void coiommu_pressure_stop(CoiommuPressure *pressure);

#endif /* COIOMMU_PRESSURE_H */
