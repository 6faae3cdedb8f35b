# SPDX-License-Identifier: GPL-2.0-or-later
"""Pinning ahead, and escape from a storm of misses."""

import errno
import threading
import time

from driver import ABI, endpoint
from machine import PATIENCE
from test_hotplug import one_and_a_port, start
from test_lockless import callers, machine_with_callers
from test_pins import check_views, ready
from test_unpin import BASE, MIB, wait, wait_passes

BLOCK = 2 * MIB
LONG = 3600000


def address(i):
    return BASE + i * BLOCK


def blocks_of(server):
    """Numbers of the blocks that are mapped."""
    return sorted((iova - BASE) // BLOCK for iova in list(server.maps))


def let_go_together(t, machine, guest, blocks):
    """
    Pin these blocks and have all unpinned in one pass.  What comes next meets
    no passes.
    """
    machine.set("unpin-policy", "off")
    for i in blocks:
        t.equal(guest.pin_bytes(address(i), 4096), ABI.ST_OK, "PIN")
    machine.set("unpin-interval", 1)
    machine.set("unpin-policy", "lazy")
    wait(t, lambda: not machine.counter("pinned-blocks"), "unpinned")
    machine.set("unpin-interval", LONG)


def wait_ahead(t, machine, hints):
    """
    Until the thread that pins ahead is through with so many hints, and so with
    all that there have been.
    """
    wait(t, lambda: machine.traced("coiommu_ahead") >= hints, "hints")
    t.equal(machine.traced("coiommu_ahead"), hints, "hints")


def wait_quiet(t, machine):
    """Until the thread that pins ahead has no more hints, seen for a second."""
    def still():
        hints = machine.traced("coiommu_ahead")
        maps = len(machine.servers[0].events)
        time.sleep(1)
        return (hints, maps) == (machine.traced("coiommu_ahead"),
                                 len(machine.servers[0].events))

    wait(t, still, "no more hints")


def check_ahead(t, machine, pins, used, unused):
    """The counters, and that they add up."""
    got = tuple(machine.counter(f"ahead-{name}")
                for name in ("pins", "used", "unused"))
    t.equal(got, (pins, used, unused), "ahead-pins, -used, -unused")
    t.equal(machine.counter("ahead-bytes"), (pins - used - unused) * BLOCK,
            "ahead-bytes")


def test_ahead_companions(t):
    """When a block comes back so do those that went with it."""
    with t.machine(coiommu=",ahead=32M") as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        let_go_together(t, machine, guest, range(4))
        server.take_events()
        demand = machine.counter("demand-pin-blocks")
        t.equal(guest.map(address(0), 4096), ABI.ST_OK, "map")
        wait(t, lambda: machine.counter("ahead-pins") == 3, "pinned ahead")
        t.equal(blocks_of(server), [0, 1, 2, 3], "maps")
        check_ahead(t, machine, 3, 0, 0)
        t.equal(guest.map(address(1), 4096), ABI.ST_OK, "map without request")
        # ACCESSED is a use as well, though the mapping is gone.
        guest.set_entry(address(2), ABI.DTT_PINNED | ABI.DTT_ACCESSED)
        # So is a request, of a guest that has looked too early.
        t.equal(guest.pin_bytes(address(3), 4096), ABI.ST_OK, "PIN")
        check_ahead(t, machine, 3, 1, 0)
        t.equal(machine.counter("demand-pin-blocks"), demand + 1,
                "blocks that were asked for")
        t.equal(machine.counter("repins"), 1, "repins")
        # The neighbours of what stays mapped are another test's.
        machine.set("ahead", 0)
        machine.set("unpin-interval", 1)
        wait_passes(t, machine, 20)
        check_ahead(t, machine, 3, 3, 0)
        t.equal(blocks_of(server), [0, 1], "what is mapped stays")
        machine.set("unpin-policy", "off")
        check_views(t, machine)
        t.equal([e for e in server.take_events() if e[3]], [], "errors")


def test_ahead_unused(t):
    """What is not used goes after some passes, and is not tried again."""
    with t.machine(coiommu=",ahead=32M") as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        let_go_together(t, machine, guest, range(3))
        # Left from an earlier use: no use of the new pin.
        guest.set_entry(address(1), ABI.DTT_ACCESSED)
        t.equal(guest.map(address(0), 4096), ABI.ST_OK, "map")
        wait(t, lambda: machine.counter("ahead-pins") == 2, "pinned ahead")
        passes = machine.counter("unpin-passes")
        machine.set("unpin-interval", 1)
        wait(t, lambda: machine.counter("ahead-unused") == 2, "unpinned")
        t.equal(machine.counter("unpin-passes") - passes >= 3, True,
                "not at once")
        wait_passes(t, machine, 2)
        t.equal(blocks_of(server), [0], "maps")
        check_ahead(t, machine, 2, 0, 2)
        # Comes back alone, however often, or old as it may get.
        guest.unmap(address(0), 4096)
        wait(t, lambda: not machine.counter("pinned-blocks"), "unpinned")
        for i in range(3):
            t.equal(guest.map(address(0), 4096), ABI.ST_OK, "map")
            wait_passes(t, machine, 20)
            guest.unmap(address(0), 4096)
            wait(t, lambda: not machine.counter("pinned-blocks"), "unpinned")
        t.equal(machine.counter("repins") >= 4, True, "repins")
        check_ahead(t, machine, 2, 0, 2)
        check_views(t, machine)


def test_ahead_limit(t):
    """Unused pins ahead hold `ahead` bytes at most; used ones don't count."""
    with t.machine(coiommu=",ahead=5M") as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        let_go_together(t, machine, guest, range(6))
        t.equal(guest.map(address(0), 4096), ABI.ST_OK, "map")
        wait_ahead(t, machine, 1)
        t.equal(guest.pin_bytes(address(30), 4096), ABI.ST_OK, "PIN")
        t.equal(blocks_of(server), [0, 1, 2, 30], "maps")
        check_ahead(t, machine, 2, 0, 0)
        t.equal(guest.map(address(1), 4096), ABI.ST_OK, "map")
        t.equal(guest.map(address(2), 4096), ABI.ST_OK, "map")
        guest.unmap(address(0), 4096)
        # The neighbours of what stays mapped are another test's.
        machine.set("ahead", 0)
        machine.set("unpin-interval", 1)
        wait(t, lambda: machine.counter("ahead-used") == 2, "used")
        for i in (1, 2):
            guest.unmap(address(i), 4096)
        wait(t, lambda: not machine.counter("pinned-blocks"), "unpinned")
        # Changed while the machine runs.
        for limit, blocks in ((0, 0), (BLOCK - 1, 0), (BLOCK, 1), (MIB << 10,
                                                                   8)):
            machine.set("ahead", limit)
            t.equal(machine.counter("ahead"), limit, "setting")
            first = 40 + blocks * 12
            before = machine.counter("ahead-pins")
            hints = machine.traced("coiommu_ahead")
            let_go_together(t, machine, guest, range(first, first + 12))
            t.equal(guest.map(address(first), 4096), ABI.ST_OK, "map")
            wait_ahead(t, machine, hints + bool(limit))
            time.sleep(0.02)
            t.equal(machine.counter("ahead-pins"), before + blocks,
                    f"pinned ahead with {limit}")
            t.equal(len(server.maps), 1 + blocks, f"maps with {limit}")
            guest.unmap(address(first), 4096)
            machine.set("unpin-interval", 1)
            wait(t, lambda: not machine.counter("pinned-blocks"), "unpinned")
        check_views(t, machine)


def test_ahead_quota(t):
    """Pins ahead take what room there is, and give it back first."""
    with t.machine(coiommu=",ahead=32M") as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        let_go_together(t, machine, guest, range(5))
        machine.set("max-pinned", 3 * BLOCK)
        t.equal(guest.map(address(0), 4096), ABI.ST_OK, "map")
        wait_ahead(t, machine, 1)
        guest.unmap(address(0), 4096)
        t.equal(blocks_of(server), [0, 1, 2], "maps")
        t.equal(machine.counter("reclaims"), 0, "nothing is reclaimed")
        # Block 0 is idle and was not used lately, but it was asked for.
        t.equal(guest.map(address(20), 4096), ABI.ST_OK, "map")
        t.equal(blocks_of(server), [0, 20], "maps")
        check_ahead(t, machine, 2, 0, 2)
        t.equal(machine.counter("pinned-bytes-peak"), 5 * BLOCK, "peak")
        t.equal(machine.counter("pin-errors"), 0, "pin-errors")
        check_views(t, machine)


def test_ahead_used_is_kept(t):
    """Reclaim leaves a pin ahead that has been used."""
    with t.machine(coiommu=",ahead=32M") as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        let_go_together(t, machine, guest, range(3))
        machine.set("max-pinned", 3 * BLOCK)
        t.equal(guest.map(address(0), 4096), ABI.ST_OK, "map")
        wait(t, lambda: machine.counter("ahead-pins") == 2, "pinned ahead")
        guest.set_entry(address(1), ABI.DTT_PINNED | ABI.DTT_ACCESSED)
        t.equal(guest.map(address(20), 4096), ABI.ST_OK, "map")
        t.equal(blocks_of(server), [0, 1, 20], "maps")
        check_ahead(t, machine, 2, 1, 1)


def test_ahead_neighbour(t):
    """Next to a block that holds old mappings only, one more, once."""
    with t.machine(coiommu=",ahead=32M,unpin-policy=lazy,unpin-interval=1"
                   ) as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        t.equal(guest.map(address(0), 4096), ABI.ST_OK, "map")
        wait(t, lambda: machine.counter("ahead-unused") == 1, "unused")
        wait_passes(t, machine, 50)
        check_ahead(t, machine, 1, 0, 1)
        t.equal([(e[0], (e[1] - BASE) // BLOCK)
                 for e in server.take_events() if e[1] >= BASE],
                [("map", 0), ("map", 1), ("unmap", 1)], "events")
        t.equal(machine.counter("mapped-bytes"), BLOCK, "mapped-bytes")
        # This one's neighbour will be in use.
        guest.count(address(11), 4096, 1)
        t.equal(guest.map(address(10), 4096), ABI.ST_OK, "map")
        wait(t, lambda: machine.counter("ahead-used") == 1, "used")
        machine.set("ahead", 0)
        wait_passes(t, machine, 50)
        t.equal(11 in blocks_of(server), True, "it stays")
        t.equal(machine.counter("mapped-bytes") >= 3 * BLOCK, True,
                "mapped-bytes")
        for i in (0, 10, 11):
            guest.unmap(address(i), 4096)
        wait(t, lambda: not machine.counter("pinned-blocks"), "unpinned")
        wait(t, lambda: not machine.counter("mapped-bytes"), "mapped-bytes")
        t.equal(machine.counter("mapped-bytes-peak") >= 3 * BLOCK, True,
                "mapped-bytes-peak")
        check_views(t, machine)


def test_ahead_borders(t):
    """No neighbour past the table or past RAM."""
    with t.machine(coiommu=",ahead=32M,unpin-policy=lazy,unpin-interval=1"
                   ) as machine:
        # The table ends in the middle of block 100, RAM at 512 MiB.
        for size, last in ((address(100) + 65536, address(100)),
                           (1024 * MIB, 512 * MIB - BLOCK)):
            guest = ready(t, machine, size=size)
            t.equal(guest.map(last, 4096), ABI.ST_OK, "map")
            wait_passes(t, machine, 40)
            t.equal(machine.counter("ahead-pins"), 0, "pins ahead")
            t.equal(list(machine.servers[0].maps), [last], "maps")
            t.equal(guest.disable(), ABI.ST_OK, "DISABLE")


def test_ahead_in_nobodys_way(t):
    """A pin ahead that takes long delays only who wants that very block."""
    with machine_with_callers(t, one_and_a_port, coiommu=",ahead=32M"
                              ) as machine:
        guest = start(t, machine, endpoint(0, 5))
        one, two = callers(machine)
        server = machine.servers[0]
        let_go_together(t, machine, guest, range(2))
        server.hold_at(address(1))
        t.equal(guest.map(address(0), 4096), ABI.ST_OK, "map")
        t.equal(server.held.wait(PATIENCE), True,
                "the map ahead is in progress")
        one.pin(address(8), 4096)
        t.equal(one.result(t), ABI.ST_OK, "another block")
        t.equal(guest.pin_bytes(address(9), 4096), ABI.ST_OK,
                "a request with the big lock")
        two.pin(address(1), 4096)
        time.sleep(0.05)
        t.equal(two.ringer.over(), False, "one for the same block waits")
        server.release()
        t.equal(two.result(t), ABI.ST_OK, "and is served")
        wait_ahead(t, machine, 1)
        t.equal(blocks_of(server), [0, 1, 8, 9], "each mapped once")
        check_ahead(t, machine, 1, 1, 0)
        check_views(t, machine)


def test_ahead_disable(t):
    """DISABLE waits for a pin ahead in progress, and none comes later."""
    with t.machine(coiommu=",ahead=32M") as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        for what in ("DISABLE", "reset", "DETACH"):
            let_go_together(t, machine, guest, range(6))
            server.hold_at(address(1))
            t.equal(guest.map(address(0), 4096), ABI.ST_OK, "map")
            t.equal(server.held.wait(PATIENCE), True, "the map is in progress")
            release = threading.Timer(0.1, server.release)
            release.start()
            if what == "DISABLE":
                t.equal(guest.disable(), ABI.ST_OK, what)
            elif what == "reset":
                machine.reset()
            else:
                t.equal(guest.detach(endpoint(0, 5)), ABI.ST_OK, what)
            release.join()
            time.sleep(0.02)
            t.equal(server.maps, {}, f"maps after {what}")
            t.equal(machine.counter("pinned-bytes"), 0, "pinned-bytes")
            t.equal(machine.counter("ahead-bytes"), 0, "ahead-bytes")
            t.equal(server.violations, [], "violations")
            guest.disable()
            guest = ready(t, machine)


def test_ahead_refused(t):
    """A pin ahead that the host refuses is nobody's error."""
    with t.machine(coiommu=",ahead=32M") as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        let_go_together(t, machine, guest, range(4))
        server.fail_at(address(1), errno.ENOMEM)
        t.equal(guest.map(address(0), 4096), ABI.ST_OK, "map")
        wait_ahead(t, machine, 1)
        t.equal([e[3] for e in server.events if e[3]], [errno.ENOMEM],
                "errors")
        t.equal(guest.pin_bytes(address(9), 4096), ABI.ST_OK, "PIN")
        t.equal(blocks_of(server), [0, 9], "maps")
        t.equal(guest.published(), [*guest.units(address(0), BLOCK),
                                    *guest.units(address(9), BLOCK)], "PINNED")
        names = ("pin-errors", "request-errors", "reclaims", "ahead-bytes")
        t.equal([machine.counter(name) for name in names], [0] * 4, "counters")
        check_views(t, machine)


SMALL = 65536


def storm(t, machine, guest, level):
    """Miss all the time until the level is reached; which blocks it asked."""
    asked = []
    end = time.monotonic() + PATIENCE
    while machine.counter("escape-level") < level:
        t.equal(time.monotonic() < end and len(asked) < 430, True,
                f"level {level} in time")
        # One in each group of 64, so that no widened pin meets another.
        block = 64 + 64 * len(asked) + len(asked) % 5
        t.equal(guest.pin_bytes(block * SMALL, 4096), ABI.ST_OK, "PIN")
        asked.append(block)
        time.sleep(0.02)
    return asked


def small_blocks(server):
    # A copy, as the server may be at work.
    return {iova // SMALL for iova in list(server.maps)}


def test_escape(t):
    """Many misses widen pins step by step; with none all is as before."""
    with t.machine(coiommu=",block=64K,escape-threshold=10",
                   memory="3G") as machine:
        guest = ready(t, machine, size=2048 * MIB)
        server = machine.servers[0]
        # One request with many blocks is one miss.
        t.equal(guest.pin_bytes(0x700000, MIB), ABI.ST_OK, "PIN")
        t.equal(machine.counter("escape-level"), 0, "level")
        t.equal(machine.counter("escape-blocks"), 0, "blocks")
        # While it lasts each pin gets its aligned group.
        asked = storm(t, machine, guest, 3)
        block, level = asked[-1], 0
        while level != machine.counter("escape-level"):
            level = machine.counter("escape-level")
            block += 64
            t.equal(guest.pin_bytes(block * SMALL, 4096), ABI.ST_OK, "PIN")
            asked.append(block)
        size = 1 << level
        group = set(range(block // size * size, block // size * size + size))
        wait(t, lambda: group <= small_blocks(server), "the group")
        t.equal(level >= 3, True, "level")
        everything = set()
        for b in asked:
            everything |= set(range(b // size * size, b // size * size + size))
        pinned = small_blocks(server) - set(range(0x70, 0x80))
        t.equal(pinned <= everything, True, "no more than groups")
        wait(t, lambda: machine.counter("escape-blocks") ==
             len(small_blocks(server)) - 16 - len(asked), "escape-blocks")
        t.equal(machine.counter("pinned-blocks"), len(server.maps), "blocks")
        wait(t, lambda: not machine.counter("escape-level"), "calm")
        before = len(server.maps)
        t.equal(guest.pin_bytes(0x7fff0000, 4096), ABI.ST_OK, "PIN")
        time.sleep(0.02)
        t.equal(len(server.maps), before + 1, "one block")
        check_views(t, machine)


def test_escape_quota(t):
    """Wide pins take what max-pinned leaves; who asks drives them out."""
    quota = 1024 * SMALL
    with t.machine(coiommu=f",block=64K,escape-threshold=10,max-pinned={quota}",
                   memory="3G") as machine:
        guest = ready(t, machine, size=2048 * MIB)
        server = machine.servers[0]
        storm(t, machine, guest, 6)
        t.equal(server.mapped_bytes() <= quota, True, "quota")
        t.equal(machine.counter("pinned-bytes-peak") <= quota, True, "peak")
        reclaimed = machine.counter("reclaimed-blocks")
        # What is left is filled by asking; then there is room for no group.
        block = 28000
        while machine.counter("pinned-bytes") < quota:
            t.equal(guest.map(block * SMALL, 4096), ABI.ST_OK, "map")
            block += 1
        time.sleep(0.05)
        t.equal(machine.counter("pinned-bytes"), quota, "full")
        machine.set("escape-threshold", 0)
        before = small_blocks(server)
        # In no group of those above.
        t.equal(guest.map(32000 * SMALL, 4096), ABI.ST_OK, "map")
        gone = before - small_blocks(server)
        t.equal(0 < len(gone) <= 16, True, "one reclaim")
        t.equal(machine.counter("reclaimed-blocks") - reclaimed >= len(gone),
                True, "reclaimed-blocks")
        t.equal(machine.counter("request-errors"), 0, "errors")
        check_views(t, machine)


def test_escape_fewer_passes(t):
    """While pins are wide the unpin thread leaves out passes."""
    with t.machine(coiommu=",block=64K,unpin-policy=timeout,"
                   f"unpin-window={LONG},unpin-interval=20,"
                   "escape-threshold=10", memory="3G") as machine:
        # When this machine stands still for seconds it is calm: once more.
        for _ in range(5):
            guest = ready(t, machine, size=2048 * MIB)
            asked = len(storm(t, machine, guest, 3))
            # The storm goes on, so the level stays.
            began = time.monotonic()
            passes = machine.counter("unpin-passes")
            for i in range(asked, asked + 40):
                t.equal(guest.pin_bytes((64 + 64 * i) * SMALL, 4096),
                        ABI.ST_OK, "PIN")
                time.sleep(0.01)
            passes = machine.counter("unpin-passes") - passes
            took = time.monotonic() - began
            level = machine.counter("escape-level")
            if level >= 2:
                break
            t.equal(took > 1, True, "the level falls only when it is calm")
            t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
        most = took / 0.02 / 4 + 2
        t.equal(level >= 2, True, "level")
        t.equal(passes <= most, True, f"{passes} passes, at most {most:.0f}")
        # And makes them again when it is calm.
        wait(t, lambda: not machine.counter("escape-level"), "calm")
        passes = machine.counter("unpin-passes")
        wait(t, lambda: machine.counter("unpin-passes") > passes + 10, "passes")


def test_ahead_storm(t):
    """Two callers, the unpin thread and pins ahead over the same blocks."""
    with machine_with_callers(
            t, one_and_a_port,
            coiommu=",block=64K,unpin-policy=lazy,unpin-interval=1,ahead=1M,"
            "escape-threshold=20") as machine:
        guest = start(t, machine, endpoint(0, 5))
        server = machine.servers[0]
        both = callers(machine)
        t.equal(guest.map(BASE - MIB, 65536), ABI.ST_OK, "map that stays")
        done = 0
        wide, end = time.monotonic() + PATIENCE, None
        # A machine that is busy with other things takes longer.
        while not end or time.monotonic() < end or (
                time.monotonic() < end + PATIENCE and
                not machine.counter("reclaimed-blocks")):
            for i, caller in enumerate(both):
                if caller.over():
                    t.equal(caller.status(), ABI.ST_OK, "status")
                    done += 1
                    caller.pin(BASE + (done * 3 + i) % 48 * 65536, 3 * 65536)
            # With room for all until both have been at work, and then without.
            if not end and (machine.counter("ahead-pins") and
                            machine.counter("escape-blocks")):
                end = time.monotonic() + 3
                machine.set("max-pinned", 2 * MIB)
            t.equal(bool(end) or time.monotonic() < wide, True, "in time")
        for caller in both:
            t.equal(caller.result(t), ABI.ST_OK, "the last request")
        t.equal(BASE - MIB in server.maps, True, "what is mapped stays")
        counters = {name: machine.counter(name) for name in
                    ("ahead-pins", "ahead-used", "ahead-unused",
                     "escape-blocks", "escape-level", "lazy-unpinned-blocks",
                     "reclaimed-blocks", "unpin-races", "request-wait-max-ns")}
        print(done, "requests,", counters, file=t.log)
        t.equal(counters["reclaimed-blocks"] > 0, True, "reclaimed")
        machine.set("ahead", 0)
        machine.set("escape-threshold", 0)
        machine.set("unpin-policy", "off")
        wait_quiet(t, machine)
        pins = [machine.counter(f"ahead-{name}")
                for name in ("pins", "used", "unused", "bytes")]
        t.equal(pins[0] - pins[1] - pins[2], pins[3] // 65536, "sum")
        check_views(t, machine)
