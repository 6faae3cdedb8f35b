# SPDX-License-Identifier: GPL-2.0-or-later
"""The other end of a guest's TCP messages."""

import contextlib
import socket
import subprocess

# The rig's gateway, which is L0.
GATEWAY = "10.0.2.2"


class Sockperf:
    """The server, on this machine."""

    def __init__(self, log):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            ["sockperf", "server", "--tcp", "-i", "127.0.0.1",
             "-p", str(self.port)], stdout=log, stderr=log)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def peer(bench):
    """ADDRESS:PORT of a server that an assigned NIC reaches, or None."""
    if bench.options.host_devices:
        yield bench.options.peer
    else:
        with Sockperf(bench.log) as server:
            yield f"{GATEWAY}:{server.port}"
