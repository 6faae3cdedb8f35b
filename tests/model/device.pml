/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device: request service (in the thread of the vCPU that rang), the unpin
 * thread, and ENABLE and DISABLE.  Each inline names the C function whose steps
 * it takes.
 */

/* ---- VFIO ---- */

/* VFIO_IOMMU_MAP_DMA of one block in one container (the kernel refuses what is
 * there already).  Invariant 5: never after DISABLE is done. */
inline vfio_map(c, b)
{
    atomic {
        assert(!off);
        assert(!map_of(c, b));
        map_of(c, b) = true
    }
}

/* VFIO_IOMMU_UNMAP_DMA.  Invariant 1: nobody who was told that a unit of the
 * block is pinned still relies on it.  `v` walks the units. */
inline vfio_unmap(c, b)
{
    atomic {
        assert(map_of(c, b));
#ifndef HOSTILE
        v = first_unit(b);
        do
        :: v < end_unit(b) -> assert(told[v] == 0); v++
        :: else -> break
        od;
        v = 0;
#endif
        map_of(c, b) = false
    }
}

/* ---- PINNED ---- */

/* coiommu_table_publish(): set PINNED in each unit of the block. */
inline coiommu_table_publish(b)
{
    v = first_unit(b);
    do
    :: v < end_unit(b) -> host_pinned_set(v); v++
    :: else -> v = 0; break
    od
}

/* coiommu_table_withdraw(): clear it; not sure to be visible before
 * host_fence(). */
inline coiommu_table_withdraw(b)
{
    v = first_unit(b);
    do
    :: v < end_unit(b) -> host_pinned_clear(v); v++
    :: else -> v = 0; break
    od
}

/* ---- pin and unpin, with the block's lock held ---- */

/* coiommu_pins_pin(): map in every container, or in none. */
inline coiommu_pins_pin(b)
{
#ifdef BUG_PUBLISH_FIRST
    coiommu_table_publish(b);
#endif
    c = 0;
    do
    :: c < CONTAINERS ->
#ifdef BUG_ONE_CONTAINER
        if
        :: c == 1 -> coiommu_table_publish(b)
        :: else
        fi;
#endif
        if
        :: vfio_map(c, b); c++
        :: failed = true; break     /* ENOMEM, ENOSPC */
        fi
    :: else -> break
    od;
    if
    :: failed ->
#ifdef BUG_NO_ROLLBACK
        c = 0
#else
        do
        :: c > 0 -> REACHED(ROLLBACK) c--; vfio_unmap(c, b)
        :: else -> break
        od
#endif
    :: else ->
        c = 0;
        in_set[b] = true;
        coiommu_table_publish(b)
    fi
}

/* coiommu_pins_unpin(): take it from the pin set, then from all containers.
 * PINNED is clear by now. */
inline coiommu_pins_unpin(b)
{
    in_set[b] = false;
    c = 0;
    do
    :: c < CONTAINERS -> vfio_unmap(c, b); c++
    :: else -> c = 0; break
    od
}

/* ---- OP_PIN ---- */

/* The device vouches for block b, by its answer to vCPU `me`: it must be mapped
 * everywhere (invariant 2).  From here the guest may rely on it. */
inline tell(b)
{
    d_step {
        c = 0;
        do
        :: c < CONTAINERS -> assert(map_of(c, b)); c++
        :: else -> c = 0; break
        od;
#ifndef HOSTILE
        v = first_unit(b);
        do
        :: v < end_unit(b) ->
            if
            :: want & ~have & (1 << v) -> told[v]++; have = have | (1 << v)
            :: else
            fi;
            v++
        :: else -> v = 0; break
        od
#endif
    }
}

/*
 * request_pin(), after validation: pin the blocks in `todo`, in ascending order
 * (any order for a hostile guest), until one fails, or, between two blocks, the
 * doorbell has taken its time (ST_AGAIN).  Whether a block is pinned is looked up
 * in the pin set, never in the DTT, and under the block's lock: a request that
 * meets an unmap in progress waits for it there.
 */
inline request_pin(me)
{
    failed = false;
    do
    :: failed || todo == 0 -> break
    :: !failed && todo != 0 && served -> REACHED(IN_PART) again = true; break
    :: !failed && todo != 0 ->
        atomic {
            if
            :: todo & 1 -> b = 0
            :: (todo & 2) && MAY_TAKE_SECOND(todo) -> b = 1
            fi;
            todo = todo & ~(1 << b)
        }
        locked = true;
#if defined(BUG_STALE_SET)
        if
        :: in_set[b] -> locked = false
        :: else
        fi;
#elif defined(BUG_TRUST_PINNED)
        if
        :: locked = false       /* the entry says PINNED */
        :: skip
        fi;
#elif defined(BUG_STATE_UNLOCKED)
        if
        :: !attached -> failed = true; locked = false
        :: else
        fi;
#endif
        if
        :: locked ->
            lock_for_request(b, me);
            if
#ifndef BUG_STATE_UNLOCKED
            :: !attached -> REACHED(REFUSED) failed = true  /* ST_STATE */
            :: attached && in_set[b] -> REACHED(KEPT)
                coiommu_table_publish(b)
            :: attached && !in_set[b] -> coiommu_pins_pin(b)
#else
            :: in_set[b] -> coiommu_table_publish(b)
            :: else -> coiommu_pins_pin(b)
#endif
            fi
        :: else
        fi;
        if
        :: !failed -> tell(b); served = true
        :: else
        fi;
#ifndef BUG_HOLD_LOCKS
        if
        :: locked -> unlock(b, me)
        :: else
        fi
#endif
    od;
#ifdef BUG_HOLD_LOCKS
    release_all(me);
#endif
    todo = 0;
    b = 0;
    served = false;
    locked = false
}

/* ---- lazy unpinning ---- */

#ifdef BUG_FIRST_UNIT
#define last_look(b)    (first_unit(b) + 1)
#else
#define last_look(b)    end_unit(b)
#endif

/* coiommu_table_busy(): does a unit of the block have a count? */
inline coiommu_table_busy(b)
{
    busy = false;
    v = first_unit(b);
    do
    :: !busy && v < last_look(b) -> host_look(v, busy); v++
    :: else -> v = 0; break
    od
}

/*
 * coiommu_pins_unpin_try(), with the block's lock held: unpin the block unless it is
 * in use.  The first look saves the second from taking back PINNED of blocks
 * that are plainly busy; only the second one counts.
 */
inline coiommu_pins_unpin_try(b)
{
    coiommu_table_busy(b);
    if
    :: busy
    :: else ->
#ifdef BUG_UNMAP_FIRST
        coiommu_pins_unpin(b);
        coiommu_table_withdraw(b);
        host_fence()
#else
        coiommu_table_withdraw(b);
#ifndef BUG_HOST_FENCE
        host_fence();
#endif
#ifndef BUG_COUNT_FIRST
        coiommu_table_busy(b);
#endif
#ifdef BUG_HOST_FENCE
        host_fence();           /* too late; the ioctl orders what is before */
#endif
        if
        :: busy -> REACHED(RACE)
            host_fence();       /* own writes to one entry keep their order */
            coiommu_table_publish(b)
        :: else ->
            coiommu_pins_unpin(b);
            note_unmapped(b);
            REACHED(UNPINNED)
            skip
        fi
#endif
    fi
}

/* coiommu_unpin_thread(): the policy may pick any block of the pin set.  It is
 * looked up again under the lock. */
proctype unpin_thread()
{
    byte b, c, v;
    bool busy;

    do
    :: atomic {
            if
            :: in_set[0] -> b = 0
            :: in_set[1] -> b = 1
            fi
       };
#ifdef BUG_PASS_LOCK
       lock(0, UNPIN);
       b = 0;
       do
       :: b < BLOCKS ->
            if
            :: in_set[b] -> coiommu_pins_unpin_try(b)
            :: else
            fi;
            b++
       :: else -> b = 0; break
       od;
#else
       lock(b, UNPIN);
#ifdef BUG_UNPIN_RETRY
       do
       :: in_set[b] -> coiommu_pins_unpin_try(b)
       :: else -> break
       od;
#else
       if
       :: in_set[b] -> coiommu_pins_unpin_try(b)
       :: else
       fi;
#endif
#endif
       busy = false;
       host_fence();            /* the unlock is a release */
       unlock(b, UNPIN);
       b = 0
    od
}

/* ---- commands; the command lock makes them one after the other ---- */

/*
 * cmd_disable(), coiommu_reset_exit(), and detach() of the last endpoint: first
 * nobody can pin any more, then each block goes (coiommu_pins_unpin_all()).  A reset
 * leaves the table alone, whose memory may be another's by then.  Invariant 5
 * holds at the end.
 */
inline cmd_disable()
{
    attached = false;
    b = 0;
    do
    :: b < BLOCKS ->
        lock(b, CONTROL);
        if
#ifdef BUG_DISABLE_BY_DTT
        :: in_set[b]            /* an entry of the block doesn't say PINNED */
#endif
        :: in_set[b] ->
#if !defined(HOSTILE) && !defined(BUG_NO_UNPUBLISH)
            if
            :: by_reset -> REACHED(RESET) skip
            :: else -> REACHED(DISABLED)
                coiommu_table_withdraw(b);
                host_fence()
            fi;
#endif
            coiommu_pins_unpin(b)
        :: else
        fi;
        unlock(b, CONTROL);
        b++
    :: else -> b = 0; break
    od;
    atomic {
        do
        :: b < BLOCKS ->
            assert(!in_set[b]);
            c = 0;
            do
            :: c < CONTAINERS -> assert(!map_of(c, b)); c++
            :: else -> c = 0; break
            od;
            b++
        :: else -> b = 0; break
        od;
        off = true
    }
}

/* cmd_enable() and the first ATTACH. */
inline cmd_enable()
{
    atomic { off = false; attached = true }
}

#ifdef HOSTILE

/* DISABLE, reset and ENABLE at any time, whatever else goes on. */
proctype control()
{
    byte b, c, v;

    do
    :: cmd_disable();
       cmd_enable()
    od
}

#else

/*
 * The driver disables when its devices are quiet and every mapping is gone, and
 * each count is back at 0.  It may enable again with the same table.  After a
 * reset it brings a table of zeroes.
 */
proctype control()
{
    byte b, c, v;
    bool by_reset;

    do
    :: stopping = true;
       atomic {
           active_vcpus == 0;
           do
           :: v < UNITS -> assert(count[v] == 0); v++
           :: else -> v = 0; break
           od;
           if
           :: by_reset = true
           :: skip
           fi
       };
       cmd_disable();
#ifdef REACH
       was_off = true;
#endif
       atomic {
           do
           :: by_reset && v < UNITS -> pinned[v] = false; v++
           :: else -> v = 0; break
           od;
           by_reset = false
       };
       cmd_enable();
       stopping = false
    od
}

#endif
