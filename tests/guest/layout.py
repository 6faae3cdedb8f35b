# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests and machines laid out oddly: O_DIRECT at odd sectors, NUMA nodes."""

import hashlib

from checks import (DISK, EDU, EDU_ID, check_attached, check_disk,
                    check_pinned, edu_run, finish)
from guest import check

USED = 4 << 20          # what tests/guest/direct.c uses of the disk


def check_direct(vm, disk, seed, cpu=0):
    """Odd requests from one CPU; guest and host find the same on the disk."""
    vm.run(f"taskset {1 << cpu} direct /dev/nvme0n1 /tmp/copy {seed} 200")
    copy = vm.output("sha256sum </tmp/copy").split()[0]
    vm.run("rm /tmp/copy")
    with open(disk, "rb") as file:
        there = hashlib.sha256(file.read(USED)).hexdigest()
    check(copy == there, "the disk holds what the guest has written")


def direct(scenario):
    """O_DIRECT at odd sectors of disk and memory, while blocks are let go."""
    with scenario.boot("nvme,serial=1,drive=disk",
                       coiommu="unit=4K,block=4K,unpin-interval=1") as vm:
        vm.load()
        vm.run("modprobe nvme")
        nvme, = vm.address("1b36:0010")
        vm.wait("test -b /dev/nvme0n1")
        for cpu in 0, 1:
            check_direct(vm, scenario.disk, 1 + cpu, cpu)
        check_attached(vm, nvme)
        check_pinned(vm)
        check(vm.counter("lazy-unpinned-blocks") > 0, "some were unpinned")
        finish(vm, nvme)


def nodes(first):
    """QEMU's arguments for two nodes, each with a CPU, of 512 MiB in all."""
    arguments = ["-smp", "sockets=2"]
    for i, size in enumerate((first, (512 << 20) - first)):
        arguments += ["-object", f"memory-backend-ram,id=ram{i},size={size}",
                      "-numa", f"node,nodeid={i},memdev=ram{i},cpus={i}"]
    return arguments


def numa(scenario):
    """Devices on root complexes of two nodes, one of which ends in a unit."""
    with scenario.boot(
            "pxb-pcie,id=pxb0,bus_nr=0x40,bus=pcie.0,numa_node=0",
            "pxb-pcie,id=pxb1,bus_nr=0x80,bus=pcie.0,numa_node=1",
            "pcie-root-port,id=rp0,bus=pxb0,chassis=1",
            "pcie-root-port,id=rp1,bus=pxb1,chassis=2",
            "nvme,serial=1,drive=disk,bus=rp1", f"{EDU},bus=rp0",
            machine=nodes((200 << 20) + (36 << 10)),
            coiommu="unit=64K,block=2M") as vm:
        vm.load()
        vm.run("modprobe nvme && modprobe edu_test")
        nvme, = vm.address("1b36:0010")
        edu, = vm.address(EDU_ID)
        for address, node in (edu, 0), (nvme, 1):
            vm.run(f"[ $(cat /sys/bus/pci/devices/{address}/numa_node) = "
                   f"{node} ]")
            vm.run(f"grep MemTotal /sys/devices/system/node/node{node}/meminfo")
        check_disk(vm)
        for cpu in 0, 1:
            check_direct(vm, scenario.disk, 3 + cpu, cpu)
            # Memory is taken from the CPU's own node first: most of each.
            vm.run(f"taskset {1 << cpu} dd if=/dev/nvme0n1 bs={DISK} count=1 "
                   "iflag=direct 2>/dev/null | sha256sum >/tmp/one")
            vm.run(f"taskset {1 << cpu} dd if=/dev/nvme0n1 bs=1M "
                   "iflag=direct 2>/dev/null | sha256sum | cmp - /tmp/one")
        edu_run(vm, edu, "stream")
        check_attached(vm, nvme, edu)
        check_pinned(vm)
        # pxb-pcie itself is a function without a driver.
        finish(vm, nvme, edu, others=vm.address("1b36:000b"))


SCENARIOS = [direct, numa]
