/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The gate between those who use the device's state and those who change it.
 *
 * Inside are the threads that pin and unpin without the big QEMU lock (BQL):
 * vCPUs in a request, and the unpin thread.  They may be many at a time.  Who
 * changes what they rely on (ENABLE and DISABLE, reset, the list of guest RAM,
 * attached endpoints, VFIO's containers) holds the BQL and closes the gate:
 * then nobody is inside, and nobody comes in until it is opened.
 *
 * Closing may be nested.  It waits for who is inside, so who is inside must
 * never wait for the BQL, nor enter a second time.  Nobody waits for the gate
 * to open: a vCPU would do so in an RCU read-side section, and who has closed
 * the gate may be waiting for the end of such sections.  It takes the BQL
 * instead, which serves the same purpose.
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

/* Keep everyone out, and wait until nobody is inside.  One thread at a time. */
void coiommu_gate_close(CoiommuGate *gate);
void coiommu_gate_open(CoiommuGate *gate);

/* For who is inside and not in a hurry: does somebody wait for us to leave? */
bool coiommu_gate_wanted(CoiommuGate *gate);

#endif /* COIOMMU_GATE_H */
