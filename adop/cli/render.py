"""`adop render`: render images, depth and videos of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from adop.cli.parse import parse_options
from adop.errors import UserError
from adop.ranges import Positive, Range

if TYPE_CHECKING:
    from adop.run.run import Run

EV = Annotated[float, Range(-100, 100)]
PathSeconds = Annotated[float, Range(0.04, 36_000)]
FrameRate = Annotated[float, Range(0.1, 1000)]
ImageSide = Annotated[int, Range(2, 16_384)]


@dataclass(frozen=True)
class RenderOptions:
    """Render views of a run: from one photo's camera, along a path through all cameras, or from a file of cameras.

    An output that ends in .mp4 becomes a video. Everything else becomes images: in a folder for a path or a file.
    """

    run: tyro.conf.Positional[Path]
    """Run folder."""
    output: Path
    """Where to write: OUT.png, OUT.exr, OUT.mp4, or a folder."""
    photo: str | None = None
    """Name or number of a photo: render from its camera, with its exposure."""
    path: bool = False
    """Render a smooth path through the cameras of the photos."""
    cameras: Path | None = None
    """Render the cameras of this nerfstudio camera path JSON, in the scene's coordinates."""
    formats: tuple[Literal["png", "exr", "depth"], ...] = ("png",)
    """What to write of each view. png: the image; exr: linear radiance; depth: an image of the depth and its values."""
    exposure: Literal["auto", "scene"] | EV | None = None
    """EV relative to the mean of the photos, larger is darker. scene: that mean; auto: what the photos' camera would
    choose for each frame, smoothed in time; None: auto for --path, scene for --cameras. Not for --photo."""
    white_balance: tuple[Positive, Positive, Positive] = (1.0, 1.0, 1.0)
    """Gains of red, green and blue. Not for --photo."""
    response: Literal["learned", "srgb", "linear", "filmic"] = "learned"
    """Curve from light to image values. Not for --photo, which uses its lens's learned one."""
    vignette: bool = False
    """Darken the corners as the lens does. Not for --photo, which does so always."""
    seconds: PathSeconds = 6.0
    """Length of the path through the cameras, seconds."""
    rate: FrameRate | None = None
    """Frames per second. None: 24, or what the file of cameras says."""
    width: ImageSide | None = None
    """Width of the images, pixels. None: that of the photos, or what the file of cameras says."""
    antialias: bool = True
    """Average each view with three moved by a quarter of a pixel: less noise and flicker in four times the time."""
    scene: Path | None = None
    """Scene folder. None: where it was during training."""
    device: str = "auto"
    """Device of torch to run on: cpu, cuda, cuda:1, ... auto uses a CUDA GPU if there is one."""


def render_command(name: str, words: list[str]) -> int:
    """Run `adop render` and return the exit status."""
    options = parse_options(RenderOptions, name, words)
    chosen = [options.photo is not None, options.path, options.cameras is not None]
    if sum(chosen) != 1:
        raise UserError("say what to render: exactly one of --photo NAME, --path, --cameras FILE")
    from adop.run.run import load

    run = load(options.run, options.scene, options.device)
    run.pipeline.config = replace(run.pipeline.config, antialias=options.antialias)
    if options.photo is not None:
        _render_photo(run, options, options.photo)
    else:
        _render_path(run, options)
    return 0


def _render_photo(run: Run, options: RenderOptions, photo: str) -> None:
    """Render one photo's view, and print the files that were written."""
    from adop.render.output import save_view
    from adop.run.photos import find_photo
    from adop.run.render import render_photo

    output, formats = options.output, options.formats
    ending = output.suffix.lower()
    if ending == ".mp4":
        raise UserError(f"{output}: one photo makes no video; name a .png or .exr, or use --path")
    if ending == ".exr" and "exr" not in formats:
        formats = ("exr",)
    output.parent.mkdir(parents=True, exist_ok=True)
    stem = output.with_suffix("") if ending in (".png", ".exr") else output
    for written in save_view(render_photo(run, find_photo(run.scene, photo)), stem, formats):
        print(written)


def _render_path(run: Run, options: RenderOptions) -> None:
    """Render the path through the cameras, or the cameras of the file, and print what was written."""
    from adop.render.camera_path import photos_path
    from adop.render.camera_settings import CameraSettings
    from adop.render.nerfstudio_path import file_path
    from adop.render.output import render_path, save_path_views
    from adop.run.exposure import expose_path

    if options.cameras is not None:
        path = file_path(options.cameras, options.width, options.rate)
    else:
        path = photos_path(run.scene, options.seconds, options.rate or 24.0, options.width)
    exposure = options.exposure
    if exposure == "auto" or (exposure is None and options.path):
        path = expose_path(run.exposure_model(), run.pipeline, path)
    ev = exposure if isinstance(exposure, float) else 0.0
    settings = CameraSettings(ev, options.white_balance, options.response, options.vignette)
    save_path_views(render_path(run.pipeline, path, settings), path, options.output, options.formats)
    print(options.output)
