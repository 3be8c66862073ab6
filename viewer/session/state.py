"""What one browser sees, and how its messages change it: pure functions of state and message."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from adop.errors import UserError
from adop.geometry.camera import Camera
from adop.render.camera_path import Frame, pinhole
from adop.render.camera_settings import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    RESPONSES,
    CameraSettings,
    gains_of,
    temperature_of,
)
from adop.render.key_frames import KeyFrame, KeyPath, interpolate
from adop.run.run import Run
from adop.viewer.drawing.layers import LAYERS, Shown
from adop.viewer.session import navigate, protocol
from adop.viewer.session.navigate import Eye

MAX_STOPS = 12.0
CURVE = 96  # places of a path that the page draws a line through
MAX_DRAG = 4.0  # picture heights in one message


@dataclass(frozen=True)
class Balance:
    """White balance as a photographer names it."""

    temperature: float = 6500.0  # kelvin
    tint: float = 0.0  # -1 green to 1 magenta


@dataclass(frozen=True)
class State:
    """Everything that decides a browser's picture but its resolution."""

    eye: Eye
    width: int = 960  # px of the canvas
    height: int = 540
    photo: int | None = None  # the view is exactly this photo's
    look: CameraSettings = field(default_factory=CameraSettings)
    balance: Balance = Balance()
    auto: bool = False  # exposure follows the picture
    shown: Shown = field(default_factory=Shown)
    beside: bool = False  # neural picture and points side by side
    rate: float = 15.0  # pictures per second wanted while moving
    path: KeyPath = field(default_factory=lambda: KeyPath(()))


def start_state(run: Run) -> State:
    """Return what a browser sees first."""
    return State(navigate.start(run.scene))


def camera_of(run: Run, state: State, scale: float = 1.0) -> tuple[Camera, list[int] | None]:
    """Return the camera (B = 1) of a state at a scale of its canvas, and the lens's index for a photo's own view."""
    device = run.pipeline.device
    width, height = state.width, state.height
    if state.beside:
        width = max(2, width // 2)
    if state.photo is not None:
        index = torch.tensor([state.photo])
        camera = run.pipeline.camera(index)
        fit = min(width / camera.width, height / camera.height, 1.0)
        return camera.scaled(fit * scale).to(device), [run.pipeline.cameras.lens_of[state.photo]]
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    return pinhole(state.eye.frame(), *size, device), None


def change(run: Run, state: State, message: dict[str, Any]) -> State:
    """Return the state after a message. Raises: UserError for a message that is none."""
    handler = _HANDLERS.get(message["type"])
    if handler is None:
        raise UserError(f"there is no message {message['type'][:40]!r}")
    return handler(run, state, message)


def _size(run: Run, state: State, message: dict[str, Any]) -> State:
    width = protocol.number(message, "width", 16, protocol.MAX_SIDE)
    height = protocol.number(message, "height", 16, protocol.MAX_SIDE)
    return replace(state, width=round(width), height=round(height))


_MOVES: dict[str, tuple[int, Callable[..., Eye]]] = {
    "orbit": (2, navigate.orbit),
    "turn": (2, navigate.turn),
    "pan": (2, navigate.pan),
    "dolly": (1, navigate.dolly),
    "fly": (3, navigate.fly),
}


def _move(run: Run, state: State, message: dict[str, Any]) -> State:
    eye = state.eye
    for name, (count, motion) in _MOVES.items():
        if name in message:
            eye = motion(eye, *protocol.numbers(message, name, count, MAX_DRAG))
    if "focal" in message:
        eye = navigate.zoom(eye, protocol.number(message, "focal", navigate.WIDEST, navigate.LONGEST))
    return state if eye is state.eye else replace(state, eye=eye, photo=None)


def _home(run: Run, state: State, message: dict[str, Any]) -> State:
    return replace(state, eye=navigate.start(run.scene), photo=None)


def _photo(run: Run, state: State, message: dict[str, Any]) -> State:
    photo = protocol.index(message, "photo", len(run.scene.photos))
    return replace(state, eye=navigate.at_photo(run.scene, photo, state.eye), photo=photo)


def _look(run: Run, state: State, message: dict[str, Any]) -> State:
    look, balance, auto = state.look, state.balance, state.auto
    if "exposure" in message:
        exposure = protocol.number(message, "exposure", -MAX_STOPS, MAX_STOPS)
        look, auto = replace(look, exposure=exposure), False
    if "auto" in message:
        auto = protocol.flag(message, "auto")
    if "vignette" in message:
        look = replace(look, vignette=protocol.flag(message, "vignette"))
    if "response" in message:
        look = replace(look, response=protocol.choice(message, "response", RESPONSES))  # type: ignore[arg-type]
    if "lens" in message:
        look = replace(look, lens=protocol.index(message, "lens", len(run.scene.lenses)))
    if "temperature" in message:
        balance = replace(
            balance, temperature=protocol.number(message, "temperature", MIN_TEMPERATURE, MAX_TEMPERATURE)
        )
    if "tint" in message:
        balance = replace(balance, tint=protocol.number(message, "tint", -1, 1))
    if balance != state.balance:
        look = replace(look, white_balance=gains_of(balance.temperature, balance.tint))
    return replace(state, look=look, balance=balance, auto=auto)


def _expose(run: Run, state: State, message: dict[str, Any]) -> State:
    photo = protocol.index(message, "photo", len(run.scene.photos))
    look = replace(run.photo_settings(photo), response=state.look.response, vignette=state.look.vignette)
    return replace(state, look=look, balance=Balance(*temperature_of(look.white_balance)), auto=False)


def _show(run: Run, state: State, message: dict[str, Any]) -> State:
    shown, beside = state.shown, state.beside
    if "layer" in message:
        shown = replace(shown, layer=protocol.choice(message, "layer", LAYERS))  # type: ignore[arg-type]
    if "level" in message:
        shown = replace(shown, level=protocol.index(message, "level", run.config.render.levels))
    if "point_size" in message:
        shown = replace(shown, point_size=round(protocol.number(message, "point_size", 1, 4)))
    if "clipping" in message:
        shown = replace(shown, clipping=protocol.flag(message, "clipping"))
    if "beside" in message:
        beside = protocol.flag(message, "beside")
    return replace(state, shown=shown, beside=beside)


def _rate(run: Run, state: State, message: dict[str, Any]) -> State:
    return replace(state, rate=protocol.number(message, "rate", 1, 120))


def _path(run: Run, state: State, message: dict[str, Any]) -> State:
    keys = message.get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise UserError("keys: expected a list of key frames")
    path = KeyPath(
        tuple(_key(key) for key in keys),
        round(protocol.number(message, "width", 16, 8192)) // 2 * 2,
        round(protocol.number(message, "height", 16, 8192)) // 2 * 2,
        protocol.number(message, "rate", 1, 240),
    )
    return replace(state, path=path)


def _key(key: dict[str, Any]) -> KeyFrame:
    matrix = np.array(protocol.numbers(key, "camera_to_world", 16, 1e9)).reshape(4, 4)
    rotation = matrix[:3, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
        raise UserError("a key frame's camera_to_world is not a rigid motion")
    matrix[3] = (0, 0, 0, 1)
    frame = Frame(
        np.linalg.inv(matrix),
        protocol.number(key, "focal", navigate.WIDEST, navigate.LONGEST),
        protocol.number(key, "exposure", -MAX_STOPS, MAX_STOPS),
    )
    return KeyFrame(protocol.number(key, "time", 0, 3600), frame)


def _at(run: Run, state: State, message: dict[str, Any]) -> State:
    time = protocol.number(message, "time", 0, 3600)
    (frame,) = interpolate(state.path.keys, np.array([time]))
    look = replace(state.look, exposure=frame.exposure)
    return replace(state, eye=navigate.at_frame(state.eye, frame), photo=None, look=look, auto=False)


_HANDLERS: dict[str, Callable[[Run, State, dict[str, Any]], State]] = {
    "size": _size,
    "move": _move,
    "home": _home,
    "photo": _photo,
    "look": _look,
    "expose": _expose,
    "show": _show,
    "rate": _rate,
    "path": _path,
    "at": _at,
}
MOTIONS = ("move", "at")


def state_json(run: Run, state: State) -> dict[str, Any]:
    """Return what the page's controls show of a state."""
    return {
        "type": "state",
        "exposure": round(state.look.exposure, 3),
        "auto": state.auto,
        "temperature": round(state.balance.temperature),
        "tint": round(state.balance.tint, 3),
        "response": state.look.response,
        "vignette": state.look.vignette,
        "lens": state.look.lens,
        "layer": state.shown.layer,
        "level": state.shown.level,
        "point_size": state.shown.point_size,
        "clipping": state.shown.clipping,
        "beside": state.beside,
        "rate": state.rate,
        "photo": state.photo,
        "fov": math.degrees(2 * math.atan(0.5 / state.eye.focal)),
        "path": path_state(state.path),
    }


def path_state(path: KeyPath) -> dict[str, Any]:
    """Return a path as the page's timeline holds it; `way` are places along it, for its line in the view."""
    way = []
    if len(path.keys) > 1:
        times = np.linspace(path.keys[0].time, path.keys[-1].time, CURVE)
        poses = np.linalg.inv(np.stack([f.world_to_camera for f in interpolate(path.keys, times)]))
        way = poses[:, :3, 3].round(6).tolist()
    return {
        "way": way,
        "keys": [
            {
                "time": key.time,
                "camera_to_world": np.linalg.inv(key.frame.world_to_camera).flatten().tolist(),
                "focal": key.frame.focal,
                "exposure": key.frame.exposure,
            }
            for key in path.keys
        ],
        "width": path.width,
        "height": path.height,
        "rate": path.rate,
    }
