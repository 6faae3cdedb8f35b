#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What is pinned while a VM lives: start, boot, idle, load on the disk, more on
# disk and NIC, idle, end.
set -euo pipefail
# shellcheck source=scripts/bench-lib/rig/lab.sh
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lab.sh"

memory_phase() {
    VM_SAMPLED="lab_note memory env=$env phase=$1"
}

memory_vm() {
    local env=$1 mem=$2 load='true;'
    lab_begin
    memory_phase start
    lab_start "$env" "$mem" || return
    memory_phase boot
    # shellcheck disable=SC2086  # words
    lab_boot && lab_drivers $kinds || return
    memory_phase idle
    lab_watch "$seconds" || return
    if [[ $kinds == *disk* ]]; then
        memory_phase hot
        lab_guest 10 bench_hot || return
        lab_watch $((2 * seconds)) || return
        load="bench_cached;"
    fi
    memory_phase load
    [[ $kinds != *net* ]] || [ -z "$peer" ] || load+=" bench_stream ${peer/:/ }"
    lab_guest 10 "$load" || return
    lab_watch $((2 * seconds)) || return
    lab_guest 30 bench_quiet || return
    memory_phase idle-again
    lab_watch $((2 * seconds)) || return
    lab_get pinned-bytes-peak || return
    [ "$LAB_VALUE" = - ] || [ "$LAB_VALUE" -le "$VM_PEAK" ] || VM_PEAK=$LAB_VALUE
    lab_row peaks env="$env" pinned="$VM_PEAK"
    VM_SAMPLED=''
    lab_down
}

kinds=$(lab_kinds)
for env in $envs; do
    tell "$env, $sizes: start, boot, idle, loads, idle"
    # shellcheck disable=SC2086
    lab_try memory_vm "$env" $sizes
done
