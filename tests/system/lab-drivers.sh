# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Scenarios of lab.sh about who drives the devices, and when: a module that comes late,
# userspace, nobody, devices that are plugged in.  Sourced by lab.sh, whose helpers
# they use.
# shellcheck disable=SC2154  # variables of lab.sh

# What two devices with drivers in the guest have pinned at most, in bytes, once the
# unpin thread has been around: a small part of MEM.
FEW=$((64 << 20))

# A guest's initramfs with the tools (tests/lib/lab.sh) in it.
with_tools() {
    [ -e /tmp/tools-initrd ] || cat "$VM_INITRD" /job/tools.cpio >/tmp/tools-initrd
    VM_INITRD=/tmp/tools-initrd
}

# late_guest NAME ARGUMENTS...: a guest that hasn't loaded the driver yet.
late_guest() {
    VM_APPEND+=" rig.late"
    vm_up "$1" "$MEM" "${@:2}" || fail "$VM_ERROR $(cat "$VM_LOGS/$1.qemu")"
    [ "${VM_SAID[coiommu]}" = late ] || fail "the driver came by itself"
}

# Now it does.
load_driver() {
    vm_run 120 guest_load_coiommu
    [ "${VM_SAID[coiommu]}" = bound ] || fail "the driver isn't bound"
}

# expect_devices ATTACHED UNTRACKED: so many are attached, so many do DMA without that.
expect_devices() {
    counter attached-endpoints
    [ "$VALUE" -eq "$1" ] || fail "$VALUE endpoints are attached, not $1"
    counter fallback-active
    [ "$VALUE" -eq "$2" ] || fail "$VALUE devices do DMA untracked, not $2"
}

# Something is pinned, for devices that are tracked, and not much, within a minute.
expect_few_pinned() {
    local tries
    for ((tries = 0; tries < 300; tries++)); do
        counter pinned-bytes >/dev/null
        [ "$VALUE" -gt "$FEW" ] || break
        sleep 0.2
    done
    [ "$VALUE" -gt 0 ] && [ "$VALUE" -le "$FEW" ] || fail "$VALUE bytes are pinned"
    expect_consistent
}

# The end of a good guest: clean, and nothing left when the driver goes.
finish_guest() {
    vm_run 120 guest_counters_ok
    vm_run 120 guest_dmesg_ok
    vm_run 120 guest_unload
    expect_unpinned
    vm_quit || fail "QEMU ended with status $VM_STATUS"
}

# The driver comes after those of the devices: each that is bound anew is tracked,
# while the other one works on.
late() {
    late_guest late "${coiommu[@]}" "${assigned[@]}"
    expect_unpinned
    vm_run 300 "guest_nvme 0"
    vm_run 300 guest_net
    expect_devices 0 2
    load_driver
    expect_devices 0 2
    expect_all_pinned
    vm_run 120 disk_work
    vm_run 120 'guest_rebind "$(pci_of_class 0x02)" ""'
    vm_run 300 guest_net
    expect_devices 1 1
    expect_all_pinned
    vm_run 300 disk_work_end
    vm_run 120 'ping -i 0.01 -s 1400 "$(gateway)" >/dev/null 2>&1 &'
    vm_run 120 'guest_rebind "$(pci_of_class 0x0108)" ""'
    expect_devices 2 0
    vm_run 300 "guest_nvme 1"
    vm_run 300 "net_bulk_check $PEER"
    expect_few_pinned
    vm_run 120 'killall ping'
    finish_guest
}

# user_read SLOT: what is at the slot, read by a driver in userspace.
user_read() {
    vm_run 300 "nvme-user \$(pci_of_class 0x0108) \$((($1 * RAW_MIB + FS_MIB) << 20)) \
        \$((RAW_MIB << 20)) | sha256sum | grep ${VM_SAID[nvme_raw]#* }" ||
        fail "userspace reads something else"
}

# A driver in the guest's userspace, behind pci-stub and behind uio_pci_generic, which
# tells nobody where it does DMA; a device that has no driver while bus mastering
# goes on and off; and VFIO, which can't translate for it and so can't have it do DMA.
userspace() {
    with_tools
    busy_guest userspace "${coiommu[@]}" "${assigned[@]}"
    vm_run 300 "nvme_raw_check 0"
    vm_run 120 'D=$(pci_of_class 0x0108); guest_rebind $D pci-stub'
    expect_devices 1 0
    expect_few_pinned
    vm_run 120 'pci_command $D 6 && pci_command_is $D 6'
    expect_devices 1 1
    expect_all_pinned
    user_read 0
    vm_run 120 'pci_command $D 2'
    expect_devices 1 0
    vm_run 300 "net_bulk_check $PEER"
    expect_few_pinned
    vm_run 120 'pci_command $D 6 && pci_command $D 2 && pci_command $D 6'
    expect_all_pinned
    user_read 0
    vm_run 120 'pci_command $D 2'
    # This one switches bus mastering off when its file is closed.
    vm_run 120 'guest_rebind $D uio_pci_generic'
    vm_run 120 'exec 3</dev/uio0 && pci_command $D 6'
    expect_devices 1 1
    expect_all_pinned
    user_read 0
    vm_run 120 'exec 3<&-'
    vm_run 120 'guest_rebind $D vfio-pci && modprobe vfio_iommu_type1'
    vm_run 120 'G=$(readlink /sys/bus/pci/devices/$D/iommu_group); vfio-try ${G##*/}; [ $? -eq 3 ]' ||
        fail "VFIO in the guest doesn't refuse"
    expect_devices 1 0
    expect_few_pinned
    vm_run 120 'guest_rebind $D ""'
    vm_run 120 guest_nvme_up
    expect_devices 2 0
    vm_run 120 "nvme_raw_same ${VM_SAID[nvme_raw]}"
    vm_run 300 "guest_nvme 1"
    expect_few_pinned
    finish_guest
    grep 'used without' "$VM_LOGS/userspace.qemu"
}

# With fallback=refuse the disk is kept off the bus, which QEMU says, until the driver
# is there.
refuse() {
    VM_APPEND+=" nvme_core.admin_timeout=3"
    late_guest refuse -device coiommu,id=coi0,fallback=refuse "${assigned[@]}"
    vm_run 120 'D=$(pci_of_class 0x0108); pci_command $D 6 && pci_command_is $D 2' ||
        fail "the disk has bus mastering on"
    vm_run 120 'pci_modprobe $D'
    vm_run 120 'wait_for 20 eval "[ ! -e /sys/bus/pci/devices/$D/driver ]"; ! test -e /dev/nvme0n1'
    expect_devices 0 0
    expect_unpinned
    counter fallback-refused
    [ "$VALUE" -gt 0 ] || fail "no refusal is counted"
    cat "$VM_LOGS/refuse.qemu"
    grep -q "fallback=refuse keeps it off" "$VM_LOGS/refuse.qemu" || fail "QEMU says something else"
    # What it complained of is expected.
    vm_run 120 'dmesg -c >/dev/null'
    load_driver
    # From here on a command that takes long is a host that is busy.
    vm_run 120 'echo 60 >/sys/module/nvme_core/parameters/admin_timeout'
    vm_run 300 'echo $D >/sys/bus/pci/drivers_probe; guest_nvme 0'
    vm_run 300 guest_net
    expect_devices 2 0
    expect_few_pinned
    finish_guest
}

# plug_in: the disk, behind the root port.  One that has been pulled out is gone for the
# guest first, and a moment later for QEMU.
plug_in() {
    local tries=0
    until vm_qmp device_add "{$vfio_json,\"host\":\"$disk\",\"id\":\"disk0\",\"bus\":\"rp0\"}"; do
        [[ $VM_ERROR == *"already attached"* ]] && [ $((tries++)) -lt 60 ] || fail "$VM_ERROR"
        sleep 0.5
    done
    vm_run 120 'wait_for 30 eval "[ -n \"\$(pci_of_class 0x0108)\" ]"'
    vm_run 120 guest_nvme_up
}

# Pull it out.
plug_out() {
    VM_EVENTS=''
    vm_qmp device_del '{"id":"disk0"}' || fail "$VM_ERROR"
    vm_event DEVICE_DELETED 120 || fail "the guest doesn't let go of the disk"
}

# A disk comes and goes behind a root port, before there is a driver and after, and
# with I/O under way.
plug() {
    late_guest plug "${coiommu[@]}" -device pcie-root-port,id=rp0
    plug_in
    vm_run 300 "guest_nvme 0"
    expect_devices 0 1
    expect_all_pinned
    # It goes with its bit on: there is no driver that would stop it.
    vm_run 120 'D=$(pci_of_class 0x0108); guest_unbind && pci_command $D 6'
    expect_devices 0 1
    expect_all_pinned
    plug_out
    expect_devices 0 0
    expect_unpinned
    load_driver
    plug_in
    expect_devices 1 0
    vm_run 120 "nvme_raw_same ${VM_SAID[nvme_raw]}"
    vm_run 300 "guest_nvme 1"
    expect_few_pinned
    vm_run 120 guest_counters_ok
    vm_run 120 guest_dmesg_ok
    vm_run 120 'disk_hammer; HAMMER=$!'
    sleep 1
    plug_out
    expect_devices 0 0
    expect_unpinned
    # What the interrupted reads complained of is expected.
    vm_run 120 '! dmesg -c | grep -E "WARNING:|BUG:|Oops|Call Trace|coiommu.*never undone"'
    plug_in
    vm_run 120 "nvme_raw_same ${VM_SAID[nvme_raw]}"
    expect_devices 1 0
    expect_few_pinned
    vm_run 120 'kill $HAMMER'
    finish_guest
}
