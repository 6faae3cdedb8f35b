/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that keeps nothing: each vCPU asks for any blocks in any order at any
 * time, and what the host reads in guest memory is anything (memory.pml).  Such
 * a guest may hurt itself; what must hold is the device's own bookkeeping: the
 * pin set agrees with the containers, it vouches only for what is mapped,
 * nothing is pinned after DISABLE, and nobody gets stuck.
 */

proctype vcpu(byte me)
{
    byte todo, b, c, v;
    bool failed, locked, served, again;

    do
    :: atomic {
            if
            :: todo = 1
            :: todo = 2
            :: todo = 3
            fi;
#ifdef LIVE
            in_request[me] = true
#endif
       };
       request_pin(me);
       again = false;
#ifdef LIVE
       in_request[me] = false
#endif
    od
}
