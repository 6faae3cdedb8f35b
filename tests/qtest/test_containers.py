# SPDX-License-Identifier: GPL-2.0-or-later
"""What containers really map, when they refuse, lie or come late.

Each test compares all servers with the counters: what is mapped in one server
or more is what counts as pinned.
"""

import errno
import threading
import time

from driver import ABI, BAR, REQUESTS, endpoint
from machine import PATIENCE, QemuError, plug_vfio_user, vfio_user
from test_hotplug import (NATIVE, one_and_a_port, plug_dimm, start,
                          unplug)
from test_pins import forget, ready
from test_unpin import wait

MIB = 1 << 20
BLOCK = 2 * MIB
BASE = 0x4000000
TOP = 512 * MIB
FIRST, SECOND = endpoint(0, 5), endpoint(0, 6)

# A server that is silent is given up after twice that, in ms.  One that is
# only slow must be well below it, on any machine.
TIMEOUT = 3000


def check(t, machine, guest, dead=()):
    """The counters, the table and all servers that live agree."""
    mapped = {}
    for server in machine.servers:
        if server not in dead:
            mapped.update(server.maps)
            t.equal(server.violations, [], "violations")
    t.equal(sum(mapped.values()), machine.counter("pinned-bytes"),
            "pinned-bytes")
    for server in machine.servers:
        if server in dead:
            continue
        for unit in guest.published():
            t.equal(any(iova <= unit < iova + size
                        for iova, size in server.maps.items()), True,
                    f"{unit:#x} is PINNED, so mapped")


def settled(t, machine, guest, want, dead=()):
    """Nothing is stuck, and these are the maps of each server that lives."""
    wait(t, lambda: not machine.counter("stuck-bytes"), "nothing is stuck")
    for server in machine.servers:
        if server not in dead:
            t.equal(server.maps, want, "maps")
    check(t, machine, guest, dead)


def two_devices(t, **more):
    return t.machine(servers=2, devices=lambda machine: [
        vfio_user(machine, 0, "d0", addr="5"),
        vfio_user(machine, 1, "d1", addr="6", **more)])


# ---- Maps that fail, and don't ----

def test_map_lies(t):
    """A map that is refused and done all the same is undone there, too."""
    with two_devices(t) as machine:
        guest = ready(t, machine, endpoints=(FIRST, SECOND))
        for liar in machine.servers:
            for error, status in ((errno.ENOMEM, ABI.ST_NOMEM),
                                  (errno.EINVAL, ABI.ST_IO)):
                liar.lie_at(BASE, error)
                t.equal(guest.pin((BASE >> 12, 1)), (status, 0), "PIN")
                settled(t, machine, guest, {})
                liar.fail_never()
                forget(machine)
            # In the second piece of a block.
            liar.lie_at(MIB, errno.ENOSPC)
            t.equal(guest.pin((0x10, 1)), (ABI.ST_NOSPACE, 0), "PIN")
            settled(t, machine, guest, {})
            liar.fail_never()
            forget(machine)
        t.equal(guest.pin((BASE >> 12, 1)), (ABI.ST_OK, 1), "PIN")
        settled(t, machine, guest, {BASE: BLOCK})


def test_map_lies_and_sticks(t):
    """Undoing it is refused as well: it counts, until it is undone."""
    with two_devices(t) as machine:
        guest = ready(t, machine, endpoints=(FIRST, SECOND))
        _, liar = machine.servers
        liar.lie_at(BASE, errno.ENOMEM)
        liar.stick_at(BASE, errno.EBUSY)
        t.equal(guest.pin((BASE >> 12, 1)), (ABI.ST_NOMEM, 0), "PIN")
        t.equal((machine.counter("stuck-bytes"),
                 machine.counter("pinned-blocks")), (BLOCK, 0), "counters")
        check(t, machine, guest)
        liar.fail_never()
        settled(t, machine, guest, {})


def test_map_late(t):
    """An answer that comes too late: the map is undone, the device works."""
    with two_devices(t, **{"x-msg-timeout": TIMEOUT}) as machine:
        guest = ready(t, machine, endpoints=(FIRST, SECOND))
        _, slow = machine.servers
        slow.hold_at(BASE)
        t.equal(guest.pin((BASE >> 12, 1)), (ABI.ST_IO, 0), "PIN")
        settled(t, machine, guest, {})
        slow.release()
        t.equal(machine.counter("containers-dead"), 0, "dead")
        t.equal(guest.pin((BASE >> 12, 1)), (ABI.ST_OK, 1), "PIN")
        settled(t, machine, guest, {BASE: BLOCK})


# ---- Unmaps that are refused ----

def test_unmap_refused(t):
    """What can't be unmapped counts as pinned, is told of, and tried again."""
    with two_devices(t) as machine:
        guest = ready(t, machine, endpoints=(FIRST, SECOND))
        one, two = machine.servers
        t.equal(guest.pin((0x10, 1), (BASE >> 12, 1)), (ABI.ST_OK, 2), "PIN")
        # One piece of block 0 in one of them, all of the other block in both.
        one.stick_at(BASE, errno.EBUSY)
        two.stick_at(BASE, errno.EINVAL)
        two.stick_at(MIB, errno.EINVAL)
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
        t.equal((one.maps, two.maps), ({BASE: BLOCK}, {BASE: BLOCK, MIB: MIB}),
                "maps")
        t.equal((machine.counter("stuck-bytes"),
                 machine.counter("pinned-blocks")), (BLOCK + MIB, 0),
                "counters")
        t.equal(machine.traced("coiommu_stuck") >= 2, True, "trace events")
        check(t, machine, guest)
        errors = machine.counter("unpin-errors")
        t.equal(errors >= 3, True, "unpin-errors")
        wait(t, lambda: machine.counter("unpin-errors") > errors, "a retry")
        t.equal(len(machine.said("unmapping", "failed")), 1, "lines")
        one.fail_never()
        wait(t, lambda: not one.maps, "retried in the first")
        check(t, machine, guest)
        two.fail_never()
        settled(t, machine, guest, {})
        # One that isn't there any more is as good.
        ready(t, machine, endpoints=(FIRST, SECOND))
        t.equal(guest.pin((BASE >> 12, 1)), (ABI.ST_OK, 1), "PIN")
        two.stick_at(BASE, errno.ENOENT)
        two.maps.clear()
        two._order.clear()
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
        settled(t, machine, guest, {})


def test_stuck_pinned_later(t):
    """A block that is stuck can be pinned when the host has come round."""
    with two_devices(t) as machine:
        guest = ready(t, machine, endpoints=(FIRST, SECOND))
        _, two = machine.servers
        machine.set("unpin-interval", 5)
        t.equal(guest.pin((BASE >> 12, 1)), (ABI.ST_OK, 1), "PIN")
        two.stick_at(BASE, errno.EBUSY)
        machine.set("unpin-policy", "lazy")
        wait(t, lambda: machine.counter("stuck-bytes"), "it is stuck")
        machine.set("unpin-policy", "off")
        check(t, machine, guest)
        t.equal(guest.pin((BASE >> 12, 1)), (ABI.ST_IO, 0), "PIN, too early")
        check(t, machine, guest)
        two.fail_never()
        forget(machine)
        t.equal(guest.pin((BASE >> 12, 1)), (ABI.ST_OK, 1), "PIN")
        settled(t, machine, guest, {BASE: BLOCK})
        # A server may refuse to unmap what it hasn't got, and still map it.
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
        ready(t, machine, endpoints=(FIRST, SECOND))
        two.stick_at(BASE, errno.EINVAL)
        two.fail_at(BASE, errno.ENOMEM)
        t.equal(guest.pin((BASE >> 12, 1)), (ABI.ST_NOMEM, 0), "PIN")
        t.equal(machine.counter("stuck-bytes"), BLOCK, "stuck-bytes")
        two._fail_at.clear()
        forget(machine)
        t.equal(guest.pin((BASE >> 12, 1)), (ABI.ST_OK, 1), "PIN")
        t.equal(machine.counter("stuck-bytes"), 0, "stuck-bytes")
        check(t, machine, guest)


def test_stuck_quota(t):
    """What is stuck counts against max-pinned."""
    with t.machine(coiommu=",max-pinned=4M") as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        t.equal(guest.pin((BASE >> 12, 1)), (ABI.ST_OK, 1), "PIN")
        server.stick_at(BASE, errno.EBUSY)
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
        ready(t, machine)
        t.equal(guest.map(BASE + BLOCK, 4096), ABI.ST_OK, "map")
        t.equal(guest.map(BASE + 2 * BLOCK, 4096), ABI.ST_QUOTA, "map")
        check(t, machine, guest)
        server.fail_never()
        wait(t, lambda: not machine.counter("stuck-bytes"), "unstuck")
        t.equal(guest.map(BASE + 2 * BLOCK, 4096), ABI.ST_OK, "map")
        check(t, machine, guest)


def tseg(machine, enable):
    """The chipset takes the top 1 MiB of memory, or gives it back."""
    machine.config_write(0, 0, 0x9d, 0x08, size=1)
    machine.config_write(0, 0, 0x9e, int(enable), size=1)


def test_stuck_ram_gone(t):
    """Memory that goes while its unmap is refused; its block works later."""
    with two_devices(t) as machine:
        guest = ready(t, machine, endpoints=(FIRST, SECOND))
        _, two = machine.servers
        last = TOP - BLOCK
        t.equal(guest.pin((last >> 12, 1)), (ABI.ST_OK, 1), "PIN")
        two.stick_at(last, errno.EBUSY)
        tseg(machine, True)
        t.equal(machine.counter("stuck-bytes"), BLOCK, "stuck-bytes")
        check(t, machine, guest)
        t.equal(guest.pin((last >> 12, 1)), (ABI.ST_IO, 0), "PIN, too early")
        two.fail_never()
        forget(machine)
        t.equal(guest.pin((last >> 12, 1)), (ABI.ST_OK, 1), "PIN")
        settled(t, machine, guest, {last: MIB})
        tseg(machine, False)
        settled(t, machine, guest, {})


# ---- Servers that answer nonsense ----

def test_map_nonsense(t):
    """An error of theirs is no success, and asks for nothing."""
    with two_devices(t) as machine:
        guest = ready(t, machine, endpoints=(FIRST, SECOND))
        for error in (errno.EAGAIN, errno.EINTR, errno.EDQUOT, 0xffffffff):
            for server in machine.servers:
                server.fail_nth(1, error)
                t.equal(guest.pin((BASE >> 12, 1)), (ABI.ST_IO, 0), "PIN")
                settled(t, machine, guest, {})
                forget(machine)
        t.equal(guest.pin((BASE >> 12, 1)), (ABI.ST_OK, 1), "PIN")
        settled(t, machine, guest, {BASE: BLOCK})


# ---- Containers that arrive ----

def window(machine, server, chunks, change, plug):
    """
    Have a device plugged in, and @change done, with the big lock held in
    between.  The main loop is kept in a doorbell write, until both wait for
    it.  It takes qtest's commands 1024 bytes at a time, one such chunk for each
    step on the way of device_add through the monitor, so @chunks of padding
    choose the step after which the change comes.
    """
    page = (f"writel {REQUESTS:#x} {ABI.OP_PIN:#x}",
            f"writel {REQUESTS + 4:#x} 1",
            f"writeq {REQUESTS + 32:#x} {BASE + BLOCK >> 12:#x}",
            f"writeq {REQUESTS + 40:#x} 1",
            f"writel {BAR + ABI.REG_DOORBELL:#x} 0")
    padding = ["readb 0x1000"] * (chunks * 1024 // len("readb 0x1000\n"))
    server.hold_at(BASE + BLOCK)
    both = [threading.Thread(target=machine.command,
                             args=(*page, *padding, *change)),
            threading.Thread(target=plug)]
    both[0].start()
    server.held.wait(PATIENCE)
    both[1].start()
    # Its command has to be in the socket; should it not be, nothing is lost
    # but this try.
    time.sleep(0.05)
    server.release()
    for thread in both:
        thread.join(2 * PATIENCE)


def config_commands(register, value):
    return (f"outl 0xcf8 {1 << 31 | register & ~3:#x}",
            f"outb {0xcfc + register % 4:#x} {value:#x}")


def test_arrival_ram_changes(t):
    """Memory that goes just after a replay goes from the new device, too."""
    last = TOP - BLOCK
    with t.machine(servers=2, devices=one_and_a_port,
                   extra=NATIVE) as machine:
        guest = start(t, machine, FIRST)
        one, two = machine.servers
        for chunks in range(8):
            tseg(machine, False)
            t.equal(guest.pin((last >> 12, 1), (BASE >> 12, 1)),
                    (ABI.ST_OK, 2), "PIN")
            window(machine, one, chunks, config_commands(0x9e, 1),
                   lambda: plug_vfio_user(machine, 1, "hot", "rp"))
            settled(t, machine, guest, {BASE: BLOCK, BASE + BLOCK: BLOCK})
            # And what is left of that block can be pinned, in both.
            t.equal(guest.pin((last >> 12, 1)), (ABI.ST_OK, 1), "PIN")
            t.equal(two.maps[last], MIB, "maps")
            check(t, machine, guest)
            unplug(t, machine, "hot")
            t.equal(two.gone.wait(PATIENCE), True, "connection closed")
            t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
            t.equal((one.maps, two.maps), ({}, {}), "maps")
            guest = start(t, machine, FIRST)


def test_arrival_dimm_ejected(t):
    """The same with memory that is unplugged."""
    with t.machine(servers=2, devices=one_and_a_port, extra=NATIVE,
                   memory="512M,slots=2,maxmem=4G") as machine:
        guest = start(t, machine)
        one, two = machine.servers
        for chunks in range(8):
            t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
            t.equal(guest.enable(size=8 << 30), ABI.ST_OK, "ENABLE")
            t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")
            where = plug_dimm(machine, f"m{chunks}", 128 * MIB, 0)
            t.equal(guest.pin((where >> 12, 1), (BASE >> 12, 1)),
                    (ABI.ST_OK, 2), "PIN")
            window(machine, one, chunks,
                   ("outl 0xa00 0x0", "outb 0xa14 0x8"),
                   lambda: plug_vfio_user(machine, 1, "hot", "rp"))
            machine.qmp("object-del", id=f"ram-m{chunks}")
            settled(t, machine, guest, {BASE: BLOCK, BASE + BLOCK: BLOCK})
            unplug(t, machine, "hot")
            t.equal(two.gone.wait(PATIENCE), True, "connection closed")


def refused_plug(t, machine, server):
    """A device whose replay fails does not come in."""
    server.fail_nth(1, errno.ENOMEM)
    try:
        plug_vfio_user(machine, 1, "hot", "rp")
        t.equal("plugged", "refused", "device_add")
    except QemuError as error:
        t.equal("cannot map" in str(error), True, str(error))


def test_arrival_fails(t):
    """Memory that goes just after a container that has failed has gone."""
    last = TOP - BLOCK
    with t.machine(servers=2, devices=one_and_a_port,
                   extra=NATIVE) as machine:
        guest = start(t, machine, FIRST)
        one, two = machine.servers
        for chunks in range(8):
            tseg(machine, False)
            t.equal(guest.pin((last >> 12, 1), (BASE >> 12, 1)),
                    (ABI.ST_OK, 2), "PIN")
            window(machine, one, chunks, config_commands(0x9e, 1),
                   lambda: refused_plug(t, machine, two))
            t.equal(two.gone.wait(PATIENCE), True, "connection closed")
            t.equal((sorted(one.maps), two.maps),
                    ([BASE, BASE + BLOCK], {}), "maps")
            t.equal(machine.counter("containers"), 1, "containers")
            t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
            guest = start(t, machine, FIRST)


# ---- Hosts at a limit ----

def limited(t, machine, guest, server, status, more=0):
    """Ask for a thousand blocks at a limit: how often is the host asked?"""
    asked, start_at = server.asked, time.monotonic()
    for i in range(1000):
        t.equal(guest.map(BASE + (64 + i % 100) * BLOCK, 4096), status, "map")
    # Pauses of 10, 20, ... 1280 ms, then of 2 s; and blocks that are asked for
    # the first time.
    most = 9 + more + (time.monotonic() - start_at) / 2
    t.equal(server.asked - asked <= most, True,
            f"asked {server.asked - asked} times, may be {most}")
    check(t, machine, guest)


def test_refused_host(t):
    """A host at its memlock limit, or that of mappings, is seldom asked."""
    for limit, status in (("max_bytes", ABI.ST_NOMEM),
                          ("max_dma_maps", ABI.ST_NOSPACE)):
        with t.machine(coiommu=",block=2M") as machine:
            guest = ready(t, machine)
            server = machine.servers[0]
            setattr(server, limit, 32 * BLOCK if limit == "max_bytes" else 32)
            for i in range(32):
                t.equal(guest.map(BASE + i * BLOCK, 4096), ABI.ST_OK, "map")
            limited(t, machine, guest, server, status)
            t.equal(machine.counter("pin-unasked") > 900, True, "counter")
            # One that goes makes room at once.
            guest.unmap(BASE, 4096)
            t.equal(guest.map(BASE + 40 * BLOCK, 4096), ABI.ST_OK, "map")
            check(t, machine, guest)
            # The host has more room: it is found in the end.
            setattr(server, limit, 1 << 40)
            wait(t, lambda: guest.map(BASE + 41 * BLOCK, 4096) == ABI.ST_OK,
                 "a map with room")
            # And all is forgotten.
            for i in range(50, 60):
                t.equal(guest.map(BASE + i * BLOCK, 4096), ABI.ST_OK, "map")
            check(t, machine, guest)


def test_refused_reclaims(t):
    """At a limit with idle memory each map works, and the host is spared."""
    with t.machine(coiommu=",block=2M") as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        server.max_bytes = 32 * BLOCK
        for i in range(200):
            t.equal(guest.map(BASE + i % 200 * BLOCK, 4096), ABI.ST_OK, "map")
            guest.unmap(BASE + i % 200 * BLOCK, 4096)
        refused = len([e for e in server.events if e[3]])
        t.equal(refused <= 20, True, f"{refused} refusals in 200")
        check(t, machine, guest)


def test_refused_otherwise(t):
    """One block that can't be pinned does not keep others from it."""
    with t.machine(coiommu=",block=2M") as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        server.fail_at(BASE, errno.EFAULT)
        for i in range(1, 30):
            t.equal(guest.map(BASE, 4096), ABI.ST_IO, "map")
            t.equal(guest.map(BASE + i * BLOCK, 4096), ABI.ST_OK, "map")
        for i in range(64, 164):
            server.fail_at(BASE + i * BLOCK, errno.EFAULT)
        limited(t, machine, guest, server, ABI.ST_IO, more=8)
        server.fail_never()
        wait(t, lambda: guest.map(BASE, 4096) == ABI.ST_OK, "a map")
        check(t, machine, guest)


def test_refused_quota(t):
    """max-pinned is the device's own: the host hears nothing of it."""
    with t.machine(coiommu=",block=2M,max-pinned=8M") as machine:
        guest = ready(t, machine)
        server = machine.servers[0]
        for i in range(4):
            t.equal(guest.map(BASE + i * BLOCK, 4096), ABI.ST_OK, "map")
        asked = server.asked
        for i in range(100):
            t.equal(guest.map(BASE + (9 + i) * BLOCK, 4096), ABI.ST_QUOTA,
                    "map")
        t.equal(server.asked, asked, "asked")
        check(t, machine, guest)
