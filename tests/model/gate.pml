/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The gate, and containers that come and go, for spin: see README.md.  What
 * dtt.pml has is here only as far as it meets them: a count and PINNED stand
 * for a whole block, and memory has one order.
 *
 * Preprocessor symbols:
 *   GATE          a guest that keeps the protocol
 *   GATE_HOSTILE  one that keeps nothing: it asks, disables and enables at any
 *                 time, and a look at its counts returns anything
 *   BUG_name, REACH=name   as in dtt.pml
 */

#define BLOCKS          2
#define CONTAINERS      2
#define VCPUS           2

#define COMES_AND_GOES  1       /* this container; the other one stays */

/* Who holds a lock: vCPUs 0 and 1, and */
#define UNPIN           2
#define MAIN            3       /* QEMU's main thread */
#define NOBODY          4

/* Names for REACH. */
#define LOCKED          1       /* a request was served under the BQL */
#define SETTLED         2       /* a vCPU found out which containers there are */
#define REPLAYED        3       /* a block was mapped into a new container */
#define RELIED          4       /* and a mapping that lives relies on it */
#define NO_ROOM         5       /* a new container refused */
#define UNDONE          6       /* and had another block already */
#define LEFT_OVER       7       /* a device that failed kept its container */
#define WENT            8       /* a container went that had blocks mapped */
#define MET             9       /* one was going while another arrived */
#define DRAINED         10      /* the main thread waited for a vCPU */
#define INSIDE          11      /* and for those inside the gate */
#define AHEAD           12      /* a block was pinned that nobody asked for */
#define AHEAD_FAST      13      /* and a map found it PINNED */
#define LET_GO          14      /* a block was unpinned */
#define TAKEN_BACK      15      /* a map came between the unpin's two looks */
#define EMPTIED         16      /* DISABLE found something to unpin */
#define OFF             17      /* a request met a device that is off */

#ifdef REACH
#define REACHED(place)  assert(REACH != place);
#else
#define REACHED(place)
#endif

/* ---- state of the machine ---- */

byte bql = NOBODY;

/* core/gate.c */
byte inside;
byte closed;

/* core/pinset.c: who is in a block, and what is pinned. */
byte holder[BLOCKS] = NOBODY;
bool in_set[BLOCKS];

/* Is an endpoint attached?  State: written under the BQL, gate closed. */
bool attached = true;

/* The array of containers, and whether it is to be made anew.  State. */
bool ours[CONTAINERS];
bool unsettled;

/* Our reference to a device that goes, and those that others have. */
bool leaving[CONTAINERS];
bool other[CONTAINERS];

/* VFIO: is the container there, and has its device been realized? */
bool present[CONTAINERS];
bool live[CONTAINERS];

/* The kernel: what each container has mapped. */
bool mapped[CONTAINERS * BLOCKS];
#define map_of(c, b)    mapped[(c) * BLOCKS + (b)]

/* The vCPU is in an RCU read-side section. */
bool rcu[VCPUS];

#ifdef GATE
/* The DTT. */
byte count[BLOCKS];
bool pinned[BLOCKS];
#endif

/* ---- ghosts ---- */

/* Mappings of a block that rely on being told that it is pinned. */
#ifdef GATE
byte told[BLOCKS];
#endif

#ifdef GATE_HOSTILE
/* DISABLE has completed and no ENABLE has come yet. */
bool off;
#endif

#ifdef REACH
bool ahead[BLOCKS];
#endif

#include "gate-lock.pml"
#include "gate-block.pml"

/* ---- containers; all of it under the BQL ---- */

/* VFIO takes a container down, and its mappings with it. */
inline container_goes(c)
{
    d_step {
        present[c] = false;
        map_of(c, 0) = false;
        map_of(c, 1) = false
    }
}

/* containers_update(): our array becomes VFIO's list.  A device in it that is
 * not realized gets a reference from us. */
inline containers_update()
{
    d_step {
        c = 0;
        do
        :: c < CONTAINERS ->
            ours[c] = present[c];
            if
            :: present[c] && !live[c] -> leaving[c] = true
            :: else
            fi;
            c++
        :: else -> c = 0; break
        od
    }
}

inline coiommu_vfio_refresh()
{
    if
    :: unsettled ->
#ifdef BUG_OPEN_FIRST
        unsettled = false;
        coiommu_gate_open();
        containers_update()
#else
        containers_update();
        unsettled = false;
        coiommu_gate_open()
#endif
    :: else
    fi
}

/* ---- a request, in the thread of the vCPU ---- */

/* request_pin() for one block: inside the gate or under the BQL. */
inline request_pin(me)
{
#ifndef BUG_STATE_OUTSIDE
    failed = !attached;
#endif
    if
    :: failed -> REACHED(OFF) skip
    :: else ->
        lock(holder[b], me);
        if
        :: in_set[b]
        :: else -> coiommu_pins_pin(b)
        fi;
        atomic {
            mapped_everywhere(b);
#ifdef GATE
            told[b]++;
#endif
            unlock(holder[b])
        }
    fi
}

/*
 * doorbell(): inside the gate, or, where that is closed, under the BQL, whose
 * holder may have to settle which containers there are.
 */
inline doorbell(me)
{
    rcu[me] = true;
#ifdef BUG_STATE_OUTSIDE
    failed = !attached;
#endif
#ifdef BUG_GATE_WAIT
    atomic { closed == 0 -> inside++; in = true };
#else
    coiommu_gate_enter();
#endif
    if
    :: in ->
#ifdef BUG_BQL_INSIDE
        lock(bql, me);
        unlock(bql);
#endif
        request_pin(me);
        coiommu_gate_leave()
    :: else ->
        lock(bql, me);
#ifndef BUG_NO_SETTLE
#ifdef REACH
        if
        :: unsettled -> REACHED(SETTLED) skip
        :: else
        fi;
#endif
        coiommu_vfio_refresh();
#endif
        request_pin(me);
        REACHED(LOCKED)
        unlock(bql)
    fi;
    in = false;
    rcu[me] = false
}

#ifdef GATE

/* Each vCPU, for ever: a DMA mapping of one block, the DMA, the unmap. */
proctype vcpu(byte me)
{
    byte b, c;
    bool in, failed;

    do
    :: atomic {
            if
            :: b = 0
            :: b = 1
            fi;
            count[b]++;
            failed = !pinned[b];
            if
            :: !failed ->
                told[b]++;
#ifdef REACH
                if
                :: ahead[b] -> REACHED(AHEAD_FAST) skip
                :: else
                fi
#endif
            :: else
            fi
       };
       if
       :: failed -> doorbell(me)
       :: else
       fi;
       if
       :: !failed ->
            mapped_everywhere(b);
            told[b]--
       :: else
       fi;
       atomic { count[b]--; failed = false; b = 0 }
    od
}

/* Is the block in use? */
#define busy(b)     (count[b] > 0)

#else

proctype vcpu(byte me)
{
    byte b, c;
    bool in, failed;

    do
    :: atomic {
            if
            :: b = 0
            :: b = 1
            fi
       };
       doorbell(me);
       failed = false
    od
}

#endif

/* ---- the unpin thread ---- */

/* coiommu_pins_unpin_try() */
inline coiommu_pins_unpin_try(b)
{
#ifdef GATE
    pinned[b] = false;
    if
    :: busy(b) -> REACHED(TAKEN_BACK) pinned[b] = true
    :: else -> coiommu_pins_unpin(b); REACHED(LET_GO) skip
    fi
#else
    coiommu_pins_unpin(b)
#endif
}

/*
 * coiommu_unpin_thread(): any block that nobody is in, pinned or, ahead of a
 * request, not.  Where the gate is closed it comes back later.
 */
proctype unpin_thread()
{
    byte b, c;

    do
    :: atomic {
#ifdef BUG_NOT_INSIDE
            closed == 0;
#else
            closed == 0 -> inside++;
#endif
            if
            :: b = 0
            :: b = 1
            fi
       };
       if
#ifdef BUG_AHEAD_UNLOCKED
       :: !in_set[b] && attached -> coiommu_pins_pin(b)
#endif
       :: atomic { holder[b] == NOBODY -> holder[b] = UNPIN };
            if
            :: in_set[b] -> coiommu_pins_unpin_try(b)
            :: !in_set[b] && attached ->
                coiommu_pins_pin(b);
#ifdef REACH
                ahead[b] = true;
#endif
                REACHED(AHEAD)
                skip
            :: !attached
            fi;
            unlock(holder[b])
       :: holder[b] != NOBODY
       fi;
       b = 0;
       coiommu_gate_leave()
    od
}

/* ---- the main thread: whatever changes state, under the BQL ---- */

/* Map what is pinned into a container that has just come, or nothing.  All of
 * it is in the container when `failed` is not set. */
inline coiommu_pins_replay(n)
{
    b = 0;
    do
    :: b < BLOCKS && !in_set[b] -> b++
    :: b < BLOCKS && in_set[b] ->
        if
        :: REACHED(NO_ROOM) failed = true; break
        :: vfio_map(n, b); b++;
            REACHED(REPLAYED)
#if defined(REACH) && defined(GATE)
            if
            :: told[b - 1] -> REACHED(RELIED) skip
            :: else
            fi
#endif
        fi
    :: b == BLOCKS -> break
    od;
    do
    :: failed && b > 0 ->
        b--;
        if
        :: in_set[b] -> REACHED(UNDONE) vfio_unmap(n, b)
        :: else
        fi
    :: !failed || b == 0 -> b = 0; break
    od
}

/*
 * A device is realized with a container of its own: VFIO makes it, and asks for
 * a replay (coiommu_vfio_replay()).  The realize may fail there, or later.
 */
inline arrive(n)
{
    present[n] = true;
#ifndef BUG_REPLAY_OPEN
    if
    :: !unsettled -> coiommu_gate_close(); unsettled = true
    :: else
    fi;
#endif
    coiommu_pins_replay(n);
#ifdef BUG_REPLAY_OPEN
    if
    :: !unsettled -> coiommu_gate_close(); unsettled = true
    :: else
    fi;
#endif
    if
    :: failed -> container_goes(n)
    :: !failed -> failed = true;        /* later; somebody may keep it */
        if
        :: other[n] = true
        :: container_goes(n)
        fi
    :: !failed ->
        atomic {
            live[n] = true;
#ifdef GATE
            /* Its device may do DMA: invariant 2. */
            assert(told[0] == 0 || map_of(n, 0));
            assert(told[1] == 0 || map_of(n, 1))
#endif
        }
    fi;
    if
    :: failed ->
        /*
         * What device_add does when it has failed: drain_call_rcu(), without
         * the BQL.
         */
        unlock(bql);
#ifdef REACH
        if
        :: rcu[0] -> REACHED(DRAINED) skip
        :: else
        fi;
#endif
        !rcu[0];
        !rcu[1];
        lock(bql, MAIN);
        failed = false
    :: else
    fi
}

/* A device is unrealized: coiommu_vfio_unrealized().  Others have references
 * yet. */
inline unrealize(n)
{
    atomic {
        live[n] = false;
        other[n] = true;
#ifndef BUG_NO_REFERENCE
        leaving[n] = true
#endif
    }
}

/* The last of the others lets go of the device. */
inline others_let_go(n)
{
    other[n] = false;
    if
    :: !leaving[n] -> REACHED(LEFT_OVER) container_goes(n)
    :: else
    fi
}

/* leaving_drop() */
inline leaving_drop(n)
{
#ifdef REACH
    if
    :: unsettled -> REACHED(MET) skip
    :: map_of(n, 0) -> REACHED(WENT) skip
    :: else
    fi;
#endif
#ifdef BUG_DROP_OPEN
    leaving[n] = false;
    container_goes(n);
    coiommu_gate_close();
#else
    coiommu_gate_close();
    leaving[n] = false;
    container_goes(n);
#endif
    containers_update();
    coiommu_gate_open()
}

#ifdef GATE_HOSTILE

/* cmd_disable(), with coiommu_pins_unpin_all(). */
inline cmd_disable()
{
    coiommu_vfio_refresh();
    coiommu_gate_close();
    attached = false;
    b = 0;
    do
    :: b < BLOCKS ->
        lock(holder[b], MAIN);
        if
        :: in_set[b] -> REACHED(EMPTIED) coiommu_pins_unpin(b)
        :: else
        fi;
        unlock(holder[b]);
        b++
    :: else -> b = 0; break
    od;
    atomic {
        do
        :: b < BLOCKS ->
            assert(!in_set[b]);
            assert(!map_of(0, b));
            assert(!map_of(1, b));
            b++
        :: else -> b = 0; break
        od;
        off = true
    };
    coiommu_gate_open()
}

/* cmd_enable() and the first ATTACH. */
inline cmd_enable()
{
    coiommu_vfio_refresh();
    coiommu_gate_close();
    atomic { off = false; attached = true };
    coiommu_gate_open()
}

#endif

proctype main_thread()
{
    byte b, c;
    bool failed;

    do
    :: lock(bql, MAIN);
       if
       :: !present[COMES_AND_GOES] -> arrive(COMES_AND_GOES)
       :: live[COMES_AND_GOES] -> unrealize(COMES_AND_GOES)
       :: other[COMES_AND_GOES] -> others_let_go(COMES_AND_GOES)
       :: leaving[COMES_AND_GOES] && !other[COMES_AND_GOES] -> leaving_drop(COMES_AND_GOES)
       :: unsettled -> coiommu_vfio_refresh()    /* settle_bh() */
#ifdef GATE_HOSTILE
       :: attached -> cmd_disable()
       :: !attached -> cmd_enable()
#endif
       fi;
       unlock(bql)
    od
}

init {
    atomic {
        present[0] = true;
        live[0] = true;
        ours[0] = true;
        run vcpu(0);
        run vcpu(1);
        run unpin_thread();
        run main_thread()
    }
}
