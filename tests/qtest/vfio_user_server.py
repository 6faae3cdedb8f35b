# SPDX-License-Identifier: GPL-2.0-or-later
"""A vfio-user server: a PCI device that does nothing but watch its IOMMU.

It stands where the kernel's VFIO and a real device would be.  It records each
DMA_MAP and DMA_UNMAP, refuses what type1 would refuse (a map over a map, an
unmap of a part of a map), fails maps on demand, and can do DMA by messages,
which QEMU sends through the device's address space.

The server runs in a thread of the test.  QEMU waits for the reply to a map, so
when a doorbell write has returned, all of its maps are in `maps` and `events`.
"""

import array
import bisect
import errno
import json
import os
import queue
import socket
import struct
import threading
import time

VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, REGION_INFO = 1, 2, 3, 4, 5
IRQ_INFO, SET_IRQS, REGION_READ, REGION_WRITE = 7, 8, 9, 10
DMA_READ, DMA_WRITE, RESET = 11, 12, 13

HEADER = struct.Struct("<HHIII")
TYPE_MASK, REPLY, NO_REPLY, ERROR = 0xF, 0x1, 0x10, 0x20
UNMAP_ALL = 2

CONFIG_REGION = 7
CONFIG_SIZE = 256
COMMAND = 4

# Seconds after which what a test waits for is taken to be lost.  It is no
# measure of anything: a machine may be slow, or stand still for a while.
PATIENCE = 120


class Failure(Exception):
    """The reply to a message is this errno."""


class VfioUserServer:
    """One device behind one socket; QEMU may connect again after unplug."""

    def __init__(self, path, log, max_dma_maps=65535):
        self.path = path
        self.log = log
        self.max_dma_maps = max_dma_maps
        self.max_bytes = 1 << 64        # as a memlock limit
        self.maps = {}          # iova -> size
        self.fds = []           # that came with the message at hand
        self._order = []        # iovas of maps, ascending
        self.events = []        # ("map"|"unmap", iova, size, errno)
        self.violations = []    # what type1 would have refused
        self.doubted = set()    # iovas of which QEMU can't know: no violations
        self.commands = []      # (PCI_COMMAND as written, bytes mapped then)
        self.resets = 0
        self.asked = 0          # how many maps QEMU has asked for
        self.silent = False     # receive everything, answer nothing
        self.die_at = None      # the command that is the last one
        self.delay = 0          # seconds, before the reply to a map
        self.connected = threading.Event()
        self.gone = threading.Event()
        self.held = threading.Event()
        self._hold_at = set()   # iovas of maps that get no reply yet
        self._held_replies = []
        self._fail_at = {}      # iova -> errno
        self._lie_at = set()    # of these, iovas that are mapped all the same
        self._stick_at = {}     # iova -> errno of its unmap
        self._fail_nth = {}     # number of a coming map, from 1 -> errno
        self._fail_command = {}  # command -> errno
        self._replies = queue.Queue()
        self._send_lock = threading.Lock()
        self._hold_lock = threading.Lock()  # guards what is held
        self._connection = None
        self._config = bytearray(CONFIG_SIZE)
        struct.pack_into("<HH", self._config, 0, 0x1234, 0xd0d0)
        self._config[0x0b] = 0xff
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(1)
        threading.Thread(target=self._serve, daemon=True).start()

    # ---- for tests ----

    def fail_at(self, iova, error):
        """Fail each map at this address."""
        self._fail_at[iova] = error

    def lie_at(self, iova, error):
        """Map at this address, and say that it has failed."""
        self._fail_at[iova] = error
        self._lie_at.add(iova)
        self.doubted.add(iova)

    def stick_at(self, iova, error):
        """Refuse each unmap at this address."""
        self._stick_at[iova] = error
        self.doubted.add(iova)

    def die(self):
        """Close the connection, as a process does that has died."""
        self._connection.shutdown(socket.SHUT_RDWR)
        self.gone.wait(PATIENCE)
        # Its memory, and what is mapped there, has gone with it.
        self.maps.clear()
        self._order.clear()

    def babble(self):
        """Send what is no message."""
        with self._send_lock:
            self._connection.sendall(bytes(HEADER.size))

    def fail_nth(self, nth, error):
        """Fail the nth map from now, counting from 1."""
        self._fail_nth[nth] = error

    def fail_command(self, command, error):
        """Fail each message of this kind."""
        self._fail_command[command] = error

    def hold_at(self, iova):
        """Don't reply to maps at this address until release()."""
        self.held.clear()
        with self._hold_lock:
            self._hold_at.add(iova)

    def release(self):
        with self._hold_lock:
            self._hold_at.clear()
            replies, self._held_replies = self._held_replies, []
        with self._send_lock:
            for reply in replies:
                self._connection.sendall(reply)

    def fail_never(self):
        self._fail_at.clear()
        self._fail_nth.clear()
        self._fail_command.clear()
        self._lie_at.clear()
        self._stick_at.clear()

    def mapped_bytes(self):
        return sum(self.maps.values())

    def take_events(self):
        """The events since the last call."""
        events, self.events = self.events, []
        return events

    def dma_read(self, iova, size):
        """Bytes, or the errno that QEMU answered."""
        reply = self._dma(DMA_READ, struct.pack("<QI", iova, size))
        return reply if isinstance(reply, int) else reply[12:12 + size]

    def dma_write(self, iova, data):
        """0, or the errno that QEMU answered."""
        reply = self._dma(DMA_WRITE,
                          struct.pack("<QI", iova, len(data)) + data)
        return reply if isinstance(reply, int) else 0

    def close(self):
        """QEMU is gone: wait until everything that it sent has been seen."""
        self._listener.close()
        if self.connected.is_set():
            self.gone.wait(PATIENCE)

    # ---- the protocol ----

    def _dma(self, command, body):
        # QEMU wants a message as long as its struct, whose last 4 bytes are
        # padding that the data begins in.
        body += bytes(4)
        with self._send_lock:
            self._connection.sendall(
                HEADER.pack(0x7000 + command, command, 16 + len(body), 0, 0) +
                body)
        flags, error, reply = self._replies.get(timeout=PATIENCE)
        if flags & ERROR:
            return error
        return reply

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connection = connection
            self.gone.clear()
            self.connected.set()
            try:
                while self._message(connection):
                    pass
            except OSError as error:
                print(f"{self.path}: {error}", file=self.log)
            print(f"{self.path}: gone, {len(self.maps)} maps left",
                  file=self.log)
            connection.close()
            # Who has seen that it is gone doesn't find it connected.
            self.connected.clear()
            self.gone.set()

    def _receive(self, connection, size, fds):
        data = b""
        while len(data) < size:
            chunk, ancillary, _, _ = connection.recvmsg(
                size - len(data), socket.CMSG_SPACE(16 * 4))
            if not chunk:
                return None
            for level, kind, payload in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    received = array.array("i")
                    received.frombytes(payload)
                    fds.extend(received)
            data += chunk
        return data

    def _message(self, connection):
        header = self._receive(connection, HEADER.size, self.fds)
        if header is None:
            return False
        ident, command, size, flags, error = HEADER.unpack(header)
        body = self._receive(connection, size - HEADER.size, self.fds)
        if body is None:
            return False
        if flags & TYPE_MASK == REPLY:
            self._replies.put((flags, error, body))
            return True
        try:
            reply, error = self._dispatch(command, body), 0
        except Failure as failure:
            reply, error = b"", failure.args[0]
        finally:
            while self.fds:
                os.close(self.fds.pop())
        if not flags & NO_REPLY and not self.silent:
            out = HEADER.pack(ident, command, HEADER.size + len(reply),
                              REPLY | (ERROR if error else 0), error)
            if command == DMA_MAP:
                if self._hold(struct.unpack_from("<Q", body, 16)[0],
                              out + reply):
                    return True
                time.sleep(self.delay)
            if command == self.die_at:
                # Already before the reply nothing can be sent to it any more.
                connection.shutdown(socket.SHUT_RD)
            with self._send_lock:
                connection.sendall(out + reply)
        return command != self.die_at

    def _hold(self, iova, reply):
        """Keep a reply until release(), if this map is to be held."""
        with self._hold_lock:
            if iova not in self._hold_at:
                return False
            self._held_replies.append(reply)
        self.held.set()
        return True

    def _dispatch(self, command, body):
        handlers = {
            VERSION: self._version,
            DMA_MAP: self._map,
            DMA_UNMAP: self._unmap,
            GET_INFO: lambda body: struct.pack("<IIII", 16, 3, 9, 5),
            REGION_INFO: self._region_info,
            IRQ_INFO: self._irq_info,
            SET_IRQS: lambda body: b"",
            REGION_READ: self._region_read,
            REGION_WRITE: self._region_write,
            RESET: self._reset,
        }
        if command not in handlers:
            raise Failure(errno.EOPNOTSUPP)
        if command in self._fail_command:
            raise Failure(self._fail_command[command])
        return handlers[command](body)

    def _version(self, body):
        capabilities = {"max_msg_fds": 8, "max_data_xfer_size": 1 << 20,
                        "max_dma_maps": self.max_dma_maps, "pgsizes": 4096}
        return (struct.pack("<HH", 0, 0) +
                json.dumps({"capabilities": capabilities}).encode() + b"\0")

    def _event(self, what, iova, size, error):
        self.events.append((what, iova, size, error))
        print(f"{self.path}: {what} {iova:#x} size {size:#x} errno {error}",
              file=self.log)
        if error:
            raise Failure(error)

    def _map_error(self, iova, size):
        self._fail_nth = {n - 1: e for n, e in self._fail_nth.items()}
        if 0 in self._fail_nth:
            return self._fail_nth.pop(0)
        if iova in self._fail_at:
            return self._fail_at[iova]
        if iova % 4096 or size % 4096 or not size:
            self.violations.append(f"map {iova:#x} size {size:#x}: alignment")
            return errno.EINVAL
        for other in self._touched(iova, iova + size):
            if iova not in self.doubted:
                self.violations.append(
                    f"map {iova:#x} size {size:#x} over {other:#x} "
                    f"size {self.maps[other]:#x}")
            return errno.EEXIST
        if len(self.maps) >= self.max_dma_maps:
            return errno.ENOSPC
        if self.mapped_bytes() + size > self.max_bytes:
            return errno.ENOMEM
        return 0

    def _touched(self, start, end):
        """The maps that have a byte in [start, end)."""
        first = bisect.bisect_right(self._order, start)
        if first and self._order[first - 1] + \
                self.maps[self._order[first - 1]] > start:
            first -= 1
        return self._order[first:bisect.bisect_left(self._order, end)]

    def _map(self, body):
        _, _, _, iova, size = struct.unpack("<IIQQQ", body)
        self.asked += 1
        error = self._map_error(iova, size)
        if not error or iova in self._lie_at:
            self.maps[iova] = size
            bisect.insort(self._order, iova)
        self._event("map", iova, size, error)
        return b""

    def _unmap(self, body):
        _, flags, iova, size = struct.unpack("<IIQQ", body)
        end = 1 << 64 if flags & UNMAP_ALL else iova + size
        error = self._stick_at.get(iova, 0)
        inside = self._touched(iova, end)
        for other in inside:
            length = self.maps[other]
            if other < iova or end < other + length:
                error = errno.EINVAL
                self.violations.append(f"unmap {iova:#x} size {size:#x} cuts "
                                       f"{other:#x} size {length:#x}")
        if not error:
            for other in inside:
                del self.maps[other]
                self._order.remove(other)
        self._event("unmap", iova, size, error)
        return body

    def _region_info(self, body):
        index = struct.unpack_from("<I", body, 8)[0]
        size, flags = (CONFIG_SIZE, 3) if index == CONFIG_REGION else (0, 0)
        return struct.pack("<IIIIQQ", 32, flags, index, 0, size, 0)

    def _irq_info(self, body):
        index = struct.unpack_from("<I", body, 8)[0]
        return struct.pack("<IIII", 16, 0, index, 0)

    def _region_read(self, body):
        offset, region, count = struct.unpack_from("<QII", body)
        data = bytes(count)
        if region == CONFIG_REGION:
            data = bytes(self._config[offset:offset + count]).ljust(count,
                                                                    b"\0")
        return body[:16] + data

    def _region_write(self, body):
        offset, region, count = struct.unpack_from("<QII", body)
        # Identity and class stay as they are.
        if region == CONFIG_REGION and 4 <= offset < CONFIG_SIZE - count and \
                offset not in (8, 9, 10, 11):
            self._config[offset:offset + count] = body[16:16 + count]
            if offset <= COMMAND < offset + count:
                self.commands.append((body[16 + COMMAND - offset],
                                      self.mapped_bytes()))
        return body[:16]

    def _reset(self, _):
        self.resets += 1
        return b""
