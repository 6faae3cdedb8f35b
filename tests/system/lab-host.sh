# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Scenarios of lab.sh about what a host gives to a VM: a virtual function of a NIC, a
# memlock limit far below the VM's memory, a memory cgroup likewise.  Sourced by lab.sh,
# whose helpers they use.
# shellcheck disable=SC2154  # variables of lab.sh

PF=0000:00:0d.0
CGROUP=/sys/fs/cgroup

# The host's kernel is told the TSC's rate and takes it (see tsc.py): one that it has
# measured on a starved machine may be far off.
clock() {
    local khz detected
    khz=$(sed -n 's/.* tsc_early_khz=\([0-9]*\).*/\1/p' /proc/cmdline)
    detected=$(dmesg | sed -n 's/.*tsc: Detected \([0-9]*\)\.\([0-9]*\) MHz TSC.*/\1\2/p')
    detected=${detected:-$(dmesg |
        sed -n 's/.*tsc: Detected \([0-9]*\)\.\([0-9]*\) MHz processor.*/\1\2/p')}
    echo "told $khz, took $detected kHz"
    [ -n "$khz" ] && [ "$khz" = "$detected" ]
}

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

# as_user COMMAND...: the QEMU of an unprivileged user, who may lock LOCKED KiB.
as_user() {
    chmod 755 "$VM_DIR"
    chmod 666 "$VM_DIR"/*
    # Root's limit, which su leaves: a user could only lower it.
    ulimit -l "$LOCKED"
    exec su -s /bin/bash user -c "exec ${*@Q}"
}

# That user, to whom the devices are given.
user_ready() {
    local dev
    grep -q '^user:' /etc/passwd || echo 'user:x:1000:1000::/:/bin/bash' >>/etc/passwd
    chmod 666 /dev/kvm
    for dev in "$disk" "$nic"; do
        chown user "/dev/vfio/$(basename "$(readlink "/sys/bus/pci/devices/$dev/iommu_group")")"
    done
}

# QEMU is that user's and may lock so much.
expect_user() {
    grep -E '^(Uid|VmLck)' "/proc/$VM_PID/status"
    grep -Eq "^Uid:.1000.1000" "/proc/$VM_PID/status" || fail "QEMU isn't that user's"
    grep -Eq "^Max locked memory +$((LOCKED << 10)) " "/proc/$VM_PID/limits" ||
        fail "QEMU may lock another amount"
}

# in_cgroup COMMAND...: QEMU in the memory cgroup.
in_cgroup() {
    echo "$BASHPID" >$CGROUP/vm/cgroup.procs
    exec "$@"
}

# few_guest NAME [CHECK]: with the guest's driver both devices work, each byte compared.
few_guest() {
    tracked_guest "$1" "${coiommu[@]}" "${assigned[@]}"
    "$2"
    vm_run 300 "guest_nvme 0"
    vm_run 300 "guest_net $PEER"
    expect_devices 2 0
    expect_few_pinned
    echo "cost: at most $((VM_PEAK >> 20)) MiB were locked"
    finish_guest
}

# unaware_guest NAME: one without the driver.
unaware_guest() {
    local VM_APPEND="$VM_APPEND module_blacklist=coiommu"
    vm_up "$1" "$MEM" "${coiommu[@]}" "${assigned[@]}" || fail "$VM_ERROR"
}

# refused_guest NAME WORDS: without the driver nothing is pinned, which QEMU says in these
# words, and the VM goes on with its devices kept off the bus.
refused_guest() {
    unaware_guest "$1"
    vm_run 120 'D=$(pci_of_class 0x0108); pci_command $D 6 && pci_command_is $D 2' ||
        fail "the disk has bus mastering on"
    counter fallback-refused
    [ "$VALUE" -gt 0 ] || fail "no refusal is counted"
    counter fallback-pins
    [ "$VALUE" -eq 0 ] || fail "all memory was pinned"
    expect_unpinned
    vm_run 120 guest_dmesg_ok
    vm_quit || fail "QEMU ended with status $VM_STATUS"
    cat "$VM_LOGS/$1.qemu"
    grep -q "$2" "$VM_LOGS/$1.qemu" || fail "QEMU doesn't say: $2"
}

# A user's QEMU who may lock 64 MiB, with and without the guest's driver; and one who may
# lock what all of the guest's memory is, and less than a block more.
memlock() {
    local LOCKED=65536 VM_QEMU=(as_user "${VM_QEMU[@]}")
    user_ready
    few_guest memlock expect_user
    refused_guest memlock_unaware "the memlock limit is 64 MiB"
    LOCKED=$(((${MEM%M} << 10) + 512))
    unaware_guest memlock_enough
    expect_user
    vm_run 300 "guest_nvme 0" || fail "$(cat "$VM_LOGS/memlock_enough.qemu")"
    expect_devices 0 1
    expect_all_pinned
    vm_quit || fail "QEMU ended with status $VM_STATUS"
}

# QEMU is in the cgroup.
expect_in_cgroup() {
    grep -qx "$VM_PID" $CGROUP/vm/cgroup.procs || fail "QEMU isn't in the cgroup"
}

# A VM of 1 GiB in a memory cgroup of 400 MiB, with and without the guest's driver.
cgroup() {
    local MEM=1024M VM_QEMU=(in_cgroup "${VM_QEMU[@]}")
    grep -q " $CGROUP cgroup2 " /proc/mounts || mount -t cgroup2 none $CGROUP
    echo +memory >$CGROUP/cgroup.subtree_control
    mkdir -p $CGROUP/vm
    echo 400M >$CGROUP/vm/memory.max
    few_guest cgroup expect_in_cgroup
    refused_guest cgroup_unaware "the memory cgroup's limit is 400 MiB"
    grep -Ex '(max|oom_kill) [0-9]+' $CGROUP/vm/memory.events
    grep -qx 'oom_kill 0' $CGROUP/vm/memory.events || fail "the OOM killer has been at work"
}
