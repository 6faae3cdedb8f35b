# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest driver's side of the ABI, in Python, for tests.

The constants are read from the ABI header, so a test cannot disagree with it.
"""

import os
import re
import struct

HEADER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..",
                      "hw-coiommu", "include", "coiommu_abi.h")


def _constants():
    """Each #define of a plain integer, without its COIOMMU_ prefix."""
    found = {}
    with open(HEADER) as header:
        text = header.read().replace("\\\n", " ")
    for name, value in re.findall(
            r"^#define COIOMMU_(\w+)[ \t]+([^\n/]+)", text, re.M):
        value = re.sub(r"(?<=[0-9a-fA-F])(?:ull|u)\b", "", value.strip())
        value = re.sub(r"COIOMMU_(\w+)", r"\1", value)
        try:
            found[name] = eval(value, {"__builtins__": {}}, dict(found))
        except (NameError, SyntaxError, TypeError):
            continue
    return found


class ABI:
    """ABI.REG_MAGIC is COIOMMU_REG_MAGIC, and so on."""


for _name, _value in _constants().items():
    setattr(ABI, _name, _value)

# Where the test keeps its structures in guest memory.
DIRECTORY = 0x100000
SLOTS = 0x140000
REQUESTS = 0x148000
LEAVES = 0x200000

BAR = 0xfe000000
DEVFN = 4 << 3


class Guest:
    """A driver for the coiommu device of a Machine."""

    def __init__(self, machine):
        self.machine = machine
        self.start()
        self.unit = 1 << self.reg("UNIT_SHIFT")
        self.block = 1 << self.reg("BLOCK_SHIFT")

    def start(self):
        """Program the BAR and enable memory accesses."""
        self.machine.config_write(0, DEVFN, 0x10, BAR)
        self.machine.config_write(0, DEVFN, 0x14, 0)
        self.machine.config_write(0, DEVFN, 0x04, 6, size=2)

    # ---- registers ----

    WIDE = ("DEVICE_FEATURES", "DRIVER_FEATURES", "MAX_MAPPING", "DTT_ROOT",
            "DTT_SIZE", "REQ_ROOT", "HOTPLUG_END")

    def reg(self, name):
        return self.machine.read(BAR + getattr(ABI, "REG_" + name),
                                 8 if name in self.WIDE else 4)

    def set_reg(self, name, value):
        self.machine.write(BAR + getattr(ABI, "REG_" + name),
                           8 if name in self.WIDE else 4, value)

    def command(self, cmd):
        self.set_reg("COMMAND", cmd)
        return self.reg("ERROR")

    # ---- table and request pages ----

    def prepare(self, size, slots=2, features=None):
        """
        Lay out a table for [0, size) and request pages; set registers.  All
        features are used if none are named.
        """
        self.size = size
        per_leaf = ABI.DTT_LEAF_ENTRIES * self.unit
        leaves = -(-size // per_leaf)
        directory = [LEAVES + i * 4096 | ABI.DTT_DIR_PRESENT
                     for i in range(leaves)]
        self.machine.write_bytes(DIRECTORY,
                                 struct.pack(f"<{leaves}Q", *directory))
        self.machine.command(f"memset {LEAVES:#x} {leaves * 4096:#x} 0")
        self.machine.write_bytes(
            SLOTS, struct.pack(f"<{slots}Q",
                               *[REQUESTS + i * 4096 for i in range(slots)]))
        self.set_reg("DRIVER_FEATURES", self.reg("DEVICE_FEATURES")
                     if features is None else features)
        self.set_reg("DTT_ROOT", DIRECTORY)
        self.set_reg("DTT_SIZE", size)
        self.set_reg("REQ_ROOT", SLOTS)
        self.set_reg("REQ_SLOTS", slots)

    def enable(self, size=512 << 20, slots=2, features=None):
        self.prepare(size, slots, features)
        return self.command(ABI.CMD_ENABLE)

    def disable(self):
        return self.command(ABI.CMD_DISABLE)

    def entry(self, address):
        """The table's entry for an address."""
        return self.machine.read(LEAVES + address // self.unit * 4, 4)

    def set_entry(self, address, value):
        self.machine.write(LEAVES + address // self.unit * 4, 4, value)

    def pinned(self, address):
        return bool(self.entry(address) & ABI.DTT_PINNED)

    def published(self):
        """Addresses of all units whose entry says PINNED."""
        per_leaf = ABI.DTT_LEAF_ENTRIES * self.unit
        data = self.machine.read_bytes(LEAVES,
                                       -(-self.size // per_leaf) * 4096)
        return [i * self.unit for i, (entry,) in
                enumerate(struct.iter_unpack("<I", data))
                if entry & ABI.DTT_PINNED]

    def units(self, address, size):
        """Addresses of the units that a range touches."""
        return range(address // self.unit * self.unit, address + size,
                     self.unit)

    def count(self, address, size, change):
        """
        Add to the counts of a range, as if DMA mappings came or went.  Only
        the lowest byte is written: the host may change PINNED at this moment.
        """
        for unit in self.units(address, size):
            where = LEAVES + unit // self.unit * 4
            self.machine.write(where, 1, self.machine.read(where, 1) + change)

    def map(self, address, size):
        """Map a range as a driver does: the status, OK without a request."""
        self.count(address, size, 1)
        if all(self.pinned(unit) for unit in self.units(address, size)):
            return ABI.ST_OK
        status = self.pin_bytes(address, size)
        if status != ABI.ST_OK:
            self.count(address, size, -1)
        return status

    def unmap(self, address, size):
        self.count(address, size, -1)

    # ---- requests ----

    def doorbell(self, slot):
        self.machine.write(BAR + ABI.REG_DOORBELL, 4, slot)

    def raw_request(self, page, slot=0):
        """Ring with these bytes in the page: (status, done)."""
        address = REQUESTS + slot * 4096
        self.machine.write_bytes(address, page)
        self.doorbell(slot)
        return (self.machine.read(address + 8, 4),
                self.machine.read(address + 12, 4))

    def request(self, opcode, endpoint=0, ranges=(), count=None, slot=0):
        """ranges: (gfn, npages) pairs."""
        page = struct.pack("<IIIIIIII", opcode,
                           len(ranges) if count is None else count,
                           ABI.ST_PENDING, 0xdead, endpoint, 0, 0, 0)
        for gfn, npages in ranges:
            page += struct.pack("<QQ", gfn, npages)
        return self.raw_request(page, slot)

    def attach(self, endpoint):
        return self.request(ABI.OP_ATTACH, endpoint)[0]

    def detach(self, endpoint):
        return self.request(ABI.OP_DETACH, endpoint)[0]

    def probe(self, endpoint):
        return self.request(ABI.OP_PROBE, endpoint)[0]

    def pin(self, *ranges):
        """Pin (gfn, npages) pairs: (status, done).  Ring until it is over."""
        done = 0
        while True:
            status, more = self.request(ABI.OP_PIN, ranges=ranges[done:])
            done += more
            if status != ABI.ST_AGAIN:
                return status, done

    def pin_bytes(self, address, size):
        return self.pin((address >> 12, -(-size // 4096)))[0]


def endpoint(bus, slot, function=0):
    return bus << 8 | slot << 3 | function
