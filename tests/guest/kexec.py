# SPDX-License-Identifier: GPL-2.0-or-later
"""From one kernel to the next without a reset between them."""

import hashlib

from checks import (DISK, EDU, EDU_ID, check_attached, check_disk, check_pinned,
                    edu_run, finish)
from guest import check, kernel_args

MIB = 1 << 20
# Where the next kernel is on the disk, behind what check_disk() writes.
PLACES = (("vmlinuz", 8), ("initrd", 24))


def fill_disk(scenario):
    """Put the kernel and the initramfs on the disk; their sizes and sums."""
    files = {}
    with open(scenario.disk, "r+b") as disk:
        for name, mib in PLACES:
            with open(f"{scenario.image}/{name}", "rb") as source:
                data = source.read()
            end = DISK if name == "initrd" else 24 * MIB
            check(len(data) <= end - mib * MIB,
                  f"{name} has its place on the disk")
            disk.seek(mib * MIB)
            disk.write(data)
            files[name] = len(data), hashlib.md5(data).hexdigest()
    return files


def fetch(vm, files):
    """Read them back through the tracked disk."""
    for name, mib in PLACES:
        size, digest = files[name]
        vm.run(f"dd if=/dev/nvme0n1 bs=1M skip={mib} 2>/dev/null "
               f"| head -c {size} > /tmp/{name}")
        check(digest in vm.output(f"md5sum /tmp/{name}"), f"{name} is whole")


def drivers(vm):
    """Load everything; the disk's and edu's addresses."""
    vm.load()
    vm.run("modprobe nvme && modprobe edu_test")
    nvme, = vm.address("1b36:0010")
    edu, = vm.address(EDU_ID)
    vm.wait("test -b /dev/nvme0n1")
    return nvme, edu


def forgotten(vm):
    """The last kernel has left nothing behind in the host.

    Nor had QEMU to find that out from the next one, which gives up a table
    that nobody has taken back.
    """
    vm.check_abandoned()
    check(vm.counter("attached-endpoints") == 0, "nothing is attached")
    check(vm.counter("pinned-bytes") == 0, "nothing is pinned")
    check(vm.counter("dma-faults") == 0, "no DMA missed its mapping")


def kexec(scenario):
    """kexec twice: the host forgets the old table each time."""
    files = fill_disk(scenario)
    with scenario.boot("nvme,serial=1,drive=disk", EDU) as vm:
        for _ in range(2):
            nvme, edu = drivers(vm)
            check_disk(vm)
            # edu's driver unmaps nothing at shutdown: its mappings stay.
            edu_run(vm, edu, "hold")
            check_attached(vm, nvme, edu)
            check_pinned(vm)
            fetch(vm, files)
            vm.run("kexec load /tmp/vmlinuz /tmp/initrd "
                   f"'{kernel_args()}'")
            vm.check_clean()
            vm.start("kexec exec")
            vm.wait_ready()
            forgotten(vm)
        nvme, edu = drivers(vm)
        check_disk(vm)
        edu_run(vm, edu, "stream")
        finish(vm, nvme, edu)


def kdump(scenario):
    """A crash kernel, without the driver and with it, after one that said nothing."""
    files = fill_disk(scenario)
    with scenario.boot("nvme,serial=1,drive=disk", EDU, memory="768M",
                       args="crashkernel=256M") as vm:
        nvme, edu = drivers(vm)
        edu_run(vm, edu, "hold")
        fetch(vm, files)
        vm.run("kexec crash /tmp/vmlinuz /tmp/initrd "
               f"'{kernel_args()} nr_cpus=1 reset_devices'")
        check_attached(vm, nvme, edu)
        vm.start("echo c > /proc/sysrq-trigger")
        vm.wait_ready()
        # By its look for devices the host knows whose table it was.
        vm.crashes += 1
        vm.check_abandoned()
        check(vm.counter("attached-endpoints") == 0, "nothing is attached")
        check(vm.counter("fallback-active") == 2, "both may do DMA")
        check(vm.counter("fallback-bytes") == 768 * MIB - 0x60000,
              "all memory is pinned for them")
        vm.run("modprobe nvme")
        check_disk(vm)
        vm.run("modprobe -r nvme")
        nvme, edu = drivers(vm)
        check_attached(vm, nvme, edu)
        check_disk(vm)
        # The dump itself, to the disk and back.
        vm.run("dd if=/proc/vmcore of=/dev/nvme0n1 bs=64k count=256 "
               "conv=fsync 2>/dev/null && echo 3 > /proc/sys/vm/drop_caches")
        vm.run("cmp -n 16777216 /dev/nvme0n1 /proc/vmcore")
        edu_run(vm, edu, "stream")
        finish(vm, nvme, edu)


SCENARIOS = [kexec, kdump]
