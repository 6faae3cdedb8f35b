# SPDX-License-Identifier: GPL-2.0-or-later
"""What must be so after each step of a random tester, whatever it was.

The servers' maps are the truth: what a device can reach.  The counters and the
guest's table are what QEMU and the guest believe.  A third opinion on what
guest RAM is comes from QEMU's own view of memory.
"""

import bisect
import re
import time

from driver import ABI, LEAVES
from random_world import DIMM, GIB, MEMORY

# The VGA window and firmware: never guest RAM that a device may reach.
HOLE = (0xa0000, 0x100000)
# Seconds for what ends by itself: the end of pin-all, a pass under way.
SETTLE = 30


def ram_ranges(machine):
    """[(start, end)] of guest RAM, by QEMU's view of system memory."""
    text = machine.qmp("human-monitor-command",
                       **{"command-line": "info mtree -f"})
    view = next(view for view in text.split("FlatView")
                if 'AS "memory"' in view)
    ranges = []
    for start, last, name in re.findall(
            r"^  (\w{16})-(\w{16}) \(prio -?\d+, ram\): (\S+)", view, re.M):
        if name.startswith("ram"):
            ranges += without_hole(int(start, 16), int(last, 16) + 1)
    return merge(ranges)


def without_hole(start, end):
    parts = (start, min(end, HOLE[0])), (max(start, HOLE[1]), end)
    return [(low, high) for low, high in parts if low < high]


def merge(ranges):
    """Sorted, and those that touch joined."""
    merged = []
    for start, end in sorted(ranges):
        if merged and merged[-1][1] >= start:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


def within(ranges, start, end):
    """Does one of the merged ranges hold all of it?"""
    i = bisect.bisect_right(ranges, (start, 1 << 64)) - 1
    return i >= 0 and ranges[i][0] <= start and end <= ranges[i][1]


def cut(ranges, start, end):
    """The parts of merged ranges that lie in [start, end)."""
    i = max(bisect.bisect_right(ranges, (start, 1 << 64)) - 1, 0)
    parts = []
    while i < len(ranges) and ranges[i][0] < end:
        low, high = max(ranges[i][0], start), min(ranges[i][1], end)
        if low < high:
            parts.append((low, high))
        i += 1
    return parts


class Oracle:
    """Compares containers, counters and table of a World."""

    def __init__(self, world):
        self.world = world
        self.ram = []           # as it was when last looked at

    def check(self, table):
        """table: is the table as the driver laid it out, so can be judged?"""
        world = self.world
        world.quiet()
        world.check_alive()
        for server in world.machine.servers:
            world.t.equal(server.violations, [], "what type1 would refuse")
        world.rest()
        self.settle(table)
        world.resume()

    def settle(self, table):
        """Until nothing is wrong: what ends by itself may be ending."""
        end = time.monotonic() + SETTLE
        while True:
            wrong = self.wrong(table)
            if not wrong:
                return
            if time.monotonic() > end:
                self.world.t.equal(wrong, None, "what is wrong")
            time.sleep(0.005)

    def wrong(self, table):
        """A sentence, or None."""
        world = self.world
        counter = world.machine.counter
        live = world.live()
        maps = live[0].take()
        pinned = counter("pinned-bytes")
        containers, want = counter("containers"), 3 if world.plugged else 2
        if containers != want:
            return f"{containers} containers, not {want}"
        dead = counter("containers-dead")
        if dead != world.dead:
            return f"{dead} containers are dead"
        for server in world.machine.servers:
            want = maps if server in live else {}
            got = server.take()
            if got != want:
                return f"{server.path} differs: {difference(got, want)}"
        if sum(maps.values()) != pinned:
            return f"mapped {sum(maps.values())}, pinned-bytes {pinned}"
        if pinned and not counter("attached-endpoints") and \
                not counter("fallback-active"):
            return f"{pinned} bytes pinned for no device"
        return self.wrong_memory(maps) or (
            self.wrong_table(maps) if table else None)

    def wrong_memory(self, maps):
        """Is each map RAM?"""
        self.ram = ram_ranges(self.world.machine)
        for iova, size in maps.items():
            if not within(self.ram, iova, iova + size):
                return f"map {iova:#x} size {size:#x} is not RAM"
        return None

    def wrong_table(self, maps):
        """PINNED where all RAM of the unit is mapped, and nowhere else."""
        published, mapped = self.published(), self.mapped_units(maps)
        wrong = published ^ mapped
        if not wrong:
            return None
        unit = min(wrong)
        return (f"{len(wrong)} units, {unit * self.world.guest.unit:#x} is "
                f"PINNED: {unit in published}, mapped: {unit in mapped}")

    def mapped_units(self, maps):
        """Numbers of the units whose RAM is mapped, all of it."""
        size = self.world.guest.unit
        mapped = merge([(iova, iova + size) for iova, size in maps.items()])
        units = set()
        for start, end in mapped:
            first, last = start // size, (end - 1) // size
            units.update(range(first + 1, last))
            for unit in (first, last):
                ram = cut(self.ram, unit * size, (unit + 1) * size)
                if all(within(mapped, *part) for part in ram):
                    units.add(unit)
        return units

    def published(self):
        """Numbers of the units with PINNED, where memory may be."""
        unit = self.world.guest.unit
        leaf = ABI.DTT_LEAF_ENTRIES * unit
        units = set()
        for start, size in ((0, MEMORY), (4 * GIB, 3 * DIMM)):
            data = self.world.machine.read_bytes(
                LEAVES + start // leaf * 4096, -(-size // leaf) * 4096)
            units.update(start // unit + i for i, flags in
                         enumerate(data[3::4]) if flags & 0x80)
        return units


def difference(got, want):
    """What two sets of maps have not in common, in short."""
    more = sorted(set(got.items()) - set(want.items()))[:4]
    less = sorted(set(want.items()) - set(got.items()))[:4]
    return "more " + str([(hex(a), hex(b)) for a, b in more]) + \
        " less " + str([(hex(a), hex(b)) for a, b in less])
