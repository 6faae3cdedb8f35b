# SPDX-License-Identifier: GPL-2.0-or-later
"""A vfio-user server that misbehaves at random, and shows what is unmapped.

INJECTIONS is the one list of what a server does to QEMU.
"""

import errno
import struct
import threading

from vfio_user_server import (COMMAND, CONFIG_REGION, Failure,
                              VfioUserServer)

STATUS = 6

INJECTIONS = {
    "refused": "a map is refused, and nothing is mapped",
    "replay": "the same while a device is plugged in",
    "slow": "maps are answered after some milliseconds",
    "unknown": "a map is answered with an error, and is there all the same",
    "kept": "an unmap is refused, and the map stays",
    "gone": "the server of the plugged device dies",
}
ENABLED = set(INJECTIONS)

# Seconds that a slow map takes.
SLOW = 0.004
ERRORS = (errno.ENOMEM, errno.ENOSPC, errno.EPERM, errno.EFAULT, errno.EIO)


class RandomServer(VfioUserServer):
    """Its maps may be looked at by other threads at any time."""

    def __init__(self, path, log, max_dma_maps=65535):
        self._lock = threading.RLock()
        self.on_unmap = None    # called with (iova, size) of what goes
        self.unknown = 0        # so many maps to come are there, and refused
        self.kept = 0           # so many unmaps to come are refused
        self.slow = 0           # so many maps to come take their time
        super().__init__(path, log, max_dma_maps)

    def take(self):
        """A copy of the maps."""
        with self._lock:
            return dict(self.maps)

    def covers(self, start, size):
        """Is each byte of the range mapped?"""
        with self._lock:
            at = start
            for iova in list(self._touched(start, start + size)):
                if iova > at:
                    return False
                at = iova + self.maps[iova]
            return at >= start + size

    def behave(self):
        """No injection is left."""
        with self._lock:
            self.fail_never()
            self.slow = self.unknown = self.kept = 0

    def _event(self, what, iova, size, error):
        # Not kept, as there are millions of them in ten minutes.
        print(f"{self.path}: {what} {iova:#x} size {size:#x} errno {error}",
              file=self.log)
        if error:
            raise Failure(error)
        if what == "unmap" and self.on_unmap:
            self.on_unmap(iova, size)

    def _region_write(self, body):
        # As in a real device the guest can't write what the device is.  QEMU
        # would not survive another header type, or an interrupt pin that was
        # not there when the device was realized.
        offset, region, count = struct.unpack_from("<QII", body)
        if region == CONFIG_REGION and not COMMAND <= offset < STATUS:
            return body[:16]
        return super()._region_write(body)

    def _map(self, body):
        with self._lock:
            self.delay = SLOW if self.slow else 0
            self.slow = max(self.slow - 1, 0)
            reply = super()._map(body)
            if self.unknown:
                self.unknown -= 1
                self.doubted.add(struct.unpack_from("<Q", body, 16)[0])
                raise Failure(errno.ENOMEM)
            return reply

    def _unmap(self, body):
        with self._lock:
            if self.kept:
                self.kept -= 1
                self.doubted.add(struct.unpack_from("<Q", body, 8)[0])
                # Not EIO: QEMU says that of a server that doesn't answer.
                raise Failure(errno.EBUSY)
            return super()._unmap(body)
