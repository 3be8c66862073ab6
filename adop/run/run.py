"""A run: its scene, its split, its pipeline, in memory; new or loaded from its folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from adop.config.config import TrainConfig, load_config
from adop.errors import UserError
from adop.initialisation.photometry import known_exposures
from adop.model.pipeline import Pipeline
from adop.run.checkpoint import Progress, checkpoints, load_checkpoint
from adop.scene.photo_cache import PhotoCache
from adop.scene.read import load_scene
from adop.scene.scene import Scene

if TYPE_CHECKING:
    from adop.geometry.camera import Camera
    from adop.render.camera_settings import CameraSettings
    from adop.render.render import Views


@dataclass
class Run:
    """A run in memory: what training, evaluation and rendering share."""

    folder: Path
    config: TrainConfig
    scene: Scene
    cache: PhotoCache
    pipeline: Pipeline
    split: dict[str, list[int]]
    progress: Progress

    @property
    def device(self) -> torch.device:
        """Where the points and the network live."""
        return self.pipeline.xyz.device

    def render(self, camera: Camera, look: CameraSettings | None = None) -> Views:
        """Render B cameras of one size; see `adop.render.render.render_cameras`."""
        from adop.render.render import render_cameras

        return render_cameras(self, camera, look)

    def photo_camera(self, photo: int | str) -> Camera:
        """Return the camera (B = 1) of a photo, by its number or its name."""
        from adop.render.render import find_photo

        index = photo if isinstance(photo, int) else find_photo(self, photo)
        return self.pipeline.camera(torch.tensor([index]))

    @torch.no_grad()
    def photo_settings(self, photo: int | str) -> CameraSettings:
        """Return the look that exposes, balances and develops as a photo was."""
        from adop.render.camera_settings import CameraSettings
        from adop.render.render import find_photo

        index = photo if isinstance(photo, int) else find_photo(self, photo)
        photometry = self.pipeline.tonemapper.photometry(torch.tensor([index]))
        red, green, blue = photometry.white_balance[0].tolist()
        lens = self.pipeline.lens_of[index]
        return CameraSettings(float(photometry.exposure), (red, green, blue), vignette=True, lens=lens)


def split_photos(count: int, test_every: int) -> dict[str, list[int]]:
    """Return the indices of the photos to train on and of those held out: every `test_every`-th, from the first on."""
    held_out = [i for i in range(count) if test_every > 0 and i % test_every == 0]
    train = [i for i in range(count) if i not in set(held_out)]
    if len(train) < 2:
        raise UserError(
            f"the scene has {count} photos, of which {len(held_out)} are held out: training needs at least 2"
        )
    return {"train": train, "held_out": held_out}


def choose_device(name: str) -> torch.device:
    """Return the device of that name; auto takes a CUDA GPU where torch sees one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {name!r}: torch sees no CUDA GPU here; use --device cpu")
    return torch.device(name)


def has_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 in hardware (1.5 times faster in the network where it does)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        return bool(torch.cpu._is_avx512_bf16_supported())
    except AttributeError:
        return False


def open_scene(
    folder: Path, config: TrainConfig, say: Callable[[str], None]
) -> tuple[Pipeline, Scene, PhotoCache]:
    """Load a scene and lay its pipeline, nothing trained and nothing taken from the photos but their exposure."""
    scene = load_scene(folder)
    cache = PhotoCache(scene)
    split = split_photos(len(scene.photos), config.test_every)
    trained = torch.zeros(len(scene.photos), dtype=torch.bool)
    trained[split["train"]] = True
    exposure = known_exposures(scene)
    if exposure is None:
        say("exposure: not every photo has EXIF, so it is estimated from the photos")
    start = torch.zeros(len(scene.photos)) if exposure is None else exposure - exposure[trained].mean()
    pipeline = Pipeline(scene, config, start, trained).to(choose_device(config.device))
    return pipeline, scene, cache


def new_run(scene_folder: Path, folder: Path, config: TrainConfig, say: Callable[[str], None]) -> Run:
    """Return a run of a scene at its beginning; of its folder nothing is made or read yet."""
    pipeline, scene, cache = open_scene(scene_folder, config, say)
    split = split_photos(len(scene.photos), config.test_every)
    return Run(folder, config, scene, cache, pipeline, split, Progress(0, 0.0))


def load(
    folder: Path | str,
    scene: Path | None = None,
    device: str | None = None,
    say: Callable[[str], None] = print,
) -> Run:
    """Load a trained run from its folder, at its newest checkpoint.

    Args:
        scene: the scene folder, where it has moved since training.
        device: overrides the run's.

    Raises: UserError where the folder holds no run, or its scene is gone.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{folder}: holds no config.json, so it is no run folder; `adop train --output` makes one"
        )
    config = load_config(folder / "config.json")
    if device is not None:
        config = dataclasses.replace(config, device=device)
    saved = checkpoints(folder / "checkpoints")
    if not saved:
        raise UserError(f"{folder}: holds no checkpoint yet; train it further with --resume")
    where = scene or Path(config.scene)
    if not where.is_dir():
        raise UserError(f"{where}: the scene that {folder} was trained on is not there; name it with --scene")
    run = new_run(where, folder, config, say)
    run.progress = load_checkpoint(saved[-1], run.pipeline)
    run.pipeline.eval()
    return run
