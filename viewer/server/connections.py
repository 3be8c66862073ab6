"""The connections of the viewer: how many there are, how fast new ones come, and how long one may stall."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from adop.viewer.server.limits import Allowance, Pace

MAX_SESSIONS = 16  # browsers
MAX_SESSIONS_PER_ADDRESS = 12
MAX_REQUESTS = 128  # connections that are no session; a newer one takes the place of the oldest
MAX_REQUESTS_PER_ADDRESS = 64
MAX_THREADS = 3 * MAX_REQUESTS  # those of connections that were given up included
CONNECTS, CONNECT_BURST = 100, 600  # per second from one address: a page loads hundreds of thumbnails
SESSION_STARTS, SESSION_BURST = 5, 30  # per second from one address
MAX_ADDRESSES = 4096  # whose rates are remembered
SEND_SECONDS = 15.0  # within which a client must read each `CHUNK` of what it is sent
CHUNK = 64 << 10  # bytes
READING_SHARE = 0.6  # of a CPU core, for reading what all sessions send
MIN_READING_SHARE = 0.03  # for one session
POLL_SECONDS = 0.2  # after which the listening thread notices that it must stop
OUT_OF_FILES_SECONDS = 0.05  # pause where the system accepts no connection, as without file descriptors


class BoundedSocket(socket.socket):
    """The socket of one connection: a peer that does not read is cut off, and one that floods is read slowly.

    Args:
        accepted: the socket to take over.
        pace: of the thread that reads.
    """

    def __init__(self, accepted: socket.socket, pace: Pace) -> None:
        super().__init__(fileno=accepted.detach())
        self._pace = pace

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive bytes, after the rest that the reading thread owes."""
        self._pace.rest(self._is_closed)
        return super().recv(size, flags)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send all bytes. Raises: TimeoutError where the peer does not read `CHUNK` bytes in `SEND_SECONDS`."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), CHUNK):
            self._send_chunk(view[start : start + CHUNK], flags)

    def _is_closed(self) -> bool:
        return self.fileno() < 0

    def _send_chunk(self, chunk: memoryview, flags: int) -> None:
        end = time.monotonic() + SEND_SECONDS
        poller = select.poll()
        poller.register(self, select.POLLOUT)
        while chunk:
            if not poller.poll(max(0.0, 1000 * (end - time.monotonic()))):
                raise TimeoutError("the client does not read")
            try:
                chunk = chunk[self.send(chunk, flags | socket.MSG_DONTWAIT) :]
            except BlockingIOError:  # another thread's bytes were faster
                continue


class Connections:
    """Accept connections and serve each on a thread of its own; the number of both is bounded.

    A new request takes the place of the oldest one, so clients that connect and say nothing keep no one out.

    Args:
        listener: the listening socket.
        serve: serves a socket with its address, and returns when the connection has ended.
    """

    def __init__(self, listener: socket.socket, serve: Callable[[socket.socket, Any], None]) -> None:
        self._listener, self._serve = listener, serve
        self._lock = threading.Lock()
        self._requests: OrderedDict[BoundedSocket, str] = OrderedDict()  # the address of each, oldest first
        self._sessions: dict[BoundedSocket, str] = {}
        self._threads: set[threading.Thread] = set()
        self._connects: dict[str, Allowance] = {}
        self._session_starts: dict[str, Allowance] = {}
        self._closed = False
        listener.settimeout(POLL_SECONDS)
        self._thread = threading.Thread(target=self._accept, name="adop-http", daemon=True)
        self._thread.start()

    def begin_session(self, connection: socket.socket) -> str | None:
        """Let a request become a session, which newer requests do not end; return None, or why it may not."""
        with self._lock:
            address = self._requests.get(connection)  # type: ignore[call-overload]
            if address is None:
                return "too many connections"
            if not _allowance(self._session_starts, address, SESSION_STARTS, SESSION_BURST).take():
                return "too many new connections; try again later"
            if len(self._sessions) >= MAX_SESSIONS:
                return f"{MAX_SESSIONS} browsers are already connected"
            if list(self._sessions.values()).count(address) >= MAX_SESSIONS_PER_ADDRESS:
                return f"{MAX_SESSIONS_PER_ADDRESS} browsers are already connected from your address"
            del self._requests[connection]  # type: ignore[arg-type]
            self._sessions[connection] = address  # type: ignore[index]
            return None

    def reading_share(self) -> float:
        """Return the share of a CPU core that one connection may use for what it sends."""
        return max(MIN_READING_SHARE, READING_SHARE / max(1, len(self._sessions)))

    def close(self) -> None:
        """Stop listening and end every connection."""
        self._closed = True
        self._thread.join(timeout=10)
        self._listener.close()
        with self._lock:
            for connection in (*self._requests, *self._sessions):
                cut(connection)
            threads = list(self._threads)
        for thread in threads:
            thread.join(timeout=10)

    def _accept(self) -> None:
        while not self._closed:
            try:
                accepted, address = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                time.sleep(OUT_OF_FILES_SECONDS)
                continue
            allowed = _allowance(self._connects, str(address[0]), CONNECTS, CONNECT_BURST).take()
            if allowed and len(self._threads) < MAX_THREADS:
                self._admit(BoundedSocket(accepted, Pace(self.reading_share)), address)
            else:
                accepted.close()

    def _admit(self, connection: BoundedSocket, address: Any) -> None:
        """Serve a new connection on a thread."""
        host = str(address[0])
        thread = threading.Thread(target=self._run, args=(connection, address), daemon=True)
        with self._lock:
            self._make_room(host)
            self._requests[connection] = host
            self._threads.add(thread)
            try:
                thread.start()
            except RuntimeError:  # the system starts no more threads
                self._threads.discard(thread)
                del self._requests[connection]
                connection.close()

    def _make_room(self, host: str) -> None:
        """End the oldest request of an address that has too many, else the oldest of all where there are too many."""
        own = [connection for connection, address in self._requests.items() if address == host]
        if len(own) >= MAX_REQUESTS_PER_ADDRESS:
            oldest = own[0]
        elif len(self._requests) >= MAX_REQUESTS:
            oldest = next(iter(self._requests))
        else:
            return
        del self._requests[oldest]
        cut(oldest)

    def _run(self, connection: BoundedSocket, address: Any) -> None:
        try:
            self._serve(connection, address)
        finally:
            connection.close()
            with self._lock:
                self._requests.pop(connection, None)
                self._sessions.pop(connection, None)
                self._threads.discard(threading.current_thread())


def _allowance(known: dict[str, Allowance], address: str, rate: float, burst: float) -> Allowance:
    """Return the allowance of an address; addresses that have been quiet are forgotten."""
    if address not in known:
        if len(known) >= MAX_ADDRESSES:
            for quiet in [name for name, allowance in known.items() if allowance.is_full]:
                del known[quiet]
        if len(known) >= MAX_ADDRESSES:
            known.pop(next(iter(known)))
        known[address] = Allowance(rate, burst)
    return known[address]


def cut(connection: socket.socket) -> None:
    """End a connection from another thread than the one that uses it."""
    with contextlib.suppress(OSError):  # it has ended already
        connection.shutdown(socket.SHUT_RDWR)
