#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Be the user of a program that wants a terminal.

    console.py SECONDS COMMAND...

Runs COMMAND on a terminal of its own, waits for a shell's prompt, has the shell
answer something, and leaves it with "exit".  Status 0 if all of that happened
within SECONDS and COMMAND ended with 0.
"""

import os
import pty
import re
import select
import sys
import time


def expect(terminal, pattern, end):
    """Read up to the pattern; everything read is printed."""
    text = b""
    while not re.search(pattern, text):
        left = end - time.monotonic()
        if left <= 0 or not select.select([terminal], [], [], left)[0]:
            sys.exit(f"console.py: no {pattern!r} in time")
        try:
            data = os.read(terminal, 4096)
        except OSError:         # the other side is closed
            data = b""
        if not data:
            sys.exit(f"console.py: the command ended before {pattern!r}")
        os.write(1, data)
        text += data


def main():
    if len(sys.argv) < 3:
        sys.exit("usage:" + __doc__.split("\n\n")[1].replace("    ", " "))
    end = time.monotonic() + float(sys.argv[1])
    pid, terminal = pty.fork()
    if not pid:
        os.execvp(sys.argv[2], sys.argv[2:])
    expect(terminal, rb"~ # ", end)
    os.write(terminal, b"echo the answer is $((6 * 7))\r")
    expect(terminal, rb"the answer is 42", end)
    os.write(terminal, b"exit\r")
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:
            break
        os.write(1, data)
    _, status = os.waitpid(pid, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
