#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guest driver has to show, one function per test.

    scenarios.py NAME QEMU IMAGE

QEMU is the binary, IMAGE a folder with vmlinux and initrd (tests/guest/run
makes them).  Exit status 0 or 1; everything that is asked and answered is
printed.  The emulated devices are behind coIOMMU (x-track-emulated) and can
reach only what is pinned, so wrong data or a fault shows a missing pin.
"""

import os
import sys
import tempfile

from guest import Failure, Guest, check

DISK = 32 << 20
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

    def boot(self, *devices, **kwargs):
        """A guest with these devices; each is a -device argument."""
        arguments = [
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


def check_pinned(guest):
    """Something was pinned on demand, and not all memory."""
    requests = guest.table("requests")
    check(requests["failures"] == 0, "no request failed")
    check(requests["pin-ranges"] > 0, "pins were requested")
    check(guest.counter("demand-pin-requests") > 0, "the host saw requests")
    check(0 < guest.counter("pinned-bytes") < 256 << 20,
          "some memory is pinned, not all")


def finish(guest, *addresses):
    """Unbind everything, unload, and look for traces."""
    guest.run("rmmod coiommu", ok=False)
    for address in addresses:
        guest.unbind(address)
    guest.check_idle()
    guest.run("rmmod coiommu")
    guest.run("test -d /sys/module/coiommu", ok=False)
    guest.check_clean()


def drivers(scenario):
    """Stock drivers that are modules: a disk and a NIC, data right."""
    with scenario.boot("nvme,serial=1,drive=disk", "e1000e,netdev=net") as vm:
        vm.load()
        vm.run("modprobe nvme && modprobe e1000e")
        nvme, = vm.address("1b36:0010")
        nic, = vm.address("8086:10d3")
        check_disk(vm)
        check_net(vm)
        check_attached(vm, nvme, nic)
        check_pinned(vm)
        finish(vm, nvme, nic)


def hotplug(scenario):
    """Stock drivers, built in or not; the devices come and go at run time."""
    with scenario.boot("pcie-root-port,id=rp1,chassis=1",
                       "pcie-root-port,id=rp2,chassis=2") as vm:
        vm.load()
        vm.monitor("device_add", driver="nvme", id="disk1", bus="rp1",
                   serial="1", drive="disk")
        vm.monitor("device_add", driver="virtio-net-pci", id="net1", bus="rp2",
                   netdev="net", iommu_platform=True)
        vm.run("modprobe nvme; modprobe virtio_pci; modprobe virtio_net",
               ok=None)
        check_disk(vm)
        check_net(vm)
        nvme, = vm.address("1b36:0010")
        nic, = vm.address("1af4:1041")
        check_attached(vm, nvme, nic)
        check_pinned(vm)
        vm.monitor("device_del", id="disk1")
        vm.wait(f"! test -e /sys/bus/pci/devices/{nvme}")
        check(nvme not in vm.output("cat /sys/kernel/debug/coiommu/devices"),
              "the removed device is forgotten")
        finish(vm, nic)


def edu_run(vm, address, test, ok=True):
    vm.run(f"echo {test} > /sys/bus/pci/devices/{address}/run", ok=ok)


def api(scenario):
    """The whole DMA API with exact addresses, counts and refusals."""
    with scenario.boot(EDU) as vm:
        vm.load()
        vm.run("modprobe edu_test")
        edu, = vm.address(EDU_ID)
        check_attached(vm, edu)
        edu_run(vm, edu, "walk")
        edu_run(vm, edu, "stream")
        check_counts(vm, edu, mappings=4, units=2)
        check_refused(vm, edu)
        check_pinned_but_refused(vm)
        finish(vm, edu)


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


def check_refused(vm, edu):
    """A pin that the host refuses fails the mapping and leaves nothing."""
    before, errors = vm.table(), vm.counter("request-errors")
    edu_run(vm, edu, "refuse")
    after = vm.table()
    check(vm.counter("request-errors") == errors + 2, "the host refused two")
    check(vm.table("requests")["failures"] == 2, "the driver saw both")
    check(after["mappings"] == before["mappings"], "no count is left")
    check("not guest RAM" in vm.output("dmesg | tail -n 5"),
          "the log has the reason")


def check_pinned_but_refused(vm):
    check(vm.counter("demand-pin-requests") > 0, "pins were requested")
    check(vm.counter("pinned-bytes") > 0, "memory is pinned")


def small_units(scenario):
    """Units and blocks of 4 KiB: exact counts, and lists of many ranges."""
    with scenario.boot(EDU, coiommu="unit=4K,block=4K") as vm:
        vm.load()
        vm.run("modprobe edu_test")
        edu, = vm.address(EDU_ID)
        # 16 units twice, and two of them, or one more, once.
        check_counts(vm, edu, mappings=34, units=17)
        before = vm.table("requests")
        edu_run(vm, edu, "many")
        after = vm.table("requests")
        ranges = after["pin-ranges"] - before["pin-ranges"]
        check(ranges == after["pin-pages"] - before["pin-pages"],
              "each range is a page")
        # Some of the pages may have been pinned by what ran before.
        check(500 < ranges <= 600, "600 pages were asked for")
        check(after["requests"] - before["requests"] == 3,
              "three requests were enough")
        finish(vm, edu)


def bounce(scenario):
    """A 32-bit device in a guest with memory above 4 GiB: swiotlb."""
    with scenario.boot(EDU, memory="6G") as vm:
        vm.load()
        vm.run("modprobe edu_test")
        edu, = vm.address(EDU_ID)
        edu_run(vm, edu, "walk")
        edu_run(vm, edu, "stream")
        check("stream: bounced yes" in vm.output("dmesg"),
              "mappings were bounced")
        check("shadowed" in vm.output("cat /sys/kernel/debug/coiommu/devices"),
              "the driver knows")
        edu_run(vm, edu, "many")
        edu_run(vm, edu, "refuse")
        finish(vm, edu)


def force(scenario):
    """swiotlb=force: everything is bounced."""
    with scenario.boot("nvme,serial=1,drive=disk", "e1000e,netdev=net", EDU,
                       args="swiotlb=force") as vm:
        vm.load()
        vm.run("modprobe nvme && modprobe e1000e && modprobe edu_test")
        nvme, = vm.address("1b36:0010")
        nic, = vm.address("8086:10d3")
        edu, = vm.address(EDU_ID)
        check_disk(vm)
        check_net(vm)
        edu_run(vm, edu, "stream")
        check("stream: bounced yes" in vm.output("dmesg"),
              "mappings were bounced")
        finish(vm, nvme, nic, edu)


def memory(scenario):
    """Memory that is added while the driver runs can be used for DMA."""
    with scenario.boot("edu,dma_mask=0xffffffffffffffff",
                       memory="512M,slots=1,maxmem=4G") as vm:
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
        check(after["leaves"] - before["leaves"] == 2,
              "the table has two more leaves")
        edu_run(vm, edu, "stream")
        check(vm.output("dmesg").count(
            "stream: bounced no, highest page 0x000000010") == 1,
            "the added memory was used")
        finish(vm, edu)


def late(scenario):
    """A device that is bound before the module is loaded is not adopted."""
    with scenario.boot(EDU) as vm:
        vm.run("modprobe edu_test")
        edu, = vm.address(EDU_ID)
        vm.load()
        log = vm.output("dmesg | grep coiommu:")
        line = f"{edu}: coiommu: not tracked: bound to edu_test before"
        check(log.count(line) == 1, "one line names the device")
        check(vm.counter("attached-endpoints") == 0, "nothing is attached")
        vm.unbind(edu)
        vm.run(f"echo {edu} > /sys/bus/pci/drivers/edu_test/bind")
        check_attached(vm, edu)
        edu_run(vm, edu, "walk")
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
              vm.output("dmesg | tail -n 5"), "one line says so")
        check(vm.counter("attached-endpoints") == 0, "nothing is attached")
        vm.unbind(edu)
        vm.run("rmmod coiommu")
        vm.run("modprobe coiommu skip=a,edu_test,b")
        vm.run("modprobe edu_test")
        check("not tracked: its driver is in the module's skip list" in
              vm.output("dmesg | tail -n 5"), "one line says so")
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
        vm.run(f"echo {coi} > /sys/bus/pci/drivers/coiommu/bind")
        vm.run(f"echo {edu} > /sys/bus/pci/drivers/edu_test/bind")
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


def load_both(vm, seconds):
    """Disk on each CPU and NIC at the same time; the data must be right."""
    vm.run("dd if=/dev/urandom of=/tmp/data bs=64k count=96 2>/dev/null")
    vm.run(f"end=$(($(date +%s) + {seconds})); "
           "for cpu in 0 1; do (while [ $(date +%s) -lt $end ]; do "
           "dd if=/tmp/data of=/dev/nvme0n1 bs=64k seek=$((cpu * 128)) "
           "conv=fsync 2>/dev/null; echo 1 > /proc/sys/vm/drop_caches; "
           "dd if=/dev/nvme0n1 bs=64k skip=$((cpu * 128)) count=96 2>/dev/null "
           "| cmp - /tmp/data || touch /tmp/bad; done) & done; "
           "while [ $(date +%s) -lt $end ]; do "
           "ping -c 10 -i 0.01 -s 1400 10.0.2.2 >/dev/null || touch /tmp/bad; "
           "done; wait", timeout=seconds + 60)
    vm.run("test ! -e /tmp/bad && rm /tmp/data")


def unpin(scenario):
    """Stock drivers while the host unpins whatever it can, all the time."""
    with scenario.boot("nvme,serial=1,drive=disk", "e1000e,netdev=net",
                       coiommu="block=64K,unpin-interval=1") as vm:
        vm.load()
        vm.run("modprobe nvme && modprobe e1000e")
        nvme, = vm.address("1b36:0010")
        nic, = vm.address("8086:10d3")
        check_disk(vm)
        check_net(vm)
        load_both(vm, 20)
        check_attached(vm, nvme, nic)
        check(vm.table("requests")["failures"] == 0, "no request failed")
        names = ("unpin-passes", "lazy-unpinned-blocks", "unpin-races",
                 "repins", "demand-pin-blocks", "request-wait-max-ns",
                 "pinned-bytes-peak")
        print({name: vm.counter(name) for name in names}, flush=True)
        check(vm.counter("lazy-unpinned-blocks") > 100, "much was unpinned")
        finish(vm, nvme, nic)


def quota(scenario):
    """A disk with little memory pinned: every new block drives one out."""
    most = 4 << 20
    with scenario.boot("nvme,serial=1,drive=disk", EDU,
                       coiommu="block=64K,unpin-policy=off,"
                       f"max-pinned={most}") as vm:
        vm.load()
        vm.run("modprobe nvme && modprobe edu_test")
        nvme, = vm.address("1b36:0010")
        edu, = vm.address(EDU_ID)
        for _ in range(3):
            check_disk(vm)
            edu_run(vm, edu, "scatter")
        check_attached(vm, nvme, edu)
        check(vm.counter("reclaimed-blocks") > 0, "blocks were reclaimed")
        check(vm.counter("pinned-bytes-peak") <= most, "the quota held")
        finish(vm, nvme, edu)


SCENARIOS = [drivers, hotplug, api, small_units, bounce, force, memory, late,
             managed, life, unpin, quota]


def main():
    if len(sys.argv) != 4:
        sys.exit("usage:" + __doc__.split("\n\n")[1].replace("    ", " "))
    name, qemu, image = sys.argv[1:]
    scenario = {s.__name__: s for s in SCENARIOS}[name]
    with tempfile.TemporaryDirectory(prefix="coiommu-test-") as folder:
        try:
            scenario(Scenario(qemu, image, folder))
        except Failure as failure:
            sys.exit(f"FAILED: {failure}")


if __name__ == "__main__":
    main()
