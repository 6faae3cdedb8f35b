# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# How lab.sh runs a scenario, and when it runs one again.  Sourced by lab.sh, and by
# tests/system/run to test that.
#
# TCG's SVM kills or stalls VMs now and then, with static pinning as well
# (docs/devel/rig.md).  So a scenario that has failed and whose VM has fallen silent
# gets a second try, as rows of the demo do; a line "twice: ..." in its log says why, and
# the level shows that.  A check that failed, a QEMU that ended with an error and faults
# of the host's IOMMU never get one, and the second try is the last.
# shellcheck disable=SC2154  # variables of lab.sh

# Scenarios that look at the host's log themselves: they cause faults on purpose, or
# write so much that the log loses its beginning.  Their faults say nothing, so they
# get one try.
FAULTY=" wrong_dma hostile soak soak_short "

# lab_try SCENARIO: run it, with what it says on stdout; its status in STATUS.
lab_try() {
    rm -f "$VM_LOGS/silent"
    host_mark "$1"
    # Not `( ... ) || STATUS=$?`: that would switch `set -e` off inside.
    (
        set -e
        trap vm_kill EXIT
        "$1"
        [[ $FAULTY == *" $1 "* ]] || expect_quiet_host "$1"
    ) 2>&1
    STATUS=$?
    host_log "$1"
}

# May a scenario that has failed be tried again?
lab_may_repeat() {
    [[ $FAULTY != *" $1 "* ]] && [ -s "$VM_LOGS/silent" ] && [ "$(host_faults "$1")" = 0 ]
}

# lab_scenario SCENARIO: run it, and once more if need be.
lab_scenario() {
    lab_try "$1"
    if [ $STATUS -ne 0 ] && lab_may_repeat "$1"; then
        echo "twice: $(tail -n 1 "$VM_LOGS/silent")"
        lab_try "$1"
    fi
}
