"""What refinement recovers: known errors are laid on a scene, a run refines them, and what is left is printed."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro

from adop.bench.disturb import (
    Geometry,
    GeometryErrors,
    disturb_lens,
    disturb_points,
    disturb_poses,
    disturb_rolling_shutter,
    geometry,
    measure,
)
from adop.config.config import LearnConfig, TrainConfig, preset
from adop.errors import UserError
from adop.evaluation.photometric_truth import (
    PhysicalCamera,
    compare,
    compose_cameras,
    learned_camera,
    read_truth,
)
from adop.evaluation.plots import plot_camera, plot_errors
from adop.run.run import Run
from adop.scene.scene import demo_scene_folder
from adop.training.train import train

Disturb = Literal["all", "photometry", "poses", "lens", "points", "noise", "rolling_shutter", "nothing"]
UNITS = {
    "exposure_ev": "EV",
    "white_balance": "relative",
    "vignette_rmse": "",
    "response_rmse": "",
    "pose_rotation_deg": "degrees",
    "pose_translation_rel": "of the distance",
    "pose_reprojection_px": "px",
    "rolling_shutter_px": "px",
    "focal_rel": "relative",
    "k1": "",
    "points_patch_px": "px",
    "points_px": "px",
}
ROUNDING = 2e-5  # of any of them: less is none


@dataclass(frozen=True)
class BenchRefineConfig:
    """Lay known errors on a scene's cameras and points, refine them, and print truth, start and end of each."""

    scene: tyro.conf.Positional[Path | None] = None
    """Scene folder; its own cameras and points are the truth. Without it, the demo scene."""
    disturb: Disturb = "poses"
    """What is made wrong. lens: with the poses; photometry: start flat, EXIF forgotten; points: patches; noise: each
    point for itself; rolling_shutter: a motion of each camera while its rows are read out; all: photometry, poses, lens
    and patches at once."""
    method: Literal["picture", "gradient", "both"] = "picture"
    """Gauss-Newton on the picture, the published gradient, or one after the other."""
    position_gradient: Literal["ghost", "bilinear"] = "ghost"
    """Which gradient the published way takes."""
    rotation: float = 0.3
    """Turn of each training photo's camera, degrees."""
    translation: float = 0.005
    """Its shift, relative to the distance of what it sees."""
    motion_rotation: float = 0.2
    """Turn of each training photo's camera between its first and its last row, degrees."""
    motion_translation: float = 0.003
    """Its shift meanwhile, relative to the distance of what it sees."""
    focal: float = 0.01
    """Relative error of the focal length."""
    k1: float = 0.02
    """Error of the first radial coefficient."""
    patch_px: float = 4.0
    """Shift of patches of points, pixels."""
    patch: float = 0.03
    """Width of the patches, relative to the scene's."""
    noise_px: float = 1.0
    """Noise of single points, pixels."""
    steps: int = 200
    """Training steps after the start; 0 measures what is recovered before training."""
    psnr: bool = False
    """Also train the undisturbed scene, and the disturbed one without refinement, and compare held-out photos."""
    truth: Path | None = None
    """JSON of the true physical camera (the demo scene brings its own)."""
    reference: Path | None = None
    """Scene of the source photos, where `truth` is a camera laid over real photographs: what the same run learns of
    it is part of the truth."""
    output: Path = Path("runs/bench-refine")
    """Folder for the runs and the plots; must be new."""
    json: Path | None = None
    """Write all figures here."""
    seed: int = 0


@dataclass
class Recovery:
    """One run's errors."""

    run: Run | None = None
    truth: Geometry | None = None
    start: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    before_training: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    end: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0  # from the disturbance to the first training step
    begun: float = 0.0
    result: dict[str, Any] = dataclasses.field(default_factory=dict)


def bench_refine(config: BenchRefineConfig) -> int:
    """Run the benchmark, print the table, write JSON and plots; return 0."""
    scene = config.scene or demo_scene_folder()
    truth_file = config.truth or (scene / "truth" / "truth.json")
    if config.disturb == "photometry" and not truth_file.is_file():
        raise UserError(f"{scene}: has no true physical camera; name its JSON with --truth")
    if config.output.exists() and any(config.output.iterdir()):
        raise UserError(f"{config.output}: is not empty; choose another --output")
    methods = ("picture", "gradient") if config.method == "both" else (config.method,)
    truth_file_or_none = truth_file if truth_file.is_file() else None
    source = None
    if config.reference is not None:
        print(f"learning the camera of {config.reference}")
        # As a camera of sRGB's response: only behind such a one is a second camera a camera again. It forgets the
        # exposures where the other run does: EXIF would pull its own elsewhere.
        start = "photometry" if _forgets_exposures(config.disturb) else "nothing"
        source = _recover(
            config, config.reference, start, methods[0], "reference", None, None, response=False
        )
    result: dict[str, Any] = {"scene": str(scene), "disturbed": config.disturb, "steps": config.steps}
    by_method: dict[str, Any] = {}
    for method in methods:
        recovery = _recover(config, scene, config.disturb, method, method, truth_file_or_none, source)
        by_method[method] = _groups(recovery)
        print(_table(recovery, f"{config.disturb} disturbed, {method}"))
        _plots(config, recovery, method, truth_file_or_none, source)
    result |= {"groups": by_method[methods[0]], "methods": by_method}
    result["seconds_before_training"] = recovery.seconds
    if config.psnr:
        result["held_out"] = _held_out(config, scene, recovery)
    if config.json is not None:
        config.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def _train_config(
    config: BenchRefineConfig, disturb: str, method: str, refine: bool, response: bool
) -> TrainConfig:
    """Return a run that refines what is disturbed, and nothing else of the geometry."""
    poses, lens = disturb in ("poses", "lens", "all"), disturb in ("lens", "all")
    groups = LearnConfig(
        poses="on" if refine and poses else "off",
        intrinsics="on" if refine and lens else "off",
        distortion="on" if refine and lens else "off",
        rolling_shutter="on" if refine and disturb == "rolling_shutter" else "off",
        points="on" if refine and disturb in ("points", "noise", "all") else "off",
        response="on" if response else "off",
    )
    base = preset("quick")
    moves = base.refine.points
    if disturb == "noise":  # which neighbours do not share
        moves = dataclasses.replace(moves, groups=False, single=True)
    refinement = dataclasses.replace(
        base.refine,
        method=method,  # type: ignore[arg-type]
        position_gradient=config.position_gradient,
        points=moves,
    )
    steps = max(config.steps, 1)
    return dataclasses.replace(
        base, steps=steps, evaluate_every=10**9, seed=config.seed, learn=groups, refine=refinement
    )


def _disturbance(config: BenchRefineConfig, disturb: str) -> Callable[[Run], None]:
    def apply(run: Run) -> None:
        generator = torch.Generator().manual_seed(config.seed + 1)
        pipeline, photos = run.pipeline, run.split["train"]
        if _forgets_exposures(disturb):
            _forget_exposures(run)
        if disturb in ("points", "all"):
            disturb_points(pipeline, photos, config.patch_px, config.patch, generator)
        if disturb == "noise":
            disturb_points(pipeline, photos, config.noise_px, 0.0, generator)
        if disturb in ("poses", "lens", "all"):
            disturb_poses(pipeline, photos, config.rotation, config.translation, generator)
        if disturb == "rolling_shutter":
            turn, shift = config.motion_rotation, config.motion_translation
            disturb_rolling_shutter(pipeline, photos, turn, shift, generator)
        if disturb in ("lens", "all"):
            disturb_lens(pipeline, config.focal, config.k1)

    return apply


def _forgets_exposures(disturb: str) -> bool:
    return disturb in ("photometry", "all")


def _forget_exposures(run: Run) -> None:
    photos = tuple(dataclasses.replace(photo, exposure=None) for photo in run.scene.photos)
    run.scene = dataclasses.replace(run.scene, photos=photos)
    run.pipeline.tonemapper.exposure_start.zero_()


def _recover(
    config: BenchRefineConfig,
    scene: Path,
    disturb: str,
    method: str,
    name: str,
    truth_file: Path | None,
    source: Recovery | None,
    refine: bool = True,
    response: bool = True,
) -> Recovery:
    """Disturb a scene, train it, and measure on the way."""
    recovery = Recovery()
    apply = _disturbance(config, disturb)

    def errors() -> dict[str, list[float]]:
        assert recovery.run is not None and recovery.truth is not None
        found = measure(recovery.run.pipeline, recovery.truth, recovery.run.split["train"])
        return _named(found, disturb) | _camera_errors(recovery.run, truth_file, source)

    def before(run: Run) -> None:
        recovery.run, recovery.truth = run, geometry(run.pipeline)
        apply(run)
        recovery.start, recovery.begun = errors(), time.monotonic()

    def each(run: Run, values: dict[str, float]) -> None:
        if run.progress.step == 1:
            recovery.seconds = time.monotonic() - recovery.begun
            recovery.before_training = errors()

    recovery.result = train(
        scene,
        config.output / name,
        dataclasses.replace(
            _train_config(config, disturb, method, refine, response), scene=str(scene.resolve())
        ),
        say=lambda text: print(f"  {text}"),
        callback=each,
        disturb=before,
    )
    recovery.end = errors()
    return recovery


def _named(errors: GeometryErrors, disturb: str) -> dict[str, list[float]]:
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


def _camera_truth(run: Run, truth_file: Path, source: Recovery | None) -> PhysicalCamera:
    truth = read_truth(truth_file, run.scene)
    if source is not None and source.run is not None:
        truth = compose_cameras(truth, learned_camera(source.run.pipeline))
    return truth


def _camera_errors(run: Run, truth_file: Path | None, source: Recovery | None) -> dict[str, list[float]]:
    if truth_file is None:
        return {}
    known = all(photo.exposure is not None for photo in run.scene.photos)
    truth = _camera_truth(run, truth_file, source)
    found = compare(learned_camera(run.pipeline), truth, run.split["train"], known)
    return {
        "exposure_ev": np.abs(found.exposure).tolist(),
        "white_balance": found.white_balance.max(1).tolist(),
        "vignette_rmse": [found.vignette_rmse],
        "response_rmse": [found.response_rmse],
    }


def _groups(recovery: Recovery) -> dict[str, dict[str, float]]:
    """Return medians and worsts of every group, as the JSON has them; of points that are still there."""
    return {
        name: {
            "start": float(np.nanmedian(start)),
            "before_training": float(np.nanmedian(recovery.before_training[name])),
            "end": float(np.nanmedian(recovery.end[name])),
            "worst_start": float(np.nanmax(start)),
            "worst_end": float(np.nanmax(recovery.end[name])),
            "further_off": sum(e > s for s, e in zip(start, recovery.end[name], strict=True)),
        }
        for name, start in recovery.start.items()
        if start
    }


def _table(recovery: Recovery, title: str) -> str:
    head = f"{'':24}{'start':>10}{'aligned':>10}{'end':>10}{'removed':>10}   worst: start, end"
    lines = [f"{title}: medians; aligned after {recovery.seconds:.0f} s, before training", head]
    for name, values in _groups(recovery).items():
        removed = (
            f"{100 * (1 - values['end'] / values['start']):.1f} %" if values["start"] > ROUNDING else "-"
        )
        lines.append(
            f"{name:24}{values['start']:10.4f}{values['before_training']:10.4f}{values['end']:10.4f}"
            f"{removed:>10}   {values['worst_start']:.4f}, {values['worst_end']:.4f} {UNITS[name]}"
        )
    return "\n".join(lines)


def _plots(
    config: BenchRefineConfig,
    recovery: Recovery,
    method: str,
    truth_file: Path | None,
    source: Recovery | None,
) -> None:
    several = {n: (s, recovery.end[n]) for n, s in recovery.start.items() if len(s) > 1 and max(s) > ROUNDING}
    bars = {f"{name}, {UNITS[name]}": pair for name, pair in several.items()}
    file = config.output / f"errors_{method}.png"
    if bars:
        plot_errors(bars, file)
        print(f"plot: {file}")
    if truth_file is not None and recovery.run is not None:
        run, camera = recovery.run, config.output / f"camera_{method}.png"
        known = all(photo.exposure is not None for photo in run.scene.photos)
        truth = _camera_truth(run, truth_file, source)
        found, photos = learned_camera(run.pipeline), run.split["train"]
        errors = compare(found, truth, photos, known)
        plot_camera(found.of(photos), None, camera, truth.of(photos), errors)
        print(f"plot: {camera}")


def _held_out(config: BenchRefineConfig, scene: Path, refined: Recovery) -> dict[str, dict[str, float]]:
    """Return the held-out scores of the refined run, of one without refinement, and of the undisturbed one."""
    runs = {"refined": refined}
    off = _recover(config, scene, config.disturb, config.method, "off", None, None, refine=False)
    clean = _recover(config, scene, "nothing", config.method, "undisturbed", None, None)
    runs |= {"not refined": off, "undisturbed": clean}
    scores = {
        name: {k: one.result["mean"][k] for k in ("psnr", "psnr_fitted", "ssim")}
        for name, one in runs.items()
    }
    print(f"{'held-out photos':20}  PSNR    PSNR fitted  SSIM")
    for name, values in scores.items():
        print(f"{name:20}  {values['psnr']:5.2f}   {values['psnr_fitted']:5.2f}        {values['ssim']:.4f}")
    return scores
