# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that keeps the protocol, and books of what it has mapped.

Its Ledger knows each mapping that it was told "pinned" for and has not undone.
Each unmap that a server sees is looked up there at that moment, while QEMU
waits for the server's answer: no unit of such a mapping may go, in no
container.  And a mapping that has been told "pinned" must be there as a whole,
in each container, from then on.
"""

import struct
import threading

from driver import ABI, BAR, LEAVES, REQUESTS, endpoint
from random_world import (DIMM, FIRST, MEMORY, MIB, PLUGGED, RINGERS, SECOND,
                          NR_SLOTS, TABLE_SIZE)

# Where it maps: neither its own table nor the ringers' memory.
LOW = 0x4000000
MAPPINGS = 60
PAGES = 64


class Ledger:
    """The mappings that live, by the units that they touch."""

    def __init__(self, unit):
        self.unit = unit
        self.lock = threading.Lock()
        self.units = {}         # number of a unit -> live mappings in it
        self.live = {}          # (address, size) -> how often
        self.lost = []          # unmaps that should not have been
        self.unmaps = 0

    def numbers(self, address, size):
        return range(address // self.unit,
                     (address + size - 1) // self.unit + 1)

    def add(self, address, size):
        with self.lock:
            key = address, size
            self.live[key] = self.live.get(key, 0) + 1
            for number in self.numbers(address, size):
                self.units[number] = self.units.get(number, 0) + 1

    def remove(self, address, size):
        """To be called before the counts in the table go."""
        with self.lock:
            key = address, size
            self.live[key] -= 1
            if not self.live[key]:
                del self.live[key]
            for number in self.numbers(address, size):
                self.units[number] -= 1
                if not self.units[number]:
                    del self.units[number]

    def forget(self):
        """The machine is about to be reset: nobody has mappings any more."""
        with self.lock:
            self.units.clear()
            self.live.clear()

    def unmapped(self, iova, size):
        """By the server's thread: is somebody's mapping among it?"""
        with self.lock:
            self.unmaps += 1
            held = [number for number in self.numbers(iova, size)
                    if number in self.units]
            if held:
                self.lost.append(
                    f"unmap {iova:#x} size {size:#x} takes "
                    f"{held[0] * self.unit:#x}, which is mapped")


class Table:
    """The guest's half of the entries: the counts."""

    def __init__(self, world):
        self.machine = world.machine
        self.unit = world.guest.unit
        self.counts = {}

    def units(self, address, size):
        return range(address // self.unit,
                     (address + size - 1) // self.unit + 1)

    def change(self, address, size, by):
        """Only bytes that are the guest's are written."""
        commands = []
        for number in self.units(address, size):
            count = self.counts.get(number, 0) + by
            self.counts[number] = count
            commands.append(f"writeb {LEAVES + number * 4:#x} {count:#x}")
        self.machine.command(*commands)

    def full(self, address, size):
        return any(self.counts.get(number, 0) >= 200
                   for number in self.units(address, size))

    def pinned(self, address, size):
        """Are all units PINNED?"""
        numbers = self.units(address, size)
        data = self.machine.read_bytes(LEAVES + numbers[0] * 4,
                                       len(numbers) * 4)
        return all(entry & ABI.DTT_PINNED
                   for entry, in struct.iter_unpack("<I", data))


class Cpu:
    """Maps one range after the other, with a request page of its own."""

    def __init__(self, honest, slot):
        self.honest = honest
        self.machine = honest.world.machine
        self.slot = slot
        self.page = REQUESTS + slot * 4096
        self.busy = None        # (address, size) of the mapping under way

    def begin(self, address, size):
        """Count, look, and ask if it is not pinned."""
        table = self.honest.table
        self.busy = address, size
        table.change(address, size, 1)
        if table.pinned(address, size):
            self.end(ABI.ST_OK)
            return
        page = struct.pack("<8IQQ", ABI.OP_PIN, 1, ABI.ST_PENDING, 0, 0, 0, 0,
                           0, address >> 12,
                           (address + size - 1 >> 12) - (address >> 12) + 1)
        self.machine.write_bytes(self.page, page)
        self.ring()

    def ring(self):
        self.machine.write(BAR + ABI.REG_DOORBELL, 4, self.slot)
        self.poll()

    def over(self):
        return True

    def poll(self):
        """Take the answer, if it is there; after one in part ring again."""
        if not self.busy or not self.over():
            return
        status = self.machine.read(self.page + 8, 4)
        if status == ABI.ST_AGAIN:
            self.machine.write(self.page + 8, 4, ABI.ST_PENDING)
            self.ring()
        else:
            self.end(status)

    def end(self, status):
        (address, size), self.busy = self.busy, None
        if status == ABI.ST_OK:
            self.honest.mapped(address, size)
            return
        self.honest.failed(status)
        self.honest.table.change(address, size, -1)


class RingerCpu(Cpu):
    """Without QEMU's big lock."""

    def ring(self):
        self.honest.world.ringers[self.slot].ring()

    def over(self):
        return self.honest.world.ringers[self.slot].over()


class Honest:
    """The driver, its devices, and what they have mapped."""

    def __init__(self, world):
        self.world = world
        self.t = world.t
        self.random = world.random
        self.machine = world.machine
        self.guest = world.guest
        self.maps = self.failures = 0
        self.statuses = {}
        self.ledger = Ledger(world.guest.unit)
        self.cpus = [Cpu(self, 0),
                     *(RingerCpu(self, slot) for slot in RINGERS)]
        self.start()

    # ---- life ----

    def start(self):
        """What the driver does when it is loaded."""
        self.table = Table(self.world)
        self.t.equal(self.guest.enable(TABLE_SIZE, slots=NR_SLOTS), ABI.ST_OK,
                     "ENABLE")
        self.attach(FIRST)
        if self.world.plugged:
            self.attach(PLUGGED)
        self.watch()

    def watch(self):
        """From now on each container has to have what is mapped."""
        for server in self.machine.servers:
            server.on_unmap = (self.ledger.unmapped
                               if server in self.world.live() else None)

    def master(self, number, on):
        self.machine.config_write(number >> 8, number & 0xff, 4,
                                  6 if on else 2, size=2)

    def attach(self, number):
        self.t.equal(self.guest.attach(number), ABI.ST_OK, "ATTACH")
        self.master(number, True)

    def wait(self):
        """Until no CPU has a request under way."""
        while any(cpu.busy for cpu in self.cpus):
            self.world.quiet()
            for cpu in self.cpus:
                cpu.poll()

    # ---- mappings ----

    def step(self):
        self.random.choice([self.map, self.map, self.unmap])()

    def map(self):
        cpu = self.random.choice(self.cpus)
        cpu.poll()
        address, size = self.place()
        if cpu.busy or self.table.full(address, size) or \
                len(self.ledger.live) >= MAPPINGS:
            return
        self.world.note(f"map {address:#x} size {size:#x} cpu {cpu.slot}")
        cpu.begin(address, size)

    def place(self):
        """Any bytes of RAM, often where others are."""
        r = self.random
        size = r.randrange(1, r.choice([2, 16, PAGES]) * 4096)
        start, end = r.choice([(LOW, LOW + 8 * MIB), (LOW, MEMORY)] +
                              [(at, at + DIMM) for at in
                               self.world.dimms.values()])
        return r.randrange(start, end - size), size

    def mapped(self, address, size):
        """QEMU has said that it is pinned."""
        self.ledger.add(address, size)
        self.maps += 1
        self.check_there(address, size)

    def failed(self, status):
        self.failures += 1
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.t.equal(status in (ABI.ST_NOMEM, ABI.ST_NOSPACE, ABI.ST_QUOTA,
                                ABI.ST_IO), True,
                     f"status {status:#x} is one of a host that refuses")

    def unmap(self):
        if self.ledger.live:
            self.undo(*self.random.choice(sorted(self.ledger.live)))

    def undo(self, address, size):
        self.world.note(f"unmap {address:#x} size {size:#x}")
        self.ledger.remove(address, size)
        self.table.change(address, size, -1)

    # ---- what comes from outside, and what a guest does then ----

    def before_unplug(self):
        """The driver gives up the device; or it is just pulled."""
        self.wait()
        self.machine.servers[2].on_unmap = None
        if self.random.randrange(2):
            self.master(PLUGGED, False)
            self.t.equal(self.guest.detach(PLUGGED), ABI.ST_OK, "DETACH")

    def plugged(self):
        """What is mapped is there already."""
        if self.world.plugged:
            self.watch()
            self.attach(PLUGGED)

    def before_eject(self, start, size):
        """Memory goes offline: nothing is mapped in it."""
        self.wait()
        for address, length in list(self.ledger.live):
            while (address, length) in self.ledger.live and \
                    start < address + length and address < start + size:
                self.undo(address, length)

    def neighbour(self):
        """A device without our driver: firmware's, or another system's."""
        on = self.random.randrange(2)
        self.world.note("the neighbour's bus-master bit", on)
        self.master(SECOND, on)

    def reboot(self):
        """The operator resets the machine."""
        self.wait()
        self.ledger.forget()
        self.world.reset()
        self.start()

    def reload(self):
        """The driver is unloaded and loaded again, in order."""
        self.world.note("reload")
        self.wait()
        for address, size in list(self.ledger.live):
            while (address, size) in self.ledger.live:
                self.undo(address, size)
        for number in (FIRST, PLUGGED):
            self.master(number, False)
        self.t.equal(self.guest.disable(), ABI.ST_OK, "DISABLE")
        self.start()

    # ---- what must be so ----

    def check_there(self, address, size):
        for server in self.world.live():
            self.t.equal(server.covers(address, size), True,
                         f"{server.path} has {address:#x} size {size:#x}, "
                         "which is pinned by QEMU's word")

    def check(self):
        """Each mapping that lives is whole in each container."""
        self.wait()
        self.t.equal(self.ledger.lost, [], "unmaps of what is mapped")
        for address, size in list(self.ledger.live):
            self.check_there(address, size)

    def recover(self):
        """With a host that refuses nothing, each mapping succeeds."""
        for name, value in (("max-pinned", 0), ("fallback", "pin-all")):
            self.machine.set(name, value)
        for server in self.machine.servers:
            server.behave()
        for address, size in list(self.ledger.live):
            while (address, size) in self.ledger.live:
                self.undo(address, size)
