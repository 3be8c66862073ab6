"""One browser: its state, and the loop that draws what it asks for, finest when it rests."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from websockets.exceptions import ConnectionClosed

from adop.errors import UserError
from adop.render.camera_settings import CameraSettings, white_level
from adop.render.views import render_views
from adop.viewer.drawing.layers import layer_picture
from adop.viewer.drawing.studio import AbandonedError, Shot, Studio, shoot
from adop.viewer.session import navigate, protocol
from adop.viewer.session.files import KINDS, SNAPSHOTS, Exporter, Files, jpeg_bytes
from adop.viewer.session.greeting import hello
from adop.viewer.session.pace import Pace, adapt, histogram, metered
from adop.viewer.session.state import MOTIONS, State, camera_of, change, start_state, state_json

REST = 0.18  # seconds after the last motion from which the camera rests
IN_FLIGHT = 2  # pictures sent and not yet shown by the browser
PATIENCE = 3  # times that a resting picture makes way for others who steer
FIRST_REST = 0.5  # scale of the first picture of a rest, where a full one takes long
QUALITY_MOVING, QUALITY_RESTING = 82, 93  # of JPEG
LIVE_PAUSE = 5.0  # between pictures of a scene that learns: this many times what one takes, so that it goes on learning
LIVE_SECONDS = 1.0  # and at least so long, between pictures of a scene that learns, while the camera rests
STATUS_SECONDS = 0.4


class Learning(Protocol):
    """What a session needs of a training under way, or of a finished one's record."""

    def status(self) -> dict[str, Any]:
        """Return step, speed, whether it runs and is paused."""

    def history(self, since: int) -> list[list[float]]:
        """Return rows (index, step, loss, PSNR) from index `since` on."""

    def command(self, action: str) -> None:
        """Pause, resume or save."""


@dataclass(frozen=True)
class House:
    """What all sessions share."""

    studio: Studio
    files: Files
    exporter: Exporter
    learning: Learning


@dataclass(frozen=True)
class Kept:
    """The last shot: while camera and parameters stay, another look or layer needs no new one."""

    key: tuple[Any, ...]
    shot: Shot


class Session:
    """Serve one browser.

    Args:
        house: what is shared with others.
        send: sends text or bytes to the browser; raises when it is gone.
    """

    def __init__(self, house: House, send: Callable[[str | bytes], None]) -> None:
        self.house, self._send = house, send
        self.state = start_state(house.studio.run)
        self.pace = Pace()
        self._changed = threading.Condition()
        self._version, self._drawn = 1, 0
        self._scale_drawn, self._step_drawn = 0.0, -1
        self._moved = self._adapted = 0.0
        self._frame, self._shown_frame, self._seconds = 0, 0, 0.0
        self._kept: Kept | None = None
        self._snapshots: list[str] = []
        self._mark = 0
        self._patience, self._closed = PATIENCE, False
        self._thread = threading.Thread(target=self._loop, name="adop-session", daemon=True)

    def start(self) -> None:
        """Say hello and begin to draw."""
        self._say(hello(self.house.studio.run, self.house.files))
        self._say(state_json(self.house.studio.run, self.state))
        self._thread.start()

    def close(self) -> None:
        """Stop drawing; a drawing under way is given up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def receive(self, text: str | bytes) -> None:
        """Take one message of the browser; what is wrong with it is answered, and ends nothing."""
        try:
            message = protocol.parse(text)
            kind = message["type"]
            if kind == "got":
                self._got(message)
            elif kind in _ACTIONS:
                _ACTIONS[kind](self, message)
            else:
                self._change(message)
        except (UserError, ValueError, ArithmeticError) as error:  # LinAlgError is a ValueError
            self._say({"type": "error", "message": str(error)[:300]})

    def _say(self, message: dict[str, Any]) -> None:
        self._send(_json(message))

    def _got(self, message: dict[str, Any]) -> None:
        with self._changed:
            self._shown_frame = max(self._shown_frame, int(protocol.number(message, "frame", 0, self._frame)))
            self._changed.notify_all()

    def _change(self, message: dict[str, Any]) -> None:
        with self._changed:
            before = self.state
            self.state = change(self.house.studio.run, before, message)
            self._version += 1
            if message["type"] in MOTIONS:
                self._moved = time.monotonic()
            self.pace.rate = self.state.rate
            self._changed.notify_all()
        if message["type"] not in (*MOTIONS, "size"):
            self._say(state_json(self.house.studio.run, self.state))

    # What a browser may ask for beside its picture.

    def _note_mark(self, message: dict[str, Any]) -> None:
        """Let the next picture bear a mark: it shows all that was sent before."""
        with self._changed:
            self._mark = round(protocol.number(message, "mark", 0, 2**53))
            self._version += 1
            self._changed.notify_all()

    def _save(self, message: dict[str, Any]) -> None:
        file = self.house.files.save(protocol.slug(message), self.state.path)
        self._say({"type": "saved", "file": str(file), "paths": self.house.files.paths()})

    def _load(self, message: dict[str, Any]) -> None:
        path = self.house.files.load(protocol.slug(message))
        with self._changed:
            self.state = replace(self.state, path=path)
        self._say(state_json(self.house.studio.run, self.state) | {"loaded": True})

    def _render(self, message: dict[str, Any]) -> None:
        kind = protocol.choice(message, "kind", tuple(KINDS))
        name = protocol.slug(message)
        self.house.files.save(name, self.state.path)
        self.house.exporter.begin(name, kind, self.state.path, self.state.look)
        self._say({"type": "saved", "file": "", "paths": self.house.files.paths()})

    def _cancel(self, message: dict[str, Any]) -> None:
        self.house.exporter.cancel()

    def _snapshot(self, message: dict[str, Any]) -> None:
        kind = protocol.choice(message, "kind", tuple(SNAPSHOTS))
        with self._changed:
            self._snapshots = [*self._snapshots[-3:], kind]
            self._changed.notify_all()

    def _pivot(self, message: dict[str, Any]) -> None:
        u, v = (protocol.number(message, name, 0, 1) for name in ("u", "v"))
        point = self._point_at(u, v)
        if point is None:
            return
        with self._changed:
            self.state = replace(self.state, eye=navigate.turn_about(self.state.eye, point))

    def _learn(self, message: dict[str, Any]) -> None:
        self.house.learning.command(protocol.choice(message, "action", ("pause", "resume", "save")))

    def _point_at(self, u: float, v: float) -> np.ndarray | None:
        """Return the surface point [3] under a place of the last picture, in shares of its width and height."""
        kept = self._kept
        if kept is None:
            return None
        camera, _ = camera_of(self.house.studio.run, self.state)
        depth = self.house.studio.run.pipeline.depth(kept.shot.radiance)[0, 0]
        rows, columns = depth.shape
        z = depth[min(rows - 1, int(v * rows)), min(columns - 1, int(u * columns))]
        if not bool(torch.isfinite(z)):
            return None
        uv = torch.tensor([[[u * camera.width, v * camera.height]]], device=depth.device)
        return camera.unproject(uv, z.reshape(1, 1))[0, 0].double().cpu().numpy()

    # The loop.

    def _loop(self) -> None:
        spoken, rows, told = 0.0, 0, ""
        try:
            while not self._closed:
                if time.monotonic() - spoken > STATUS_SECONDS:
                    spoken = time.monotonic()
                    rows, told = self._tell(rows, told)
                with self._changed:
                    due = self._due()
                    if not due and not self._snapshots and not self._closed:
                        self._changed.wait(timeout=0.05)
                        continue
                    snapshot = self._snapshots.pop(0) if self._snapshots else None
                if snapshot is not None:
                    self._send_snapshot(snapshot)
                elif due:
                    self._draw()
        except (AbandonedError, ConnectionClosed):
            self._closed = True

    def _tell(self, rows: int, told: str) -> tuple[int, str]:
        """Send what has changed of the training and of a path's rendering."""
        export = self.house.exporter.progress
        text = _json({"type": "status", "export": vars(export), "training": self.house.learning.status()})
        if text != told:
            self._send(text)
        new = self.house.learning.history(rows)
        if new:
            self._say({"type": "history", "rows": new})
            rows = int(new[-1][0]) + 1
        return rows, text

    @property
    def _moving(self) -> bool:
        return time.monotonic() - self._moved < REST

    def _due(self) -> bool:
        """Whether another picture is wanted and the browser has shown the earlier ones."""
        if self._frame - self._shown_frame >= IN_FLIGHT:
            return False
        if self._version != self._drawn:
            return True
        if self._moving:
            return False
        # A picture in motion may be of full size already, but it is not sharp: a rest always gets one of its own.
        if self._scale_drawn < 1.0 or self._drawn_moving or self._adapting:
            return True
        pause = max(LIVE_SECONDS, LIVE_PAUSE * self._seconds)
        return self.house.studio.step != self._step_drawn and time.monotonic() - self._adapted > pause

    @property
    def _adapting(self) -> bool:
        return self.state.auto and self._goal is not None and self._goal != self.state.look.exposure

    _goal: float | None = None
    _drawn_moving = False

    def _draw(self) -> None:
        """Draw and send one picture of the present state."""
        with self._changed:
            state, version, moving, mark = self.state, self._version, self._moving, self._mark
        scale = self._scale_of(state, version, moving)
        begun = time.perf_counter()

        def unwanted() -> bool:
            if self._closed:
                return True
            now = self.state
            turned = now.eye is not state.eye or now.photo != state.photo or now.width != state.width
            # A moving picture is soon done and is shown; a resting one makes way.
            return not moving and (turned or (self.house.studio.hurried and self._patience > 0))

        try:
            header, body = self.house.studio.draw(
                lambda: self._picture(state, scale, unwanted, begun), hurry=moving
            )
        except AbandonedError:
            self._patience -= 1
            return
        except Exception as error:  # too large for the memory, perhaps: the browser is told, and may go on
            self._drawn, self._scale_drawn, self._step_drawn = version, 1.0, self.house.studio.step
            self._drawn_moving = False
            self._say({"type": "error", "message": f"this view cannot be drawn: {error}"[:300]})
            return
        self._patience = PATIENCE
        encoding = time.perf_counter()
        jpeg = jpeg_bytes(body, QUALITY_MOVING if moving else QUALITY_RESTING)
        now = time.perf_counter()
        header["stages"]["encode"] = now - encoding
        if header["rendered"]:
            self.pace.note(scale, now - begun)
            self._seconds = now - begun
        with self._changed:
            self._frame += 1
            header |= {"frame": self._frame, "moving": moving, "scale": scale, "mark": mark}
            self._drawn, self._scale_drawn, self._step_drawn = version, scale, header["step"]
            self._drawn_moving = moving
            self._adapted = time.monotonic()
        self._send(protocol.pack(header, jpeg))

    def _scale_of(self, state: State, version: int, moving: bool) -> float:
        """Return the scale of the next picture: of a rest's first a half, where a full one takes long."""
        if moving:
            return self.pace.scale()
        coarse = version != self._drawn or self._scale_drawn < FIRST_REST
        if not coarse or not self.pace.slow:
            return 1.0
        at_hand = self._kept is not None and self._kept.key == self._key(state, 1.0)
        return 1.0 if at_hand else FIRST_REST

    def _key(self, state: State, scale: float) -> tuple[Any, ...]:
        """Return what decides a shot: while it stays, another look or layer needs no new one."""
        camera, _ = camera_of(self.house.studio.run, state, scale)
        where = (state.photo, state.eye.focal, state.eye.camera_to_world.tobytes())
        return self.house.studio.step, camera.width, camera.height, *where

    def _picture(
        self, state: State, scale: float, unwanted: Callable[[], bool], begun: float
    ) -> tuple[dict[str, Any], np.ndarray]:
        """Render or take the kept shot, measure, expose and develop; runs on the drawing thread."""
        run = self.house.studio.run
        waited = time.perf_counter()
        camera, lens = camera_of(run, state, scale)
        key = self._key(state, scale)
        fresh = self._kept is None or self._kept.key != key
        if fresh:
            self._kept = Kept(key, shoot(run.pipeline, camera, lens, unwanted))
        assert self._kept is not None
        shot = self._kept.shot
        developed = time.perf_counter()
        look = self._expose(state, shot)
        picture = layer_picture(run, camera, shot.radiance, look, state.shown)
        pixels = picture.pixels
        if state.beside:
            points = replace(state.shown, layer="points")
            other = layer_picture(run, camera, shot.radiance, look, points).pixels
            pixels = np.concatenate([pixels, other], axis=1)
        stages = {"wait": waited - begun} | (shot.stages if fresh else {})
        measured = histogram(picture.light, white_level(look))
        stages["develop"] = time.perf_counter() - developed
        header = {
            "kind": "frame",
            "width": pixels.shape[1],
            "height": pixels.shape[0],
            "rendered": fresh,
            "step": key[0],
            "stages": stages,
            "camera_to_world": state.eye.camera_to_world.flatten().tolist(),
            "focal": state.eye.focal,
            "photo": state.photo,
            "beside": state.beside,
            "exposure": round(look.exposure, 3),
            "note": picture.note,
            "histogram": measured,
        }
        return header, pixels

    def _expose(self, state: State, shot: Shot) -> CameraSettings:
        """Return the state's look; where exposure is automatic, adapted a little further to the picture."""
        if not state.auto:
            self._goal = None
            return state.look
        gains = torch.tensor(state.look.white_balance, device=shot.radiance.image.device)
        light = shot.radiance.image[0] * gains[:, None, None]
        goal = round(min(12.0, max(-12.0, metered(light))), 3)
        passed = min(0.5, time.monotonic() - self._adapted)
        exposure = adapt(state.look.exposure, goal, passed)
        with self._changed:
            self._goal = goal
            if self.state.auto:
                self.state = replace(self.state, look=replace(self.state.look, exposure=exposure))
        return replace(state.look, exposure=exposure)

    def _send_snapshot(self, kind: str) -> None:
        """Send the present view at full resolution, as the files that `adop render` writes."""
        state, run = self.state, self.house.studio.run
        camera, lens = camera_of(run, replace(state, beside=False))
        try:
            view = self.house.studio.draw(lambda: render_views(run.pipeline, camera, state.look, lens)[0])
        except RuntimeError as error:  # torch's, where memory ends
            self._say({"type": "error", "message": f"this view cannot be drawn: {error}"[:300]})
            return
        header = {"kind": "file", "name": f"view.{kind}", "type": kind}
        self._send(protocol.pack(header, SNAPSHOTS[kind](view)))


_ACTIONS: dict[str, Callable[[Session, dict[str, Any]], None]] = {
    "mark": Session._note_mark,
    "save": Session._save,
    "load": Session._load,
    "render": Session._render,
    "cancel": Session._cancel,
    "snapshot": Session._snapshot,
    "pivot": Session._pivot,
    "learn": Session._learn,
}


def _json(message: dict[str, Any]) -> str:
    return json.dumps(message, allow_nan=False)
