# SPDX-License-Identifier: GPL-2.0-or-later
"""Pin-all takes its time: what happens meanwhile, what it spares, its limits."""

import errno
import os
import struct
import subprocess

from driver import ABI, Guest, endpoint
from machine import PATIENCE, vfio_user, vfio_user_row
from test_fallback import (ALL, COMMAND, MASTER, MEMORY, check_all, check_none,
                           is_master, master, settled, unmaps)
from test_hotplug import (NATIVE, PORT, only_behind_port, plug_dimm,
                          unplug)
from test_pins import function_reset, ready
from test_unpin import wait
from virtio_ringer import Ringer

MIB = 1 << 20
BASE = 0x4000000
FIRST = endpoint(0, 5)
BLOCKS = 257
# Longer than any test takes.
LONG = ",x-fallback-delay=3600000"


def maps(server):
    return [event[1] for event in server.take_events() if event[0] == "map"]


def begin(t, machine, devfn=5 << 3, bus=0):
    """Pin-all is under way, slowly: it has pinned some, and takes a while."""
    for server in machine.servers:
        server.delay = 0.02
    machine.config_write(bus, devfn, COMMAND, MEMORY | MASTER, size=2)
    wait(t, lambda: machine.counter("fallback-bytes") > 4 * MIB, "it begins")
    t.equal(machine.counter("fallback-waiting"), 1, "waiting")


def hurry(machine):
    for server in machine.servers:
        server.delay = 0


def test_pinall_goes_on(t):
    """While all is being pinned QEMU works, and no device has its bit."""
    with t.machine(servers=2) as machine:
        one, two = machine.servers
        guest = Guest(machine)
        begin(t, machine)
        for _ in range(3):
            missing = machine.counter("fallback-missing-bytes")
            t.equal(0 < missing < ALL, True, "some are missing")
            t.equal(machine.qmp("query-status")["running"], True, "QMP")
            t.equal(guest.reg("STATUS"), 0, "a register")
            t.equal(is_master(machine), False, "the bit")
        # The second one waits as well; other bits are set at once.
        machine.config_write(0, 6 << 3, COMMAND, MEMORY | MASTER, size=2)
        t.equal(machine.counter("fallback-waiting"), 2, "waiting")
        t.equal(two.commands[-1][0], MEMORY,
                "what the second device hears")
        t.equal(machine.counter("fallback-active"), 0, "active")
        hurry(machine)
        check_all(t, machine, active=2)
        t.equal((is_master(machine), is_master(machine, devfn=6 << 3)),
                (True, True), "the bits")
        t.equal((one.commands[-1], two.commands[-1]),
                ((MEMORY | MASTER, ALL),) * 2, "all was pinned first")
        t.equal((machine.counter("fallback-missing-bytes"),
                 machine.counter("fallback-pins")), (0, 1), "counters")


def test_pinall_serves(t):
    """Requests of another device are served meanwhile, and keep their pins."""
    with t.machine(servers=2) as machine:
        guest = ready(t, machine, endpoints=(endpoint(0, 6),))
        begin(t, machine)
        high = 500 * MIB
        t.equal(guest.map(high, 4096), ABI.ST_OK, "map")
        t.equal(machine.counter("fallback-waiting"), 1, "it is not over")
        # An ATTACH of the device that waits gives it the bit at once.
        t.equal(guest.attach(FIRST), ABI.ST_OK, "ATTACH")
        t.equal((machine.counter("fallback-waiting"), is_master(machine)),
                (0, True), "the bit")
        hurry(machine)
        settled(machine)
        for server in machine.servers:
            t.equal((high in server.maps, server.violations), (True, []),
                    "what is in use")


def test_pinall_ends(t):
    """What ends it in the middle: nothing hangs, and nothing stays pinned."""
    def off(machine):
        master(machine, False)

    def refuse(machine):
        machine.set("max-pinned", 64 * MIB)
        settled(machine)
        t.equal(len(machine.said("max-pinned is 64 MiB")), 1, "messages")

    def reset(machine):
        machine.reset()
        settled(machine)
        t.equal(machine.counter("fallback-refused"), 0, "refused")

    def own_reset(machine):
        function_reset(t, machine)
        t.equal(machine.counter("fallback-waiting"), 1, "it goes on")
        hurry(machine)
        check_all(t, machine)
        master(machine, False)

    for how in (off, refuse, reset, own_reset):
        with t.machine() as machine:
            begin(t, machine)
            how(machine)
            t.equal(is_master(machine), False, "the bit")
            hurry(machine)
            check_none(t, machine)
            master(machine)
            if how is refuse:
                machine.set("max-pinned", 0)
                master(machine)
            check_all(t, machine)


def test_pinall_unplug(t):
    """The device is unplugged, and QEMU ends, in the middle of it."""
    with t.machine(devices=only_behind_port, extra=NATIVE) as machine:
        server, = machine.servers
        machine.config_write(0, PORT, 0x18, 1 << 16 | 1 << 8)
        begin(t, machine, devfn=0, bus=1)
        unplug(t, machine, "d0")
        hurry(machine)
        t.equal(server.gone.wait(PATIENCE), True, "connection closed")
        t.equal((machine.counter("fallback-busy"),
                 machine.counter("pinned-bytes")), (0, 0), "counters")
        t.equal(server.violations, [], "violations")
    with t.machine() as machine:
        server, = machine.servers
        begin(t, machine)
        t.equal(machine.quit(), 0, "exit status")
        t.equal(len(maps(server)) < BLOCKS, True, "it was not over")


def test_pinall_detach(t):
    """A device that is given up keeps its bit and what it uses, meanwhile."""
    def detach(guest):
        t.equal(guest.detach(FIRST), ABI.ST_OK, "DETACH")

    def disable(guest):
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")

    def reset(guest):
        function_reset(t, guest.machine)

    for how in (detach, disable, reset):
        with t.machine(coiommu=",unpin-policy=timeout,unpin-window=0,"
                               "unpin-interval=1") as machine:
            server, = machine.servers
            guest = ready(t, machine)
            master(machine)
            t.equal(guest.map(500 * MIB, 4096), ABI.ST_OK, "map")
            server.delay = 0.02
            server.take_events()
            how(guest)
            t.equal((machine.counter("fallback-waiting"), is_master(machine)),
                    (1, True), "it waits, with the bit")
            hurry(machine)
            check_all(t, machine)
            t.equal((is_master(machine), unmaps(server)), (True, []),
                    "no gap")


def test_pinall_refuses_detach(t):
    """A device that is given up loses its bit, then its memory."""
    with t.machine() as machine:
        server, = machine.servers
        guest = ready(t, machine)
        master(machine)
        t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map")
        server.fail_at(500 * MIB, errno.EIO)
        t.equal(guest.detach(FIRST), ABI.ST_OK, "DETACH")
        check_none(t, machine)
        t.equal(is_master(machine), False, "the bit")
        t.equal(server.commands[-1][1] >= 2 * MIB, True, "before the unmap")


def test_pinall_toggles(t):
    """A guest that switches the bit off and on pays once."""
    with t.machine(coiommu=LONG) as machine:
        server, = machine.servers
        master(machine)
        t.equal(len(maps(server)), BLOCKS, "maps")
        for _ in range(20):
            master(machine, False)
            t.equal(machine.counter("fallback-active"), 0, "active")
            master(machine)
            t.equal(is_master(machine), True, "the bit")
        machine.reset()
        master(machine)
        check_all(t, machine)
        t.equal((server.take_events(), machine.counter("fallback-pins")),
                ([], 1), "nothing was mapped or unmapped")
        # In the middle of it: what is pinned stays, and it goes on from there.
    with t.machine(coiommu=LONG) as machine:
        server, = machine.servers
        begin(t, machine)
        for _ in range(3):
            before = machine.counter("pinned-bytes")
            machine.config_write(0, 5 << 3, COMMAND, MEMORY, size=2)
            machine.config_write(0, 5 << 3, COMMAND, MEMORY | MASTER, size=2)
            t.equal(machine.counter("pinned-bytes") >= before, True, "pinned")
        hurry(machine)
        check_all(t, machine)
        t.equal((len(maps(server)), unmaps(server)), (BLOCKS, []), "maps")


def test_pinall_delay(t):
    """When no device has needed it for a while, it ends."""
    with t.machine(servers=2, coiommu=",x-fallback-delay=20") as machine:
        master(machine)
        master(machine, False)
        wait(t, lambda: not machine.counter("pinned-bytes"), "unpinned")
        check_none(t, machine)
        # With another one attached: what that uses stays.
        guest = ready(t, machine, endpoints=(endpoint(0, 6),))
        t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map")
        machine.set("unpin-policy", "lazy")
        machine.set("unpin-interval", 3600000)
        master(machine)
        check_all(t, machine)
        master(machine, False)
        wait(t, lambda: machine.counter("pinned-bytes") == 2 * MIB, "unpinned")
        t.equal([server.maps for server in machine.servers],
                [{BASE: 2 * MIB}] * 2, "maps")
    # The last device is unplugged: at once.
    with t.machine(devices=only_behind_port, extra=NATIVE,
                   coiommu=LONG) as machine:
        machine.config_write(0, PORT, 0x18, 1 << 16 | 1 << 8)
        master(machine, bus=1, devfn=0)
        unplug(t, machine, "d0")
        t.equal(machine.counter("pinned-bytes"), 0, "pinned-bytes")


def test_pinall_memory(t):
    """Memory that comes in the middle of it belongs to it."""
    with t.machine(memory="512M,slots=1,maxmem=4G") as machine:
        server, = machine.servers
        begin(t, machine)
        plug_dimm(machine, "a", 128 * MIB, 0)
        t.equal(machine.counter("fallback-waiting"), 1, "it is not over")
        hurry(machine)
        check_all(t, machine, size=ALL + 128 * MIB)
        t.equal(server.commands[-1], (MEMORY | MASTER, ALL + 128 * MIB),
                "before it has the bit")


def test_pinall_fits(t):
    """Where all can't be pinned, nothing is."""
    with t.machine(coiommu=",max-pinned=256M") as machine:
        server, = machine.servers
        server.take_events()
        for _ in range(10):
            master(machine)
            t.equal(is_master(machine), False, "the bit")
        t.equal(server.take_events(), [], "events")
        t.equal(machine.counter("fallback-refused"), 10, "refused")
        t.equal(machine.counter("pinned-bytes-peak"), 0, "pinned")
    with t.machine(coiommu=",block=2M", max_dma_maps=BLOCKS - 1) as machine:
        machine.servers[0].take_events()
        master(machine)
        t.equal(machine.servers[0].take_events(), [], "events")
        t.equal(len(machine.said("no more mappings")), 1, "messages")
    with t.machine(coiommu=",block=2M", max_dma_maps=BLOCKS) as machine:
        master(machine)
        check_all(t, machine)


def test_pinall_no_retry(t):
    """A refusal by the host is not asked for again at once."""
    with t.machine(coiommu=LONG) as machine:
        server, = machine.servers
        server.fail_at(256 * MIB, errno.EIO)
        master(machine)
        check_none(t, machine)
        server.fail_never()
        server.take_events()
        for _ in range(10):
            master(machine)
            t.equal(is_master(machine), False, "the bit")
        t.equal((server.take_events(), machine.counter("fallback-refused")),
                ([], 11), "events")
        # Unless the operator changes something.
        machine.set("max-pinned", 1024 * MIB)
        master(machine)
        check_all(t, machine)


def other_root(folder):
    """A command that runs another with @folder as its cgroups, or None."""
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c",
               'mount --bind "$0" /sys/fs/cgroup && exec "$@"', folder]
    works = subprocess.run([*command, "true"], check=False).returncode == 0
    return command if works else None


def test_pinall_cgroup(t):
    """A memory cgroup that is too small refuses it before its killer would."""
    folder = t.folder()
    prefix = other_root(folder)
    if not prefix:
        t.skip("no mount namespaces here")
    os.mkdir(f"{folder}/memory")
    for limit, fits in ((400 * MIB, False), (1024 * MIB, True)):
        for name in ("memory.max", "memory/memory.limit_in_bytes"):
            with open(f"{folder}/{name}", "w") as file:
                file.write(f"{limit}\n")
        with t.machine(prefix=prefix) as machine:
            master(machine)
            t.equal(is_master(machine), fits, "the bit")
            if fits:
                check_all(t, machine)
            else:
                check_none(t, machine)
                t.equal(len(machine.said("cgroup's limit is 400 MiB",
                                         "max-pinned or fallback=refuse")), 1,
                        "messages")


def legacy_virtio(machine):
    """A device that sets its bus-master bit by itself."""
    return [vfio_user(machine, 0, "d0", addr="6"),
            "virtio-rng-pci,addr=5,disable-legacy=off,disable-modern=on"]


def test_pinall_behind(t):
    """A bit that is set past the device's configuration is seen, too."""
    port, status, driver = 0xc000, 0x12, 3

    def set_again(machine):
        machine.command(f"outb {port + status:#x} {driver}")

    def set_bit(machine):
        machine.config_write(0, 5 << 3, 0x10, port)
        machine.config_write(0, 5 << 3, COMMAND, 1, size=2)
        set_again(machine)

    for fallback in ("pin-all", "refuse"):
        with t.machine(devices=legacy_virtio, coiommu=",x-track-emulated=on,"
                       f"fallback={fallback}") as machine:
            set_bit(machine)
            settled(machine)
            t.equal(machine.traced("coiommu_fallback_caught"), 1, "seen")
            t.equal(is_master(machine), fallback == "pin-all", "the bit")
            if fallback == "refuse":
                check_none(t, machine)
                continue
            check_all(t, machine)
            master(machine, False)
            check_none(t, machine)
            # It has none while not all is pinned.
            machine.servers[0].delay = 0.02
            set_bit(machine)
            wait(t, lambda: machine.counter("fallback-waiting"), "waiting")
            t.equal(is_master(machine), False, "the bit")
            # Nor by doing it again.
            set_again(machine)
            wait(t, lambda: machine.traced("coiommu_fallback_caught") == 3,
                 "seen")
            t.equal((machine.counter("fallback-waiting"), is_master(machine)),
                    (1, False), "the bit")
            hurry(machine)
            check_all(t, machine)
            t.equal(is_master(machine), True, "the bit")
            # While all is pinned for another device it keeps it.
            master(machine, devfn=6 << 3)
            master(machine, False)
            set_bit(machine)
            wait(t, lambda: machine.traced("coiommu_fallback_caught") == 4,
                 "seen")
            check_all(t, machine, active=2)
            t.equal(is_master(machine), True, "the bit")


def test_pinall_thread(t):
    """A write from a thread without the big lock waits for nothing."""
    extra, ringers = Ringer.arguments(t.folder(), (0,))
    with t.machine(devices=lambda machine: vfio_user_row(machine) + ringers,
                   extra=extra) as machine:
        # PCIEXBAR, and the first word of the disk: 0, so it clears the bit.
        machine.config_write(0, 0, 0x60, 0xb0000001)
        ringer = Ringer(machine, 0, 0x1f000000, 0xb0000000 + (5 << 15) + 4)
        begin(t, machine)
        ringer.ring()
        t.equal(ringer.wait(), True, "the write is over")
        hurry(machine)
        check_none(t, machine)


# Where the program below says how far it has come, and counts.
TOLD, COUNT = 0x500, 0x504


def boot_rom(path):
    """
    Firmware that sets the bit of device 5, tells what it finds then, and counts.
    """
    def out(port, value, size):
        return (b"\x66\xb8" + struct.pack("<I", value) + b"\xba" +
                struct.pack("<H", port) +
                (b"\x66\xef" if size == 4 else b"\xef"))

    code = b"\x31\xc0\x8e\xd8"                       # DS = 0
    code += out(0xcf8, 1 << 31 | 5 << 11 | COMMAND, 4)
    code += out(0xcfc, MEMORY | MASTER, 2)
    code += b"\xeb\x00"                               # another block of code
    code += b"\xed\xa3" + struct.pack("<H", TOLD)      # tell what it reads
    code += b"\x66\xff\x06" + struct.pack("<H", COUNT)
    code += b"\xeb\xf9"                               # for ever
    rom = bytearray(65536)
    rom[:len(code)] = code
    rom[0xfff0:0xfff3] = b"\xe9" + struct.pack("<H", 0x10000 - 0xfff3)
    with open(path, "wb") as file:
        file.write(rom)


def word(machine, address):
    text = machine.qmp("human-monitor-command",
                       **{"command-line": f"xp /1wx {address:#x}"})
    return int(text.split(":")[1], 16)


def test_pinall_holds_cpu(t):
    """The CPU that has set the bit goes on when it is set, and can be stopped."""
    rom = f"{t.folder()}/rom"
    boot_rom(rom)
    for how in ("wait", "stop", "reset", "quit"):
        with t.machine(accel="tcg", extra=("-bios", rom, "-S")) as machine:
            server, = machine.servers
            server.delay = 0.02
            machine.qmp("cont")
            wait(t, lambda: machine.counter("fallback-waiting"), "waiting")
            for _ in range(5):
                t.equal((word(machine, TOLD), word(machine, COUNT)), (0, 0),
                        "how far the CPU has come")
                t.equal(machine.qmp("query-status")["running"], True, "QMP")
            if how == "stop":
                machine.qmp("stop")
                machine.qmp("cont")
                t.equal(machine.counter("fallback-waiting"), 1, "waiting")
                t.equal(word(machine, COUNT), 0, "how far the CPU has come")
            elif how == "reset":
                machine.qmp("system_reset")
            elif how == "quit":
                t.equal(machine.quit(), 0, "exit status")
                t.equal(len(maps(server)) < BLOCKS, True, "it was not over")
                continue
            hurry(machine)
            wait(t, lambda: word(machine, COUNT), "the CPU goes on")
            t.equal(word(machine, TOLD) & 0xffff, MEMORY | MASTER, "the bit")
            settled(machine)
            t.equal(server.mapped_bytes(), ALL, "all is pinned")
