/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The gate: a reader/writer lock whose readers never wait.
 *
 * Readers are the threads that pin and unpin without the big QEMU lock (BQL):
 * vCPUs in a request, and the threads that unpin, pin ahead and pin all.  Many
 * may be inside at a time.  Writers change what readers rely on: ENABLE and
 * DISABLE, reset, the list of guest RAM, attached endpoints, VFIO's containers.
 *
 * Writers must hold the BQL and call coiommu_gate_close(), which waits until no
 * reader is inside; no reader comes in until the gate is opened again.  Closing
 * may be nested.  A thread that holds the BQL may read without going inside.
 *
 * Readers must not take the BQL and must not enter twice.  They never wait for
 * the gate to open: a vCPU would do so in an RCU read-side section, and the
 * writer may be waiting for the end of such sections.  A reader that finds the
 * gate closed must take the BQL instead, or come back later.
 */
#ifndef COIOMMU_GATE_H
#define COIOMMU_GATE_H

#include "sync.h"

/**
 * CoiommuGate - the gate
 * @lock: guards the rest; innermost, nothing is called with it held
 * @empty: @inside has become 0
 * @inside: how many threads are inside
 * @closed: how many times it is closed; entering is possible at 0
 */
typedef struct CoiommuGate {
    QemuMutex lock;
    QemuCond empty;
    unsigned inside;
    unsigned closed;
} CoiommuGate;

void coiommu_gate_init(CoiommuGate *gate);
void coiommu_gate_destroy(CoiommuGate *gate);

/* Go inside.  Returns false if it is closed. */
bool coiommu_gate_enter(CoiommuGate *gate);
void coiommu_gate_leave(CoiommuGate *gate);

/*
 * Keep readers out, and wait until none is inside.  The caller must hold the
 * BQL, and must not be inside.
 */
void coiommu_gate_close(CoiommuGate *gate);
void coiommu_gate_open(CoiommuGate *gate);

/* For a reader between two steps: does a writer wait for it to leave? */
bool coiommu_gate_wanted(CoiommuGate *gate);

/*
 * The same for code that runs inside the gate or under the BQL.  A thread with
 * the BQL is not inside, and no other thread can close the gate.
 */
bool coiommu_gate_waited_for(CoiommuGate *gate);

/*
 * Assertions, for functions whose comment says so: the caller is a reader, that
 * is, inside the gate or holds the BQL; is a writer, that is, holds the BQL and
 * has closed the gate.
 */
void coiommu_assert_reader(CoiommuGate *gate);
void coiommu_assert_writer(CoiommuGate *gate);

#endif /* COIOMMU_GATE_H */
