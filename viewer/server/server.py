"""HTTP and websockets on one port: the page, the photos, the videos, and a session for each browser."""

from __future__ import annotations

import io
import logging
import re
import socket
import threading
from collections import OrderedDict
from functools import partial
from http.cookies import CookieError, SimpleCookie
from importlib.resources import files as package_files
from urllib.parse import parse_qs, urlsplit

from PIL import Image
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from adop.errors import UserError
from adop.viewer.server.guard import Guard, guard_for
from adop.viewer.session.protocol import MAX_MESSAGE
from adop.viewer.session.session import Session, SharedResources

PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    **{
        f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
        for name in ("main", "connection", "navigation", "overlay", "plots", "timeline")
    },
}
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REPEATED_HEADER = "several"  # is neither a local host, nor an origin, nor a token
MAX_SESSIONS = 16
PHOTO_SIDES = {"small": 224, "large": 1600}  # px of the longer side
PHOTO_CACHE_BYTES = 64 << 20  # of encoded photos


class Viewer:
    """A running viewer; `close` stops it.

    Args:
        shared: what all sessions share.
        host, port: where to listen; port 0 is any free port.
        token: what a browser must send to be let in; None: one is generated where other machines can connect.

    Raises: UserError where the port is in use.
    """

    def __init__(
        self, shared: SharedResources, host: str = "127.0.0.1", port: int = 8090, token: str | None = None
    ) -> None:
        self.shared, self.host = shared, host
        self.guard: Guard = guard_for(host, token)
        self._photos: OrderedDict[tuple[int, str], bytes] = OrderedDict()
        self._sessions: set[Session] = set()
        self._lock = threading.Lock()
        silent = logging.getLogger("adop.viewer")
        silent.addHandler(logging.NullHandler())
        silent.propagate = False
        try:
            self._server: Server = serve(
                self._serve_browser,
                host,
                port,
                process_request=self._process_request,
                max_size=MAX_MESSAGE,
                max_queue=64,
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
        self._thread = threading.Thread(target=self._server.serve_forever, name="adop-http", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address to open, including the token."""
        name = "127.0.0.1" if self.host in ("localhost", "0.0.0.0", "") else self.host
        name = f"[{'::1' if name == '::' else name}]" if ":" in name else name
        query = "" if self.guard.token is None else f"?token={self.guard.token}"
        return f"http://{name}:{self.port}/{query}"

    @property
    def browsers(self) -> int:
        """The number of connected browsers."""
        return len(self._sessions)

    def close(self) -> None:
        """Disconnect every browser and stop."""
        self._server.shutdown()
        self.shared.exporter.cancel()
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()
        self.shared.render_thread.close()
        self._thread.join(timeout=10)

    def __enter__(self) -> Viewer:
        """Return the viewer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the viewer."""
        self.close()

    # Websocket.

    def _serve_browser(self, connection: ServerConnection) -> None:
        """Run the session of a browser until it disconnects."""
        with self._lock:
            full = len(self._sessions) >= MAX_SESSIONS
        if full:
            connection.close(1013, f"{MAX_SESSIONS} browsers are already connected")
            return
        session = Session(self.shared, partial(_send, connection))
        with self._lock:
            self._sessions.add(session)
        try:
            session.start()
            for message in connection:
                session.receive(message)
        except ConnectionClosed:
            pass
        finally:
            session.close()
            with self._lock:
                self._sessions.discard(session)

    # HTTP.

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the response to a request, or None for a websocket that may connect."""
        target = urlsplit(request.path)
        query = parse_qs(target.query)
        name = f"adop_{self.port}"
        token = query.get("token", [None])[0]
        cookie = _cookie(_header(request.headers, "Cookie") or "", name)
        refusal = self.guard.refusal(
            _header(request.headers, "Host"), _header(request.headers, "Origin"), cookie, token
        )
        if refusal is not None:
            return _response(403, "text/plain; charset=utf-8", f"adop: {refusal}.\n".encode())
        if target.path == "/" and token is not None and self.guard.token is not None:
            # The redirect removes the token from the address bar, and so from the history and from copied addresses.
            response = _response(303, "text/plain", b"")
            response.headers["Location"] = "/"
            response.headers["Set-Cookie"] = f"{name}={self.guard.token}; Path=/; HttpOnly; SameSite=Strict"
            return response
        if target.path == "/ws":
            return None
        return self._get(target.path)

    def _get(self, path: str) -> Response:
        if path in PAGE:
            file, kind = PAGE[path]
            return _response(
                200, kind, package_files("adop.viewer").joinpath("page").joinpath(file).read_bytes()
            )
        photo = re.fullmatch(r"/photo/(\d{1,6})/(small|large)\.jpg", path)
        if photo and int(photo[1]) < len(self.shared.render_thread.run.scene.photos):
            return _response(200, "image/jpeg", self._photo(int(photo[1]), photo[2]), cached=True)
        video = re.fullmatch(r"/video/([a-z0-9_-]{1,64})\.mp4", path)
        found = self.shared.files.video(video[1]) if video else None
        if found is not None:
            return _response(200, "video/mp4", found.read_bytes())
        return _response(404, "text/plain; charset=utf-8", b"adop: not found.\n")

    def _photo(self, index: int, size: str) -> bytes:
        """Return a photo as a JPEG of a size in `PHOTO_SIDES`."""
        key = (index, size)
        with self._lock:
            if key in self._photos:
                self._photos.move_to_end(key)
                return self._photos[key]
        image = Image.fromarray(self.shared.render_thread.run.cache.get(index).numpy())
        image.thumbnail((PHOTO_SIDES[size],) * 2, Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=90)
        with self._lock:
            self._photos[key] = buffer.getvalue()
            while sum(map(len, self._photos.values())) > PHOTO_CACHE_BYTES and len(self._photos) > 1:
                self._photos.popitem(last=False)
        return buffer.getvalue()


def _send(connection: ServerConnection, message: str | bytes) -> None:
    connection.send(message)


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


def _response(status: int, kind: str, body: bytes, cached: bool = False) -> Response:
    reasons = {200: "OK", 303: "See Other", 403: "Forbidden", 404: "Not Found"}
    headers = Headers()
    headers["Content-Type"] = kind
    headers["Content-Length"] = str(len(body))
    headers["Cache-Control"] = "private, max-age=3600" if cached else "no-store"
    headers["Content-Security-Policy"] = CONTENT_POLICY
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["Connection"] = "close"
    return Response(status, reasons[status], headers, body)
