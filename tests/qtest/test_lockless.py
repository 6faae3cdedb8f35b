# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests that come without the big lock, from several threads."""

import errno
import struct
import threading
import time

from driver import ABI, BAR, LEAVES, REQUESTS, SLOTS, Guest, endpoint
from machine import PATIENCE, QemuError, plug_vfio_user, vfio_user_row
from test_hotplug import NATIVE, one_and_a_port, start, unplug
from test_pins import check_views, function_reset
from test_unpin import wait
from virtio_ringer import Ringer

MIB = 1 << 20
GIB = 1 << 30
BASE = 0x4000000
FIRST = endpoint(0, 5)
MEMORY = 0x1f000000


class Caller:
    """A vCPU with a request page of its own."""

    def __init__(self, machine, slot):
        self.machine = machine
        self.page = REQUESTS + slot * 4096
        self.ringer = Ringer(machine, slot, MEMORY, BAR + ABI.REG_DOORBELL)

    def ask(self, opcode, number=0, ranges=()):
        self.fill(opcode, number, ranges)
        self.ringer.ring()

    def fill(self, opcode, number=0, ranges=()):
        page = struct.pack("<8I", opcode, len(ranges), ABI.ST_PENDING, 0,
                           number, 0, 0, 0)
        for gfn, npages in ranges:
            page += struct.pack("<QQ", gfn, npages)
        self.machine.write_bytes(self.page, page)

    def pin(self, address, size):
        self.ask(ABI.OP_PIN, ranges=[(address >> 12, -(-size // 4096))])

    def status(self):
        return self.machine.read(self.page + 8, 4)

    def over(self):
        """Is the request over?  What was served in part is asked for again."""
        if not self.ringer.over():
            return False
        if self.status() != ABI.ST_AGAIN:
            return True
        self.machine.write(self.page + 8, 4, ABI.ST_PENDING)
        self.ringer.ring()
        return False

    def result(self, t):
        end = time.monotonic() + PATIENCE
        while not self.over():
            t.equal(time.monotonic() < end, True, "the request is over")
            time.sleep(0.001)
        return self.status()

    def answer(self, t):
        """The status of one doorbell."""
        t.equal(self.ringer.wait(), True, "the doorbell write returns")
        return self.status()


def machine_with_callers(t, row, coiommu="", **arguments):
    extra, devices = Ringer.arguments(t.folder(), (0, 1))
    return t.machine(coiommu=coiommu,
                     devices=lambda machine: row(machine) + devices,
                     extra=(*arguments.pop("extra", ()), *extra), **arguments)


def callers(machine):
    return Caller(machine, 0), Caller(machine, 1)


def later(seconds, function):
    thread = threading.Timer(seconds, function)
    thread.start()
    return thread


def test_parallel(t):
    """Two callers pin different blocks at once; a third waits for its own."""
    with machine_with_callers(t, one_and_a_port) as machine:
        guest = start(t, machine, FIRST)
        one, two = callers(machine)
        server = machine.servers[0]
        server.hold_at(BASE)
        one.pin(BASE, 4096)
        t.equal(server.held.wait(PATIENCE), True,
                "the first map is in progress")
        # Nobody holds the big lock: the monitor and registers answer.
        t.equal(machine.counter("pinned-blocks"), 0, "pinned-blocks")
        t.equal(guest.reg("STATUS"), ABI.STATUS_ENABLED, "STATUS")
        t.equal((one.status(), one.ringer.over()), (ABI.ST_PENDING, False),
                "the first request waits")
        two.pin(BASE + 2 * MIB, 4096)
        t.equal(two.result(t), ABI.ST_OK, "the second request")
        t.equal(guest.pin_bytes(BASE + 4 * MIB, 4096), ABI.ST_OK,
                "a request with the big lock")
        requests = machine.counter("requests")
        two.pin(BASE + 2 * MIB - 4096, 8192)
        wait(t, lambda: machine.counter("requests") > requests, "it has rung")
        time.sleep(0.2)
        t.equal(two.ringer.over(), False, "one for the busy block waits")
        t.equal(one.ringer.over(), False, "the first still waits")
        server.release()
        t.equal((one.result(t), two.result(t)), (ABI.ST_OK, ABI.ST_OK),
                "both")
        t.equal(sorted(server.maps), [BASE + i * 2 * MIB for i in range(3)],
                "each mapped once")
        t.equal(machine.counter("request-wait-max-ns") > 40000000, True,
                "the longest wait")
        check_views(t, machine)


def test_other_requests(t):
    """Requests that need the big lock take it."""
    with machine_with_callers(t, one_and_a_port) as machine:
        guest = Guest(machine)
        t.equal(guest.enable(), ABI.ST_OK, "ENABLE")
        one, _ = callers(machine)
        one.pin(BASE, 4096)
        t.equal(one.result(t), ABI.ST_STATE, "PIN before ATTACH")
        for opcode, number, status, attached in (
                (ABI.OP_PROBE, FIRST, ABI.ST_OK, 0),
                (ABI.OP_PROBE, endpoint(0, 9), ABI.ST_NODEV, 0),
                (ABI.OP_ATTACH, FIRST, ABI.ST_OK, 1),
                (ABI.OP_DETACH, FIRST, ABI.ST_OK, 0),
                (ABI.OP_ATTACH, FIRST, ABI.ST_OK, 1), (99, 0,
                                                       ABI.ST_UNSUPPORTED, 1)):
            one.ask(opcode, number)
            t.equal(one.result(t), status, f"opcode {opcode}")
            t.equal(machine.counter("attached-endpoints"), attached,
                    "endpoints")
        one.pin(BASE, 4096)
        t.equal(one.result(t), ABI.ST_OK, "PIN")
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
        one.pin(BASE, 4096)
        t.equal(one.result(t), ABI.ST_PENDING, "PIN after DISABLE")
        t.equal(guest.reg("ERROR"), ABI.ST_STATE, "ERROR")


def test_changes_wait(t):
    """DISABLE, DETACH, reset and unplug wait for a request in progress."""
    def detach(guest, machine):
        t.equal(guest.detach(endpoint(1, 0)), ABI.ST_OK, "DETACH")

    changes = {
        "DISABLE": lambda guest, machine: guest.disable(),
        "reset": lambda guest, machine: machine.reset(),
        "unplug": lambda guest, machine: unplug(t, machine, "d1"),
        "DETACH": detach,
    }
    for what, change in changes.items():
        with machine_with_callers(t, one_and_a_port, servers=2,
                                  extra=NATIVE) as machine:
            plug_vfio_user(machine, 1, "d1", "rp")
            guest = start(t, machine, endpoint(1, 0))
            one, _ = callers(machine)
            keeps, goes = machine.servers
            goes.hold_at(BASE)
            one.pin(BASE, 4096)
            t.equal(goes.held.wait(PATIENCE), True, "the map is in progress")
            seen = []
            later(0.2, lambda: (seen.append("released"), goes.release()))
            change(guest, machine)
            t.equal(seen, ["released"], f"{what} has waited")
            t.equal(keeps.maps, {}, f"maps after {what}")
            if what == "unplug":
                t.equal(goes.gone.wait(PATIENCE), True, "connection closed")
            t.equal(goes.maps, {}, f"maps after {what}")
            t.equal(machine.counter("pinned-bytes"), 0, "pinned-bytes")
            t.equal(keeps.violations + goes.violations, [], "violations")


def slow_pin(t, server, caller, *more):
    """Start a request of 31 blocks, and more, that takes seconds."""
    server.delay = 0.2
    caller.ask(ABI.OP_PIN, ranges=[(BASE >> 12, 62 * MIB >> 12), *more])
    end = time.monotonic() + PATIENCE
    while not server.maps:
        t.equal(time.monotonic() < end, True, "it has begun")
        time.sleep(0.005)


# For a driver that cannot take an answer in parts.
WHOLE = ",x-doorbell-us=0"


def test_changes_pass(t):
    """Whoever has to wait for a large request waits for one block of it."""
    with machine_with_callers(t, one_and_a_port, WHOLE) as machine:
        guest = start(t, machine, FIRST)
        _, one = callers(machine)
        server = machine.servers[0]
        slow_pin(t, server, one)
        t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")
        t.equal((one.status(), one.ringer.over()), (ABI.ST_PENDING, False),
                "the request is not over")
        server.delay = 0
        t.equal(one.result(t), ABI.ST_OK, "the request")
        t.equal(server.maps, {BASE + i * 2 * MIB: 2 * MIB for i in range(31)},
                "maps")
        t.equal(len([e for e in server.take_events() if e[0] == "map"]), 31,
                "each mapped once")
        check_views(t, machine)


def test_changes_void(t):
    """A request during which everything is unpinned ends, unserved."""
    for what in ("DISABLE", "DETACH", "reset", "DISABLE, ENABLE"):
        with machine_with_callers(t, one_and_a_port, WHOLE) as machine:
            guest = start(t, machine, FIRST)
            _, one = callers(machine)
            server = machine.servers[0]
            slow_pin(t, server, one)
            if what == "reset":
                function_reset(t, machine)
                guest.start()
            elif what == "DETACH":
                t.equal(guest.detach(FIRST), ABI.ST_OK, what)
            else:
                guest.set_reg("COMMAND", ABI.CMD_DISABLE)
            if what == "DISABLE, ENABLE":
                # The same state as before, but for what has been pinned.
                guest.set_reg("COMMAND", ABI.CMD_ENABLE)
                t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")
            t.equal(one.result(t), ABI.ST_PENDING, "the request")
            t.equal(len([e for e in server.events if e[0] == "map"]) < 31,
                    True, "it has ended early")
            if what != "DISABLE, ENABLE":
                t.equal(guest.reg("ERROR"), ABI.ST_STATE, "ERROR")
            t.equal(server.maps, {}, "maps")
            t.equal(machine.counter("pinned-bytes"), 0, "pinned-bytes")
            check_views(t, machine)


def big_pin(t, server, caller):
    """A request of 31 blocks, of which the first is being mapped."""
    server.hold_at(BASE)
    caller.pin(BASE, 62 * MIB)
    t.equal(server.held.wait(PATIENCE), True, "the first map is in progress")


def maps_of(server):
    return [event[1] for event in server.events if event[0] == "map"]


def test_parts_yield(t):
    """A doorbell ends for a writer that waits, or when its time is up."""
    def attach(guest, _):
        t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")

    def refused(_, machine):
        # Without the big lock it waits for the end of RCU read-side sections.
        try:
            machine.qmp("device_add", driver="nonsense")
            message = "none"
        except QemuError as error:
            message = str(error)
        t.equal("is not a valid device" in message, True, message)

    for change in (attach, refused):
        with machine_with_callers(t, one_and_a_port) as machine:
            guest = start(t, machine, FIRST)
            _, one = callers(machine)
            server = machine.servers[0]
            big_pin(t, server, one)
            # Much longer than a doorbell may take.
            later(0.3, server.release)
            change(guest, machine)
            t.equal(maps_of(server), [BASE], "maps")
            t.equal(one.answer(t), ABI.ST_AGAIN, "status")
            t.equal(machine.counter("partial-requests"), 1, "partial-requests")
            t.equal(machine.counter("request-errors"), 0, "request-errors")
            # The same page again: each block is mapped once, and none is lost.
            t.equal(one.result(t), ABI.ST_OK, "the request")
            t.equal(maps_of(server),
                    [BASE + i * 2 * MIB for i in range(31)], "maps")
            check_views(t, machine)


def test_search_ends(t):
    """A guest can't keep a request in search of room by disturbing it."""
    for options in ("", WHOLE):
        with machine_with_callers(
                t, one_and_a_port, f",unit=4K,block=2M,max-pinned=8G{options}",
                memory="12G") as machine:
            guest = start(t, machine, FIRST, size=14 * GIB)
            _, one = callers(machine)
            # A count in the last unit of each block: each look takes long.
            blocks = range(4 * GIB, 12 * GIB + 1, 2 * MIB)
            machine.command(*[
                f"writeb {LEAVES + (block + 2 * MIB) // 4096 * 4 - 4:#x} 1"
                for block in blocks])
            for address in range(4 * GIB, 12 * GIB, 64 * MIB):
                t.equal(guest.pin_bytes(address, 64 * MIB), ABI.ST_OK, "PIN")
            # Each ATTACH closes the gate, long before a search is over.
            t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")
            one.pin(12 * GIB, 4096)
            end = time.monotonic() + PATIENCE
            while not one.ringer.over():
                t.equal(time.monotonic() < end, True, "the search has ended")
                guest.doorbell(0)
            t.equal(one.status(), ABI.ST_QUOTA, "status")
            pauses = machine.traced("coiommu_request_pause")
            t.equal(pauses <= 8, True, f"{pauses} pauses")
            t.equal(machine.counter("unpinned-blocks"), 0, "unpinned")
            check_views(t, machine)


def test_refused_beside(t):
    """What is refused at the same moment is no success: pauses go on to grow."""
    block = [BASE + i * 2 * MIB for i in range(6)]
    with machine_with_callers(t, one_and_a_port, ",block=2M") as machine:
        guest = start(t, machine, FIRST)
        one, _ = callers(machine)
        server = machine.servers[0]
        server.max_bytes = 6 * MIB
        for i in range(3):
            t.equal(guest.map(block[i], 4096), ABI.ST_OK, "map")
        end = time.monotonic() + 3
        while time.monotonic() < end:
            t.equal(guest.map(block[3], 4096), ABI.ST_NOMEM, "no room")
        guest.unmap(block[0], 4096)
        machine.set("unpin-interval", 1)
        machine.set("unpin-policy", "lazy")
        wait(t, lambda: machine.counter("pinned-blocks") == 2, "unpinned")
        machine.set("unpin-policy", "off")
        # The longest pause.
        time.sleep(2.1)
        server.fail_at(block[4], errno.ENOMEM)
        server.hold_at(block[4])
        one.pin(block[4], 4096)
        t.equal(server.held.wait(PATIENCE), True, "it is being refused")
        t.equal(guest.map(block[5], 4096), ABI.ST_OK, "map beside it")
        server.release()
        t.equal(one.answer(t), ABI.ST_NOMEM, "the refused one")
        time.sleep(0.1)
        asked = machine.counter("pin-unasked")
        t.equal(guest.map(block[3], 4096), ABI.ST_NOMEM, "no room")
        t.equal(machine.counter("pin-unasked"), asked + 1, "unasked")
        check_views(t, machine)


def test_parts_void(t):
    """What is unpinned between two parts is not taken for pinned."""
    with machine_with_callers(t, one_and_a_port) as machine:
        guest = start(t, machine, FIRST)
        one, _ = callers(machine)
        server = machine.servers[0]
        server.delay = 0.02
        one.pin(BASE, 62 * MIB)
        t.equal(one.answer(t), ABI.ST_AGAIN, "status")
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
        t.equal(server.maps, {}, "maps")
        t.equal(one.result(t), ABI.ST_PENDING, "the rest, after DISABLE")
        t.equal(guest.reg("ERROR"), ABI.ST_STATE, "ERROR")
        guest = start(t, machine, FIRST)
        one.pin(BASE, 62 * MIB)
        t.equal(one.result(t), ABI.ST_OK, "PIN in the next table")
        t.equal(len(server.maps), 31, "maps")
        check_views(t, machine)


def test_page_moves(t):
    """A request whose page is no longer the slot's gets no answer there."""
    with machine_with_callers(t, one_and_a_port, WHOLE) as machine:
        guest = start(t, machine, FIRST)
        _, one = callers(machine)
        server = machine.servers[0]
        big_pin(t, server, one)
        machine.write(SLOTS + 8, 8, REQUESTS + 8 * 4096)
        later(0.2, server.release)
        # Makes it pause.
        t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")
        t.equal(one.answer(t), ABI.ST_PENDING, "status")
        t.equal(maps_of(server), [BASE], "maps")
        t.equal(machine.read(REQUESTS + 8 * 4096 + 8, 4), 0, "the new page")
        t.equal(guest.reg("ERROR"), ABI.ST_STATE, "ERROR")


def test_page_goes(t):
    """One whose page is RAM no more, either."""
    top = 512 * MIB
    with machine_with_callers(t, one_and_a_port, WHOLE) as machine:
        guest = start(t, machine, FIRST)
        _, one = callers(machine)
        server = machine.servers[0]
        one.page = top - 4096
        machine.write(SLOTS + 8, 8, one.page)
        machine.config_write(0, 0, 0x9d, 0x08, size=1)
        big_pin(t, server, one)
        later(0.2, server.release)
        # The chipset takes the top 1 MiB (TSEG), which makes it pause.
        machine.config_write(0, 0, 0x9e, 0x01, size=1)
        t.equal(one.ringer.wait(), True, "the doorbell write returns")
        t.equal(maps_of(server), [BASE], "maps")
        t.equal(guest.reg("ERROR"), ABI.ST_STATE, "ERROR")
        machine.config_write(0, 0, 0x9e, 0x00, size=1)
        t.equal(one.status(), ABI.ST_PENDING, "status")


def test_changes_overtake_enable(t):
    """A request of one table is not served in the next."""
    for opcode, number in ((ABI.OP_ATTACH, endpoint(0, 6)),
                           (ABI.OP_DETACH, FIRST)):
        with machine_with_callers(t, vfio_user_row, servers=2) as machine:
            guest = start(t, machine, FIRST)
            one, two = callers(machine)
            server = machine.servers[0]
            one.fill(ABI.OP_PIN, ranges=[(BASE >> 12, 1)])
            two.fill(opcode, number)
            # The next kernel's driver uses the second slot alone.
            page = REQUESTS + 9 * 4096
            machine.write_bytes(page, struct.pack(
                "<8I", ABI.OP_ATTACH, 0, ABI.ST_PENDING, 0, FIRST, 0, 0, 0))
            machine.write_bytes(SLOTS + 0x100, struct.pack("<QQ", page,
                                                           two.page))
            # As in changes_overtake, but all of it with the lock kept.
            server.hold_at(BASE)
            later(0.5, server.release)
            commands = [two.ringer.prepare(),
                        f"writel {BAR + ABI.REG_DOORBELL:#x} 0"]
            for register, value in (("COMMAND", ABI.CMD_DISABLE),
                                    ("REQ_ROOT", SLOTS + 0x100),
                                    ("COMMAND", ABI.CMD_ENABLE),
                                    ("DOORBELL", 0)):
                letter = "q" if register == "REQ_ROOT" else "l"
                where = BAR + getattr(ABI, f"REG_{register}")
                commands.append(f"write{letter} {where:#x} {value:#x}")
            machine.command(*commands)
            t.equal(two.answer(t), ABI.ST_PENDING, "the overtaken request")
            t.equal(machine.read(page + 8, 4), ABI.ST_OK, "ATTACH")
            t.equal(guest.reg("ERROR"), ABI.ST_STATE, "ERROR")
            t.equal(machine.counter("attached-endpoints"), 1, "endpoints")


def test_changes_overtake(t):
    """A request that waits for the big lock while the table goes is dropped."""
    with machine_with_callers(t, vfio_user_row, servers=2) as machine:
        guest = start(t, machine, FIRST)
        one, two = callers(machine)
        server = machine.servers[0]
        one.fill(ABI.OP_PIN, ranges=[(BASE >> 12, 1)])
        two.fill(ABI.OP_ATTACH, endpoint(0, 6))
        # While the first is served with the lock the second comes, and waits
        # for it; but the lock is kept until there is no table.
        server.hold_at(BASE)
        later(0.5, server.release)
        machine.command(two.ringer.prepare(),
                        f"writel {BAR + ABI.REG_DOORBELL:#x} 0",
                        f"writel {BAR + ABI.REG_COMMAND:#x} "
                        f"{ABI.CMD_DISABLE:#x}")
        t.equal(two.result(t), ABI.ST_PENDING, "the second request")
        t.equal(one.status(), ABI.ST_OK, "the first request")
        t.equal(guest.reg("ERROR"), ABI.ST_STATE, "ERROR")
        t.equal(machine.counter("attached-endpoints"), 0, "endpoints")


def test_ram_passes(t):
    """RAM that goes while a request is served is not pinned by it."""
    top = 512 * MIB
    with machine_with_callers(t, one_and_a_port, WHOLE) as machine:
        guest = start(t, machine, FIRST)
        _, one = callers(machine)
        server = machine.servers[0]
        machine.config_write(0, 0, 0x9d, 0x08, size=1)
        slow_pin(t, server, one, (top - 4096 >> 12, 1))
        # The chipset takes the top 1 MiB: TSEG.
        machine.config_write(0, 0, 0x9e, 0x01, size=1)
        server.delay = 0
        t.equal(one.result(t), ABI.ST_RANGE, "the request")
        t.equal(top - 2 * MIB in server.maps, False, "maps")
        t.equal(guest.pinned(top - 4096), False, "PINNED")
        check_views(t, machine)


def test_storm(t):
    """Two callers and the unpin thread over the same blocks; hotplug too."""
    with machine_with_callers(
            t, one_and_a_port, servers=2, extra=NATIVE,
            coiommu=",block=64K,unpin-policy=lazy,unpin-interval=1,"
            "max-pinned=1M") as machine:
        guest = start(t, machine, FIRST)
        one, two = machine.servers
        both = callers(machine)
        t.equal(guest.map(BASE - MIB, 65536), ABI.ST_OK, "map that stays")
        done, plugged = 0, 0
        end = time.monotonic() + 5
        # A machine that is busy with other things takes longer.
        while time.monotonic() < end or (plugged <= 3 and
                                         time.monotonic() < end + PATIENCE):
            for i, caller in enumerate(both):
                if caller.over():
                    t.equal(caller.status(), ABI.ST_OK, "status")
                    done += 1
                    caller.pin(BASE + (done * 3 + i) % 24 * 65536, 5 * 65536)
            if done % 40 == 39:
                plug_vfio_user(machine, 1, f"plug{plugged}", "rp")
                t.equal(BASE - MIB in two.maps, True, "replayed")
                unplug(t, machine, f"plug{plugged}")
                t.equal(two.gone.wait(PATIENCE), True, "connection closed")
                t.equal(two.maps, {}, "maps of the device that went")
                plugged += 1
        for caller in both:
            t.equal(caller.result(t), ABI.ST_OK, "the last request")
        t.equal(BASE - MIB in one.maps, True, "what is mapped stays")
        print(done, "requests,", plugged, "plugs,",
              {name: machine.counter(name) for name in
               ("lazy-unpinned-blocks", "reclaimed-blocks", "unpin-races",
                "request-wait-max-ns")}, file=t.log)
        t.equal(plugged > 3, True, "plugged")
        machine.set("unpin-policy", "off")
        t.equal(one.mapped_bytes(), machine.counter("pinned-bytes"), "bytes")
        t.equal(machine.counter("pinned-bytes-peak") <= MIB, True, "peak")
        t.equal(one.violations + two.violations, [], "violations")
