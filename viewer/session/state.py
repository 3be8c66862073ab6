"""What one browser sees, and how its messages change it: pure functions of state and message."""

from __future__ import annotations

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
from adop.render.crop_box import CropBox
from adop.render.key_frames import MAX_SECONDS, KeyFrame, KeyPath, interpolate
from adop.run.run import Run
from adop.viewer.drawing.captured_region import SURROUNDINGS, CapturedRegion, Surroundings, captured_region
from adop.viewer.drawing.layers import LAYERS, DisplayOptions
from adop.viewer.drawing.light_meter import MAX_EXPOSURE
from adop.viewer.session import navigation, protocol
from adop.viewer.session.navigation import Viewpoint

MAX_DRAG = 4.0  # image heights in one message
MIN_PATH_SIDE, MAX_PATH_SIDE = 16, 8192  # px of a path's frames
MAX_COORDINATE = 1e9  # of a key frame's matrix
MIN_CROP = 1e-3  # of the captured region's size, the smallest side of a crop box


@dataclass(frozen=True)
class WhiteBalance:
    """White balance as photographers specify it."""

    temperature: float = 6500.0  # kelvin
    tint: float = 0.0  # from -1 (green) to 1 (magenta)


@dataclass(frozen=True)
class Exposing:
    """How a browser's image is exposed, apart from response and vignette."""

    settings: CameraSettings
    white_balance: WhiteBalance
    auto: bool


@dataclass(frozen=True)
class State:
    """Everything that determines a browser's image, except its resolution."""

    viewpoint: Viewpoint
    region: CapturedRegion  # of the scene
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
    matched: int | None = None  # the photo whose exposure is used while it is compared
    own: Exposing | None = None  # how the image was exposed before, and is again after the comparison
    surroundings: Surroundings = "grey"  # what is shown beyond the captured region from outside it
    crop: CropBox | None = None  # None: the whole scene is drawn


def start_state(run: Run, crop: CropBox | None = None) -> State:
    """Return the state of a browser that has just connected: the view and the exposure of a photo of the middle."""
    viewpoint = _start_viewpoint(run)
    region = captured_region(run.scene, viewpoint.up)
    return _exposed_as_at_start(run, State(viewpoint, region, crop=crop))


def _start_photo(run: Run) -> int:
    photos = run.split["train"] or list(range(len(run.scene.photos)))
    return navigation.start_photo(
        run.scene, photos, run.pipeline.tonemapper.exposures().detach().cpu().numpy()
    )


def _start_viewpoint(run: Run) -> Viewpoint:
    photo = _start_photo(run)
    return _at_learned_pose(run, navigation.start_viewpoint(run.scene, photo), photo)


def _at_learned_pose(run: Run, viewpoint: Viewpoint, photo: int) -> Viewpoint:
    """Return a photo's viewpoint where training has moved its camera to."""
    return navigation.at_pose(viewpoint, run.photo_camera(photo).world_to_camera[0].double().cpu().numpy())


def _exposed_as_at_start(run: Run, state: State) -> State:
    # White balance and lens stay those of `adop render`, which gets the exposure from the key frames of a path.
    return _with_exposure(state, CameraSettings(run.photo_settings(_start_photo(run)).exposure))


def _with_exposure(state: State, settings: CameraSettings) -> State:
    """Return the state with camera settings, and the white balance that the page shows for their gains."""
    balance = WhiteBalance(*temperature_of(settings.white_balance))
    return replace(state, settings=settings, white_balance=balance, auto_exposure=False)


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
            amounts = protocol.numbers(message, name, count, MAX_DRAG)
            viewpoint = navigation.slowed(viewpoint, state.region, motion, amounts)
    if "focal" in message:
        viewpoint = navigation.zoom(viewpoint, _focal(message))
    return state if viewpoint is state.viewpoint else replace(state, viewpoint=viewpoint, photo=None)


def _go_home(run: Run, state: State, message: dict[str, Any]) -> State:
    return replace(state, viewpoint=_start_viewpoint(run), photo=None)


def _frame_scene(run: Run, state: State, message: dict[str, Any]) -> State:
    """Show the whole scene, level the camera, or take its up direction as the scene's."""
    action, viewpoint = protocol.choice(message, "action", ("fit", "straighten", "up")), state.viewpoint
    if action == "fit":
        viewpoint = navigation.fit(viewpoint, state.region, state.width / state.height)
    elif action == "straighten":
        viewpoint = navigation.straighten(viewpoint)
    else:
        viewpoint = navigation.with_own_up(viewpoint)
    return replace(state, viewpoint=viewpoint, photo=state.photo if action == "up" else None)


def _crop(run: Run, state: State, message: dict[str, Any]) -> State:
    """Draw only a box: from `low` to `high`, in shares of the captured region along its axes."""
    if not protocol.flag(message, "on"):
        return replace(state, crop=None)
    low, high = (np.array(protocol.numbers(message, name, 3, 1)).clip(0, 1) for name in ("low", "high"))
    half = np.maximum((high - low).clip(0), MIN_CROP) * state.region.half_size
    centre = state.region.centre + ((low + high - 1) * state.region.half_size) @ state.region.axes
    return replace(state, crop=CropBox(centre, state.region.axes, half))


def _go_to_view(run: Run, state: State, message: dict[str, Any]) -> State:
    """Move to a camera that the page has kept, in its address."""
    viewpoint = replace(
        navigation.at_pose(state.viewpoint, np.linalg.inv(_rigid(message, "the view"))),
        pivot=np.array(protocol.numbers(message, "pivot", 3, MAX_COORDINATE)),
        focal=_focal(message),
    )
    return replace(state, viewpoint=viewpoint, photo=None)


def _go_to_photo(run: Run, state: State, message: dict[str, Any]) -> State:
    photo = protocol.index(message, "photo", len(run.scene.photos))
    viewpoint = navigation.at_photo(run.scene, photo, state.viewpoint)
    return replace(state, viewpoint=_at_learned_pose(run, viewpoint, photo), photo=photo)


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
    return _with_exposure(state, replace(run.photo_settings(photo), **kept))  # type: ignore[arg-type]


def _compare(run: Run, state: State, message: dict[str, Any]) -> State:
    """Expose as a photo while it is compared, where the page asks for it; afterwards as before."""
    if state.own is not None:
        own = state.own
        state = replace(state, settings=own.settings, white_balance=own.white_balance, auto_exposure=own.auto)
    state = replace(state, matched=None, own=None)
    if message.get("photo") is None or not protocol.flag(message, "match"):
        return state
    photo = protocol.index(message, "photo", len(run.scene.photos))
    before = Exposing(state.settings, state.white_balance, state.auto_exposure)
    settings = replace(run.photo_settings(photo), response=state.settings.response)
    return replace(_with_exposure(state, settings), matched=photo, own=before)


def _reset_settings(run: Run, state: State, message: dict[str, Any]) -> State:
    return replace(_exposed_as_at_start(run, state), matched=None, own=None)


def _change_display(run: Run, state: State, message: dict[str, Any]) -> State:
    display, side_by_side = state.display, state.side_by_side
    if "layer" in message:
        layer = protocol.choice(message, "layer", LAYERS)
        display = replace(display, layer=layer)  # type: ignore[arg-type]
    if "level" in message:
        display = replace(display, level=protocol.index(message, "level", run.config.render.levels))
    if "point_size" in message:
        display = replace(display, point_size=round(protocol.number(message, "point_size", 1, 4)))
    if "surroundings" in message:
        surroundings = protocol.choice(message, "surroundings", SURROUNDINGS)
        state = replace(state, surroundings=surroundings)  # type: ignore[arg-type]
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
    frame = Frame(np.linalg.inv(_rigid(key, "a key frame")), _focal(key), _exposure(key))
    return KeyFrame(protocol.number(key, "time", 0, MAX_SECONDS), frame)


def _rigid(message: dict[str, Any], whose: str) -> np.ndarray:
    """Return the camera_to_world [4, 4] of a message. Raises: UserError where it is not a rigid motion."""
    matrix = np.array(protocol.numbers(message, "camera_to_world", 16, MAX_COORDINATE)).reshape(4, 4)
    rotation = matrix[:3, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
        raise UserError(f"the camera_to_world of {whose} is not a rigid motion")
    matrix[3] = (0, 0, 0, 1)
    return matrix


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
    "compare": _compare,
    "reset_settings": _reset_settings,
    "view": _go_to_view,
    "scene": _frame_scene,
    "crop": _crop,
    "display": _change_display,
    "frame_rate": _change_frame_rate,
    "path": _change_path,
    "seek": _seek,
}
MOTION_MESSAGES = ("move", "seek")  # after which the camera counts as moving
