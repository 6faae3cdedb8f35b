# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine that the random testers live in, and what surrounds its guest.

A World has two devices on the root bus and one that is plugged in and out of a
port, DIMMs, and two devices that ring the doorbell without QEMU's big lock.
Hotplug, Settings, Errors and Pressure do what an operator, a host and the
devices' servers may do to a guest at any time; both testers have them.  Each
draws from the one source of random numbers, so a seed names a run (but for
what threads make of it).
"""

import collections
import json
import os
import random
import time

from driver import ABI, BAR, Guest, endpoint
from machine import QemuError, vfio_user
from random_server import ENABLED, ERRORS, RandomServer
from test_hotplug import (NATIVE, PORT, eject_dimm, express_capability,
                          plug_dimm, unplug)
from vfio_user_server import PATIENCE
from virtio_ringer import Ringer

MIB = 1 << 20
GIB = 1 << 30
MEMORY = 512 * MIB
DIMM = 64 * MIB
TABLE_SIZE = 6 * GIB
FIRST, SECOND, PLUGGED = endpoint(0, 5), endpoint(0, 6), endpoint(1, 0)
# Nothing random is written to the ringers' memory.  Request page 0 is the
# test's, for what it asks with the BQL.
RINGER_MEMORY = 0x3000000
RINGERS = (1, 2)
NR_SLOTS = 3

# Milliseconds that QEMU waits twice for a call that the plugged device's server
# has died in.  A server that lives answers sooner on the busiest machine.
TIMEOUT = 10000

# Lines on stderr that a whole run may have, and each device plugged in.
LINES_PER_RUN = 30
LINES_PER_PLUG = 5


def until(t, condition, what):
    """Until the condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        t.equal(time.monotonic() < end, True, f"in time: {what}")
        time.sleep(0.002)


class Log:
    """The last lines that were written, for the test's log."""

    def __init__(self, lines=200000):
        self.lines = collections.deque(maxlen=lines)

    def write(self, text):
        self.lines.append(text)

    def flush(self):
        pass


def devices(machine):
    return [vfio_user(machine, 0, "d0", addr="5"),
            vfio_user(machine, 1, "d1", addr="6"),
            "pcie-root-port,id=rp,addr=7,chassis=1"]


class World:
    """A machine, its guest's driver, and the source of random numbers."""

    def __init__(self, t, seed):
        self.t = t
        self.random = random.Random(seed)
        self.log = Log()
        self.began = time.monotonic()
        self.steps = 0
        self.plugs = 0
        self.plugged = None     # the name of the device behind the port
        self.dead = False       # its server is
        self.dimms = {}         # slot -> address
        folder = t.folder()
        self.fifo_path = f"{folder}/pressure"
        os.mkfifo(self.fifo_path)
        extra, ringers = Ringer.arguments(folder, RINGERS)
        if not os.environ.get("COIOMMU_RANDOM_TRACE"):
            extra += ["-trace", "-coiommu_*"]
        unit, block = self.random.choice(
            [("64K", "256K"), ("64K", "1M"), ("16K", "2M"), ("256K", "512K")])
        self.machine = t.machine(
            log=self.log, server=RandomServer, servers=3,
            memory="512M,slots=3,maxmem=2G",
            coiommu=f",unit={unit},block={block},unpin-interval=1,pressure=on,"
                    f"x-pressure-path={self.fifo_path}",
            devices=lambda machine: devices(machine) + ringers,
            extra=(*NATIVE, *extra))

    def __enter__(self):
        self.machine.__enter__()
        self.fifo = os.open(self.fifo_path, os.O_WRONLY | os.O_NONBLOCK)
        self.guest = Guest(self.machine)
        self.start()
        return self

    def __exit__(self, kind, value, traceback):
        os.close(self.fifo)
        for server in self.machine.servers:
            server.behave()
        self.machine.__exit__(kind, value, traceback)
        self.t.log.write("".join(self.log.lines))

    def note(self, *words):
        """What happens, in the log."""
        print(f"step {self.steps}, {time.monotonic() - self.began:.1f} s:",
              *words, file=self.log)

    def start(self):
        """What firmware does after power-on and reset."""
        self.guest.start()
        self.machine.config_write(0, PORT, 0x18, 1 << 16 | 1 << 8)
        self.machine.command(f"memset {RINGER_MEMORY:#x} 0x40000 0")
        self.ringers = {n: Ringer(self.machine, n, RINGER_MEMORY,
                                  BAR + ABI.REG_DOORBELL) for n in RINGERS}

    def quiet(self):
        """Wait for the doorbells that are being served."""
        for ringer in self.ringers.values():
            self.t.equal(ringer.wait(), True, "the doorbell write returns")

    def reset(self):
        """Of the whole machine."""
        self.note("system_reset")
        self.quiet()
        self.machine.reset()
        self.start()

    def live(self):
        """The servers that QEMU has a container of, and that answer."""
        there = self.plugged and not self.dead
        return self.machine.servers[:3 if there else 2]

    def check_alive(self):
        """QEMU lives, and has not said too much."""
        self.t.equal(self.machine.alive(), True, "QEMU is alive")
        lines = len(self.machine.said())
        self.t.equal(lines <= LINES_PER_RUN + LINES_PER_PLUG * self.plugs,
                     True, f"{lines} lines on stderr are few")

    def rest(self):
        """The threads that pin and unpin have nothing to do from now on."""
        self.policy = self.machine.counter("unpin-policy")
        self.machine.set("unpin-policy", "off")

    def resume(self):
        self.machine.set("unpin-policy", self.policy)


class Hotplug:
    """Devices and memory that come and go."""

    def __init__(self, world, before_unplug=None, before_eject=None):
        self.world = world
        self.before_unplug = before_unplug or (lambda: None)
        self.before_eject = before_eject or (lambda start, size: None)

    def step(self):
        self.world.random.choice([self.device, self.device, self.memory])()

    def device(self):
        if self.world.plugged:
            self.unplug()
        else:
            self.plug()

    def plug(self):
        world, server = self.world, self.world.machine.servers[2]
        name = f"hot{world.plugs}"
        world.plugs += 1
        world.note("plug", name)
        if "replay" in ENABLED and not world.random.randrange(4):
            server.fail_nth(world.random.randrange(1, 6),
                            world.random.choice(ERRORS))
        try:
            world.machine.qmp("device_add", **json.loads(vfio_user(
                world.machine, 2, name, "rp", **{"x-msg-timeout": TIMEOUT})))
        except QemuError as error:
            world.note("refused", error)
            world.t.equal(server.gone.wait(PATIENCE), True,
                          "connection closed")
            world.t.equal(server.take(), {}, "maps of the refused device")
        else:
            world.plugged = name
            world.machine.config_write(
                0, PORT, express_capability(world.machine) + 0x18, 0x0100,
                size=2)
        server.behave()

    def unplug(self):
        world, server = self.world, self.world.machine.servers[2]
        world.note("unplug", world.plugged)
        # VFIO unmaps all at the end, in one call; that isn't coIOMMU's.
        server.kept = 0
        self.before_unplug()
        unplug(world.t, world.machine, world.plugged)
        world.plugged, world.dead = None, False
        # An iothread that serves a doorbell may hold the device's last
        # reference for a while.
        world.quiet()
        world.t.equal(server.gone.wait(PATIENCE), True, "connection closed")
        world.t.equal(server.take(), {}, "maps of the device that went")

    def memory(self):
        world, slot = self.world, self.world.random.randrange(3)
        if slot in world.dimms:
            world.note("eject", slot)
            self.before_eject(world.dimms[slot], DIMM)
            eject_dimm(world.machine, slot)
            del world.dimms[slot]
            return
        # A name is used once: QEMU gives memory that is plugged in under the
        # name of some that went a moment ago the old file, and then closes it
        # (cpr_find_fd() in backends/hostmem-memfd.c of 10.2).
        name = f"dimm{world.plugs}"
        world.plugs += 1
        world.note("plug", name, "in slot", slot)
        world.dimms[slot] = plug_dimm(world.machine, name, DIMM, slot)


class Settings:
    """What an operator changes while the machine runs."""

    def __init__(self, world):
        self.world = world

    def step(self):
        choice = self.world.random.choice(
            [("unpin-policy", "timeout"), ("unpin-policy", "lazy"),
             ("unpin-policy", "lazy"), ("unpin-policy", "off"),
             ("unpin-window", 1), ("unpin-window", 3600000),
             ("unpin-pass", 7), ("unpin-pass", 10000),
             ("unpin-interval", 1), ("unpin-interval", 20),
             ("max-pinned", 8 * MIB), ("max-pinned", 64 * MIB),
             ("max-pinned", 0), ("max-pinned", 0), ("ahead", 0),
             ("ahead", 16 * MIB), ("escape-threshold", 0),
             ("escape-threshold", 10), ("fallback", "refuse"),
             ("fallback", "pin-all"), ("fallback", "pin-all")])
        self.world.note("set", *choice)
        self.world.machine.set(*choice)


class Errors:
    """What the servers do to QEMU: see INJECTIONS."""

    def __init__(self, world):
        self.world = world

    def step(self):
        world = self.world
        kind = world.random.choice(sorted(ENABLED - {"replay"}))
        server = world.random.choice(world.live())
        if kind == "gone":
            self.gone()
            return
        if kind == "refused":
            server.fail_nth(world.random.randrange(1, 4),
                            world.random.choice(ERRORS))
        else:
            setattr(server, kind, world.random.randrange(1, 4) *
                    (10 if kind == "slow" else 1))
        world.note("error", kind, world.machine.servers.index(server))

    def gone(self):
        """Now and then, as nothing else happens to a dead device."""
        world, server = self.world, self.world.machine.servers[2]
        if server in world.live() and not world.random.randrange(3):
            world.note("error gone")
            world.quiet()
            world.rest()
            world.dead = True
            server.on_unmap = None
            server.die()
            world.resume()


class Pressure:
    """The host is short of memory."""

    def __init__(self, world):
        self.world = world

    def step(self):
        self.world.note("pressure")
        os.write(self.world.fifo, b"!")
