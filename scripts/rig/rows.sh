#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The demo's measurements, on a host with VFIO: the same on a user's machine
# and in the rig's L1.  There are two parts, and --part NAME does one of them only:
#
#   ready  starts of each row's VM, for the time to ready; a line for each in OUT/ready
#   io     I/O in each row's guest; a line for each in OUT/rows
#
# The lines are "key=value" words; lib/report.sh joins them.  A line in OUT/problems
# is a thing that is not as it should be.  The modes of the rows:
#
#   none     no assigned device: what QEMU itself takes to start
#   static   vfio-pci alone: all of the guest's memory is pinned up front
#   coiommu  vfio-pci with the coIOMMU device
#
# With --iommufd devices are assigned by iommufd.
#
# Starts for the ready times are taken in turns, so that a noisy minute doesn't
# meet one mode alone.  For its I/O a guest boots once.  With --rows LIST only these
# rows do I/O, a list of MODE and MODE:SIZE: the rig shares them out between two hosts.
#
# Options that the benchmarks take as well, and the environment: see measure.sh.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/rig/vm.sh
. "$here/vm.sh"
# shellcheck source=scripts/rig/host.sh
. "$here/host.sh"
# shellcheck source=scripts/rig/measure.sh
. "$here/measure.sh"

keep=''
trials=3
parts='ready io'
wanted='none static coiommu'
while [ $# -gt 0 ]; do
    case $1 in
    --keep) keep=$2; shift 2 ;;
    --trials) trials=$2; shift 2 ;;
    --part) parts=$2; shift 2 ;;
    --rows) wanted=${2//,/ }; shift 2 ;;
    *) measure_option "$@"; shift "$WORDS" ;;
    esac
done
measure_begin
# Another part may have been here before.
touch "$out"/{ready,rows,problems,repeated}
trap vm_kill EXIT

# QEMU's arguments for the devices of a mode, in ARGS.
mode_arguments() {
    ARGS=()
    [ "$1" != none ] || return 0
    [ "$1" != coiommu ] || ARGS+=(-device "coiommu,id=coi0")
    assign_devices
}

# ---- ready times ------------------------------------------------------------

declare -A ready=()

trial_start() {
    vm_start "start-$1-$2" "$2" "${ARGS[@]}" && return 0
    echo "$1 $2: QEMU doesn't start: ${VM_ERROR:-}" \
        "$(tail -n 1 "$VM_LOGS/start-$1-$2.qemu")"
    return 1
}

# One start and stop.  In an emulated host a QEMU sits there now and then and
# answers nothing, whatever its devices: with --repeat it gets a second chance.
trial() {
    local mode=$1 size=$2 said
    mode_arguments "$mode"
    if ! trial_start "$mode" "$size" >"$out/said"; then
        said=$(cat "$out/said")
        if [ "$repeat" = no ] || [ -n "$VM_CRASHED" ] ||
            ! trial_start "$mode" "$size" >"$out/said"; then
            problem "$said"
            return 0
        fi
        echo "$said" >>"$out/repeated"
    fi
    ready[$mode-$size]+="$VM_READY_US "
    vm_quit || problem "$mode $size: QEMU ended with status $VM_STATUS"
}

# Do the starts of a row differ by more than a quarter?
noisy() {
    tr ' ' '\n' <<<"${ready[$1-$2]:-}" | sed '/^$/d' | sort -n |
        awk '{ v[NR] = $1 } END { exit !(NR && v[NR] > 1.25 * v[1]) }'
}

# Start all rows in turns.  Then, where the starts differ much, start again
# those that are compared with each other and cost little: whether there are
# more rounds depends on the noise, not on which row is ahead.
measure_ready() {
    local t r again
    tell "time to ready: a first start to warm up"
    # shellcheck disable=SC2086  # two words
    trial ${rows[-2]}
    ready=()
    for ((t = 1; t <= trials; t++)); do
        tell "time to ready, start $t of $trials of each of ${#rows[@]} rows"
        for r in "${rows[@]}"; do
            # shellcheck disable=SC2086
            trial $r
        done
    done
    for ((; t <= 2 * trials + 1; t++)); do
        again=no
        for r in "${rows[@]}"; do
            # shellcheck disable=SC2086
            [[ $r != coiommu* ]] || ! noisy $r || again=yes
        done
        [ $again = yes ] || return 0
        tell "time to ready, start $t: the times differ much"
        for r in "${rows[@]}"; do
            # shellcheck disable=SC2086
            [[ $r == static* && $r != "static 128M" ]] || trial $r
        done
    done
}

# What the starts have shown, in microseconds.
write_ready() {
    local r starts
    for r in "${rows[@]}"; do
        starts=${ready[${r/ /-}]:-}
        starts=${starts% }
        echo "mode=${r% *} mem=$(bytes "${r#* }") starts=${starts// /,}"
    done >"$out/ready"
}

# ---- one row ----------------------------------------------------------------

# Each kind of device once; the outcome, 1 or 0, in NVME_OK and NET_OK, "-" if
# there is no such device.
guest_tests() {
    local slot=$1 bdf kind
    NVME_OK=- NET_OK=-
    # The link comes up while the disk is tested.
    for bdf in $devices; do
        [ "$(host_kind "$bdf")" != net ] || vm_run 120 guest_nic_start || true
    done
    for bdf in $devices; do
        kind=$(host_kind "$bdf")
        case $kind in
        nvme)
            NVME_OK=1
            if [ "$destroy" = yes ]; then
                vm_run 300 "guest_nvme $slot" || NVME_OK=0
            else
                vm_run 300 guest_nvme_readonly || NVME_OK=0
            fi
            ;;
        net)
            NET_OK=1
            vm_run 300 "guest_net $peer" || NET_OK=0
            ;;
        esac
    done
}

# Counters of the device; they must agree with what the kernel says is locked.
counters() {
    local mode=$1 size=$2 counted
    DEMAND=- BLOCKS=-
    [ "$mode" = coiommu ] || return 0
    vm_get coi0 demand-pin-requests && DEMAND=$VM_RETURN
    vm_get coi0 demand-pin-blocks && BLOCKS=$VM_RETURN
    vm_get coi0 pinned-bytes-peak
    counted=$VM_RETURN
    # Between two samples more may have been pinned than was seen.
    [ "$counted" -le "$VM_PEAK" ] || VM_PEAK=$counted
    vm_accounts_agree coi0 $((2 << 20)) ||
        problem "$mode $size: the device counts ${VM_RETURN:-?} bytes pinned, the kernel" \
            "$VM_PINNED"
}

# The guest of a row has booted: its tests, and what they left pinned.
test_row() {
    local mode=$1 size=$2 slot=$3 want=absent
    [ "$mode" != coiommu ] || want=bound
    [ "${VM_SAID[coiommu]:-}" = $want ] ||
        problem "$mode $size: the guest's coiommu is '${VM_SAID[coiommu]:-}', not '$want'"
    guest_tests "$slot"
    vm_run 120 guest_dmesg_ok || problem "$mode $size: the guest's kernel complains"
    vm_sample
    FINAL=$VM_PINNED
    counters "$mode" "$size"
    PEAK=$VM_PEAK
    IO=${VM_SAID[io_cs]:--} BOOTED=${VM_SAID[booted]:--}
    if [ -n "${VM_SAID[nvme_raw]:-}" ]; then
        echo "${VM_SAID[nvme_raw]}" >>"$out/disk-sums"
    fi
}

# The end of a row's VM; with --keep, coIOMMU's guest is the user's first.
end_row() {
    if [ -n "$keep" ] && [ "$1" = coiommu ]; then
        tell "$1, $2: a shell in the guest; 'exit' ends it"
        vm_shell "$keep"
    elif ! vm_quit; then
        problem "$1 $2: QEMU ended with status $VM_STATUS"
    fi
}

# row_is_final FAULTS: of a VM that didn't come up or stopped answering: does QEMU, or the
# host's IOMMU, say that something is wrong?  If not, TCG may be the reason.
row_is_final() {
    [ "$1" != 0 ] || [ -n "$VM_CRASHED" ]
}

# Run a row's VM.  Returns 1 if it may be run once more.
row_once() {
    local mode=$1 size=$2 slot=$3 mark faults start=vm_up
    local what="booting the guest, I/O on its devices"
    local FINAL=0 PEAK=0 DEMAND=- BLOCKS=- NVME_OK=- NET_OK=- IO=- BOOTED=-
    mark="row $mode $size $$ $SECONDS"
    if [ "$mode" = none ]; then
        start=vm_start what="nothing to test without a device"
    fi
    host_mark "$mark"
    mode_arguments "$mode"
    tell "$mode, $size: $what"
    if ! $start "$mode-$size" "$size" "${ARGS[@]}"; then
        problem "$mode $size: $VM_ERROR" \
            "$(tail -n 1 "$VM_LOGS/$mode-$size.qemu")"
        vm_kill
        row_is_final 0
        return
    fi
    FINAL=$VM_PINNED PEAK=$VM_PEAK
    [ "$mode" = none ] || test_row "$mode" "$size" "$slot"
    if [ -n "$VM_SILENT" ]; then
        problem "$mode $size: $VM_SILENT"
        vm_kill
        faults=$(host_faults "$mark") || faults=unknown
        [ "$faults" = 0 ] || problem "$mode $size: the host's log shows $faults IOMMU faults"
        row_is_final "$faults"
        return
    fi
    end_row "$mode" "$size"
    faults=$(host_faults "$mark") ||
        problem "$mode $size: the kernel's log is too short to count faults"
    host_log "$mark" >"$VM_LOGS/$mode-$size.host-dmesg"
    echo "mode=$mode mem=$(bytes "$size") peak=$PEAK final=$FINAL demand=$DEMAND" \
        "blocks=$BLOCKS nvme=$NVME_OK net=$NET_OK io_cs=$IO booted=$BOOTED" \
        "faults=$faults" >>"$out/rows"
}

# A row, and with --repeat, for an emulated host, a second time if its VM died.
# TCG's SVM kills guests now and then, with static pinning as well
# (docs/devel/rig.md).  What was off the first time goes to OUT/repeated, and the
# demo shows it; wrong data, faults or a QEMU that crashed are never a reason to repeat.
row() {
    local before
    before=$(wc -l <"$out/problems")
    row_once "$@" && return 0
    [ "$repeat" = yes ] || return 0
    tail -n +$((before + 1)) "$out/problems" >>"$out/repeated"
    head -n "$before" "$out/problems" >"$out/problems.before"
    mv "$out/problems.before" "$out/problems"
    [ ! -f "$out/disk-sums" ] || sed -i "/^$3 /d" "$out/disk-sums"
    tell "$1, $2: the VM died; once more"
    row_once "$@" || true
}

# ---- all of them ------------------------------------------------------------

rows=("none 128M" "static 128M")
for size in $sizes; do
    rows+=("static $size" "coiommu $size")
done

if [[ " $parts " == *" ready "* ]]; then
    measure_ready
    write_ready
fi
if [[ " $parts " == *" io "* ]]; then
    slot=0
    for r in "${rows[@]}"; do
        # shellcheck disable=SC2086
        [[ " $wanted " != *" ${r% *} "* && " $wanted " != *" ${r/ /:} "* ]] ||
            row $r $slot
        slot=$((slot + 1))
    done
fi
