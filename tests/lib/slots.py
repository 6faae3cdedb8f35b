# SPDX-License-Identifier: GPL-2.0-or-later
"""The slots of tap.sh, of which each test holds one while it runs."""

import contextlib
import fcntl
import os
import time

FOLDER = os.path.join(os.environ["COIOMMU_BUILD"], "locks")


def _take():
    """An open file that is a slot, when our turn comes and one is free."""
    with open(os.path.join(FOLDER, "turn"), "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        while True:
            for number in range(len(os.sched_getaffinity(0))):
                lock = open(os.path.join(FOLDER, f"slot.{number}"), "w")
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return lock
                except BlockingIOError:
                    lock.close()
            time.sleep(0.1)


@contextlib.contextmanager
def slot():
    """Wait for a slot and hold it."""
    os.makedirs(FOLDER, exist_ok=True)
    with _take():
        yield
