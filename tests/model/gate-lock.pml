/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The big QEMU lock, locks of blocks, and the gate (core/gate.c): for gate.pml
 * and fallback.pml.
 */

#define lock(l, who)    atomic { l == NOBODY -> l = who }
#define unlock(l)       l = NOBODY

/* coiommu_gate_enter(): `in` is whether we are. */
inline coiommu_gate_enter()
{
    atomic {
        in = (closed == 0);
        if
#ifndef BUG_NOT_INSIDE
        :: in -> inside++
#endif
        :: else
        fi
    }
}

inline coiommu_gate_leave()
{
#ifdef BUG_NOT_INSIDE
    skip
#else
    inside--
#endif
}

inline coiommu_gate_close()
{
    closed++;
#ifdef REACH
    if
    :: inside -> REACHED(INSIDE) skip
    :: else
    fi;
#endif
#ifndef BUG_CLOSE_NO_WAIT
    inside == 0
#endif
}

inline coiommu_gate_open()
{
    closed--
}
