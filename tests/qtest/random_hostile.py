# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that does anything at all to the device and the machine.

Each class is one way in: registers, request pages, the table, configuration
space, the chipset, resets.  After a few steps the Oracle looks.
"""

import struct

from driver import ABI, BAR, DEVFN, DIRECTORY, LEAVES, REQUESTS, SLOTS, endpoint
from random_world import (DIMM, FIRST, GIB, MEMORY, MIB, NR_SLOTS, PLUGGED,
                          RINGERS, SECOND, TABLE_SIZE)
from test_hotplug import PORT
from test_pins import function_reset

ENDPOINTS = (FIRST, FIRST, SECOND, SECOND, PLUGGED, endpoint(0, 4),
             endpoint(0, 0), endpoint(0, 7), 0x10028, 0xffffffff)
DEVICES = ((0, 5 << 3), (0, 6 << 3), (1, 0))


class Hostile:
    """What the ways in have in common."""

    def __init__(self, world):
        self.world = world
        self.machine = world.machine
        self.guest = world.guest
        self.random = world.random
        self.table = False      # it is as Guest.prepare() has laid it out
        self.statuses = set()

    def value(self, bits):
        """A number that is likely to be at some border."""
        r = self.random
        kind = r.randrange(6)
        if kind == 0:
            return r.getrandbits(bits)
        if kind == 1:
            return (1 << r.randrange(bits + 1)) - r.randrange(3) & \
                (1 << bits) - 1
        if kind == 2:
            return self.address() & (1 << bits) - 1
        if kind == 3:
            return r.choice([DIRECTORY, SLOTS, REQUESTS, MEMORY, BAR])
        return r.randrange(8)

    def address(self):
        """Of a page, in RAM as a rule."""
        start, size = self.random.choice(
            [(0, MEMORY)] * 20 + [(4 * GIB, 3 * DIMM), (0x80000, MIB),
                                  (MEMORY - 16 * MIB, 16 * MIB)] +
            [(at, DIMM) for at in self.world.dimms.values()])
        return start + self.random.randrange(size) & ~0xfff

    def lost_table(self):
        """The guest has written where the table is, or what says so."""
        self.table = False


class Registers:
    """Reads and writes of any size, anywhere in BAR 0."""

    def __init__(self, hostile):
        self.hostile = hostile

    def step(self):
        h = self.hostile
        size = h.random.choice([1, 2, 4, 4, 4, 8, 8])
        offset = h.random.choice(
            [h.random.randrange(0x60), h.random.randrange(0x60) & ~7,
             h.random.randrange(0x2000 - 8)])
        if h.random.randrange(2):
            h.machine.read(BAR + offset, size)
            return
        value = h.value(8 * size)
        h.world.note(f"register {offset:#x} size {size} = {value:#x}")
        # A COMMAND may enable with whatever the registers say.
        h.lost_table()
        h.machine.write(BAR + offset, size, value)


class Session:
    """ENABLE, DISABLE, ATTACH, DETACH as drivers do it, in any order."""

    def __init__(self, hostile):
        self.hostile = hostile

    def step(self):
        h = self.hostile
        what = h.random.choice(["renew", "renew", "enable", "attach",
                                "attach", "detach", "disable"])
        h.world.note(what)
        getattr(self, what)()

    def renew(self):
        """A driver that does all as it should."""
        self.disable()
        self.enable()
        self.hostile.guest.attach(FIRST)
        self.hostile.guest.attach(SECOND)

    def enable(self):
        h = self.hostile
        if h.guest.reg("STATUS"):
            status = h.guest.command(ABI.CMD_ENABLE)
        else:
            status = h.guest.enable(TABLE_SIZE, NR_SLOTS)
            h.table = status == ABI.ST_OK
        h.statuses.add(("enable", status))

    def disable(self):
        self.hostile.guest.disable()
        self.hostile.lost_table()

    def attach(self):
        for _ in range(3):
            self.one("attach")

    def detach(self):
        self.one("detach")

    def one(self, what):
        h = self.hostile
        h.statuses.add((what, getattr(h.guest, what)(
            h.random.choice(ENDPOINTS))))


class Requests:
    """Request pages with and without sense, rung with and without the BQL."""

    def __init__(self, hostile):
        self.hostile = hostile

    def step(self):
        h = self.hostile
        page, what = h.random.choice([self.good, self.good, self.bad])()
        h.world.note(what, page[:64].hex())
        if h.random.randrange(2):
            self.ring(page)
            return
        h.statuses.add((what, h.guest.raw_request(page)[0]))

    def ring(self, page):
        """From one thread or both, without waiting for the answer."""
        h = self.hostile
        for slot in h.random.choice([RINGERS[:1], RINGERS[1:], RINGERS]):
            if h.world.ringers[slot].over():
                h.machine.write_bytes(REQUESTS + slot * 4096, page)
                h.world.ringers[slot].ring()

    def good(self):
        h = self.hostile
        ranges = [(h.address() >> 12, h.random.randrange(1, 200))
                  for _ in range(h.random.randrange(1, 6))]
        return self.page(ABI.OP_PIN, len(ranges), ranges), "pin"

    def bad(self):
        h = self.hostile
        ranges = [(h.value(64), h.value(64))
                  for _ in range(h.random.randrange(1, 9))]
        opcode = h.random.choice([ABI.OP_PIN, ABI.OP_PIN, h.value(32)])
        count = h.random.choice([len(ranges), h.value(32)])
        return self.page(opcode, count, ranges), "bad"

    def page(self, opcode, count, ranges):
        h = self.hostile
        return struct.pack("<8I", opcode, count, ABI.ST_PENDING, 0,
                           h.random.choice(ENDPOINTS), 0, 0, 0) + \
            b"".join(struct.pack("<QQ", *pair) for pair in ranges)


class Table:
    """Counts that lie, and garbage in all that the device reads."""

    def __init__(self, hostile):
        self.hostile = hostile

    def step(self):
        self.hostile.random.choice([self.count] * 6 + [self.garbage])()

    def count(self):
        h = self.hostile
        unit = h.address() // h.guest.unit
        value = h.random.choice([0, 0, 1, 255])
        h.world.note(f"count of {unit * h.guest.unit:#x} = {value}")
        h.machine.write(LEAVES + unit * 4, 1, value)

    def garbage(self):
        h = self.hostile
        where = h.random.choice([DIRECTORY, SLOTS, REQUESTS, LEAVES])
        where += h.random.randrange(64) * 8
        data = b"".join(struct.pack("<Q", h.value(64)) for _ in range(4))
        h.world.note(f"garbage at {where:#x}: {data.hex()}")
        h.lost_table()
        h.machine.write_bytes(where, data)
        h.guest.doorbell(h.random.choice([0, 1, h.value(32)]))


class Config:
    """Configuration space: our function, the devices, the port."""

    def __init__(self, hostile):
        self.hostile = hostile

    def step(self):
        self.hostile.random.choice([self.master, self.master, self.master,
                                    self.ours, self.device, self.port])()

    def write(self, bus, devfn, offset, value, size):
        self.hostile.world.note(f"config {bus}:{devfn:#x} {offset:#x} "
                                f"size {size} = {value:#x}")
        self.hostile.machine.config_write(bus, devfn, offset, value,
                                          size=size)

    def master(self):
        """A device may do DMA, or no longer."""
        h = self.hostile
        self.write(*h.random.choice(DEVICES), 4, h.random.choice([0, 2, 4, 6]),
                   h.random.choice([1, 2, 4]))

    def ours(self):
        h = self.hostile
        size = h.random.choice([1, 2, 4])
        self.write(0, DEVFN, h.random.randrange(256 // size) * size,
                   h.value(8 * size), size)
        h.lost_table()
        h.guest.start()

    def device(self):
        h = self.hostile
        size = h.random.choice([1, 2, 4])
        self.write(*h.random.choice(DEVICES),
                   h.random.randrange(64 // size) * size, h.value(8 * size),
                   size)

    def port(self):
        """Other bus numbers, for a moment: endpoints get other names."""
        h = self.hostile
        self.write(0, PORT, 0x18, h.value(24), 4)
        h.guest.attach(PLUGGED)
        self.write(0, PORT, 0x18, 1 << 16 | 1 << 8, 4)


class Chipset:
    """RAM that comes and goes: PAM, SMRAM, TSEG, and PCIEXBAR over it."""

    def __init__(self, hostile):
        self.hostile = hostile

    def step(self):
        h = self.hostile
        register, value = h.random.choice(
            [(h.random.randrange(0x90, 0x97), h.random.choice(
                [0, 0x33, 0x11])),
             (0x9d, h.random.choice([0x02, 0x08, 0x48])),
             (0x9e, h.random.choice([0, 1, 3, 5]))])
        if not h.random.randrange(4):
            register, value = 0x60, h.random.choice(
                [0x10000001, 0, 0xb0000001, 0x1e000005])
        h.world.note(f"chipset {register:#x} = {value:#x}")
        h.machine.config_write(0, 0, register, value,
                               size=4 if register == 0x60 else 1)


class Resets:
    """Of the machine and of our function; memory decoding off."""

    def __init__(self, hostile):
        self.hostile = hostile

    def step(self):
        h = self.hostile
        h.lost_table()
        h.random.choice([self.machine, self.function, self.decoding])()

    def machine(self):
        self.hostile.world.reset()

    def function(self):
        h = self.hostile
        h.world.note("function reset")
        function_reset(h.world.t, h.machine)
        h.guest.start()

    def decoding(self):
        h = self.hostile
        h.world.note("memory decoding off")
        h.machine.config_write(0, DEVFN, 4, 0, size=2)
        h.guest.start()
