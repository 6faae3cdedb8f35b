#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the unpin thread's interval and policy cost: in one VM, under one load that goes
# on, each setting for a while, in turns, ROUNDS times.
#
# The load has DMA of three ages: buffers that are used all the time, some that idle for
# BURST seconds in between, and the page cache, whose pages come again by chance.
#
# At first the guest gives the page cache memory that lies together, so DMA goes to few
# blocks at a time, and to more and more as pages are freed here and there.  That takes
# minutes.  What is pinned meanwhile is the table "mixing"; the settings are compared when
# it has come to its end.
set -euo pipefail
# shellcheck source=scripts/bench-lib/rig/lab.sh
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lab.sh"

MEM=512M
BURST=2
# Mixing has come to its end when this many windows have at most STEADY % more pinned than
# as many before them; and after MIX_MOST it isn't waited for any longer.
MIX_WINDOWS=6 MIX_STEADY=3 MIX_MOST=100
COUNTERS="requests demand-pin-requests demand-pin-blocks repins unpinned-blocks unpin-races"

# Settings are POLICY:MILLISECONDS; with "timeout" that is the window as well.
unpin_set() {
    local name value
    for name in unpin-policy unpin-interval unpin-window; do
        value=${1#*:}
        [ $name != unpin-policy ] || value="\"${1%:*}\""
        LAB_WHY="$name can't be set to $value"
        vm_qmp qom-set "{\"path\":\"/machine/peripheral/coi0\",\"property\":\"$name\",\"value\":$value}" ||
            return
    done
}

# unpin_counters SIGN: I/Os, time and the device's counters, times SIGN added to COUNT.
unpin_counters() {
    local sign=$1 name now
    lab_guest 30 bench_ios || return
    vm_now now
    COUNT[ios]=$((${COUNT[ios]:-0} + sign * VM_SAID[ios]))
    COUNT[us]=$((${COUNT[us]:-0} + sign * now))
    for name in $COUNTERS; do
        lab_get "$name" || return
        COUNT[${name//-/_}]=$((${COUNT[${name//-/_}]:-0} + sign * LAB_VALUE))
    done
}

# Pinned memory, for its mean.
unpin_note() {
    PINNED=$((PINNED + VM_PINNED)) NOTES=$((NOTES + 1))
}

# unpin_measure TABLE SETTING SECONDS: a row; the mean of what was pinned, in PINNED.
unpin_measure() {
    local at name cells=''
    local -A COUNT=()
    vm_now at
    at=$(((at - VM_STARTED_US) / 1000))
    unpin_counters -1 || return
    PINNED=0 NOTES=0
    VM_SAMPLED=unpin_note
    lab_wait "$3"
    VM_SAMPLED=''
    unpin_counters 1 || return
    for name in ios us ${COUNTERS//-/_}; do
        cells+=" $name=${COUNT[$name]}"
    done
    PINNED=$((PINNED / NOTES))
    lab_row "$1 at_ms=$at policy=${2%:*} interval_ms=${2#*:} pinned=$PINNED$cells"
}

# unpin_window SETTING: it is set, and measured when what it changes has changed.
unpin_window() {
    local ms=${1#*:} watch
    unpin_set "$1" || return
    lab_wait $((2 + 3 * ms / 1000))
    watch=$((4 * ms / 1000))
    [ $watch -ge "$seconds" ] || watch=$seconds
    unpin_measure unpin "$1" $watch
}

# The page cache becomes as mixed as it gets; the device's settings are the defaults.
unpin_mix() {
    local n old new seen=()
    for ((n = 1; n <= MIX_MOST; n++)); do
        tell "the page cache becomes mixed: $n of $MIX_MOST at most"
        unpin_measure mixing lazy:1000 "$seconds" || return
        seen+=("$PINNED")
        [ "$rounds" -gt 1 ] || break
        [ $n -ge $((2 * MIX_WINDOWS)) ] || continue
        old=$(sum "${seen[@]:n - 2 * MIX_WINDOWS:MIX_WINDOWS}")
        new=$(sum "${seen[@]:n - MIX_WINDOWS}")
        [ $((100 * new)) -gt $(((100 + MIX_STEADY) * old)) ] || break
    done
}

# sum NUMBER...: on stdout.
sum() {
    local IFS=+
    echo $(($*))
}

unpin_vm() {
    local round setting order
    lab_up coiommu $MEM && lab_drivers disk || return
    lab_guest 20 "bench_hot; bench_bursts $BURST; bench_cached" || return
    lab_guest 180 "wait_for 170 bench_full" && unpin_mix || return
    for ((round = 1; round <= rounds; round++)); do
        # There and back: what changes with time meets all alike.
        order=$envs
        [ $((round % 2)) -eq 1 ] || order=$(tr ' ' '\n' <<<"$envs" | tac)
        for setting in $order; do
            tell "round $round of $rounds: ${setting/:/, } ms"
            unpin_window "$setting" || return
        done
    done
    lab_guest 30 bench_quiet || return
    lab_down
}

lab_try unpin_vm
