"""Refinement within a run: cameras and points before training, cameras again while the network learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from adop.config import TrainConfig, learned
from adop.errors import UserError
from adop.model.points import MIN_RADIANCE
from adop.refine.align import CameraMove, RefinedParameters, align_cameras
from adop.refine.bundle_adjustment import refine_poses_and_points
from adop.refine.move_points import move_points
from adop.refine.photo_set import PhotoSet, render_network
from adop.run.run import Run

ASTRAY = 1.0  # pixels: a photo that went farther and is no better for it is named


def refined_now(run: Run, step: int) -> RefinedParameters:
    """Return which of the cameras' groups are learned at a step."""
    groups = run.config.learn
    return RefinedParameters(
        poses=learned(groups.poses, step),
        intrinsics=learned(groups.intrinsics, step),
        distortion=learned(groups.distortion, step),
        rolling_shutter=learned(groups.rolling_shutter, step),
    )


def check_groups(config: TrainConfig) -> None:
    """Raise UserError where a group cannot be learned in the way that is asked for."""
    if config.refine.method == "gradient" and config.learn.rolling_shutter != "off":
        raise UserError(
            "a rolling shutter is refined by Gauss-Newton alone: leave out --refine.method gradient, or set "
            "--learn.rolling-shutter off"
        )


def say_groups(run: Run, say: Callable[[str], None]) -> None:
    """Say which groups are learned, which later, and which never."""
    groups = {f.name: getattr(run.config.learn, f.name) for f in fields(run.config.learn)}
    words = {
        "learned": [name for name, group in groups.items() if group == "on"],
        "frozen until a step": [f"{n} ({g})" for n, g in groups.items() if g not in ("on", "off")],
        "never learned": [name for name, group in groups.items() if group == "off"],
    }
    say("; ".join(f"{what}: {', '.join(names)}" for what, names in words.items() if names))


def refine_start(run: Run, say: Callable[[str], None]) -> None:
    """Align cameras with the points in their own colours, before any colour is taken from a photo; or move the points.

    Where the cloud has no colours there is nothing to compare, and cameras wait for the network's pictures.
    """
    if not _starts_by_colours(run):
        return
    config, refined = run.config.refine, refined_now(run, 0)
    photos = PhotoSet(run.pipeline, run.cache, run.split["train"])
    if refined.any():
        say(describe(run, align_cameras(photos, config.align, refined)))
    if learned(run.config.learn.points, 0) and not refined.poses:
        shift = move_points(photos, config.points)
        say(f"points: moved by {shift:.3g} scene units (median)")
        if refined.any():
            moved = align_cameras(photos, config.align, refined, finest_only=True)
            say(describe(run, moved))


def _starts_by_colours(run: Run) -> bool:
    """Return whether the cloud's colours are compared with the photos before training."""
    return run.config.refine.method == "picture" and run.scene.points.colors is not None


def refines_together(run: Run) -> bool:
    """Return whether poses and points are refined before training: each then hides the other's errors."""
    both = refined_now(run, 0).poses and learned(run.config.learn.points, 0)
    return both and _starts_by_colours(run)


@torch.no_grad()
def refine_together(run: Run, own: Tensor, say: Callable[[str], None]) -> None:
    """Align cameras with points that have their colours from the photos, then adjust poses and points.

    Where a point lies beside its place, colours from the photos are right and the lens shows; its `own` colour [N, C] as
    a feature says where it should be. A photo once showed it so: by the response that has been fitted meanwhile it is
    taken back to light.
    """
    config, photos = run.config.refine, PhotoSet(run.pipeline, run.cache, run.split["train"])
    moved = align_cameras(photos, config.align, refined_now(run, 0), finest_only=True)
    say(describe(run, moved))
    run.pipeline.points.features.copy_(own)
    light = run.pipeline.tonemapper.linearise_colours(own[:, :3].exp())
    run.pipeline.points.features[:, :3] = light.clamp_min(MIN_RADIANCE).log()
    shift = refine_poses_and_points(photos, config.points, config.align)
    say(f"poses and points: adjusted together, points by {shift:.3g} scene units (median)")


def refine_again(run: Run, step: int, share: float) -> list[CameraMove]:
    """Align the next few photos with the network's pictures; return what became of them.

    Called after every step; does nothing but every `refine.align_every` steps.
    """
    config = run.config.refine
    if config.method != "picture" or step % config.align_every or share > config.align_until:
        return []
    # A lens is shared by all photos: the few of one turn may not move it.
    refined = replace(refined_now(run, step), intrinsics=False, distortion=False)
    if not refined.any():
        return []
    photos = run.split["train"]
    turn = step // config.align_every - 1
    count = min(config.align_photos, len(photos))
    turns = -(-len(photos) // count)
    # In strides through the capture, so that no part of the scene waits for long.
    order = [photo for first in range(turns) for photo in photos[first::turns]]
    chosen = [order[(turn * count + i) % len(order)] for i in range(count)]
    was_training = run.pipeline.training
    with torch.no_grad():
        few = PhotoSet(run.pipeline, run.cache, sorted(chosen))
        moved = align_cameras(few, config.align, refined, render_network, finest_only=True)
    run.pipeline.train(was_training)
    return moved


def describe(run: Run, moved: list[CameraMove]) -> str:
    """Return a sentence on how far the cameras moved, and which photos stay where they were."""
    kept = sorted((m for m in moved if m.kept), key=lambda m: m.pixels)
    left = [run.scene.photos[m.photo].name for m in moved if not m.kept and m.pixels > ASTRAY]
    text = f"cameras: {len(kept)} of {len(moved)} moved"
    if kept:
        text += f", by {kept[len(kept) // 2].pixels:.2f} px (median) to {kept[-1].pixels:.1f} px"
    if left:
        named = ", ".join(left[:8]) + (f" and {len(left) - 8} more" if len(left) > 8 else "")
        text += f"; found no better place and were put back: {named}"
    lens = run.pipeline.cameras.intrinsics[0]
    return text + f"; focal length {float(lens[0]):.1f} px"
