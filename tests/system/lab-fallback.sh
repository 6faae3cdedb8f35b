# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Scenarios about devices that are used without the guest's coiommu driver; part
# of lab.sh.
# shellcheck disable=SC2154  # variables of lab.sh

# All of the guest's memory is pinned, by the device's account and the kernel's.
expect_all_pinned() {
    counter fallback-bytes
    # MEM without the legacy hole.
    [ "$VALUE" -eq $(((${MEM%M} << 20) - 0x60000)) ] || fail "not all memory is pinned"
    expect_consistent
}

# A guest that has never heard of coIOMMU: as with plain VFIO.
unaware() {
    VM_APPEND+=" module_blacklist=coiommu"
    vm_up unaware "$MEM" "${coiommu[@]}" "${assigned[@]}" || fail "$VM_ERROR"
    [ "${VM_SAID[coiommu]}" = unbound ] || fail "the module has been loaded"
    counter fallback-pins
    [ "$VALUE" -eq 0 ] || fail "something did DMA before there was a driver"
    expect_unpinned
    vm_run 300 "guest_nvme 0"
    expect_devices 0 1
    expect_all_pinned
    vm_run 300 guest_net
    expect_devices 0 2
    expect_all_pinned
    counter fallback-pin-ns
    echo "cost: $((VALUE / 1000)) us to pin all of $MEM for a guest without the driver"
    vm_run 120 guest_dmesg_ok
    vm_run 120 'pci_of_class 0x0108 >/sys/bus/pci/drivers/nvme/unbind'
    expect_devices 0 1
    expect_all_pinned
    vm_run 120 guest_unbind
    expect_unpinned
    vm_quit
    grep 'used without' "$VM_LOGS/unaware.qemu"
}

# SeaBIOS starts the disk, and all is pinned; the guest's driver takes over.
firmware() {
    tracked_guest firmware -boot strict=off "${coiommu[@]}" "${assigned[@]}"
    counter fallback-pins
    [ "$VALUE" -eq 1 ] || fail "all memory was pinned $VALUE times"
    expect_all_pinned
    vm_run 300 "guest_nvme 0"
    expect_devices 1 0
    expect_few_pinned
    vm_run 300 guest_net
    expect_few_pinned
    counter fallback-pins
    [ "$VALUE" -eq 1 ] || fail "all memory was pinned $VALUE times"
    vm_run 120 guest_dmesg_ok
    vm_quit
}
