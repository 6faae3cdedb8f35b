#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Be the user of a program that wants a terminal.

    console.py SECONDS COMMAND...

Runs COMMAND on a terminal of its own, waits for a shell's prompt, has the shell
answer something, and leaves it with "exit".  Status 0 if all of that happened
within SECONDS and COMMAND ended with 0.  Nothing of COMMAND is left, however it ends.
"""

import os
import pty
import re
import select
import signal
import sys
import time


def read(terminal, end, what):
    """What comes next, b"" for the end; it is printed."""
    left = end - time.monotonic()
    if left <= 0 or not select.select([terminal], [], [], left)[0]:
        sys.exit(f"console.py: no {what} in time")
    try:
        data = os.read(terminal, 4096)
    except OSError:             # the other side is closed
        data = b""
    os.write(1, data)
    return data


def expect(terminal, pattern, end):
    """Read up to the pattern."""
    text = b""
    while not re.search(pattern, text):
        data = read(terminal, end, repr(pattern))
        if not data:
            sys.exit(f"console.py: the command ended before {pattern!r}")
        text += data


def converse(terminal, end):
    """The user's part, up to the command's end."""
    expect(terminal, rb"~ # ", end)
    os.write(terminal, b"echo the answer is $((6 * 7))\r")
    expect(terminal, rb"the answer is 42", end)
    os.write(terminal, b"exit\r")
    while read(terminal, end, "end"):
        pass


def main():
    if len(sys.argv) < 3:
        sys.exit("usage:" + __doc__.split("\n\n")[1].replace("    ", " "))
    end = time.monotonic() + float(sys.argv[1])
    pid, terminal = pty.fork()
    if not pid:
        os.execvp(sys.argv[2], sys.argv[2:])
    try:
        converse(terminal, end)
    except SystemExit:
        # It leads a process group of its own.
        os.killpg(pid, signal.SIGKILL)
        raise
    _, status = os.waitpid(pid, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
