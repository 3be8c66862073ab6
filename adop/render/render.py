"""New views of a trained run: radiance, photo and depth of any camera; pictures and videos of many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from adop.errors import UserError
from adop.geometry.camera import Camera
from adop.images.writers import depth_picture, save_exr, save_png, to_uint8, video_writer
from adop.model.hole_filling import upsample
from adop.model.pipeline import Radiance
from adop.render.camera_settings import CameraSettings, develop
from adop.render.paths import Frame, load_path, smooth_path, thin_out
from adop.run.run import Run

Format = Literal["png", "exr", "depth"]


@dataclass(frozen=True)
class View:
    """What a camera sees."""

    radiance: Tensor  # [3, H, W] linear light, scene units of brightness
    image: Tensor  # [3, H, W] in [0, 1], through the physical camera
    depth: Tensor  # [H, W] scene units along z, holes filled; +inf where nothing is near


@dataclass(frozen=True)
class Pictures:
    """Views as numpy arrays."""

    radiance: np.ndarray  # [B, H, W, 3] float32, linear light
    image: np.ndarray  # [B, H, W, 3] uint8
    depth: np.ndarray  # [B, H, W] float32, scene units along z; +inf where nothing is near
    mask: np.ndarray  # [B, H, W] bool, where points cover the picture


@dataclass(frozen=True)
class Views:
    """What B cameras of one size see; `views[b]` is one of them."""

    radiance: Tensor  # [B, 3, H, W] linear light, scene units of brightness
    image: Tensor  # [B, 3, H, W] in [0, 1], through the physical camera
    depth: Tensor  # [B, H, W] scene units along z, holes filled; +inf where nothing is near

    @property
    def mask(self) -> Tensor:
        """[B, H, W] bool, where points cover the picture; elsewhere it shows the environment."""
        return torch.isfinite(self.depth)

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, index: int) -> View:
        return View(self.radiance[index], self.image[index], self.depth[index])

    def numpy(self) -> Pictures:
        """Return the same on the CPU, as numpy arrays, the image in 8 bits."""
        return Pictures(
            self.radiance.permute(0, 2, 3, 1).cpu().numpy(),
            np.stack([to_uint8(image) for image in self.image]),
            self.depth.cpu().numpy(),
            self.mask.cpu().numpy(),
        )


@torch.no_grad()
def render_cameras(
    run: Run, camera: Camera, look: CameraSettings | None = None, lens: list[int] | None = None
) -> Views:
    """Render B cameras of one size, developed as `look` says (default: the mean exposure of the photos).

    Each view is rendered by itself, so that it has the same pixels whatever else is in the batch.

    Args: lens: index of the scene's lens that each camera has, if one: its rays are then looked up.
    """
    look = look or CameraSettings()
    camera = camera.to(run.pipeline.xyz.device)
    views = []
    for index in range(len(camera)):
        own = None if lens is None else lens[index : index + 1]
        rendered = run.pipeline.radiance(camera[index], own, new_view=True)
        image = develop(run.pipeline.tonemapper, rendered.picture, look)
        views.append((rendered.picture, image, filled_depth(run, rendered)))
    return Views(*(torch.cat(parts) for parts in zip(*views, strict=True)))


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
    return render_cameras(run, camera, CameraSettings(exposure, white_balance, lens=lens))[0]


@torch.no_grad()
def render_photo(run: Run, photo: int) -> View:
    """Render a photo's own view, exposed and vignetted as the photo was."""
    pipeline = run.pipeline
    index = torch.tensor([photo])
    camera = pipeline.camera(index)
    rendered = pipeline.radiance(camera, [pipeline.lens_of[photo]], new_view=True)
    image = pipeline.photo(rendered.picture, camera, index)
    return View(rendered.picture[0], image[0].clamp(0, 1), filled_depth(run, rendered)[0])


def filled_depth(run: Run, rendered: Radiance) -> Tensor:
    """Return [B, H, W], the depth of the nearest points, holes filled from coarser levels; +inf where none is."""
    levels = rendered.levels.depth
    count = min(run.config.render.fill_levels, len(levels))
    depth = levels[count - 1]
    for finer in reversed(levels[: count - 1]):
        depth = torch.where(torch.isfinite(finer), finer, upsample(depth, finer, "nearest"))
    return depth[:, 0]


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
    look: CameraSettings | None = None,
    draw: Callable[[Camera, CameraSettings], View] | None = None,
) -> None:
    """Render a path to an MP4 (where `output` ends so) or to numbered pictures in a folder.

    Args:
        look: of all frames; a frame's own exposure is added to the look's.
        draw: renders one frame (default: `render_cameras`); what it raises ends the path, and no MP4 is left.
    """
    look = look or CameraSettings()

    def views() -> Iterator[View]:
        for frame in tqdm(path.frames, desc="rendering", unit="frame", disable=None):
            camera = pinhole(frame, path.width, path.height, run.pipeline.xyz.device)
            own = replace(look, exposure=look.exposure + frame.exposure)
            yield draw(camera, own) if draw else render_cameras(run, camera, own)[0]

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
