"""Rendered views as files: PNG, JPEG, EXR and depth of one view; a video or numbered images of a path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from adop.errors import UserError
from adop.images.video import VIDEO_ENDINGS, Encoding, video_writer
from adop.images.writers import save_depth_png, save_exr, save_jpeg, save_png, to_uint8
from adop.model.pipeline import Pipeline
from adop.ranks import in_turns, ranks
from adop.render.camera_path import CameraPath
from adop.render.camera_settings import CameraSettings
from adop.render.projection import Projection, render_frame
from adop.render.views import View

Format = Literal["png", "jpg", "exr", "depth"]
NUMBERED = re.compile(r"\d{5}(_depth)?\.(png|jpg|exr)")  # files of a path's frames


def render_path(
    pipeline: Pipeline,
    path: CameraPath,
    settings: CameraSettings | None = None,
    projection: Projection | None = None,
) -> Iterator[View]:
    """Yield the view of each frame of a path. Several processes share the frames; only the first one yields them.

    Args:
        settings: of all frames; each frame adds its own exposure.
        projection: None: perspective.
    """
    settings = settings or CameraSettings()

    def render(number: int) -> View:
        frame = path.frames[number]
        exposed = replace(settings, exposure=settings.exposure + frame.exposure)
        view = render_frame(pipeline, frame, (path.width, path.height), exposed, projection)
        return view if ranks().count == 1 else view.cpu()

    yield from in_turns(len(path.frames), render)


def save_path_views(
    views: Iterable[View],
    path: CameraPath,
    output: Path,
    formats: tuple[Format, ...],
    encoding: Encoding | None = None,
) -> None:
    """Write the views of a path: to a video where `output` ends like one, else to numbered images in that folder.

    Args: encoding: of a video.

    No video is left where the iteration over `views` raises.

    Raises: UserError where frames of another path would remain between these.
    """
    if output.suffix.lower() in VIDEO_ENDINGS:
        output.parent.mkdir(parents=True, exist_ok=True)
        with video_writer(output, path.rate, encoding) as append:
            for view in views:
                append(view.image)
        return
    output.mkdir(parents=True, exist_ok=True)
    _check_frames(output, len(path.frames))
    for number, view in enumerate(views):
        save_view(view, output / f"{number:05d}", formats)


def _check_frames(folder: Path, count: int) -> None:
    """Raise UserError where a folder has numbered images that a path's frames do not replace."""
    numbered = [file.name for file in folder.iterdir() if NUMBERED.fullmatch(file.name)]
    other = max(numbered, default="")
    if other and int(other[:5]) >= count:
        raise UserError(
            f"{folder}: has frames that would remain behind the {count} of this path, such as {other}; empty it, or "
            "choose another folder"
        )


def save_view(view: View, stem: Path, formats: tuple[Format, ...]) -> list[Path]:
    """Write a view in the given formats and return the files.

    png, jpg: `stem.png`, `stem.jpg`, the photo; a panorama's say that it is one. exr: `stem.exr`, linear radiance.
    depth: `stem_depth.exr`, the values, and `stem_depth.png`, 16 bits; see `adop.images.writers.save_depth_png`.
    """
    written = []
    if "png" in formats:
        written.append(stem.with_name(stem.name + ".png"))
        save_png(written[-1], to_uint8(view.image), view.panorama)
    if "jpg" in formats:
        written.append(stem.with_name(stem.name + ".jpg"))
        save_jpeg(written[-1], to_uint8(view.image), view.panorama)
    if "exr" in formats:
        written.append(stem.with_name(stem.name + ".exr"))
        save_exr(written[-1], {"RGB": view.radiance.permute(1, 2, 0).cpu().numpy()})
    if "depth" in formats:
        depth = view.depth.cpu().numpy()
        written.append(stem.with_name(stem.name + "_depth.exr"))
        save_exr(written[-1], {"Z": depth})
        written.append(stem.with_name(stem.name + "_depth.png"))
        save_depth_png(written[-1], depth)
    return written
