#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the unpin thread's interval and policy cost: in one VM, under one load that goes
# on, each setting for a while, in turns, ROUNDS times.
#
# The load has DMA of three ages: buffers that are used all the time, some that idle for
# BURST seconds in between, and the page cache, whose pages come again by chance.
set -euo pipefail
# shellcheck source=scripts/bench-lib/rig/lab.sh
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lab.sh"

MEM=512M
BURST=2
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

unpin_window() {
    local setting=$1 round=$2 ms=${1#*:} warm watch name cells=''
    local -A COUNT=()
    warm=$((2 + 3 * ms / 1000))
    watch=$((4 * ms / 1000))
    [ $watch -ge "$seconds" ] || watch=$seconds
    unpin_set "$setting" || return
    lab_wait $warm
    unpin_counters -1 || return
    PINNED=0 NOTES=0
    VM_SAMPLED=unpin_note
    lab_wait $watch
    VM_SAMPLED=''
    unpin_counters 1 || return
    for name in ios us ${COUNTERS//-/_}; do
        cells+=" $name=${COUNT[$name]}"
    done
    lab_row "unpin policy=${setting%:*} interval_ms=$ms round=$round" \
        "pinned=$((PINNED / NOTES))$cells"
}

unpin_vm() {
    local round setting order
    lab_up coiommu $MEM && lab_drivers disk || return
    lab_guest 20 "bench_hot; bench_bursts $BURST; bench_cached" || return
    # As long as it grows, the page cache goes to ever new blocks.
    lab_guest 180 "wait_for 170 bench_full" || return
    lab_wait 20
    for ((round = 1; round <= rounds; round++)); do
        # There and back: what changes with time meets all alike.
        order=$envs
        [ $((round % 2)) -eq 1 ] || order=$(tr ' ' '\n' <<<"$envs" | tac)
        for setting in $order; do
            tell "round $round of $rounds: ${setting/:/, } ms"
            unpin_window "$setting" "$round" || return
        done
    done
    lab_guest 30 bench_quiet || return
    lab_down
}

lab_try unpin_vm
