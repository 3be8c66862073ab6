"""Rendered views as files: PNG, JPEG, EXR and depth of one view; a video or numbered images of a path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from adop.images.writers import (
    VIDEO_ENDINGS,
    depth_picture,
    save_exr,
    save_jpeg,
    save_png,
    to_uint8,
    video_writer,
)
from adop.model.pipeline import Pipeline
from adop.render.camera_path import CameraPath
from adop.render.camera_settings import CameraSettings
from adop.render.views import View, render_views

Format = Literal["png", "jpg", "exr", "depth"]


def render_path(
    pipeline: Pipeline, path: CameraPath, settings: CameraSettings | None = None
) -> Iterator[View]:
    """Yield the view of each frame of a path. Args: settings: of all frames; each frame adds its own exposure."""
    for camera, frame_settings in path.cameras(settings or CameraSettings(), pipeline.device):
        yield render_views(pipeline, camera, frame_settings)[0]


def save_path_views(
    views: Iterable[View], path: CameraPath, output: Path, formats: tuple[Format, ...]
) -> None:
    """Write the views of a path: to a video where `output` ends like one, else to numbered images in that folder.

    No video is left where the iteration over `views` raises.
    """
    views = tqdm(views, total=len(path.frames), desc="rendering", unit="frame", disable=None)
    if output.suffix.lower() in VIDEO_ENDINGS:
        output.parent.mkdir(parents=True, exist_ok=True)
        with video_writer(output, path.rate) as append:
            for view in views:
                append(to_uint8(view.image))
        return
    output.mkdir(parents=True, exist_ok=True)
    for number, view in enumerate(views):
        save_view(view, output / f"{number:05d}", formats)


def save_view(view: View, stem: Path, formats: tuple[Format, ...]) -> list[Path]:
    """Write a view in the given formats and return the files.

    png, jpg: `stem.png`, `stem.jpg`, the photo. exr: `stem.exr`, linear radiance. depth: `stem_depth.exr` and
    `stem_depth.png`.
    """
    written = []
    if "png" in formats:
        written.append(stem.with_name(stem.name + ".png"))
        save_png(written[-1], to_uint8(view.image))
    if "jpg" in formats:
        written.append(stem.with_name(stem.name + ".jpg"))
        save_jpeg(written[-1], to_uint8(view.image))
    if "exr" in formats:
        written.append(stem.with_name(stem.name + ".exr"))
        save_exr(written[-1], {"RGB": view.radiance.permute(1, 2, 0).cpu().numpy()})
    if "depth" in formats:
        depth = view.depth.cpu().numpy()
        written.append(stem.with_name(stem.name + "_depth.exr"))
        save_exr(written[-1], {"Z": depth})
        written.append(stem.with_name(stem.name + "_depth.png"))
        save_png(written[-1], depth_picture(depth))
    return written
