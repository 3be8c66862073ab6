"""What the viewer answers over HTTP: the page and its files, photos, and the videos that were rendered."""

from __future__ import annotations

import io
import re
import threading
from collections import OrderedDict
from importlib.resources import files as package_files
from pathlib import Path

from PIL import Image
from websockets.datastructures import Headers
from websockets.http11 import Response

from adop.run.run import Run
from adop.viewer.session.files import Files

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
REASONS = {200: "OK", 303: "See Other", 400: "Bad Request", 403: "Forbidden", 404: "Not Found"}
PHOTO_SIDES = {"small": 224, "large": 1600}  # px of the longer side
PHOTO_CACHE_BYTES = 64 << 20  # of encoded photos


class Pages:
    """Answer requests for files. Paths are names from fixed lists; no part of one reaches the file system unchecked.

    Args:
        run: whose photos are shown.
        files: where the rendered videos are.
    """

    def __init__(self, run: Run, files: Files) -> None:
        self._run, self._files = run, files
        self._photos: OrderedDict[tuple[int, str], bytes] = OrderedDict()
        self._lock = (
            threading.Lock()
        )  # one photo is encoded at a time, so that many requests do not fill the memory

    def get(self, path: str) -> Response:
        """Return the response to a request for a path other than a video's."""
        if path in PAGE:
            file, kind = PAGE[path]
            body = package_files("adop.viewer").joinpath("page").joinpath(file).read_bytes()
            return response(200, kind, body)
        photo = re.fullmatch(r"/photo/([0-9]{1,6})/(small|large)\.jpg", path)
        if photo and int(photo[1]) < len(self._run.scene.photos):
            return response(200, "image/jpeg", self._photo(int(photo[1]), photo[2]), cached=True)
        return response(404, "text/plain; charset=utf-8", b"adop: not found.\n")

    def video(self, path: str) -> Path | None:
        """Return the file of a rendered video, or None where the path names none."""
        video = re.fullmatch(r"/video/([a-z0-9_-]{1,64})\.mp4", path)
        return self._files.video(video[1]) if video else None

    def _photo(self, index: int, size: str) -> bytes:
        """Return a photo as a JPEG of a size in `PHOTO_SIDES`."""
        key = (index, size)
        with self._lock:
            if key in self._photos:
                self._photos.move_to_end(key)
                return self._photos[key]
            image = Image.fromarray(self._run.cache.get(index).numpy())
            image.thumbnail((PHOTO_SIDES[size],) * 2, Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            image.save(buffer, format="JPEG", quality=90)
            self._photos[key] = buffer.getvalue()
            while sum(map(len, self._photos.values())) > PHOTO_CACHE_BYTES and len(self._photos) > 1:
                self._photos.popitem(last=False)
            return buffer.getvalue()


def response(
    status: int, kind: str, body: bytes, cached: bool = False, length: int | None = None
) -> Response:
    """Return a response with the headers that keep other sites out.

    Args: length: of a body that is sent separately, bytes; None: that of `body`.
    """
    headers = Headers()
    headers["Content-Type"] = kind
    headers["Content-Length"] = str(len(body) if length is None else length)
    headers["Cache-Control"] = "private, max-age=3600" if cached else "no-store"
    headers["Content-Security-Policy"] = CONTENT_POLICY
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["Connection"] = "close"
    return Response(status, REASONS[status], headers, body)
