"""A browser without a browser: a websocket client that shows what the page would, for tests of the viewer."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from websockets.sync.client import ClientConnection, connect

from adop.viewer.session.protocol import unpack


class Client:
    """Connects, answers every picture, and keeps what came."""

    def __init__(self, url: str, **options: Any) -> None:
        self.socket: ClientConnection = connect(
            url.replace("http", "ws", 1) + "ws", max_size=1 << 28, **options
        )
        self.texts: list[dict[str, Any]] = []
        self.files: list[tuple[dict[str, Any], bytes]] = []
        self.header: dict[str, Any] = {}
        self.pixels = np.zeros((1, 1, 3), np.uint8)
        self.frames = self.marks = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, **message: Any) -> None:
        self.socket.send(json.dumps(message))

    def step(self, timeout: float = 20.0) -> None:
        """Take one message."""
        message = self.socket.recv(timeout=timeout)
        if isinstance(message, str):
            self.texts.append(json.loads(message))
            return
        header, body = unpack(message)
        if header["kind"] == "file":
            self.files.append((header, body))
            return
        self.header, self.frames = header, self.frames + 1
        self.pixels = np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))
        self.send(type="got", frame=header["frame"])

    def until(self, done: Callable[[], bool], seconds: float = 20.0) -> None:
        """Take messages until something holds."""
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"waited {seconds} s; last header {self.header}"
            self.step(timeout=seconds)

    def rested(self, seconds: float = 20.0) -> np.ndarray:
        """Return the next full picture, after whatever was sent before has come into it."""
        self.marks += 1
        self.send(type="mark", mark=self.marks)

        def there() -> bool:
            head = self.header
            return head.get("mark") == self.marks and head["scale"] == 1.0 and not head["moving"]

        self.until(there, seconds)
        return self.pixels

    def said(self, kind: str) -> dict[str, Any]:
        """Return the newest text of a type, waiting for one."""
        self.until(lambda: any(text["type"] == kind for text in self.texts))
        return [text for text in self.texts if text["type"] == kind][-1]
