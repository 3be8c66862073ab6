"""The pictures of the pages on concepts and of the gallery, made of a trained run of the demo scene.

python docs/make_pictures.py runs/demo
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from adop.images.writers import depth_picture, to_uint8
from adop.render.camera_path import pinhole, smooth_path
from adop.render.camera_settings import CameraSettings
from adop.render.projection import Projection, render_frame
from adop.run.render import photo_frame
from adop.run.run import Run, load
from adop.viewer.drawing.layers import DisplayOptions, layer_image
from adop.viewer.drawing.render_thread import render_radiance

FOLDER = Path(__file__).parent
PHOTO = "square_009.jpg"
ROW = 1200  # pixels, width of a row of pictures
GAP = 6  # pixels between two pictures
PANORAMA_HEIGHT = 398  # pixels
QUALITY = 85
# Left, top, right and bottom of the part that shows the layers, shares of the photo.
PART = (0.28, 0.12, 0.72, 0.62)


def side_by_side(pictures: list[np.ndarray], height: int, name: str) -> None:
    """Write pictures side by side, each of that height."""
    sizes = [(round(height * picture.shape[1] / picture.shape[0]), height) for picture in pictures]
    result = Image.new("RGB", (sum(size[0] + GAP for size in sizes) - GAP, height), (255, 255, 255))
    left = 0
    for picture, size in zip(pictures, sizes, strict=True):
        result.paste(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS), (left, 0))
        left += size[0] + GAP
    result.save(FOLDER / name, quality=QUALITY)
    print(FOLDER / name)


def row(pictures: list[np.ndarray], name: str) -> None:
    """Write pictures of one size side by side, `ROW` pixels wide."""
    width = (ROW - GAP * (len(pictures) - 1)) // len(pictures)
    side_by_side(pictures, round(width * pictures[0].shape[0] / pictures[0].shape[1]), name)


@torch.no_grad()
def pyramid(run: Run) -> None:
    """Write a part of a view as points, as two coarser levels, with its holes filled, and as the network renders it."""
    index = [photo.name for photo in run.scene.photos].index(PHOTO)
    camera = run.photo_camera(index)
    radiance = render_radiance(run.pipeline, camera).radiance
    settings = run.photo_settings(index)
    displays = [DisplayOptions("level", level) for level in (0, 2, 4)]
    displays += [DisplayOptions("filled"), DisplayOptions("neural")]
    left, top, right, bottom = (
        round(share * side) for share, side in zip(PART, (camera.width, camera.height) * 2, strict=True)
    )
    layers = [layer_image(run, camera, radiance, settings, display).pixels for display in displays]
    row([pixels[top:bottom, left:right] for pixels in layers], "concepts-pyramid.jpg")


@torch.no_grad()
def exposures(run: Run) -> None:
    """Write one view at three exposures: dark, as the photos, bright."""
    settings = CameraSettings()
    views = [
        run.render(run.photo_camera(PHOTO), replace(settings, exposure=ev))[0] for ev in (2.0, 0.0, -2.0)
    ]
    row([to_uint8(view.image) for view in views], "gallery-exposures.jpg")


@torch.no_grad()
def projections(run: Run) -> None:
    """Write a view between two photos with its depth, and a fisheye view and a panorama from one place."""
    names = [photo.name for photo in run.scene.photos]
    first = names.index(PHOTO)
    poses = np.stack([run.scene.photos[i].world_to_camera for i in (first, first + 1)])
    lens = run.scene.lenses[run.scene.photos[first].lens]
    frame = smooth_path(poses, np.full(2, lens.intrinsics[0] / lens.height), 3)[1]
    camera = pinhole(frame, 600, 400, run.device)
    view = run.render(camera)[0]
    depth = np.repeat(depth_picture(view.depth.cpu().numpy())[..., None], 3, axis=2)
    row([to_uint8(view.image), depth], "gallery-depth.jpg")
    path = photo_frame(run, first, None)
    fisheye = render_frame(
        run.pipeline, path.frames[0], (500, 500), CameraSettings(), Projection("fisheye", np.pi)
    )
    panorama = run.render_panorama(run.photo_camera(PHOTO), 1000)
    side_by_side(
        [to_uint8(fisheye.image), to_uint8(panorama.image)], PANORAMA_HEIGHT, "gallery-projections.jpg"
    )


if __name__ == "__main__":
    trained = load(sys.argv[1], device="cpu")
    pyramid(trained)
    exposures(trained)
    projections(trained)
