/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One block and the containers: mapping, pinning, unpinning.  A part of gate.pml,
 * which has the state.
 */

/* ---- VFIO ---- */

/* Who calls must know that the container is there. */
inline vfio_map(c, b)
{
    atomic {
#ifdef GATE_HOSTILE
        assert(!off);                           /* invariant 5 */
#endif
        assert(present[c]);
        assert(!map_of(c, b));
        map_of(c, b) = true
    }
}

inline vfio_unmap(c, b)
{
    atomic {
        assert(present[c]);
        assert(map_of(c, b));
#ifdef GATE
        assert(!live[c] || told[b] == 0);       /* invariant 1 */
#endif
        map_of(c, b) = false
    }
}

/* Invariant 2, for what the device vouches for and for what starts a DMA. */
inline mapped_everywhere(b)
{
    d_step {
        c = 0;
        do
        :: c < CONTAINERS -> assert(!live[c] || map_of(c, b)); c++
        :: else -> c = 0; break
        od
    }
}

/* ---- pin and unpin, with the block entered ---- */

/* coiommu_pins_pin(): map in all of our containers. */
inline coiommu_pins_pin(b)
{
    c = 0;
    do
    :: c < CONTAINERS ->
        atomic {
            if
            :: ours[c] -> vfio_map(c, b)
            :: else
            fi;
            c++
        }
    :: else -> c = 0; break
    od;
    atomic {
        in_set[b] = true;
#ifdef GATE
        pinned[b] = true
#endif
    }
}

/* coiommu_pins_unpin() */
inline coiommu_pins_unpin(b)
{
    c = 0;
    do
    :: c < CONTAINERS ->
        atomic {
            in_set[b] = false;
            if
            :: ours[c] -> vfio_unmap(c, b)
            :: else
            fi;
            c++
        }
    :: else -> c = 0; break
    od;
#ifdef REACH
    ahead[b] = false
#endif
}
