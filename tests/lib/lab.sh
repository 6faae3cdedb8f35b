# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Scenarios on the rig's host (tests/system/lab*.sh) as tests of a level: all are
# run in one boot of it, and each is a test, whose line comes when it ends.  Sourced
# after tap.sh and all that scripts/lib/rig.sh wants.

LAB_SCRIPTS=$COIOMMU_TOP/tests/system

# lab_ready [KVER]: QEMU and the images, with this kernel for the host (the default:
# the guest's).  The rig is ours from now on.
lab_ready() {
    local module kver
    kver=$(kernel_default)
    module=$("$COIOMMU_TOP/scripts/guest-build" --image "$kver")
    RIG_QEMU=$("$COIOMMU_TOP/scripts/qemu-build" --rig)
    need_packages rig
    rig_lock
    tap_slot
    rig_guest_image "$kver" "$module"
    rig_l1_image "${1:-$kver}"
}

# lab_tools JOB: what some scenarios want in the guest besides its image, as an archive to
# be put after that: the programs of tools/, one for kexec, and a kernel for it.
lab_tools() {
    local dir=$COIOMMU_BUILD/lab-tools source
    rm -rf "$dir"
    mkdir -p "$dir/bin"
    for source in "$LAB_SCRIPTS"/tools/*.c "$COIOMMU_TOP/tests/guest/kexec.c"; do
        gcc -O2 -Wall -Werror -static -o "$dir/bin/$(basename "$source" .c)" "$source"
    done
    cp "$(kernel_image "$(kernel_default)")" "$dir/vmlinuz"
    pack_cpio "$dir" "$1/tools.cpio"
    cp "$dir/vmlinuz" "$1/"
    rm -r "$dir"
}

# lab_fio JOB: an archive of Debian's fio with its libraries, which are large.
lab_fio() {
    local dir=$COIOMMU_BUILD/lab-fio
    need_packages fio
    rm -rf "$dir"
    mkdir -p "$dir"/{bin,lib}
    programs_into "$dir" "$(command -v fio)"
    pack_cpio "$dir" "$1/fio.cpio"
    rm -r "$dir"
}

# lab_job NAME SETTINGS SCENARIO...: a job of L1 that runs the scenarios with these
# settings (words NAME=VALUE, see lab.sh), with the demo's verdict, the tools, and the disk
# as L0 has it, a witness of what was written; its folder on stdout.
lab_job() {
    local job
    job=$(rig_job "$1")
    cp "$LAB_SCRIPTS"/lab*.sh "$COIOMMU_TOP/scripts/lib/report.sh" \
        "$RIG_SCRIPTS/net-peer.sh" "$job/"
    ln "$job.disk" "$job/disk"
    lab_tools "$job"
    cat >"$job/run" <<JOB
export LAB_PEER=$RIG_PEER $2
exec /job/lab.sh ${*:3}
JOB
    echo "$job"
}

# lab_has_run NAME SCENARIO...: has each of them?
lab_has_run() {
    local scenario
    for scenario in "${@:2}"; do
        [ -s "$RIG/jobs/$1/results/$scenario" ] || return 1
    done
}

# lab_run NAME SECONDS SCENARIO...: boot L1 for the job.  Passes if each of the
# scenarios has run, whatever came out.  An L1 that dies before that, which TCG
# may bring about as it does with L1's VMs, is booted once more for the rest; a line
# "twice: ..." tells of it.
lab_run() {
    local log=$COIOMMU_LOGS/$1 rc=0
    rig_run "$1" 2560 "$2" || rc=$?
    if ! lab_has_run "$1" "${@:3}"; then
        mv "$log.l1.log" "$log.first.l1.log"
        mv "$log.l0.log" "$log.first.l0.log"
        echo "twice: the host died (status $rc), see $log.first.*.log"
        rm -f "$RIG/jobs/$1/status"
        rc=0
        rig_run "$1" 2560 "$2" || rc=$?
    fi
    [ $rc -eq 0 ] && lab_has_run "$1" "${@:3}"
}

# lab_result NAME SCENARIO: what came out, as a test's status and log.  Waits until
# the scenario has run or the test "lab", which runs it, has ended.
lab_result() {
    local results=$RIG/jobs/$1/results
    until [ -s "$results/$2" ]; do
        # Once more afterwards: it may have come just before the end.
        ! tap_ended lab || [ -s "$results/$2" ] ||
            { echo "the host didn't get to it"; return 1; }
        sleep 0.2
    done
    cat "$results/$2.log"
    return "$(cat "$results/$2")"
}

# lab_shows SCENARIO: the first sentence of its comment.
lab_shows() {
    awk -v begin="$1() {" '
        /^#/ { text = text (text ? " " : "") substr($0, 3); next }
        $0 == begin { sub(/[.;] .*|[.;]$/, "", text); print text; exit }
        { text = "" }' "$LAB_SCRIPTS"/lab*.sh
}

# lab_tests NAME TEST SCENARIO...: the function TEST runs those scenarios that were
# asked for, as job NAME and as the test "lab"; each of the scenarios is a test as well,
# by tap_extra if it begins with "+".  The order must be that in which TEST runs them.
# What an earlier run has left of the job must have gone by then.
lab_tests() {
    local scenario kind
    tap_beside lab "the host boots, and runs those that follow" "$2"
    for scenario in "${@:3}"; do
        kind=free
        [[ $scenario != +* ]] || kind=extra
        scenario=${scenario#+}
        "tap_$kind" "$scenario" "$(lab_shows "$scenario")" lab_result "$1" "$scenario"
        tap_kind[$scenario]=free
    done
}
