# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad input: each gets its status, changes nothing, and QEMU lives."""

import struct

from driver import ABI, DIRECTORY, REQUESTS, SLOTS, Guest, endpoint
from machine import vfio_user

MIB = 1 << 20
GIB = 1 << 30
TOP = (1 << 64) - 4096
FIRST = endpoint(0, 5)


def good(machine):
    """A guest with the device enabled and the endpoint attached."""
    guest = Guest(machine)
    guest.enable()
    guest.attach(FIRST)
    return guest


def quiet(t, machine, guest=None):
    """Nothing has been pinned or published, and QEMU lives."""
    t.equal(machine.alive(), True, "QEMU lives")
    t.equal(machine.servers[0].maps, {}, "maps")
    t.equal(machine.counter("pinned-bytes"), 0, "pinned-bytes")
    if guest:
        t.equal(guest.published(), [], "PINNED")


def test_enable_registers(t):
    """ENABLE looks at each register that it takes over."""
    invalid, range_ = ABI.ST_INVALID, ABI.ST_RANGE
    cases = [
        # Root of the table: unaligned, or not in RAM.
        ({"DTT_ROOT": DIRECTORY + 8}, invalid),
        ({"DTT_ROOT": DIRECTORY + 2048}, invalid),
        ({"DTT_ROOT": 512 * MIB}, range_),
        ({"DTT_ROOT": 0xa0000}, range_),
        ({"DTT_ROOT": 0xff000}, range_),
        ({"DTT_ROOT": 0xfe000000}, range_),
        ({"DTT_ROOT": 0xfffff000}, range_),
        ({"DTT_ROOT": TOP}, range_),
        # Size: zero, odd, and so large that the directory has no room.
        ({"DTT_SIZE": 0}, invalid),
        ({"DTT_SIZE": 1}, invalid),
        ({"DTT_SIZE": 512 * MIB + 2048}, invalid),
        ({"DTT_SIZE": (1 << 64) - 1}, invalid),
        ({"DTT_SIZE": TOP}, range_),
        ({"DTT_SIZE": 1 << 63}, range_),
        ({"DTT_ROOT": 512 * MIB - 4096, "DTT_SIZE": 64 * GIB}, range_),
        ({"DTT_ROOT": 0x9f000, "DTT_SIZE": 64 * GIB}, range_),
        ({"DTT_ROOT": TOP, "DTT_SIZE": TOP}, invalid),
        # The array of slots.
        ({"REQ_ROOT": SLOTS + 4}, invalid),
        ({"REQ_ROOT": 512 * MIB}, range_),
        ({"REQ_ROOT": 512 * MIB - 8, "REQ_SLOTS": 2}, range_),
        ({"REQ_ROOT": 0xc0000}, range_),
        ({"REQ_ROOT": (1 << 64) - 8}, range_),
        ({"REQ_SLOTS": 0}, invalid),
        ({"REQ_SLOTS": ABI.SLOTS_MAX + 1}, invalid),
        ({"REQ_SLOTS": 0xffffffff}, invalid),
        # Features that were not offered.
        ({"DRIVER_FEATURES": 4}, ABI.ST_FEATURE),
        ({"DRIVER_FEATURES": 1 << 63}, ABI.ST_FEATURE),
        # And these are in order.
        ({"DRIVER_FEATURES": 0}, ABI.ST_OK),
        ({"DTT_SIZE": 4096}, ABI.ST_OK),
        ({"DTT_ROOT": 512 * MIB - 4096}, ABI.ST_OK),
        ({"REQ_SLOTS": ABI.SLOTS_MAX}, ABI.ST_OK),
        ({"REQ_ROOT": 512 * MIB - 16}, ABI.ST_OK),
    ]
    with t.machine() as machine:
        guest = Guest(machine)
        for change, status in cases:
            guest.prepare(512 * MIB)
            for name, value in change.items():
                guest.set_reg(name, value)
            t.equal(guest.command(ABI.CMD_ENABLE), status, f"ENABLE {change}")
            t.equal(guest.reg("STATUS"), int(status == ABI.ST_OK), "STATUS")
            quiet(t, machine)
            t.equal(guest.disable(), ABI.ST_OK, "DISABLE")


def test_states(t):
    """What comes in the wrong order."""
    with t.machine() as machine:
        guest = Guest(machine)
        guest.prepare(512 * MIB)
        # A request before ENABLE: no page to answer in, so ERROR has it.
        t.equal(guest.pin((0x4000, 1))[0], ABI.ST_PENDING, "PIN page")
        t.equal(guest.reg("ERROR"), ABI.ST_STATE, "ERROR")
        quiet(t, machine, guest)
        t.equal(guest.command(ABI.CMD_ENABLE), ABI.ST_OK, "ENABLE")
        t.equal(guest.pin((0x4000, 1)), (ABI.ST_STATE, 0), "before ATTACH")
        quiet(t, machine, guest)
        t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")
        t.equal(guest.command(ABI.CMD_ENABLE), ABI.ST_STATE, "ENABLE twice")
        t.equal(guest.reg("STATUS"), ABI.STATUS_ENABLED, "STATUS")
        t.equal(machine.counter("attached-endpoints"), 1, "still attached")
        t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH twice")
        t.equal(guest.detach(FIRST), ABI.ST_OK, "DETACH")
        t.equal(guest.detach(FIRST), ABI.ST_OK, "DETACH twice")
        t.equal(guest.pin((0x4000, 1)), (ABI.ST_STATE, 0), "after DETACH")
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
        t.equal(guest.pin((0x4000, 1))[0], ABI.ST_PENDING, "after DISABLE")
        t.equal(guest.reg("ERROR"), ABI.ST_STATE, "ERROR")
        quiet(t, machine, guest)


def test_unknown_commands(t):
    """Commands that there are none of are unsupported."""
    with t.machine() as machine:
        guest = good(machine)
        for cmd in (0, 3, 4, 255, 256 + 2, 0xffffffff):
            t.equal(guest.command(cmd), ABI.ST_UNSUPPORTED, f"command {cmd}")
        for opcode in (0, 5, 6, 256 + 4, 0xffffffff):
            t.equal(guest.request(opcode, ranges=[(0x4000, 1)]),
                    (ABI.ST_UNSUPPORTED, 0), f"opcode {opcode}")
        t.equal(guest.reg("STATUS"), ABI.STATUS_ENABLED, "STATUS")
        t.equal(machine.counter("request-errors"), 5, "request-errors")
        quiet(t, machine, guest)


def test_slots(t):
    """A slot out of range, or one whose page is none."""
    pages = [
        (512 * MIB, ABI.ST_RANGE), (0xa0000, ABI.ST_RANGE),
        (0xf0000, ABI.ST_RANGE), (0xfe000000, ABI.ST_RANGE),
        (0xfffff000, ABI.ST_RANGE), (TOP, ABI.ST_RANGE),
        (REQUESTS + 8, ABI.ST_INVALID), (REQUESTS + 2048, ABI.ST_INVALID),
        ((1 << 64) - 1, ABI.ST_INVALID),
    ]
    with t.machine() as machine:
        guest = good(machine)
        for slot in (2, 3, 4095, 4096, 0x7fffffff, 0xffffffff):
            guest.doorbell(slot)
            t.equal(guest.reg("ERROR"), ABI.ST_INVALID, f"slot {slot}")
        for page, status in pages:
            machine.write(SLOTS + 8, 8, page)
            guest.doorbell(1)
            t.equal(guest.reg("ERROR"), status, f"request page {page:#x}")
        # The other slot still works.
        t.equal(guest.pin((0x4000, 1)), (ABI.ST_OK, 1), "PIN in slot 0")
        t.equal(machine.servers[0].maps, {0x4000000: 2 * MIB}, "maps")


def test_counts(t):
    """PIN with counts and sizes that are out of bounds."""
    most = ABI.REQ_MAX_PAGES
    cases = [
        ([(0x4000, 1)], 0), ([(0x4000, 1)], 255), ([(0x4000, 1)], 0xffffffff),
        ([(0x4000, 0)], 1), ([(0x4000, 1), (0x5000, 0)], 2),
        ([(0x4000, most + 1)], 1), ([(0x4000, most), (0x9000, 1)], 2),
        ([(0x4000, (1 << 64) - 1)], 1), ([(0x4000, 1 << 63)] * 2, 2),
        ([((1 << 64) - 1, 1)], 1), ([((1 << 64) - 1, 2)], 1),
        ([((1 << 52) - 1, 2)], 1), ([(1 << 52, 1)], 1),
        # Count says two, and the second one is empty.
        ([(0x4000, 1)], 2),
    ]
    with t.machine() as machine:
        guest = good(machine)
        for ranges, count in cases:
            # What an earlier case left in the page would be valid ranges.
            machine.command(f"memset {REQUESTS:#x} 0x1000 0")
            t.equal(guest.request(ABI.OP_PIN, ranges=ranges, count=count),
                    (ABI.ST_INVALID, 0), f"PIN {ranges[:2]} count {count}")
            quiet(t, machine, guest)
        full = [(0x4000 + i, 1) for i in range(ABI.REQ_MAX_RANGES)]
        t.equal(guest.pin(*full), (ABI.ST_OK, ABI.REQ_MAX_RANGES), "full page")
        t.equal(guest.pin((0x8000, most)), (ABI.ST_OK, 1), "largest request")


def test_not_ram(t):
    """PIN of what is not RAM: nothing of the request is pinned."""
    pages = {
        "VGA hole": (0xa0, 1), "end of the VGA hole": (0xbf, 1),
        "option ROM": (0xc0, 1), "last page below 1 MiB": (0xff, 1),
        "into the hole": (0x9f, 2), "over the hole": (0x90, 0x80),
        "out of the hole": (0xff, 2),
        "our own BAR": (0xfe000, 1), "other MMIO": (0xfec00, 1),
        "MSI": (0xfee00, 1), "BIOS": (0xfffff, 1), "BIOS start": (0xffff0, 8),
        "past the end": (0x20000, 1), "over the end": (0x1ffff, 2),
        "4 GiB": (0x100000, 1), "last frame": ((1 << 52) - 1, 1),
        "far away": (1 << 51, 1),
    }
    with t.machine() as machine:
        guest = Guest(machine)
        # A table that covers all of these, so that it is RAM that decides.
        t.equal(guest.enable(size=8 * GIB), ABI.ST_OK, "ENABLE")
        t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")
        for what, pages_ in pages.items():
            t.equal(guest.pin((0x4000, 1), pages_), (ABI.ST_RANGE, 0), what)
            quiet(t, machine, guest)
        # The borders themselves.
        t.equal(guest.pin((0, 0xa0), (0x100, 1), (0x1ffff, 1)),
                (ABI.ST_OK, 3), "around the hole, and the last page")


def test_past_the_table(t):
    """RAM that the table does not cover cannot be counted: not pinned."""
    with t.machine() as machine:
        guest = Guest(machine)
        t.equal(guest.enable(size=64 * MIB + 4096), ABI.ST_OK, "ENABLE")
        t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")
        t.equal(guest.pin((0x4001, 1)), (ABI.ST_RANGE, 0), "past")
        t.equal(guest.pin((0x4000, 2)), (ABI.ST_RANGE, 0), "over the end")
        quiet(t, machine, guest)
        t.equal(guest.pin((0x4000, 1)), (ABI.ST_OK, 1), "the last page")


def test_high_memory_borders(t):
    """With 5 GiB there are 2 below 4 GiB and 3 above."""
    with t.machine(memory="5G") as machine:
        guest = Guest(machine)
        t.equal(guest.enable(size=8 * GIB), ABI.ST_OK, "ENABLE")
        t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")
        low, high, end = 2 * GIB >> 12, 4 * GIB >> 12, 7 * GIB >> 12
        for gfn, npages in ((low, 1), (low - 1, 2), (high - 1, 1),
                            (high - 1, 2), (end, 1), (end - 1, 2)):
            t.equal(guest.pin((gfn, npages)), (ABI.ST_RANGE, 0),
                    f"PIN {gfn:#x} {npages}")
        quiet(t, machine, guest)
        t.equal(guest.pin((low - 1, 1), (high, 1), (end - 1, 1)),
                (ABI.ST_OK, 3), "PIN at the borders")
        t.equal(sorted(machine.servers[0].maps),
                [2 * GIB - 2 * MIB, 4 * GIB, 7 * GIB - 2 * MIB], "maps")


def test_endpoints(t):
    """ATTACH, DETACH and PROBE of what is not a tracked device."""
    def devices(machine):
        return [vfio_user(machine, 0, "d0", addr="5"), "edu,addr=6"]

    strangers = {
        "host bridge": endpoint(0, 0), "coiommu itself": endpoint(0, 4),
        "emulated device": endpoint(0, 6), "LPC bridge": endpoint(0, 31),
        "empty slot": endpoint(0, 20), "other function": endpoint(0, 5, 1),
        "other bus": endpoint(3, 5), "last bus": endpoint(255, 31, 7),
        "other segment": FIRST | 1 << 16, "all ones": 0xffffffff,
    }
    with t.machine(devices=devices) as machine:
        guest = Guest(machine)
        t.equal(guest.enable(), ABI.ST_OK, "ENABLE")
        for what, number in strangers.items():
            for opcode in (ABI.OP_PROBE, ABI.OP_ATTACH, ABI.OP_DETACH):
                t.equal(guest.request(opcode, number)[0], ABI.ST_NODEV,
                        f"opcode {opcode} for {what}")
        t.equal(machine.counter("attached-endpoints"), 0, "endpoints")
        t.equal(guest.probe(FIRST), ABI.ST_OK, "PROBE")
        t.equal(machine.counter("attached-endpoints"), 0, "after PROBE")
        quiet(t, machine, guest)


def test_reserved_ignored(t):
    """Reserved and unused fields do not matter."""
    with t.machine() as machine:
        guest = good(machine)
        ones = 0xffffffff
        page = struct.pack("<8I", ABI.OP_PROBE, ones, ones, ones, FIRST,
                           ones, ones, ones)
        t.equal(guest.raw_request(page.ljust(4096, b"\xff")), (ABI.ST_OK, 0),
                "PROBE")
        page = struct.pack("<8I2Q", ABI.OP_PIN, 1, ones, ones, ones, ones,
                           ones, ones, 0x4000, 1)
        t.equal(guest.raw_request(page.ljust(4096, b"\xff")), (ABI.ST_OK, 1),
                "PIN")


def test_request_in_hostile_places(t):
    """Request pages and leaves that lie over each other harm the guest only."""
    with t.machine() as machine:
        guest = good(machine)
        # Both slots share a page; the page is also the directory's first leaf.
        machine.write(SLOTS + 8, 8, REQUESTS)
        machine.write(DIRECTORY, 8, REQUESTS | ABI.DTT_DIR_PRESENT)
        # Unit 2 is status, unit 3 is done: PINNED bits fall into the page.
        guest.pin((0x20, 1))
        t.equal(machine.alive(), True, "QEMU lives")
        # The directory is its own leaf.
        machine.write(DIRECTORY, 8, DIRECTORY | ABI.DTT_DIR_PRESENT)
        guest.pin((0x300, 1))
        t.equal(machine.alive(), True, "QEMU lives")
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
        t.equal(machine.servers[0].maps, {}, "maps")
