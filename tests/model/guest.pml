/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that keeps the protocol.  Each vCPU, for ever: a DMA mapping of one
 * or two neighbouring units, the DMA, the unmap.
 */

/* A unit was seen PINNED: from now on that is a promise. */
inline promised(u)
{
    if
    :: have & (1 << u)
    :: else -> told[u]++; have = have | (1 << u)
    fi
}

/* coiommu_dtt_get(): count each unit, then look at its PINNED. */
inline coiommu_dtt_get(me)
{
    u = first;
    do
    :: u <= last ->
        guest_count_add(me, u);
#ifndef BUG_GUEST_BARRIER
        guest_full_barrier(me);
#endif
        atomic {
            guest_coherent(me, u);
            if
            :: pinned[u] -> promised(u)
            :: else -> unpinned = true
            fi;
            u++
        }
    :: else -> u = 0; break
    od
}

/* coiommu_dtt_put(): one from each count. */
inline coiommu_dtt_put(me)
{
    u = first;
    do
    :: u <= last -> guest_count_sub(me, u); u++
    :: else -> u = 0; break
    od
}

/* The mapping relies on its units no more. */
inline let_go()
{
    d_step {
        u = 0;
        do
        :: u < UNITS ->
            if
            :: have & (1 << u) -> told[u]--
            :: else
            fi;
            u++
        :: else -> u = 0; break
        od;
        have = 0
    }
}

/*
 * gather() the units that are not PINNED, looking anew; fill this CPU's page,
 * write the doorbell, read the status.  The write traps: the device serves the
 * request in this thread.  It is uncached, so everything before it is visible.
 */
inline ring(me)
{
    u = first;
    do
    :: u <= last ->
        atomic {
            guest_coherent(me, u);
            if
            :: pinned[u] -> promised(u)
            :: else ->
                want = want | (1 << u);
                todo = todo | (1 << block_of(u))
            fi;
            u++
        }
    :: else -> u = 0; break
    od;
    if
    :: want != 0 ->
        guest_full_barrier(me);
#ifdef REACH
        spans = (todo == 3 && !in_set[0] && !in_set[1]);
#endif
        request_pin(me);
        want = 0
    :: else -> REACHED(LATE) skip
    fi
}

/* coiommu_pin(): after AGAIN, once more for what is not PINNED by then. */
inline coiommu_pin(me)
{
    unpinned = false;
    ring(me);
    do
#ifndef BUG_AGAIN_IS_OK
    :: again -> again = false; ring(me)
    :: else -> break
#else
    :: again = false; break
#endif
    od
}

/* Invariant 2: every unit of a mapping that succeeded is mapped in every
 * container.  That it stays so is the assertion in vfio_unmap(). */
inline start_dma()
{
    d_step {
        u = first;
        do
        :: u <= last ->
            assert(told[u] > 0);
            c = 0;
            do
            :: c < CONTAINERS -> assert(map_of(c, block_of(u))); c++
            :: else -> c = 0; break
            od;
            u++
        :: else -> u = 0; break
        od
    }
}

proctype vcpu(byte me)
{
    byte first, last, u;        /* the mapping's units */
    byte want, have, todo;      /* bit per unit, per unit, per block */
    byte b, c, v;
    bool unpinned, failed, locked, served, again;
#ifdef REACH
    bool spans;
#endif

    do
    :: atomic {
            !stopping;
            active_vcpus++;
            if
            :: first = 0; last = 0
            :: first = 0; last = 1
            :: first = 1; last = 2      /* crosses into the second block */
            fi
       };
       coiommu_dtt_get(me);
       if
       :: unpinned -> coiommu_pin(me)
       :: else -> REACHED(FAST) skip
       fi;
       if
       :: failed -> REACHED(FAILED)
            failed = false;
            let_go();
#ifndef BUG_NO_TAKE_BACK
            coiommu_dtt_put(me)
#endif
       :: else ->
            start_dma();
#ifdef REACH
            if
            :: told[first] == 2 -> REACHED(SHARED) skip
            :: spans -> REACHED(SPAN) skip
            :: was_off -> REACHED(AGAIN) skip
            :: else
            fi;
#endif
#ifdef BUG_EARLY_PUT
            coiommu_dtt_put(me);
            let_go()
#else
            let_go();
            coiommu_dtt_put(me)
#endif
       fi;
       atomic {
            first = 0; last = 0;
            active_vcpus--
       }
    od
}
