"""What is fitted to the photos before the first step: cameras, physical camera, points and environment."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adop.initialisation.consistency import find_occluders, remove_unsupported
from adop.initialisation.densify import densify
from adop.initialisation.environment import initialise_environment
from adop.initialisation.grow import grow_points
from adop.initialisation.photometry import PointSamples, colour_points, sample_points, unrelated_photos
from adop.initialisation.physical_camera import calibrate
from adop.preparation.refinement import (
    refine_before_training,
    refine_poses_with_points,
    refines_poses_with_points,
)
from adop.progress import Bar, Expected, Stages
from adop.run.photos.scene_photos import start_exposures
from adop.run.run import Run

Say = Callable[[str], None]
CAMERAS, PHYSICAL_CAMERA, OCCLUDERS = "cameras", "physical camera", "what hides the scene"
HOLES, GAPS, ENVIRONMENT = "holes in the points", "gaps between points", "environment"


def preparation(run: Run, say: Say) -> Stages:
    """Return the stages of `start_from_photos`."""
    photos, config = len(run.split["train"]), run.config
    # Seconds on two CPU cores, roughly: the time left is corrected by what is measured.
    searched = min(photos, config.grow.max_photos) if config.grow.enabled else 0
    expected: Expected = {
        CAMERAS: 0.3 * photos,
        PHYSICAL_CAMERA: (0.1 * photos, 8 + 1e-5 * len(run.pipeline.points)),  # points are looked up first
        OCCLUDERS: 0.1 * photos,
        HOLES: (0.8 * searched, 0.2 * searched),  # by stereo, then where few photos look
        GAPS: 20.0 if config.densify.enabled else 0.0,
        ENVIRONMENT: 0.1 * photos,
    }
    return Stages("before the first step", expected, say)


def start_from_photos(run: Run, stages: Stages) -> None:
    """Initialise cameras, exposures, the points' colours and the environment from the photos.

    Photos whose poses must be far off, and what hides the scene in others, are left out from then on.

    Args:
        stages: see `preparation`.
    """
    with stages:
        _start_from_photos(run, stages)


def _start_from_photos(run: Run, stages: Stages) -> None:
    say = stages.say
    stages.begin(CAMERAS)
    refine_before_training(run, say)
    own = run.pipeline.points.features.detach().clone()
    if refines_poses_with_points(run):
        colour_from_photos(run, lambda _: None)
        refine_poses_with_points(run, own, say)
    stages.begin(PHYSICAL_CAMERA)
    samples = colour_from_photos(run, say)
    stages.begin(OCCLUDERS)
    leave_out_occluders(run, samples, own, say)
    if run.config.prune.enabled:
        removed = remove_unsupported(run.pipeline, samples, run.config.prune)
        say(f"points: {removed:,} removed that the photos contradict")
    if run.config.grow.enabled:
        stages.begin(HOLES)
        added = grow_points(run.pipeline, run.cache, run.split["train"], run.config.grow)
        say(f"holes: {added:,} points added where several photos agree")
    if run.config.densify.enabled:
        stages.begin(GAPS)
        added = densify(run.pipeline, run.cache, run.split["train"], run.config.densify)
        say(f"gaps: {added:,} points added between others; the cloud has {len(run.pipeline.points):,}")
    stages.begin(ENVIRONMENT)
    share = initialise_environment(run.pipeline, run.cache, run.split["train"])
    environment = run.pipeline.environment
    size = f"{environment.map.shape[2]} rows" if environment.enabled else "one colour"
    say(f"environment: {size}; {100 * share:.0f} % of the photos' rays meet no point")


def leave_out_unrelated(run: Run, samples: dict[int, PointSamples], say: Say) -> None:
    """Leave out whole photos whose poses must be far off, because they do not show what the others show."""
    unrelated = unrelated_photos(samples, len(run.pipeline.points))
    if unrelated and len(samples) - len(unrelated) >= 2:
        for photo in unrelated:
            run.cache.leave_out(photo, torch.ones(run.cache.get(photo).shape[:2], dtype=torch.bool))
            run.split["train"].remove(photo)
            del samples[photo]
        names = ", ".join(run.scene.photos[photo].name for photo in unrelated)
        say(
            f"poses: {len(unrelated)} photos do not show what others show of the points, and are left out: {names}"
        )


def leave_out_occluders(run: Run, samples: dict[int, PointSamples], own: Tensor, say: Say) -> None:
    """Leave out of the photos what hides the scene.

    The samples and colours of points are made anew without it.

    Args:
        own: [N, C] the features that the points came with.
    """
    if not run.config.occluders.enabled:
        return
    occluders = find_occluders(run.pipeline, run.cache, samples, run.config.occluders)
    for photo, hidden in occluders.items():
        run.cache.leave_out(photo, hidden)
        samples[photo] = sample_points(run.pipeline, run.cache, photo)
    if occluders:
        largest = max(float(hidden.float().mean()) for hidden in occluders.values())
        say(
            f"occluders: parts of {len(occluders)} photos are left out where something hides what the others show, "
            f"at most {100 * largest:.0f} % of one"
        )
        with torch.no_grad():
            run.pipeline.points.features.copy_(own)
        colour_points(run.pipeline, samples)


def colour_from_photos(run: Run, say: Say) -> dict[int, PointSamples]:
    """Fit the physical camera and the points' colours to the photos; return what each photo shows at the points."""
    samples = {}
    for photo in Bar(run.split["train"], desc="looking up points"):
        samples[photo] = sample_points(run.pipeline, run.cache, photo)
    leave_out_unrelated(run, samples, say)
    start_exposures(run.scene, run.config, run.pipeline, samples, say)
    error = calibrate(run.pipeline, samples, run.config.learn, run.config.seed)
    say(f"physical camera: fitted to points that several photos see, median error {255 * error:.1f} of 255")
    colour_points(run.pipeline, samples)
    return samples
