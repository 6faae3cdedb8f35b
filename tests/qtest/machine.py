# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU under qtest: no guest code runs, the test is the guest's CPU."""

import json
import os
import re
import subprocess

from qemu import Qemu, QemuError  # noqa: F401 (the tests')
from vfio_user_server import PATIENCE, VfioUserServer

CONFIG_ADDRESS, CONFIG_DATA = 0xcf8, 0xcfc

# What the address sanitizer says once of any program with coroutines.  QEMU
# tells it of their stacks, so there is nothing in it.
SWAPCONTEXT = re.compile(r"^==\d+==WARNING: ASan doesn't fully support "
                         r"makecontext/swapcontext .*\n", re.M)


class Machine(Qemu):
    """A q35 machine with a coiommu device in slot 4.

    servers: how many vfio-user servers there are.
    max_dma_maps: how many maps a server holds, or a list with that of each.
    devices: a function that takes the machine and returns the arguments of
    -device that follow coiommu; by default a vfio-user device for each server,
    from slot 5 on.
    coiommu: more options of the device, from a comma on; None: no such device.
    backend: what its memory is.
    nodes: sizes in bytes of the NUMA nodes that it is divided into, if any.
    server: the class of its servers.
    accel: the accelerator; with another one than qtest the machine has a CPU.
    prefix: a command that runs QEMU.  Use it as a context manager.
    """

    def __init__(self, binary, log, coiommu="", memory="512M", servers=1,
                 devices=None, extra=(), max_dma_maps=65535,
                 backend="memory-backend-memfd,share=on",
                 server=VfioUserServer, accel="qtest", prefix=(), nodes=()):
        super().__init__("coiommu-qtest-")
        self.log = log
        self.servers = [
            server(self.path(f"vfio-user-{i}"), log,
                   max_dma_maps[i] if isinstance(max_dma_maps, list)
                   else max_dma_maps)
            for i in range(servers)]
        command = [
            *prefix, binary, "-accel", accel,
            "-nodefaults", "-display", "none", "-m", memory,
            *ram(backend, memory.split(",")[0], nodes),
            *self.chardev("qtest"), "-qtest", "chardev:qtest",
            "-qtest-log", "/dev/null",
            "-trace", "coiommu_*", "-D", self.path("trace"), *extra]
        # A test that doesn't ask for unpinning must not meet it, nor pins that
        # it didn't ask for or that are no longer needed, nor what goes on in
        # the host.
        if coiommu is not None:
            command += ["-device",
                        "coiommu,id=iommu,addr=4,unpin-policy=off,pressure=off,"
                        f"ahead=0,escape-threshold=0,x-fallback-delay=0{coiommu}"]
        for device in (devices or vfio_user_row)(self):
            command += ["-device", device]
        print(" ".join(command), file=log, flush=True)
        try:
            with open(self.path("stderr"), "w") as stderr:
                self.launch(command, stderr=stderr)
            self._qtest = self.accept("qtest", 2 * PATIENCE).makefile("rw")
        except (OSError, ValueError):
            self.kill()
            raise

    def __exit__(self, *_):
        self.kill()

    # ---- life ----

    def quit(self):
        """Ask QEMU to end, return its exit status."""
        self.qmp("quit")
        return self.process.wait(PATIENCE)

    def kill(self):
        if self.alive():
            self.process.kill()
        status = self.process.wait()
        print(f"QEMU ended with {status}", file=self.log)
        for server in self.servers:
            server.close()
        self.log.write("".join(self.said()))
        if os.path.exists(self.path("trace")):
            with open(self.path("trace"), errors="replace") as trace:
                lines = [line for line in trace if "_register_" not in line]
                self.log.write("".join(lines[-3000:]))
        self.close()

    def said(self, *words):
        """The lines that QEMU has printed so far that have these words."""
        with open(self.path("stderr"), errors="replace") as stderr:
            return [line for line in stderr
                    if all(word in line for word in words)]

    def traced(self, event):
        """How often a trace event has come up.  QEMU flushes each line."""
        with open(self.path("trace"), errors="replace") as trace:
            return sum(f"{event} " in line for line in trace)

    def traces(self, event):
        """The texts of a trace event, as far as it has come up."""
        with open(self.path("trace"), errors="replace") as trace:
            return [line.partition(f"{event} ")[2].strip() for line in trace
                    if f"{event} " in line]

    # ---- QMP ----

    def counter(self, name):
        return self.qmp("qom-get", path="/machine/peripheral/iommu",
                        property=name)

    def set(self, name, value):
        """Change a setting of the device while it runs."""
        self.qmp("qom-set", path="/machine/peripheral/iommu", property=name,
                 value=value)

    def reset(self):
        self.qmp("system_reset")
        # The reset is done by the main loop: it is over when QMP answers the
        # next event-loop round trip after RESET.
        self.qmp("query-status")
        self.command("clock_step 1")

    # ---- memory, I/O ports, PCI ----

    def command(self, *texts):
        """
        Have qtest commands done: the result of the last one.  QEMU gets them at
        once, and keeps its big lock from the first to the last.
        """
        self._qtest.write("".join(f"{text}\n" for text in texts))
        self._qtest.flush()
        return [self._answer(text) for text in texts][-1]

    def _answer(self, text):
        while True:
            line = self._qtest.readline()
            if not line:
                raise OSError("QEMU has closed the qtest socket")
            words = line.split()
            if words and words[0] != "IRQ":
                if words[0] != "OK":
                    raise OSError(f"qtest: {text}: {line}")
                return words[1] if len(words) > 1 else None

    def read(self, address, size):
        letter = {1: "b", 2: "w", 4: "l", 8: "q"}[size]
        return int(self.command(f"read{letter} {address:#x}"), 16)

    def write(self, address, size, value):
        letter = {1: "b", 2: "w", 4: "l", 8: "q"}[size]
        self.command(f"write{letter} {address:#x} {value:#x}")

    def read_bytes(self, address, size):
        return bytes.fromhex(
            self.command(f"read {address:#x} {size:#x}")[2:])

    def write_bytes(self, address, data):
        self.command(f"write {address:#x} {len(data):#x} 0x{data.hex()}")

    def config_read(self, bus, devfn, offset, size=4):
        self.command(f"outl {CONFIG_ADDRESS:#x} "
                     f"{1 << 31 | bus << 16 | devfn << 8 | offset & ~3:#x}")
        letter = {1: "b", 2: "w", 4: "l"}[size]
        port = CONFIG_DATA + (offset & 3)
        return int(self.command(f"in{letter} {port:#x}"), 16)

    def config_write(self, bus, devfn, offset, value, size=4):
        self.command(f"outl {CONFIG_ADDRESS:#x} "
                     f"{1 << 31 | bus << 16 | devfn << 8 | offset & ~3:#x}")
        letter = {1: "b", 2: "w", 4: "l"}[size]
        port = CONFIG_DATA + (offset & 3)
        self.command(f"out{letter} {port:#x} {value:#x}")


def ram(backend, size, nodes):
    """Arguments for a q35 with memory of one backend, or one a node."""
    if not nodes:
        return ["-M", "q35,memory-backend=ram",
                "-object", f"{backend},id=ram,size={size}"]
    arguments = ["-M", "q35"]
    for i, bytes_ in enumerate(nodes):
        arguments += ["-object", f"{backend},id=ram{i},size={bytes_}",
                      "-numa", f"node,nodeid={i},memdev=ram{i}"]
    return arguments


def vfio_user(machine, server, ident, bus="pcie.0", addr=None, **more):
    """The -device argument for a vfio-user device."""
    # QEMU is as patient with our servers, which are threads of the test.
    device = {"driver": "vfio-user-pci", "id": ident, "bus": bus,
              "x-msg-timeout": PATIENCE * 1000,
              "socket": {"type": "unix",
                         "path": machine.servers[server].path}, **more}
    if addr is not None:
        device["addr"] = addr
    return json.dumps(device)


def vfio_user_row(machine):
    """A device for each server, from slot 5 on."""
    return [vfio_user(machine, i, f"d{i}", addr=f"{5 + i}")
            for i in range(len(machine.servers))]


def plug_vfio_user(machine, server, ident, bus):
    """Plug one in while the machine runs."""
    machine.qmp("device_add", **json.loads(
        vfio_user(machine, server, ident, bus)))


def run_once(binary, log, arguments, stdin="", accel="qtest"):
    """Run QEMU to its end: what subprocess.run returns."""
    command = [binary, "-display", "none", "-nodefaults", "-accel", accel,
               *arguments]
    print(" ".join(command), file=log, flush=True)
    result = subprocess.run(command, capture_output=True, text=True,
                            timeout=2 * PATIENCE, input=stdin, check=False)
    result.stderr = SWAPCONTEXT.sub("", result.stderr)
    print(result.stdout, result.stderr, file=log)
    return result
