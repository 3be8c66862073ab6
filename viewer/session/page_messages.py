"""The messages to a page that say what it shows: of the run, the first one; of its own state, whenever that changes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from adop.model.tonemapper import Tonemapper
from adop.render.camera_settings import RESPONSES, CameraSettings, respond
from adop.render.key_frames import KeyPath, interpolate
from adop.run.run import Run
from adop.viewer.drawing.captured_region import CapturedRegion
from adop.viewer.drawing.light_meter import MAX_STOP, MIN_STOP
from adop.viewer.session.files import Files
from adop.viewer.session.state import Exposing, State

CURVE_SAMPLES = 66  # of a response
CURVE_POINTS = 96  # points of the line that the page draws along a camera path


def photo_values(run: Run) -> list[dict[str, Any]]:
    """Return what a page needs to know about each photo of a run."""
    held_out = set(run.split["held_out"])
    photos = []
    for index, photo in enumerate(run.scene.photos):
        lens = run.scene.lenses[photo.lens]
        photos.append(
            {
                "name": photo.name,
                "camera_to_world": np.linalg.inv(photo.world_to_camera).flatten().tolist(),
                "focal": float(lens.intrinsics[1] / lens.height),
                "aspect": lens.width / lens.height,
                "held_out": index in held_out,
            }
        )
    return photos


def hello_message(run: Run, files: Files, photos: list[dict[str, Any]], start: State) -> dict[str, Any]:
    """Return the message that tells a page about the run: its photos, its saved paths, and its response curves.

    Args:
        photos: see `photo_values`.
        start: the state in which every browser starts.
    """
    view = start.viewpoint
    return {
        "type": "hello",
        "scene": run.scene.name,
        "trained": run.config.network.kind != "none",
        "points": len(run.pipeline.points.xyz),
        "levels": run.config.render.levels,
        "device": run.pipeline.device.type,
        "lenses": len(run.scene.lenses),
        "scale": view.scale,
        "home": {"camera_to_world": view.camera_to_world.flatten().tolist(), "focal": view.focal},
        "region": start.region.corners().tolist(),
        "photos": photos,
        "paths": files.path_names(),
        "curves": response_curves(run.pipeline.tonemapper, run.pipeline.device),
        "folder": str(files.folder),
    }


def response_curves(tonemapper: Tonemapper, device: torch.device) -> dict[str, Any]:
    """Return the range of sensor light in stops, and over it the values of red, green and blue of each response."""
    stops = torch.linspace(MIN_STOP, MAX_STOP, CURVE_SAMPLES, device=device)
    light = stops.exp2()[None, None, None].expand(1, 3, 1, -1)
    curves = {}
    with torch.no_grad():
        for response in RESPONSES:
            value = respond(tonemapper, light, CameraSettings(response=response))[0, :, 0]
            curves[response] = [[round(float(v), 4) for v in row.clamp(0, 1)] for row in value]
    return {"stops": [MIN_STOP, MAX_STOP], "values": curves}


def state_message(state: State) -> dict[str, Any]:
    """Return the message that sets the page's controls to a state."""
    return {
        "type": "state",
        **_exposing_values(Exposing(state.settings, state.white_balance, state.auto_exposure)),
        "own": None if state.own is None else _exposing_values(state.own),
        "response": state.settings.response,
        "layer": state.display.layer,
        "level": state.display.level,
        "point_size": state.display.point_size,
        "show_clipping": state.display.show_clipping,
        "side_by_side": state.side_by_side,
        "frame_rate": state.frame_rate,
        "photo": state.photo,
        "matched": state.matched,
        "surroundings": state.surroundings,
        "crop": _crop_values(state),
        "fov": math.degrees(2 * math.atan(0.5 / state.viewpoint.focal)),
        "path": _path_values(state.path),
    }


def _exposing_values(exposing: Exposing) -> dict[str, Any]:
    """Return how an image is exposed, as the page's controls have it."""
    return {
        "exposure": round(exposing.settings.exposure, 3),
        "auto_exposure": exposing.auto,
        "temperature": round(exposing.white_balance.temperature),
        "tint": round(exposing.white_balance.tint, 3),
        "vignette": exposing.settings.vignette,
        "lens": exposing.settings.lens,
    }


def _crop_values(state: State) -> dict[str, Any] | None:
    """Return the crop box in shares of the captured region, as the page's controls have it; None: there is none."""
    if state.crop is None:
        return None
    centre = (state.region.axes @ (state.crop.centre - state.region.centre)) / state.region.half_size
    half = state.crop.half_size / state.region.half_size
    low, high = (1 + centre - half) / 2, (1 + centre + half) / 2
    corners = CapturedRegion(state.crop.centre, state.crop.axes, state.crop.half_size).corners()
    sides = {"low": low.clip(0, 1).round(4).tolist(), "high": high.clip(0, 1).round(4).tolist()}
    return sides | {"corners": corners.tolist()}


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
