#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# How long a VM takes to start: each environment with each size, in turns, ROUNDS
# times, to ready; and then the environments in GUESTS once, with the smallest and the
# largest size, up to a guest that has the drivers of its devices.
set -euo pipefail
# shellcheck source=scripts/bench-lib/rig/lab.sh
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lab.sh"

boot_start() {
    lab_start "$1" "$2" || return
    lab_row starts env="$1" mem="$(bytes "$2")" ready_us="$VM_READY_US" pinned="$VM_PINNED"
    _lab_end
}

boot_guest() {
    lab_up "$1" "$2" || return
    # shellcheck disable=SC2046  # words
    [ "$1" = none ] || lab_drivers $(lab_kinds) || return
    # Three passes of the unpin thread, and one more.
    lab_wait 4
    lab_row guests env="$1" mem="$(bytes "$2")" ready_us="$VM_READY_US" \
        init_us="$LAB_INIT_US" peak="$VM_PEAK" final="$VM_PINNED"
    lab_down
}

read -ra size <<<"$sizes"
tell "a first start to warm up"
# Should it die: those that count get their second chance from lab_try.
boot_start static "${size[0]}" || vm_kill
rm -f "$out/rows.new"
for ((round = 1; round <= rounds; round++)); do
    tell "time to ready, round $round of $rounds"
    lab_try boot_start static 128M
    lab_try boot_start static+4k 128M
    for mem in $sizes; do
        for env in $envs; do
            lab_try boot_start "$env" "$mem"
        done
    done
done
for mem in $(printf '%s\n' "${size[0]}" "${size[-1]}" | uniq); do
    for env in $guests; do
        tell "booting a guest: $env, $mem"
        lab_try boot_guest "$env" "$mem"
    done
done
