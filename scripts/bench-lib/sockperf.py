# SPDX-License-Identifier: GPL-2.0-or-later
"""The other end of a guest's TCP messages."""

import socket
import subprocess


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
