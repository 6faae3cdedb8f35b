/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * coIOMMU device: the state, and what its files offer each other.
 *
 *   coiommu-pci.c         the PCI function: realize, reset
 *   coiommu-viot.c        the ACPI table VIOT
 *   coiommu-properties.c  counters, and settings that change at run time
 *   coiommu-migration.c   migration and snapshots
 *   coiommu-registers.c   registers and commands
 *   coiommu-request.c     the doorbell, and requests
 *   coiommu-as.c          the address space that assigned devices live in
 *   coiommu-endpoint.c    which devices are tracked and which are attached
 *   coiommu-bypass.c      VFIO devices that are not tracked
 *   coiommu-virtio.c      virtio devices that can't be
 *   coiommu-fallback.c    devices that do DMA without being attached
 *   coiommu-master.c      tracked devices and their bus-master bit
 *   coiommu-hold.c        the vCPU that waits for pin-all
 *   coiommu-limits.c      whether all guest RAM can be pinned
 *   coiommu-pinall.c      the thread that pins all guest RAM
 *   coiommu-pressure.c    host memory pressure
 *   coiommu-unpin.c       the unpin thread, and reclaim
 *   coiommu-ahead.c       pinning ahead, and escape
 *   coiommu-pin.c         pinning and unpinning of blocks
 *   coiommu-stuck.c       what the host has refused to unmap
 *   coiommu-pieces.c      pieces of a block, and their mapping
 *   coiommu-table.c       the guest's DMA tracking table
 *   coiommu-ram.c         the list of guest RAM
 *   coiommu-vfio.c        containers that come, go and die
 *   coiommu-containers.c  the record of containers: calls that map and unmap
 *   coiommu-fence.c       the end of a container that doesn't answer
 *   core/                 logic without QEMU, unit-tested by itself
 *
 * Calls go downwards in this list only, but for events that come up:
 *
 *   a tracked device has come or gone    coiommu-endpoint.c to -migration.c
 *   guest RAM has changed                coiommu-ram.c to -pin.c, -fallback.c
 *   a container has come, or gone        coiommu-vfio.c to -pin.c, -stuck.c
 *   a container has died                 coiommu-containers.c to -vfio.c
 *   a pin finds no room, or there is     coiommu-pin.c to -unpin.c
 *   something to unpin again
 *   a block has been pinned or unpinned  coiommu-pin.c to -ahead.c, which only
 *                                        takes a note
 *   pin-all has come to its end          coiommu-pinall.c to -fallback.c
 *
 * and that coiommu-ahead.c asks coiommu-unpin.c for the policy.
 *
 * Locking.  Three kinds of threads meet: those with the big QEMU lock (BQL),
 * which set things up and change them; vCPUs in a PIN request, without the BQL
 * where QEMU lets the doorbell be rung without it; and the threads that unpin,
 * pin ahead and pin all, never with the BQL.  In the order in which they are
 * taken:
 *
 *   BQL        whoever changes what is not per block: enabled or not, attached
 *              endpoints, pin-all, guest RAM, containers.
 *   the gate   (core/gate.h) closed by these while they do it.  Inside are the
 *              others.  Who has the BQL need not go inside: nobody else can
 *              change anything.  Nobody inside takes the BQL.
 *   a block    (core/pinset.h) entered by whoever maps, unmaps or publishes
 *              it.  The only thing held during calls to VFIO.
 *   mutexes    of the gate, of @unpin, of @ahead, of the pin set: innermost,
 *              for a few instructions.  Only that of @unpin is held when
 *              another of them, @ahead's or the pin set's, is taken.
 *
 * "State" below says who may read a field: under the BQL or inside the gate,
 * unless it says otherwise; it is written under the BQL with the gate closed.
 */
#ifndef COIOMMU_H
#define COIOMMU_H

#include "coiommu-compat.h"
#include "coiommu-containers.h"
#include "coiommu-fallback.h"
#include "coiommu-migration.h"
#include "coiommu-pin.h"
#include "coiommu-pinall.h"
#include "coiommu-ram.h"
#include "hw/pci/pci_device.h"
#include "hw/qdev-core.h"
#include "qemu/notify.h"
#include "qemu/stats64.h"
#include "qemu/thread.h"
#include "core/dtt.h"
#include "core/escape.h"
#include "core/gate.h"
#include "core/geometry.h"
#include "core/pinset.h"
#include "core/predict.h"
#include "core/refusal.h"
#include "include/coiommu_abi.h"

#define TYPE_COIOMMU "coiommu"
OBJECT_DECLARE_SIMPLE_TYPE(CoiommuState, COIOMMU)

/* Guest RAM lies in: below 4 GiB, above it, and the BIOS ROM's top 16 MiB. */
#define COIOMMU_WINDOWS_MAX 3

/**
 * CoiommuWindow - a part of the address space that VFIO must not map itself
 * @base: first GPA
 * @size: bytes, not 0
 * @ram: guest RAM in it may be pinned
 * @mr: alias of the IOMMU region
 */
typedef struct CoiommuWindow {
    hwaddr base;
    uint64_t size;
    bool ram;
    MemoryRegion mr;
} CoiommuWindow;

/* The last bucket of the histogram has all calls from half a second on. */
#define COIOMMU_PIN_TIME_BUCKETS 20

/**
 * CoiommuStats - counters, see coiommu-properties.c for names and meanings
 *
 * Several threads add to them.
 */
typedef struct CoiommuStats {
    Stat64 demand_pin_requests;
    Stat64 demand_pin_blocks;
    Stat64 pin_errors;
    Stat64 pin_unasked;
    Stat64 unpin_errors;
    Stat64 unpinned_blocks;
    Stat64 lazy_unpinned_blocks;
    Stat64 unpin_passes;
    Stat64 unpin_races;
    Stat64 pass_last_ns;
    Stat64 repins;
    Stat64 mapped_bytes;
    Stat64 mapped_peak;
    Stat64 ahead_pins;
    Stat64 ahead_used;
    Stat64 ahead_unused;
    Stat64 escape_blocks;
    Stat64 reclaims;
    Stat64 reclaimed_blocks;
    Stat64 pressure_events;
    Stat64 fallback_pins;
    Stat64 fallback_pin_ns;
    Stat64 fallback_refused;
    Stat64 requests;
    Stat64 request_errors;
    Stat64 partial_requests;
    Stat64 wait_max_ns;
    Stat64 dma_faults;
    Stat64 attach_refused;
    Stat64 pin_time[COIOMMU_PIN_TIME_BUCKETS];
} CoiommuStats;

/**
 * CoiommuUnpinSettings - what the operator can change at run time
 * @policy: when blocks are let go
 * @interval_ms: from the end of a pass to the next one, at least 1
 * @window_ms: for the policy timeout
 * @pass_blocks: the most blocks that one pass looks at, at least 1
 * @since_ms: when @policy was chosen; not for the operator
 */
typedef struct CoiommuUnpinSettings {
    CoiommuPolicyKind policy;
    uint32_t interval_ms;
    uint32_t window_ms;
    uint32_t pass_blocks;
    int64_t since_ms;
} CoiommuUnpinSettings;

/**
 * CoiommuUnpin - the unpin thread
 * @thread: valid while @running, which the BQL guards
 * @lock: guards @settings, @stop, @hurry, @busy and @asleep
 * @kick: wakes the thread: new settings, @stop, @hurry, or no longer @asleep
 * @idle: @busy has become false
 * @hurry: make a pass at once, in which all that is idle goes
 * @asleep: nothing is pinned, the thread waits until something is
 * @interrupt: end the pass in progress soon; atomic
 * @hand: where the next reclaim begins; a hint, atomic
 */
typedef struct CoiommuUnpin {
    QemuThread thread;
    bool running;
    QemuMutex lock;
    QemuCond kick;
    QemuCond idle;
    CoiommuUnpinSettings settings;
    bool stop;
    bool hurry;
    bool busy;
    bool asleep;
    bool interrupt;
    size_t hand;
} CoiommuUnpin;

/**
 * CoiommuPressure - the watch on the host's memory pressure; BQL
 * @fd: the file that is polled, -1 if none
 * @source: its source in the main loop, 0 if none
 */
typedef struct CoiommuPressure {
    int fd;
    guint source;
} CoiommuPressure;

/**
 * CoiommuAhead - the thread that pins ahead, and what it goes by
 * @thread: valid while @running, which the BQL guards
 * @lock: guards the rest
 * @kick: wakes the thread: a hint, or @stop
 * @predictor: hints
 * @escape: misses
 * @generation: of the pins that the hints are about
 * @max_bytes: the most that pins ahead may hold which nobody has used
 * @hold_until_ms: no guesses before
 * @stop: the thread is to end; atomic as well
 */
typedef struct CoiommuAhead {
    QemuThread thread;
    bool running;
    QemuMutex lock;
    QemuCond kick;
    CoiommuPredictor predictor;
    CoiommuEscape escape;
    unsigned generation;
    uint64_t max_bytes;
    int64_t hold_until_ms;
    bool stop;
} CoiommuAhead;

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

    /* It has been realized, and is no more: for good.  BQL. */
    bool unrealized;

    /* Fixed by realize, @block_shift when the machine is complete. */
    unsigned unit_shift;
    unsigned block_shift;
    MemoryRegion bar;
    MemoryRegion registers;
    MemoryRegion doorbell;
    MemoryRegion root;
    MemoryRegion system_alias;
    IOMMUMemoryRegion iommu;
    CoiommuWindow window[COIOMMU_WINDOWS_MAX];
    unsigned nr_windows;
    AddressSpace as;
    Error *migration_blocker;
    DeviceListener device_listener;
    QEMUBH *realized_bh;

    /* For the time of a migration's begin or end; BQL. */
    CoiommuSaved saved;

    /* What the guest wrote; BQL. */
    uint64_t rw[COIOMMU_RW_COUNT];

    /* The result of the guest's last command or bad doorbell; atomic. */
    uint32_t error;

    CoiommuGate gate;

    /* Taken over by ENABLE, valid while @enabled.  State. */
    bool enabled;
    uint64_t features;
    CoiommuDtt dtt;
    hwaddr req_root;
    uint32_t req_slots;

    /* PCIDevice *, without a reference: unplug takes them out.  State. */
    GHashTable *attached;

    /* As @attached: tracked, and never to be attached.  BQL. */
    GHashTable *untrackable;

    /*
     * What was decided before a lock and is done after it must find these as
     * they were.  @table_generation changes when a table is taken over or given
     * up, @pins_generation then and when everything has been unpinned.  State.
     */
    unsigned table_generation;
    unsigned pins_generation;

    /* All guest RAM is to be pinned, and nothing is let go of.  State. */
    bool pin_all;
    CoiommuPinAll all;
    CoiommuFallback fallback;

    /* State. */
    CoiommuRam ram;

    /* The members are state. */
    CoiommuContainers containers;

    /*
     * Containers have come; whether to stay is not settled, and the gate is
     * closed until it is.  BQL.
     */
    bool unsettled;
    QEMUBH *settle_bh;
    QEMUBH *died_bh;

    /* DeviceState * that are going away, with a reference.  BQL. */
    GPtrArray *leaving;
    QEMUTimer *leaving_timer;
    unsigned leaving_wait;

    /* Have locks of their own. */
    CoiommuPinset pins;
    CoiommuRefusal refusal;

    /* When to unmap again what is stuck, and where to go on; BQL. */
    QEMUTimer *stuck_timer;
    unsigned stuck_wait;
    size_t stuck_hand;

    CoiommuUnpin unpin;
    CoiommuPressure pressure;
    CoiommuAhead ahead;
    Notifier exit_notifier;
    Notifier machine_done_notifier;

    CoiommuStats stats;
};

/*
 * For who has the BQL or is inside the gate: does somebody wait for us to
 * leave it?  With the BQL we are not inside, and nobody else can close it.
 */
static inline bool coiommu_waited_for(CoiommuState *s)
{
    return !bql_locked() && coiommu_gate_wanted(&s->gate);
}

/* ---- coiommu-properties.c ---- */

/* Give an instance its counters; give the class its settings. */
void coiommu_properties_init(CoiommuState *s);
void coiommu_properties_class_init(ObjectClass *klass);

/* Is @quota one that devices can work with?  0 is no limit. */
bool coiommu_check_quota(CoiommuState *s, uint64_t quota, Error **errp);

/* ---- coiommu-registers.c ---- */

/* Create BAR 0. */
void coiommu_registers_init(CoiommuState *s);

/* Registers to their reset values, table and endpoints forgotten.  BQL. */
void coiommu_registers_reset(CoiommuState *s);

/*
 * What the guest has said, but for the attached endpoints: take it down, and
 * have it said again, all of it unchecked.  Loading returns a COIOMMU_ST_*;
 * unless that is OK it ends as a reset does.  BQL.
 */
void coiommu_registers_save(CoiommuState *s, CoiommuSaved *saved);
uint32_t coiommu_registers_load(CoiommuState *s, const CoiommuSaved *saved);

/* ---- coiommu-request.c ---- */

/* The page in which the doorbell is; its opaque is the CoiommuState. */
extern const MemoryRegionOps coiommu_doorbell_ops;

/* ---- coiommu-as.c ---- */

/* Create the address space; _setup() hands it to the PCI bus.  BQL. */
void coiommu_as_init(CoiommuState *s);
void coiommu_as_setup(CoiommuState *s);
void coiommu_as_exit(CoiommuState *s);

/* ---- coiommu-virtio.c ---- */

/*
 * Is @dev a virtio device whose driver does not use the guest's DMA API?  To be
 * called before the guest can use the device.  BQL.
 */
bool coiommu_virtio_untrackable(PCIDevice *dev);

/* ---- coiommu-endpoint.c ---- */

/* Start and stop watching for unplugged devices. */
void coiommu_endpoint_init(CoiommuState *s);
void coiommu_endpoint_exit(CoiommuState *s);

/* Is a VFIO device that was created before us in the machine? */
bool coiommu_endpoint_vfio_exists(void);

/* Is @dev tracked?  BQL, as for the following. */
bool coiommu_endpoint_tracked(CoiommuState *s, PCIDevice *dev);

/*
 * Does the device at @devfn of @bus get our address space?  @bus->devices may
 * not hold it yet.
 */
bool coiommu_endpoint_wants(CoiommuState *s, PCIBus *bus, int devfn);

/* The three requests about an endpoint.  Each returns a COIOMMU_ST_*. */
uint32_t coiommu_endpoint_probe(CoiommuState *s, uint32_t endpoint);
uint32_t coiommu_endpoint_attach(CoiommuState *s, uint32_t endpoint);
uint32_t coiommu_endpoint_detach(CoiommuState *s, uint32_t endpoint);

/* Forget all of them; pins are left alone.  BQL, gate closed. */
void coiommu_endpoint_detach_all(CoiommuState *s);

/* ---- coiommu-bypass.c ---- */

/* Tell the operator of a VFIO device that is not tracked.  BQL. */
void coiommu_bypass_realized(CoiommuState *s, PCIDevice *dev);

/*
 * VFIO devices that VFIO maps all guest RAM for by itself, and how many bytes
 * that are.  BQL, not during a reset.
 */
unsigned coiommu_bypass_devices(void);
uint64_t coiommu_bypass_bytes(CoiommuState *s);

/* ---- coiommu-pressure.c ---- */

/* Start and stop watching the host's memory pressure.  BQL. */
void coiommu_pressure_start(CoiommuState *s);
void coiommu_pressure_stop(CoiommuState *s);

/* ---- coiommu-unpin.c ---- */

void coiommu_unpin_init(CoiommuState *s);
void coiommu_unpin_destroy(CoiommuState *s);

/* Start and stop the thread.  BQL.  Stopping twice does nothing. */
void coiommu_unpin_start(CoiommuState *s);
void coiommu_unpin_stop(CoiommuState *s);

void coiommu_unpin_get(CoiommuState *s, CoiommuUnpinSettings *settings);

/* When this returns, no block is let go by earlier settings any more.  BQL. */
void coiommu_unpin_set(CoiommuState *s, const CoiommuUnpinSettings *settings);

/* Let go of all that is idle at once, unless the policy is off. */
void coiommu_unpin_hurry(CoiommuState *s);

/*
 * A pin finds no room: let go of idle blocks until @bytes are free, as far as
 * there are any.  Inside the gate or under the BQL, with no block entered.
 * Returns whether another attempt may succeed.  The search ends early when
 * somebody waits for the gate, and at @until (by get_clock()) if something has
 * been freed by then.
 */
bool coiommu_unpin_reclaim(CoiommuState *s, uint64_t bytes, int64_t until);

/* A block has just been pinned: there is something to do for the thread. */
void coiommu_unpin_wake(CoiommuState *s);

/* ---- coiommu-hold.c ---- */

void coiommu_hold_init(CoiommuState *s);
void coiommu_hold_exit(CoiommuState *s);

/*
 * The vCPU that runs this, if it is one, goes on when no device waits for
 * pin-all any more.  BQL.
 */
void coiommu_hold_current(CoiommuState *s);

/* ---- coiommu-limits.c ---- */

/*
 * Can all guest RAM be pinned, by what is known before it is tried?  Returns
 * NULL, or a sentence that names the limit and what to do about it, to be
 * freed.  BQL.
 */
char *coiommu_limits_check(CoiommuState *s);

/* The same for an error that has come of trying. */
char *coiommu_limits_of_error(CoiommuState *s, int error);

/* ---- coiommu-stuck.c ---- */

void coiommu_stuck_init(CoiommuState *s);
void coiommu_stuck_exit(CoiommuState *s);

/*
 * How much is stuck of a block after what has been done to it.  It is tried
 * again later.  With the block entered, as for the next two.
 */
uint64_t coiommu_stuck_bytes(CoiommuState *s, uint64_t block);

/* Tell the pin set, for a block that stays in its state. */
void coiommu_stuck_update(CoiommuState *s, uint64_t block);

/* Try to unmap what is stuck of the block.  Returns whether something was. */
bool coiommu_stuck_clear(CoiommuState *s, uint64_t block);

/* Containers have gone: less may be stuck.  BQL, gate closed. */
void coiommu_stuck_refresh(CoiommuState *s);

/* ---- coiommu-table.c ---- */

/*
 * Set or clear PINNED for the units in [gpa, gpa + size).  Entries that the
 * guest has not provided are passed over: it will ask for those units.
 */
void coiommu_table_publish(CoiommuState *s, hwaddr gpa, uint64_t size);
void coiommu_table_withdraw(CoiommuState *s, hwaddr gpa, uint64_t size);

/* Has a unit in [gpa, gpa + size) a count? */
bool coiommu_table_busy(CoiommuState *s, hwaddr gpa, uint64_t size);

/* Clear ACCESSED in these units.  Was it set in one of them? */
bool coiommu_table_take_accessed(CoiommuState *s, hwaddr gpa, uint64_t size);

/* ---- coiommu-vfio.c ---- */

void coiommu_vfio_init(CoiommuState *s);
void coiommu_vfio_exit(CoiommuState *s);

/*
 * Find out which containers there are, if that is open.  BQL.  To be called
 * before anything that goes to containers under the BQL.
 */
void coiommu_vfio_settle(CoiommuState *s);

/* A device has been unrealized: its container may go.  BQL. */
void coiommu_vfio_unrealized(CoiommuState *s, DeviceState *dev);

/*
 * If it is not settled which containers there are, make the record what VFIO
 * has now, and leave it unsettled.  BQL, gate closed.
 */
void coiommu_vfio_update(CoiommuState *s);

/*
 * A memory transaction begins, in which VFIO must not call a container whose
 * server has gone.  BQL, gate closed.
 */
void coiommu_vfio_transaction(CoiommuState *s);

/* A container has died: see to its devices.  From any thread. */
void coiommu_vfio_died(CoiommuState *s);

/* How many containers use our address space.  BQL. */
unsigned coiommu_vfio_containers(CoiommuState *s);

/* The fewest mappings that any of them can hold; type1's default if none. */
uint64_t coiommu_vfio_budget(CoiommuState *s);

/* The same inside the gate, where containers can't come or go. */
uint64_t coiommu_vfio_budget_inside(CoiommuState *s);

/* How many of them charge what they pin to our memlock limit.  BQL. */
unsigned coiommu_vfio_charged(CoiommuState *s);

/* VFIO asked for a replay to notifier @n: bring its container up to date. */
void coiommu_vfio_replay(CoiommuState *s, IOMMUNotifier *n);

#include "coiommu-ahead.h"

#endif /* COIOMMU_H */
