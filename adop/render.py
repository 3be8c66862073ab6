"""New views of a trained run: radiance, photo and depth of any camera; pictures and videos of many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from adop.base import upsample
from adop.camera import Camera
from adop.errors import UserError
from adop.outputs import depth_picture, save_exr, save_png, video_writer
from adop.paths import Frame, load_path, smooth_path, thin_out
from adop.report import to_uint8
from adop.run import Run
from adop.tonemap import Photometry

Format = Literal["png", "exr", "depth"]


@dataclass(frozen=True)
class View:
    """What a camera sees."""

    radiance: Tensor  # [3, H, W] linear light, scene units of brightness
    image: Tensor  # [3, H, W] in [0, 1], through the physical camera
    depth: Tensor  # [H, W] scene units along z, holes filled; +inf where nothing is near


@torch.no_grad()
def render_camera(
    run: Run,
    camera: Camera,
    exposure: float = 0.0,
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0),
    lens: int = 0,
) -> View:
    """Render one camera (B = 1) with the response of a lens and no vignette.

    Args:
        exposure: EV relative to the mean of the training photos; larger is darker.
        white_balance: gains of red, green and blue.
    """
    pipeline = run.pipeline
    rendered = pipeline.radiance(camera)
    device = rendered.picture.device
    photometry = Photometry(
        torch.tensor([exposure], device=device),
        torch.tensor([white_balance], dtype=torch.float32, device=device),
    )
    image = pipeline.tonemapper(rendered.picture, photometry, None, torch.tensor([lens], device=device))
    return View(
        rendered.picture[0],
        image[0].clamp(0, 1),
        _filled_depth(rendered.levels.depth, run.config.render.fill_levels),
    )


@torch.no_grad()
def render_photo(run: Run, photo: int) -> View:
    """Render a photo's own view, exposed and vignetted as the photo was."""
    pipeline = run.pipeline
    index = torch.tensor([photo])
    camera = pipeline.camera(index)
    rendered = pipeline.radiance(camera, pipeline.photo_lens[index])
    image = pipeline.photo(rendered.picture, camera, index)
    return View(
        rendered.picture[0],
        image[0].clamp(0, 1),
        _filled_depth(rendered.levels.depth, run.config.render.fill_levels),
    )


def _filled_depth(levels: list[Tensor], fill_levels: int) -> Tensor:
    depth = levels[min(fill_levels, len(levels)) - 1]
    for finer in reversed(levels[: min(fill_levels, len(levels)) - 1]):
        depth = torch.where(torch.isfinite(finer), finer, upsample(depth, finer, "nearest"))
    return depth[0, 0]


def pinhole(frame: Frame, width: int, height: int, device: torch.device) -> Camera:
    """Return the camera (B = 1) of a frame of a path."""
    focal = frame.focal * height
    return Camera(
        model="opencv",
        width=width,
        height=height,
        intrinsics=torch.tensor([[focal, focal, width / 2, height / 2]], dtype=torch.float32, device=device),
        distortion=torch.zeros(1, 8, device=device),
        world_to_camera=torch.from_numpy(frame.world_to_camera).float()[None].to(device),
    )


def find_photo(run: Run, name: str) -> int:
    """Return the index of a photo by its name, by its name without folders, or by its number."""
    names = [photo.name for photo in run.scene.photos]
    matches = [i for i, n in enumerate(names) if name in (n, Path(n).name, Path(n).stem)]
    if len(matches) == 1:
        return matches[0]
    if not matches and name.isdigit() and int(name) < len(names):
        return int(name)
    problem = "is not in the scene" if not matches else f"fits {len(matches)} photos"
    raise UserError(
        f"photo {name!r} {problem}; `adop info {run.scene.folder}` shows the photos, the first is {names[0]}"
    )


@dataclass(frozen=True)
class CameraPath:
    """Frames to render, and how."""

    frames: list[Frame]
    width: int
    height: int
    rate: float


def photos_path(run: Run, seconds: float, rate: float, width: int | None) -> CameraPath:
    """Return a smooth path through the captured cameras, in their order, at the photos' shape and field of view."""
    poses = np.stack([photo.world_to_camera for photo in run.scene.photos])
    keys = thin_out(poses, 24)
    lenses = [run.scene.lenses[run.scene.photos[i].lens] for i in keys]
    focal = np.array([lens.intrinsics[1] / lens.height for lens in lenses])
    frames = smooth_path(poses[keys], focal, max(2, round(seconds * rate)))
    first = lenses[0]
    width = width or first.width
    height = round(width * first.height / first.width)
    return CameraPath(frames, width - width % 2, height - height % 2, rate)


def file_path(file: Path, width: int | None, rate: float | None) -> CameraPath:
    """Return the path that a nerfstudio camera path JSON holds."""
    frames, size, own_rate = load_path(file)
    size = size or (960, 540)
    if width is not None:
        size = (width, round(width * size[1] / size[0]))
    return CameraPath(frames, size[0], size[1], rate or own_rate or 24.0)


def render_path(
    run: Run,
    path: CameraPath,
    output: Path,
    formats: tuple[Format, ...],
    exposure: float,
    white_balance: tuple[float, float, float],
) -> None:
    """Render a path to an MP4 (where `output` ends so) or to numbered pictures in a folder."""

    def views() -> Iterator[View]:
        for frame in tqdm(path.frames, desc="rendering", unit="frame", disable=None):
            camera = pinhole(frame, path.width, path.height, run.pipeline.xyz.device)
            yield render_camera(run, camera, exposure, white_balance)

    if output.suffix.lower() == ".mp4":
        output.parent.mkdir(parents=True, exist_ok=True)
        with video_writer(output, path.rate) as append:
            for view in views():
                append(to_uint8(view.image))
        return
    output.mkdir(parents=True, exist_ok=True)
    for number, view in enumerate(views()):
        save_view(view, output / f"{number:05d}", formats)


def save_view(view: View, stem: Path, formats: tuple[Format, ...]) -> list[Path]:
    """Write a view as `stem.png` (the photo), `stem.exr` (linear radiance), `stem_depth.exr` and `stem_depth.png`."""
    written = []
    if "png" in formats:
        written.append(stem.with_name(stem.name + ".png"))
        save_png(written[-1], to_uint8(view.image))
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
