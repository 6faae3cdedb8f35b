# SPDX-License-Identifier: GPL-2.0-or-later
"""coIOMMU as an IOMMU: groups, and drivers that wait for it (VIOT)."""

import struct

from checks import (EDU, EDU_ID, check_attached, check_disk, check_groups,
                    check_net, check_pinned, check_rebound, finish)
from guest import check

VIOT = "/sys/firmware/acpi/tables/VIOT"
DEFERRED = "/sys/kernel/debug/devices_deferred"


def bdf(address):
    """The number of a function from its address, as in 0000:01:00.0."""
    _, bus, rest = address.split(":")
    slot, function = rest.split(".")
    return int(bus, 16) << 8 | int(slot, 16) << 3 | int(function, 16)


def read_viot(vm):
    """The table as the guest has it: the IOMMU's BDF, and its ranges."""
    text = vm.output(f"hexdump -ve '1/1 \"%02x\"' {VIOT}")
    table = bytes.fromhex("".join(text.split()))
    signature, length, revision = struct.unpack_from("<4sIB", table)
    check(signature == b"VIOT" and length == len(table) and revision == 0,
          "the header is a VIOT's")
    check(sum(table) & 0xff == 0, "the checksum is right")
    count, offset = struct.unpack_from("<HH", table, 36)
    iommu, ranges = None, []
    for _ in range(count):
        kind, size = struct.unpack_from("<BxH", table, offset)
        if kind == 3:
            check(size == 16 and iommu is None, "there is one IOMMU, on PCI")
            segment, iommu = struct.unpack_from("<HH", table, offset + 4)
            check(segment == 0, "in segment 0")
            node = offset
        else:
            check((kind, size) == (1, 24), "the rest are PCI ranges")
            first_id, low, high, first, last, output = struct.unpack_from(
                "<IHHHHH", table, offset + 4)
            check(low == high == 0, "in segment 0")
            check(output == node, "behind that IOMMU")
            check(first_id == first, "endpoints are named by their BDF")
            ranges.append((first, last))
        offset += size
    check(offset == length, "the nodes fill the table")
    return iommu, ranges


def viot(scenario):
    """Drivers that are built in wait for us; the first DMA is tracked."""
    with scenario.boot("pcie-root-port,id=rp1,chassis=1,addr=5",
                       "pcie-root-port,id=rp2,chassis=2,addr=6",
                       "nvme,serial=1,drive=disk,addr=7", EDU + ",addr=8",
                       "virtio-net-pci,netdev=net,bus=rp2,iommu_platform=on",
                       coiommu="viot=on",
                       # However long it takes until we come.
                       args="deferred_probe_timeout=600") as vm:
        coi, = vm.address("1af4:10f0")
        nvme, = vm.address("1b36:0010")
        edu, = vm.address(EDU_ID)
        nic, = vm.address("1af4:1041")
        # The disk and its neighbour are one run, the NIC is on another bus.
        iommu, ranges = read_viot(vm)
        check(iommu == bdf(coi), "the table names our function")
        check(sorted(ranges) == [(bdf(nvme), bdf(edu)), (bdf(nic),) * 2],
              "and just the tracked functions")
        vm.run("modprobe nvme; modprobe virtio_pci; modprobe virtio_net",
               ok=None)
        deferred = vm.output(f"cat {DEFERRED}")
        for address in nvme, nic:
            check(address in deferred, f"{address} waits")
            vm.run(f"test -e /sys/bus/pci/devices/{address}/driver", ok=False)
        vm.load()
        vm.wait(f"test -e /sys/bus/pci/drivers/nvme/{nvme}")
        vm.wait(f"test -e /sys/bus/pci/drivers/virtio-pci/{nic}")
        check_groups(vm, nvme, nic, edu)
        check_disk(vm)
        check_net(vm)
        check_attached(vm, nvme, nic)
        check_pinned(vm)
        check("not tracked" not in vm.output("dmesg"), "nobody was late")
        finish(vm, nvme, nic, others=[edu])


def viot_late(scenario):
    """Without us the wait ends (not on 6.12); then it is too late."""
    with scenario.boot(EDU, coiommu="viot=on",
                       args="deferred_probe_timeout=3") as vm:
        edu, = vm.address(EDU_ID)
        vm.run("modprobe edu_test")
        vm.wait(f"test -e /sys/bus/pci/drivers/edu_test/{edu}")
        vm.load()
        line = f"{edu}: coiommu: not tracked: bound to edu_test before"
        check(vm.output("dmesg").count(line) == 1, "one line names the device")
        check_rebound(vm, edu)
        finish(vm, edu)


SCENARIOS = [viot, viot_late]
