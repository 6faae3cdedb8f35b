# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# A scenario of lab.sh about what a host gives to a VM: a virtual function of a NIC.
# Sourced by lab.sh, whose helpers it uses.
# shellcheck disable=SC2154  # variables of lab.sh

PF=0000:00:0d.0

# The NIC goes back to having no virtual functions and no driver.
vf_off() {
    vm_kill
    echo 0 >"/sys/bus/pci/devices/$PF/sriov_numvfs"
    echo $PF >"/sys/bus/pci/devices/$PF/driver/unbind"
}

# An SR-IOV virtual function of a NIC that the host keeps, beside a whole device.
vf() {
    local dev=/sys/bus/pci/devices/$PF vf
    echo >"$dev/driver_override"
    [ ! -e "$dev/driver" ] || echo $PF >"$dev/driver/unbind"
    modprobe igb
    [ -e "$dev/driver" ] || echo $PF >/sys/bus/pci/drivers_probe
    trap vf_off EXIT
    ip link set "$(ls $dev/net)" up
    echo 1 >"$dev/sriov_numvfs"
    vf=$(basename "$(readlink "$dev/virtfn0")")
    [ "$vf" = "$(host_find 8086:10ca)" ] || fail "$vf isn't igb's virtual function"
    host_bind "$vf"
    tracked_guest vf "${coiommu[@]}" -device "$vfio,host=$vf,id=vf0" \
        -device "$vfio,host=$disk,id=disk0"
    expect_unpinned
    vm_run 300 guest_net
    vm_run 300 "guest_nvme 0"
    expect_devices 2 0
    expect_few_pinned
    finish_guest
}
