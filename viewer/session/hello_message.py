"""The first message to a page: what it needs to know about the run."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from adop.model.tonemapper import Tonemapper
from adop.render.camera_settings import RESPONSES, CameraSettings, respond
from adop.run.run import Run
from adop.viewer.drawing.light_meter import MAX_STOP, MIN_STOP
from adop.viewer.session.files import Files

CURVE_SAMPLES = 66


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


def hello_message(run: Run, files: Files, photos: list[dict[str, Any]], scale: float) -> dict[str, Any]:
    """Return the message that tells a page about the run: its photos, its saved paths, and its response curves.

    Args:
        photos: see `photo_values`.
        scale: of the scene, scene units.
    """
    return {
        "type": "hello",
        "scene": run.scene.name,
        "trained": run.config.network.kind != "none",
        "points": len(run.pipeline.points.xyz),
        "levels": run.config.render.levels,
        "device": run.pipeline.device.type,
        "lenses": len(run.scene.lenses),
        "scale": scale,
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
