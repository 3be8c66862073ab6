"""Hostile clients of the viewer: each function misbehaves in its own way, for some seconds, on raw sockets."""

from __future__ import annotations

import contextlib
import json
import random
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator

TEXT, BINARY, CONTINUATION, CLOSE, PING = 1, 2, 0, 8, 9  # opcodes of websocket frames
HELD_SOCKETS = 1000  # that one client keeps open at most
PAUSE = 0.05  # seconds before a client that was refused tries again

PATHS = (
    "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/video/../../../etc/passwd.mp4", "/video/..%2f..%2fetc.mp4",
    "/photo/../0/large.jpg", "/photo/99999999999999999999/large.jpg", "/photo/٣/small.jpg", "//etc/passwd", "//[",
    "/\x00", "http://[::1/", "/page/index.html", "/ws/../config.json", "*", "",
    "/" + "a" * 20000, "/?token=" + "b" * 4000,
)  # fmt: skip
MESSAGES = (
    "nonsense", "", "[]", "1", "null", '"text"', "{}", '{"type": 1}', '{"type": null}', '{"type": ["size"]}',
    '{"type": "nothing"}', '{"type": "size"}', '{"type": "size", "width": {}, "height": []}',
    '{"type": "size", "width": NaN, "height": Infinity}', '{"type": "move", "orbit": "ab"}',
    '{"type": "move", "orbit": [1e999, -1e999]}', '{"type": "move", "fly": [1e308, 1e308, 1e308], "dolly": [1e308]}',
    '{"type": "move", "focal": -1e308}', '{"type": "move", "orbit": [' + "9" * 5000 + ", 0]}",
    '{"type": "move", "orbit": [' + "9" * 4000 + ", 0]}", '{"type": "photo", "photo": ' + "9" * 4000 + "}",
    '{"type": "photo", "photo": true}', '{"type": "display", "layer": {"a": 1}}', '{"type": "display", "level": 1e9}',
    '{"type": "path", "keys": [[]], "width": 1, "height": 1, "rate": 1}', '{"type": "seek", "time": -1e308}',
    '{"type": "path", "keys": [{"time": 0, "focal": 1, "exposure": 0, "camera_to_world": '
    '[1, 0, 0, 1e9, 0, 1, 0, 1e9, 0, 0, 1, 1e9, 0, 0, 0, 1]}], "width": 1e9, "height": 1e9, "rate": 1e9}',
    '{"type": "seek", "time": 1e308}',
    '{"type": "save_path", "name": "../../../etc/passwd"}', '{"type": "save_path", "name": "a/b"}',
    '{"type": "load_path", "name": ".."}', '{"type": "load_path", "name": "con\\u0000"}', '{"type": "load_path"}',
    '{"type": "render_path", "name": "/etc/passwd", "kind": "mp4"}', '{"type": "render_path", "name": "x", "kind": "sh"}',
    '{"type": "snapshot", "kind": ["png"]}', '{"type": "pivot", "u": 1e308, "v": -1e308}',
    '{"type": "shown", "frame": 1e300}',
    '{"type": "mark", "mark": -5}', '{"type": "training", "action": "rm -rf"}', "[" * 100_000, '{"a":' * 20_000,
)  # fmt: skip


def frame(opcode: int, payload: bytes, last: bool = True, claimed: int | None = None) -> bytes:
    """Return a client's websocket frame with a mask of zeros (RFC 6455, section 5.2).

    Args: claimed: the length in its header, bytes; None: the true one.
    """
    length = len(payload) if claimed is None else claimed
    first = opcode | (0x80 if last else 0)
    if length < 126:
        head = struct.pack("!BB", first, 0x80 | length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, length)
    return head + bytes(4) + payload


def message(**values: object) -> bytes:
    """Return the frame of a JSON message."""
    return frame(TEXT, json.dumps(values).encode())


def dial(host: str, port: int) -> socket.socket:
    """Return a connected socket."""
    return socket.create_connection((host, port), timeout=3)


def open_websocket(host: str, port: int, token: str = "") -> socket.socket:
    """Return a socket on which the opening handshake is complete. Raises: OSError where the server refuses."""
    connection = dial(host, port)
    query = f"?token={token}" if token else ""
    connection.sendall(
        f"GET /ws{query} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        part = connection.recv(1)
        if not part:
            connection.close()
            raise ConnectionError("refused")
        answer += part
    return connection


def drain(connection: socket.socket) -> None:
    """Read and forget what has arrived. Raises: OSError where the connection has ended."""
    poller = select.poll()
    poller.register(connection, select.POLLIN)
    while poller.poll(0):
        if not connection.recv(1 << 20):
            raise ConnectionError("closed")


def _tries(seconds: float) -> Iterator[random.Random]:
    """Yield a source of random numbers again and again until the time is up, with a pause after each."""
    end, numbers = time.monotonic() + seconds, random.Random(0)
    while time.monotonic() < end:
        yield numbers
        time.sleep(PAUSE)


def send_malformed(host: str, port: int, seconds: float) -> None:
    """Send messages that are no JSON, of wrong types, not finite, too deep, binary, or invalid UTF-8."""
    end = time.monotonic() + seconds
    for numbers in _tries(seconds):
        with contextlib.suppress(OSError), open_websocket(host, port) as connection:
            while time.monotonic() < end:
                drain(connection)
                text = numbers.choice(MESSAGES).encode()
                broken = bytes(numbers.randrange(256) for _ in range(40))
                kind = numbers.choice((TEXT, BINARY))
                connection.sendall(frame(kind, text if numbers.random() < 0.9 else broken))
                if numbers.random() < 0.01:  # a frame that no websocket may send
                    connection.sendall(frame(numbers.choice((3, 7, 11, 15)), broken, numbers.random() < 0.5))
                time.sleep(0.002)


def flood(host: str, port: int, seconds: float) -> None:
    """Move the camera as fast as the network carries it."""
    end, burst = time.monotonic() + seconds, message(type="move", orbit=[0.01, 0.001]) * 200
    for _ in _tries(seconds):
        with contextlib.suppress(OSError), open_websocket(host, port) as connection:
            while time.monotonic() < end:
                drain(connection)
                connection.sendall(burst)


def flood_control_frames(host: str, port: int, seconds: float) -> None:
    """Send pings, and messages of endlessly many empty fragments."""
    end = time.monotonic() + seconds
    for numbers in _tries(seconds):
        with contextlib.suppress(OSError), open_websocket(host, port) as connection:
            pings = numbers.random() < 0.5
            burst = frame(PING, b"x" * 100) * 100 if pings else frame(CONTINUATION, b"", last=False) * 1000
            if not pings:
                connection.sendall(frame(TEXT, b"", last=False))
            while time.monotonic() < end:
                drain(connection)
                connection.sendall(burst)


def read_nothing(host: str, port: int, seconds: float, browsers: int = 4) -> None:
    """Ask for large images, say that they were shown, and read none of them."""
    end, connections = time.monotonic() + seconds, [None] * browsers
    for step, _ in enumerate(_tries(seconds)):
        for number, connection in enumerate(connections):
            try:
                if connection is None:
                    connection = connections[number] = open_websocket(host, port)  # type: ignore[call-overload]
                    connection.sendall(message(type="size", width=1280, height=1280))
                    connection.settimeout(0.2)
                connection.sendall(message(type="move", orbit=[0.05, 0]) + message(type="shown", frame=step))
                connection.sendall(message(type="snapshot", kind="png"))
            except OSError:
                if connection is not None:
                    connection.close()
                connections[number] = None
            if time.monotonic() > end:
                break
    for connection in filter(None, connections):
        connection.close()


def connect_often(host: str, port: int, seconds: float) -> None:
    """Connect thousands of times, say nothing, and keep the connections."""
    end, held = time.monotonic() + seconds, []
    while time.monotonic() < end:
        try:
            held.append(dial(host, port))
        except OSError:
            time.sleep(PAUSE)
        if len(held) > HELD_SOCKETS:
            held.pop(0).close()
    for connection in held:
        connection.close()


def handshake_slowly(host: str, port: int, seconds: float) -> None:
    """Send the opening handshake of many connections one letter at a time."""
    request, held = f"GET /ws HTTP/1.1\r\nHost: {host}:{port}\r\nX: ".encode(), []
    for step, _ in enumerate(_tries(seconds)):
        for _ in range(20):
            with contextlib.suppress(OSError):
                held.append((dial(host, port), step))
        for connection, begun in held:
            with contextlib.suppress(OSError):
                sent = step - begun
                connection.sendall(request[sent : sent + 1] or b"x")
        for connection, _ in held[:-HELD_SOCKETS]:
            connection.close()
        held = held[-HELD_SOCKETS:]
    for connection, _ in held:
        connection.close()


def send_huge(host: str, port: int, seconds: float) -> None:
    """Send messages of megabytes, and claim to send more than any machine has."""
    for numbers in _tries(seconds):
        with contextlib.suppress(OSError), open_websocket(host, port) as connection:
            size = numbers.choice((300_000, 50_000_000, (1 << 63) - 1))
            connection.sendall(frame(TEXT, b"[" * 300_000, claimed=size))
            for _ in range(100):
                drain(connection)
                connection.sendall(b"[" * 100_000)


def send_garbage(host: str, port: int, seconds: float) -> None:
    """Send what is no HTTP, requests for files outside the page's, and requests for all photos at once."""
    for numbers in _tries(seconds):
        for _ in range(10):
            with contextlib.suppress(OSError), dial(host, port) as connection:
                path = numbers.choice((*PATHS, f"/photo/{numbers.randrange(100)}/large.jpg"))
                head = f"Host: {host}:{port}\r\n"
                request = numbers.choice(
                    (
                        f"GET {path} HTTP/1.1\r\n{head}\r\n".encode(),
                        f"POST {path} HTTP/1.1\r\n{head}Content-Length: 1000000000\r\n\r\n".encode(),
                        f"GET / HTTP/1.1\r\n{head * 200}\r\n".encode(),
                        f"GET /ws HTTP/1.1\r\n{head}Upgrade: websocket\r\n\r\n".encode(),
                        bytes(numbers.randrange(256) for _ in range(2000)),
                        b"\x16\x03\x01\x02\x00" + bytes(500),  # the start of a TLS handshake
                    )
                )
                connection.sendall(request)
                if numbers.random() < 0.5:
                    connection.recv(1 << 16)


def ask_for_much(host: str, port: int, seconds: float, browsers: int = 3) -> None:
    """Ask for the largest images at the lowest frame rate, snapshots, pivots, and renders of huge paths."""
    end = time.monotonic() + seconds
    key = {"focal": 1, "exposure": 0, "camera_to_world": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]}
    keys = [{**key, "time": second} for second in range(200)]
    wishes = (
        message(type="size", width=1e9, height=1e9), message(type="pivot", u=0.5, v=0.5),
        message(type="snapshot", kind="exr"), message(type="render_path", name="huge", kind="png"),
        message(type="path", keys=keys, width=8192, height=8192, rate=240), message(type="frame_rate", frame_rate=1),
        message(type="path", keys=keys, width=2560, height=1440, rate=240), message(type="cancel_render"),
        message(type="path", keys=keys, width=640, height=360, rate=240),
        message(type="move", orbit=[0.01, 0]), message(type="move", fly=[0, 0, 0.01]), message(type="home"),
        message(type="display", side_by_side=True), message(type="load_path", name="huge"),
    )  # fmt: skip
    for numbers in _tries(seconds):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            connections = [stack.enter_context(open_websocket(host, port)) for _ in range(browsers)]
            shown = 0
            while time.monotonic() < end:
                shown += 1
                for connection in connections:
                    drain(connection)
                    connection.sendall(numbers.choice(wishes) + message(type="shown", frame=shown))
                time.sleep(0.02)


ATTACKS: dict[str, Callable[[str, int, float], None]] = {
    "malformed messages": send_malformed,
    "floods": flood,
    "control frames": flood_control_frames,
    "slow readers": read_nothing,
    "connects": connect_often,
    "slow handshakes": handshake_slowly,
    "huge messages": send_huge,
    "garbage": send_garbage,
    "large wishes": ask_for_much,
}
