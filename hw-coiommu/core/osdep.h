/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The only thing that differs between the two builds of core/.
 *
 * Inside QEMU every source starts with qemu/osdep.h.  The stand-alone build
 * (unit tests, sanitizers, fuzzers) defines COIOMMU_STANDALONE and takes the
 * same few declarations from libc and GLib.
 */
#ifndef COIOMMU_CORE_OSDEP_H
#define COIOMMU_CORE_OSDEP_H

#ifdef COIOMMU_STANDALONE
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <glib.h>
#else
#include "qemu/osdep.h"
#endif

#endif /* COIOMMU_CORE_OSDEP_H */
