/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest memory that changes while the device looks at it.
 *
 * The device's sources are compiled so that each of their loads and stores is
 * announced (-fsanitize-coverage=trace-loads,trace-stores).  Here, before an
 * access to guest memory happens, the guest may write: whatever was read
 * before may be something else by now.  As it is the input that says when and
 * what, a run can be repeated, which it couldn't with a second thread.
 */
#ifndef COIOMMU_FUZZ_HOSTILE_H
#define COIOMMU_FUZZ_HOSTILE_H

#include "input.h"

/* The device is about to load or store @size bytes at @addr. */
typedef void HostileAccess(uint8_t *addr, size_t size, bool store);

/* Who is told; NULL while nobody is. */
extern HostileAccess *hostile_access;

/**
 * HostileScript - the writes to come
 * @scribble: what they are
 * @count: how many
 * @next: the next of them
 * @waited: for how many accesses it has waited
 */
typedef struct HostileScript {
    Scribble scribble[SCRIBBLES_MAX];
    unsigned count;
    unsigned next;
    unsigned waited;
} HostileScript;

void hostile_script_take(HostileScript *script, Input *in);

/* An access happens: what is written before it?  NULL for nothing more. */
const Scribble *hostile_script_next(HostileScript *script);

#endif /* COIOMMU_FUZZ_HOSTILE_H */
