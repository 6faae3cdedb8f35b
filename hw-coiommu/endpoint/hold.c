/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The vCPU that waits for pin-all.
 *
 * A guest that has set a device's bus-master bit finds it set when its write is
 * over.  Until all is pinned it is not, so the vCPU that has written is held:
 * before its next instruction (TCG: before its next block of code), outside of
 * the access, as work of that vCPU, and without the BQL.
 *
 * It can't be held inside of the access.  With the BQL nothing else would go
 * on; and if it were dropped there, other vCPUs' accesses to the configuration
 * space would be refused as re-entrant (MemReentrancyGuard), and
 * drain_call_rcu() would wait, as an access is an RCU read-side section.
 *
 * A vCPU that is to stop is let go of: so stop, reset, quit and unplug of a
 * vCPU are not held up.  When a stopped machine goes on and devices still wait,
 * all of its vCPUs are held.  Work that others queue for a vCPU that is held
 * (the monitor's "info registers") waits; nothing that pin-all needs does.
 */
#include "qemu/osdep.h"
#include "hold.h"
#include "hw/core/cpu.h"
#include "qemu/main-loop.h"
#include "system/runstate.h"

/* How often a vCPU that is held looks whether it still is to be, in ms. */
#define HOLD_LOOK_MS    10

/**
 * CoiommuHold - what vCPUs are held for; BQL
 * @waits, @update, @opaque: see hold.h
 * @stopped: there is nothing to wait for any more
 * @vm_state: hears when the machine goes on after a stop
 */
struct CoiommuHold {
    bool (*waits)(void *opaque);
    void (*update)(void *opaque);
    void *opaque;
    bool stopped;
    VMChangeStateEntry *vm_state;
};

/*
 * Work of a vCPU, under the BQL: before it goes on, what it has asked for is
 * so, or has failed.  Waiting drops the BQL; the end of pinning is looked at
 * here as well as in the main loop, which may wait for this vCPU.
 */
static void hold_vcpu(CPUState *cpu, run_on_cpu_data data)
{
    CoiommuHold *hold = data.host_ptr;

    /* The operator may unrealize us, before this or as we wait. */
    while (!hold->stopped) {
        hold->update(hold->opaque);
        if (cpu->stop || !hold->waits(hold->opaque)) {
            break;
        }
        qemu_cond_timedwait_bql(cpu->halt_cond, HOLD_LOOK_MS);
    }
}

void coiommu_hold_current(CoiommuHold *hold)
{
    if (current_cpu) {
        async_run_on_cpu(current_cpu, hold_vcpu, RUN_ON_CPU_HOST_PTR(hold));
    }
}

/* A stop lets go of those that are held; which they were is not known. */
static void vm_state_changed(void *opaque, bool running, RunState state)
{
    CoiommuHold *hold = opaque;
    CPUState *cpu;

    if (!running || !hold->waits(hold->opaque)) {
        return;
    }
    CPU_FOREACH(cpu) {
        async_run_on_cpu(cpu, hold_vcpu, RUN_ON_CPU_HOST_PTR(hold));
    }
}

void coiommu_hold_start(CoiommuHold *hold)
{
    hold->vm_state = qemu_add_vm_change_state_handler(vm_state_changed, hold);
}

void coiommu_hold_stop(CoiommuHold *hold)
{
    hold->stopped = true;
    qemu_del_vm_change_state_handler(hold->vm_state);
}

CoiommuHold *coiommu_hold_new(bool (*waits)(void *opaque),
                              void (*update)(void *opaque), void *opaque)
{
    CoiommuHold *hold = g_new0(CoiommuHold, 1);

    hold->waits = waits;
    hold->update = update;
    hold->opaque = opaque;
    return hold;
}

void coiommu_hold_free(CoiommuHold *hold)
{
    g_free(hold);
}
