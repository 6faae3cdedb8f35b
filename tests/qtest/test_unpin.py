# SPDX-License-Identifier: GPL-2.0-or-later
"""Lazy unpinning, the quota, and reclaim."""

import os
import time

from driver import ABI, LEAVES, Guest, endpoint
from machine import PATIENCE, QemuError, plug_vfio_user
from test_hotplug import NATIVE, one_and_a_port, start, unplug
from test_pins import check_views, function_reset, ready

MIB = 1 << 20
GIB = 1 << 30
BASE = 0x4000000
FIRST = endpoint(0, 5)


def wait(t, condition, what):
    """Until the condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        t.equal(time.monotonic() < end, True, f"in time: {what}")
        time.sleep(0.002)


def wait_passes(t, machine, count):
    """
    Until the unpin thread has done that many whole passes from now on, or has
    nothing left to do.
    """
    target = machine.counter("unpin-passes") + count + 1
    wait(t, lambda: machine.counter("unpin-passes") >= target or
         not machine.counter("pinned-blocks"), "passes")


def test_idle_goes(t):
    """What nobody maps any more is unpinned, and nothing else."""
    with t.machine(coiommu=",unpin-policy=lazy,unpin-interval=10") as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        for i in range(4):
            t.equal(guest.map(BASE + i * 2 * MIB, 8192), ABI.ST_OK, "map")
        wait_passes(t, machine, 20)
        t.equal(machine.counter("pinned-blocks"), 4, "pinned while mapped")
        for i in (0, 1, 3):
            guest.unmap(BASE + i * 2 * MIB, 8192)
        wait(t, lambda: machine.counter("pinned-blocks") == 1, "unpinned")
        wait_passes(t, machine, 20)
        t.equal(server.maps, {BASE + 4 * MIB: 2 * MIB}, "maps")
        t.equal(guest.published(),
                list(guest.units(BASE + 4 * MIB, 2 * MIB)), "PINNED")
        t.equal(machine.counter("lazy-unpinned-blocks"), 3, "by the thread")
        t.equal(machine.counter("repins"), 0, "repins")
        t.equal(guest.map(BASE, 8192), ABI.ST_OK, "map again")
        t.equal(machine.counter("repins"), 1, "repins")
        check_views(t, machine)


def test_any_unit_holds(t):
    """A count in whichever unit of a block keeps the whole block."""
    with t.machine(coiommu=",unpin-policy=lazy,unpin-interval=5") as machine:
        guest = ready(t, machine)
        for unit in guest.units(BASE, 2 * MIB):
            t.equal(guest.map(unit, 1), ABI.ST_OK, "map")
            t.equal(guest.map(BASE + 2 * MIB, 1), ABI.ST_OK, "map elsewhere")
            guest.unmap(BASE + 2 * MIB, 1)
            wait(t, lambda: machine.counter("pinned-blocks") == 1,
                 "the idle one is unpinned")
            t.equal(guest.pinned(BASE), True, f"count at {unit:#x}")
            guest.unmap(unit, 1)
            wait(t, lambda: machine.counter("pinned-blocks") == 0, "unpinned")
        check_views(t, machine)


def test_asleep(t):
    """With nothing pinned there are no passes, and the next pin is seen."""
    with t.machine(coiommu=",unpin-policy=lazy,unpin-interval=1") as machine:
        guest = ready(t, machine)
        for i in range(20):
            # The pass that has unpinned the last block tells so at its end.
            wait(t, lambda: machine.counter("lazy-unpinned-blocks") == i,
                 "unpinned")
            passes = machine.counter("unpin-passes")
            time.sleep(0.01)
            t.equal(machine.counter("unpin-passes"), passes, "no passes")
            t.equal(guest.pin_bytes(BASE + i * 2 * MIB, 4096), ABI.ST_OK,
                    "PIN")
        wait(t, lambda: machine.counter("lazy-unpinned-blocks") == 20,
             "the last one")


def test_second_chance(t):
    """An idle block that was used since the last look stays for one more."""
    with t.machine(coiommu=",unpin-interval=10") as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        t.equal(guest.pin_bytes(BASE, 4096), ABI.ST_OK, "PIN")
        t.equal(guest.pin_bytes(BASE + 2 * MIB, 4096), ABI.ST_OK, "PIN")
        guest.set_entry(BASE + MIB, ABI.DTT_PINNED | ABI.DTT_ACCESSED)
        server.take_events()
        machine.set("unpin-policy", "lazy")
        wait(t, lambda: machine.counter("lazy-unpinned-blocks") == 2,
             "unpinned")
        # With nothing pinned there was no third one.
        t.equal(machine.counter("unpin-passes"), 2, "passes")
        t.equal(server.take_events(), [("unmap", BASE + 2 * MIB, 2 * MIB, 0),
                                       ("unmap", BASE, 2 * MIB, 0)], "events")
        t.equal(guest.entry(BASE + MIB), 0, "entry")
        t.equal(machine.quit(), 0, "exit status")
        t.equal(machine.traced("coiommu_unpin_pass"), 2,
                "passes that have let go of something")


def test_without_accessed(t):
    """Not negotiated, ACCESSED is left alone, and blocks go all the same."""
    with t.machine(coiommu=",unpin-interval=10") as machine:
        guest = Guest(machine)
        guest.prepare(512 * MIB)
        guest.set_reg("DRIVER_FEATURES", 0)
        t.equal(guest.command(ABI.CMD_ENABLE), ABI.ST_OK, "ENABLE")
        t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")
        t.equal(guest.pin_bytes(BASE, 4096), ABI.ST_OK, "PIN")
        guest.set_entry(BASE, ABI.DTT_PINNED | ABI.DTT_ACCESSED)
        machine.set("unpin-policy", "lazy")
        wait(t, lambda: not machine.counter("pinned-blocks"), "unpinned")
        t.equal(guest.entry(BASE), ABI.DTT_ACCESSED, "entry")


def test_timeout(t):
    """A block stays for the window after its last use, and then goes."""
    with t.machine(coiommu=",unpin-policy=timeout,unpin-window=600,"
                   "unpin-interval=20") as machine:
        guest = ready(t, machine)
        t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map")
        time.sleep(0.8)
        t.equal(machine.counter("pinned-blocks"), 1, "pinned while mapped")
        idle = time.monotonic()
        guest.unmap(BASE, 4096)
        wait(t, lambda: not machine.counter("pinned-blocks"), "unpinned")
        took = time.monotonic() - idle
        t.equal(took > 0.55, True, f"not before the window ({took:.3f} s)")
        check_views(t, machine)


def test_timeout_begins(t):
    """The window begins when the policy is chosen, and no other setting's."""
    with t.machine(coiommu=",unpin-policy=timeout,unpin-window=3600000,"
                   "unpin-interval=2") as machine:
        guest = ready(t, machine)
        t.equal(guest.pin_bytes(BASE, 4096), ABI.ST_OK, "PIN")
        wait_passes(t, machine, 3)
        machine.set("unpin-policy", "off")
        time.sleep(1)
        machine.set("unpin-window", 1000)
        began = time.monotonic()
        machine.set("unpin-policy", "timeout")
        wait_passes(t, machine, 3)
        stays = machine.counter("pinned-blocks") == 1
        # A machine that is busy with other things may be too late to see it.
        t.equal(stays or time.monotonic() - began > 0.9, True, "it stays")
        end = time.monotonic() + PATIENCE
        while machine.counter("pinned-blocks"):
            t.equal(time.monotonic() < end, True, "it goes in time")
            machine.set("unpin-interval", 2)
            time.sleep(0.02)
        check_views(t, machine)


def test_race(t):
    """A guest that counts while its block is being let go keeps it."""
    # With 262144 entries in a block the thread takes its time.
    with t.machine(coiommu=",unit=4K,block=1G,unpin-interval=1",
                   memory="2G") as machine:
        guest = ready(t, machine, size=2 * GIB)
        server = machine.servers[0]
        last = 2 * GIB - 4096
        where = LEAVES + last // 4096 * 4
        for _ in range(200):
            machine.set("unpin-policy", "off")
            t.equal(guest.pin_bytes(GIB, 4096), ABI.ST_OK, "PIN")
            machine.set("unpin-policy", "lazy")
            wait(t, lambda: not guest.pinned(GIB), "withdrawn")
            machine.write(where, 1, 1)
            wait_passes(t, machine, 3)
            races = machine.counter("unpin-races")
            # Either the thread has seen the count, or it was done before.
            kept = GIB in server.maps
            t.equal(kept, races > 0, "kept because of the count")
            t.equal((guest.pinned(GIB), guest.pinned(last)), (kept, kept),
                    "published again")
            t.equal(guest.pin_bytes(last, 4096), ABI.ST_OK, "PIN")
            wait_passes(t, machine, 3)
            t.equal(GIB in server.maps, True, "mapped while counted")
            machine.write(where, 1, 0)
            if races:
                break
        t.equal(races > 0, True, "a race was seen")
        machine.set("unpin-policy", "off")
        check_views(t, machine)


def test_churn(t):
    """Mapping and unmapping as fast as it goes, unpinning likewise."""
    with t.machine(servers=2, coiommu=",block=64K,unpin-policy=lazy,"
                   "unpin-interval=1") as machine:
        guest = ready(t, machine, endpoints=(FIRST, endpoint(0, 6)))
        mapped = []
        end = time.monotonic() + 4
        i = 0
        # A machine that is busy with other things takes longer.
        while time.monotonic() < end or (
                machine.counter("lazy-unpinned-blocks") <= 100 and
                time.monotonic() < end + PATIENCE):
            address = BASE + i * 7 % 64 * 65536
            i += 1
            t.equal(guest.map(address, 65536 + 1), ABI.ST_OK, "map")
            mapped.append(address)
            for a in (address, address + 65536):
                for server in machine.servers:
                    t.equal(a in server.maps, True, f"{a:#x} is mapped")
            if len(mapped) > 8:
                old = mapped.pop(i % 8)
                for a in (old, old + 65536):
                    for server in machine.servers:
                        t.equal(a in server.maps, True, f"{a:#x} is mapped")
                guest.unmap(old, 65536 + 1)
        print(i, "maps", machine.counter("lazy-unpinned-blocks"), "unpinned",
              machine.counter("unpin-races"), "races",
              machine.counter("request-wait-max-ns"), "ns longest wait",
              machine.counter("pin-time-histogram"), file=t.log)
        t.equal(machine.counter("lazy-unpinned-blocks") > 100, True,
                "much was unpinned")
        machine.set("unpin-policy", "off")
        check_views(t, machine)
        t.equal(sum(machine.counter("pin-time-histogram")),
                machine.counter("demand-pin-blocks"), "calls in the histogram")
        t.equal(machine.counter("unpinned-blocks") +
                machine.counter("pinned-blocks"),
                machine.counter("demand-pin-blocks"), "sum of blocks")


def test_disable_and_reset(t):
    """DISABLE and resets in the middle of unpinning."""
    # Requests as a whole: nothing is counted, so parts might well be let go of.
    with t.machine(coiommu=",block=64K,unpin-policy=lazy,unpin-interval=1,"
                   "x-doorbell-us=0") as machine:
        server = machine.servers[0]
        for i in range(30):
            guest = ready(t, machine)
            t.equal(guest.pin_bytes(BASE, 16 * MIB), ABI.ST_OK, "PIN")
            guest.count(BASE + 5 * MIB, 65536, 1)
            time.sleep(i % 5 * 0.003)
            if i % 3 == 0:
                t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
                t.equal(guest.published(), [], "PINNED")
            elif i % 3 == 1:
                machine.reset()
            else:
                function_reset(t, machine)
            t.equal(server.maps, {}, "maps")
            t.equal(machine.counter("pinned-bytes"), 0, "pinned-bytes")
            time.sleep(0.005)
            t.equal(server.maps, {}, "maps, later")
        t.equal(server.violations, [], "violations")


def test_hotplug(t):
    """Devices come and go while the thread and requests work."""
    with t.machine(servers=2, devices=one_and_a_port, extra=NATIVE,
                   coiommu=",block=64K,unpin-policy=lazy,unpin-interval=1"
                   ) as machine:
        guest = start(t, machine, FIRST)
        one, two = machine.servers
        t.equal(guest.map(BASE, 65536), ABI.ST_OK, "map that stays")
        for i in range(12):
            t.equal(guest.pin_bytes(BASE, 4 * MIB), ABI.ST_OK, "PIN")
            plug_vfio_user(machine, 1, f"plug{i}", "rp")
            t.equal(guest.attach(endpoint(1, 0)), ABI.ST_OK, "ATTACH")
            t.equal(BASE in two.maps, True, "replayed")
            t.equal(machine.counter("containers"), 2, "containers")
            t.equal(guest.map(BASE + 8 * MIB, 65536), ABI.ST_OK, "map")
            t.equal((BASE + 8 * MIB in one.maps, BASE + 8 * MIB in two.maps),
                    (True, True), "mapped in both")
            t.equal(guest.pin_bytes(BASE, 4 * MIB), ABI.ST_OK, "PIN")
            unplug(t, machine, f"plug{i}")
            # Still there, or gone, or in between: requests work.
            t.equal(guest.pin_bytes(BASE, 4 * MIB), ABI.ST_OK, "PIN")
            guest.unmap(BASE + 8 * MIB, 65536)
            t.equal(two.gone.wait(PATIENCE), True, "connection closed")
            t.equal(two.maps, {}, "maps of the device that went")
            t.equal(machine.counter("containers"), 1, "containers")
            t.equal(BASE in one.maps, True, "what is mapped stays")
        machine.set("unpin-policy", "off")
        t.equal(one.mapped_bytes(), machine.counter("pinned-bytes"), "bytes")
        t.equal(one.violations + two.violations, [], "violations")


def test_policy_changes(t):
    """The policy and its numbers change while the machine runs."""
    with t.machine() as machine:
        guest = ready(t, machine)
        for policy in ("lazy", "timeout", "lazy"):
            passes = machine.counter("unpin-passes")
            t.equal(guest.pin_bytes(BASE, 4096), ABI.ST_OK, "PIN")
            time.sleep(0.05)
            t.equal(machine.counter("unpin-passes"), passes, "passes when off")
            t.equal(guest.pinned(BASE), True, "pinned when off")
            machine.set("unpin-window", 5)
            machine.set("unpin-interval", 5)
            machine.set("unpin-policy", policy)
            t.equal(machine.counter("unpin-policy"), policy, "policy")
            wait(t, lambda: not machine.counter("pinned-blocks"), "unpinned")
            machine.set("unpin-policy", "off")
        # A long pause is cut short by a new setting.
        t.equal(guest.pin_bytes(BASE, 4096), ABI.ST_OK, "PIN")
        machine.set("unpin-interval", 3600000)
        machine.set("unpin-policy", "lazy")
        time.sleep(0.05)
        machine.set("unpin-interval", 5)
        wait(t, lambda: not machine.counter("pinned-blocks"), "unpinned")
        t.equal(machine.quit(), 0, "exit status with the thread running")


def test_pressure(t):
    """When the host is short of memory, what is idle goes at once."""
    path = f"{t.folder()}/pressure"
    os.mkfifo(path)
    with t.machine(coiommu=",unpin-policy=lazy,unpin-interval=3600000,"
                   f"pressure=on,x-pressure-path={path}") as machine:
        guest = ready(t, machine)
        fifo = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        events = 0
        for policy in ("lazy", "timeout", "off"):
            machine.set("unpin-window", 3600000)
            machine.set("unpin-policy", policy)
            t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map")
            t.equal(guest.pin_bytes(BASE + 2 * MIB, 4 * MIB), ABI.ST_OK,
                    "PIN")
            # Used a moment ago: any policy would leave it one more time.
            guest.set_entry(BASE + 4 * MIB,
                            ABI.DTT_PINNED | ABI.DTT_ACCESSED)
            passes = machine.counter("unpin-passes")
            os.write(fifo, b"!")
            events += 1
            wait(t, lambda: machine.counter("pressure-events") == events,
                 "event")
            if policy == "off":
                # The thread has time to hear of it, or it would later.
                time.sleep(0.5)
                t.equal(machine.counter("pinned-blocks"), 3, "nothing goes")
                continue
            wait(t, lambda: machine.counter("pinned-blocks") == 1, "unpinned")
            wait(t, lambda: machine.counter("unpin-passes") == passes + 1,
                 "one pass")
            time.sleep(0.05)
            t.equal(machine.counter("unpin-passes"), passes + 1, "passes")
            t.equal(list(machine.servers[0].maps), [BASE], "what is in use")
            guest.unmap(BASE, 4096)
        # What came while it was off is forgotten.
        machine.set("unpin-policy", "lazy")
        time.sleep(0.05)
        t.equal(machine.counter("pinned-blocks"), 3, "pinned-blocks")
        machine.set("unpin-policy", "off")
        check_views(t, machine)
        # An event for nobody, and the end.
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
        machine.set("unpin-policy", "lazy")
        os.write(fifo, b"!")
        wait(t, lambda: machine.counter("pressure-events") == events + 1,
             "event")
        t.equal(machine.quit(), 0, "exit status")
        os.close(fifo)


def test_pressure_absent(t):
    """No PSI, not asked for, or a file that goes: a device without it."""
    folder = t.folder()
    with t.machine(coiommu=f",pressure=on,x-pressure-path={folder}/none"):
        pass
    path = f"{folder}/pressure"
    os.mkfifo(path)
    with t.machine(coiommu=f",x-pressure-path={path}"):
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            watched = True
        except OSError:
            watched = False
        t.equal(watched, False, "watched with pressure=off")
    # A terminal whose other end is closed is as gone as a removed cgroup.
    ours, theirs = os.openpty()
    with t.machine(coiommu=",unpin-policy=lazy,pressure=on,"
                   f"x-pressure-path={os.ttyname(theirs)}") as machine:
        os.close(theirs)
        os.close(ours)
        guest = ready(t, machine)
        t.equal(guest.pin_bytes(BASE, 4096), ABI.ST_OK, "PIN")
        wait(t, lambda: not machine.counter("pinned-blocks"), "unpinned")
        t.equal(machine.counter("pressure-events"), 0, "events")
        t.equal(machine.quit(), 0, "exit status")
        t.equal(machine.traced("coiommu_pressure_lost"), 1, "told once")


def test_small_passes(t):
    """With few blocks per pass everything has its turn all the same."""
    with t.machine(coiommu=",block=64K,unpin-policy=lazy,unpin-interval=1,"
                   "unpin-pass=3") as machine:
        guest = ready(t, machine)
        t.equal(guest.map(BASE + 4 * 65536, 65536), ABI.ST_OK, "map")
        t.equal(guest.pin_bytes(BASE, 4 * MIB), ABI.ST_OK, "PIN")
        wait(t, lambda: machine.counter("pinned-blocks") == 1, "unpinned")
        t.equal(machine.counter("unpin-passes") > 20, True, "passes")
        machine.set("unpin-policy", "off")
        check_views(t, machine)


def test_settings_refused(t):
    """Numbers that make no sense change nothing."""
    bad = {"unpin-policy": ["strict", ""], "unpin-interval": [0, 3600001],
           "unpin-window": [3600001], "unpin-pass": [0],
           "max-pinned": [1, 2 * MIB, 4 * MIB - 1]}
    with t.machine() as machine:
        for name, values in bad.items():
            before = machine.counter(name)
            for value in values:
                try:
                    machine.set(name, value)
                    refused = False
                except QemuError:
                    refused = True
                t.equal(refused, True, f"{name}={value} is refused")
            t.equal(machine.counter(name), before, name)
    status, message = t.refusal(["-M", "q35", "-device",
                                 "coiommu,max-pinned=2M"])
    t.equal((status, "max-pinned must be 0 or at least two" in message),
            (1, True), "max-pinned=2M on the command line")


def test_quota(t):
    """Not more than max-pinned; idle blocks make room, busy ones don't."""
    with t.machine(coiommu=",max-pinned=8M") as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        t.equal(guest.reg("MAX_MAPPING"), 4096, "MAX_MAPPING")
        for i in range(4):
            t.equal(guest.map(BASE + i * 2 * MIB, 4096), ABI.ST_OK, "map")
        t.equal(guest.map(BASE + 8 * MIB, 4096), ABI.ST_QUOTA, "one more")
        t.equal(guest.entry(BASE + 8 * MIB), 0, "entry")
        t.equal(len(server.maps), 4, "maps")
        # Block 0 is smaller by the legacy hole, and still too large.
        t.equal(guest.map(0, 4096), ABI.ST_QUOTA, "block 0")
        t.equal(machine.counter("pin-errors"), 2, "pin-errors")
        guest.unmap(BASE + 2 * MIB, 4096)
        t.equal(guest.map(BASE + 8 * MIB, 4096), ABI.ST_OK, "with room")
        t.equal(BASE + 2 * MIB in server.maps, False, "the idle one went")
        t.equal(guest.pinned(BASE + 2 * MIB), False, "PINNED")
        t.equal(machine.counter("reclaimed-blocks"), 1, "reclaimed-blocks")
        # Raised, lowered below what is pinned, and lifted.
        machine.set("max-pinned", 10 * MIB)
        t.equal(guest.map(BASE + 10 * MIB, 4096), ABI.ST_OK, "raised")
        machine.set("max-pinned", 4 * MIB)
        t.equal(machine.counter("pinned-blocks"), 5, "what is pinned stays")
        t.equal(guest.map(BASE + 12 * MIB, 4096), ABI.ST_QUOTA, "lowered")
        machine.set("max-pinned", 0)
        t.equal(guest.map(BASE + 12 * MIB, 4096), ABI.ST_OK, "lifted")
        t.equal(guest.reg("MAX_MAPPING"), (1 << 64) - 1, "MAX_MAPPING")
        t.equal(machine.counter("pinned-bytes-peak"), 12 * MIB, "peak")
        check_views(t, machine)


def test_quota_accessed(t):
    """Reclaim takes what was not used lately, and else what was."""
    with t.machine(coiommu=",max-pinned=8M") as machine:
        guest = ready(t, machine)
        for i in range(4):
            t.equal(guest.pin_bytes(BASE + i * 2 * MIB, 4096), ABI.ST_OK,
                    "PIN")
            if i != 2:
                guest.set_entry(BASE + i * 2 * MIB,
                                ABI.DTT_PINNED | ABI.DTT_ACCESSED)
        t.equal(guest.map(BASE + 8 * MIB, 4096), ABI.ST_OK, "map")
        t.equal(sorted(machine.servers[0].maps),
                [BASE + i * 2 * MIB for i in (0, 1, 3, 4)], "maps")
        for i in (0, 1, 3):
            guest.set_entry(BASE + i * 2 * MIB,
                            ABI.DTT_PINNED | ABI.DTT_ACCESSED)
        t.equal(guest.map(BASE + 10 * MIB, 4096), ABI.ST_OK, "map")
        check_views(t, machine)


def test_limit_reclaims(t):
    """At the container's limit idle blocks make room."""
    with t.machine(coiommu=",block=64K", max_dma_maps=16) as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        t.equal(guest.map(BASE, 65536), ABI.ST_OK, "map that stays")
        for i in range(1, 100):
            t.equal(guest.map(BASE + i * 65536, 65536), ABI.ST_OK, "map")
            guest.unmap(BASE + i * 65536, 65536)
        t.equal(BASE in server.maps, True, "what is mapped stays")
        t.equal(len(server.maps) <= 16, True, "maps")
        t.equal(machine.counter("reclaims") > 0, True, "reclaims")
        t.equal(machine.counter("pin-errors"), 0, "pin-errors")
        # The largest mapping that is promised, with everything else idle.
        guest.unmap(BASE, 65536)
        size = guest.reg("MAX_MAPPING")
        pages = [2 * BASE + i * 65536 for i in range(size // 4096 + 1)]
        for page in pages:
            guest.count(page, 4096, 1)
        t.equal(guest.pin(*((page >> 12, 1) for page in pages)),
                (ABI.ST_OK, len(pages)), "MAX_MAPPING")
        check_views(t, machine)
