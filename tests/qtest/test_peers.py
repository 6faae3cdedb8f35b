# SPDX-License-Identifier: GPL-2.0-or-later
"""Servers that die or hang: each takes its own device down, and no other."""

import errno

from driver import ABI, endpoint
from machine import PATIENCE, plug_vfio_user, vfio_user
from test_containers import (BASE, BLOCK, FIRST, SECOND, TIMEOUT, check,
                             settled, two_devices)
from test_fallback import plug_powered
from test_hotplug import NATIVE, one_and_a_port, start, unplug
from test_lockless import callers, machine_with_callers
from test_pins import ready
from test_unpin import wait
from vfio_user_server import RESET

ROM = 64 << 10

# Lines of QEMU's and ours when a server dies, whatever the guest does.
FEW_LINES = 30


def with_port(t):
    return t.machine(servers=2, devices=one_and_a_port, extra=NATIVE)


def poke(machine, bus, devfn):
    """What a guest can do to a device, 1000 times."""
    for _ in range(250):
        machine.config_read(bus, devfn, 0)
        machine.config_write(bus, devfn, 4, 6, size=2)
        machine.config_write(bus, devfn, 4, 0, size=2)
        machine.config_read(bus, devfn, 0x10)


def dead_device(t, machine, guest, dead):
    """One of two devices has died: the other one works on."""
    one, _ = machine.servers
    wait(t, lambda: len(machine.said("does not answer")) == 1, "a line")
    t.equal("d1" in machine.said("does not answer")[0], True, "its name")
    t.equal((machine.counter("containers"),
             machine.counter("containers-dead")), (2, 1), "containers")
    lines = len(machine.said())
    for i in range(1, 20):
        t.equal(guest.map(BASE + i * BLOCK, 4096), ABI.ST_OK, "map")
        check(t, machine, guest, [dead])
    poke(machine, 0, 6 << 3)
    t.equal(len(machine.said()), lines, "lines")
    machine.set("unpin-interval", 5)
    machine.set("unpin-policy", "lazy")
    for i in range(1, 20):
        guest.unmap(BASE + i * BLOCK, 4096)
    wait(t, lambda: not machine.counter("pinned-bytes"), "unpinned")
    machine.set("unpin-policy", "off")
    settled(t, machine, guest, {}, [dead])
    for _ in range(3):
        machine.reset()
        guest.start()
    t.equal(len(machine.said()), lines, "lines after resets")
    ready(t, machine)
    t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map")
    t.equal(one.maps, {BASE: BLOCK}, "maps")


def test_peer_dies(t):
    """A server that has gone takes its own device down, and no other."""
    with two_devices(t) as machine:
        guest = ready(t, machine, endpoints=(FIRST, SECOND))
        _, two = machine.servers
        two.die()
        t.equal(guest.pin((BASE >> 12, 1)), (ABI.ST_OK, 1), "PIN")
        dead_device(t, machine, guest, two)


def test_peer_hangs(t):
    """A server that answers nothing, too; it is waited for once."""
    with two_devices(t, **{"x-msg-timeout": TIMEOUT}) as machine:
        guest = ready(t, machine, endpoints=(FIRST, SECOND))
        _, two = machine.servers
        two.silent = True
        t.equal(guest.pin((BASE >> 12, 1)), (ABI.ST_OK, 1), "PIN")
        t.equal(two.gone.wait(PATIENCE), True, "it is told to let go")
        dead_device(t, machine, guest, two)


def with_a_rom(machine):
    """A device with a ROM, which VFIO maps where the guest puts it."""
    rom = machine.path("rom")
    with open(rom, "wb") as file:
        file.write(bytes(ROM))
    return f"edu,addr=7,romfile={rom}"


def test_peer_dies_rom_moves(t):
    """The guest moves memory that VFIO maps by itself: nobody hears of it."""
    with t.machine(servers=2, devices=lambda machine: [
            vfio_user(machine, 0, "d0", addr="5"),
            vfio_user(machine, 1, "d1", addr="6"),
            with_a_rom(machine)]) as machine:
        guest = ready(t, machine, endpoints=(FIRST, SECOND))
        one, two = machine.servers
        two.die()
        t.equal(guest.pin((BASE >> 12, 1)), (ABI.ST_OK, 1), "PIN")
        wait(t, lambda: machine.said("does not answer"), "a line")
        lines = len(machine.said())
        machine.config_write(0, 7 << 3, 4, 2, size=2)
        for where in (0xe0000000, 0xd0000000, 0xe0000000):
            machine.config_write(0, 7 << 3, 0x30, where | 1)
            t.equal(one.maps, {BASE: BLOCK, where: ROM}, "maps")
        machine.config_write(0, 7 << 3, 0x30, 0)
        t.equal(guest.pin((BASE + BLOCK >> 12, 1)), (ABI.ST_OK, 1), "PIN")
        t.equal(one.maps, {BASE: BLOCK, BASE + BLOCK: BLOCK}, "maps")
        t.equal(len(machine.said()), lines, "lines")


def test_peer_dies_unnoticed(t):
    """The same, when nobody has called the server since it has gone."""
    with t.machine(servers=2, devices=lambda machine: [
            vfio_user(machine, 0, "d0", addr="5"),
            vfio_user(machine, 1, "d1", addr="6"),
            with_a_rom(machine)]) as machine:
        one, two = machine.servers
        two.die()
        wait(t, lambda: machine.said("EOF"), "QEMU's own line")
        machine.config_write(0, 7 << 3, 4, 2, size=2)
        machine.config_write(0, 7 << 3, 0x30, 0xe0000001)
        t.equal(one.maps, {0xe0000000: ROM}, "maps")
        t.equal(len(machine.said("does not answer")), 1, "its line")
        t.equal(machine.said("Broken pipe"), [], "lines")


def test_peer_hangs_parallel(t):
    """Two callers at once meet it: both are served, and it is told once."""
    def row(machine):
        return [vfio_user(machine, 0, "d0", addr="5"),
                vfio_user(machine, 1, "d1", addr="6",
                          **{"x-msg-timeout": TIMEOUT})]

    with machine_with_callers(t, row, servers=2) as machine:
        guest = ready(t, machine, endpoints=(FIRST, SECOND))
        one, two = machine.servers
        two.silent = True
        both = callers(machine)
        for i, caller in enumerate(both):
            caller.pin(BASE + i * BLOCK, 4096)
        for caller in both:
            t.equal(caller.result(t), ABI.ST_OK, "PIN")
        t.equal(one.maps, {BASE: BLOCK, BASE + BLOCK: BLOCK}, "maps")
        wait(t, lambda: machine.said("does not answer"), "a line")
        t.equal((machine.counter("containers-dead"),
                 len(machine.said("does not answer"))), (1, 1), "dead")
        check(t, machine, guest, [two])


def test_peer_dies_stuck(t):
    """What is stuck in a server that dies counts no more."""
    with two_devices(t) as machine:
        guest = ready(t, machine, endpoints=(FIRST, SECOND))
        _, two = machine.servers
        t.equal(guest.pin((BASE >> 12, 1)), (ABI.ST_OK, 1), "PIN")
        two.stick_at(BASE, errno.EBUSY)
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
        t.equal(machine.counter("stuck-bytes"), BLOCK, "stuck-bytes")
        two.die()
        wait(t, lambda: not machine.counter("stuck-bytes"), "no more")
        settled(t, machine, guest, {}, [two])


def test_peer_dies_plugged(t):
    """A dead device can be unplugged, and another one plugged in."""
    with with_port(t) as machine:
        guest = start(t, machine, FIRST)
        one, two = machine.servers
        plug_vfio_user(machine, 1, "d1", "rp")
        t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map")
        two.die()
        t.equal(guest.map(BASE + BLOCK, 4096), ABI.ST_OK, "map")
        t.equal(machine.counter("containers-dead"), 1, "dead")
        unplug(t, machine, "d1")
        wait(t, lambda: machine.counter("containers") == 1, "it has gone")
        t.equal(machine.counter("containers-dead"), 0, "dead")
        two.violations.clear()
        plug_vfio_user(machine, 1, "d2", "rp")
        t.equal(guest.map(BASE + 2 * BLOCK, 4096), ABI.ST_OK, "map")
        settled(t, machine, guest, dict(one.maps))
        t.equal(len(two.maps), 3, "maps")
        # One that dies in its replay doesn't come in.
        unplug(t, machine, "d2")
        t.equal(two.gone.wait(PATIENCE), True, "connection closed")


def plug_unmapped(t, machine):
    """A device that nothing is mapped for; the guest has attached it."""
    guest = start(t, machine, FIRST)
    plug_powered(machine, "d1")
    t.equal(guest.attach(endpoint(1, 0)), ABI.ST_OK, "ATTACH")


def ended_unmapped(t, machine):
    """Its server has gone, which shows without a map or an unmap."""
    wait(t, lambda: machine.said("does not answer"), "a line")
    t.equal(machine.counter("containers-dead"), 1, "dead")
    poke(machine, 1, 0)
    for _ in range(3):
        machine.reset()
        start(t, machine)
    unplug(t, machine, "d1")
    wait(t, lambda: machine.counter("containers") == 1, "it has gone")
    t.equal(machine.counter("containers-dead"), 0, "dead")
    t.equal(len(machine.said()) <= FEW_LINES, True, "lines are few")


def test_peer_dies_unmapped(t):
    """The end of a connection shows by itself; a guest can't fill the log."""
    with with_port(t) as machine:
        plug_unmapped(t, machine)
        machine.servers[1].die()
        poke(machine, 1, 0)
        t.equal(len(machine.said()) <= FEW_LINES, True, "lines are few")
        ended_unmapped(t, machine)


def test_peer_dies_in_reset(t):
    """What QEMU reads of it then is taken for no interrupt pin."""
    with with_port(t) as machine:
        plug_unmapped(t, machine)
        machine.servers[1].die_at = RESET
        machine.reset()
        ended_unmapped(t, machine)


def test_peer_babbles(t):
    """So does that of one which QEMU gives up; the server is told."""
    with with_port(t) as machine:
        plug_unmapped(t, machine)
        machine.servers[1].babble()
        t.equal(machine.servers[1].gone.wait(PATIENCE), True, "told")
        ended_unmapped(t, machine)
