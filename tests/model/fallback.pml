/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that do DMA without being attached (hw-coiommu/endpoint/fallback.c),
 * for spin: see README.md.  As in gate.pml a count and PINNED stand for a whole
 * block, and memory has one order.  There is one container, and the table is
 * always enabled: DISABLE, a reset of the function, and what acts like one (a
 * kernel that sizes its BAR) are DETACH of each device.
 *
 * There are two devices, each with a vCPU that does things to it, and does not
 * go on while its device waits for pin-all (endpoint/hold.c).  A device with the
 * bus-master bit that is not attached may do DMA anywhere at any time, but one
 * that has just been detached only where its driver has mapped, until its vCPU
 * goes on.  While it is attached its driver maps, as in gate.pml, and it does
 * DMA where that has been told that it may.
 *
 * Pin-all takes its time: a thread pins one block after the other inside the
 * gate, and either may fail.  The main thread does what the bottom half and the
 * timer do.
 *
 * Preprocessor symbols: BUG_name, REACH=name   as in dtt.pml
 */

#define BLOCKS          2
#define DEVICES         2

/* Who holds a lock: vCPUs 0 and 1, and */
#define UNPIN           2
#define PINALL          3
#define SETTLE          3       /* the BQL: of a vCPU, or of the main thread */
#define NOBODY          4

/* DmaState */
#define NONE            0
#define WAITING         1
#define LEAVING         2
#define ALLOWED         3

/* CoiommuPinAllJob */
#define JOB_NONE        0
#define JOB_PIN         1
#define JOB_UNPIN       2

/* Names for REACH. */
#define UNTRACKED       2       /* a device does DMA, and all is pinned for it */
#define BOTH            3       /* two do */
#define MASKED          4       /* not all could be pinned: the bit was not set */
#define TAKEN_AWAY      5       /* the same after DETACH */
#define KEPT_BUSY       6       /* what was pinned for nothing had come into use */
#define ATTACHED_LAST   7       /* ATTACH has taken the last reason */
#define LOST_LAST       8       /* the bit's end has */
#define LET_GO          9       /* an idle block was unpinned */
#define TAKEN_BACK      10      /* a map came between the unpin's two looks */
#define PINNED_FAST     11      /* a map found PINNED what pin-all had pinned */
#define ALL_GONE        12      /* everything was unpinned */
#define SERVED          13      /* a request was served while all was being pinned */
#define IN_TIME         14      /* a reason came up again during the delay */

#ifdef REACH
#define REACHED(place)  assert(REACH != place);
#else
#define REACHED(place)
#endif

byte bql = NOBODY;
byte inside;

/* core/pinset.c: who is in a block, and what is pinned. */
byte holder[BLOCKS] = NOBODY;
bool in_set[BLOCKS];

/* State: written under the BQL with the gate closed. */
bool attached[DEVICES];
bool pin_all;

/* CoiommuPinAll: the same, or by the thread inside the gate. */
byte job;
byte next;
bool complete;
byte ended;
bool error;

/* The fallback, and the device's bit in PCI_COMMAND.  BQL. */
byte state[DEVICES];
bool master[DEVICES];

/* The kernel, and the DTT. */
bool mapped[BLOCKS];
byte count[BLOCKS];
bool pinned[BLOCKS];

/* Ghost: mappings of a block that rely on being told that it is pinned. */
byte told[BLOCKS];

#define untracked(d)    (master[d] && !attached[d])
/* Nothing is known of where it does DMA: its vCPU has gone on. */
#define anywhere(d)     (untracked(d) && state[d] != LEAVING)
#define any_attached    (attached[0] || attached[1])
#define waits(d)        (state[d] == WAITING || state[d] == LEAVING)
#define wanted          (state[0] != NONE || state[1] != NONE)

/* Nobody tracks it, so it finds everything mapped. */
#define check_untracked(d)  assert(!anywhere(d) || (mapped[0] && mapped[1]))

#define lock(l, who)    atomic { l == NOBODY -> l = who }
#define unlock(l)       l = NOBODY

/*
 * What changes with the gate closed changes in one step, when nobody is inside.
 * gate.pml has it in its steps.
 */
#define gate_closed     inside == 0

/* ---- one block, entered or with the gate closed ---- */

inline vfio_map(b)
{
    atomic { assert(!mapped[b]); mapped[b] = true }
}

/*
 * Invariant 1, for mappings that are counted and for devices that don't say.  A
 * device that has just been detached may be anywhere where it has been told.
 */
inline vfio_unmap(b)
{
    atomic {
        assert(mapped[b]);
        assert(told[b] == 0);
        assert(!untracked(0) && !untracked(1));
        mapped[b] = false
    }
}

inline coiommu_pins_pin(b)
{
    vfio_map(b);
    atomic { in_set[b] = true; pinned[b] = true }
}

inline coiommu_pins_unpin(b)
{
    in_set[b] = false;
    vfio_unmap(b)
}

inline coiommu_pins_unpin_try(b)
{
    pinned[b] = false;
    if
    :: count[b] > 0 -> REACHED(TAKEN_BACK) pinned[b] = true
    :: else -> coiommu_pins_unpin(b); REACHED(LET_GO) skip
    fi
}

/* coiommu_pins_unpin_next(), of a block that nobody is in. */
inline coiommu_pins_unpin_next(b)
{
    if
    :: atomic { holder[b] == NOBODY -> holder[b] = PINALL };
        if
        :: in_set[b] ->
#ifdef REACH
            if
            :: count[b] > 0 -> REACHED(KEPT_BUSY) skip
            :: else
            fi;
#endif
#ifdef BUG_UNDO_BLIND
            pinned[b] = false;
            coiommu_pins_unpin(b)
#else
            if
            :: any_attached -> coiommu_pins_unpin_try(b)
            :: else -> pinned[b] = false; coiommu_pins_unpin(b)
            fi
#endif
        :: else
        fi;
        unlock(holder[b])
    :: holder[b] != NOBODY
    fi
}

/* ---- policy/pinall.c: the thread ---- */

inline job_end(failed)
{
    complete = (job == JOB_PIN && !failed);
    ended = job;
    error = failed;
    job = JOB_NONE
}

/* The next block, which the host may refuse: one step, as nobody is in it. */
inline pin_step()
{
    if
    :: next == BLOCKS -> job_end(false)
    :: next < BLOCKS && in_set[next] -> next++
    :: next < BLOCKS && !in_set[next] -> coiommu_pins_pin(next); next++
    :: next < BLOCKS && !in_set[next] -> job_end(true)
    fi
}

inline unpin_step()
{
    b = next;
    coiommu_pins_unpin_next(b);
    atomic {
        b = 0;
        if
        :: next == 0 -> job_end(false)
        :: else -> next--
        fi
    }
}

proctype coiommu_pinall_thread()
{
    byte b;

    do
    :: atomic {
            job == JOB_PIN &&
            (next == BLOCKS || holder[next] == NOBODY) -> pin_step()
       }
    :: atomic { job == JOB_UNPIN -> inside++ };
        unpin_step();
        inside--
    od
}

/* ---- policy/pinall.c: its jobs, under the BQL ---- */


inline job_begin(j)
{
    job = j;
    complete = false;
    ended = JOB_NONE;
    error = false
}

inline coiommu_pinall_keep()
{
    atomic {
        if
        :: pin_all
        :: else -> gate_closed -> pin_all = true; next = 0; job_begin(JOB_NONE)
        fi
    }
}

inline coiommu_pinall_pin()
{
    coiommu_pinall_keep();
    atomic {
        gate_closed;
        job_begin(JOB_PIN)
    }
}

inline coiommu_pinall_pause()
{
    atomic {
        gate_closed;
        if
        :: job == JOB_PIN -> job = JOB_NONE
        :: else
        fi
    }
}

inline coiommu_pinall_end()
{
    atomic {
        gate_closed;
        pin_all = false;
        next = BLOCKS - 1;
        job_begin(JOB_UNPIN)
    }
}

/* coiommu_pins_unpin_all(), where nobody is left to count. */
inline coiommu_pinall_unpin_now()
{
    atomic {
        gate_closed;
        pin_all = false;
        job_begin(JOB_NONE);
        b = 0;
        do
        :: b < BLOCKS ->
            if
            :: in_set[b] -> REACHED(ALL_GONE)
                pinned[b] = false;
                coiommu_pins_unpin(b)
            :: else
            fi;
            b++
        :: else -> b = 0; break
        od;
        /* Invariant 5: nobody is left, and nothing is. */
        assert(!mapped[0] && !mapped[1])
    }
}

/* ---- coiommu_fallback_update(), under the BQL ---- */

/* device_settle(); nothing gets its bit by itself here. */
inline device_settle(d)
{
    if
    :: state[d] == WAITING && complete -> state[d] = ALLOWED; master[d] = true
    :: state[d] == LEAVING && complete -> state[d] = ALLOWED
    :: else
    fi;
    if
    :: attached[d] || (state[d] != WAITING && !master[d]) -> state[d] = NONE
    :: else
    fi;
    check_untracked(d);
#ifdef REACH
    if
    :: anywhere(d) && anywhere(1 - d) -> REACHED(BOTH) skip
    :: anywhere(d) -> REACHED(UNTRACKED) skip
    :: else
    fi
#endif
}

/* The same, for one device that waits. */
inline device_refuse(d)
{
    if
    :: state[d] == WAITING -> REACHED(MASKED) state[d] = NONE
    :: state[d] == LEAVING -> REACHED(TAKEN_AWAY)
        state[d] = NONE;
#ifndef BUG_KEEPS_BIT
        master[d] = false
#endif
    :: else
    fi
}

inline pin_all_refuse()
{
    device_refuse(0);
    device_refuse(1);
    if
    :: !wanted -> coiommu_pinall_end()
    :: else
    fi
}

inline take_note_of_end()
{
    if
    :: error -> error = false; pin_all_refuse()
    :: else
    fi;
    ended = JOB_NONE
}

inline coiommu_fallback_update()
{
    take_note_of_end();
    device_settle(0);
    device_settle(1);
    if
    :: wanted && !complete && job != JOB_PIN -> coiommu_pinall_pin()
    :: !wanted && pin_all -> coiommu_pinall_pause()
    :: !wanted && !pin_all && !any_attached && job == JOB_NONE ->
        coiommu_pinall_unpin_now()
    :: else
    fi
}

/*
 * In any thread that has the BQL: after what a vCPU has done to its device, and
 * in the main thread by the bottom half at the end of a job, and by the timer at
 * the end of the delay.  A single step but for waiting for the gate: what it
 * changes is read under the BQL, or inside the gate.
 */
proctype settle()
{
    byte b;

    do
    :: atomic {
            bql == SETTLE || (ended != JOB_NONE && bql == NOBODY) ->
            bql = SETTLE;
            coiommu_fallback_update();
            unlock(bql)
       }
    :: atomic {
            pin_all && !wanted && bql == NOBODY -> bql = SETTLE;
            coiommu_pinall_end();
            unlock(bql)
       }
    od
}

/* ---- what the guest does to a device; each under the BQL ---- */

/* The vCPU goes on when that is over, and its device does not wait: hold_vcpu() */
#define settled(d)      bql != SETTLE && !waits(d)

/* fallback_config_write() with the bit, and filter_bus_master(). */
inline set_master(d)
{
    atomic {
        bql == NOBODY -> bql = SETTLE;
#ifdef REACH
        if
        :: pin_all && !wanted -> REACHED(IN_TIME) skip
        :: else
        fi;
#endif
        if
        :: attached[d] -> master[d] = true
#ifdef BUG_BIT_FIRST
        :: !attached[d] -> state[d] = ALLOWED; master[d] = true
#else
        :: !attached[d] && complete -> state[d] = ALLOWED; master[d] = true
        :: !attached[d] && !complete -> state[d] = WAITING
#endif
        fi;
        check_untracked(d)
    };
    settled(d)
}

/* fallback_config_write() without the bit. */
inline clear_master(d)
{
    atomic {
        bql == NOBODY -> bql = SETTLE;
        master[d] = false;
        state[d] = NONE;
#ifdef REACH
        if
        :: pin_all && !wanted -> REACHED(LOST_LAST) skip
        :: else
        fi
#endif
    };
    settled(d)
}

/* coiommu_endpoint_detach() */
inline detach(d)
{
    lock(bql, d);
#ifndef BUG_DETACH_FIRST
    if
    :: master[d] -> state[d] = LEAVING; coiommu_pinall_keep()
    :: else
    fi;
#endif
    atomic {
        gate_closed;
        attached[d] = false;
        check_untracked(d);
        bql = SETTLE
    };
    settled(d)
}

/* coiommu_endpoint_attach() */
inline attach(d)
{
    lock(bql, d);
#ifdef BUG_LEAVE_FIRST
    /* It looks as if it were attached already. */
    state[d] = NONE;
    if
    :: pin_all && !wanted -> coiommu_pinall_end()
    :: else
    fi;
#endif
    atomic {
        gate_closed;
        attached[d] = true;
#ifdef REACH
        if
        :: pin_all && state[1 - d] == NONE -> REACHED(ATTACHED_LAST) skip
        :: else
        fi;
#endif
        bql = SETTLE
    };
    settled(d)
}

/* ---- a request, inside the gate; gate.pml has those under the BQL ---- */

/* coiommu_pins_pin() for a request that finds its device attached. */
inline request_pin(me)
{
    lock(holder[b], me);
    if
    :: in_set[b]
    :: else -> coiommu_pins_pin(b)
    fi;
#ifdef REACH
    if
    :: job == JOB_PIN -> REACHED(SERVED) skip
    :: else
    fi;
#endif
    atomic {
        assert(mapped[b]);
        told[b]++;
        unlock(holder[b])
    }
}

inline doorbell(me)
{
    inside++;
    request_pin(me);
    inside--
}

/*
 * A DMA mapping of one block, the DMA, the unmap.  The driver asks only while
 * its device is attached; the requests of another guest are in gate.pml.
 */
inline map_and_unmap(me)
{
    atomic {
        if
        :: b = 0
        :: b = 1
        fi;
        count[b]++;
        ask = !pinned[b];
        if
        :: !ask -> told[b]++
        :: else
        fi
    };
#ifdef REACH
    if
    :: !ask && pin_all -> REACHED(PINNED_FAST) skip
    :: else
    fi;
#endif
    if
    :: ask -> doorbell(me)
    :: else
    fi;
    atomic { ask = false; assert(mapped[b]); told[b]-- };
    atomic { count[b]--; b = 0 }
}

proctype vcpu(byte me)
{
    byte b;
    bool ask;

    do
    :: !master[me] -> set_master(me)
    :: master[me] -> clear_master(me)
    :: !attached[me] -> attach(me)
    :: attached[me] -> detach(me)
    :: attached[me] -> map_and_unmap(me)
    od
}

#ifdef BUG_NO_HOLD
#define may_unpin(b)    (any_attached && in_set[b] && holder[b] == NOBODY)
#else
#define may_unpin(b)    (any_attached && in_set[b] && holder[b] == NOBODY && \
                         !pin_all)
#endif

/* coiommu_unpin_thread(): any block that nobody is in, unless all is to stay. */
proctype unpin_thread()
{
    byte b;

    do
    :: atomic {
            may_unpin(0) -> b = 0; inside++; holder[b] = UNPIN
       };
       coiommu_pins_unpin_try(b);
       atomic { unlock(holder[b]); b = 0; inside-- }
    :: atomic {
            may_unpin(1) -> b = 1; inside++; holder[b] = UNPIN
       };
       coiommu_pins_unpin_try(b);
       atomic { unlock(holder[b]); b = 0; inside-- }
    od
}

/* The search tries the last of them first. */
init {
    atomic {
        run settle();
        run coiommu_pinall_thread();
        run unpin_thread();
        run vcpu(0);
        run vcpu(1)
    }
}
