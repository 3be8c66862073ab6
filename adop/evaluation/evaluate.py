"""Held-out photos: scores by the field's protocol, pictures, and the same for the untrained points."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adop.config import NetworkConfig
from adop.evaluation.report import Report
from adop.files import write_atomically
from adop.images.metrics import psnr, ssim
from adop.initialisation.environment import initialise_environment
from adop.initialisation.photometry import fit_photometry, left_half
from adop.model.pipeline import build_pipeline
from adop.model.tonemapper import Photometry
from adop.refine.align import RefinedParameters, align_cameras
from adop.refine.photo_set import PhotoSet, render_network
from adop.run.run import Run
from adop.training.loss import Vgg


@dataclass(frozen=True)
class Score:
    """One held-out photo."""

    photo: str
    psnr: float  # dB, exposed as EXIF and the photos taken before and after suggest
    psnr_exif: float  # dB, exposed as EXIF alone says
    psnr_fitted: float  # dB on the right half, photometry fitted on the left half
    ssim: float
    ssim_fitted: float
    exposure_fitted: float  # EV beyond EXIF's
    vgg: float | None  # distance of VGG features, where weights are given


@dataclass(frozen=True)
class View:
    """The pictures of a held-out photo, [3, H, W] in [0, 1]."""

    photo: Tensor
    render: Tensor  # exposed as EXIF and the photos taken before and after suggest
    fitted: Tensor  # exposed as fitted on the left half


@torch.no_grad()
def score_photo(run: Run, photo: int, vgg: Vgg | None = None) -> tuple[Score, View]:
    """Render a photo's view and compare; its pose and lens stay as they are in the scene."""
    pipeline, device = run.pipeline, run.device
    index = torch.tensor([photo])
    camera = pipeline.camera(index)
    views = pipeline.cameras.view_info([photo], [1.0], trained=False)
    radiance = pipeline.render(camera, views, extrapolate=True).image
    target = run.cache.image(photo, device)
    mask = torch.ones_like(target[:, :1])
    photo_mask = run.cache.mask(photo)
    if photo_mask is not None:
        mask *= photo_mask.to(device).float()
    plain = pipeline.tonemapper.photometry(index)
    render = pipeline.photo(radiance, camera, index, plain)
    left, right = left_half(mask)

    def shoot(photometry: Photometry) -> Tensor:
        return pipeline.photo(radiance, camera, index, photometry)

    fit = fit_photometry(shoot, target, left, plain)
    fitted = shoot(fit)
    score = Score(
        photo=run.scene.photos[photo].name,
        psnr=float(psnr(render, target, mask)),
        psnr_exif=float(psnr(shoot(pipeline.tonemapper.start_photometry(index)), target, mask)),
        psnr_fitted=float(psnr(fitted, target, right)),
        ssim=float(ssim(render, target, mask)),
        ssim_fitted=float(ssim(fitted, target, right)),
        exposure_fitted=float(fit.exposure - pipeline.tonemapper.exposure_start[photo]),
        vgg=None if vgg is None else float(vgg(render, target)),
    )
    return score, View(target[0], render[0], fitted[0])


def untrained_run(run: Run) -> Run:
    """Return a run of the points in their own colours, holes filled, environment from the photos, nothing trained."""
    config = dataclasses.replace(
        run.config,
        network=NetworkConfig(kind="none"),
        render=dataclasses.replace(run.config.render, extrapolation_views=0),
    )
    trained = torch.zeros(len(run.scene.photos), dtype=torch.bool)
    trained[run.split["train"]] = True
    exposure = run.pipeline.tonemapper.exposure_start.cpu()
    baseline = build_pipeline(run.scene, config, exposure, trained).to(run.device)
    if config.environment.enabled:
        initialise_environment(baseline, run.cache, run.split["train"])
    return dataclasses.replace(run, config=config, pipeline=baseline)


def score_held_out(
    run: Run, vgg: Vgg | None = None, each: Callable[[Score, View], None] | None = None
) -> dict[str, Any]:
    """Return the scores of the held-out photos and their means, as `eval.json` holds them."""
    scores = []
    for photo in run.split["held_out"]:
        score, view = score_photo(run, photo, vgg)
        if each is not None:
            each(score, view)
        scores.append(dataclasses.asdict(score))
    names = [name for name in scores[0] if name != "photo" and scores[0][name] is not None]
    mean = {name: sum(s[name] for s in scores) / len(scores) for name in names}
    return {"mean": mean, "photos": scores}


def score_aligned(run: Run, vgg: Vgg | None = None) -> dict[str, Any]:
    """Return the scores with each held-out photo's pose aligned with the photo itself; poses end as they were.

    Such a score has seen the photo: it tells an error of the pose from one of the image, and is no measure of
    novel views.
    """
    cameras, photos = run.pipeline.cameras, run.split["held_out"]
    poses = cameras.poses[photos].clone()
    only_poses = RefinedParameters(poses=True, intrinsics=False, distortion=False)
    align = run.config.refine.align
    try:
        held_out = PhotoSet(run.pipeline, run.cache, photos)
        moved = align_cameras(held_out, align, only_poses, render_network, finest_only=True)
        result = score_held_out(run, vgg)
    finally:
        cameras.set_poses(photos, poses)
    shift = {m.photo: m.pixels if m.kept else 0.0 for m in moved}
    for photo, score in zip(photos, result["photos"], strict=True):
        score["moved_px"] = shift[photo]
    return result


def evaluate(run: Run, refine_poses: bool = False) -> dict[str, Any]:
    """Score all held-out photos and the untrained points; write `eval.json`, pictures and `index.html` into `eval/`.

    Args:
        refine_poses: score once more with the held-out photos' poses aligned, as `poses_refined`, apart from the rest.

    Returns what `eval.json` holds.
    """
    folder, scene, split = run.folder / "eval", run.scene, run.split
    weights = run.config.loss.vgg_weights
    vgg = Vgg(weights).to(run.device) if weights else None
    report = Report(folder)
    result = score_held_out(run, vgg, report.add)
    untrained = score_held_out(untrained_run(run), vgg)
    result["baseline_points"] = untrained["mean"] | {"photos": untrained["photos"]}
    result["protocol"] = {
        "held_out": [scene.photos[i].name for i in split["held_out"]],
        "trained": [scene.photos[i].name for i in split["train"]],
        "psnr": "whole photo, exposed as EXIF and the trained photos before and after it suggest",
        "psnr_exif": "whole photo, exposed as EXIF alone says, mean white balance",
        "psnr_fitted": "right half, exposure and white balance fitted on the left half",
    }
    if refine_poses:
        result["poses_refined"] = score_aligned(run, vgg)
        result["protocol"]["poses_refined"] = (
            "the same, each photo's pose first aligned with the photo itself"
        )
    result |= {"step": run.progress.step, "seconds": run.progress.seconds}
    text = json.dumps(result, indent=2) + "\n"
    write_atomically(folder / "eval.json", lambda path: path.write_text(text))
    report.write(result)
    return result
