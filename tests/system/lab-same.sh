# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# A scenario of lab.sh: one guest image with plain VFIO, coIOMMU, and a virtual IOMMU,
# and the same work for the disk in each: the same bytes must come out.  Sourced by
# lab.sh, whose helpers it uses.
# shellcheck disable=SC2154  # variables of lab.sh

# Of the disk, in MiB: where fio writes what depends on nothing but the place.  The file
# system is below, and fio's blocks with headers, which have times in them, above.
FIO_AT=64
FIO_MIB=24
FIO_HEADED_AT=96

# fio's options for both jobs: blocks of mixed sizes, many at once, in random order,
# each written once and then read back and verified.
FIO="fio --filename=/dev/nvme0n1 --direct=1 --ioengine=libaio --iodepth=16 --rw=randwrite \
--bsrange=4k-128k --bs_unaligned=0 --size=${FIO_MIB}M --randseed=5 --do_verify=1 --verify_fatal=1 \
--thread=1 --minimal"

# work MODE ARGUMENTS...: the work in a VM with this; what came out is in /tmp/same.MODE,
# a line for each thing that must be the same everywhere.
work() {
    local MEM=1G
    vm_up "same-$1" "$MEM" "${@:2}" || fail "$VM_ERROR $(cat "$VM_LOGS/same-$1.qemu")"
    vm_run 120 guest_nvme_up
    vm_run 300 "$FIO --name=pattern --offset=${FIO_AT}M --verify=pattern --verify_pattern=%o" ||
        fail "fio has read something else than it wrote"
    vm_run 300 "$FIO --name=headed --offset=${FIO_HEADED_AT}M --verify=crc32c" ||
        fail "fio has read something else than it wrote"
    vm_run 300 guest_fs_cycle || fail "the file system is wrong"
    vm_run 120 'echo "@rig files $(wc -l </tmp/files) $(sha256sum </tmp/files)"'
    vm_run 120 'tail -n 1 /tmp/fsck; echo "@rig fsck $(sha256sum </tmp/fsck)"'
    vm_run 120 guest_dmesg_ok
    {
        echo "files ${VM_SAID[files]}"
        echo "fsck ${VM_SAID[fsck]}"
        # As the machine below has it, that the disk is part of.
        echo "disk $(dd if=/job/disk bs=1M skip=$FIO_AT count=$FIO_MIB 2>/dev/null | sha256sum)"
    } >"/tmp/same.$1"
    cat "/tmp/same.$1"
}

# wipe: what the last VM wrote is not there any more, so that it can't count.
wipe() {
    vm_run 120 'dd if=/dev/zero of=/dev/nvme0n1 bs=1M count=128 oflag=direct'
}

# fio and ext4 on the same disk with static pinning, coIOMMU and intel-iommu.
same_bytes() {
    local mode
    cat "$VM_INITRD" /job/fio.cpio >/tmp/fio-initrd
    VM_INITRD=/tmp/fio-initrd
    work static -device "$vfio,host=$disk,id=disk0"
    [ "$VM_PEAK" -ge $((1 << 30)) ] || fail "static pinning has pinned $VM_PEAK bytes only"
    wipe
    vm_quit
    work coiommu "${coiommu[@]}" -device "$vfio,host=$disk,id=disk0"
    expect_devices 1 0
    expect_few_pinned
    wipe
    finish_guest
    VM_APPEND+=" intel_iommu=on" work viommu -machine kernel-irqchip=split \
        -device intel-iommu,intremap=on,caching-mode=on -device "$vfio,host=$disk,id=disk0"
    vm_run 120 'grep DMA "/sys/bus/pci/devices/$(pci_of_class 0x0108)/iommu_group/type"' ||
        fail "the guest doesn't use its IOMMU"
    vm_quit
    rm -f /tmp/fio-initrd
    for mode in coiommu viommu; do
        cmp /tmp/same.static /tmp/same.$mode || fail "$mode isn't the same as static"
    done
}
