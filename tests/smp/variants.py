#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The stress, one function per variant.

    variants.py NAME QEMU IMAGE SERVER SECONDS

QEMU and SERVER are binaries, IMAGE is a folder with vmlinux and initrd
(tests/smp/run makes them).  Exit status 0 or 1; everything that is asked and
answered is printed, and at the end what the run has done.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

from guest import PATIENCE, Failure, Guest, check

MIB = 1 << 20
DEVICES = 2
MEMORY = "512M"
DEVICE_ID = "1234:d0d1"

# How often the run is looked at, and settings of the device are changed.
LOOK = 2

# With no map for so long the guest hangs.  A machine may be slow.
STALL = 180

COUNTERS = ("requests", "request-errors", "demand-pin-blocks",
            "unpinned-blocks", "lazy-unpinned-blocks", "unpin-races",
            "repins", "reclaims", "reclaimed-blocks", "unpin-passes",
            "pinned-bytes-peak", "request-wait-max-ns")

# Settings to go through, each for one look.
POLICIES = [
    {"unpin-policy": "lazy"},
    {"unpin-policy": "timeout", "unpin-window": 1},
    {"unpin-policy": "lazy", "unpin-pass": 64},
    {"unpin-policy": "timeout", "unpin-window": 3, "unpin-pass": 65536},
    {"unpin-policy": "lazy"},
    {"unpin-policy": "off"},
    {"unpin-policy": "timeout", "unpin-window": 1},
]


class Server:
    """The server of one device, its faults and its last words."""

    def __init__(self, binary, folder, number):
        self.path = os.path.join(folder, f"device{number}")
        self.log = f"{self.path}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([binary, self.path], stdout=log)
        end = time.monotonic() + PATIENCE
        while "listening" not in self.text():
            check(time.monotonic() < end, "the server starts")
            time.sleep(0.05)

    def text(self):
        with open(self.log) as log:
            return log.read()

    def check(self):
        """No access has missed its map, and no data was wrong."""
        faults = [line for line in self.text().splitlines()
                  if line.startswith("fault")]
        check(not faults, f"{self.path}: " + "; ".join(faults[:5]))
        check(self.process.poll() in (None, 0), "the server lives")

    def totals(self):
        """What it has done, after QEMU has gone."""
        self.process.wait(PATIENCE)
        self.check()
        words = self.text().splitlines()[-1].split()
        return {k: int(v) for k, v in zip(words[::2], words[1::2])}

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Stress:
    """A guest with its devices, while it runs."""

    def __init__(self, guest, servers):
        self.guest = guest
        self.servers = servers
        self.addresses = guest.address(DEVICE_ID)
        check(len(self.addresses) == DEVICES, "both devices are there")

    def demote(self, idle):
        """Let whatever else runs interrupt the unpin thread, or not.

        It then stops for a while in the middle of what it does, and more
        happens in the time between two of its steps.  Only root can undo it,
        so others don't begin.
        """
        if os.geteuid() != 0:
            return
        policy = os.SCHED_IDLE if idle else os.SCHED_OTHER
        os.sched_setscheduler(self.unpin_thread(), policy, os.sched_param(0))

    def unpin_thread(self):
        folder = f"/proc/{self.guest.process.pid}/task"
        for task in os.listdir(folder):
            try:
                with open(f"{folder}/{task}/comm") as comm:
                    if comm.read().strip() == "coiommu-unpin":
                        return int(task)
            except FileNotFoundError:
                pass  # a thread that has ended meanwhile
        raise Failure("there is no unpin thread")

    def only_hot(self, so):
        """Hot memory only: the host comes round it all the more often."""
        self.guest.run(f"echo {int(so)} > "
                       "/sys/module/smp_stress/parameters/only_hot")

    def set(self, settings):
        for name, value in settings.items():
            self.guest.monitor("qom-set", path="/machine/peripheral/coi",
                               property=name, value=value)

    def counter(self, name):
        return self.guest.counter(name)

    def command(self, what):
        for address in self.addresses:
            self.check_servers()
            self.guest.run(f"echo {what} > /sys/bus/pci/devices/{address}/run")

    def books(self):
        """The drivers' books, summed up."""
        total = {}
        for address in self.addresses:
            text = self.guest.output(
                f"cat /sys/bus/pci/devices/{address}/books")
            for name, value in (line.split() for line in text.splitlines()):
                total[name] = total.get(name, 0) + int(value)
        return total

    def check_servers(self):
        for server in self.servers:
            server.check()

    def check(self):
        self.check_servers()
        books = self.books()
        for name in ("mismatches", "device-violations", "device-mismatches"):
            check(books[name] == 0, f"{name}: {books[name]}")
        return books

    def check_books(self):
        """The table counts what the drivers have mapped, and nothing else."""
        books = self.check()
        table = self.guest.table()
        print(books, table, flush=True)
        check(table["mappings"] == books["live-units"] + books["ring-units"],
              "the table counts what is mapped")
        check(table["underflows"] == 0, "no count was taken back twice")
        return books


def run_stress(stress, seconds, settings, races):
    """Let it run, change settings all the while; how long that was.

    At least so many races are waited for: how often they happen depends on the
    machine.
    """
    start = last = time.monotonic()
    maps = turn = ran = 0
    while ran < seconds or \
            stress.counter("unpin-races") < races and ran < 8 * seconds:
        # A setting waits for the end of a pass, with QEMU's big lock.
        stress.demote(False)
        stress.set(settings[turn % len(settings)])
        stress.demote(turn % 8 == 7)
        stress.only_hot(turn % 4 != 0)
        turn += 1
        time.sleep(min(LOOK, seconds))
        books = stress.check()
        print({name: stress.counter(name) for name in COUNTERS}, flush=True)
        ran = time.monotonic() - start
        if books["maps"] != maps:
            last, maps = ran + start, books["maps"]
        check(ran + start - last < STALL, f"no map for {STALL} s")
    return ran


def finish(stress):
    """Books at rest, unmap everything, unbind."""
    guest = stress.guest
    stress.command("hold")
    books = stress.check_books()
    check(books["live-units"] > 0, "something is mapped when it is held")
    # The device uses it, and the host has had time to unpin it by mistake.
    time.sleep(2)
    stress.check_books()
    stress.command("drain")
    books = stress.check_books()
    check(books["live-units"] == 0, "all is unmapped")
    check(books["maps"] == books["unmaps"], "each map was undone")
    for address in stress.addresses:
        guest.unbind(address)
    guest.check_idle()
    guest.check_clean()
    return books


def report(seconds, books, counters, totals):
    print(json.dumps({"seconds": seconds, "books": books,
                      "counters": counters, "devices": totals}, indent=1))
    print(f"{books['maps'] / seconds:.0f} maps/s,"
          f" {counters['requests'] / seconds:.0f} requests/s,"
          f" {counters['unpinned-blocks'] / seconds:.0f} unpins/s,"
          f" {counters['unpin-races']} races,"
          f" {sum(t['accesses'] for t in totals) / seconds:.0f} accesses/s,"
          f" {sum(t['violations'] for t in totals)} violations", flush=True)


def check_raced(seconds, books, counters, races):
    """It was a stress: far less than any machine reaches."""
    check(books["maps"] > 20 * seconds, "it mapped much")
    check(counters["lazy-unpinned-blocks"] > 5 * seconds, "it unpinned much")
    check(counters["repins"] > seconds, "much was pinned again")
    check(counters["unpin-races"] >= races,
          "blocks came into use while they were being let go")


class Variant:
    """What a variant is given."""

    def __init__(self, qemu, image, server, seconds, folder):
        self.qemu = qemu
        self.image = image
        self.server = server
        self.seconds = seconds
        self.folder = folder

    def devices(self, servers):
        """QEMU's arguments: memory that servers can map, and the devices."""
        arguments = [
            "-object", f"memory-backend-memfd,id=ram,size={MEMORY},share=on",
            "-machine", "memory-backend=ram", "-name", "smp,debug-threads=on"]
        for server in servers:
            arguments += ["-device", json.dumps({
                "driver": "vfio-user-pci", "x-msg-timeout": 120000,
                "socket": {"type": "unix", "path": server.path}})]
        return arguments

    def run(self, coiommu, unit_shift=16, hot_pages=16, settings=POLICIES,
            may_fail=False, races=0):
        servers = [Server(self.server, self.folder, i)
                   for i in range(DEVICES)]
        try:
            # Only the devices at hand, not the chipset's own, are tracked.
            with Guest(self.qemu, self.image, self.devices(servers),
                       coiommu=f"x-track-emulated=off,{coiommu}",
                       memory=MEMORY) as guest:
                guest.load()
                guest.run(f"modprobe smp_stress unit_shift={unit_shift} "
                          f"hot_pages={hot_pages}")
                stress = Stress(guest, servers)
                check(guest.counter("attached-endpoints") == DEVICES,
                      "both devices are attached")
                stress.command("start")
                seconds = run_stress(stress, self.seconds, settings, races)
                counters = {name: guest.counter(name) for name in COUNTERS}
                books = finish(stress)
                failures = guest.table("requests")["failures"]
            totals = [server.totals() for server in servers]
        finally:
            for server in servers:
                print(server.path, server.text(), flush=True)
                server.close()
        report(seconds, books, counters, totals)
        check(may_fail or failures == 0, "no request failed")
        check_raced(seconds, books, counters, races)
        return counters


def block_64k(variant):
    """The smallest blocks of usual units."""
    variant.run("block=64K,unpin-interval=1")


def block_2m(variant):
    """Large blocks of small units: the most to be looked at in one go."""
    variant.run("unit=4K,block=2M,unpin-interval=1", unit_shift=12,
                races=3)


def unit_4k(variant):
    """The most requests, maps and unmaps for the same mappings."""
    variant.run("unit=4K,block=4K,unpin-interval=1", unit_shift=12,
                hot_pages=1)


def quota(variant):
    """As well as being unpinned, blocks are reclaimed, by both CPUs."""
    limits = [8 * MIB, 3 * MIB, 6 * MIB, 4 * MIB]
    settings = [dict(policy, **{"max-pinned": limits[i % len(limits)]})
                for i, policy in enumerate(POLICIES * 2)]
    counters = variant.run("block=64K,unpin-interval=1,"
                           f"max-pinned={8 * MIB}", settings=settings,
                           may_fail=True)
    check(counters["reclaimed-blocks"] > 0, "blocks were reclaimed")


VARIANTS = [block_64k, block_2m, quota, unit_4k]


def main():
    if len(sys.argv) != 6:
        sys.exit("usage:" + __doc__.split("\n\n")[1].replace("    ", " "))
    name, qemu, image, server, seconds = sys.argv[1:]
    function = {v.__name__: v for v in VARIANTS}[name]
    with tempfile.TemporaryDirectory(prefix="coiommu-smp-") as folder:
        try:
            function(Variant(qemu, image, server, int(seconds), folder))
        except Failure as failure:
            sys.exit(f"FAILED: {failure}")


if __name__ == "__main__":
    main()
