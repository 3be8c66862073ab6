"""HTTP and websockets on one port: the page, the photos, the videos, and a session for each browser."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from functools import partial
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from adop.errors import UserError
from adop.viewer.drawing.render_thread import RenderCancelledError
from adop.viewer.server.connections import CHUNK, Connections, cut
from adop.viewer.server.guard import Guard, guard_for
from adop.viewer.server.limits import Allowance, Pace
from adop.viewer.server.pages import Pages, response
from adop.viewer.session.protocol import MAX_MESSAGE
from adop.viewer.session.session import Session, SharedResources

REPEATED_HEADER = "several"  # is neither a local host, nor an origin, nor a token
OPEN_SECONDS = 5.0  # for a client to send its whole request
CLOSE_SECONDS = 2.0  # for a client to close its end
MAX_WAITING = 16  # messages of one browser that were read and not handled yet
MAX_FRAGMENTS = 64  # of one message
MESSAGES, MESSAGE_BURST = (
    500,
    2500,
)  # per second from one browser; the page sends two for each image on its display
TOO_BUSY, NOT_ALLOWED, FAILED = 1013, 1008, 1011  # codes of closed websockets
PREFIX = re.compile(r"(/[A-Za-z0-9._~@-]+)*")


class Viewer:
    """A running viewer; `close` stops it.

    Args:
        shared: what all sessions share.
        host, port: where to listen; port 0 is any free port.
        token: what a browser must send to be let in; None: one is generated where other machines can connect.
        prefix: that a proxy leaves in front of the paths that it forwards, for example /proxy/absolute/8090; paths
            without it are answered as well.

    Raises: UserError where the port is in use, or the prefix is not the start of a path.
    """

    def __init__(
        self,
        shared: SharedResources,
        host: str = "127.0.0.1",
        port: int = 8090,
        token: str | None = None,
        prefix: str = "",
    ) -> None:
        self.shared, self.host, self._prefix = shared, host, checked_prefix(prefix)
        self.guard: Guard = guard_for(host, token)
        self._pages = Pages(shared.render_thread.run, shared.files)
        self._sessions: dict[Session, socket.socket] = {}
        silent = logging.getLogger("adop.viewer")
        silent.addHandler(logging.NullHandler())
        silent.propagate = False
        try:
            self._server: Server = serve(
                self._serve_browser,
                host,
                port,
                process_request=self._process_request,
                open_timeout=OPEN_SECONDS,
                close_timeout=CLOSE_SECONDS,
                max_size=MAX_MESSAGE,
                max_queue=MAX_WAITING,
                compression=None,
                server_header=None,
                logger=silent,
                family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            )
        except OSError as error:
            raise UserError(
                f"port {port} on {host} cannot be used ({error.strerror}); choose another --port"
            ) from None
        self.port: int = self._server.socket.getsockname()[1]
        self._connections = Connections(self._server.socket, self._server.handler)

    @property
    def url(self) -> str:
        """The address to open, including the token."""
        name = "127.0.0.1" if self.host in ("localhost", "0.0.0.0", "") else self.host
        name = f"[{'::1' if name == '::' else name}]" if ":" in name else name
        query = "" if self.guard.token is None else f"?token={self.guard.token}"
        return f"http://{name}:{self.port}{self._prefix}/{query}"

    @property
    def browsers(self) -> int:
        """The number of connected browsers."""
        return len(self._sessions)

    def show(self, shared: SharedResources) -> None:
        """Show another run of the same scene: every browser is disconnected, and connects again by itself."""
        before, self.shared = self.shared, shared
        self._pages = Pages(shared.render_thread.run, shared.files)
        for session, connection in tuple(self._sessions.items()):
            if session.shared is before:
                cut(connection)
        before.exporter.cancel()
        before.render_thread.close()

    def close(self) -> None:
        """Disconnect every browser and stop."""
        self.shared.exporter.cancel()
        self._connections.close()
        self._server.shutdown()
        self.shared.render_thread.close()

    def __enter__(self) -> Viewer:
        """Return the viewer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the viewer."""
        self.close()

    # Websocket.

    def _serve_browser(self, connection: ServerConnection) -> None:
        """Run the session of a browser until it disconnects."""
        refusal = self._connections.begin_session(connection.socket)
        if refusal is not None:
            connection.close(TOO_BUSY, refusal)
            return
        session = Session(self.shared, partial(_send, connection), partial(connection.close, FAILED))
        self._sessions[session] = connection.socket
        try:
            session.start()
            self._receive(connection, session)
        except (ConnectionClosed, RenderCancelledError):
            pass
        finally:
            session.close()
            del self._sessions[session]

    def _receive(self, connection: ServerConnection, session: Session) -> None:
        """Pass on what a browser sends; close the connection of one that sends too much. Raises: ConnectionClosed."""
        allowance, pace = Allowance(MESSAGES, MESSAGE_BURST), Pace(self._connections.reading_share)
        while True:
            fragments = list(_fragments(connection))
            if len(fragments) > MAX_FRAGMENTS:
                connection.close(NOT_ALLOWED, f"a message has at most {MAX_FRAGMENTS} fragments")
                return
            if not allowance.take():
                connection.close(NOT_ALLOWED, f"more than {MESSAGES} messages a second")
                return
            session.receive(b"".join(fragments))
            pace.rest(lambda: connection.socket.fileno() < 0)

    # HTTP.

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the response to a request, or None for a websocket that may connect."""
        try:
            target = urlsplit(request.path)
            query = parse_qs(target.query)
        except ValueError:
            return response(400, "text/plain; charset=utf-8", b"adop: the address cannot be read.\n")
        path = target.path.removeprefix(self._prefix)
        name = f"adop_{self.port}"
        token = query.get("token", [None])[0]
        cookie = _cookie(_header(request.headers, "Cookie") or "", name)
        refusal = self.guard.refusal(
            _header(request.headers, "Host"), _header(request.headers, "Origin"), cookie, token
        )
        if refusal is not None:
            return response(403, "text/plain; charset=utf-8", f"adop: {refusal}.\n".encode())
        if path == "" and self._prefix:  # the page's addresses are relative to a path that ends with a slash
            return _redirect(f"{self._prefix.rpartition('/')[2]}/" + f"?{target.query}" * bool(target.query))
        if path == "/" and token is not None and self.guard.token is not None:
            # The redirect removes the token from the address bar, and so from the history and from copied addresses.
            # Both are relative to the page, which may be behind a proxy's prefix: the cookie's path is the page's.
            answer = _redirect("./")
            answer.headers["Set-Cookie"] = f"{name}={self.guard.token}; HttpOnly; SameSite=Strict"
            return answer
        if path == "/ws":
            return None
        video = self._pages.video(path)
        return self._pages.get(path) if video is None else _send_video(connection, video)


def checked_prefix(prefix: str) -> str:
    """Return the prefix of paths without a slash at its end. Raises: UserError where it is not the start of a path."""
    if not PREFIX.fullmatch(prefix.rstrip("/")):
        raise UserError(f"--prefix {prefix!r}: expected the start of a path, such as /proxy/absolute/8090")
    return prefix.rstrip("/")


def _send(connection: ServerConnection, message: str | bytes) -> None:
    connection.send(message)


def _fragments(connection: ServerConnection) -> Iterator[bytes]:
    """Yield the fragments of the next message, and stop after one too many. Raises: ConnectionClosed."""
    for count, fragment in enumerate(connection.recv_streaming(decode=False)):
        yield fragment
        if count >= MAX_FRAGMENTS:
            return


def _send_video(connection: ServerConnection, file: Path) -> Response:
    """Send a video without reading it into memory as a whole."""
    head = response(200, "video/mp4", b"", length=file.stat().st_size)
    with file.open("rb") as content:
        connection.socket.sendall(head.serialize())
        while part := content.read(CHUNK):
            connection.socket.sendall(part)
    connection.socket.shutdown(socket.SHUT_WR)
    return head  # `websockets` needs a response; the socket is closed for it


def _redirect(location: str) -> Response:
    answer = response(303, "text/plain", b"")
    answer.headers["Location"] = location
    return answer


def _header(headers: Headers, name: str) -> str | None:
    """Return the value of a header, None where it is missing, and `REPEATED_HEADER` where it is repeated."""
    values = headers.get_all(name)
    return REPEATED_HEADER if len(values) > 1 else values[0] if values else None


def _cookie(header: str, name: str) -> str | None:
    """Return the value of a cookie in a Cookie header, or None where it is missing or the header is malformed."""
    try:
        morsel = SimpleCookie(header).get(name)
    except CookieError:
        return None
    return None if morsel is None else morsel.value
