#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The NIC's rate and exits, in a VM of its own for each environment: TCP messages to
# the sockperf server at PEER (ADDRESS:PORT), ping-pong and a stream of each size, for
# SECONDS each.  Environments and rounds are as in block.sh.
#
# Small messages are sent TRIES times in each VM, all sizes in turns: how many of them TCP
# gathers into a packet decides their rate, and changes while nothing else does.
set -euo pipefail
# shellcheck source=scripts/bench-lib/rig/lab.sh
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lab.sh"

MEM=1G
# sockperf's largest message is 65507 bytes.
SMALL="throughput:64 throughput:256 throughput:1024"
LARGE="throughput:4096 throughput:16384 throughput:65507"
TRIES=3

# net_load ENV ROUND LOAD: a load, MODE:BYTES; to warm up it goes for a second first, the
# first time in this VM.
net_load() {
    local words="bench_sockperf ${3/:/ }"
    [[ $2 == *.[2-9] ]] || lab_guest 60 "$words 1 ${peer/:/ }" || return
    lab_measure 60 "$words $seconds ${peer/:/ }" || return
    # shellcheck disable=SC2046,SC2086  # words
    lab_row net env="$1" round="$2" load="${3%:*}" bytes="${3#*:}" \
        domain="$LAB_DOMAIN" ${VM_SAID[net]} $(lab_found)
}

net_vm() {
    local env=$1 round=$2 load try
    lab_up "$env" $MEM && lab_drivers net || return
    net_load "$env" "$round" ping-pong:64 || return
    for ((try = 1; try <= TRIES; try++)); do
        for load in $SMALL; do
            net_load "$env" "$round.$try" "$load" || return
        done
    done
    for load in $LARGE; do
        net_load "$env" "$round" "$load" || return
    done
    lab_down
}

lab_rounds net_vm
