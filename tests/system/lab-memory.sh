# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Scenarios of lab.sh about guest memory of all kinds: added while the guest runs, with a
# hole in it, from other backends, used by two devices at once; and functions of one
# device.  Sourced by lab.sh, whose helpers they use.
# shellcheck disable=SC2154  # variables of lab.sh

# expect_dma_at PATTERN: QEMU, which was started with -trace coiommu_pin, has pinned
# blocks whose guest address is like this; while nothing else pins these, that is because
# the guest asked for them.
expect_dma_at() {
    local n
    n=$(grep -cE "coiommu_pin .*GPA $1 .* ret 0" "$VM_LOGS/$VM_NAME.qemu") ||
        fail "no DMA to $1"
    echo "$n blocks pinned at $1"
}

# work_both SLOT: disk and NIC, each byte compared.
work_both() {
    vm_run 300 "guest_nvme $1"
    vm_run 300 "guest_net $PEER"
}

# Memory is plugged in while all is pinned for a driver that was there first, and used
# by the tracked disk.
dimm() {
    late_guest dimm -m "$MEM,slots=2,maxmem=2G" -trace coiommu_pin "${coiommu[@]}" "${assigned[@]}"
    vm_run 120 guest_nvme_up
    expect_all_pinned
    vm_run 120 'echo online_movable >/sys/devices/system/memory/auto_online_blocks'
    plug_memory 0
    MEM=640M expect_all_pinned
    load_driver
    vm_run 120 'guest_rebind "$(pci_of_class 0x0108)" ""; wait_for 20 test -b /dev/nvme0n1'
    expect_devices 1 0
    expect_few_pinned
    plug_memory 1
    expect_few_pinned
    # User memory comes from the movable zone first, and this is more than the first piece.
    vm_run 300 "nvme_raw_check 0"
    vm_run 120 '[ "$(disk_sum bs=160M count=1 iflag=direct)" = "$(disk_sum bs=1M count=160 iflag=direct)" ]'
    expect_dma_at '0x10[89a-f][0-9a-f]{6}'
    work_both 1
    expect_consistent
    finish_guest
}

# plug_memory N: the Nth piece of 128 MiB, which the guest takes.
plug_memory() {
    vm_qmp object-add "{\"qom-type\":\"memory-backend-ram\",\"id\":\"mem$1\",\"size\":134217728}" ||
        fail "$VM_ERROR"
    vm_qmp device_add "{\"driver\":\"pc-dimm\",\"id\":\"dimm$1\",\"memdev\":\"mem$1\"}" ||
        fail "$VM_ERROR"
    vm_run 120 "wait_for 30 grep -q online /sys/devices/system/memory/memory$((32 + $1))/state"
}

# Some of the memory is above 4 GiB, and the rest ends at 256 MiB.
low_hole() {
    tracked_guest low_hole -machine max-ram-below-4g=256M -trace coiommu_pin \
        "${coiommu[@]}" "${assigned[@]}"
    vm_run 120 "grep -E '^ *100000000-.*System RAM' /proc/iomem"
    work_both 0
    expect_devices 2 0
    expect_dma_at '0x1[0-9a-f]{8}'
    expect_few_pinned
    vm_run 120 guest_unload
    # And without the driver.
    vm_run 120 'guest_rebind "$(pci_of_class 0x0108)" ""'
    vm_run 120 "wait_for 20 test -b /dev/nvme0n1 && nvme_raw_same ${VM_SAID[nvme_raw]}"
    expect_all_pinned
    vm_run 120 guest_dmesg_ok
    vm_run 120 guest_unbind
    expect_unpinned
    vm_quit
}

# Guest memory that isn't QEMU's own anonymous pages.
# backend NAME TYPE PROPERTIES
backend() {
    tracked_guest "$1" "${coiommu[@]}" "${assigned[@]}" \
        -object "memory-backend-$2,id=ram,size=$MEM,$3" -machine memory-backend=ram
    work_both 0
    expect_devices 2 0
    expect_few_pinned
    finish_guest
}

HUGE=/proc/sys/vm/nr_hugepages

# Two files are written in turns, page by page, so no two pages of one lie together in
# the host's memory; one of them is the guest's.
scattered() {
    head -c "$MEM" /dev/zero | tee /dev/shm/guest >/dev/shm/between
    rm /dev/shm/between
    backend scattered file mem-path=/dev/shm/guest,share=on
    rm /dev/shm/guest
}

# Guest memory from memfd, scattered, and in huge pages.
backends() {
    local MEM=384M
    trap 'vm_kill; rm -f /dev/shm/{guest,between}; echo 0 >$HUGE' EXIT
    backend memfd memfd share=on
    scattered
    echo 3 >/proc/sys/vm/drop_caches
    echo 1 >/proc/sys/vm/compact_memory
    echo $((${MEM%M} / 2)) >$HUGE
    backend hugetlb memfd hugetlb=on,hugetlbsize=2M,prealloc=on
}

# The same pages are read by disk and NIC at the same time, each for its own purpose, and
# what neither has mapped is unpinned at once.
shared_pages() {
    with_tools
    busy_guest shared_pages -device coiommu,id=coi0,block=64K,unpin-interval=1 "${assigned[@]}"
    vm_run 120 'dd if=/dev/urandom of=/tmp/bulk bs=1M count=$SEND_MIB; sha256sum </tmp/bulk >/tmp/sum'
    vm_run 300 "share /tmp/bulk /dev/nvme0n1 $((128 << 20)) $PEER 5001 >/tmp/theirs"
    vm_run 120 '[ "$(cat /tmp/theirs)" = "$(cut -c1-64 /tmp/sum)" ]' || fail "the NIC sent something else"
    vm_run 120 'nvme_raw_same 8 "$(cut -c1-64 /tmp/sum)"' || fail "the disk has something else"
    counter lazy-unpinned-blocks
    [ "$VALUE" -gt 0 ] || fail "nothing was let go"
    expect_devices 2 0
    expect_few_pinned
    finish_guest
}

# The IOMMU group of a device of the host.
group() {
    readlink -f "/sys/bus/pci/devices/$1/iommu_group"
}

# Two functions of one device: in the guest only, and in the host, where they share an
# IOMMU group.
functions() {
    local twins=0000:00:0c
    [ "$(group "$disk")" != "$(group "$nic")" ] || fail "one group"
    tracked_guest functions "${coiommu[@]}" \
        -device "$vfio,host=$disk,id=disk0,multifunction=on,addr=10.0" \
        -device "$vfio,host=$nic,id=nic0,addr=10.1"
    work_both 0
    expect_devices 2 0
    expect_few_pinned
    finish_guest
    [ "$(group $twins.0)" = "$(group $twins.1)" ] || fail "two groups"
    host_bind $twins.0
    host_bind $twins.1
    tracked_guest functions "${coiommu[@]}" \
        -device "$vfio,host=$twins.0,id=twin0,multifunction=on,addr=10.0" \
        -device "$vfio,host=$twins.1,id=twin1,addr=10.1"
    counter containers
    [ "$VALUE" -eq 1 ] || fail "$VALUE containers"
    vm_run 120 guest_nvme_up
    vm_run 300 nvme_fs_check
    vm_run 300 'dd if=/dev/urandom of=/tmp/bulk bs=1M count=8; wait_for 20 test -b /dev/nvme1n1'
    vm_run 300 'dd if=/tmp/bulk of=/dev/nvme1n1 bs=128k oflag=direct'
    vm_run 300 'dd if=/dev/nvme1n1 bs=128k count=64 iflag=direct | cmp - /tmp/bulk'
    expect_devices 2 0
    expect_few_pinned
    finish_guest
}
