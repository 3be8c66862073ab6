"""A reverse proxy that shows the viewer under a path prefix, as notebooks do; it removes the prefix or leaves it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def proxy(port: int, prefix: str, removes: bool) -> Iterator[str]:
    """Forward a prefix to a port of this machine; yield the address of the prefix, with a slash at its end.

    Each connection carries one request, or one websocket: the viewer closes a connection after its response.

    Args: removes: whether the prefix is removed from the paths of requests.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_listen, args=(listener, port, prefix if removes else ""), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{prefix}/"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=5)


def _listen(listener: socket.socket, port: int, removed: str) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_forward, args=(client, port, removed), daemon=True).start()


def _forward(client: socket.socket, port: int, removed: str) -> None:
    with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
        head = b""
        while b"\r\n\r\n" not in head:
            part = client.recv(65536)
            if not part:
                return
            head += part
        method, path, rest = head.split(b" ", 2)
        assert path.startswith(removed.encode()), path  # no address of the page leaves the prefix
        server.sendall(b" ".join((method, path.removeprefix(removed.encode()), rest)))
        back = threading.Thread(target=_copy, args=(server, client), daemon=True)
        back.start()
        _copy(client, server)
        back.join(timeout=20)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Copy bytes until the source ends, and then end the sink."""
    with contextlib.suppress(OSError):
        while part := source.recv(65536):
            sink.sendall(part)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
