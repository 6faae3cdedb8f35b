# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU that is driven from here, by QMP and by other sockets.

QEMU's own python/qemu would do for QMP, but takes three times as long for a
command, and lies in the source of the QEMU that is tested, if at all.
"""

import json
import os
import socket
import subprocess
import tempfile
import time

# Seconds after which what is waited for is taken to be lost.  It is no measure
# of anything: a host may be slow, or stand still for a while.
PATIENCE = 300


class QemuError(Exception):
    """A QMP command failed."""


class Qemu:
    """A QEMU with a folder of its own; use it in a with statement.

    chardev() makes sockets, then launch() starts QEMU, and accept() has the other
    ends.  What QEMU has told by QMP since the last command is in self.events.
    """

    def __init__(self, prefix):
        self.folder = tempfile.TemporaryDirectory(prefix=prefix)
        self.process = None
        self.listeners = {}
        self.events = []

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def chardev(self, name):
        """Arguments for a character device that is a socket to here."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path(name))
        listener.listen(1)
        listener.settimeout(1)
        self.listeners[name] = listener
        return ["-chardev", f"socket,id={name},path={self.path(name)}"]

    def launch(self, command, **options):
        """Run the command, with a monitor; options are those of Popen."""
        self.process = subprocess.Popen(
            [*command, *self.chardev("qmp"), "-mon",
             "chardev=qmp,mode=control"], **options)
        self._qmp = self.accept("qmp", 2 * PATIENCE).makefile("rw")
        self._qmp.readline()
        self.qmp("qmp_capabilities")

    def accept(self, name, timeout=None):
        """The socket of a character device; timeout: of what is done with it."""
        end = time.monotonic() + PATIENCE
        with self.listeners.pop(name) as listener:
            while True:
                try:
                    connection = listener.accept()[0]
                    connection.settimeout(timeout)
                    return connection
                except socket.timeout:
                    if not self.alive() or time.monotonic() > end:
                        raise OSError("QEMU did not start: see its message "
                                      "above") from None

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def qmp(self, command, **arguments):
        """The result of a command."""
        self.events = []
        self._qmp.write(json.dumps({"execute": command,
                                    "arguments": arguments}) + "\n")
        self._qmp.flush()
        while True:
            line = self._qmp.readline()
            if not line:
                raise OSError("QEMU has closed the monitor")
            reply = json.loads(line)
            if "error" in reply:
                raise QemuError(reply["error"]["desc"])
            if "return" in reply:
                return reply["return"]
            self.events.append(reply["event"])

    def close(self):
        """End QEMU: its exit status, or None if it was never started."""
        if self.alive():
            self.process.kill()
        status = self.process and self.process.wait()
        self.folder.cleanup()
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
