"""A run in memory: scene, photo split and pipeline; new, or loaded from its folder."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from adop.backend.choice import choose_device
from adop.config import TrainConfig, load_config
from adop.errors import UserError
from adop.files import read_json
from adop.geometry.camera import Camera
from adop.model.pipeline import Pipeline, build_pipeline
from adop.render.camera_settings import CameraSettings
from adop.render.projection import levelled, render_panorama
from adop.render.scene_paths import SceneCentre, scene_centre, scene_up
from adop.render.views import View, Views, render_views
from adop.run.checkpoint import (
    PACKED,
    Progress,
    checkpoints,
    is_packed,
    load_checkpoint,
    load_packed,
)
from adop.run.exposure import ExposureModel, fit_exposure, load_exposure, view_statistics
from adop.run.photos.occluders import load_occluders
from adop.run.photos.photo_lookup import ready_photos
from adop.run.photos.scene_photos import find_photo, known_exposures, scene_split
from adop.run.trained_scene import has_trained_points
from adop.scene.photo_cache import PhotoCache
from adop.scene.point_cloud import thinned
from adop.scene.read import load_scene
from adop.scene.scene import Scene


@dataclass(repr=False)
class Run:
    """A run in memory: what training, evaluation and rendering share. `print(run)` says what it is."""

    folder: Path
    config: TrainConfig
    scene: Scene
    cache: PhotoCache
    pipeline: Pipeline
    split: dict[str, list[int]]  # indices of the photos: "train" and "held_out"
    progress: Progress
    trained_points: bool = True  # whether the scene still has the points that the run began with
    exposure: ExposureModel | None = None  # how new views are exposed; None: not fitted yet

    def __repr__(self) -> str:
        """Return the folder and the step."""
        return f"Run({str(self.folder)!r}, step {self.progress.step:,})"

    def __str__(self) -> str:
        """Return a line each for folder, scene, photos, points, training and scores."""
        scene, config = self.scene, self.config
        trained, held_out = (len(self.split[name]) for name in ("train", "held_out"))
        width, height = scene.lenses[0].width, scene.lenses[0].height
        lenses = "" if len(scene.lenses) == 1 else f", {len(scene.lenses)} lenses"
        minutes = self.progress.seconds / 60
        return "\n".join(
            [
                f"run       {self.folder}",
                f"scene     {scene.name} in {scene.folder}",
                f"photos    {trained} trained, {held_out} held out; {width}x{height}{lenses}",
                f"points    {len(self.pipeline.points):,}",
                f"training  step {self.progress.step:,} of {config.steps:,} in {minutes:.1f} minutes; preset "
                f"{config.preset}, network {config.network.kind}, {config.render.levels} levels; on {self.device}",
                f"scores    {self._scores()}",
            ]
        )

    def _scores(self) -> str:
        """Return the mean scores of the held-out photos in `eval.json`, in words."""
        try:
            saved = read_json(self.folder / "eval" / "eval.json")
            mean, step = saved["mean"], int(saved["step"])
            values = f"PSNR {mean['psnr']:.2f} dB, SSIM {mean['ssim']:.3f}, FLIP {mean['flip']:.3f}"
        except (ValueError, KeyError, TypeError, OverflowError):
            return f"none yet; `adop eval {self.folder}` computes them"
        return values + ("" if step == self.progress.step else f", at step {step:,}")

    @property
    def device(self) -> torch.device:
        """The device that the pipeline is on."""
        return self.pipeline.device

    @property
    def scene_centre(self) -> np.ndarray:
        """[3] float64, world: the point that most photos look at, see `adop.render.scene_paths.scene_centre`."""
        return self._place.centre

    @property
    def scene_radius(self) -> float:
        """The median distance of the photos' cameras from `scene_centre`, scene units."""
        return self._place.radius

    @cached_property
    def _place(self) -> SceneCentre:
        return scene_centre(self.scene)

    def render(self, camera: Camera, settings: CameraSettings | None = None) -> Views:
        """Render B cameras of one size; see `adop.render.views.render_views`."""
        return render_views(self.pipeline, camera, settings)

    def render_panorama(
        self, camera: Camera, width: int = 2048, settings: CameraSettings | None = None
    ) -> View:
        """Render all directions from a camera's place: equirectangular, level, its middle where the camera looks.

        Args:
            camera: one camera (B = 1).
            width: pixels, at least 16 and even; the height is half of it.
            settings: how the panorama is developed; None: at the mean exposure of the training photos.

        Returns the view of [width / 2, width] pixels; its depth is the distance from the camera centre.
        """
        if width < 16 or width % 2:
            raise ValueError(f"width: expected an even number of at least 16 pixels, got {width}")
        pose = levelled(camera.world_to_camera[0].double().cpu().numpy(), scene_up(self.scene))
        return render_panorama(self.pipeline, pose, width, settings or CameraSettings())

    def photo_camera(self, photo: int | str) -> Camera:
        """Return the camera (B = 1) of a photo, given by index or name."""
        return self.pipeline.camera(torch.tensor([self._index(photo)]))

    @torch.no_grad()
    def photo_settings(self, photo: int | str) -> CameraSettings:
        """Return the exposure, white balance, vignette and response of a photo, given by index or name."""
        index = self._index(photo)
        photometry = self.pipeline.tonemapper.photometry(torch.tensor([index]))
        red, green, blue = photometry.white_balance[0].tolist()
        lens = self.pipeline.cameras.lens_of[index]
        return CameraSettings(float(photometry.exposure), (red, green, blue), vignette=True, lens=lens)

    def exposure_model(self) -> ExposureModel:
        """Return how exposure and white balance of new views are predicted; it is fitted where it has not been yet."""
        if self.exposure is None:
            self.use_exposure(fit_exposure(self.pipeline, self.progress.step))
        assert self.exposure is not None
        return self.exposure

    def use_exposure(self, model: ExposureModel) -> None:
        """Predict exposure and white balance of new views, and of the held-out photos, by a model from now on."""
        self.exposure = model
        model.expect(self.pipeline.tonemapper)

    def predict_exposure(self, camera: Camera) -> CameraSettings:
        """Return the exposure and white balance that the scene's camera would choose for a view.

        They are predicted from the light that the view shows, as far as the trained photos' exposures follow their
        light; else they are the trained photos' mean. The first call fits that, unless the run was loaded with it.

        Args:
            camera: one camera (B = 1).

        >>> view = run.render(camera, run.predict_exposure(camera))  # doctest: +SKIP
        """
        return self.exposure_model().predict(view_statistics(self.pipeline, camera))

    def _index(self, photo: int | str) -> int:
        return photo if isinstance(photo, int) else find_photo(self.scene, photo)


def has_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 in hardware, which makes the network about 1.5 times as fast."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        return bool(torch.cpu._is_avx512_bf16_supported())
    except AttributeError:
        return False


def open_scene(
    folder: Path, config: TrainConfig, say: Callable[[str], None]
) -> tuple[Pipeline, Scene, PhotoCache]:
    """Return the untrained pipeline of a scene, the scene, and its photos. Of the photos, only the EXIF data is used."""
    scene = load_scene(folder)
    limit = config.densify.max_points
    if len(scene.points) > limit:
        say(f"points: {limit:,} of {len(scene.points):,} are used; --densify.max-points allows more")
        scene = dataclasses.replace(scene, points=thinned(scene.points, limit))
    cache = PhotoCache(scene)
    split = scene_split(scene, config.test_every)
    trained = torch.zeros(len(scene.photos), dtype=torch.bool)
    trained[split["train"]] = True
    exposure = known_exposures(scene) if config.exposure == "exif" else None
    start = torch.zeros(len(scene.photos)) if exposure is None else exposure.nan_to_num(0)
    start = start - start[trained].mean()
    pipeline = build_pipeline(scene, config, start, trained).to(choose_device(config.device))
    return pipeline, scene, cache


def new_run(scene_folder: Path, folder: Path, config: TrainConfig, say: Callable[[str], None]) -> Run:
    """Return an untrained run of a scene. Its folder is neither created nor read."""
    pipeline, scene, cache = open_scene(scene_folder, config, say)
    split = scene_split(scene, config.test_every)
    return Run(folder, config, scene, cache, pipeline, split, Progress(0, 0.0))


def check_run_folder(folder: Path) -> None:
    """Raise UserError where a folder contains no run."""
    if (folder / "config.json").is_file():
        return
    if not folder.exists():
        raise UserError(f"{folder}: there is no such folder; `adop train` makes the folder of a run")
    if (folder / "dataset.ini").is_file():
        raise UserError(
            f"{folder}: is a scene and not a run; train it first: adop train {folder} --output RUN"
        )
    raise UserError(f"{folder}: is not a run folder, as it has no config.json; `adop train` makes one")


def load(
    folder: Path | str,
    scene: Path | None = None,
    device: str | None = None,
    say: Callable[[str], None] = print,
    packed: bool = True,
) -> Run:
    """Load a trained run from its folder, at its newest checkpoint, or as `adop pack` has packed it.

    Args:
        scene: the scene folder; None: where it was at training.
        device: the device to use; None: the one in the run's configuration.
        say: called with each message.
        packed: use what `adop pack` wrote, if it was made of the newest checkpoint. Its points cannot be trained.

    Raises: UserError where the folder contains no run, or the scene folder does not exist or has other photos.
    """
    folder = Path(folder)
    check_run_folder(folder)
    config = load_config(folder / "config.json", say)
    if device is not None:
        config = dataclasses.replace(config, device=device)
    saved = checkpoints(folder / "checkpoints")
    use_packed = packed and is_packed(folder, say)
    if not saved and not use_packed:
        raise UserError(f"{folder}: has no checkpoint yet; train it further with --resume")
    where = scene or Path(config.scene)
    if not os.path.isdir(where):
        raise UserError(
            f"{where}: the scene that {folder} was trained on is not there; say where it is with --scene"
        )
    run = new_run(where, folder, config, lambda _: None)
    run.trained_points = has_trained_points(run.scene, folder, say)
    if use_packed:
        run.progress = load_packed(folder / PACKED, run.pipeline)
    else:
        run.progress = load_checkpoint(saved[-1], run.pipeline)
    run.pipeline.eval()
    run.split["train"] = load_occluders(folder, run.scene, run.cache, run.split["train"])
    # Decoding all photos is left to the first view: much of what is done with a run renders none.
    run.pipeline.photos = functools.partial(ready_photos, run.pipeline, run.cache, run.split["train"])
    model = load_exposure(folder, len(run.split["held_out"]), run.progress.step)
    if model is not None:
        run.use_exposure(model)
    return run
