# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Tests of what runs the scenarios (lab-tries.sh, tests/lib/lab.sh), with functions in
# place of VMs and hosts: what is tried a second time, and what is not; and that each
# scenario's line comes when it ends.  Sourced by tests/system/run.

# A scenario's second try: for a VM that has fallen silent and nothing else.
test_tries() (
    . "$COIOMMU_TOP/tests/system/lab-tries.sh"
    # shellcheck disable=SC2034  # lab_try's
    VM_LOGS=$(mktemp -d) faults=0
    # shellcheck disable=SC2317  # called by lab_try
    {
        host_mark() { echo try; }
        host_log() { :; }
        host_faults() { echo "$faults"; }
        vm_kill() { :; }
        expect_quiet_host() { :; }
        silent() {
            echo "vm: is silent" >"$VM_LOGS/silent"
            false
            echo "went on"
        }
        good() { :; }
        wrong() { exit 1; }
        hostile() { silent; }
        noisy() { expect_quiet_host() { false; }; }
        once_silent() {
            [ -e "$VM_LOGS/been-here" ] || { touch "$VM_LOGS/been-here"; silent; }
        }
    }
    # outcome SCENARIO STATUS TRIES: that is what comes of it.
    outcome() {
        local said tries
        # Not in a subshell, as in lab.sh, and `set -e` must not end this at once.
        set +e
        lab_scenario "$1" >"$VM_LOGS/said"
        set -e
        said=$(cat "$VM_LOGS/said")
        tries=$(grep -cx try <<<"$said")
        echo "$1: status $STATUS after $tries tries: $said"
        [ "$STATUS" -eq "$2" ] && [ "$tries" -eq "$3" ] && [[ $said != *"went on"* ]] &&
            [ "$(grep -cx 'twice: vm: is silent' "$VM_LOGS/said")" -eq $(($3 - 1)) ]
    }
    outcome good 0 1
    outcome wrong 1 1
    outcome noisy 1 1
    outcome silent 1 2
    outcome once_silent 0 2
    outcome hostile 1 1
    outcome wrong 1 1
    # shellcheck disable=SC2034  # host_faults'
    faults=1
    outcome silent 1 1
    rm -r "$VM_LOGS"
)

# What vm.sh says of a VM that ends or falls silent; only the latter is TCG's.
test_vm_ends() (
    . "$COIOMMU_TOP/scripts/rig/vm.sh"
    VM_LOGS=$(mktemp -d)
    # In place of QEMU: it answers some commands and ends.
    cat >"$VM_LOGS/qemu" <<'END'
#!/bin/bash
for arg; do [[ $arg != *,path=*/qmp ]] || qmp=${arg##*path=}; done
exec 3<"$qmp.in" 4>"$qmp.out"
for ((; ANSWERS--; )); do read -r _ <&3; echo '{"return": {}}' >&4; done
[ "$PAUSE" -eq 0 ] || exec sleep "$PAUSE"
exit "$STATUS"
END
    chmod +x "$VM_LOGS/qemu"
    # shellcheck disable=SC2034  # vm.sh's
    VM_QEMU=("$VM_LOGS/qemu") VM_KERNEL='' VM_INITRD='' VM_QMP_TIMEOUT_US=1000000
    # outcome ANSWERS PAUSE STATUS STARTS CRASHED SILENT: what vm_start returns, and what
    # is known at the end.
    outcome() {
        local rc=0
        rm -f "$VM_LOGS/silent"
        ANSWERS=$1 PAUSE=$2 STATUS=$3 vm_start it 1M || rc=$?
        [ $rc -ne 0 ] || ! vm_wait booted 1 || return
        echo "$*: started $rc, crashed '$VM_CRASHED', silent '$VM_SILENT'"
        [ $rc -eq "$4" ] && [ "$VM_CRASHED" = "$5" ] &&
            [ "$(cat "$VM_LOGS/silent" 2>/dev/null)" = "$6" ] &&
            { [ -z "$6" ] || [ "$6" = "it: $VM_SILENT" ]; } || return
        vm_kill
    }
    outcome 2 0 0 0 '' "it: QEMU ended before the guest reported 'booted'"
    outcome 2 0 139 0 yes ''
    outcome 2 60 0 0 '' "it: the guest didn't report 'booted' in 1 s"
    outcome 0 0 1 1 yes ''
    outcome 0 60 0 1 '' "it: QEMU doesn't answer"
    rm -r "$VM_LOGS"
)

# A host that dies is booted once more, for the scenarios that it hasn't run.
test_host_dies() (
    COIOMMU_LOGS=$(mktemp -d) RIG=$COIOMMU_LOGS
    # shellcheck disable=SC2317  # called by lab_run
    rig_run() {
        touch "$COIOMMU_LOGS/$1".{l0,l1}.log
        boots=$((boots + 1))
        local results=$RIG/jobs/$1/results
        mkdir -p "$results"
        if [ "$boots" -le "$deaths" ]; then
            echo 0 >"$results/one"
            return 1
        fi
        echo 0 | tee "$results/one" "$results/two" >/dev/null
    }
    # outcome STATUS BOOTS: of a host that dies so many times.
    outcome() {
        local rc=0 boots=0
        rm -rf "$RIG/jobs"
        lab_run it 10 one two >"$COIOMMU_LOGS/said" || rc=$?
        cat "$COIOMMU_LOGS/said"
        [ $rc -eq "$1" ] && [ "$boots" -eq "$2" ] &&
            [ "$(grep -c '^twice: the host died' "$COIOMMU_LOGS/said")" -eq $(($2 - 1)) ]
    }
    deaths=0 && outcome 0 1
    deaths=1 && outcome 0 2
    deaths=2 && outcome 1 2
    rm -r "$COIOMMU_LOGS"
)

# A scenario's line comes as soon as it has ended, with what was tried twice, and the
# level counts each, also if the host dies or not all were asked for.
test_lines() (
    COIOMMU_LOGS=$(mktemp -d) RIG=$COIOMMU_LOGS
    # In place of a host: it goes on when the last scenario's line is there.
    # shellcheck disable=SC2317  # called by lab_tests
    host() {
        local results=$RIG/jobs/it/results scenario looks
        mkdir -p "$results"
        for scenario in $runs; do
            echo "twice: $scenario" >"$results/$scenario.log"
            case $scenario in two) echo 1 ;; *) echo 0 ;; esac >"$results/$scenario"
            looks=0
            until grep -q "ok [0-9] - $scenario (" "$COIOMMU_LOGS/said"; do
                [ $((looks++)) -lt 600 ] || return 1
                sleep 0.1
            done
        done
        [[ $runs == *three ]]
    }
    # shellcheck disable=SC2317,SC2154  # called by tap_run
    tap_remarks() { sed -n 's/^twice: /# &/p' "$tap_logs/$1.log"; }
    # outcome RUNS ONLY LINE...: of a host that runs those when these were asked for.
    outcome() {
        local runs=$1 TAP_ONLY=$2 tap_names=() tap_jobs=2
        tap_level it
        lab_tests it host one two three
        rm -rf "$RIG/jobs"
        tap_run >"$COIOMMU_LOGS/said" || true
        cat "$COIOMMU_LOGS/said"
        [ "$(printf '%s\n' "${@:3}")" = "$(grep -v '^# [|e]\|^1\.\.' \
            "$COIOMMU_LOGS/said" | sed 's/ ([0-9]* s)$//')" ]
    }
    outcome "one two three" "" "ok 1 - one" "# twice: one" "not ok 2 - two" \
        "# twice: two" "ok 3 - three" "# twice: three" "ok 4 - lab"
    outcome "one" "" "ok 1 - one" "# twice: one" "not ok 2 - two" "not ok 3 - three" \
        "not ok 4 - lab"
    outcome "three" "three lab" "ok 1 - three" "# twice: three" "ok 2 - lab"
    outcome "" "other"
    rm -r "$COIOMMU_LOGS"
)
