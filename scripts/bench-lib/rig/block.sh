#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The disk's rate and exits, in a VM of its own for each environment: what the guest
# does is a fixed number of I/Os, SECONDS times some, after a fifth of that to warm up.
#
# The first two environments are compared with each other: they have a VM in each of
# ROUNDS rounds, in turns, the others in every second one.
set -euo pipefail
# shellcheck source=scripts/bench-lib/rig/lab.sh
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lab.sh"

MEM=1G
loads="rand-qd1 rand-qd32 seq"
# It writes.
[ "$destroy" = no ] || loads+=" mixed"

block_vm() {
    local env=$1 round=$2 load
    lab_up "$env" $MEM && lab_drivers disk || return
    for load in $loads; do
        lab_guest 120 "bench_block $load $(((seconds + 4) / 5))" || return
        lab_measure 300 "bench_block $load $seconds" || return
        # shellcheck disable=SC2046,SC2086  # words
        lab_row block env="$env" round="$round" load="$load" domain="$LAB_DOMAIN" \
            ${VM_SAID[fio]} $(lab_found)
    done
    lab_down
}

# What coIOMMU pins while the disk is read, first into the same buffers, then through
# the page cache.
block_pins() {
    lab_begin
    lab_up coiommu $MEM && lab_drivers disk || return
    for load in hot cached; do
        lab_guest 10 "bench_$load" || return
        VM_SAMPLED="lab_note pins load=$load"
        lab_watch $((3 * seconds)) || return
        VM_SAMPLED=''
        lab_guest 30 bench_quiet || return
    done
    lab_down
}

lab_rounds block_vm
tell "demand pins over time"
lab_try block_pins
