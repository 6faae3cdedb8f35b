#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the benchmarks on a host with VFIO share.  They run on the host of the VMs,
# a real one or L1 of the rig; rig-run calls them.  To be sourced.
#
# An environment is words joined by "+", the first of which is one of
#
#   none          no assigned device
#   virtio-blk, nvme
#                 none either, but an emulated disk
#   virtio-net, igb
#                 the same with a NIC, on QEMU's user network
#   static        the devices assigned, all memory pinned
#   coiommu, intel-iommu, virtio-iommu
#                 the devices assigned, and this in front of them
#
# and the others are
#
#   4k            guest memory in 4 KiB pages (else huge pages where they fit)
#   hugetlb       in huge pages that were set aside
#   prealloc      touched by QEMU before it starts
#   strict        the guest's kernel is told iommu.strict=1
#   NAME=VALUE    a property of the coIOMMU device
#
# Results are lines "TABLE key=value ..." in OUT/rows.  A line in OUT/problems is a thing
# that is not as it should be, one in OUT/notes only worth knowing.
#
# Functions that measure return 1 with a sentence in LAB_WHY when the VM died, and with
# LAB_WRONG=yes besides when something is wrong and it didn't just die.  They are called
# in conditions, where `set -e` does not reach, so they check each step.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/rig/vm.sh
. "$here/vm.sh"
# shellcheck source=scripts/rig/host.sh
. "$here/host.sh"
# shellcheck source=scripts/rig/measure.sh
. "$here/measure.sh"

LAB_THP=/sys/kernel/mm/transparent_hugepage/enabled
LAB_HUGE_PAGES=/proc/sys/vm/nr_hugepages
LAB_KVM=/sys/kernel/debug/kvm
LAB_COUNTERS="exits mmio_exits io_exits irq_exits halt_exits"
LAB_WHY='' LAB_WRONG=no LAB_MARK=''
declare -A LAB=()

envs='' guests='' rounds=1 seconds=5
while [ $# -gt 0 ]; do
    case $1 in
    --envs) envs=${2//,/ }; shift 2 ;;
    --guests) guests=${2//,/ }; shift 2 ;;
    --rounds) rounds=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    *) measure_option "$@"; shift "$WORDS" ;;
    esac
done
measure_begin
LAB_APPEND=$VM_APPEND
# Of the emulated disk; /tmp is memory in the rig.
LAB_DISK=$(mktemp /tmp/coiommu-bench.XXXXXX)
touch "$out"/{rows,problems,notes}

# The host's settings as they were.
lab_thp=$(sed 's/.*\[\(.*\)\].*/\1/' "$LAB_THP")
lab_huge_pages=$(cat "$LAB_HUGE_PAGES")
lab_restore() {
    vm_kill
    echo "$lab_thp" >"$LAB_THP"
    echo "$lab_huge_pages" >"$LAB_HUGE_PAGES"
    rm -f "$LAB_DISK"
}
trap lab_restore EXIT

# ---- what is told -------------------------------------------------------------

# lab_row TABLE KEY=VALUE...: a row, kept back until the VM has ended well.
lab_row() {
    echo "$*" >>"$out/rows.new"
}

# lab_try FUNCTION ARGUMENTS...: a measurement with a VM of its own.  In the rig,
# where TCG kills or stalls VMs now and then (docs/devel/rig.md), it gets a second
# chance, and there is a note of it; a guest that says that something failed, a QEMU
# that ends with an error, and faults get none.  There is a note, too, if the host
# hasn't the memory.
lab_try() {
    local try
    LAB_LACKS=''
    for try in first last; do
        : >"$out/rows.new"
        LAB_WHY="it ended early" LAB_WRONG=no LAB_MARK='' VM_CRASHED=''
        if "$@"; then
            cat "$out/rows.new" >>"$out/rows"
            return 0
        fi
        vm_kill
        [ -z "$VM_CRASHED" ] || LAB_WRONG=yes
        VM_SAMPLED=''
        _lab_faults || true
        echo "$*: $LAB_WHY"
        if [ -n "$LAB_LACKS" ]; then
            echo "left out: $*: $LAB_LACKS" >>"$out/notes"
            return 0
        fi
        [ $try = first ] && [ "$repeat" = yes ] && [ $LAB_WRONG = no ] || break
        echo "run twice: $*: $LAB_WHY" >>"$out/notes"
    done
    problem "$*: $LAB_WHY"
}

# lab_rounds FUNCTION: lab_try it with each environment and round.  The first two
# environments are compared with each other: they have a VM in each of ROUNDS rounds,
# in changing order, the others in every second one.
lab_rounds() {
    local round env list first second
    read -r first second _ <<<"$envs"
    for ((round = 1; round <= rounds; round++)); do
        list=$envs
        [ $((round % 2)) -eq 1 ] || list="$second $first"
        for env in $list; do
            tell "round $round of $rounds: $env"
            lab_try "$1" "$env" "$round"
        done
    done
}

# ---- a VM ---------------------------------------------------------------------

# lab_environment ENV MEM: QEMU's arguments in ARGS, the guest's in VM_APPEND, what
# the host's memory must be like in LAB_PAGES and LAB_HUGE.
lab_environment() {
    local word iommu='' properties='' backend='' assigned=yes
    LAB_PAGES=always LAB_HUGE=0 ARGS=()
    VM_APPEND=$LAB_APPEND
    for word in ${1//+/ }; do
        case $word in
        static) ;;
        none) assigned=no ;;
        virtio-blk) assigned=no && _lab_emulated_disk virtio-blk-pci ;;
        nvme) assigned=no && _lab_emulated_disk nvme,serial=emulated ;;
        virtio-net) assigned=no && _lab_emulated_nic virtio-net-pci ;;
        igb) assigned=no && _lab_emulated_nic igb ;;
        coiommu) iommu=coiommu,id=coi0 ;;
        intel-iommu)
            iommu=intel-iommu,intremap=on,caching-mode=on
            ARGS+=(-machine kernel-irqchip=split)
            VM_APPEND+=" intel_iommu=on"
            ;;
        virtio-iommu) iommu=virtio-iommu-pci ;;
        4k) LAB_PAGES=never ;;
        prealloc) backend=memory-backend-ram,prealloc=on ;;
        hugetlb)
            backend=memory-backend-memfd,hugetlb=on,hugetlbsize=2M
            LAB_HUGE=$(($(bytes "$2") >> 21))
            ;;
        strict) VM_APPEND+=" iommu.strict=1" ;;
        *=*) properties+=,$word ;;
        *) echo "there is no environment $1" >&2; exit 2 ;;
        esac
    done
    [ -z "$backend" ] || ARGS+=(-object "$backend,id=ram,size=$2" -machine memory-backend=ram)
    [ -z "$iommu" ] || ARGS+=(-device "$iommu$properties")
    [ $assigned = no ] || assign_devices
}

# _lab_emulated_disk DEVICE, _lab_emulated_nic DEVICE: QEMU's arguments for it, added to ARGS.
_lab_emulated_disk() {
    truncate -s 256M "$LAB_DISK"
    ARGS+=(-drive "file=$LAB_DISK,if=none,id=disk,format=raw,cache=unsafe"
        -device "$1,drive=disk")
}

# (Not the network that QEMU has by default: in the rig that's the host's own.)
_lab_emulated_nic() {
    ARGS+=(-netdev "user,id=lan,net=10.0.3.0/24" -device "$1,netdev=lan,romfile=")
}

# Make the host's memory what LAB_PAGES and LAB_HUGE say.
_lab_pages() {
    echo "$LAB_PAGES" >"$LAB_THP"
    echo "$lab_huge_pages" >"$LAB_HUGE_PAGES"
    [ "$LAB_HUGE" -eq 0 ] || _lab_set_aside || {
        echo 3 >/proc/sys/vm/drop_caches
        _lab_set_aside
    } || {
        LAB_LACKS="the host can't set $LAB_HUGE huge pages aside"
        return 1
    }
}

_lab_set_aside() {
    local pages=$((lab_huge_pages + LAB_HUGE))
    echo 1 >/proc/sys/vm/compact_memory
    echo $pages >"$LAB_HUGE_PAGES"
    [ "$(cat "$LAB_HUGE_PAGES")" -ge $pages ]
}

# lab_start ENV MEM: a VM of this environment, its CPU stopped.
lab_start() {
    LAB_ENV=$1 LAB_MEM=$2
    lab_environment "$1" "$2"
    _lab_pages || return
    LAB_MARK="$1 $2 $$ $EPOCHREALTIME"
    host_mark "$LAB_MARK"
    vm_start "${1//[+=]/-}-$2" "$2" "${ARGS[@]}" && return 0
    LAB_WHY="QEMU doesn't start: $VM_ERROR $(tail -n 1 "$VM_LOGS/${1//[+=]/-}-$2.qemu")"
    return 1
}

# lab_boot: let it boot; LAB_INIT_US is from QEMU's start to its init.  Then the
# guest's IOMMU is there, but no driver of an assigned device.
lab_boot() {
    local now
    LAB_WHY="the guest doesn't boot"
    vm_boot 180 || return
    vm_now now
    LAB_INIT_US=$((now - VM_STARTED_US))
    lab_guest 30 ". /rig/guest-bench.sh && bench_iommu"
}

# lab_up ENV MEM: lab_start and lab_boot.
lab_up() {
    lab_start "$@" && lab_boot
}

# lab_guest SECONDS COMMAND: have the guest run it; 1 if it fails.
lab_guest() {
    vm_run "$@" && return 0
    LAB_WHY="'$2': $VM_SILENT"
    [ -n "$VM_SILENT" ] || LAB_WHY="the guest's '$2' failed" LAB_WRONG=yes
    return 1
}

# What lab_drivers is to be told of the assigned devices, on stdout.
lab_kinds() {
    local bdf
    for bdf in $devices; do
        case $(host_kind "$bdf") in
        nvme) echo disk ;;
        net) echo net ;;
        esac
    done
}

# lab_drivers KIND...: the drivers of the assigned devices of these kinds (disk, net),
# and how their DMA is mapped in LAB_DOMAIN.
lab_drivers() {
    local kind
    for kind in "$@"; do
        lab_guest 90 "bench_$kind" || return
    done
    LAB_DOMAIN=${VM_SAID[domain]:--}
}

# End the VM, if its guest's kernel and the host's IOMMU have no complaint.
lab_down() {
    lab_guest 20 guest_dmesg_ok && _lab_end && LAB_WHY='' && _lab_faults
}

_lab_end() {
    vm_quit || {
        LAB_WHY="QEMU ended with status $VM_STATUS" LAB_WRONG=yes
        return 1
    }
    echo "$lab_huge_pages" >"$LAB_HUGE_PAGES"
}

# Has the host's IOMMU nothing to complain of since the VM's start?
_lab_faults() {
    local faults
    [ -n "$LAB_MARK" ] || return 0
    faults=$(host_faults "$LAB_MARK") || faults=unknown
    LAB_MARK=''
    [ "$faults" != 0 ] || return 0
    LAB_WHY="$faults IOMMU faults in the host's log${LAB_WHY:+; $LAB_WHY}" LAB_WRONG=yes
    return 1
}

# ---- counting -----------------------------------------------------------------

# lab_get PROPERTY: of the coIOMMU device, or "-", in LAB_VALUE.
lab_get() {
    LAB_VALUE=-
    [[ $LAB_ENV == coiommu* ]] || return 0
    LAB_WHY="no answer to $1"
    vm_get coi0 "$1" || return
    LAB_VALUE=$VM_RETURN
}

# What KVM has counted for the VM, and what CPU time QEMU has had, times $1 and added
# to the figures in LAB.
_lab_counters() {
    local sign=$1 name value now stat
    for name in $LAB_COUNTERS; do
        read -r value <"$LAB_VM/$name" || return
        LAB[$name]=$((${LAB[$name]:-0} + sign * value))
    done
    read -r stat <"/proc/$VM_PID/stat" || return
    # Behind the name, which may have blanks: user and system time.
    read -ra stat <<<"${stat##*) }"
    LAB[cpu]=$((${LAB[cpu]:-0} + sign * (stat[11] + stat[12])))
    vm_now now
    LAB[us]=$((${LAB[us]:-0} + sign * now))
}

# lab_measure SECONDS COMMAND: have the guest run it, and put into LAB how much each
# of LAB_COUNTERS, cpu (ticks of 10 ms), us, requests and pins (of coIOMMU) have
# grown.
lab_measure() {
    local requests pins
    LAB=()
    for LAB_VM in "$LAB_KVM/$VM_PID"-*; do :; done
    LAB_WHY="KVM's counters aren't in $LAB_KVM: is debugfs mounted?"
    [ -r "$LAB_VM/exits" ] || return
    lab_get requests || return
    requests=$LAB_VALUE
    lab_get demand-pin-requests || return
    pins=$LAB_VALUE
    _lab_counters -1 || return
    lab_guest "$1" "$2" || return
    _lab_counters 1 || return
    LAB[requests]=- LAB[pins]=-
    [[ $LAB_ENV == coiommu* ]] || return 0
    lab_get requests || return
    LAB[requests]=$((LAB_VALUE - requests))
    lab_get demand-pin-requests || return
    LAB[pins]=$((LAB_VALUE - pins))
}

# What lab_measure has found, as a row's cells, on stdout.
lab_found() {
    local name
    for name in $LAB_COUNTERS cpu us requests pins; do
        printf '%s=%s ' "$name" "${LAB[$name]}"
    done
}

# ---- watching -----------------------------------------------------------------

# lab_note TABLE CELLS: a row with what is pinned, with the host's free memory, and with
# what lab_refresh has found; five times a second at most.  No QMP in it: vm.sh may call
# it at any time (VM_SAMPLED).
lab_note() {
    local now key value free
    vm_now now
    [ $((now - LAB_NOTED)) -ge 200000 ] || return 0
    LAB_NOTED=$now
    while read -r key value _; do
        [ "$key" != MemAvailable: ] || free=$value
    done </proc/meminfo
    now=$(((now - LAB_BEGIN) / 1000))
    lab_row "$* ms=$now pinned=$VM_PINNED free=$((free * 1024)) mapped=$LAB_MAPPED" \
        "pins=$LAB_PINS requests=$LAB_REQUESTS"
}

# The clock of lab_note starts.
lab_begin() {
    vm_now LAB_BEGIN
    LAB_NOTED=0 LAB_MAPPED=- LAB_PINS=- LAB_REQUESTS=-
}

# Ask coIOMMU: bytes in blocks that are mapped, and what was asked of it so far.
lab_refresh() {
    lab_get mapped-bytes || return
    LAB_MAPPED=$LAB_VALUE
    lab_get demand-pin-requests || return
    LAB_PINS=$LAB_VALUE
    lab_get requests || return
    LAB_REQUESTS=$LAB_VALUE
}

# lab_watch SECONDS: lab_refresh, while the guest does what it does.
lab_watch() {
    local now end
    vm_now now
    end=$((now + $1 * 1000000))
    while [ "$now" -lt "$end" ]; do
        lab_refresh || return
        sleep 0.25
        vm_sample
        vm_now now
    done
}

# lab_wait SECONDS: the same, nothing asked.
lab_wait() {
    local now end
    vm_now now
    end=$((now + $1 * 1000000))
    while [ "$now" -lt "$end" ]; do
        sleep 0.1
        vm_sample
        vm_now now
    done
}
