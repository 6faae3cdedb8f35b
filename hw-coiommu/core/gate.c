/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The gate: see gate.h.
 */
#include "osdep.h"
#include "gate.h"

void coiommu_gate_init(CoiommuGate *gate)
{
    qemu_mutex_init(&gate->lock);
    qemu_cond_init(&gate->empty);
    gate->inside = 0;
    gate->closed = 0;
}

void coiommu_gate_destroy(CoiommuGate *gate)
{
    qemu_cond_destroy(&gate->empty);
    qemu_mutex_destroy(&gate->lock);
}

bool coiommu_gate_enter(CoiommuGate *gate)
{
    bool open;

    qemu_mutex_lock(&gate->lock);
    open = !gate->closed;
    if (open) {
        gate->inside++;
    }
    qemu_mutex_unlock(&gate->lock);
    return open;
}

void coiommu_gate_leave(CoiommuGate *gate)
{
    qemu_mutex_lock(&gate->lock);
    if (--gate->inside == 0) {
        qemu_cond_broadcast(&gate->empty);
    }
    qemu_mutex_unlock(&gate->lock);
}

void coiommu_gate_close(CoiommuGate *gate)
{
    qemu_mutex_lock(&gate->lock);
    gate->closed++;
    while (gate->inside) {
        qemu_cond_wait(&gate->empty, &gate->lock);
    }
    qemu_mutex_unlock(&gate->lock);
}

void coiommu_gate_open(CoiommuGate *gate)
{
    qemu_mutex_lock(&gate->lock);
    gate->closed--;
    qemu_mutex_unlock(&gate->lock);
}

bool coiommu_gate_wanted(CoiommuGate *gate)
{
    bool wanted;

    qemu_mutex_lock(&gate->lock);
    wanted = gate->closed != 0;
    qemu_mutex_unlock(&gate->lock);
    return wanted;
}
