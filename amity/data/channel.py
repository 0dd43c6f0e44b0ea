"""Channels: messages and file descriptors between two processes, over a Unix socket.

The parent's end never blocks: a message that does not fit into the socket waits in the outbox, so
a parent that sends to a worker that sends to the parent cannot lock up.
"""

from __future__ import annotations

import array
import os
import pickle
import socket
import struct
from collections import deque
from typing import Any

from amity.core.errors import fail

HEAD = struct.Struct("<QB")  # bytes of the message that follows, descriptors that go with it
READ = 1 << 16
MAX_FDS = 16
NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)


class ChannelClosed(Exception):
    """The other side is gone."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets."""
    if not hasattr(socket, "send_fds"):
        expected = "Unix (or num_workers=0)"
        raise fail(RuntimeError, "DataLoader", "a system without Unix sockets", expected)
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


class Channel:
    """One end: `send` queues and tries, `receive` gives a message if a whole one is there."""

    def __init__(self, sock: socket.socket, is_blocking: bool) -> None:
        self.sock = sock
        sock.setblocking(is_blocking)
        self._outbox: deque[tuple[memoryview, list[int]]] = deque()
        self._inbox = bytearray()
        self._fds: deque[int] = deque()

    def fileno(self) -> int:
        return self.sock.fileno()

    @property
    def is_waiting_to_send(self) -> bool:
        return bool(self._outbox)

    def send(self, message: Any, fds: list[int] | None = None) -> None:
        data = pickle.dumps(message, protocol=5)
        self._outbox.append((memoryview(HEAD.pack(len(data), len(fds or ())) + data), fds or []))
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes now (on a blocking end: everything)."""
        while self._outbox:
            data, fds = self._outbox[0]
            try:
                sent = self.sock.sendmsg([data], _rights(fds), NO_SIGNAL)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError) as error:
                raise ChannelClosed from error
            if sent == len(data):
                self._outbox.popleft()
            else:  # descriptors go with the first byte
                self._outbox[0] = (data[sent:], [])

    def fill(self) -> bool:
        """Read what is there (on a blocking end: wait for some); False if nothing was."""
        space = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
        flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        try:
            data, rights, _, _ = self.sock.recvmsg(READ, space, flags)
        except BlockingIOError:
            return False
        except ConnectionResetError as error:
            raise ChannelClosed from error
        for level, kind, content in rights:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds = array.array("i")
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                self._fds.extend(fds)
        if not data:
            raise ChannelClosed
        self._inbox += data
        return True

    def take(self) -> tuple[Any, list[int]] | None:
        """The next message and its descriptors, if the whole of it was read."""
        if len(self._inbox) < HEAD.size:
            return None
        length, count = HEAD.unpack_from(self._inbox)
        end = HEAD.size + length
        if len(self._inbox) < end:
            return None
        message = pickle.loads(memoryview(self._inbox)[HEAD.size : end].tobytes())
        del self._inbox[:end]
        return message, [self._fds.popleft() for _ in range(count)]

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.popleft())
        self._outbox.clear()
        self.sock.close()


def _rights(fds: list[int]) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
