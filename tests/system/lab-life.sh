# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Scenarios of lab.sh about what befalls a guest as a whole: another kernel, a crash,
# sleep, resets, QEMU's end at a bad time.  Sourced by lab.sh, whose helpers they use.
# shellcheck disable=SC2154  # variables of lab.sh

# next_kernel KIND ARGUMENTS...: have the guest load the kernel to go to, with an
# initramfs that is the one it was started from (KIND: load, or crash).
next_kernel() {
    vm_run 300 "kexec $1 /vmlinuz /sys/firmware/initrd '${VM_APPEND//$'\n'/ } ${*:2}'"
}

# await_kernel COIOMMU: another kernel comes up, with the driver "bound" or "unbound".
await_kernel() {
    vm_wait booted 240
    [ "${VM_SAID[coiommu]}" = "$1" ] || fail "the driver is ${VM_SAID[coiommu]}, not $1"
}

# expect_abandoned COUNT: QEMU, which was started with -trace coiommu_abandoned, has given
# up so many tables: one for each kernel that ended without taking its own back.
expect_abandoned() {
    local n
    n=$(grep -c coiommu_abandoned "$VM_LOGS/$VM_NAME.qemu") || true
    [ "$n" -eq "$1" ] || fail "$n tables have been given up, not $1"
}

# go_to COMMAND COIOMMU: the guest goes to it now, while disk and NIC are busy.
go_to() {
    vm_run 120 guest_load
    sleep 1
    VM_SAID[coiommu]=''
    vm_send "$1"
}

# kexec from a tracked kernel to one without the driver, and back.
kexec_unaware() {
    local kept
    with_tools
    VM_APPEND+=" retain_initrd"
    busy_guest kexec_unaware -trace coiommu_abandoned "${coiommu[@]}" "${assigned[@]}"
    vm_run 300 "nvme_raw_check 5"
    kept=${VM_SAID[nvme_raw]}
    expect_devices 2 0
    expect_few_pinned
    next_kernel load module_blacklist=coiommu
    go_to "kexec exec"
    await_kernel unbound
    expect_abandoned 0
    expect_devices 0 0
    expect_unpinned
    vm_run 120 guest_nvme_up
    expect_all_pinned
    vm_run 120 "nvme_raw_same $kept"
    vm_run 300 "nvme_raw_check 0"
    vm_run 300 "guest_net $PEER"
    expect_devices 0 2
    next_kernel load
    vm_run 120 guest_dmesg_ok
    go_to "kexec exec"
    await_kernel bound
    expect_unpinned
    vm_run 120 guest_nvme_up
    vm_run 120 "nvme_raw_same $kept"
    vm_run 300 "guest_nvme 1"
    vm_run 300 guest_net
    expect_devices 2 0
    expect_few_pinned
    finish_guest
}

# crashed NAME COIOMMU ARGUMENTS...: a guest panics while disk and NIC are busy, and its
# crash kernel, which has these arguments, finds on the disk what was written before.
crashed() {
    with_tools
    VM_APPEND+=" retain_initrd"
    VM_APPEND+=" crashkernel=320M" busy_guest "$1" -trace coiommu_abandoned \
        "${coiommu[@]}" "${assigned[@]}"
    vm_run 300 "nvme_raw_check 5"
    KEPT=${VM_SAID[nvme_raw]}
    expect_devices 2 0
    expect_few_pinned
    next_kernel crash nr_cpus=1 reset_devices "${@:3}"
    go_to "echo c >/proc/sysrq-trigger"
    await_kernel "$2"
    expect_abandoned 1
}

# A crash kernel, with the driver and without: what the dead kernel's devices may still do
# is covered from the time when it looks for devices.  The driver attaches them anew.
crash() {
    local MEM=768M
    crashed crash bound
    expect_devices 0 2
    expect_all_pinned
    dump
    expect_devices 2 0
    expect_few_pinned
    finish_guest
}

# A crash kernel without the driver.
crash_unaware() {
    local MEM=768M
    crashed crash_unaware unbound module_blacklist=coiommu
    expect_devices 0 2
    expect_all_pinned
    dump
    expect_devices 0 2
    vm_run 120 guest_dmesg_ok
    vm_run 120 guest_unbind
    expect_unpinned
    vm_quit
}

# What was on the disk is there; the disk and the NIC work, and take the dump.
dump() {
    vm_run 120 guest_nvme_up
    vm_run 120 "nvme_raw_same $KEPT"
    vm_run 300 "guest_net $PEER"
    vm_run 300 "guest_nvme 0"
    vm_run 120 'dd if=/proc/vmcore of=/dev/nvme0n1 bs=64k count=128 conv=fsync'
    vm_run 120 'echo 3 >/proc/sys/vm/drop_caches; cmp -n 8388608 /dev/nvme0n1 /proc/vmcore'
}

# Suspend to RAM, with mappings that outlive it.
asleep() {
    local VM_KERNEL=/job/vmlinuz
    busy_guest asleep "${coiommu[@]}" "${assigned[@]}"
    vm_run 300 "guest_nvme 0"
    vm_run 300 "net_bulk_check $PEER"
    expect_devices 2 0
    vm_run 120 'cat /sys/kernel/debug/coiommu/dtt; echo deep >/sys/power/mem_sleep'
    vm_send "echo mem >/sys/power/state"
    vm_event SUSPEND 120 || fail "the guest doesn't sleep"
    expect_few_pinned
    vm_qmp system_wakeup || fail "$VM_ERROR"
    vm_wait end 240
    expect_devices 2 0
    vm_run 120 "nvme_raw_same ${VM_SAID[nvme_raw]}"
    vm_run 120 'wait_for 30 nic_has_carrier "$(nic)"; ping -c 3 "$(gateway)"'
    vm_run 300 "guest_nvme 1"
    vm_run 300 "net_bulk_check $PEER"
    expect_few_pinned
    finish_guest
}

# A function-level reset by the guest and one by the bus, with I/O under way, and a reset
# of the whole machine.  Here firmware is allowed to start the disk: it does so each time.
#
# Where QEMU does hotplug by ACPI its ports never show their link as active.  After a
# reset of the bus the kernel waits for that in vain, unless the port has 5 GT/s or less.
resets() {
    local kept method
    tracked_guest resets -boot strict=off -action reboot=reset "${coiommu[@]}" \
        -device pcie-root-port,id=rp0,x-speed=5 -device "$vfio,host=$disk,id=disk0,bus=rp0" \
        -device "$vfio,host=$nic,id=nic0"
    counter fallback-pins
    [ "$VALUE" -eq 1 ] || fail "all was pinned $VALUE times, not once for SeaBIOS"
    vm_run 120 guest_nvme_up
    vm_run 120 guest_nic_up
    vm_run 300 "nvme_raw_check 5"
    kept=${VM_SAID[nvme_raw]}
    for method in flr bus; do
        vm_run 120 disk_work
        vm_run 120 "guest_reset \"\$(pci_of_class 0x0108)\" $method"
        vm_run 300 disk_work_end
        expect_devices 2 0
        expect_few_pinned
    done
    vm_run 300 "net_bulk_check $PEER"
    vm_run 120 guest_dmesg_ok
    vm_run 120 guest_load
    sleep 1
    VM_SAID=()
    vm_qmp system_reset || fail "$VM_ERROR"
    await_kernel bound
    counter fallback-pins
    [ "$VALUE" -eq 2 ] || fail "all was pinned $VALUE times, not twice for SeaBIOS"
    expect_all_pinned
    vm_run 120 guest_nvme_up
    vm_run 120 "nvme_raw_same $kept"
    vm_run 300 "guest_nvme 0"
    vm_run 300 "guest_net $PEER"
    expect_devices 2 0
    expect_few_pinned
    finish_guest
}

# QEMU ends before its CPU runs, while the guest boots, and by a signal in the middle of
# I/O: the next VM finds the devices in order, and what was written.
quit_anytime() {
    local kept pid
    expect_host_idle
    RANDOM=$LAB_SEED
    vm_start quit_anytime "$MEM" "${coiommu[@]}" "${assigned[@]}" || fail "$VM_ERROR"
    vm_quit || fail "QEMU ended with status $VM_STATUS"
    vm_start quit_anytime "$MEM" "${coiommu[@]}" "${assigned[@]}" || fail "$VM_ERROR"
    vm_qmp cont
    sleep $((RANDOM % 4)).$((RANDOM % 10))
    vm_quit || fail "QEMU ended with status $VM_STATUS"
    expect_host_idle
    busy_guest quit_anytime "${coiommu[@]}" "${assigned[@]}"
    vm_run 300 "nvme_raw_check 5"
    kept=${VM_SAID[nvme_raw]}
    vm_run 120 guest_load
    sleep 0.$((RANDOM % 10))
    pid=$VM_PID
    vm_kill
    [ ! -e "/proc/$pid" ] || fail "QEMU is still there"
    expect_host_idle
    busy_guest quit_anytime "${coiommu[@]}" "${assigned[@]}"
    vm_run 120 "nvme_raw_same $kept"
    vm_run 300 "guest_nvme 0"
    vm_run 300 "net_bulk_check $PEER"
    expect_few_pinned
    finish_guest
}
