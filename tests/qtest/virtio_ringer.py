# SPDX-License-Identifier: GPL-2.0-or-later
"""Rings the doorbell from another thread of QEMU, without its big lock.

Under qtest all accesses come from the main loop, which holds the lock.  But a
virtio-blk device with an iothread of its own can be told to read 4 bytes of a
disk into the doorbell: the iothread then writes there, as a vCPU does under
KVM.  The disk holds the number of the slot.
"""

import struct
import time

from vfio_user_server import PATIENCE

BAR = 0xfd000000
BAR_STEP = 0x10000
NOTIFY = 0x3000
QUEUE_SIZE = 16
MEMORY_STEP = 0x10000


class Ringer:
    """Number n: virtio-blk with slot n on its disk, in PCI slot 16 + n."""

    def __init__(self, machine, number, memory, doorbell):
        self.machine = machine
        self.number = number
        self.bar = BAR + number * BAR_STEP
        self.desc = memory + number * MEMORY_STEP
        self.avail = self.desc + 0x1000
        self.used = self.desc + 0x2000
        self.buffers = self.desc + 0x3000
        self.doorbell = doorbell
        self.rung = 0
        devfn = 16 + number << 3
        machine.config_write(0, devfn, 0x20, self.bar)
        machine.config_write(0, devfn, 0x24, 0)
        machine.config_write(0, devfn, 0x04, 6, size=2)
        self._start()

    @staticmethod
    def arguments(folder, numbers):
        """(extra arguments, -device arguments) for these ringers."""
        extra, devices = [], []
        for n in numbers:
            path = f"{folder}/slot{n}"
            with open(path, "wb") as disk:
                disk.write(struct.pack("<I", n).ljust(512, b"\0"))
            extra += ["-object", f"iothread,id=io{n}", "-blockdev",
                      f"driver=file,node-name=disk{n},filename={path},"
                      "read-only=on"]
            devices.append(f"virtio-blk-pci,drive=disk{n},iothread=io{n},"
                           f"addr={16 + n:#x},disable-legacy=on")
        return extra, devices

    def _start(self):
        write = self.machine.write
        write(self.bar + 0x14, 1, 0)
        write(self.bar + 0x14, 1, 3)
        for select, features in ((0, 0), (1, 1)):
            write(self.bar + 0x08, 4, select)
            write(self.bar + 0x0c, 4, features)
        write(self.bar + 0x14, 1, 0xb)
        write(self.bar + 0x16, 2, 0)
        write(self.bar + 0x18, 2, QUEUE_SIZE)
        for offset, address in ((0x20, self.desc), (0x28, self.avail),
                                (0x30, self.used)):
            write(self.bar + offset, 4, address)
            write(self.bar + offset + 4, 4, 0)
        write(self.bar + 0x1c, 2, 1)
        self.notify = self.bar + NOTIFY + \
            self.machine.read(self.bar + 0x1e, 2) * 4
        write(self.bar + 0x14, 1, 0xf)

    def ring(self):
        """Start it; the doorbell is being served when this returns, or soon."""
        self.machine.command(self.prepare())

    def prepare(self):
        """Get ready; the qtest command that then rings."""
        header, rest, status = (self.buffers, self.buffers + 0x100,
                                self.buffers + 0x400)
        self.machine.write_bytes(header, struct.pack("<IIQ", 0, 0, 0))
        more, device_writes = 1, 2
        table = [(header, 16, more, 1),
                 (self.doorbell, 4, more | device_writes, 2),
                 (rest, 508, more | device_writes, 3),
                 (status, 1, device_writes, 0)]
        self.machine.write_bytes(self.desc, b"".join(
            struct.pack("<QIHH", *entry) for entry in table))
        self.machine.write(self.avail + 4 + self.rung % QUEUE_SIZE * 2, 2, 0)
        self.rung += 1
        self.machine.write(self.avail + 2, 2, self.rung)
        return f"writew {self.notify:#x} 0"

    def over(self):
        """Has the doorbell write returned?"""
        return self.machine.read(self.used + 2, 2) == self.rung & 0xffff

    def wait(self):
        """Until it has; false if that takes too long."""
        end = time.monotonic() + PATIENCE
        while not self.over():
            if time.monotonic() > end:
                return False
            time.sleep(0.001)
        return True
