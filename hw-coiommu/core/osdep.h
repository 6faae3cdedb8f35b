/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What differs between the two builds of core/, with sync.h, stats.h and
 * trace.h.
 *
 * Inside QEMU every source starts with qemu/osdep.h.  The stand-alone build
 * (unit tests, sanitizers, fuzzers) defines COIOMMU_STANDALONE and has the same
 * few declarations, under the same names, from libc and GLib.
 */
#ifndef COIOMMU_CORE_OSDEP_H
#define COIOMMU_CORE_OSDEP_H

#ifdef COIOMMU_STANDALONE

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <glib.h>

#define KiB (INT64_C(1) << 10)
#define MiB (INT64_C(1) << 20)
#define GiB (INT64_C(1) << 30)

#define SCALE_MS 1000000
#define SCALE_US 1000

/* For powers of two. */
#define ROUND_UP(n, to)     (((n) + (to) - 1) & -(0 ? (n) : (to)))
#define ROUND_DOWN(n, to)   ((n) & -(0 ? (n) : (to)))

#define qatomic_read(ptr)       __atomic_load_n(ptr, __ATOMIC_RELAXED)
#define qatomic_set(ptr, value) __atomic_store_n(ptr, value, __ATOMIC_RELAXED)

/* Monotonic, in nanoseconds. */
static inline int64_t get_clock(void)
{
    return g_get_monotonic_time() * SCALE_US;
}

static inline int clz64(uint64_t value)
{
    return value ? __builtin_clzll(value) : 64;
}

#else
#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/host-utils.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#endif

/* A monotonic clock in milliseconds. */
static inline int64_t coiommu_now_ms(void)
{
    return get_clock() / SCALE_MS;
}

#endif /* COIOMMU_CORE_OSDEP_H */
