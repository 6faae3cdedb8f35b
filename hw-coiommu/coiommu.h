/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * coIOMMU device: its state.
 *
 * A folder is a floor, and a file may call only files on its own floor and on
 * those below (tests/style/floors.py checks it).  From the ground up:
 *
 *   include/   the guest interface
 *   core/      the engine of pinning, without QEMU, unit-tested by itself
 *   vfio/      containers: VFIO
 *   policy/    what is pinned and let go of, and when: threads, limits
 *   endpoint/  which devices there are, and what each is
 *   monitor/   what the operator sees and sets
 *   device/    the PCI function that the guest sees
 *
 * The files up to policy/ know no CoiommuState: each has a type of its own.
 *
 * Locking.  Three kinds of threads meet: those with the big QEMU lock (BQL),
 * which set things up and change them; vCPUs in a PIN request, without the BQL
 * where QEMU lets the doorbell be rung without it; and the threads that unpin,
 * pin ahead and pin all, never with the BQL.  In the order in which they are
 * taken:
 *
 *   BQL        must be held to change what is not per block: enabled or not,
 *              attached endpoints, pin-all, guest RAM, containers.
 *   the gate   (core/gate.h) must be closed while that is changed.  The other
 *              threads must be inside when they use it, and must not take the
 *              BQL there.
 *   a block    (core/pinset.h) must be entered to map, unmap or publish it.
 *              The only thing held during calls to VFIO.
 *   mutexes    of the gate, of the unpin thread, of the history, of the pin
 *              set, of the containers: innermost, for a few instructions.
 *
 * A field that is "state" may be read under the BQL or inside the gate, and
 * must be written under the BQL with the gate closed, unless its comment says
 * otherwise.
 */
#ifndef COIOMMU_H
#define COIOMMU_H

#include "hw/coiommu/compat.h"
#include "hw/coiommu/core/gate.h"
#include "hw/coiommu/core/geometry.h"
#include "hw/coiommu/core/ram.h"
#include "hw/coiommu/core/stats.h"
#include "hw/coiommu/include/coiommu_abi.h"
#include "hw/coiommu/policy/ahead.h"
#include "hw/coiommu/policy/pinall.h"
#include "hw/coiommu/policy/pressure.h"
#include "hw/coiommu/policy/unpin.h"
#include "hw/coiommu/vfio/domain.h"
#include "hw/pci/pci_device.h"
#include "hw/qdev-core.h"
#include "qemu/notify.h"

#define TYPE_COIOMMU "coiommu"
OBJECT_DECLARE_SIMPLE_TYPE(CoiommuState, COIOMMU)

/* The registers that the guest can write, by index. */
enum {
    COIOMMU_RW_DRIVER_FEATURES,
    COIOMMU_RW_DTT_ROOT,
    COIOMMU_RW_DTT_SIZE,
    COIOMMU_RW_REQ_ROOT,
    COIOMMU_RW_REQ_SLOTS,
    COIOMMU_RW_COUNT,
};

/**
 * CoiommuSaved - all that there is to carry when no device is tracked
 * @unit_shift, @block_shift: for which the guest has laid out its table
 * @enabled: there is a table
 * @error: register ERROR
 * @rw: registers that the guest can write
 * @taken: their values at ENABLE; without a table 0
 *
 * A copy: what comes in a stream has not been checked.
 */
typedef struct CoiommuSaved {
    uint8_t unit_shift;
    uint8_t block_shift;
    bool enabled;
    uint32_t error;
    uint64_t rw[COIOMMU_RW_COUNT];
    uint64_t taken[COIOMMU_RW_COUNT];
} CoiommuSaved;

typedef struct CoiommuFallback CoiommuFallback;
typedef struct CoiommuMasters CoiommuMasters;
typedef struct CoiommuSpace CoiommuSpace;

struct CoiommuState {
    PCIDevice parent_obj;

    /* Properties. */
    uint64_t unit_size;
    uint64_t block_size;
    bool track_emulated;
    bool use_pressure;
    bool use_viot;
    char *pressure_path;
    uint32_t doorbell_us;
    uint32_t fallback_delay_ms;

    /* It has been realized, and is no more: for good.  BQL. */
    bool unrealized;

    /* Fixed by realize, the block when the machine is complete. */
    CoiommuGeometry geometry;

    /* What the guest sees: device/. */
    MemoryRegion bar;
    MemoryRegion registers;
    MemoryRegion doorbell;
    Notifier exit_notifier;
    Notifier machine_done_notifier;

    /* What the guest wrote; BQL. */
    uint64_t rw[COIOMMU_RW_COUNT];

    /* The result of the guest's last command or bad doorbell; atomic. */
    uint32_t error;

    /* For the time of a migration's begin or end; BQL. */
    CoiommuSaved saved;

    CoiommuGate gate;

    /* Taken over by ENABLE, valid while there is a table.  State. */
    uint64_t features;
    hwaddr req_root;
    uint32_t req_slots;

    /* The list of guest RAM is state; the rest is the memory listener's. */
    CoiommuRam ram;
    MemoryListener memory_listener;
    MemoryListener last_memory_listener;
    GArray *ram_pending;
    bool ram_changed;

    /* What is pinned, and where.  Has locks of its own. */
    CoiommuDomain domain;
    CoiommuUnpin *unpin;
    CoiommuAhead *ahead;
    CoiommuPinAll *all;
    CoiommuPressure *pressure;

    /* PCIDevice *, without a reference: unplug takes them out.  State. */
    GHashTable *attached;

    /* As @attached: tracked, and must not be attached.  BQL. */
    GHashTable *untrackable;

    /* The devices' side: endpoint/.  BQL. */
    CoiommuSpace *space;
    CoiommuFallback *fallback;
    CoiommuMasters *masters;
    Error *migration_blocker;
    DeviceListener device_listener;
    QEMUBH *realized_bh;

    CoiommuStats stats;
};

#endif /* COIOMMU_H */
