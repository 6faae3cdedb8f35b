# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# A scenario of lab.sh about devices that are not tracked: what VFIO pins for them shows in
# the counters, and what QEMU says of them.  The VMs' CPUs stay stopped: all is decided
# before they run.  Sourced by lab.sh, whose helpers it uses.
# shellcheck disable=SC2154  # variables of lab.sh

# stopped_vm WORDS ARGUMENTS...: QEMU starts, and WORDS are in what it says.
stopped_vm() {
    vm_start bypass "$MEM" "${@:2}" || fail "$VM_ERROR $(cat "$VM_LOGS/bypass.qemu")"
    cat "$VM_LOGS/bypass.qemu"
    grep -q "$1" "$VM_LOGS/bypass.qemu" || fail "QEMU doesn't say: $1"
}

# refused_vm WORDS ARGUMENTS...: QEMU doesn't start, and WORDS are in what it says.
refused_vm() {
    if vm_start bypass "$MEM" "${@:2}"; then
        vm_quit
        fail "QEMU has started"
    fi
    cat "$VM_LOGS/bypass.qemu"
    grep -q "$1" "$VM_LOGS/bypass.qemu" || fail "QEMU doesn't say: $1"
}

# expect_bypass DEVICES: VFIO has pinned all for so many, each in a container of its own,
# coIOMMU nothing, and the kernel counts what these counters say.
expect_bypass() {
    local more
    counter pinned-bytes
    [ "$VALUE" -eq 0 ] || fail "coIOMMU has pinned something"
    counter bypass-devices
    [ "$VALUE" -eq "$1" ] || fail "$VALUE devices, not $1"
    counter bypass-bytes
    vm_sample
    more=$((VM_PINNED - $1 * VALUE))
    [ "$VALUE" -gt 0 ] || fail "no bytes for them"
    if [ "$more" -lt 0 ] || [ "$more" -gt $((2 * BASE)) ]; then
        fail "the kernel counts $VM_PINNED bytes locked"
    fi
}

# Devices that bypass the IOMMU have all memory pinned by VFIO, as without coIOMMU.
bypass() {
    local twins=0000:00:0c
    local expander=(-device "pxb-pcie,id=pxb,bus_nr=0x80,bypass_iommu=on"
        -device "pcie-root-port,id=rp,bus=pxb,chassis=9")

    stopped_vm "nic0 is on a PCI bus that bypasses any IOMMU" "${coiommu[@]}" \
        "${expander[@]}" -device "$vfio,host=$disk,id=disk0,bus=pcie.0" \
        -device "$vfio,host=$nic,id=nic0,bus=rp"
    expect_bypass 1
    vm_quit
    stopped_vm "nic0 is not on a PCI Express bus below pcie.0" "${coiommu[@]}" \
        -device "pcie-pci-bridge,id=br" -device "$vfio,host=$disk,id=disk0,bus=pcie.0" \
        -device "$vfio,host=$nic,id=nic0,bus=br,addr=1"
    expect_bypass 1
    vm_quit

    # Two functions of one group on two kinds of bus; iommufd has no such rule.
    host_bind $twins.0
    host_bind $twins.1
    [ "$backend" = iommufd ] ||
        refused_vm "used in multiple address spaces" "${coiommu[@]}" "${expander[@]}" \
            -device "$vfio,host=$twins.0,id=twin0,bus=pcie.0" \
            -device "$vfio,host=$twins.1,id=twin1,bus=rp"
    # In JSON coIOMMU comes after what is in plain syntax.
    refused_vm "in plain syntax if one of them is" \
        -device '{"driver":"coiommu","id":"coi0"}' -device "$vfio,host=$disk,id=disk0"
    expect_host_idle
}
