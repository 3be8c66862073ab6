"""A websocket client that stands in for the page, for tests of the viewer."""

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
    """Receive and acknowledge frames, and keep everything that was received."""

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
        """Send a message."""
        self.socket.send(json.dumps(message))

    def step(self, timeout: float = 20.0) -> None:
        """Receive one message."""
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
        self.send(type="shown", frame=header["frame"])

    def until(self, done: Callable[[], bool], seconds: float = 20.0) -> None:
        """Receive messages until `done()`."""
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"waited {seconds} s; last header {self.header}"
            self.step(timeout=seconds)

    def frame_at_rest(self, seconds: float = 20.0) -> np.ndarray:
        """Return the next full-size frame that shows everything that was sent before."""
        self.marks += 1
        self.send(type="mark", mark=self.marks)

        def is_shown() -> bool:
            head = self.header
            return head.get("mark") == self.marks and head["final"]

        self.until(is_shown, seconds)
        return self.pixels

    def newest(self, kind: str) -> dict[str, Any]:
        """Return the newest text message of a type; wait for the first one."""
        self.until(lambda: any(text["type"] == kind for text in self.texts))
        return [text for text in self.texts if text["type"] == kind][-1]
