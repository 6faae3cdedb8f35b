#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Scenarios of lab.sh in which something is scarce, fast, or hostile, and the
# demo's measurements as they are made on a real host.  Sourced by lab.sh, whose
# helpers they use.
#
# Lines "cost: ..." of a scenario's log are shown with the results.
# shellcheck disable=SC2154  # variables of lab.sh

# ---- few mappings ------------------------------------------------------------

ENTRIES=/sys/module/vfio_iommu_type1/parameters/dma_entry_limit

# limited NAME ENTRIES BLOCK LOAD DEVICES...: the same I/O, LOAD, in a VM whose host
# allows so many mappings.  Idle blocks go for one reason only, that there is no room.
# What it took is in TOOK and RECLAIMS.
limited() {
    local requests blocks
    echo "$2" >"$ENTRIES"
    tracked_guest "$1" -device "coiommu,id=coi0,block=$3,unpin-policy=off" "${@:5}"
    vm_run 120 guest_nvme_up
    vm_run 500 "$4"
    counter pin-errors
    [ "$VALUE" -eq 0 ] || fail "$VALUE blocks weren't pinned"
    counter request-errors
    [ "$VALUE" -eq 0 ] || fail "$VALUE requests failed"
    counter requests
    requests=$VALUE
    counter demand-pin-blocks
    blocks=$VALUE
    counter reclaims
    RECLAIMS=$VALUE
    TOOK=${VM_SAID[load_cs]}
    expect_consistent
    vm_run 120 guest_counters_ok
    vm_run 120 guest_dmesg_ok
    vm_quit
    echo "cost: block $3, $2 mappings: $RECLAIMS reclaims, $requests requests," \
        "$blocks blocks pinned, I/O in $((TOOK / 100)) s"
}

# with_and_without BLOCK LOAD DEVICES...: on a host as it is and on one with few
# mappings.
with_and_without() {
    local free
    limited "limit-$1-none" "$ENTRIES_BEFORE" "$@"
    [ "$RECLAIMS" -eq 0 ] || fail "$RECLAIMS reclaims without a limit"
    free=$TOOK
    limited "limit-$1-64" 64 "$@"
    [ "$RECLAIMS" -gt 0 ] || fail "the limit wasn't reached"
    echo "cost: block $1: I/O takes $((100 * TOOK / free)) % of the time without a limit"
}

# The host's IOMMU holds few mappings.  In blocks of 64K the NIC's buffers alone need
# more than there are, and are refused rightly: there the disk is alone, with so few
# requests at once that there is room for them.
limit() {
    local MEM=1G
    ENTRIES_BEFORE=$(cat "$ENTRIES")
    trap 'vm_kill; echo $ENTRIES_BEFORE >$ENTRIES' EXIT
    with_and_without 2M "guest_nic_up && guest_fixed_load 0 $PEER" "${assigned[@]}"
    with_and_without 64K "nvme_shallow && guest_fixed_load 0" -device "$vfio,host=$disk,id=disk0"
}

# ---- unpinning as fast as it goes ----------------------------------------------

# Disk and NIC under load, compared byte by byte, while blocks are let go at
# each chance.
load() {
    local interval
    busy_guest load "${coiommu[@]}" "${assigned[@]}"
    for interval in 5 1; do
        vm_qmp qom-set "{\"path\":\"/machine/peripheral/coi0\",
            \"property\":\"unpin-interval\",\"value\":$interval}" || fail "$VM_ERROR"
        vm_run $((LAB_SECONDS / 2 + 120)) \
            "guest_checked_load $((LAB_SECONDS / 2)) $PEER"
        counter lazy-unpinned-blocks
        [ "$VALUE" -gt 0 ] || fail "nothing was let go"
        echo "cost: interval $interval ms: ${VM_SAID[disk_rounds]} rounds on the disk," \
            "${VM_SAID[net_rounds]} on the NIC; $VALUE blocks let go so far"
    done
    counter unpin-races
    counter repins
    counter request-wait-max-ns
    counter request-errors
    [ "$VALUE" -eq 0 ] || fail "$VALUE requests failed"
    expect_consistent
    vm_run 120 guest_counters_ok
    vm_run 120 guest_dmesg_ok
    vm_quit
}

# ---- the last device goes ---------------------------------------------------------

# qom_gone ID: QEMU has no such device any more.
qom_gone() {
    ! vm_qmp qom-get "{\"path\":\"/machine/peripheral/$1\",\"property\":\"realized\"}"
}

# unplugged ID: it goes; an event may be that of another device.
unplugged() {
    local tries=0
    until qom_gone "$1"; do
        [ $((tries++)) -lt 600 ] || fail "the guest doesn't let go of $1"
        sleep 0.2
    done
}

# Both devices are unplugged at the same time, under load, and plugged in again.  When
# the last one has gone nothing can be pinned any more: so what the kernel counts, and is
# read after the device's own account, is nothing at once, with no second look.
unplug_rounds() {
    local round id
    busy_guest unplug_rounds "${coiommu[@]}" -device pcie-root-port,id=rp0,chassis=1 \
        -device pcie-root-port,id=rp1,chassis=2 \
        -device "$vfio,host=$nic,id=nic0,bus=rp0" -device "$vfio,host=$disk,id=disk0,bus=rp1"
    for ((round = 1; round <= LAB_ROUNDS; round++)); do
        vm_run 120 guest_load
        sleep "$((round % 3))"
        expect_few_pinned
        for id in disk0 nic0; do
            vm_qmp device_del "{\"id\":\"$id\"}" || fail "$VM_ERROR"
        done
        unplugged disk0
        unplugged nic0
        expect_unpinned
        counter stuck-bytes
        [ "$VALUE" -eq 0 ] || fail "the host has refused to unmap"
        counter attached-endpoints
        [ "$VALUE" -eq 0 ] || fail "$VALUE endpoints are attached"
        vm_qmp device_add "{$vfio_json,\"host\":\"$nic\",\"id\":\"nic0\",\"bus\":\"rp0\"}" ||
            fail "$VM_ERROR"
        vm_qmp device_add "{$vfio_json,\"host\":\"$disk\",\"id\":\"disk0\",\"bus\":\"rp1\"}" ||
            fail "$VM_ERROR"
        vm_run 300 "wait_for 100 test -b /dev/nvme0n1 && guest_nic_up" ||
            fail "the devices aren't back"
        echo "round $round of $LAB_ROUNDS"
    done
    vm_run 300 "guest_nvme 0"
    # The disk has gone under its reader, who is told so; more must not be in the log.
    vm_run 120 "! dmesg | grep -E 'WARNING:|BUG:|Oops|Call Trace'"
    vm_quit
    echo "cost: $LAB_ROUNDS rounds"
}

# ---- a hostile guest -------------------------------------------------------------

# Beside the hostile VM, in a process of its own: one that does nothing but its
# work, until /tmp/storm-over appears.
neighbour() {
    local n=0
    trap vm_kill EXIT
    tracked_guest neighbour "${coiommu[@]}" -device "$vfio,host=$nic,id=nic0"
    touch /tmp/neighbour-up
    until [ -e /tmp/storm-over ]; do
        vm_run 300 "guest_net $PEER"
        n=$((n + 1))
    done
    counter request-errors
    [ "$VALUE" -eq 0 ] || fail "$VALUE of its requests failed"
    expect_consistent
    vm_run 120 guest_counters_ok
    vm_run 120 guest_dmesg_ok
    vm_quit
    echo "the neighbour is well after $n rounds"
}

QUOTA=$((64 << 20))
ATTACKS=10000

# What must hold whatever the guest does.
expect_quota() {
    counter pinned-bytes-peak
    [ "$VALUE" -le "$QUOTA" ] || fail "$VALUE bytes were pinned, more than max-pinned"
    [ "$VM_PEAK" -le $((QUOTA + BASE)) ] || fail "the kernel has seen $VM_PEAK bytes locked"
}

# The guest with the disk writes garbage into all that the device reads; a VM
# with the NIC works beside it.  Then the hostile VM is reset, and must be good
# for work again.
hostile() {
    local pid name
    cat "$VM_INITRD" /job/hostile.cpio >/tmp/hostile-initrd
    rm -f /tmp/neighbour-up /tmp/storm-over
    neighbour >/tmp/neighbour.log 2>&1 &
    pid=$!
    # shellcheck disable=SC2064  # this one's
    trap "touch /tmp/storm-over; vm_kill; wait $pid; cat /tmp/neighbour.log" EXIT
    VM_INITRD=/tmp/hostile-initrd
    tracked_guest hostile -action reboot=reset \
        -device "coiommu,id=coi0,max-pinned=$QUOTA" -device "$vfio,host=$disk,id=disk0"
    vm_run 120 guest_nvme_up
    while [ ! -e /tmp/neighbour-up ]; do
        kill -0 $pid 2>/dev/null || fail "the neighbour doesn't come up"
        sleep 0.2
    done
    vm_run 120 disk_hammer
    vm_run 300 "insmod /hostile.ko attacks=$ATTACKS seed=$LAB_SEED" || fail "no attack"
    for name in requests request-errors demand-pin-blocks pin-errors; do
        counter $name
        [ "$VALUE" -gt 100 ] || fail "the attack didn't get through"
    done
    expect_quota
    VM_SAID=()
    vm_qmp system_reset || fail "$VM_ERROR"
    vm_wait booted 240
    [ "${VM_SAID[coiommu]}" = bound ] || fail "the driver isn't bound after the reset"
    vm_run 300 "guest_nvme 0"
    expect_consistent
    expect_quota
    vm_quit || fail "QEMU ended with status $VM_STATUS"
    touch /tmp/storm-over
    wait $pid || fail "the neighbour has suffered"
    # Its own devices' faults are the hostile guest's business.
    ! host_log hostile | grep 'DMAR:.*Request device' |
        grep -vF "Request device [${disk#0000:}]" ||
        fail "faults of somebody else's device"
}

# ---- the demo's measurements on a real host ------------------------------------------

# When was the disk last written to?  The emulated disk's image is beside the job.
disk_written() {
    stat -c %y /job/disk
}

# expect_rows OUT RESULTS: the rows are as the demo wants them, and devices were
# tested with these results.
expect_rows() {
    local bytes=$((512 << 20))
    . /job/report.sh
    report_join "$1/ready" "$1/rows" >"$1/table"
    report_table "$1/table"
    cat "$1/problems"
    [ ! -s "$1/problems" ] || fail "there were problems"
    [ -z "$(report_check "$1/table" $bytes no)" ] ||
        fail "$(report_check "$1/table" $bytes no)"
    [ "$(grep -c " $2 " "$1/table")" -eq 3 ] || fail "not every device was tested"
}

# rows.sh as `scripts/demo --host-device` calls it: the disk is somebody's, so it
# may only be read.
host_device() {
    local out=/job/host-device before
    before=$(disk_written)
    /job/rows.sh "${rows_backend[@]}" --out $out --sizes 512M --devices " $disk" --trials 1
    expect_rows $out "nvme=1 net=-"
    [ "$(disk_written)" = "$before" ] || fail "the disk has been written to"
}

# With --destroy-data, and a NIC that has no peer: the guests' data is on the disk.
host_device_destroy() {
    local out=/job/host-device-destroy slot sum there
    /job/rows.sh "${rows_backend[@]}" --out $out --sizes 512M --devices " $disk $nic" \
        --trials 1 --destroy-data
    expect_rows $out "nvme=1 net=1"
    [ "$(wc -l <$out/disk-sums)" -eq 3 ] || fail "three guests should have written"
    while read -r slot sum; do
        there=$(dd if=/job/disk bs=1M skip=$((64 + slot * 8)) count=8 2>/dev/null | sha256sum)
        [ "${there%% *}" = "$sum" ] || fail "slot $slot isn't on the disk"
    done <$out/disk-sums
}
