/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The gate: see gate.h.
 */
#include "osdep.h"
#include "gate.h"

#ifdef COIOMMU_STANDALONE
__thread bool coiommu_standalone_bql;
#endif

/* How many gates this thread is inside of: for the assertions. */
static __thread unsigned inside_here;

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

    g_assert(!inside_here);
    qemu_mutex_lock(&gate->lock);
    open = !gate->closed;
    if (open) {
        gate->inside++;
        inside_here++;
    }
    qemu_mutex_unlock(&gate->lock);
    return open;
}

void coiommu_gate_leave(CoiommuGate *gate)
{
    g_assert(inside_here);
    inside_here--;
    qemu_mutex_lock(&gate->lock);
    if (--gate->inside == 0) {
        qemu_cond_broadcast(&gate->empty);
    }
    qemu_mutex_unlock(&gate->lock);
}

void coiommu_gate_close(CoiommuGate *gate)
{
    g_assert(bql_locked() && !inside_here);
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

bool coiommu_gate_waited_for(CoiommuGate *gate)
{
    return !bql_locked() && coiommu_gate_wanted(gate);
}

void coiommu_assert_reader(CoiommuGate *gate)
{
    g_assert(inside_here || bql_locked());
}

void coiommu_assert_writer(CoiommuGate *gate)
{
    g_assert(bql_locked() && coiommu_gate_wanted(gate));
}
