# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices that are used without our driver: all memory is pinned for them."""

import hashlib
import shutil
import time

from checks import (EDU, EDU_ID, check_attached, check_disk, check_net,
                    check_pinned, edu_run, finish)
from guest import PATIENCE, check

MIB = 1 << 20
NVME, NIC = "nvme,serial=1,drive=disk", "e1000e,netdev=net"
OVMF = "/usr/share/OVMF/OVMF"
# Of a guest with 512 MiB: all but the legacy hole.
ALL = 512 * MIB - 0x60000


def check_all(vm, active):
    """Everything is pinned, for that many devices."""
    check(vm.counter("fallback-active") == active,
          f"{active} devices are used without our driver")
    check(vm.counter("pinned-bytes") == ALL, "all memory is pinned")
    check(vm.counter("fallback-bytes") == ALL, "for them")


def check_none(vm):
    """No device needs anything, and nothing is pinned."""
    check(vm.counter("fallback-active") == 0, "no device does DMA")
    vm.fallback_over()
    check(vm.counter("pinned-bytes") == 0, "nothing is pinned")


def wait_less(vm, most):
    """Until no more than that many bytes are pinned."""
    end = time.monotonic() + PATIENCE
    while vm.counter("pinned-bytes") > most:
        check(time.monotonic() < end, "pinned memory gets less in time")
        time.sleep(0.1)
    print("pinned:", vm.counter("pinned-bytes"), flush=True)


def rebind(vm, address, driver):
    vm.unbind(address)
    vm.run(f"echo {address} > /sys/bus/pci/drivers/{driver}/bind")


def unaware(scenario):
    """A guest that never loads our driver: as with plain VFIO."""
    with scenario.boot(NVME, NIC) as vm:
        check(vm.counter("fallback-pins") == 0, "not while nobody does DMA")
        vm.run("modprobe nvme && modprobe e1000e")
        check_disk(vm)
        check_net(vm)
        check_all(vm, 2)
        check(vm.counter("requests") == 0, "the guest has asked for nothing")
        # Bus mastering off and on again.
        nvme, = vm.address("1b36:0010")
        nic, = vm.address("8086:10d3")
        rebind(vm, nvme, "nvme")
        check_disk(vm)
        vm.unbind(nic)
        check_all(vm, 1)
        vm.unbind(nvme)
        check_none(vm)
        check(vm.counter("fallback-pins") == 1, "it was pinned once")
        vm.run(f"echo {nvme} > /sys/bus/pci/drivers/nvme/bind")
        check_disk(vm)
        check_all(vm, 1)
        vm.unbind(nvme)
        check_none(vm)
        vm.check_clean()


def late_module(scenario):
    """Our driver comes last: each device that is bound anew is tracked."""
    with scenario.boot(NVME, NIC) as vm:
        vm.run("modprobe nvme && modprobe e1000e")
        check_disk(vm)
        check_net(vm)
        vm.load()
        nvme, = vm.address("1b36:0010")
        nic, = vm.address("8086:10d3")
        log = vm.output("dmesg | grep coiommu:")
        check(log.count("not tracked: bound to") == 2, "both are named")
        check_all(vm, 2)
        # The disk is at work while the NIC goes and comes back.
        vm.run("(dd if=/dev/urandom of=/tmp/data bs=64k count=96; "
               "for i in 0 1 2 3; do "
               "dd if=/tmp/data of=/dev/nvme0n1 bs=64k seek=$((i * 96)) "
               "conv=fsync; done; echo 3 > /proc/sys/vm/drop_caches; "
               "for i in 0 1 2 3; do dd if=/dev/nvme0n1 bs=64k count=96 "
               "skip=$((i * 96)) | cmp - /tmp/data || touch /tmp/bad; done; "
               "touch /tmp/done) >/dev/null 2>&1 &")
        rebind(vm, nic, "e1000e")
        check_attached(vm, nic)
        check_net(vm)
        check_all(vm, 1)
        vm.wait("test -e /tmp/done")
        vm.run("test ! -e /tmp/bad && rm /tmp/data")
        rebind(vm, nvme, "nvme")
        check_attached(vm, nic, nvme)
        check(vm.counter("fallback-active") == 0, "both are tracked")
        wait_less(vm, 64 * MIB)
        check_disk(vm)
        vm.run("ping -c 20 -i 0.05 -s 1400 10.0.2.2 | tail -n 2")
        check(vm.table("requests")["failures"] == 0, "no request failed")
        finish(vm, nic, nvme)


def userspace(scenario):
    """DMA that userspace in the guest does by itself, behind pci-stub."""
    # Where the kernel is, and where nobody is.
    source, target = 0x1000000, 0x11000000
    with scenario.boot(EDU, args=f"memmap=1M${target:#x}") as vm:
        vm.load()
        edu, = vm.address(EDU_ID)
        vm.run("modprobe pci-stub; modprobe pci_stub", ok=None)
        vm.run("echo 1234 11e8 > /sys/bus/pci/drivers/pci-stub/new_id")
        check_none(vm)
        set_command(vm, edu, 6)
        check_all(vm, 1)
        bar = int(vm.output(
            f"head -n 1 /sys/bus/pci/devices/{edu}/resource").split()[0], 16)
        # Through the device's own buffer.
        for begin, end, command in ((source, 0x40000, 1),
                                    (0x40000, target, 3)):
            vm.run(f"devmem {bar + 0x80:#x} 64 {begin:#x}; "
                   f"devmem {bar + 0x88:#x} 64 {end:#x}; "
                   f"devmem {bar + 0x90:#x} 64 4096; "
                   f"devmem {bar + 0x98:#x} 64 {command}")
            vm.wait(f"test $(($(devmem {bar + 0x98:#x} 64) & 1)) = 0")
        data = memory(vm, source)
        check(any(data) and memory(vm, target) == data, "the data came over")
        set_command(vm, edu, 2)
        check_none(vm)
        # With a driver that uses the DMA API it is tracked.
        vm.unbind(edu)
        vm.run("modprobe edu_test && "
               f"echo {edu} > /sys/bus/pci/drivers/edu_test/bind", ok=None)
        check_attached(vm, edu)
        edu_run(vm, edu, "walk")
        finish(vm, edu)


def memory(vm, address):
    """4 KiB of the guest's memory, as QEMU sees it."""
    text = vm.monitor("human-monitor-command",
                      **{"command-line": f"xp /4096bx {address:#x}"})
    return [int(byte, 16) for line in text.splitlines()
            for byte in line.split(":")[1].split()]


def set_command(vm, address, value):
    """Write PCI_COMMAND, as a userspace driver does."""
    vm.run(f"printf '\\{value:03o}' | "
           f"dd of=/sys/bus/pci/devices/{address}/config bs=1 seek=4 "
           "conv=notrunc 2>/dev/null")


def refused(scenario):
    """fallback=refuse: no DMA without our driver; with it, all is well."""
    with scenario.boot(EDU, coiommu="fallback=refuse") as vm:
        edu, = vm.address(EDU_ID)
        set_command(vm, edu, 6)
        check(vm.output("dd if=/sys/bus/pci/devices/%s/config bs=1 skip=4 "
                        "count=1 2>/dev/null | od -t u1 | head -n 1" % edu)
              .split()[1] == "2", "bus mastering stays off")
        check_none(vm)
        check(vm.counter("fallback-refused") == 1, "it is counted")
        vm.load()
        vm.run("modprobe edu_test")
        check_attached(vm, edu)
        edu_run(vm, edu, "walk")
        finish(vm, edu)


def firmware(scenario):
    """SeaBIOS and disks: what it costs, and when it is over."""
    for boot, pins in (("strict=on", 0), ("strict=off", 1)):
        with scenario.boot(NVME, boot=boot) as vm:
            print(boot, {name: vm.counter(name) for name in
                         ("fallback-pins", "fallback-pin-ns",
                          "pinned-bytes-peak")}, flush=True)
            check(vm.counter("fallback-pins") == pins,
                  f"SeaBIOS has started {pins} disks")
            check((vm.counter("pinned-bytes-peak") == ALL) == bool(pins),
                  "and all was pinned for that")
            # It leaves the bit as it is.
            check(vm.counter("fallback-active") == pins, "and still is")
            vm.load()
            vm.run("modprobe nvme")
            nvme, = vm.address("1b36:0010")
            check_attached(vm, nvme)
            wait_less(vm, 64 * MIB)
            check_disk(vm)
            check_attached(vm, nvme)
            check_pinned(vm)
            check(vm.counter("fallback-pins") == pins, "not once more")
            finish(vm, nvme)


def boot_from_disk(scenario, *firmware):
    """From a tracked disk, by firmware and boot loader, to our driver."""
    shutil.copyfile(f"{scenario.image}/disk", scenario.disk)
    with open(scenario.disk, "rb") as disk:
        want = hashlib.sha256(disk.read(32 * MIB)).hexdigest()
    with scenario.boot(f"{NVME},bootindex=0", firmware=firmware) as vm:
        print({name: vm.counter(name) for name in
               ("fallback-pins", "fallback-pin-ns")}, flush=True)
        check_all(vm, 1)
        vm.load()
        vm.run("modprobe nvme")
        nvme, = vm.address("1b36:0010")
        check_attached(vm, nvme)
        wait_less(vm, 64 * MIB)
        vm.wait("test -b /dev/nvme0n1")
        check(want in vm.output("dd if=/dev/nvme0n1 bs=1M count=32 2>/dev/null "
                                "| sha256sum"), "what is on the disk")
        check_disk(vm)
        check_pinned(vm)
        finish(vm, nvme)


def seabios(scenario):
    """SeaBIOS and SYSLINUX from a tracked disk."""
    boot_from_disk(scenario)


def ovmf(scenario):
    """OVMF from a tracked disk."""
    boot_from_disk(
        scenario,
        "-drive", "if=pflash,format=raw,readonly=on,"
        f"file={OVMF}_CODE_4M.fd",
        "-drive", "if=pflash,format=raw,snapshot=on,"
        f"file={OVMF}_VARS_4M.fd")


SCENARIOS = [unaware, late_module, userspace, refused, firmware, seabios, ovmf]
