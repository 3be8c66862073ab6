"""Scores of held-out photos by the field's protocol, and of the untrained points for comparison."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adop.backend.choice import machine_name
from adop.config import NetworkConfig
from adop.evaluation.flicker import Flicker
from adop.evaluation.photometry_fit import fit_photometry, half_masks
from adop.evaluation.picture_scores import PictureScores, by_name, score_pictures
from adop.evaluation.report import Report
from adop.evaluation.tables import mean_scores
from adop.files import write_text
from adop.images.metrics.colour_correction import correct_colours
from adop.images.metrics.psnr_ssim import psnr
from adop.images.vgg import Vgg
from adop.initialisation.environment import initialise_environment
from adop.model.pipeline import Pipeline, build_pipeline
from adop.model.tonemapper import Photometry
from adop.model.views.view import Radiance
from adop.progress import Bar
from adop.ranks import in_turns, ranks
from adop.refine.align import align_cameras
from adop.refine.alignment_equations import RefinedParameters
from adop.refine.photo_set import PhotoSet, render_network
from adop.run.exposure import save_exposure
from adop.run.run import Run
from adop.scene.photo_cache import PhotoCache

PLOTS, SCORES = "plots", "scores of held-out photos"  # stages of the work, for `adop.progress.Stages`
# Of a held-out photo, roughly: it and its untrained points are rendered and scored.
SECONDS_PER_MEGAPIXEL = {"cpu": 25.0, "cuda": 1.0}


@dataclass(frozen=True)
class Score:
    """The scores of one held-out photo."""

    photo: str
    plain: PictureScores  # exposure and white balance predicted without the photo
    fitted: PictureScores  # of the right half; exposure and white balance fitted on the left half
    corrected: PictureScores  # colours of the plain picture mapped to the photo's, see `correct_colours`
    psnr_right: float  # dB, of the plain picture's right half, to compare the fitted one with
    psnr_exif: float  # dB, exposure from EXIF alone, neutral white balance
    exposure_fitted: float  # EV, the fitted exposure minus EXIF's
    covered: float  # share of the photo in which points are drawn, holes that are filled included
    vgg: (
        float | None
    )  # distance of VGG features, exposure as for the plain picture; None: no weights are given

    def values(self) -> dict[str, Any]:
        """Return the scores by name, as in `eval.json`: psnr, psnr_fitted, psnr_corrected, ..."""
        named = by_name({"": self.plain, "_fitted": self.fitted, "_corrected": self.corrected})
        others = {
            "psnr_right": self.psnr_right,
            "psnr_exif": self.psnr_exif,
            "exposure_fitted": self.exposure_fitted,
            "covered": self.covered,
            "vgg": self.vgg,
        }
        return {"photo": self.photo} | named | others


@dataclass(frozen=True)
class HeldOutImages:
    """A held-out photo and its renders, [3, H, W] in [0, 1]."""

    photo: Tensor
    render: Tensor  # exposure and white balance predicted without the photo
    fitted: Tensor  # exposure and white balance fitted on the left half


@torch.no_grad()
def score_photo(run: Run, photo: int, vgg: Vgg | None = None) -> tuple[Score, HeldOutImages]:
    """Render a photo's view and compare it with the photo; the camera is the pipeline's and is not adjusted."""
    pipeline, device = run.pipeline, run.device
    index = torch.tensor([photo])
    camera = pipeline.camera(index)
    views = pipeline.cameras.view_info([photo], [1.0], trained=False)
    rendered = pipeline.new_view(camera, views)
    radiance = rendered.image
    target = run.cache.image(photo, device)
    mask = photo_mask(run.cache, photo, device)
    left, right = half_masks(mask)

    def take_photo(photometry: Photometry) -> Tensor:
        return pipeline.photo(radiance, camera, index, photometry)

    expected = pipeline.tonemapper.photometry(index)
    fit = fit_photometry(take_photo, target, left, expected)
    render, fitted = take_photo(expected), take_photo(fit)
    from_exif = take_photo(pipeline.tonemapper.start_photometry(index))
    corrected = correct_colours(render, target, mask)
    pictures, scored = torch.cat((render, fitted, corrected)), torch.cat((mask, right, mask))
    of_plain, of_fitted, of_corrected = score_pictures(pictures, target, mask, scored)
    score = Score(
        photo=run.scene.photos[photo].name,
        plain=of_plain,
        fitted=of_fitted,
        corrected=of_corrected,
        psnr_right=float(psnr(render, target, right)),
        psnr_exif=float(psnr(from_exif, target, mask)),
        exposure_fitted=float(fit.exposure - pipeline.tonemapper.exposure_start[photo]),
        covered=covered_share(pipeline, rendered),
        vgg=None if vgg is None else float(vgg(render, target)),
    )
    return score, HeldOutImages(target[0].cpu(), render[0].cpu(), fitted[0].cpu())


def covered_share(pipeline: Pipeline, rendered: Radiance) -> float:
    """Return the share of a view in which points are drawn, as far as holes between them are filled."""
    weights = rendered.levels.weight
    return float((weights[min(pipeline.fill_levels, len(weights) - 1)] > 0).float().mean())


def photo_mask(cache: PhotoCache, photo: int, device: torch.device) -> Tensor:
    """Return [1, 1, H, W], 1 where a photo counts and 0 where its mask hides it."""
    mask = cache.mask(photo)
    if mask is None:
        return torch.ones_like(cache.image(photo, device)[:, :1])
    return mask.to(device).float()[None, None]


def untrained_run(run: Run) -> Run:
    """Return a run of the scene's hole-filled points in their own colours: no network, nothing trained.

    Only the environment comes from the photos.
    """
    config = dataclasses.replace(
        run.config,
        network=NetworkConfig(kind="none"),
        render=dataclasses.replace(run.config.render, extrapolation_views=0),
    )
    trained = torch.zeros(len(run.scene.photos), dtype=torch.bool)
    trained[run.split["train"]] = True
    exposure = run.pipeline.tonemapper.exposure_start.cpu()
    pipeline = build_pipeline(run.scene, config, exposure, trained).to(run.device)
    if config.environment.enabled:
        initialise_environment(pipeline, run.cache, run.split["train"])
    return dataclasses.replace(run, config=config, pipeline=pipeline)


def scoring_seconds(run: Run) -> float:
    """Return how long scoring the held-out photos will take, roughly."""
    sizes = [run.scene.lenses[run.scene.photos[photo].lens] for photo in run.split["held_out"]]
    megapixels = sum(lens.width * lens.height for lens in sizes) / 1e6
    return SECONDS_PER_MEGAPIXEL.get(run.device.type, 1.0) * megapixels


def score_held_out(
    run: Run,
    vgg: Vgg | None = None,
    callback: Callable[[Score, HeldOutImages | None], object] | None = None,
    with_images: bool = False,
) -> dict[str, Any]:
    """Return the scores of the held-out photos and their means, as in `eval.json`.

    Several processes share the photos; all but the first return no scores.

    Args:
        callback: called with each photo's score and, `with_images`, its images.
    """
    photos, scores = run.split["held_out"], []

    def score_one(number: int) -> tuple[Score, HeldOutImages | None]:
        score, images = score_photo(run, photos[number], vgg)
        return score, images if with_images else None

    for score, images in in_turns(len(photos), score_one):
        if callback is not None:
            callback(score, images)
        scores.append(score.values())
    return {"mean": mean_scores(scores) if scores else {}, "photos": scores}


def score_aligned(
    run: Run, vgg: Vgg | None = None, callback: Callable[[Score, HeldOutImages | None], object] | None = None
) -> dict[str, Any]:
    """Return the scores after each held-out photo's pose is aligned with the photo itself; the poses are then restored.

    These scores tell errors of the poses from errors of the image. They do not measure novel views, because the
    alignment has seen the photos. Args: callback: see `score_held_out`.
    """
    cameras, photos = run.pipeline.cameras, run.split["held_out"]
    poses = cameras.poses[photos].clone()
    only_poses = RefinedParameters(poses=True, intrinsics=False, distortion=False)
    align = run.config.refine.align
    try:
        held_out = PhotoSet(run.pipeline, run.cache, photos)
        moves = align_cameras(held_out, align, only_poses, render_network, finest_only=True)
        result = score_held_out(run, vgg, callback)
    finally:
        cameras.set_poses(photos, poses)
    if not ranks().first:
        return result
    moved_px = {move.photo: move.pixels if move.kept else 0.0 for move in moves}
    for photo, score in zip(photos, result["photos"], strict=True):
        score["moved_px"] = moved_px[photo]
    return result


def evaluate(
    run: Run, refine_poses: bool = False, flicker: Flicker | None = None, trained_on: str | None = None
) -> dict[str, Any]:
    """Score the held-out photos and the untrained points; write `eval.json`, images and `index.html` into `eval/`.

    Args:
        refine_poses: also score with the held-out photos' poses aligned, see `score_aligned`; these scores are kept
            apart, as `poses_refined`.
        flicker: of the run along a path, to be written with the scores.
        trained_on: name of the machine that the run was trained on, for the page; None: unknown.

    Returns the contents of `eval.json`; of several processes, all but the first help and return nothing.
    """
    weights = run.config.loss.vgg_weights
    vgg = Vgg(weights).to(run.device) if weights else None
    model = run.exposure_model()
    if not ranks().first:
        _help_to_score(run, refine_poses, vgg)
        return {}
    report = Report(run.folder)
    save_exposure(model, run.folder)
    aligned: dict[str, Any] = {}
    with Bar(total=(3 if refine_poses else 2) * len(run.split["held_out"]), desc=SCORES) as bar:

        def keep(score: Score, images: HeldOutImages | None) -> None:
            assert images is not None
            report.add(score.photo, images.photo, images.fitted)
            bar.update()

        result = score_held_out(run, vgg, keep, with_images=True)
        untrained = score_held_out(untrained_run(run), vgg, lambda *_: bar.update())
        if refine_poses:
            aligned = score_aligned(run, vgg, lambda *_: bar.update())
    result["baseline_points"] = untrained["mean"] | {"photos": untrained["photos"]}
    result["protocol"] = _protocol(run)
    result["exposure"] = model.summary() | {"description": model.describe()}
    if aligned:
        result["poses_refined"] = aligned
        result["protocol"]["poses_refined"] = (
            "the same, after each photo's pose is aligned with the photo itself"
        )
    if flicker is not None:
        result["flicker"] = dataclasses.asdict(flicker)
    for score in result["photos"]:
        score["pictures"] = report.pictures[score["photo"]]
    result |= {"step": run.progress.step, "seconds": run.progress.seconds, "points": len(run.pipeline.points)}
    result |= {"trained_on": trained_on, "evaluated_on": machine_name(run.device)}
    write_text(run.folder / "eval" / "eval.json", json.dumps(result, indent=2) + "\n")
    report.write()
    return result


def _help_to_score(run: Run, refine_poses: bool, vgg: Vgg | None) -> None:
    """Score this process's share of the photos for the first process, in its order."""
    score_held_out(run, vgg, with_images=True)
    score_held_out(untrained_run(run), vgg)
    if refine_poses:
        score_aligned(run, vgg)


def _protocol(run: Run) -> dict[str, Any]:
    """Return which photos are scored, and how, in words."""
    names = [photo.name for photo in run.scene.photos]
    return {
        "held_out": [names[i] for i in run.split["held_out"]],
        "trained": [names[i] for i in run.split["train"]],
        "psnr": "whole photo; exposure and white balance predicted without the photo, as `exposure` says",
        "psnr_right": "right half of the plain picture, the pixels that `psnr_fitted` is of",
        "psnr_exif": "whole photo; exposure from EXIF alone, neutral white balance",
        "psnr_fitted": "right half; exposure and white balance fitted on the left half",
        "psnr_corrected": "whole photo; affine colour map of the plain picture fitted to the whole photo",
        "ssim, flip, edge_contrast": "the same three pictures; masked pixels do not count",
        "flip": "0 is no visible difference, 67 pixels per degree",
        "covered": "share of the photo in which points are drawn; elsewhere the environment shows, or a blur",
        "edge_contrast": "contrast at the photo's edges, render over photo; 1 is as sharp as the photo",
    }
