/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device's trace events, for both builds of core/.  In the stand-alone one
 * each does nothing: no-trace.sed makes that header of ../trace-events.
 */
#ifdef COIOMMU_STANDALONE
#include "no-trace.h"
#else
#include "hw/coiommu/trace.h"
#endif
