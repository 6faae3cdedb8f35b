# SPDX-License-Identifier: GPL-2.0-or-later
"""The slots of tap.sh, of which each test holds one while it runs."""

import contextlib
import fcntl
import os
import time

FOLDER = os.path.join(os.environ["COIOMMU_BUILD"], "locks")


@contextlib.contextmanager
def slot():
    """Wait for a slot and hold it."""
    os.makedirs(FOLDER, exist_ok=True)
    while True:
        for number in range(os.cpu_count()):
            with open(os.path.join(FOLDER, f"slot.{number}"), "w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield
                return
        time.sleep(0.2)
