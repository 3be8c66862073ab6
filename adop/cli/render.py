"""`adop render`: render images, depth, panoramas and videos of a run."""

from __future__ import annotations

import difflib
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from adop.cli.parse import option_label, parse_options
from adop.errors import UserError
from adop.files import check_writable
from adop.progress import Bar
from adop.ranges import Positive, Range

if TYPE_CHECKING:
    from adop.images.video import Encoding
    from adop.render.camera_path import CameraPath
    from adop.render.projection import Projection
    from adop.run.run import Run

Kind = Literal["png", "jpg", "exr", "depth"]
EV = Annotated[float, Range(-100, 100)]
PathSeconds = Annotated[float, Range(0.04, 36_000)]
FrameRate = Annotated[float, Range(0.1, 1000)]
ImageSide = Annotated[int, Range(2, 16_384)]
Degrees = Annotated[float, Range(10, 360)]
EyeShare = Annotated[float, Range(0.0001, 0.5)]
Quality = Annotated[int, Range(0, 100)]


@dataclass(frozen=True)
class Subject:
    """What is rendered: exactly one of these."""

    photo: str | None = None
    """Name or number of a photo: render from its camera, with its exposure."""
    path: bool = False
    """Render a smooth path through the cameras of the photos."""
    turntable: bool = False
    """Circle about what the photos look at, level, at their mean height and distance; it loops. Where the photos
    leave out more than a quarter of the way round, the camera swings to and fro over the part that they cover."""
    spiral: bool = False
    """Move in a small loop around a mean camera, as captures that face one way are shown."""
    interpolate: tuple[str, ...] = ()
    """Names or numbers of two or more photos: render a smooth path through their cameras, in this order."""
    cameras: Path | None = None
    """Render the cameras of this nerfstudio camera path JSON, in the scene's coordinates."""


@dataclass(frozen=True)
class Shape:
    """Size and projection of the images."""

    width: ImageSide | None = None
    """Width of the images, pixels; of each eye's with --stereo. None: that of the photos, or what the file of cameras
    says; for fisheye and equirectangular images, so that their middle is as sharp."""
    projection: Literal["perspective", "fisheye", "equirectangular"] | None = None
    """fisheye: a circle in which the distance from the centre grows with the angle (equidistant). equirectangular: a
    panorama of 360 by 180 degrees, its horizon level. None: perspective; for --photo, with the lens's distortion."""
    field_of_view: Degrees = 180.0
    """Angle across the circle of a fisheye image, degrees."""
    stereo: EyeShare | None = None
    """Render for two eyes, left and right side by side. They are this share of the distance to what is seen (median
    over a path) apart: 0.03 suits most screens. What is at that distance appears on the screen, what is nearer before it;
    the eyes of fisheye images look straight ahead."""


@dataclass(frozen=True)
class PhysicalCamera:
    """Exposure and colours of everything but --photo, which has the photo's own."""

    exposure: Literal["auto", "scene"] | EV | None = None
    """EV relative to the mean of the photos, larger is darker. scene: that mean; auto: what the photos' camera would
    choose for each frame, smoothed in time; None: scene for --cameras, auto else. Not for --photo."""
    white_balance: tuple[Positive, Positive, Positive] = (1.0, 1.0, 1.0)
    """Gains of red, green and blue. Not for --photo."""
    response: Literal["learned", "srgb", "linear", "filmic"] = "learned"
    """Curve from light to image values. Not for --photo, which uses its lens's learned one."""
    vignette: bool = False
    """Darken the corners as the lens does; perspective images only. Not for --photo, which does so always."""


@dataclass(frozen=True)
class Timing:
    """Length and encoding of paths."""

    seconds: PathSeconds = 6.0
    """Length of the path, seconds. Not for --cameras."""
    rate: FrameRate | None = None
    """Frames per second; 29.97 means 30000/1001. None: 24, or what the file of cameras says."""
    quality: Quality | None = None
    """Of a video or .webp: 0 is the smallest file, 100 loses nothing that can be seen. The constant rate factor is
    48 - 0.4 times this for h264, 51 - 0.4 times for hevc and 63 - 0.5 times for vp9; prores is proxy, from 25 on lt, from
    50 standard, from 75 hq; .webp takes it as it is. None: 75."""
    codec: Literal["h264", "hevc", "prores", "vp9"] | None = None
    """h264 and hevc are written as .mp4 or .mov, prores as .mov, vp9 as .webm. None: h264, or vp9 for .webm."""
    bits: Literal[8, 10] | None = None
    """Bits per colour of h264 and hevc; prores always has 10, vp9 has 8. None: 8."""


@dataclass(frozen=True)
class RenderOptions:
    """Render views of a run: from one photo's camera, along a path that its photos suggest, or from a file of cameras.

    An output that ends in .mp4, .mov, .webm, .gif or .webp becomes a video. Everything else becomes images: in a folder
    for a path or a file.
    """

    run: tyro.conf.Positional[Path]
    """Run folder."""
    output: Path
    """Where to write: OUT.png, OUT.jpg or OUT.exr for a photo; OUT.mp4, OUT.mov, OUT.webm, OUT.gif, OUT.webp or a folder
    else."""
    subject: Annotated[Subject, tyro.conf.arg(name="")] = field(default_factory=Subject)
    shape: Annotated[Shape, tyro.conf.arg(name="")] = field(default_factory=Shape)
    physical_camera: Annotated[PhysicalCamera, tyro.conf.arg(name="")] = field(default_factory=PhysicalCamera)
    timing: Annotated[Timing, tyro.conf.arg(name="")] = field(default_factory=Timing)
    formats: tuple[Kind, ...] = ("png",)
    """What to write of each view. png, jpg: the image; exr: linear radiance; depth: as EXR, and as 16-bit PNG with its
    range in the file's text."""
    antialias: bool = True
    """Average each view with three moved by a quarter of a pixel: less noise and flicker in four times the time."""
    scene: Path | None = None
    """Scene folder. None: where it was during training."""
    device: str = "auto"
    """Device of torch to run on: cpu, cuda, cuda:1, ... auto uses a CUDA GPU if there is one."""


PHYSICAL, ENCODING = tuple(f.name for f in fields(PhysicalCamera)), ("quality", "codec", "bits")
# Options that change nothing, by what they change nothing with.
NOT_WITH: dict[str, tuple[str, ...]] = {
    "--photo": (*PHYSICAL, "seconds", "rate", *ENCODING),
    "--cameras": ("seconds",),
    "--projection perspective": ("field_of_view",),
    "--projection fisheye": ("vignette",),
    "--projection equirectangular": ("field_of_view", "vignette", "stereo"),
    "images": ENCODING,
    "a video": ("formats",),
}
SUBJECTS = "--photo NAME, --path, --turntable, --spiral, --interpolate NAME NAME, --cameras FILE"
IMAGE_ENDINGS: dict[str, Kind] = {".png": "png", ".jpg": "jpg", ".exr": "exr"}
OTHER_ENDINGS = (".jpeg", ".tif", ".tiff", ".bmp", ".hdr", ".avi", ".mkv", ".m4v", ".mpg", ".mpeg", ".ogv")


def render_command(name: str, words: list[str]) -> int:
    """Run `adop render` and return the exit status."""
    options = parse_options(RenderOptions, name, words)
    _check_options(options)
    _check_output(options)
    from adop.ranks import joined, rank_device, ranks
    from adop.render.crop_box import cropped, load_crop_box
    from adop.run.run import load

    with joined(options.device):
        run = load(options.run, options.scene, rank_device(options.device))
        run.pipeline.config = replace(run.pipeline.config, antialias=options.antialias)
        with cropped(run.pipeline, load_crop_box(options.run)):
            if options.subject.photo is None:
                _render_path(run, options)
            elif ranks().first:
                _render_photo(run, options, options.subject.photo)
    return 0


def _check_options(options: RenderOptions) -> None:
    """Raise UserError unless one subject is chosen, and where an option was given that changes nothing."""
    subject = options.subject
    if sum(getattr(subject, choice.name) != choice.default for choice in fields(Subject)) != 1:
        raise UserError(f"say what to render: exactly one of {SUBJECTS}")
    if len(subject.interpolate) == 1:
        raise UserError("--interpolate needs two photos or more")
    for what in _circumstances(options):
        for option, value in _all_options(options):
            if option.name in NOT_WITH[what] and value != option.default:
                raise UserError(f"{option_label(option.name)} changes nothing with {what}; leave it out")


def _circumstances(options: RenderOptions) -> list[str]:
    """Return the keys of `NOT_WITH` that apply."""
    from adop.images.video import VIDEO_ENDINGS

    found = [f"--projection {options.shape.projection or 'perspective'}"]
    if options.subject.photo is not None:
        return ["--photo", *found]
    if options.subject.cameras is not None:
        found.append("--cameras")
    return [*found, "a video" if options.output.suffix.lower() in VIDEO_ENDINGS else "images"]


def _all_options(options: Any) -> Iterator[tuple[Field, Any]]:
    """Yield each option and its value, those of the groups included."""
    for option in fields(options):
        value = getattr(options, option.name)
        if is_dataclass(value):
            yield from _all_options(value)
        else:
            yield option, value


def _check_output(options: RenderOptions) -> None:
    """Raise UserError where the output's ending does not say what is rendered, or it cannot be written."""
    from adop.images.video import VIDEO_ENDINGS, codec_of

    output, ending = options.output, options.output.suffix.lower()
    photo = options.subject.photo is not None
    fitting = tuple(IMAGE_ENDINGS) if photo else VIDEO_ENDINGS
    known = (*IMAGE_ENDINGS, *VIDEO_ENDINGS, *OTHER_ENDINGS)
    mistyped = not output.is_dir() and difflib.get_close_matches(ending, known, n=1)
    if (ending in known or mistyped) and ending not in fitting:
        what = "a photo's view" if photo else "a path"
        raise UserError(
            f"{output}: {what} is not written as {ending}; choose {', '.join(fitting)}, or no ending"
        )
    if ending in VIDEO_ENDINGS:
        codec_of(output, _encoding(options))
    check_writable(output, folder=not photo and ending not in fitting)


def _encoding(options: RenderOptions) -> Encoding:
    from adop.images.video import Encoding

    return Encoding(options.timing.codec, options.timing.bits, options.timing.quality)


def _render_photo(run: Run, options: RenderOptions, photo: str) -> None:
    """Render one photo's view, and print the files that were written."""
    from adop.render.output import render_path, save_view
    from adop.run.photos.scene_photos import find_photo
    from adop.run.render import photo_frame, render_photo

    output, formats = options.output, options.formats
    ending = output.suffix.lower()
    if ending in IMAGE_ENDINGS:
        others = () if formats == ("png",) else formats
        formats = tuple(dict.fromkeys((IMAGE_ENDINGS[ending], *others)))
        output = output.with_suffix("")
    index = find_photo(run.scene, photo)
    if options.shape.projection is None and options.shape.stereo is None:
        view = render_photo(run, index, options.shape.width)
    else:
        path, projection = _projected(run, options, photo_frame(run, index, options.shape.width))
        view = next(render_path(run.pipeline, path, run.photo_settings(index), projection))
    output.parent.mkdir(parents=True, exist_ok=True)
    for written in save_view(view, output, formats):
        print(written)


def _render_path(run: Run, options: RenderOptions) -> None:
    """Render a path, and print what was written."""
    from adop.ranks import ranks
    from adop.render.camera_settings import CameraSettings
    from adop.render.output import render_path, save_path_views
    from adop.run.exposure import expose_path

    path, camera = _path(run, options), options.physical_camera
    exposure = camera.exposure
    if exposure == "auto" or (exposure is None and options.subject.cameras is None):
        path = expose_path(run.exposure_model(), run.pipeline, path)
    path, projection = _projected(run, options, path)
    ev = exposure if isinstance(exposure, float) else 0.0
    settings = CameraSettings(ev, camera.white_balance, camera.response, camera.vignette)
    views = render_path(run.pipeline, path, settings, projection)
    if not ranks().first:
        deque(views, maxlen=0)  # renders this process's share
        return
    shown = Bar(views, desc="rendering", total=len(path.frames), unit="frame")
    save_path_views(shown, path, options.output, options.formats, _encoding(options))
    print(options.output)


def _path(run: Run, options: RenderOptions) -> CameraPath:
    """Return the path to render, its frames with the perspective of the photos or of the file."""
    from adop.render.camera_path import frame_count, photos_path, sized_path
    from adop.render.nerfstudio_path import file_path
    from adop.render.scene_paths import spiral, turntable
    from adop.run.photos.scene_photos import find_photo
    from adop.run.render import refined_scene

    subject, width = options.subject, options.shape.width
    if subject.cameras is not None:
        return file_path(subject.cameras, width, options.timing.rate)
    seconds, rate = options.timing.seconds, options.timing.rate or 24.0
    if subject.path:  # the path along which `adop eval` measures flicker
        return photos_path(run.scene, seconds, rate, width)
    scene, count = refined_scene(run), frame_count(seconds, rate)
    if subject.interpolate:
        chosen = [find_photo(scene, photo) for photo in subject.interpolate]
        return photos_path(scene, seconds, rate, width, chosen)
    frames = turntable(scene, count) if subject.turntable else spiral(scene, count)
    return sized_path(frames, scene.lenses[scene.photos[0].lens], rate, width)


def _projected(run: Run, options: RenderOptions, path: CameraPath) -> tuple[CameraPath, Projection]:
    """Return a path with the size that the chosen projection needs, and the projection."""
    from adop.render.projection import Projection, level_path, sized
    from adop.render.scene_paths import path_depth, scene_up

    shape = options.shape
    projection = Projection(shape.projection or "perspective", math.radians(shape.field_of_view))
    if shape.stereo is not None:
        distance = path_depth(run.scene, path)
        projection = replace(projection, baseline=shape.stereo * distance, screen=distance)
    if projection.kind == "equirectangular":
        path = level_path(path, scene_up(run.scene))
    return sized(path, projection, shape.width), projection
