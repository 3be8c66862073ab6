"""What a page is told of the run before its first picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from adop.render.camera_settings import RESPONSES, CameraSettings, respond
from adop.run.run import Run
from adop.viewer.session import navigate
from adop.viewer.session.files import Files
from adop.viewer.session.pace import BRIGHTEST_STOP, DARKEST_STOP


def hello(run: Run, files: Files) -> dict[str, Any]:
    """Return what a page needs to know of the run before its first picture."""
    held_out = set(run.split["held_out"])
    photos = []
    for number, photo in enumerate(run.scene.photos):
        lens = run.scene.lenses[photo.lens]
        photos.append(
            {
                "name": photo.name,
                "camera_to_world": np.linalg.inv(photo.world_to_camera).flatten().tolist(),
                "focal": float(lens.intrinsics[1] / lens.height),
                "aspect": lens.width / lens.height,
                "held_out": number in held_out,
            }
        )
    eye = navigate.start(run.scene)
    return {
        "type": "hello",
        "scene": run.scene.name,
        "trained": run.config.network.kind != "none",
        "points": len(run.pipeline.points.xyz),
        "levels": run.config.render.levels,
        "device": run.pipeline.device.type,
        "lenses": len(run.scene.lenses),
        "scale": eye.scale,
        "photos": photos,
        "paths": files.paths(),
        "curves": curves(run),
        "folder": str(files.folder),
    }


def curves(run: Run) -> dict[str, Any]:
    """Return the responses' values (red, green, blue) over stops of sensor light, for their plot."""
    stops = torch.linspace(DARKEST_STOP, BRIGHTEST_STOP, 66, device=run.pipeline.device)
    light = stops.exp2()[None, None, None].expand(1, 3, 1, -1)
    plots = {}
    with torch.no_grad():
        for response in RESPONSES:
            value = respond(run.pipeline.tonemapper, light, CameraSettings(response=response))[0, :, 0]
            plots[response] = [[round(float(v), 4) for v in row.clamp(0, 1)] for row in value]
    return {"stops": [DARKEST_STOP, BRIGHTEST_STOP], "values": plots}
