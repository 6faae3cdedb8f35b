#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Scenarios of lab.sh about what is pinned: to which account of the kernel it goes,
# and in which blocks.  Sourced by lab.sh, whose helpers they use.
# shellcheck disable=SC2154  # variables of lab.sh

# A line of the kernel's account of the VM, in bytes.
account() {
    awk -v key="$1:" '$1 == key { print $2 * 1024 }' "/proc/$VM_PID/status"
}

# compared MODE ARGUMENTS...: a VM in which both devices work, and what it has pinned.
compared() {
    local mode=$1 ready
    vm_up "compare-$mode" "$MEM" "${@:2}" || fail "$VM_ERROR $(cat "$VM_LOGS/compare-$mode.qemu")"
    ready=$VM_READY_US
    vm_run 300 "guest_nvme 0"
    vm_run 300 "guest_net $PEER"
    vm_run 120 guest_dmesg_ok
    vm_sample
    [ "$(account VmLck)" -eq 0 ] || fail "memory is charged to VmLck, so this isn't iommufd"
    [ "$(account VmPin)" -eq "$VM_PINNED" ] || fail "VmPin isn't $VM_PINNED"
    [ "$mode" = static ] || expect_consistent
    echo "cost: $mode: ready in $((ready / 1000)) ms, VmPin $((VM_PEAK >> 10)) KiB at the" \
        "peak and $((VM_PINNED >> 10)) at the end, I/O in ${VM_SAID[io_cs]} cs"
    vm_quit
}

# Static pinning next to coIOMMU, by iommufd.  (By type1 it is the demo that does it.)
compare() {
    local bytes=$((${MEM%M} << 20))
    [ ! -e /dev/vfio/vfio ] || fail "this host has VFIO's own containers"
    compared static "${assigned[@]}"
    [ "$VM_PEAK" -ge "$bytes" ] || fail "static pinning has pinned $VM_PEAK bytes only"
    compared coiommu "${coiommu[@]}" "${assigned[@]}"
    [ "$VM_PEAK" -gt 0 ] && [ "$VM_PEAK" -lt $((bytes / 4)) ] ||
        fail "coIOMMU has pinned $VM_PEAK bytes"
}

# The block is computed from how many mappings the host's IOMMU holds: type1 65535, of
# which 256 GiB may take half, iommufd as many as one likes.
block_size() {
    local shift=24 words
    [ "$backend" = type1 ] || shift=21
    vm_start block_size 512M,maxmem=256G,slots=1 -trace coiommu_machine_done \
        "${coiommu[@]}" "${assigned[@]}" || fail "$(cat "$VM_LOGS/block_size.qemu")"
    vm_quit
    words=$(grep machine_done "$VM_LOGS/block_size.qemu")
    echo "$words"
    [[ $words == *"block shift $shift,"* ]] || fail "the block isn't $((1 << (shift - 20))) MiB"
}
