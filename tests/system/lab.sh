#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The system level's scenarios, run in L1 (a host with the kernel's VFIO) one
# after the other, each with a VM of its own.  For each, /job/results/NAME gets
# its status and NAME.log what it said; tests/system/run turns them into TAP.
#
# A scenario is a function named after it, here or in a file lab-*.sh beside it.  It
# runs under `set -e` in a subshell and fails by any failing command.  Those that have a
# result already are passed over: this host is booted again for the rest if it dies.
#
# Environment, besides what vm.sh wants:
#   LAB_IOMMUFD   "yes": assign devices by iommufd (default: VFIO type1)
#   LAB_PEER      address of the other end of bulk transfers
#   LAB_SECONDS   how long the scenario "load" loads
#   LAB_SEED      of the random numbers of the scenarios "hostile", "quit_anytime", "soak"
#   LAB_ACTIONS   how many the scenario "soak" takes
#   LAB_ROUNDS    how many the scenario "unplug_rounds" has
set -u
. /job/vm.sh
. /job/host.sh
read -ra VM_QEMU <<<"$VM_QEMU_CMD"
VM_LOGS=/job/vm
MEM=512M
PEER=$LAB_PEER

disk=$(host_find 1b36:0010)
nic=$(host_find 8086:10c9)
edu=$(host_find 1234:11e8)
other=$(host_find 8086:10d3)
coiommu=(-device "coiommu,id=coi0")
# The device without its address, for the command line and in JSON; which way it is
# assigned; and what rows.sh is told of that.
vfio="vfio-pci"
vfio_json='"driver":"vfio-pci"'
backend=type1
rows_backend=()
if [ "${LAB_IOMMUFD:-no}" = yes ]; then
    VM_QEMU+=(-object "iommufd,id=iommufd0")
    backend=iommufd
    rows_backend=(--iommufd)
    vfio+=,iommufd=iommufd0
    vfio_json+=',"iommufd":"iommufd0"'
fi
assigned=(-device "$vfio,host=$disk,id=disk0" -device "$vfio,host=$nic,id=nic0")

# Bytes that QEMU may have locked when nothing is pinned: VFIO maps the ROM.
BASE=$((1 << 20))

# fail TEXT: say so and end the scenario.
fail() {
    echo "FAILED: $*"
    exit 1
}

# tracked_guest NAME ARGUMENTS...: a guest in which the driver is at work.
tracked_guest() {
    vm_up "$1" "$MEM" "${@:2}" || fail "$VM_ERROR $(cat "$VM_LOGS/$1.qemu")"
    [ "${VM_SAID[coiommu]}" = bound ] || fail "the driver isn't bound"
}

# The same with both devices up and running, which firmware has left alone.
busy_guest() {
    tracked_guest "$@"
    counter fallback-pins
    [ "$VALUE" -eq 0 ] || fail "something did DMA before there was a driver"
    expect_unpinned
    vm_run 120 guest_nvme_up
    vm_run 120 guest_nic_up
}

# A counter of the device, in VALUE.
counter() {
    vm_get coi0 "$1" || fail "$VM_ERROR"
    VALUE=$VM_RETURN
    echo "$1 = $VALUE"
}

# Until nothing stays pinned any more for devices that were used without the driver.
fallback_over() {
    local tries busy
    for ((tries = 0; tries < 300; tries++)); do
        counter fallback-busy >/dev/null
        busy=$VALUE
        counter fallback-bytes >/dev/null
        [ $((busy + VALUE)) -ne 0 ] || return 0
        sleep 0.2
    done
    fail "$VALUE bytes stay pinned for devices that nobody uses"
}

# Nothing is pinned, by the device's account and by the kernel's.
expect_unpinned() {
    fallback_over
    counter pinned-bytes
    [ "$VALUE" -eq 0 ] || fail "the device counts $VALUE bytes pinned"
    vm_sample
    [ "$VM_PINNED" -le "$BASE" ] || fail "the kernel counts $VM_PINNED bytes locked"
}

# Pages that the host's kernel has pinned for whomever and not let go of.  What each CPU
# has counted for itself is added up first.
host_pinned() {
    echo 1 >/proc/sys/vm/stat_refresh
    awk '$1 == "nr_foll_pin_acquired" { n += $2 } $1 == "nr_foll_pin_released" { n -= $2 }
        END { print n }' /proc/vmstat
}

# expect_host_idle: as many pages are pinned as before the first VM, within 30 s: the
# kernel ends some of a process's work after the process.
expect_host_idle() {
    local tries=0
    while [ "$(host_pinned)" -ne "$HOST_IDLE" ]; do
        [ $((tries++)) -lt 60 ] ||
            fail "the host had $HOST_IDLE pages pinned before and has $(host_pinned) now"
        sleep 0.5
    done
}

# The device's account of what is pinned, in VALUE, is the kernel's.
expect_consistent() {
    vm_accounts_agree coi0 "$BASE" ||
        fail "the device counts ${VM_RETURN:-?} bytes pinned, the kernel $VM_PINNED"
    VALUE=$VM_RETURN
    echo "pinned-bytes = $VALUE"
}

# Nothing in the host's log that shouldn't be.
expect_quiet_host() {
    local faults
    faults=$(host_faults "$1") || fail "the host's log has lost its beginning"
    [ "$faults" = 0 ] || fail "$faults IOMMU faults"
    ! host_log "$1" | grep -E 'WARNING:|BUG:|Oops|Call Trace|vfio.*(timed out|fail)' ||
        fail "the host complains"
}

# ---- scenarios --------------------------------------------------------------

# What is pinned is given back when the driver goes, and pinned anew when it
# is back.
unload() {
    busy_guest unload "${coiommu[@]}" "${assigned[@]}"
    expect_few_pinned
    vm_run 120 guest_unload
    expect_unpinned
    vm_run 120 guest_load_coiommu
    vm_run 300 "guest_nvme 0"
    expect_few_pinned
    vm_run 120 guest_dmesg_ok
    vm_quit
}

# A reboot without warning, in the middle of I/O.
reboot() {
    busy_guest reboot -action reboot=reset "${coiommu[@]}" "${assigned[@]}"
    expect_few_pinned
    vm_run 120 guest_load
    sleep 2
    vm_send "echo b >/proc/sysrq-trigger"
    VM_SAID=()
    vm_event RESET 120 || fail "no reset"
    expect_unpinned
    vm_wait booted 240
    [ "${VM_SAID[coiommu]}" = bound ] || fail "the driver isn't bound after the reboot"
    vm_run 300 "guest_nvme 0"
    vm_run 300 guest_net
    expect_few_pinned
    vm_run 120 guest_dmesg_ok
    vm_quit
}

# QEMU ends in the middle of I/O: the host's kernel lets go of everything.  (That the
# next VM finds the devices in order is seen in whatever comes next, and in quit_anytime.)
quit_busy() {
    expect_host_idle
    busy_guest quit_busy "${coiommu[@]}" "${assigned[@]}"
    vm_run 120 guest_load
    sleep 2
    expect_few_pinned
    [ "$(host_pinned)" -gt "$HOST_IDLE" ] || fail "the host's kernel has nothing pinned"
    vm_quit || fail "QEMU ended with status $VM_STATUS"
    expect_host_idle
}

# The guest takes a device out and puts it back while the other is in use.
hotplug() {
    busy_guest hotplug "${coiommu[@]}" -device pcie-root-port,id=rp0 \
        -device "$vfio,host=$nic,id=nic0" -device "$vfio,host=$disk,id=disk0,bus=rp0"
    counter attached-endpoints
    [ "$VALUE" -eq 2 ] || fail "$VALUE endpoints are attached, not 2"
    vm_qmp device_del '{"id":"disk0"}' || fail "$VM_ERROR"
    vm_event DEVICE_DELETED 120 || fail "the guest doesn't let go of the disk"
    counter attached-endpoints
    [ "$VALUE" -eq 1 ] || fail "$VALUE endpoints are attached, not 1"
    expect_few_pinned
    vm_run 300 "net_bulk_check $PEER"
    vm_qmp device_add "{$vfio_json,\"host\":\"$disk\",\"id\":\"disk0\",\"bus\":\"rp0\"}" ||
        fail "$VM_ERROR"
    vm_run 300 "wait_for 60 test -b /dev/nvme0n1 && guest_nvme 0"
    counter attached-endpoints
    [ "$VALUE" -eq 2 ] || fail "$VALUE endpoints are attached again, not 2"
    expect_few_pinned
    vm_run 120 guest_dmesg_ok
    vm_quit
}

# -device vfio-pci before -device coiommu would pin all memory unnoticed.
order() {
    if vm_start order "$MEM" "${assigned[@]}" "${coiommu[@]}"; then
        vm_quit
        fail "QEMU started"
    fi
    cat "$VM_LOGS/order.qemu"
    grep -q 'coiommu.*before.*vfio' "$VM_LOGS/order.qemu"
}

# Proof that a wrong DMA would be seen: edu, for which all memory is pinned as the
# guest has no driver for it, reads where there is none.
wrong_dma() {
    local faults
    vm_up wrong_dma "$MEM" "${coiommu[@]}" -device "$vfio,host=$edu,id=edu0" ||
        fail "$VM_ERROR"
    # In the guest: 4 KiB at 256 MiB, to the device's own buffer.
    vm_run 120 "edu_read 0x10000000" || fail "edu didn't do as told"
    faults=$(host_faults wrong_dma)
    [ "$faults" -eq 0 ] || fail "$faults IOMMU faults in memory that is pinned"
    # And at 1 GiB.
    vm_run 120 "edu_read 0x40000000" || fail "edu didn't do as told"
    vm_quit
    faults=$(host_faults wrong_dma)
    echo "$faults IOMMU faults"
    [ "$faults" -gt 0 ] || fail "a wrong DMA isn't seen"
}

# expect_refusal PATTERN BDF BYTES [BACKEND]: host_check says so in one sentence.
expect_refusal() {
    local said
    ! said=$(host_check "${@:2}") || fail "$2 passed"
    echo "$said"
    [[ $said == *$1* ]] && [ "$(wc -l <<<"$said")" -eq 1 ]
}

# Each of the two kernels has one backend only.
other_backend_refused() {
    if [ $backend = type1 ]; then
        expect_refusal "/dev/iommu is missing" "$disk" 1 iommufd
        mknod /dev/iommu c 1 3
        expect_refusal "isn't in /dev/vfio/devices" "$disk" 1 iommufd
        rm /dev/iommu
    else
        expect_refusal "is the module vfio_iommu_type1 loaded" "$disk" 1
    fi
}

# The demo's questions to a host, on one with VFIO.
host_checks() {
    host_check "$disk" $((1 << 30)) $backend
    host_check "${disk#0000:}" $((1 << 30)) $backend
    [ "$(host_kind "$disk")" = nvme ]
    [ "$(host_kind "$nic")" = net ]
    [ "$(host_kind "$edu")" = other ]
    expect_refusal "there is no PCI device" 0000:ff:1f.7 1
    expect_refusal "is bound to no driver, not to vfio-pci" "$other" 1
    mv /dev/kvm /dev/kvm.away
    expect_refusal "/dev/kvm is missing" "$disk" 1
    mv /dev/kvm.away /dev/kvm
    other_backend_refused
    echo 'user:x:1000:1000::/:/bin/bash' >>/etc/passwd
    su -s /bin/bash user -c "ulimit -l 64; . /job/host.sh; host_check $disk 1073741824 $backend" >/tmp/said &&
        fail "a user who may lock 64 KiB passed"
    cat /tmp/said
    grep -q 'may lock only 64 KiB' /tmp/said
}

# ---- all of them ------------------------------------------------------------

for file in /job/lab-*.sh; do
    . "$file"
done

host_bind "$disk"
host_bind "$nic"
host_bind "$edu"
mkdir -p /job/results "$VM_LOGS"
HOST_IDLE=$(host_pinned)
for scenario in "$@"; do
    [ ! -s "/job/results/$scenario" ] || continue
    echo "@say scenario $scenario"
    lab_scenario "$scenario" >>"/job/results/$scenario.log"
    echo "$STATUS" >"/job/results/$scenario"
done
