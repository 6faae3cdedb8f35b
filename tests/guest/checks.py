# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of the guest driver share: starting a guest, and checks."""

import os

from guest import Guest, check

DISK = 64 << 20
EDU = "edu,dma_mask=0xffffffff"
EDU_ID = "1234:11e8"


class Scenario:
    """What a test is given: how to start a guest, and a disk for it."""

    def __init__(self, qemu, image, folder):
        self.qemu = qemu
        self.image = image
        self.disk = os.path.join(folder, "disk")
        with open(self.disk, "wb") as disk:
            disk.truncate(DISK)

    def boot(self, *devices, machine=(), **kwargs):
        """
        A guest with these devices; each is a -device argument.  machine: other
        arguments for QEMU.
        """
        arguments = [
            *machine,
            "-drive", f"file={self.disk},if=none,format=raw,id=disk",
            "-netdev", "user,id=net,restrict=on"]
        for device in devices:
            arguments += ["-device", device]
        return Guest(self.qemu, self.image, arguments, **kwargs)


def check_disk(guest):
    """Write random data to the NVMe disk and read it back from there."""
    guest.wait("test -b /dev/nvme0n1")
    guest.run("dd if=/dev/urandom of=/tmp/data bs=64k count=96 2>/dev/null")
    guest.run("dd if=/tmp/data of=/dev/nvme0n1 bs=64k conv=fsync 2>/dev/null")
    guest.run("echo 3 > /proc/sys/vm/drop_caches")
    guest.run("dd if=/dev/nvme0n1 bs=64k count=96 2>/dev/null "
              "| cmp - /tmp/data")
    guest.run("dd if=/dev/nvme0n1 of=/dev/null bs=4k count=500 iflag=direct "
              "2>/dev/null || dd if=/dev/nvme0n1 of=/dev/null bs=4k count=500 "
              "2>/dev/null")
    guest.run("rm /tmp/data")


def check_net(guest, interface="eth0"):
    """Ping the other side of QEMU's user network."""
    guest.wait(f"test -e /sys/class/net/{interface}")
    guest.run(f"ip link set {interface} up")
    guest.wait(f"grep -q 1 /sys/class/net/{interface}/carrier")
    guest.run(f"ip addr add 10.0.2.15/24 dev {interface}")
    guest.wait("ping -c 1 -W 1 10.0.2.2 >/dev/null")
    guest.run("ping -c 20 -i 0.05 -s 1400 10.0.2.2 | tail -n 2")


def check_attached(guest, *addresses):
    """The driver tracks these devices, and the host agrees."""
    text = guest.output("cat /sys/kernel/debug/coiommu/devices")
    for address in addresses:
        check(f"{address} attached" in text, f"{address} is attached")
    check(guest.counter("attached-endpoints") == len(addresses),
          f"the host knows of {len(addresses)} endpoints")


def check_groups(guest, *addresses):
    """The kernel has an IOMMU group for each of these devices, no others."""
    text = guest.output(
        "for g in /sys/kernel/iommu_groups/*; do [ -e $g ] || continue; "
        "echo $(cat $g/type) $(ls $g/devices); done")
    groups = [line.split() for line in text.splitlines()]
    check(sorted(groups) == sorted(["identity", a] for a in addresses),
          f"there is one group for each of {addresses}")
    for address in addresses:
        text = guest.output(f"cat /sys/bus/pci/devices/{address}/iommu_group/"
                            "reserved_regions")
        check(text.split() == ["0x00000000fee00000", "0x00000000feefffff",
                               "msi"], "of which interrupts are spared")


def check_pinned(guest):
    """Something was pinned on demand, and not all memory."""
    requests = guest.table("requests")
    check(requests["failures"] == 0, "no request failed")
    check(guest.counter("request-errors") == 0, "the host agrees")
    check(requests["pin-ranges"] > 0, "pins were requested")
    check(guest.counter("demand-pin-requests") > 0, "the host saw requests")
    check(0 < guest.counter("pinned-bytes") < 256 << 20,
          "some memory is pinned, not all")


def finish(guest, *addresses, others=()):
    """Unbind everything, unload, and look for traces.

    addresses: all tracked devices that have a driver
    others: and those that have none
    """
    check_groups(guest, *addresses, *others)
    guest.run("rmmod coiommu", ok=False)
    for address in addresses:
        guest.unbind(address)
    guest.check_idle()
    guest.run("rmmod coiommu")
    guest.run("test -d /sys/module/coiommu", ok=False)
    check_groups(guest)
    # The kernel must have forgotten us to take us again.
    guest.load()
    check_groups(guest, *addresses, *others)
    guest.run("rmmod coiommu")
    check_groups(guest)
    guest.check_clean()


def edu_run(vm, address, test, ok=True):
    vm.run(f"echo {test} > /sys/bus/pci/devices/{address}/run", ok=ok)


def check_counts(vm, edu, mappings, units):
    """edu_test's "hold" adds just these to the table, and takes them back."""
    before = vm.table()
    edu_run(vm, edu, "hold")
    during = vm.table()
    edu_run(vm, edu, "release")
    after = vm.table()
    check(during["mappings"] - before["mappings"] == mappings,
          f"the counts have grown by {mappings}")
    check(during["mapped-units"] - before["mapped-units"] == units,
          f"{units} units are mapped")
    check(during["pinned-units"] >= units, "and pinned")
    check(after["mappings"] == before["mappings"], "all is taken back")


def check_rebound(vm, edu):
    """A device that was bound before the module is tracked when bound anew."""
    check_groups(vm)
    vm.unbind(edu)
    check_groups(vm, edu)
    vm.run(f"echo {edu} > /sys/bus/pci/drivers/edu_test/bind")
    check_attached(vm, edu)
    edu_run(vm, edu, "walk")


def load_drivers(vm):
    """Disk, NIC and edu, by their drivers, at work; their addresses."""
    vm.run("modprobe nvme && modprobe e1000e && modprobe edu_test")
    nvme, = vm.address("1b36:0010")
    nic, = vm.address("8086:10d3")
    edu, = vm.address(EDU_ID)
    check_disk(vm)
    check_net(vm)
    return nvme, nic, edu
