#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The NIC's rate and exits, in a VM of its own for each environment: TCP messages to
# the sockperf server at PEER (ADDRESS:PORT), ping-pong and a stream of each size, for
# SECONDS each.  Environments and rounds are as in block.sh.
set -euo pipefail
# shellcheck source=scripts/bench-lib/rig/lab.sh
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lab.sh"

MEM=1G
# sockperf's largest message is 65507 bytes.
LOADS="ping-pong:64 throughput:64 throughput:256 throughput:1024 throughput:4096
    throughput:16384 throughput:65507"

net_vm() {
    local env=$1 round=$2 load words
    lab_up "$env" $MEM && lab_drivers net || return
    for load in $LOADS; do
        words="bench_sockperf ${load/:/ }"
        lab_guest 60 "$words 1 ${peer/:/ }" || return
        lab_measure 60 "$words $seconds ${peer/:/ }" || return
        # shellcheck disable=SC2046,SC2086  # words
        lab_row net env="$env" round="$round" load="${load%:*}" bytes="${load#*:}" \
            domain="$LAB_DOMAIN" ${VM_SAID[net]} $(lab_found)
    done
    lab_down
}

lab_rounds net_vm
