"""`adop render`: render images, depth and videos of a run."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from adop.cli.parse import option_label, parse_options
from adop.errors import UserError
from adop.files import check_writable
from adop.ranges import Positive, Range

if TYPE_CHECKING:
    from adop.run.run import Run

Kind = Literal["png", "jpg", "exr", "depth"]
EV = Annotated[float, Range(-100, 100)]
PathSeconds = Annotated[float, Range(0.04, 36_000)]
FrameRate = Annotated[float, Range(0.1, 1000)]
ImageSide = Annotated[int, Range(2, 16_384)]


@dataclass(frozen=True)
class RenderOptions:
    """Render views of a run: from one photo's camera, along a path through all cameras, or from a file of cameras.

    An output that ends in .mp4, .mov, .webm or .gif becomes a video. Everything else becomes images: in a folder for a
    path or a file.
    """

    run: tyro.conf.Positional[Path]
    """Run folder."""
    output: Path
    """Where to write: OUT.png, OUT.jpg or OUT.exr for a photo; OUT.mp4, OUT.mov, OUT.webm, OUT.gif or a folder else."""
    photo: str | None = None
    """Name or number of a photo: render from its camera, with its exposure."""
    path: bool = False
    """Render a smooth path through the cameras of the photos."""
    cameras: Path | None = None
    """Render the cameras of this nerfstudio camera path JSON, in the scene's coordinates."""
    formats: tuple[Kind, ...] = ("png",)
    """What to write of each view. png, jpg: the image; exr: linear radiance; depth: a picture of it and its values."""
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


NOT_WITH_PHOTO: tuple[str, ...] = ("exposure", "white_balance", "response", "vignette", "seconds", "rate")
NOT_WITH_CAMERAS = ("seconds",)
IMAGE_ENDINGS: dict[str, Kind] = {".png": "png", ".jpg": "jpg", ".exr": "exr"}
OTHER_ENDINGS = (
    ".jpeg",
    ".tif",
    ".tiff",
    ".bmp",
    ".webp",
    ".hdr",
    ".avi",
    ".mkv",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".ogv",
)


def render_command(name: str, words: list[str]) -> int:
    """Run `adop render` and return the exit status."""
    options = parse_options(RenderOptions, name, words)
    chosen = [options.photo is not None, options.path, options.cameras is not None]
    if sum(chosen) != 1:
        raise UserError("say what to render: exactly one of --photo NAME, --path, --cameras FILE")
    _check_options(options)
    _check_output(options)
    from adop.run.run import load

    run = load(options.run, options.scene, options.device)
    run.pipeline.config = replace(run.pipeline.config, antialias=options.antialias)
    if options.photo is not None:
        _render_photo(run, options, options.photo)
    else:
        _render_path(run, options)
    return 0


def _check_options(options: RenderOptions) -> None:
    """Raise UserError where an option was given that changes nothing."""
    if options.photo is not None:
        what, without = "--photo", NOT_WITH_PHOTO
    else:
        what, without = "--cameras", () if options.path else NOT_WITH_CAMERAS
    for field in fields(RenderOptions):
        if field.name in without and getattr(options, field.name) != field.default:
            raise UserError(f"{option_label(field.name)} changes nothing with {what}; leave it out")


def _check_output(options: RenderOptions) -> None:
    """Raise UserError where the output's ending does not say what is rendered, or it cannot be written."""
    from adop.images.writers import VIDEO_ENDINGS

    output, ending = options.output, options.output.suffix.lower()
    fitting = tuple(IMAGE_ENDINGS) if options.photo is not None else VIDEO_ENDINGS
    if ending in (*IMAGE_ENDINGS, *VIDEO_ENDINGS, *OTHER_ENDINGS) and ending not in fitting:
        what = "a photo's view" if options.photo is not None else "a path"
        raise UserError(
            f"{output}: {what} is not written as {ending}; choose {', '.join(fitting)}, or no ending"
        )
    if ending in VIDEO_ENDINGS and options.formats != ("png",):
        raise UserError(f"{output}: --formats changes nothing in a video; leave it out, or name a folder")
    check_writable(output, folder=options.photo is None and ending not in fitting)


def _render_photo(run: Run, options: RenderOptions, photo: str) -> None:
    """Render one photo's view, and print the files that were written."""
    from adop.render.output import save_view
    from adop.run.photos import find_photo
    from adop.run.render import render_photo

    output, formats = options.output, options.formats
    ending = output.suffix.lower()
    if ending in IMAGE_ENDINGS:
        others = () if formats == ("png",) else formats
        formats = tuple(dict.fromkeys((IMAGE_ENDINGS[ending], *others)))
        output = output.with_suffix("")
    output.parent.mkdir(parents=True, exist_ok=True)
    view = render_photo(run, find_photo(run.scene, photo), options.width)
    for written in save_view(view, output, formats):
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
