# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices and memory that come and go, and drivers that are left alone."""

from checks import (EDU, EDU_ID, check_attached, check_disk, check_groups,
                    check_pinned, check_rebound, edu_run, finish)
from guest import check
from layout import check_direct

MIB = 1 << 20


def add_memory(scenario, leaves, **options):
    """Add 128 MiB, for which the table gets so many leaves, and use them."""
    with scenario.boot("edu,dma_mask=0xffffffffffffffff",
                       memory="512M,slots=1,maxmem=4G", **options) as vm:
        vm.load()
        vm.run("modprobe edu_test bits=64")
        edu, = vm.address(EDU_ID)
        before = vm.table()
        vm.run("echo online_kernel > "
               "/sys/devices/system/memory/auto_online_blocks")
        vm.monitor("object-add", **{"qom-type": "memory-backend-ram",
                                    "id": "dimm", "size": 128 << 20})
        vm.monitor("device_add", driver="pc-dimm", id="dimm0", memdev="dimm")
        vm.wait("grep -q online /sys/devices/system/memory/memory32/state")
        after = vm.table()
        check(after["leaves"] - before["leaves"] == leaves,
              f"the table has {leaves} more leaves")
        edu_run(vm, edu, "stream")
        check(vm.output("dmesg").count(
            "stream: bounced no, highest page 0x000000010") == 1,
            "the added memory was used")
        finish(vm, edu)


def memory(scenario):
    """Memory that is added while the driver runs can be used for DMA."""
    add_memory(scenario, 2)
    # What the table must have for RAM ends below.
    add_memory(scenario, 32, coiommu="unit=4K")


BLOCK = "/sys/devices/system/memory/memory32"


def plug_virtio_mem(vm):
    """Add the block of memory at 4 GiB by virtio-mem; it is offline."""
    vm.run("echo offline > /sys/devices/system/memory/auto_online_blocks")
    vm.run("modprobe virtio_mem && modprobe virtio_pci")
    vm.monitor("object-add", **{"qom-type": "memory-backend-ram",
                                "id": "vmem", "size": 256 << 20})
    vm.monitor("device_add", driver="virtio-mem-pci", id="vmem0", bus="rp1",
               memdev="vmem", iommu_platform=True,
               **{"requested-size": 128 << 20})
    vm.wait(f"test -e {BLOCK}/state")
    vm.run("grep 'System RAM (virtio_mem)' /proc/iomem")


def check_bounced(vm, disk):
    """Direct I/O into memory that can't be pinned ends, with the right data."""
    vm.run("modprobe nvme && modprobe edu_test")
    nvme, = vm.address("1b36:0010")
    edu, = vm.address(EDU_ID)
    # The kernel takes that memory for processes first.
    used = vm.output("cat /sys/kernel/debug/swiotlb/io_tlb_used_hiwater")
    vm.wait("test -b /dev/nvme0n1")
    check_direct(vm, disk, 1)
    check(int(vm.output("cat /sys/kernel/debug/swiotlb/io_tlb_used_hiwater")) >
          int(used), "it was bounced")
    check(vm.table("requests")["failures"] == 0, "no request failed")
    check_disk(vm)
    edu_run(vm, edu, "resource")
    edu_run(vm, edu, "walk")
    for address in nvme, edu:
        vm.unbind(address)
    check(vm.table()["mappings"] == 0, "all is taken back")
    vm.check_clean()


def virtio_mem(scenario):
    """Memory that the host can't pin stays offline, and all else works."""
    devices = EDU, "nvme,serial=1,drive=disk", "pcie-root-port,id=rp1,chassis=1"
    with scenario.boot(*devices, memory="512M,maxmem=4G") as vm:
        vm.load()
        vm.run("modprobe edu_test && modprobe nvme")
        plug_virtio_mem(vm)
        for how in "online", "online_kernel", "online_movable":
            vm.run(f"echo {how} > {BLOCK}/state", ok=False)
        vm.run(f"grep offline {BLOCK}/state")
        check(vm.output("dmesg").count(
            "coiommu: memory 0x100000000-0x107ffffff is virtio-mem's") == 3,
            "a line for each refusal names the memory")
        edu_run(vm, vm.address(EDU_ID)[0], "walk")
        check_disk(vm)
        check_pinned(vm)
        vm.monitor("qom-set", path="/machine/peripheral/vmem0",
                   property="requested-size", value=0)
        vm.wait(f"test ! -e {BLOCK}")
        finish(vm, *vm.address(EDU_ID), *vm.address("1b36:0010"),
               *vm.address("1af4:1058"))
    with scenario.boot(*devices, memory="512M,maxmem=4G") as vm:
        plug_virtio_mem(vm)
        vm.load()
        check("online already" not in vm.output("dmesg"), "it is offline")
        vm.run("rmmod coiommu")
        vm.run(f"echo online_movable > {BLOCK}/state")
        vm.load()
        check(vm.output("dmesg").count(
            "coiommu: memory at 0x100000000 is virtio-mem's") == 1,
            "one line tells of memory that is online already")
        check_bounced(vm, scenario.disk)
    # The same without bounce buffers.
    with scenario.boot(*devices, memory="512M,maxmem=4G",
                       args="swiotlb=noforce") as vm:
        plug_virtio_mem(vm)
        vm.run(f"echo online_movable > {BLOCK}/state")
        vm.load()
        vm.run("modprobe edu_test")
        check("not tracked: memory that the host can't pin is online, and "
              "there are no bounce buffers" in vm.output("dmesg"),
              "one line says so")
        check(vm.counter("attached-endpoints") == 0, "nothing is attached")
        vm.check_clean()


def pmem(scenario):
    """Persistent memory is counted and pinned as RAM is."""
    # All that a page of the table covers, so that none is there for its sake.
    place = 0x10000000
    with scenario.boot(EDU, args=f"memmap=64M!{place:#x}") as vm:
        vm.run(f"grep '^ *{place:08x}-.*Persistent Memory' /proc/iomem")
        vm.load()
        vm.run(f"modprobe edu_test phys={place + 0x5000:#x}")
        edu, = vm.address(EDU_ID)
        edu_run(vm, edu, "phys")
        check(vm.table()["refused-maps"] == 0, "no mapping was refused")
        check(vm.table("requests")["failures"] == 0, "nor a request")
        check(vm.table()["mappings"] == 0, "all is taken back")
        finish(vm, edu)


def hidden(scenario):
    """RAM that the kernel was told not to use is counted and pinned as well."""
    with scenario.boot(EDU, args="mem=400M") as vm:
        vm.load()
        leaves = vm.table()["leaves"]
        vm.run("grep 'RAM buffer' /proc/iomem")
        vm.run("modprobe edu_test")
        edu, = vm.address(EDU_ID)
        before = vm.counter("demand-pin-requests")
        # In that buffer, and where the table has nothing yet.
        for place in 416 * MIB, 480 * MIB:
            vm.run(f"echo {place} > /sys/module/edu_test/parameters/phys")
            edu_run(vm, edu, "hidden")
        check(vm.table()["leaves"] == leaves + 1, "the table has grown")
        check(vm.counter("demand-pin-requests") > before, "it was pinned")
        check(vm.table("requests")["failures"] == 0, "no request failed")
        edu_run(vm, edu, "resource")
        check(vm.table()["mappings"] == 0, "all is taken back")
        finish(vm, edu)


def late(scenario):
    """A device that is bound before the module is loaded is not adopted."""
    with scenario.boot(EDU) as vm:
        # Nobody has asked for the table that makes drivers wait.
        vm.run("test -e /sys/firmware/acpi/tables/VIOT", ok=False)
        vm.run("modprobe edu_test")
        edu, = vm.address(EDU_ID)
        vm.load()
        log = vm.output("dmesg | grep coiommu:")
        line = f"{edu}: coiommu: not tracked: bound to edu_test before"
        check(log.count(line) == 1, "one line names the device")
        check(vm.counter("attached-endpoints") == 0, "nothing is attached")
        # It works all the same.
        edu_run(vm, edu, "walk")
        check_rebound(vm, edu)
        finish(vm, edu)


def managed(scenario):
    """Devices whose drivers bypass the DMA API are not attached."""
    with scenario.boot(EDU) as vm:
        vm.load()
        edu, = vm.address(EDU_ID)
        vm.run("modprobe pci-stub; modprobe pci_stub", ok=None)
        vm.run("echo 1234 11e8 > /sys/bus/pci/drivers/pci-stub/new_id")
        vm.run(f"test -e /sys/bus/pci/drivers/pci-stub/{edu}")
        check("not tracked: its driver does DMA past the DMA API" in
              vm.output("dmesg | grep 'not tracked'"), "one line says so")
        check(vm.counter("attached-endpoints") == 0, "nothing is attached")
        # Its driver uses the group all the same.
        check_groups(vm, edu)
        vm.run("rmmod coiommu", ok=False)
        vm.unbind(edu)
        vm.run("rmmod coiommu")
        vm.run("modprobe coiommu skip=a,edu_test,b")
        vm.run("modprobe edu_test")
        check("not tracked: its driver is in the module's skip list" in
              vm.output("dmesg | grep 'not tracked'"), "one line says so")
        check(vm.counter("attached-endpoints") == 0, "nothing is attached")
        vm.unbind(edu)
        vm.run("rmmod coiommu")
        vm.check_clean()


def life(scenario):
    """Rebind, a driver that fails, the function's removal, shutdown."""
    with scenario.boot(EDU) as vm:
        vm.load()
        coi, = vm.address("1af4:10f0")
        edu, = vm.address(EDU_ID)
        vm.run("modprobe edu_test bits=0", ok=None)
        vm.check_idle()
        vm.run("rmmod edu_test && modprobe edu_test")
        for _ in range(3):
            check_attached(vm, edu)
            edu_run(vm, edu, "walk")
            vm.unbind(edu)
            vm.check_idle()
            vm.run(f"echo {edu} > /sys/bus/pci/drivers/edu_test/bind")
        # Taking the function away unbinds what depends on it first.
        edu_run(vm, edu, "hold")
        vm.run(f"echo {coi} > /sys/bus/pci/drivers/coiommu/unbind")
        vm.run(f"test -e /sys/bus/pci/devices/{edu}/driver", ok=False)
        check(vm.counter("pinned-bytes") == 0, "nothing is pinned")
        check_groups(vm)
        check(f"{edu}: coiommu: taken from its driver" in vm.output("dmesg"),
              "the log says so")
        # It comes back with coIOMMU.
        vm.run(f"echo {coi} > /sys/bus/pci/drivers/coiommu/bind")
        vm.wait(f"test -e /sys/bus/pci/drivers/edu_test/{edu}/run")
        check_groups(vm, edu)
        vm.run(f"echo DMA > /sys/bus/pci/devices/{edu}/iommu_group/type",
               ok=False)
        check_attached(vm, edu)
        edu_run(vm, edu, "hold")
        check(vm.counter("pinned-bytes") > 0, "memory is pinned")
        vm.check_clean()
        # A clean shutdown tells the host to forget the table.
        vm.monitor("set-action", shutdown="pause")
        vm.serial.sendall(b"poweroff -f\n")
        vm.wait_event("SHUTDOWN")
        check(vm.counter("attached-endpoints") == 0, "nothing is attached")
        check(vm.counter("pinned-bytes") == 0, "nothing is pinned")


def plug_edu(vm):
    """Plug edu in, as a new device; its address."""
    vm.monitor("device_add", driver="edu", id="edu", bus="rp1",
               dma_mask=0xffffffff)
    vm.wait("ls /sys/bus/pci/drivers/edu_test/*:*/run 2>/dev/null")
    edu, = vm.address(EDU_ID)
    check_attached(vm, edu)
    edu_run(vm, edu, "stream")
    return edu


def unplug_edu(vm, edu, warnings):
    """Pull it out; how many warnings there have been by then."""
    vm.unplug("edu", edu)
    check(vm.output("cat /sys/kernel/debug/coiommu/devices") == "",
          "the driver has forgotten it")
    # What is left of it goes with the last reference, which no event tells of.
    vm.wait("grep -qx 'mappings 0' /sys/kernel/debug/coiommu/dtt")
    vm.check_idle()
    log = vm.output("dmesg")
    check(log.count("of drivers that are gone were never undone") == warnings,
          f"{warnings} such warnings")
    check(log.count("coiommu 0000") == 1 + warnings, "and no others")


def replug(scenario):
    """A device is pulled out, with mappings left behind, and comes back."""
    # The kernel's own checker, if it has one, reports what is left behind.
    with scenario.boot("pcie-root-port,id=rp1,chassis=1",
                       args="dma_debug=off") as vm:
        vm.load()
        vm.run("modprobe edu_test")
        edu = plug_edu(vm)
        edu_run(vm, edu, "hold")
        unplug_edu(vm, edu, 0)
        edu = plug_edu(vm)
        edu_run(vm, edu, "leak")
        edu_run(vm, edu, "hold")
        unplug_edu(vm, edu, 1)
        plug_edu(vm)
        finish(vm, edu)


SCENARIOS = [memory, virtio_mem, pmem, hidden, late, managed, life, replug]
