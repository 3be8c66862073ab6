"""`adop bench refine`: add known errors to a scene, refine it, and report how much of each error remains."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from adop.bench.disturb import (
    GeometryErrors,
    disturb_lens,
    disturb_points,
    disturb_poses,
    disturb_rolling_shutter,
    geometry,
    measure,
)
from adop.bench.refinement_report import Errors, Recovery, format_scores, format_table, save_plots, summarise
from adop.config import LearnConfig, TrainConfig, preset
from adop.errors import UserError
from adop.evaluation.photometric_truth import (
    PhysicalCamera,
    compare,
    compose_cameras,
    learned_camera,
    read_truth,
)
from adop.files import OutputFile, OutputFolder, write_text
from adop.ranges import Count, NotNegative, Seed
from adop.run.photos.scene_photos import known_exposures
from adop.run.run import Run
from adop.scene.scene import demo_scene_folder
from adop.training.train import train

Disturbance = Literal["all", "photometry", "poses", "lens", "points", "noise", "rolling_shutter", "nothing"]
Method = Literal["picture", "gradient"]


@dataclass(frozen=True)
class ErrorSizes:
    """How large the added errors are; `--disturb` chooses which of them are added."""

    rotation_deg: NotNegative = 0.3
    """Rotation of each training photo's camera about a random axis, degrees."""
    translation: NotNegative = 0.005
    """Shift of each training photo's camera centre, relative to the median depth that the photo sees."""
    shutter_rotation_deg: NotNegative = 0.2
    """Rotation of each training photo's camera from its first row to its last, degrees."""
    shutter_translation: NotNegative = 0.003
    """Shift of each training photo's camera from its first row to its last, relative to the median depth."""
    focal_length: NotNegative = 0.01
    """Relative error of each lens's focal length."""
    k1: NotNegative = 0.02
    """Error of each lens's first radial distortion coefficient."""
    patch_px: NotNegative = 4.0
    """Shift of patches of points along the image plane, root mean square, pixels."""
    patch_size: NotNegative = 0.03
    """Side of the patches, relative to the scene's extent."""
    noise_px: NotNegative = 1.0
    """Shift of single points along the image plane, root mean square, pixels."""


@dataclass(frozen=True)
class BenchRefineConfig:
    """Add known errors to a scene's cameras and points, refine them, and print each error before and after."""

    scene: tyro.conf.Positional[Path | None] = None
    """Scene folder, whose own cameras and points are the truth; the demo scene if omitted."""
    disturb: Disturbance = "poses"
    """What gets errors:
    photometry: EXIF exposures are ignored;
    lens: lenses, and poses too;
    points: patches of points;
    noise: every point by itself;
    rolling_shutter: each camera moves while its rows are read out;
    all: photometry, poses, lenses and patches of points at once."""
    errors: Annotated[ErrorSizes, tyro.conf.arg(name="")] = field(default_factory=ErrorSizes)
    method: Literal["picture", "gradient", "both"] = "picture"
    """picture: Gauss-Newton on image differences; gradient: the published gradient; both: one run with each."""
    position_gradient: Literal["ghost", "bilinear"] = "ghost"
    """Position gradient of `--method gradient`: the published ghost points, or a bilinear footprint."""
    steps: Count = 200
    """Training steps; 1 measures little more than what is recovered before training."""
    psnr: bool = False
    """Compare held-out photos with a run that does not refine, and with a run of the undisturbed scene."""
    truth: Path | None = None
    """JSON file of the true physical camera; the demo scene's own file if omitted."""
    source_scene: Path | None = None
    """Scene folder of the original photos, if `--truth` describes a camera that was simulated on top of them;
    what the benchmark learns of the original camera becomes part of the truth."""
    output: OutputFolder = Path("runs/bench-refine")
    """Folder for the runs and the plots; must be new or empty."""
    json: OutputFile | None = None
    """Write all numbers to this JSON file."""
    seed: Seed = 0
    """Seed of the errors and of the training."""


@dataclass(frozen=True)
class Trial:
    """One training run of the benchmark."""

    name: str  # of its folder
    scene: Path
    disturb: Disturbance
    method: Method
    truth_file: Path | None = None  # JSON of the true physical camera; None: it is not compared
    source: Recovery | None = None  # a run of the original photos, see `BenchRefineConfig.source_scene`
    refine: bool = True  # whether the disturbed parameters are learned
    learn_response: bool = True


def bench_refine(config: BenchRefineConfig) -> int:
    """Run the benchmark, print its tables, write JSON and plots; return 0.

    Raises: UserError if the output folder is not empty, or no true camera is known to compare the photometry with.
    """
    scene = config.scene or demo_scene_folder()
    truth_file = _find_truth(config, scene)
    if config.output.exists() and any(config.output.iterdir()):
        raise UserError(f"{config.output}: is not empty; choose another --output")
    methods: tuple[Method, ...] = ("picture", "gradient") if config.method == "both" else (config.method,)
    source = None if config.source_scene is None else _learn_source(config, config.source_scene, methods[0])
    by_method: dict[str, Any] = {}
    for method in methods:
        recovery = _recover(config, Trial(method, scene, config.disturb, method, truth_file, source))
        by_method[method] = summarise(recovery)
        print(format_table(recovery, f"{config.disturb} disturbed, {method}"))
        for plot in save_plots(recovery, config.output, method):
            print(f"plot: {plot}")
    result = {"scene": str(scene), "disturbed": config.disturb, "steps": config.steps}
    result |= {"groups": by_method[methods[0]], "methods": by_method}
    result["seconds_before_training"] = recovery.seconds
    if config.psnr:
        result["held_out"] = _held_out(config, scene, methods[0], recovery)
    if config.json is not None:
        write_text(config.json, json.dumps(result, indent=2) + "\n")
    return 0


def _find_truth(config: BenchRefineConfig, scene: Path) -> Path | None:
    file = config.truth or (scene / "truth" / "truth.json")
    if file.is_file():
        return file
    if config.disturb == "photometry" or config.truth is not None:
        raise UserError(f"{file}: is not there; name the JSON file of the true physical camera with --truth")
    return None


def _learn_source(config: BenchRefineConfig, scene: Path, method: Method) -> Recovery:
    """Train on the original photos, to learn the camera that took them.

    The response stays sRGB's: only then do two cameras in a row equal one camera of the benchmark's model. EXIF is
    ignored here if the benchmark's own run ignores it, because EXIF would lead to different exposures.
    """
    print(f"learning the camera of {scene}")
    disturb: Disturbance = "photometry" if _ignores_exif(config.disturb) else "nothing"
    return _recover(config, Trial("reference", scene, disturb, method, learn_response=False))


def _held_out(
    config: BenchRefineConfig, scene: Path, method: Method, refined: Recovery
) -> dict[str, dict[str, float]]:
    """Print and return the held-out scores of the refined run, of one without refinement, and of an undisturbed one."""
    runs = {
        "refined": refined,
        "not refined": _recover(config, Trial("off", scene, config.disturb, method, refine=False)),
        "undisturbed": _recover(config, Trial("undisturbed", scene, "nothing", method)),
    }
    scores = {
        name: {score: run.scores["mean"][score] for score in ("psnr", "psnr_fitted", "ssim")}
        for name, run in runs.items()
    }
    print(format_scores(scores))
    return scores


def _recover(config: BenchRefineConfig, trial: Trial) -> Recovery:
    """Disturb a scene, train it, and measure the errors at the start, before training and at the end."""
    recorder = Recorder(config, trial)
    scores = train(
        trial.scene,
        config.output / trial.name,
        _train_config(config, trial),
        say=lambda text: print(f"  {text}"),
        callback=recorder.after_step,
        disturb=recorder.begin,
    )
    return recorder.finish(scores)


class Recorder:
    """The callbacks of one training run: they disturb it as it begins, and measure its errors."""

    def __init__(self, config: BenchRefineConfig, trial: Trial) -> None:
        self.config, self.trial = config, trial
        self.begun = self.seconds = 0.0
        self.start: Errors = {}
        self.before_training: Errors = {}

    def begin(self, run: Run) -> None:
        """Store the truth, add the errors and measure them."""
        self.run, self.truth = run, geometry(run.pipeline)
        _disturb(run, self.trial.disturb, self.config.errors, self.config.seed)
        self.camera_truth = _camera_truth(self.trial, run)
        self.start = self._errors()
        self.begun = time.monotonic()

    def after_step(self, run: Run, values: dict[str, float]) -> None:
        """Measure after the first step, before training has changed much."""
        if run.progress.step == 1:
            self.seconds = time.monotonic() - self.begun
            self.before_training = self._errors()

    def finish(self, scores: dict[str, Any]) -> Recovery:
        """Measure after the last step, and return everything that was measured."""
        end = self._errors()
        return Recovery(
            self.run, self.camera_truth, self.start, self.before_training, end, self.seconds, scores
        )

    def _errors(self) -> Errors:
        found = measure(self.run.pipeline, self.truth, self.run.split["train"])
        return _geometry_errors(found, self.trial.disturb) | _photometry_errors(self.run, self.camera_truth)


def _train_config(config: BenchRefineConfig, trial: Trial) -> TrainConfig:
    """Return the configuration of a run that refines what is disturbed, and no other part of the geometry."""
    disturb, refine = trial.disturb, trial.refine
    poses, lens = disturb in ("poses", "lens", "all"), disturb in ("lens", "all")
    learn = LearnConfig(
        poses="on" if refine and poses else "off",
        intrinsics="on" if refine and lens else "off",
        distortion="on" if refine and lens else "off",
        rolling_shutter="on" if refine and disturb == "rolling_shutter" else "off",
        points="on" if refine and disturb in ("points", "noise", "all") else "off",
        response="on" if trial.learn_response else "off",
    )
    base = preset("quick")
    points = base.refine.points
    if disturb == "noise":  # neighbouring points do not share their errors
        points = dataclasses.replace(points, grouped=False, individual=True)
    refinement = dataclasses.replace(
        base.refine, method=trial.method, position_gradient=config.position_gradient, points=points
    )
    return dataclasses.replace(
        base,
        scene=str(trial.scene.resolve()),
        steps=max(config.steps, 1),
        evaluate_every=10**9,
        seed=config.seed,
        learn=learn,
        refine=refinement,
    )


def _disturb(run: Run, disturb: Disturbance, errors: ErrorSizes, seed: int) -> None:
    """Add the errors to a run."""
    generator = torch.Generator().manual_seed(seed + 1)
    pipeline, photos = run.pipeline, run.split["train"]
    if _ignores_exif(disturb):
        _remove_exif(run)
    if disturb in ("points", "all"):
        disturb_points(pipeline, photos, errors.patch_px, errors.patch_size, generator)
    if disturb == "noise":
        disturb_points(pipeline, photos, errors.noise_px, 0.0, generator)
    if disturb in ("poses", "lens", "all"):
        disturb_poses(pipeline, photos, errors.rotation_deg, errors.translation, generator)
    if disturb == "rolling_shutter":
        rotation, translation = errors.shutter_rotation_deg, errors.shutter_translation
        disturb_rolling_shutter(pipeline, photos, rotation, translation, generator)
    if disturb in ("lens", "all"):
        disturb_lens(pipeline, errors.focal_length, errors.k1)


def _ignores_exif(disturb: Disturbance) -> bool:
    return disturb in ("photometry", "all")


def _remove_exif(run: Run) -> None:
    photos = tuple(dataclasses.replace(photo, exposure=None) for photo in run.scene.photos)
    run.scene = dataclasses.replace(run.scene, photos=photos)
    run.pipeline.tonemapper.exposure_start.zero_()


def _geometry_errors(errors: GeometryErrors, disturb: Disturbance) -> Errors:
    points = "points_px" if disturb == "noise" else "points_patch_px"
    return {
        "pose_rotation_deg": errors.rotation_deg,
        "pose_translation_rel": errors.translation_rel,
        "pose_reprojection_px": errors.reprojection_px,
        "rolling_shutter_px": errors.rolling_shutter_px,
        "focal_rel": [errors.focal_rel],
        "k1": [errors.k1],
        points: errors.points_px,
    }


def _camera_truth(trial: Trial, run: Run) -> PhysicalCamera | None:
    if trial.truth_file is None:
        return None
    truth = read_truth(trial.truth_file, run.scene)
    if trial.source is not None:
        truth = compose_cameras(truth, learned_camera(trial.source.run.pipeline))
    return truth


def _photometry_errors(run: Run, truth: PhysicalCamera | None) -> Errors:
    if truth is None:
        return {}
    exif = known_exposures(run.scene) is not None
    found = compare(learned_camera(run.pipeline), truth, run.split["train"], exif)
    return {
        "exposure_ev": np.abs(found.exposure).tolist(),
        "white_balance": found.white_balance.max(1).tolist(),
        "vignette_rmse": [found.vignette_rmse],
        "response_rmse": [found.response_rmse],
    }
