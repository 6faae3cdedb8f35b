/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that do DMA without being attached (hw-coiommu/coiommu-fallback.c),
 * for spin: see README.md.  As in gate.pml a count and PINNED stand for a whole
 * block, and memory has one order.  There is one container, and the table is
 * always enabled: DISABLE, a reset of the function, and what acts like one (a
 * kernel that sizes its BAR) are DETACH of each device.
 *
 * There are two devices, each with a vCPU that does things to it.  A device
 * with the bus-master bit that is not attached may do DMA anywhere at any time.
 * While it is attached its driver maps, as in gate.pml, and it does DMA where
 * that has been told that it may.
 *
 * Preprocessor symbols: BUG_name, REACH=name   as in dtt.pml
 */

#define BLOCKS          2
#define DEVICES         2

/* Who holds a lock: vCPUs 0 and 1, and */
#define UNPIN           2
#define NOBODY          4

/* Names for REACH. */
#define INSIDE          1       /* who closes the gate waited for who was inside */
#define UNTRACKED       2       /* a device does DMA, and all is pinned for it */
#define BOTH            3       /* two do */
#define MASKED          4       /* not all could be pinned: the bit was not set */
#define TAKEN_AWAY      5       /* the same at DETACH */
#define KEPT_BUSY       6       /* what was pinned for nothing had come into use */
#define ATTACHED_LAST   7       /* ATTACH has ended pin-all */
#define LOST_LAST       8       /* the bit's end has */
#define LET_GO          9       /* an idle block was unpinned */
#define TAKEN_BACK      10      /* a map came between the unpin's two looks */
#define PINNED_FAST     11      /* a map found PINNED what pin-all had pinned */
#define ALL_GONE        12      /* everything was unpinned */

#ifdef REACH
#define REACHED(place)  assert(REACH != place);
#else
#define REACHED(place)
#endif

byte bql = NOBODY;
byte inside;
byte closed;

/* core/pinset.c: who is in a block, and what is pinned. */
byte holder[BLOCKS] = NOBODY;
bool in_set[BLOCKS];

/* State: written under the BQL with the gate closed. */
bool attached[DEVICES];
bool pin_all;

/* Pin-all is not to end yet.  BQL. */
byte held;

/* The device: the bit in PCI_COMMAND. */
bool master[DEVICES];

/* The kernel, and the DTT. */
bool mapped[BLOCKS];
byte count[BLOCKS];
bool pinned[BLOCKS];

/* Ghost: mappings of a block that rely on being told that it is pinned. */
byte told[BLOCKS];

#define untracked(d)    (master[d] && !attached[d])
#define any_untracked   (untracked(0) || untracked(1))
#define any_attached    (attached[0] || attached[1])

/* What makes a device untracked says so: it finds everything mapped. */
#define check_untracked(d)  assert(!untracked(d) || (mapped[0] && mapped[1]))

#include "gate-lock.pml"

/* ---- one block, entered or with the gate closed ---- */

inline vfio_map(b)
{
    atomic { assert(!mapped[b]); mapped[b] = true }
}

/* Invariant 1, for mappings that are counted and for devices that don't say. */
inline vfio_unmap(b)
{
    atomic {
        assert(mapped[b]);
        assert(told[b] == 0);
        assert(!any_untracked);
        mapped[b] = false
    }
}

inline coiommu_pin_block(b)
{
    vfio_map(b);
    atomic { in_set[b] = true; pinned[b] = true }
}

inline coiommu_unpin_block(b)
{
    in_set[b] = false;
    vfio_unmap(b)
}

inline coiommu_unpin_try(b)
{
    pinned[b] = false;
    if
    :: count[b] > 0 -> REACHED(TAKEN_BACK) pinned[b] = true
    :: else -> coiommu_unpin_block(b); REACHED(LET_GO) skip
    fi
}

/* ---- all blocks, under the BQL ---- */

/* coiommu_pin_all(): `mine` is what it has pinned, `failed` whether it must be
 * undone. */
inline coiommu_pin_all()
{
    b = 0;
    do
    :: b < BLOCKS && !failed ->
        if
        :: in_set[b]
        :: !in_set[b] -> coiommu_pin_block(b); mine = mine | (1 << b)
        :: !in_set[b] -> failed = true
        fi;
        b++
    :: b == BLOCKS || failed -> break
    od;
    b = 0;
    do
    :: failed && b < BLOCKS ->
        if
        :: mine & (1 << b) ->
#ifdef BUG_UNDO_BLIND
            pinned[b] = false;
            coiommu_unpin_block(b)
#else
            if
            :: count[b] > 0 -> REACHED(KEPT_BUSY) skip
            :: else
            fi;
            if
            :: any_attached -> coiommu_unpin_try(b)
            :: else -> pinned[b] = false; coiommu_unpin_block(b)
            fi
#endif
        :: else
        fi;
        b++
    :: !failed || b == BLOCKS -> break
    od;
    b = 0;
    mine = 0
}

inline pin_all_begin()
{
    coiommu_gate_close();
    pin_all = true;
    coiommu_pin_all();
    pin_all = !failed;
    coiommu_gate_open()
}

/* coiommu_unpin_all() */
inline coiommu_unpin_all()
{
    b = 0;
    do
    :: b < BLOCKS ->
        if
        :: in_set[b] -> REACHED(ALL_GONE)
            pinned[b] = false;
            coiommu_unpin_block(b)
        :: else
        fi;
        b++
    :: else -> b = 0; break
    od;
    /* Invariant 5: nobody is left, and nothing is. */
    assert(!mapped[0] && !mapped[1])
}

/* The two halves of coiommu_fallback_settle(); the first is pin_all_end(). */
inline settle_pin_all()
{
    if
    :: pin_all && !held && !any_untracked ->
        coiommu_gate_close();
        pin_all = false;
        coiommu_gate_open()
    :: else
    fi
}

inline settle_rest()
{
    if
    :: !pin_all && !held && !any_attached ->
        coiommu_gate_close();
        coiommu_unpin_all();
        coiommu_gate_open()
    :: else
    fi
}

/* may_be_untracked(): `failed` is the answer no. */
inline may_be_untracked()
{
    if
    :: pin_all
    :: else -> pin_all_begin()
    fi
}

/* ---- what the guest does to a device; each under the BQL ---- */

/*
 * What may leave the device untracked: fallback_config_write() sets the bit, or
 * coiommu_endpoint_detach() detaches it.
 */
inline set_master_or_detach(d)
{
    lock(bql, d);
    if
    :: !master[d] -> setting = true
    :: attached[d]
    fi;
#ifdef BUG_BIT_FIRST
    master[d] = master[d] || setting;
#endif
#ifdef BUG_DETACH_FIRST
    attached[d] = attached[d] && setting;
#endif
    held++;
    if
    :: setting -> ask = !attached[d]
    :: else -> ask = master[d]
    fi;
    if
    :: ask -> may_be_untracked()
    :: else
    fi;
    if
    :: failed && setting -> REACHED(MASKED) skip
    :: failed && !setting -> REACHED(TAKEN_AWAY) master[d] = false
    :: !failed && setting ->
        atomic { master[d] = true; check_untracked(d) };
#ifdef REACH
        if
        :: untracked(d) && untracked(1 - d) -> REACHED(BOTH) skip
        :: untracked(d) -> REACHED(UNTRACKED) skip
        :: else
        fi
#endif
    :: else
    fi;
    if
    :: !setting ->
        coiommu_gate_close();
        atomic { attached[d] = false; check_untracked(d) };
        coiommu_gate_open()
    :: else
    fi;
    atomic { ask = false; failed = false; setting = false; held-- };
    settle_rest();
    unlock(bql)
}

/* fallback_config_write(): the bit is cleared. */
inline clear_master(d)
{
    lock(bql, d);
    master[d] = false;
    if
    :: pin_all ->
#ifdef REACH
        if
        :: !any_untracked -> REACHED(LOST_LAST) skip
        :: else
        fi;
#endif
        settle_pin_all();
        settle_rest()
    :: else
    fi;
    unlock(bql)
}

inline attach(d)
{
    lock(bql, d);
#ifdef BUG_LEAVE_FIRST
    /* It looks as if it were attached already. */
    if
    :: pin_all && !untracked(1 - d) ->
        coiommu_gate_close();
        pin_all = false;
        coiommu_gate_open()
    :: else
    fi;
#endif
    coiommu_gate_close();
    attached[d] = true;
    coiommu_gate_open();
#ifdef REACH
    if
    :: pin_all && !any_untracked -> REACHED(ATTACHED_LAST) skip
    :: else
    fi;
#endif
    settle_pin_all();
    unlock(bql)
}

/* ---- a request ---- */

/* request_pin() for one block.  Under the BQL the gate may be open. */
inline request_pin(me)
{
    if
    :: !any_attached -> failed = true
    :: else ->
        lock(holder[b], me);
        if
        :: in_set[b]
        :: else -> coiommu_pin_block(b)
        fi;
        atomic {
            assert(mapped[b]);
            told[b]++;
            unlock(holder[b])
        }
    fi
}

inline doorbell(me)
{
    coiommu_gate_enter();
    if
    :: in -> request_pin(me); coiommu_gate_leave()
    :: else ->
        lock(bql, me);
        request_pin(me);
        unlock(bql)
    fi;
    in = false
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
    ask = false;
    assert(mapped[b]);
    told[b]--;
    atomic { count[b]--; b = 0 }
}

proctype vcpu(byte me)
{
    byte b, mine;
    bool in, failed, ask, setting;

    do
    :: !master[me] || attached[me] -> set_master_or_detach(me)
    :: master[me] -> clear_master(me)
    :: !attached[me] -> attach(me)
    :: attached[me] -> map_and_unmap(me)
    od
}

/* coiommu_unpin_thread(): any block that nobody is in, unless all is to stay. */
proctype unpin_thread()
{
    byte b;

    do
    :: atomic {
            closed == 0 -> inside++;
            if
            :: b = 0
            :: b = 1
            fi
       };
       if
#ifndef BUG_NO_HOLD
       :: pin_all
#endif
#ifdef BUG_NO_HOLD
       :: atomic { holder[b] == NOBODY -> holder[b] = UNPIN };
#else
       :: atomic { !pin_all && holder[b] == NOBODY -> holder[b] = UNPIN };
#endif
            if
            :: in_set[b] -> coiommu_unpin_try(b)
            :: else
            fi;
            unlock(holder[b])
       :: holder[b] != NOBODY
       fi;
       b = 0;
       coiommu_gate_leave()
    od
}

init {
    atomic {
        run vcpu(0);
        run vcpu(1);
        run unpin_thread()
    }
}
