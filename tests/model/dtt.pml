/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The protocol between guest and host, for spin: see README.md for what is
 * modelled, what is not, and how to read a counter-example.
 *
 * This file holds the configuration, the state that both sides share, the
 * ghost variables in which the invariants are written, and the processes.
 * memory.pml, device.pml and guest.pml hold the steps.
 *
 * Preprocessor symbols:
 *   KEEPING     a guest that keeps the protocol (the default); unfair locks
 *   HOSTILE     a guest that keeps nothing: every read of guest memory returns
 *               anything, requests and commands come at any time
 *   FAIR        the HOSTILE guest with first-come first-served locks: how long
 *               a request waits is bounded (an assertion)
 *   LIVE        the same, without that bound, with one container: every request
 *               ends (the LTL property `served`).  A guest that keeps the
 *               protocol reads no more than a hostile one, so both cover it
 *   ONE_WORD    count and PINNED share one location, as in the real table
 *   BUG_name    one seeded bug; the list is in README.md
 *   REACH=name  turns the place marked REACHED(name) into an error, to show
 *               that the search gets there
 */

#ifdef LIVE
#define FAIR
#endif
#ifdef FAIR
#define HOSTILE
#endif

#define UNITS           3       /* the last block is half outside memory */
#define UNITS_PER_BLOCK 2
#ifdef LIVE
#define CONTAINERS      1
#else
#define CONTAINERS      2
#endif
#define BLOCKS          2
#define VCPUS           2

#define block_of(u)     ((u) / UNITS_PER_BLOCK)
#define first_unit(b)   ((b) * UNITS_PER_BLOCK)
#define end_unit(b)     ((b) == BLOCKS - 1 -> UNITS : first_unit((b) + 1))

/* Who holds a lock: vCPUs 0 and 1 (they serve their own requests), and */
#define UNPIN           2
#define CONTROL         3
#define NOBODY          4

/* May a request go on with block 1?  A driver writes its ranges in ascending
 * order. */
#ifdef HOSTILE
#define MAY_TAKE_SECOND(todo)   true
#else
#define MAY_TAKE_SECOND(todo)   !((todo) & 1)
#endif

/* Names for REACH. */
#define FAST            1       /* a map succeeded without a request */
#define SHARED          2       /* two live mappings touch one unit */
#define SPAN            3       /* one request pinned two blocks */
#define RACE            4       /* a map came between the unpin's two looks */
#define UNPINNED        5       /* a block was unpinned */
#define WAITED          6       /* a request had to wait for the unpin thread */
#define ROLLBACK        7       /* the second container refused */
#define FAILED          8       /* a map failed and took its counts back */
#define KEPT            9       /* a request found its block in the pin set */
#define DISABLED        10      /* DISABLE found something to unpin */
#define AGAIN           11      /* a map succeeded after ENABLE came again */
#define REFUSED         12      /* a request met a device that is off */
#define LATE            13      /* PINNED came between the guest's two looks */
#define RESET           14      /* a reset found something to unpin */
#define BEHIND          15      /* a request waited for an unmap */
#define IN_PART         16      /* a request was served in part */

#ifdef REACH
#define REACHED(place)  assert(REACH != place);
#else
#define REACHED(place)
#endif

/* ---- state of the machine ---- */

/* The DTT (guest memory). */
#ifndef HOSTILE
byte count[UNITS];
bool pinned[UNITS];
#endif

/* Device: is an endpoint attached (and tracking enabled)?  Written by CONTROL;
 * a request believes it only under the lock of the block that it is about. */
bool attached = true;

/* Device: the pin set.  An entry is guarded by the block's lock. */
bool in_set[BLOCKS];

/* The kernel: what each VFIO container has mapped. */
bool mapped[CONTAINERS * BLOCKS];
#define map_of(c, b)    mapped[(c) * BLOCKS + (b)]

/* ---- ghosts: no step depends on them ---- */

/* Mappings of a unit whose owner has been told that it is pinned, from that
 * moment until the device has finished with the memory. */
#ifndef HOSTILE
byte told[UNITS];
#endif

/* DISABLE has completed and no ENABLE has come yet. */
bool off;

#ifdef REACH
bool was_off;
#endif

#ifndef HOSTILE
/* The driver's devices are being made quiet before DISABLE. */
bool stopping;
/* vCPUs that are in a map or unmap call, or hold a mapping. */
byte active_vcpus;
#endif

#include "locks.pml"
#include "memory.pml"
#include "device.pml"
#ifdef HOSTILE
#include "hostile.pml"
#else
#include "guest.pml"
#endif

#ifdef LIVE
/* No request waits for ever.  vCPU 1 runs the same code as vCPU 0. */
ltl served { [] (in_request[0] -> <> !in_request[0]) }
#endif

init {
    atomic {
        run vcpu(0);
        run vcpu(1);
        run unpin_thread();
        run control();
#ifndef HOSTILE
        run store_buffers();
#endif
    }
}
