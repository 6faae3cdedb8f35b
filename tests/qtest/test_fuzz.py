# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that does anything at all, with a fixed seed.

The pins that the servers see, the counters, and what the device says must
agree at every moment, whatever comes in; and QEMU must live.  Once without and
once with a thread that unpins all the time.
"""

import errno
import random
import struct
import time

from driver import (ABI, BAR, DIRECTORY, LEAVES, REQUESTS, SLOTS, Guest,
                   endpoint)
from vfio_user_server import PATIENCE

MIB = 1 << 20
SECONDS = 8
SEED = 20260001

# Where the random guest has to have been.
REACHED = {("enable", ABI.ST_OK), ("enable", ABI.ST_STATE),
           ("attach", ABI.ST_NODEV), ("pin", ABI.ST_OK),
           ("pin", ABI.ST_RANGE), ("pin", ABI.ST_INVALID),
           ("pin", ABI.ST_STATE), ("pin", ABI.ST_NOMEM),
           ("pin", ABI.ST_UNSUPPORTED)}

# What has to come up while blocks are unpinned.
WANTED = ("lazy-unpinned-blocks", "reclaimed-blocks", "repins")

ENDPOINTS = [endpoint(0, 5), endpoint(0, 6), endpoint(0, 5), endpoint(0, 6),
             endpoint(0, 4), endpoint(0, 0), 0xffffffff]
ERRORS = [errno.ENOMEM, errno.ENOSPC, errno.EPERM, errno.EFAULT]


class Fuzzer:
    """One guest, two devices, a random source."""

    def __init__(self, t, machine):
        self.t = t
        self.machine = machine
        self.guest = Guest(machine)
        self.random = random.Random(SEED)
        self.statuses = set()

    def value(self, bits):
        """A number that is likely to be at some border."""
        r = self.random
        kind = r.randrange(6)
        if kind == 0:
            return r.getrandbits(bits)
        if kind == 1:
            return (1 << r.randrange(bits + 1)) - r.randrange(3) & \
                (1 << bits) - 1
        if kind == 2:
            return r.randrange(512 * MIB) & ~0xfff
        if kind == 3:
            return r.choice([DIRECTORY, SLOTS, REQUESTS, 512 * MIB, BAR])
        return r.randrange(8)

    def any_register(self):
        size = self.random.choice([1, 2, 4, 4, 4, 8, 8])
        address = BAR + self.random.choice(
            [self.random.randrange(0x60), self.random.randrange(0x60) & ~7,
             self.random.randrange(0x2000 - 8)])
        if self.random.randrange(2):
            self.machine.read(address, size)
        else:
            self.machine.write(address, size, self.value(8 * size))

    def enable(self):
        self.statuses.add(("enable", self.guest.enable(
            features=self.random.randrange(4))))

    def disable(self):
        self.guest.disable()

    def attach(self):
        for _ in range(3):
            self.statuses.add(("attach", self.guest.attach(
                self.random.choice(ENDPOINTS))))

    def detach(self):
        self.statuses.add(("detach", self.guest.detach(
            self.random.choice(ENDPOINTS))))

    def good_pin(self):
        ranges = [(self.random.randrange(512 * MIB >> 12),
                   self.random.randrange(1, 600))
                  for _ in range(self.random.randrange(1, 5))]
        self.statuses.add(("pin", self.guest.pin(*ranges)[0]))

    def bad_pin(self):
        ranges = [(self.value(64), self.value(64))
                  for _ in range(self.random.randrange(1, 9))]
        self.statuses.add(("pin", self.guest.request(
            self.random.choice([ABI.OP_PIN, ABI.OP_PIN, self.value(32)]),
            self.value(32), ranges, count=self.random.choice(
                [None, None, self.value(32)]))[0]))

    def garbage(self):
        """Overwrite a piece of what the guest shares with the device."""
        where = self.random.choice([DIRECTORY, SLOTS, REQUESTS])
        data = b"".join(struct.pack("<Q", self.value(64)) for _ in range(4))
        self.machine.write_bytes(where + self.random.randrange(64) * 8, data)
        self.guest.doorbell(self.random.choice([0, 1, self.value(32)]))

    def fail(self):
        server = self.random.choice(self.machine.servers)
        server.fail_nth(self.random.randrange(1, 4),
                        self.random.choice(ERRORS))

    def chipset(self):
        """PAM and TSEG: RAM that comes and goes."""
        register = self.random.choice([*range(0x90, 0x97), 0x9d, 0x9e, 0x9e])
        value = {0x9d: 0x08, 0x9e: self.random.choice([0, 1, 3, 5])}.get(
            register, self.random.choice([0, 0x33, 0x11]))
        self.machine.config_write(0, 0, register, value, size=1)

    def step(self):
        actions = [self.any_register] * 8 + [self.good_pin] * 8 + \
            [self.bad_pin] * 6 + [self.garbage] * 2 + [self.enable] * 4 + \
            [self.attach] * 4 + [self.detach, self.disable, self.fail,
                                 self.chipset]
        self.random.choice(actions)()

    def count(self):
        """Any entry of the table."""
        self.machine.write(LEAVES + self.random.randrange(8192) * 4,
                           self.random.choice([1, 4]), self.value(8))

    def setting(self):
        """What an operator may do at any time."""
        self.machine.set(*self.random.choice(
            [("unpin-policy", "timeout"), ("unpin-policy", "lazy"),
             ("unpin-window", 1), ("unpin-pass", 7), ("unpin-pass", 10000),
             ("max-pinned", 64 * MIB), ("max-pinned", 0)]))

    def check_unpinning(self):
        """As check(), with the unpin thread at rest."""
        self.machine.set("unpin-policy", "off")
        self.check()
        self.machine.set("unpin-policy", "lazy")

    def check(self):
        pinned = self.machine.counter("pinned-bytes")
        for server in self.machine.servers:
            self.t.equal(server.mapped_bytes(), pinned, "pinned bytes")
            self.t.equal(server.violations, [], "violations")
        one, two = self.machine.servers
        self.t.equal(one.maps == two.maps, True, "same maps in both")
        if not self.machine.counter("attached-endpoints"):
            self.t.equal(pinned, 0, "pinned without an endpoint")


def test_fuzz(t):
    """Requests and commands at random, with errors of the host."""
    with t.machine(servers=2, coiommu=",block=256K",
                   max_dma_maps=700) as machine:
        fuzzer = Fuzzer(t, machine)
        end = time.monotonic() + SECONDS
        steps = 0
        # A machine that is busy with other things takes longer.
        while time.monotonic() < end or (
                time.monotonic() < end + PATIENCE and
                not REACHED <= fuzzer.statuses):
            fuzzer.step()
            steps += 1
            if steps % 10 == 0:
                fuzzer.check()
            if steps % 2000 == 0:
                machine.reset()
                fuzzer.guest.start()
                t.equal(machine.counter("pinned-bytes"), 0, "after a reset")
        fuzzer.check()
        print(f"{steps} steps, statuses {sorted(fuzzer.statuses)}",
              file=t.log)
        t.equal(REACHED - fuzzer.statuses, set(), "what was not reached")
        t.equal(fuzzer.guest.disable(), ABI.ST_OK, "DISABLE")
        fuzzer.check()


def test_fuzz_unpinning(t):
    """The same while blocks are let go each millisecond."""
    with t.machine(servers=2, coiommu=",block=256K,unpin-policy=lazy,"
                   "unpin-interval=1", max_dma_maps=300) as machine:
        fuzzer = Fuzzer(t, machine)
        end = time.monotonic() + SECONDS
        steps = 0
        while time.monotonic() < end or (
                time.monotonic() < end + PATIENCE and
                not all(machine.counter(name) for name in WANTED)):
            fuzzer.random.choice([fuzzer.step, fuzzer.step, fuzzer.good_pin,
                                  fuzzer.count, fuzzer.setting])()
            steps += 1
            if steps % 200 == 0:
                fuzzer.check_unpinning()
            if steps % 2000 == 0:
                machine.reset()
                fuzzer.guest.start()
                t.equal(machine.counter("pinned-bytes"), 0, "after a reset")
        fuzzer.check_unpinning()
        counters = {name: machine.counter(name) for name in
                    ("lazy-unpinned-blocks", "reclaimed-blocks", "repins",
                     "demand-pin-blocks", "unpin-passes", "unpin-races")}
        print(f"{steps} steps, statuses {sorted(fuzzer.statuses)}, {counters}",
              file=t.log)
        for name in WANTED:
            t.equal(counters[name] > 0, True, name)
        t.equal(fuzzer.guest.disable(), ABI.ST_OK, "DISABLE")
        fuzzer.check()
