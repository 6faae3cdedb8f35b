# SPDX-License-Identifier: GPL-2.0-or-later
"""Migration, snapshots, and record and replay."""

import json
import os
import struct

from driver import ABI, BAR, DIRECTORY, SLOTS, Guest, endpoint
from machine import PATIENCE, QemuError, plug_vfio_user, run_once
from test_hotplug import NATIVE, PORT, only_behind_port, unplug
from test_unpin import wait
from vfio_user_server import VfioUserServer

MIB = 1 << 20
BASE = 0x4000000
BLOCKED = "with an assigned device yet: unplug it first"
# A size that is nowhere else in a stream.
SIZE = 511 * MIB


def only_port(machine):
    return ["pcie-root-port,id=rp,addr=7,chassis=1"]


def port_machine(t, servers=1, devices=only_port, extra=(), **arguments):
    return t.machine(servers=servers, devices=devices,
                     extra=(*NATIVE, *extra), **arguments)


def enabled(t, machine):
    """A guest with a table, and bus 1 behind the port."""
    guest = Guest(machine)
    t.equal(guest.enable(SIZE), ABI.ST_OK, "ENABLE")
    machine.config_write(0, PORT, 0x18, 1 << 16 | 1 << 8)
    return guest


def use_device(t, machine, guest, ident):
    """A device that is plugged in works by the guest's table."""
    plug_vfio_user(machine, 0, ident, "rp")
    t.equal(guest.attach(endpoint(1, 0)), ABI.ST_OK, "ATTACH")
    t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map")
    t.equal(machine.servers[0].maps, {BASE: 2 * MIB}, "maps")
    t.equal(guest.pinned(BASE), True, "PINNED")
    guest.unmap(BASE, 4096)


def refused(call):
    """The message of a QMP command that is refused."""
    try:
        call()
    except QemuError as error:
        return str(error)
    return "it was not refused"


def migrated(machine):
    return machine.qmp("query-migrate").get("status") in ("completed",
                                                          "failed")


def save(t, machine, path):
    machine.qmp("migrate", uri=f"file:{path}")
    wait(t, lambda: migrated(machine), "saved")
    t.equal(machine.qmp("query-migrate")["status"], "completed", "migration")


def load(t, machine, path):
    machine.qmp("migrate-incoming", uri=f"file:{path}")
    wait(t, lambda: migrated(machine), "loaded")


def test_migration(t):
    """The guest's table goes along, and devices work with it over there."""
    state = f"{t.folder()}/state"
    with port_machine(t) as machine:
        guest = enabled(t, machine)
        # Not what the table is: for the next ENABLE.
        guest.set_reg("DTT_SIZE", 64 * MIB)
        guest.set_entry(BASE, 3)
        t.equal(guest.command(99), ABI.ST_UNSUPPORTED, "a bad command")
        save(t, machine, state)
    with port_machine(t, extra=("-incoming", "defer")) as machine:
        load(t, machine, state)
        t.equal(machine.read(BAR + ABI.REG_MAGIC, 4), ABI.MAGIC, "the BAR")
        guest = Guest(machine)
        guest.size = SIZE
        t.equal((guest.reg("STATUS"), guest.reg("DTT_SIZE"),
                 guest.reg("ERROR")),
                (ABI.STATUS_ENABLED, 64 * MIB, ABI.ST_UNSUPPORTED),
                "registers")
        t.equal(guest.entry(BASE), 3, "the table")
        t.equal(guest.published(), [], "PINNED")
        use_device(t, machine, guest, "d0")
        # Beyond what the next ENABLE is for.
        t.equal(guest.pin_bytes(SIZE - 4096, 4096), ABI.ST_OK, "PIN")
        t.equal(guest.command(ABI.CMD_ENABLE), ABI.ST_STATE, "ENABLE")
    # A guest that has no table.
    with port_machine(t) as machine:
        save(t, machine, state)
    with port_machine(t, extra=("-incoming", "defer")) as machine:
        load(t, machine, state)
        guest = enabled(t, machine)
        use_device(t, machine, guest, "d0")


def test_migration_blocked(t):
    """Refused as long as there is a device, and not for longer."""
    state = f"{t.folder()}/state"
    with port_machine(t, devices=only_behind_port) as machine:
        guest = enabled(t, machine)
        for ident in ("d0", "d1"):
            message = refused(lambda: machine.qmp("migrate",
                                                  uri=f"file:{state}"))
            t.equal(BLOCKED in message, True, message)
            reasons = machine.qmp("query-migrate")["blocked-reasons"]
            t.equal([BLOCKED in reason for reason in reasons], [True],
                    "reasons")
            t.equal(os.path.exists(state), False, "a file")
            unplug(t, machine, ident)
            t.equal(machine.servers[0].gone.wait(PATIENCE), True,
                    "connection closed")
            t.equal("blocked-reasons" in machine.qmp("query-migrate"), False,
                    "reasons when it has gone")
            if ident == "d0":
                use_device(t, machine, guest, "d1")
        save(t, machine, state)
    # One that doesn't come in blocks nothing.
    with port_machine(t, servers=0) as machine:
        refused(lambda: machine.qmp(
            "device_add", driver="vfio-user-pci", bus="rp", id="none",
            socket={"type": "unix", "path": f"{state}.none"}))
        save(t, machine, state)


def monitor(machine, line):
    return machine.qmp("human-monitor-command", **{"command-line": line})


def add_disk(t, machine, folder):
    """A qcow2 file that snapshots can go to."""
    def create(**options):
        machine.qmp("blockdev-create", **{"job-id": "create"},
                    options=options)
        wait(t, lambda: machine.qmp("query-jobs")[0]["status"] == "concluded",
             "created")
        t.equal("error" in machine.qmp("query-jobs")[0], False, "the job")
        machine.qmp("job-dismiss", id="create")

    path = f"{folder}/disk"
    create(driver="file", filename=path, size=0)
    machine.qmp("blockdev-add", driver="file", filename=path,
                **{"node-name": "file"})
    create(driver="qcow2", file="file", size=1 << 30)
    machine.qmp("blockdev-add", driver="qcow2", file="file",
                **{"node-name": "disk"})


def test_snapshot(t):
    """savevm refuses cleanly with a device; without, loadvm brings it back."""
    with port_machine(t) as machine:
        add_disk(t, machine, t.folder())
        guest = enabled(t, machine)
        t.equal(monitor(machine, "savevm one"), "", "savevm")
        use_device(t, machine, guest, "d0")
        message = monitor(machine, "savevm two")
        t.equal(BLOCKED in message and message.count("\n") <= 2, True, message)
        t.equal("two" in monitor(machine, "info snapshots"), False,
                "a snapshot")
        t.equal(machine.qmp("query-status")["status"], "running", "status")
        t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map")
        unplug(t, machine, "d0")
        t.equal(machine.servers[0].gone.wait(PATIENCE), True,
                "connection closed")
        # Another table, and back to the first.
        t.equal(guest.disable(), ABI.ST_OK, "DISABLE")
        t.equal(guest.enable(64 * MIB), ABI.ST_OK, "ENABLE")
        t.equal(monitor(machine, "loadvm one"), "", "loadvm")
        t.equal((guest.reg("STATUS"), guest.reg("DTT_SIZE")),
                (ABI.STATUS_ENABLED, SIZE), "registers")
        guest.size = SIZE
        t.equal(guest.entry(BASE), 0, "the table")
        use_device(t, machine, guest, "d1")
        # To a time when the device was not there: nothing of it is left.
        t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map")
        t.equal(monitor(machine, "loadvm one"), "", "loadvm")
        t.equal((machine.servers[0].maps, machine.counter("pinned-bytes"),
                 guest.published()), ({}, 0, []), "pins")
        t.equal(guest.attach(endpoint(1, 0)), ABI.ST_OK, "ATTACH")
        t.equal(guest.map(BASE, 4096), ABI.ST_OK, "map")
        t.equal(machine.servers[0].maps, {BASE: 2 * MIB}, "maps")


def test_migration_hostile(t):
    """What a stream says of the table is checked as what a guest says."""
    folder = t.folder()
    small = {"servers": 0, "memory": "64M"}
    with port_machine(t, **small) as machine:
        enabled(t, machine)
        save(t, machine, f"{folder}/state")
    with open(f"{folder}/state", "rb") as file:
        stream = file.read()
    good = (ABI.F_ACCESSED | ABI.F_PARTIAL, DIRECTORY, SIZE, SLOTS, 2)
    taken = stream.rfind(struct.pack(">5Q", *good))
    t.equal(taken > stream.find(struct.pack(">5Q", *good)) > 0, True,
            "registers twice, in the stream")
    for bad, status in (((1 << 63, *good[1:]), ABI.ST_FEATURE),
                        ((1, DIRECTORY + 8, *good[2:]), ABI.ST_INVALID),
                        ((1, DIRECTORY, 0, SLOTS, 2), ABI.ST_INVALID),
                        ((1, DIRECTORY, 1 << 63, SLOTS, 2), ABI.ST_RANGE),
                        ((1, DIRECTORY, SIZE, SLOTS, 4097), ABI.ST_INVALID),
                        ((1, 1 << 40, *good[2:]), ABI.ST_RANGE),
                        ((1, DIRECTORY, SIZE, (1 << 64) - 8, 2),
                         ABI.ST_RANGE)):
        with open(f"{folder}/bad", "wb") as file:
            file.write(stream[:taken] + struct.pack(">5Q", *bad) +
                       stream[taken + 40:])
        with port_machine(t, extra=("-incoming", "defer"),
                          **small) as machine:
            machine.qmp("migrate-incoming", uri=f"file:{folder}/bad")
            t.equal(machine.process.wait(PATIENCE), 1, "exit status")
            t.equal(len(machine.said("table is not valid here",
                                     f"(status {status})")), 1,
                    f"the message for {bad}")
    # A register holds no more than the guest can write to it.
    rest = stream.find(struct.pack(">5Q", *good)) + 40
    with open(f"{folder}/bad", "wb") as file:
        file.write(stream[:rest - 8] + struct.pack(">Q", 1 << 32 | 2) +
                   stream[rest:])
    with port_machine(t, extra=("-incoming", "defer"), **small) as machine:
        load(t, machine, f"{folder}/bad")
        guest = Guest(machine)
        t.equal(guest.command(ABI.CMD_DISABLE), ABI.ST_OK, "DISABLE")
        t.equal(guest.reg("REQ_SLOTS"), 2, "REQ_SLOTS")
        t.equal(guest.command(ABI.CMD_ENABLE), ABI.ST_OK, "ENABLE")
    for option in ("unit=4K", "block=1M"):
        with port_machine(t, coiommu=f",{option}",
                          extra=("-incoming", "defer"), **small) as machine:
            machine.qmp("migrate-incoming", uri=f"file:{folder}/state")
            t.equal(machine.process.wait(PATIENCE), 1, "exit status")
            t.equal(len(machine.said("units of 2^16 and blocks of 2^21",
                                     "with the same unit")), 1,
                    f"the message for {option}")


def test_replay_mode(t):
    """Record and replay: not with devices, and without them as ever."""
    folder = t.folder()
    server = VfioUserServer(f"{folder}/socket", t.log)
    device = json.dumps({"driver": "vfio-user-pci",
                         "socket": {"type": "unix", "path": server.path}})
    machine = ["-M", "q35", "-device", "coiommu", "-monitor", "stdio"]
    for mode in ("record", "replay"):
        icount = ["-icount", f"shift=1,rr={mode},rrfile={folder}/log"]
        result = run_once(t.binary, t.log, machine + icount, "quit\n",
                          accel="tcg")
        t.equal((result.returncode, result.stderr), (0, ""), mode)
        result = run_once(t.binary, t.log,
                          machine + icount + ["-device", device],
                          accel="tcg")
        t.equal((result.returncode,
                 "coiommu does not support record/replay with assigned "
                 "devices" in result.stderr), (1, True), result.stderr)
    server.close()
