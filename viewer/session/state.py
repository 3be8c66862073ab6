"""What one browser sees, and how its messages change it: pure functions of state and message."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

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
from adop.render.key_frames import MAX_SECONDS, KeyFrame, KeyPath, interpolate
from adop.run.run import Run
from adop.viewer.drawing.layers import LAYERS, DisplayOptions
from adop.viewer.drawing.light_meter import MAX_EXPOSURE
from adop.viewer.session import navigation, protocol
from adop.viewer.session.navigation import Viewpoint

CURVE_POINTS = 96  # points of the line that the page draws along a camera path
MAX_DRAG = 4.0  # image heights in one message
MIN_PATH_SIDE, MAX_PATH_SIDE = 16, 8192  # px of a path's frames
MAX_COORDINATE = 1e9  # of a key frame's matrix


@dataclass(frozen=True)
class WhiteBalance:
    """White balance as photographers specify it."""

    temperature: float = 6500.0  # kelvin
    tint: float = 0.0  # from -1 (green) to 1 (magenta)


@dataclass(frozen=True)
class State:
    """Everything that determines a browser's image, except its resolution."""

    viewpoint: Viewpoint
    width: int = 960  # px of the canvas
    height: int = 540  # px of the canvas
    photo: int | None = None  # the photo whose camera is used; None: a pinhole at the viewpoint
    settings: CameraSettings = field(default_factory=CameraSettings)
    white_balance: WhiteBalance = WhiteBalance()  # what the gains of `settings` were made of
    auto_exposure: bool = False
    display: DisplayOptions = field(default_factory=DisplayOptions)
    side_by_side: bool = False  # the layer on the left, the points on the right
    frame_rate: float = 15.0  # frames per second to reach while the camera moves
    path: KeyPath = field(default_factory=lambda: KeyPath(()))


def start_state(run: Run) -> State:
    """Return the state of a browser that has just connected."""
    return State(navigation.start_viewpoint(run.scene))


def camera_of(run: Run, state: State, scale: float = 1.0) -> tuple[Camera, list[int] | None]:
    """Return the camera (B = 1) of a state and the lenses [1] that it has, or None where it has no photo's lens.

    Args: scale: of the image relative to the canvas.
    """
    device = run.pipeline.device
    width, height = state.width, state.height
    if state.side_by_side:
        width = max(2, width // 2)
    if state.photo is not None:
        camera = run.photo_camera(state.photo)
        fit = min(width / camera.width, height / camera.height, 1.0)
        return camera.scaled(fit * scale).to(device), [run.pipeline.cameras.lens_of[state.photo]]
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    return pinhole(state.viewpoint.frame(), *size, device), None


def change(run: Run, state: State, message: dict[str, Any]) -> State:
    """Return the state after a message. Raises: UserError where the message is not valid."""
    handler = _HANDLERS.get(message["type"])
    if handler is None:
        raise UserError(f"there is no message of type {message['type'][:40]!r}")
    return handler(run, state, message)


def _change_size(run: Run, state: State, message: dict[str, Any]) -> State:
    limit = protocol.MAX_SIDE if run.pipeline.device.type == "cuda" else protocol.MAX_CPU_SIDE
    width = protocol.number(message, "width", 16, limit)
    height = protocol.number(message, "height", 16, limit)
    return replace(state, width=round(width), height=round(height))


_MOTIONS: dict[str, tuple[int, Callable[..., Viewpoint]]] = {  # number of arguments, and the function
    "orbit": (2, navigation.orbit),
    "turn": (2, navigation.turn),
    "pan": (2, navigation.pan),
    "dolly": (1, navigation.dolly),
    "fly": (3, navigation.fly),
}


def _move(run: Run, state: State, message: dict[str, Any]) -> State:
    viewpoint = state.viewpoint
    for name, (count, motion) in _MOTIONS.items():
        if name in message:
            viewpoint = motion(viewpoint, *protocol.numbers(message, name, count, MAX_DRAG))
    if "focal" in message:
        viewpoint = navigation.zoom(viewpoint, _focal(message))
    return state if viewpoint is state.viewpoint else replace(state, viewpoint=viewpoint, photo=None)


def _go_home(run: Run, state: State, message: dict[str, Any]) -> State:
    return replace(state, viewpoint=navigation.start_viewpoint(run.scene), photo=None)


def _go_to_photo(run: Run, state: State, message: dict[str, Any]) -> State:
    photo = protocol.index(message, "photo", len(run.scene.photos))
    return replace(state, viewpoint=navigation.at_photo(run.scene, photo, state.viewpoint), photo=photo)


def _change_settings(run: Run, state: State, message: dict[str, Any]) -> State:
    settings, balance, auto = state.settings, state.white_balance, state.auto_exposure
    if "exposure" in message:
        settings, auto = replace(settings, exposure=_exposure(message)), False
    if "auto_exposure" in message:
        auto = protocol.flag(message, "auto_exposure")
    if "vignette" in message:
        settings = replace(settings, vignette=protocol.flag(message, "vignette"))
    if "response" in message:
        response = protocol.choice(message, "response", RESPONSES)
        settings = replace(settings, response=response)  # type: ignore[arg-type]
    if "lens" in message:
        settings = replace(settings, lens=protocol.index(message, "lens", len(run.scene.lenses)))
    if "temperature" in message:
        temperature = protocol.number(message, "temperature", MIN_TEMPERATURE, MAX_TEMPERATURE)
        balance = replace(balance, temperature=temperature)
    if "tint" in message:
        balance = replace(balance, tint=protocol.number(message, "tint", -1, 1))
    if balance != state.white_balance:
        settings = replace(settings, white_balance=gains_of(balance.temperature, balance.tint))
    return replace(state, settings=settings, white_balance=balance, auto_exposure=auto)


def _match_photo(run: Run, state: State, message: dict[str, Any]) -> State:
    """Take over exposure, white balance and lens of a photo."""
    photo = protocol.index(message, "photo", len(run.scene.photos))
    kept = {"response": state.settings.response, "vignette": state.settings.vignette}
    settings = replace(run.photo_settings(photo), **kept)  # type: ignore[arg-type]
    balance = WhiteBalance(*temperature_of(settings.white_balance))
    return replace(state, settings=settings, white_balance=balance, auto_exposure=False)


def _change_display(run: Run, state: State, message: dict[str, Any]) -> State:
    display, side_by_side = state.display, state.side_by_side
    if "layer" in message:
        layer = protocol.choice(message, "layer", LAYERS)
        display = replace(display, layer=layer)  # type: ignore[arg-type]
    if "level" in message:
        display = replace(display, level=protocol.index(message, "level", run.config.render.levels))
    if "point_size" in message:
        display = replace(display, point_size=round(protocol.number(message, "point_size", 1, 4)))
    if "show_clipping" in message:
        display = replace(display, show_clipping=protocol.flag(message, "show_clipping"))
    if "side_by_side" in message:
        side_by_side = protocol.flag(message, "side_by_side")
    return replace(state, display=display, side_by_side=side_by_side)


def _change_frame_rate(run: Run, state: State, message: dict[str, Any]) -> State:
    return replace(state, frame_rate=protocol.number(message, "frame_rate", 1, 120))


def _change_path(run: Run, state: State, message: dict[str, Any]) -> State:
    keys = message.get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise UserError("keys: expected a list of key frames")
    # Videos need even sides.
    path = KeyPath(
        tuple(_key_frame(key) for key in keys),
        round(protocol.number(message, "width", MIN_PATH_SIDE, MAX_PATH_SIDE)) // 2 * 2,
        round(protocol.number(message, "height", MIN_PATH_SIDE, MAX_PATH_SIDE)) // 2 * 2,
        protocol.number(message, "rate", 1, 240),
    )
    return replace(state, path=path)


def _key_frame(key: dict[str, Any]) -> KeyFrame:
    matrix = np.array(protocol.numbers(key, "camera_to_world", 16, MAX_COORDINATE)).reshape(4, 4)
    rotation = matrix[:3, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
        raise UserError("the camera_to_world of a key frame is not a rigid motion")
    matrix[3] = (0, 0, 0, 1)
    frame = Frame(np.linalg.inv(matrix), _focal(key), _exposure(key))
    return KeyFrame(protocol.number(key, "time", 0, MAX_SECONDS), frame)


def _seek(run: Run, state: State, message: dict[str, Any]) -> State:
    """Move to a time on the camera path."""
    time = protocol.number(message, "time", 0, MAX_SECONDS)
    (frame,) = interpolate(state.path.keys, np.array([time]))
    viewpoint = navigation.at_frame(state.viewpoint, frame)
    settings = replace(state.settings, exposure=frame.exposure)
    return replace(state, viewpoint=viewpoint, photo=None, settings=settings, auto_exposure=False)


def _focal(message: dict[str, Any]) -> float:
    return protocol.number(message, "focal", navigation.MIN_FOCAL, navigation.MAX_FOCAL)


def _exposure(message: dict[str, Any]) -> float:
    return protocol.number(message, "exposure", -MAX_EXPOSURE, MAX_EXPOSURE)


_HANDLERS: dict[str, Callable[[Run, State, dict[str, Any]], State]] = {
    "size": _change_size,
    "move": _move,
    "home": _go_home,
    "photo": _go_to_photo,
    "settings": _change_settings,
    "match_photo": _match_photo,
    "display": _change_display,
    "frame_rate": _change_frame_rate,
    "path": _change_path,
    "seek": _seek,
}
MOTION_MESSAGES = ("move", "seek")  # after which the camera counts as moving


def state_message(state: State) -> dict[str, Any]:
    """Return the message that sets the page's controls to a state."""
    return {
        "type": "state",
        "exposure": round(state.settings.exposure, 3),
        "auto_exposure": state.auto_exposure,
        "temperature": round(state.white_balance.temperature),
        "tint": round(state.white_balance.tint, 3),
        "response": state.settings.response,
        "vignette": state.settings.vignette,
        "lens": state.settings.lens,
        "layer": state.display.layer,
        "level": state.display.level,
        "point_size": state.display.point_size,
        "show_clipping": state.display.show_clipping,
        "side_by_side": state.side_by_side,
        "frame_rate": state.frame_rate,
        "photo": state.photo,
        "fov": math.degrees(2 * math.atan(0.5 / state.viewpoint.focal)),
        "path": _path_values(state.path),
    }


def _path_values(path: KeyPath) -> dict[str, Any]:
    """Return a path as the page holds it: its key frames, and positions along its `curve` to draw in the view."""
    curve = []
    if len(path.keys) > 1:
        times = np.linspace(path.keys[0].time, path.keys[-1].time, CURVE_POINTS)
        poses = np.linalg.inv(np.stack([f.world_to_camera for f in interpolate(path.keys, times)]))
        curve = poses[:, :3, 3].round(6).tolist()
    return {
        "curve": curve,
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
