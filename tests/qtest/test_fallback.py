# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices that do DMA without being attached: all is pinned for them."""

import errno
import random
import time

from driver import ABI, BAR, DEVFN, Guest, endpoint
from machine import PATIENCE, plug_vfio_user, vfio_user
from test_hotplug import (NATIVE, PORT, eject_dimm, express_capability,
                          one_and_a_port, plug_dimm, unplug)
from test_pins import function_reset, ready
from test_unpin import wait, wait_passes

MIB = 1 << 20
BASE = 0x4000000
FIRST, SECOND = endpoint(0, 5), endpoint(0, 6)
COMMAND, MEMORY, MASTER = 4, 2, 4
# A machine of 512 MiB, without the legacy hole.
ALL = 512 * MIB - 0x60000


def settled(machine):
    """Wait until pin-all has been reached, or given up, or undone."""
    end = time.monotonic() + PATIENCE
    while machine.counter("fallback-waiting") or \
            machine.counter("fallback-busy"):
        if time.monotonic() > end:
            raise TimeoutError("pin-all does not settle")
        time.sleep(0.001)


def master(machine, on=True, devfn=5 << 3, bus=0):
    """The guest lets a device do DMA, or no longer."""
    machine.config_write(bus, devfn, COMMAND,
                         MEMORY | MASTER if on else MEMORY, size=2)
    settled(machine)


def is_master(machine, devfn=5 << 3, bus=0):
    return bool(machine.config_read(bus, devfn, COMMAND, size=2) & MASTER)


def check_all(t, machine, active=1, size=ALL):
    """Everything is pinned, for that many devices."""
    settled(machine)
    for server in machine.servers:
        if server.connected.is_set():
            t.equal(server.mapped_bytes(), size, "bytes mapped")
        t.equal(server.violations, [], "violations")
    t.equal((machine.counter("fallback-active"),
             machine.counter("fallback-bytes"),
             machine.counter("pinned-bytes")), (active, size, size),
            "counters")


def check_none(t, machine):
    """Nothing is pinned."""
    settled(machine)
    for server in machine.servers:
        t.equal((server.maps, server.violations), ({}, []), "maps")
    t.equal((machine.counter("fallback-active"),
             machine.counter("fallback-bytes"),
             machine.counter("pinned-bytes")), (0, 0, 0), "counters")


def plug_powered(machine, ident):
    """Plug a device in behind the port, and switch its slot on."""
    plug_vfio_user(machine, 1, ident, "rp")
    machine.config_write(0, PORT, express_capability(machine) + 0x18, 0x0100,
                         size=2)


def unmaps(server):
    return [event for event in server.take_events() if event[0] == "unmap"]


def test_fallback_bus_master(t):
    """All is mapped before the device hears that it may do DMA."""
    with t.machine() as machine:
        server, = machine.servers
        for size, on, off in ((2, MASTER, 0), (1, 6, 2), (4, 0x10 << 16 | 6, 0)):
            server.commands.clear()
            machine.config_write(0, 5 << 3, COMMAND, on, size=size)
            settled(machine)
            t.equal(server.commands, [(on & 0xff & ~MASTER, 0),
                                      (on & 0xff, ALL)], "the writes")
            t.equal(is_master(machine), True, "the bit")
            check_all(t, machine)
            # Once more, and a write beside it, change nothing.
            server.take_events()
            machine.config_write(0, 5 << 3, COMMAND, on, size=size)
            machine.config_write(0, 5 << 3, COMMAND + 1, 0, size=1)
            t.equal(server.take_events(), [], "events")
            machine.config_write(0, 5 << 3, COMMAND, off, size=size)
            t.equal(server.commands[-1], (off, ALL), "the write")
            check_none(t, machine)
        # MASTER's place in other bytes.
        machine.config_write(0, 5 << 3, COMMAND + 1, MASTER, size=1)
        machine.config_write(0, 5 << 3, 0x0c, MASTER, size=1)
        check_none(t, machine)
        t.equal(machine.counter("fallback-pins"), 3, "fallback-pins")
        t.equal(machine.counter("fallback-pin-ns") > 0, True, "time")
        t.equal(len(machine.said("d0 is used without", "511 MiB", "strict=on")),
                1, "messages")


def test_fallback_attach(t):
    """A driver comes: what it uses stays mapped, the rest goes."""
    with t.machine(coiommu=",unpin-policy=lazy,unpin-interval=5") as machine:
        server, = machine.servers
        master(machine)
        guest = Guest(machine)
        t.equal(guest.enable(), ABI.ST_OK, "ENABLE")
        t.equal(len(guest.published()) * guest.unit,
                ALL, "PINNED")
        # The driver counts and sees PINNED.
        t.equal(guest.map(BASE, 8192), ABI.ST_OK, "map")
        t.equal(guest.map(0x9fff0, 16), ABI.ST_OK, "map below the hole")
        t.equal(machine.counter("demand-pin-requests"), 0, "requests")
        wait_passes(t, machine, 20)
        check_all(t, machine)
        server.take_events()
        t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")
        t.equal((machine.counter("fallback-active"),
                 machine.counter("fallback-bytes")), (0, 0), "no pin-all")
        wait(t, lambda: machine.counter("pinned-blocks") == 2, "unpinned")
        wait_passes(t, machine, 20)
        gone = {event[1] for event in unmaps(server)}
        t.equal(gone & {0, 0x100000, BASE}, set(), "what was in use")
        t.equal(sorted(server.maps), [0, 0x100000, BASE], "maps")
        t.equal(guest.pin_bytes(BASE + 2 * MIB, 1), ABI.ST_OK, "PIN")


def test_fallback_detach(t):
    """An attached device that goes on with DMA: no gap, whatever ends it."""
    def detach(guest):
        t.equal(guest.detach(FIRST), ABI.ST_OK, "DETACH")

    def disable(guest):
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")

    def reset(guest):
        function_reset(t, guest.machine)

    with t.machine() as machine:
        server, = machine.servers
        for how in (detach, disable, reset):
            guest = ready(t, machine)
            master(machine)
            t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map")
            before = guest.published()
            t.equal(server.maps, {BASE: 2 * MIB}, "maps while attached")
            server.take_events()
            how(guest)
            t.equal(unmaps(server), [], "unmaps")
            check_all(t, machine)
            t.equal(machine.counter("attached-endpoints"), 0, "attached")
            t.equal(is_master(machine), True, "the bit")
            if how is disable:
                t.equal(guest.published(), [], "PINNED")
            if how is reset:
                # What may be another kernel's memory is not written to.
                t.equal(guest.published(), before, "PINNED")
            if how is detach:
                # What pins is no longer asked for, but the table is right.
                t.equal(guest.pin_bytes(BASE, 1), ABI.ST_STATE, "PIN")
                t.equal(len(guest.published()) * guest.unit, ALL, "PINNED")
            master(machine, False)
            check_none(t, machine)
            if how is detach:
                t.equal(guest.published(), [], "PINNED")
                t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
            guest.start()


def find_size(machine):
    """What a kernel does to our function when it looks for devices."""
    command = machine.config_read(0, DEVFN, COMMAND, size=2)
    machine.config_write(0, DEVFN, COMMAND, command & ~MEMORY, size=2)
    machine.config_write(0, DEVFN, 0x10, 0xffffffff)
    machine.config_write(0, DEVFN, 0x10, BAR)
    machine.config_write(0, DEVFN, COMMAND, command, size=2)


def test_fallback_abandoned(t):
    """A kernel that knows nothing of its predecessor's table: it is no more."""
    with t.machine() as machine:
        server, = machine.servers
        # The next command, whose other bits change nothing, and a half of it.
        guest = ready(t, machine)
        t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map")
        machine.config_write(0, DEVFN, COMMAND, 0x406, size=2)
        machine.config_write(0, DEVFN, COMMAND + 1, 0, size=1)
        t.equal(guest.reg("STATUS"), ABI.STATUS_ENABLED, "STATUS")
        t.equal(server.maps, {BASE: 2 * MIB}, "maps")
        # Its devices do no DMA: nothing is pinned any more.
        find_size(machine)
        t.equal(guest.reg("STATUS"), 0, "STATUS")
        check_none(t, machine)
        # They do: no gap, and another kernel's memory is not written to.
        guest = ready(t, machine)
        master(machine)
        t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map")
        published = guest.published()
        server.take_events()
        find_size(machine)
        t.equal(unmaps(server), [], "unmaps")
        check_all(t, machine)
        t.equal(guest.reg("STATUS"), 0, "STATUS")
        t.equal(guest.pin_bytes(BASE, 4096), ABI.ST_PENDING, "PIN")
        t.equal(guest.published(), published, "PINNED")
        t.equal(machine.counter("attached-endpoints"), 0, "attached")
        # Its drivers come, and later one that knows the table.
        find_size(machine)
        master(machine, False)
        check_none(t, machine)
        guest = ready(t, machine)
        master(machine)
        t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map")
        t.equal(server.maps, {BASE: 2 * MIB}, "maps")
        # Where all may not be pinned the device is stopped.
        machine.set("fallback", "refuse")
        find_size(machine)
        t.equal(is_master(machine), False, "the bit")
        check_none(t, machine)
        t.equal(machine.quit(), 0, "exit status")
        t.equal(machine.traced("coiommu_abandoned"), 3, "tables given up")


def test_fallback_not_needed(t):
    """Where no device does DMA, nothing is pinned for it."""
    with t.machine() as machine:
        guest = ready(t, machine)
        # On and off while it is attached.
        master(machine)
        master(machine, False)
        t.equal(guest.detach(FIRST), ABI.ST_OK, "DETACH")
        t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
        t.equal(machine.servers[0].events[1:], [], "events")
        t.equal(machine.counter("fallback-pins"), 0, "fallback-pins")
        # A reset of the machine takes the bit away.
        master(machine)
        check_all(t, machine)
        machine.reset()
        check_none(t, machine)
        t.equal(is_master(machine), False, "the bit")
        t.equal(machine.counter("fallback-pins"), 1, "fallback-pins")


def test_fallback_table(t):
    """ENABLE and DISABLE while all is pinned: no gap, and no scribbling."""
    with t.machine() as machine:
        server, = machine.servers
        master(machine)
        server.take_events()
        guest = Guest(machine)
        for _ in range(2):
            t.equal(guest.enable(), ABI.ST_OK, "ENABLE")
            t.equal(guest.pinned(BASE), True, "PINNED")
            t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
            t.equal(guest.published(), [], "PINNED after DISABLE")
        t.equal(server.take_events(), [], "events")
        # The table is no longer one.
        master(machine, False)
        master(machine)
        t.equal(guest.published(), [], "PINNED")
        check_all(t, machine)


def test_fallback_holds(t):
    """Neither the unpin thread nor reclaim lets go of anything."""
    options = ",unpin-policy=lazy,unpin-interval=2"
    with t.machine(servers=2, coiommu=options) as machine:
        guest = ready(t, machine, endpoints=(SECOND,))
        one, two = machine.servers
        master(machine)
        for server in (one, two):
            server.take_events()
        wait_passes(t, machine, 20)
        # A lack of room: for RAM that another device can't have.
        two.fail_at(BASE, errno.ENOMEM)
        t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map")
        guest.unmap(BASE, 4096)
        machine.set("max-pinned", 4 * MIB)
        t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map at the quota")
        machine.set("max-pinned", 0)
        wait_passes(t, machine, 20)
        t.equal(one.take_events() + two.take_events(), [], "events")
        check_all(t, machine)


def test_fallback_refuse(t):
    """fallback=refuse: the device is kept off the bus, once with a word."""
    with t.machine(coiommu=",fallback=refuse") as machine:
        server, = machine.servers
        for _ in range(2):
            master(machine)
            t.equal(machine.config_read(0, 5 << 3, COMMAND, size=2) & 7, MEMORY,
                    "the other bits are set")
            t.equal(server.commands[-1][0], MEMORY, "what the device hears")
        check_none(t, machine)
        t.equal(machine.counter("fallback-refused"), 2, "refused")
        t.equal(len(machine.said("d0 is used without", "fallback=refuse")), 1,
                "messages")
        # With the driver it works, until that goes.
        guest = ready(t, machine)
        master(machine)
        t.equal(is_master(machine), True, "the bit")
        t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map")
        t.equal(guest.detach(FIRST), ABI.ST_OK, "DETACH")
        t.equal(is_master(machine), False, "the bit")
        t.equal(server.commands[-1], (MEMORY, 2 * MIB), "before the unmap")
        check_none(t, machine)
        t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")
        master(machine)
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
        t.equal(is_master(machine), False, "the bit")
        # The operator changes his mind.
        machine.set("fallback", "pin-all")
        master(machine)
        check_all(t, machine)


def test_fallback_limits(t):
    """Not all can be pinned: what was goes, and the message says why."""
    with t.machine(coiommu=",max-pinned=256M") as machine:
        server, = machine.servers
        master(machine)
        t.equal(is_master(machine), False, "the bit")
        check_none(t, machine)
        t.equal(len(machine.said("d0", "kept off the bus",
                                 "max-pinned is 256 MiB. Raise it")), 1,
                "messages")
        machine.set("max-pinned", 0)
        for nth, error in ((1, errno.ENOMEM), (100, errno.ENOMEM),
                           (257, errno.EIO)):
            server.fail_nth(nth, error)
            master(machine)
            t.equal(is_master(machine), False, "the bit")
            check_none(t, machine)
        t.equal(machine.counter("fallback-refused"), 4, "refused")
        t.equal(machine.counter("fallback-pins"), 0, "fallback-pins")
        master(machine)
        check_all(t, machine)
    with t.machine(coiommu=",block=2M", max_dma_maps=100) as machine:
        master(machine)
        t.equal(is_master(machine), False, "the bit")
        check_none(t, machine)
        t.equal(len(machine.said("no more mappings", "dma_entry_limit",
                                 "a larger block")), 1, "messages")
    with t.machine() as machine:
        machine.servers[0].fail_at(BASE, errno.ENOMEM)
        master(machine)
        t.equal(len(machine.said("memlock limit")), 1, "messages")


def test_fallback_no_room_beside(t):
    """What cannot be had for one device harms no other."""
    with t.machine(servers=2) as machine:
        guest = ready(t, machine, endpoints=(SECOND,))
        one, two = machine.servers
        t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map")
        two.take_events()
        one.fail_at(0x8000000, errno.ENOMEM)
        master(machine)
        t.equal(is_master(machine), False, "the bit")
        t.equal((one.maps, two.maps), ({BASE: 2 * MIB}, {BASE: 2 * MIB}),
                "maps")
        t.equal(BASE in [event[1] for event in unmaps(two)], False,
                "it was never unmapped")
        t.equal(guest.published(), list(guest.units(BASE, 2 * MIB)), "PINNED")
        # The other one is given up: its bit goes, then its memory.
        master(machine, devfn=6 << 3)
        t.equal(guest.detach(SECOND), ABI.ST_OK, "DETACH")
        check_none(t, machine)
        t.equal(is_master(machine, devfn=6 << 3), False, "the bit")


def test_fallback_two_devices(t):
    """Pin-all is for each of several devices, in several containers."""
    with t.machine(servers=2) as machine:
        one, two = machine.servers
        master(machine)
        check_all(t, machine)
        master(machine, devfn=6 << 3)
        t.equal(two.commands[-1], (6, ALL), "the second device's write")
        check_all(t, machine, active=2)
        guest = Guest(machine)
        t.equal(guest.enable(), ABI.ST_OK, "ENABLE")
        t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")
        check_all(t, machine)
        # The attached one may do what it likes; the other one ends it.
        master(machine, False)
        check_all(t, machine)
        master(machine, False, devfn=6 << 3)
        t.equal(machine.counter("fallback-active"), 0, "active")
        t.equal(machine.counter("fallback-bytes"), 0, "bytes")
        t.equal(guest.detach(FIRST), ABI.ST_OK, "DETACH")
        check_none(t, machine)
        t.equal(machine.counter("fallback-pins"), 1, "fallback-pins")


def test_fallback_hotplug(t):
    """Devices that are plugged in follow the same rules, and when they go."""
    with t.machine(servers=2, devices=one_and_a_port,
                   extra=NATIVE) as machine:
        guest = Guest(machine)
        machine.config_write(0, PORT, 0x18, 1 << 16 | 1 << 8)
        one, two = machine.servers
        # Before ENABLE, while all is pinned for another one.
        master(machine)
        plug_powered(machine, "d1")
        t.equal(two.maps, one.maps, "replayed")
        master(machine, bus=1, devfn=0)
        check_all(t, machine, active=2)
        master(machine, False)
        check_all(t, machine)
        unplug(t, machine, "d1")
        t.equal(two.gone.wait(PATIENCE), True, "connection closed")
        settled(machine)
        t.equal((one.maps, machine.counter("fallback-active")), ({}, 0),
                "maps when it has gone")
        # After ENABLE, beside one that is attached.
        t.equal(guest.enable(), ABI.ST_OK, "ENABLE")
        t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")
        t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map")
        plug_powered(machine, "d2")
        t.equal(two.maps, {BASE: 2 * MIB}, "replayed")
        one.take_events()
        master(machine, bus=1, devfn=0)
        check_all(t, machine)
        t.equal(guest.attach(endpoint(1, 0)), ABI.ST_OK, "ATTACH")
        t.equal(machine.counter("fallback-active"), 0, "active")
        unplug(t, machine, "d2")
        t.equal(two.gone.wait(PATIENCE), True, "connection closed")
        t.equal(unmaps(one), [], "unmaps")


def test_fallback_bus_reset(t):
    """A reset that QEMU does by itself takes the bit away, too."""
    def devices(machine):
        return ["pcie-root-port,id=rp,addr=7,chassis=1",
                vfio_user(machine, 0, "d0", bus="rp")]

    with t.machine(devices=devices) as machine:
        machine.config_write(0, PORT, 0x18, 1 << 16 | 1 << 8)
        master(machine, bus=1, devfn=0)
        check_all(t, machine)
        # The port's secondary bus reset.
        machine.config_write(0, PORT, 0x3e, 0x40, size=2)
        machine.config_write(0, PORT, 0x3e, 0, size=2)
        t.equal(is_master(machine, bus=1, devfn=0), False, "the bit")
        wait(t, lambda: not machine.counter("pinned-bytes"), "unpinned")
        check_none(t, machine)


def test_fallback_memory(t):
    """Memory that comes while all is pinned is pinned at once."""
    with t.machine(memory="512M,slots=2,maxmem=4G") as machine:
        server, = machine.servers
        master(machine)
        server.take_events()
        size = 128 * MIB
        a = plug_dimm(machine, "a", size, 0)
        t.equal(unmaps(server), [], "unmaps")
        check_all(t, machine, size=ALL + size)
        t.equal(a in server.maps, True, "it is mapped")
        # The chipset cuts a block: what is left of it is mapped again.
        machine.config_write(0, 0, 0x9d, 0x08, size=1)
        machine.config_write(0, 0, 0x9e, 0x01, size=1)
        check_all(t, machine, size=ALL + size - MIB)
        machine.config_write(0, 0, 0x9e, 0x00, size=1)
        check_all(t, machine, size=ALL + size)
        eject_dimm(machine, 0)
        check_all(t, machine)
        # No room for it: the rest stays, and the operator is told.
        machine.set("max-pinned", 600 * MIB)
        before = set(server.maps)
        plug_dimm(machine, "b", size, 1)
        settled(machine)
        t.equal(before - set(server.maps), set(), "what is gone")
        t.equal(machine.counter("fallback-missing-bytes") >= 39 * MIB, True,
                "it is told how much is missing")
        # Once, also if the guest has the chipset cut memory again and again.
        for tseg in (1, 0, 1, 0):
            machine.config_write(0, 0, 0x9e, tseg, size=1)
        t.equal(len(machine.said("memory that was added",
                                 "max-pinned is 600 MiB")), 1, "messages")
        master(machine, False)
        check_none(t, machine)


class Actor:
    """Does things at random, and knows what must be so after each."""

    def __init__(self, t, machine, seed):
        self.t = t
        self.machine = machine
        self.guest = Guest(machine)
        self.random = random.Random(seed)
        self.enabled = False
        self.masters = set()
        self.attached = set()
        self.mapped = []
        t.equal(self.guest.command(ABI.CMD_DISABLE), ABI.ST_OK, "DISABLE")

    def toggle_master(self):
        slot = self.random.choice((5, 6))
        self.masters ^= {slot}
        master(self.machine, slot in self.masters, devfn=slot << 3)

    def toggle_attached(self):
        slot = self.random.choice((5, 6))
        if not self.enabled:
            return
        if slot in self.attached:
            # The last one to count has unmapped all that it had.
            if len(self.attached) == 1:
                self.unmap(len(self.mapped))
            status = self.guest.detach(endpoint(0, slot))
        else:
            status = self.guest.attach(endpoint(0, slot))
        self.t.equal(status, ABI.ST_OK, "ATTACH or DETACH")
        self.attached ^= {slot}

    def toggle_enabled(self):
        if self.enabled:
            self.unmap(len(self.mapped))
            status = self.guest.disable()
            self.attached.clear()
        else:
            status = self.guest.enable()
        self.t.equal(status, ABI.ST_OK, "ENABLE or DISABLE")
        self.enabled = not self.enabled

    def map(self):
        if self.attached:
            where = self.random.randrange(BASE, 512 * MIB - 65536, 4096)
            size = self.random.randrange(1, 65536)
            self.t.equal(self.guest.map(where, size), ABI.ST_OK, "map")
            self.mapped.append((where, size))

    def unmap(self, count=1):
        for _ in range(min(count, len(self.mapped))):
            where = self.random.randrange(len(self.mapped))
            self.guest.unmap(*self.mapped.pop(where))

    def reset(self):
        """Of our function, in one of eight cases."""
        if self.random.random() < 1 / 8:
            self.unmap(len(self.mapped))
            function_reset(self.t, self.machine)
            self.guest.start()
            self.attached.clear()
            self.enabled = False

    def step(self):
        action = self.random.choice((
            self.toggle_master, self.toggle_attached, self.toggle_enabled,
            self.map, self.map, self.map, self.unmap, self.reset))
        action()
        self.check(action.__name__)

    def check(self, what):
        settled(self.machine)
        untracked = self.masters - self.attached
        for server in self.machine.servers:
            self.t.equal(server.violations, [], f"violations after {what}")
            if untracked:
                self.t.equal(server.mapped_bytes(), ALL, f"all after {what}")
            elif not self.attached:
                self.t.equal(server.maps, {}, f"nothing after {what}")
            for where, size in self.mapped:
                for page in range(where & -4096, where + size, 4096):
                    self.t.equal(page & -2 * MIB in server.maps, True,
                                 f"{page:#x} is mapped after {what}")
        self.t.equal(self.machine.counter("fallback-active"), len(untracked),
                     f"active after {what}")


def test_fallback_random(t):
    """Any order of things, while the unpin thread takes what it can."""
    seed = 5
    print("seed", seed, file=t.log)
    with t.machine(servers=2,
                   coiommu=",unpin-policy=timeout,unpin-window=0,"
                           "unpin-interval=1") as machine:
        actor = Actor(t, machine, seed)
        for _ in range(400):
            actor.step()
            if actor.random.random() < 0.1:
                time.sleep(0.01)
        print({name: machine.counter(name) for name in
               ("fallback-pins", "lazy-unpinned-blocks", "unpin-races")},
              file=t.log)
        t.equal(machine.counter("fallback-pins") > 10, True, "fallback-pins")
        t.equal(machine.counter("lazy-unpinned-blocks") > 0, True,
                "unpinned by the thread")
        machine.reset()
        check_none(t, machine)
