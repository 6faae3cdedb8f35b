#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The bugs of QEMU that qemu-patches mends, each made to show itself.

usage: reproduce.py NAME QEMU PROGRAMS

Ends with status 0 if QEMU does right and 1 if the bug is there.  PROGRAMS is a
folder with the small guests of this folder, NAME.S, built as NAME.elf.

  eventinj  an interrupt that VMRUN injects comes again when the CPU is kicked
  iotlb     MMIO goes to a wrong device while the memory map changes
  blocker   iommufd without IOMMU_IOAS_CHANGE_PROCESS ends QEMU
  fragment  a NIC loses a packet whose buffer lies in two pieces of memory
"""

import os
import re
import socket
import struct
import subprocess
import sys
import time

from qemu import PATIENCE, Qemu


class Wrong(Exception):
    """The bug has shown itself."""


def check(condition, text):
    if not condition:
        raise Wrong(text)


class Machine(Qemu):
    """A QEMU with a monitor, and with qtest if it has no guest."""

    def __init__(self, qemu, *arguments, qtest=False, **kwargs):
        super().__init__("coiommu-patches-")
        command = [qemu, "-nodefaults", "-no-user-config", "-display", "none",
                   "-no-reboot", *arguments]
        if qtest:
            command += ["-accel", "qtest", *self.chardev("qtest"),
                        "-qtest", "chardev:qtest"]
        print("+", " ".join(command), flush=True)
        self.launch(command, **kwargs)
        if qtest:
            self._qtest = self.accept("qtest", PATIENCE).makefile("rw")

    def command(self, name, **arguments):
        """What a QMP command returns."""
        try:
            return self.qmp(name, **arguments)
        except OSError:
            raise Wrong("QEMU ended with "
                        f"{self.process.wait(PATIENCE)}") from None

    def monitor(self, line):
        return self.command("human-monitor-command", **{"command-line": line})

    def word(self, address):
        """A word of the guest's memory."""
        return int(self.monitor(f"xp /1wx {address:#x}").split(":")[1], 16)

    def qtest(self, *words):
        """What a command of qtest returns."""
        self._qtest.write(" ".join(map(str, words)) + "\n")
        self._qtest.flush()
        answer = self._qtest.readline().split()
        check(answer and answer[0] == "OK", f"qtest: {words}: {answer}")
        return answer[1:]


class Program:
    """A small guest: where its counters are."""

    def __init__(self, folder, name):
        self.path = os.path.join(folder, name + ".elf")
        lines = subprocess.run(["nm", self.path], check=True, text=True,
                               stdout=subprocess.PIPE).stdout
        self.symbols = {name: int(address, 16) for address, name in
                        re.findall(r"^(\w+) \w (\w+)$", lines, re.M)}

    def run(self, qemu, *arguments):
        return Machine(qemu, "-M", "q35", "-accel", "tcg,thread=multi",
                       "-cpu", "max", "-m", "64M", "-kernel", self.path,
                       *arguments)

    def value(self, machine, name):
        return machine.word(self.symbols[name])

    def wait_alive(self, machine):
        """Until the guest goes on, or starts."""
        before = self.value(machine, "alive")
        end = time.monotonic() + PATIENCE
        while self.value(machine, "alive") == before:
            check(time.monotonic() < end, "the guest stands still")
            time.sleep(0.01)


def eventinj(qemu, programs):
    program = Program(programs, "eventinj")
    with program.run(qemu) as machine:
        program.wait_alive(machine)
        for _ in range(20):
            machine.command("stop")
            machine.command("cont")
            program.wait_alive(machine)
        count = program.value(machine, "delivered")
    check(count == 1, f"one interrupt was injected, {count} were delivered")


def iotlb(qemu, programs):
    program = Program(programs, "iotlb")
    # edu's MMIO is below the HPET's: sections are numbered by address.
    with program.run(qemu, "-device", "edu,addr=5") as machine:
        program.wait_alive(machine)
        for turn in range(1000):
            # Its command register, by the ports for configuration.
            machine.monitor(f"o /4 0xcf8 {0x80000004 | 5 << 11:#x}")
            machine.monitor(f"o /2 0xcfc {2 * (turn % 2)}")
            if turn % 100 == 99:
                program.wait_alive(machine)
                wrong = program.value(machine, "wrong")
                check(wrong == 0, f"{wrong} rounds read something else")


def blocker(qemu, _):
    # What is no iommufd knows none of its ioctls: so the device can't be bound, and
    # QEMU must say that.
    with open("/dev/null", "r+b") as null:
        number = null.fileno()
        result = subprocess.run(
            [qemu, "-M", "q35", "-accel", "qtest", "-nodefaults", "-display",
             "none", "-object", f"iommufd,id=i0,fd={number}",
             "-device", f"vfio-pci,id=v0,iommufd=i0,fd={number}"],
            pass_fds=[number], stdin=subprocess.DEVNULL, text=True,
            stderr=subprocess.PIPE, timeout=PATIENCE, check=False)
    print(result.returncode, result.stderr)
    check(result.returncode == 1 and "error bind device" in result.stderr,
          f"QEMU ended with {result.returncode}: {result.stderr}")


def fragment(qemu, _):
    # Two DIMMs follow each other, at 4 GiB: what crosses their border takes two
    # mappings.
    border, bar = (4 << 30) + (128 << 20), 0xe0000000
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    arguments = ["-M", "q35", "-m", "64M,slots=2,maxmem=1G"]
    for i in range(2):
        arguments += ["-object", f"memory-backend-ram,id=m{i},size=128M",
                      "-device", f"pc-dimm,memdev=m{i}"]
    arguments += ["-netdev",
                  f"dgram,id=n0,local.type=fd,local.str={theirs.fileno()}",
                  "-device", "e1000e,netdev=n0,addr=5,romfile="]
    with Machine(qemu, *arguments, qtest=True,
                 pass_fds=[theirs.fileno()]) as machine:
        for offset, value in ((0x10, bar), (0x04, 6)):
            machine.qtest("outl", 0xcf8, 0x80000000 | 5 << 11 | offset)
            machine.qtest("outl", 0xcfc, value)
        packet = bytes(range(200)) * 4
        start = border - len(packet) // 2
        machine.qtest("write", start, len(packet), "0x" + packet.hex())
        # A descriptor: the whole packet, with a checksum of its own.
        ring = 0x100000
        descriptor = struct.pack("<QHBBBBH", start, len(packet), 0, 3, 0, 0, 0)
        machine.qtest("write", ring, 16, "0x" + descriptor.hex())
        for register, value in ((0x3800, ring), (0x3804, 0), (0x3808, 128),
                                (0x3810, 0), (0x0400, 2), (0x3818, 1)):
            machine.qtest("writel", bar + register, value)
        ours.settimeout(10)
        try:
            got = ours.recv(65536)
        except socket.timeout:
            raise Wrong("the packet is lost") from None
    check(got[:len(packet)] == packet, "it is another packet")


def main():
    name, qemu, programs = sys.argv[1:]
    try:
        {"eventinj": eventinj, "iotlb": iotlb, "blocker": blocker,
         "fragment": fragment}[name](qemu, programs)
    except Wrong as error:
        print(f"{name}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
