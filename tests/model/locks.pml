/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One lock per pin block.  It guards the block's entry in the pin set, its
 * mappings in the containers, and the PINNED bits of its units.  It is held
 * over the map and unmap ioctls.  Nobody holds two, so there is no order.
 *
 * The plain lock lets anybody who wants it have it, in any order, which is the
 * most that a mutex may do: right for safety.  For termination (FAIR) it is a
 * queue; with the plain lock a thread may be overtaken for ever.
 */

#ifdef BUG_PASS_LOCK
#define lock_of(b)  0
#else
#define lock_of(b)  (b)
#endif

#ifdef FAIR

chan queue[BLOCKS] = [4] of { byte };

#define lock(b, who)   queue[lock_of(b)]!who; queue[lock_of(b)]?<eval(who)>
#define unlock(b, who) queue[lock_of(b)]?eval(who)

#ifdef LIVE

/* Ghost: the vCPU is in a request, from the doorbell to the answer. */
bool in_request[VCPUS];

#define lock_for_request(b, who)    lock(b, who)
#define note_unmapped(b)            skip

#else

/* Ghosts: the lock that a vCPU waits for, and how many blocks the unpin thread
 * has unmapped under it meanwhile. */
byte waits_for[VCPUS] = NOBODY;
byte behind[VCPUS];

inline lock_for_request(b, who)
{
    atomic {
        waits_for[who] = lock_of(b);
        behind[who] = 0;
        queue[lock_of(b)]!who
    }
    atomic {
        queue[lock_of(b)]?<eval(who)>;
        waits_for[who] = NOBODY;
        behind[who] = 0
    }
}

/* The unpin thread has unmapped block b: a request may wait for one block, and
 * never for the rest of a pass. */
inline note_unmapped(b)
{
    atomic {
        if
        :: waits_for[0] == lock_of(b) -> REACHED(BEHIND) behind[0]++
        :: else
        fi;
        if
        :: waits_for[1] == lock_of(b) -> behind[1]++
        :: else
        fi;
        assert(behind[0] <= 1 && behind[1] <= 1)
    }
}

#endif

#else

byte holder[BLOCKS] = NOBODY;

#define lock(b, who)   atomic { holder[b] == NOBODY -> holder[b] = who }
#define unlock(b, who) holder[b] = NOBODY
#define note_unmapped(b) skip

#ifdef BUG_HOLD_LOCKS
inline release_all(who)
{
    atomic {
        if
        :: holder[0] == who -> holder[0] = NOBODY
        :: else
        fi;
        if
        :: holder[1] == who -> holder[1] = NOBODY
        :: else
        fi
    }
}
#endif

inline lock_for_request(b, who)
{
#ifdef REACH
    if
    :: holder[b] == UNPIN -> REACHED(WAITED) skip
    :: else
    fi;
#endif
    lock(b, who)
}

#endif
