/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest memory, with the reordering that the barriers are there for.
 *
 * Two steps of the protocol are a read-modify-write followed by a read of
 * something else: the guest's count++ before it looks at PINNED, and the
 * host's clearing of PINNED before it looks at the counts.  Without a barrier
 * the later read may overtake the earlier write.  So each of these writes goes
 * into a store buffer, from where it reaches memory at a time of the memory's
 * choosing, and a barrier is a wait until the writer's buffer is empty.  The
 * buffer of the unpin thread drains in any order (weaker than x86).  A buffered
 * count++ is an increment, not a value: read-modify-writes are atomic, however
 * late they become visible.
 *
 * All other accesses are immediate.  Those that need release order (PINNED
 * after the map, count-- after the DMA) have it by the order of the steps;
 * getting it wrong is a seeded bug.  An unlock is a release: it comes after the
 * buffer of its thread has drained.
 *
 * With ONE_WORD, count and PINNED of a unit are one location, as in the real
 * table; else they are two, and the model asks more of the barriers than the
 * layout does (README.md).
 *
 * In a HOSTILE guest memory has no state: the host may read anything.
 */

#ifdef HOSTILE

#define guest_count_add(me, u)  skip
#define host_pinned_clear(u)    skip
#define host_pinned_set(u)      skip
#define host_fence()            skip

/* The host looks at a count. */
inline host_look(u, busy)
{
    if
    :: busy = true
    :: skip
    fi
}

#else

#define NO_UNIT UNITS

byte late_count[VCPUS] = NO_UNIT;   /* count++ not visible yet */
bool late_clear[UNITS];             /* clearing of PINNED not visible yet */

/* Guest: atomic_fetch_add of the entry, without its barrier. */
#define guest_count_add(me, u) \
    atomic { late_count[me] == NO_UNIT -> late_count[me] = u }
#define guest_full_barrier(me)  late_count[me] == NO_UNIT

/* Guest: atomic_fetch_sub with release.  Accesses of one thread to one
 * location keep their order, so its own count++ is visible before. */
#define guest_count_sub(me, u) \
    atomic { late_count[me] == NO_UNIT -> assert(count[u] > 0); count[u]-- }

/* In ONE_WORD a read of an entry comes after the reader's own writes to it. */
#ifdef ONE_WORD
#define guest_coherent(me, u)   late_count[me] != u
#define host_coherent(u)        !late_clear[u]
#else
#define guest_coherent(me, u)   skip
#define host_coherent(u)        skip
#endif

/* Host: atomic_fetch_and of the entry, without its barrier. */
#define host_pinned_clear(u)    late_clear[u] = true
#define host_pinned_set(u)      pinned[u] = true

#define host_fence()            (!late_clear[0] && !late_clear[1] && \
                                 !late_clear[2])

inline host_look(u, busy)
{
    atomic {
        host_coherent(u);
        if
        :: count[u] > 0 -> busy = true
        :: else
        fi
    }
}

#define drain_count(i) \
    d_step { late_count[i] != NO_UNIT -> \
             count[late_count[i]]++; late_count[i] = NO_UNIT }
#define drain_clear(u) \
    d_step { late_clear[u] -> pinned[u] = false; late_clear[u] = false }

proctype store_buffers()
{
end:
    do
    :: drain_count(0)
    :: drain_count(1)
    :: drain_clear(0)
    :: drain_clear(1)
    :: drain_clear(2)
    od
}

#endif
