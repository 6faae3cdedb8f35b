# SPDX-License-Identifier: GPL-2.0-or-later
"""Two guests at random: one that lies, and one that is lied to.

Short runs belong to the level; those of ten minutes run by name, best on the
QEMU with sanitizers (the level qtest-asan).  COIOMMU_SEED repeats a run,
COIOMMU_RANDOM_SECONDS makes it longer or shorter, COIOMMU_RANDOM_TRACE=1
keeps the trace.
"""

import os
import time

from driver import ABI
from random_honest import LOW, Honest
from random_hostile import (Chipset, Config, Hostile, Registers, Requests,
                            Resets, Session, Table)
from random_oracle import Oracle
from random_world import Errors, Hotplug, Pressure, Settings, World, until
from vfio_user_server import PATIENCE

SHORT, LONG = 20, 600
SEED = 20260012

# What a run has to have met.
HOSTILE = {("enable", ABI.ST_OK), ("attach", ABI.ST_OK),
           ("attach", ABI.ST_NODEV), ("pin", ABI.ST_OK),
           ("pin", ABI.ST_STATE), ("pin", ABI.ST_RANGE)}
COUNTERS = ("lazy-unpinned-blocks", "fallback-pins", "pin-errors", "repins",
            "reclaimed-blocks", "ahead-pins", "pressure-events",
            "unpin-races", "requests", "request-errors")


def by_name(function):
    """It takes long: it runs when it is named."""
    function.by_name = True
    return function


class Run:
    """A world for some seconds, with a seed that is printed."""

    def __init__(self, t, seconds, seed):
        self.seconds = int(os.environ.get("COIOMMU_RANDOM_SECONDS", seconds))
        self.seed = int(os.environ.get("COIOMMU_SEED", seed))
        self.t = t
        t.note(f"seed {self.seed}, {self.seconds} s")
        self.world = World(t, self.seed)

    def steps(self, enough=lambda: True):
        """Numbers until the time is up, and has been enough."""
        end = time.monotonic() + self.seconds
        while time.monotonic() < end or (not enough() and
                                         time.monotonic() < end + PATIENCE):
            self.world.steps += 1
            yield self.world.steps

    def summary(self, *more):
        world = self.world
        self.t.note(f"{world.steps} steps, {world.plugs} plugs,",
                    f"{len(world.machine.said())} lines said", *more)
        print({name: world.machine.counter(name) for name in COUNTERS},
              file=self.t.log)


def any_seed():
    return int.from_bytes(os.urandom(4), "little")


def hostile(t, seconds, seed):
    run = Run(t, seconds, seed)
    with run.world as world:
        guest = Hostile(world)
        ways = [Requests(guest)] * 10 + [Session(guest)] * 4 + \
            [Table(guest)] * 4 + [Registers(guest), Config(guest),
                                  Config(guest), Chipset(guest),
                                  Resets(guest), Settings(world),
                                  Hotplug(world), Errors(world),
                                  Errors(world), Pressure(world)]
        oracle = Oracle(world)
        for _ in run.steps(lambda: HOSTILE <= guest.statuses):
            # Doorbells that were rung without the BQL go on meanwhile.
            for _ in range(world.random.randrange(1, 4)):
                world.random.choice(ways).step()
            oracle.check(guest.table)
        run.summary()
        print(sorted(guest.statuses), file=t.log)
        t.equal(HOSTILE - guest.statuses, set(), "what was not met")
        end(world, oracle)


def honest(t, seconds, seed):
    run = Run(t, seconds, seed)
    with run.world as world:
        guest = Honest(world)
        hotplug = Hotplug(world, guest.before_unplug, guest.before_eject)
        others = [Settings(world).step] * 4 + [Errors(world).step] * 6 + \
            [Pressure(world).step] * 2 + [guest.neighbour] * 2 + \
            [guest.reload, guest.reboot]
        oracle = Oracle(world)
        for number in run.steps():
            if world.random.randrange(12):
                guest.step()
                continue
            if world.random.randrange(6):
                world.random.choice(others)()
            else:
                hotplug.step()
                guest.plugged()
            if number % 4 == 0:
                guest.check()
                oracle.check(True)
        recovers(t, guest)
        guest.check()
        run.summary(f"{guest.maps} maps, {guest.failures} failures, "
                    f"{guest.ledger.unmaps} unmaps seen")
        t.equal(guest.maps > guest.failures, True, "most maps succeed")
        end(world, oracle)


def recovers(t, guest):
    """Nothing that was refused stays refused."""
    guest.wait()
    guest.recover()
    until(t, lambda: guest.guest.pin_bytes(LOW, 64 << 20) == ABI.ST_OK,
          "a host that refuses nothing pins")


def end(world, oracle):
    """Nothing is left, and QEMU ends as it should."""
    for server in world.machine.servers:
        server.behave()
        server.on_unmap = None
    if world.dead:
        Hotplug(world).unplug()
    world.reset()
    oracle.check(False)
    world.t.equal([server.take() for server in world.machine.servers],
                  [{}, {}, {}], "maps after a reset")
    world.t.equal(world.machine.quit(), 0, "exit status")


def test_random_hostile(t):
    """A guest that writes anything anywhere, for 20 s."""
    hostile(t, SHORT, SEED)


def test_random_honest(t):
    """A guest that keeps books of what was told "pinned", for 20 s."""
    honest(t, SHORT, SEED)


@by_name
def test_random_hostile_long(t):
    """The hostile guest for ten minutes, from a seed of its own."""
    hostile(t, LONG, any_seed())


@by_name
def test_random_honest_long(t):
    """The honest guest for ten minutes, from a seed of its own."""
    honest(t, LONG, any_seed())
