// SPDX-License-Identifier: GPL-2.0
/* The code behind the trace events of coiommu_trace.h. */
#define CREATE_TRACE_POINTS
#include "coiommu_trace.h"
