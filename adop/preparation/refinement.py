"""When cameras and points are refined within a run: before training, and again while the network learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from adop.config import TrainConfig, learned
from adop.errors import UserError
from adop.model.points import MIN_RADIANCE
from adop.ranks import copy_first_, ranks
from adop.refine.align import CameraMove, align_cameras
from adop.refine.alignment_equations import RefinedParameters
from adop.refine.bundle_adjustment import refine_poses_and_points
from adop.refine.move_points import move_points
from adop.refine.photo_set import PhotoSet, render_network
from adop.run.photos.photo_lookup import follow_cameras
from adop.run.run import Run

Say = Callable[[str], None]
REPORTED_PX = 1.0  # photos that were moved farther, without success, are named
REPORTED_PHOTOS = 8  # at most this many are named


def refined_now(run: Run, step: int) -> RefinedParameters:
    """Return which parameters of the cameras are learned at a step."""
    learn = run.config.learn
    return RefinedParameters(
        poses=learned(learn.poses, step),
        intrinsics=learned(learn.intrinsics, step),
        distortion=learned(learn.distortion, step),
        rolling_shutter=learned(learn.rolling_shutter, step),
    )


def check_method(config: TrainConfig) -> None:
    """Raise UserError if something is to be learned that the chosen method cannot refine."""
    if config.refine.method == "gradient" and config.learn.rolling_shutter != "off":
        raise UserError(
            "a rolling shutter is refined by Gauss-Newton only: leave out --refine.method gradient, or set "
            "--learn.rolling-shutter off"
        )


def report_learned(run: Run, say: Say) -> None:
    """Report what is learned from the start, what from a later step, and what never."""
    learn = {f.name: getattr(run.config.learn, f.name) for f in fields(run.config.learn)}
    words = {
        "learned": [name for name, schedule in learn.items() if schedule == "on"],
        "frozen until a step": [f"{name} ({s})" for name, s in learn.items() if s not in ("on", "off")],
        "never learned": [name for name, schedule in learn.items() if schedule == "off"],
    }
    say("; ".join(f"{what}: {', '.join(names)}" for what, names in words.items() if names))


def refine_before_training(run: Run, say: Say) -> None:
    """Align the cameras with the points in their own colours, or move the points, before photos colour the points.

    A cloud without colours gives nothing to compare: its cameras are first aligned while the network learns.
    """
    if not _compares_own_colours(run):
        return
    config, refined = run.config.refine, refined_now(run, 0)
    photos = PhotoSet(run.pipeline, run.cache, run.split["train"])
    if refined.any():
        say(describe_moves(run, align_cameras(photos, config.align, refined)))
    if learned(run.config.learn.points, 0) and not refined.poses:
        shift = move_points(photos, config.points)
        say(f"points: moved by {shift:.3g} scene units (median)")
        if refined.any():
            say(describe_moves(run, align_cameras(photos, config.align, refined, finest_only=True)))


def _compares_own_colours(run: Run) -> bool:
    """Return whether the colours of the cloud are compared with the photos before training."""
    return run.config.refine.method == "picture" and run.scene.points.colors is not None


def refines_poses_with_points(run: Run) -> bool:
    """Return whether poses and points are both refined before training, when each can hide the other's errors."""
    both = refined_now(run, 0).poses and learned(run.config.learn.points, 0)
    return both and _compares_own_colours(run)


@torch.no_grad()
def refine_poses_with_points(run: Run, own: Tensor, say: Say) -> None:
    """Align the cameras with points coloured by the photos, then adjust poses and points together.

    A misplaced point that was coloured by the photos looks right where it is, which shows errors of the lens. Its own
    colour tells where it should be. That colour was once taken from a photo and linearised as sRGB, so it is first
    linearised again by the response that has been fitted meanwhile.

    Args:
        own: [N, C] features of the points in the cloud's own colours.
    """
    config, points = run.config.refine, run.pipeline.points
    photos = PhotoSet(run.pipeline, run.cache, run.split["train"])
    moves = align_cameras(photos, config.align, refined_now(run, 0), finest_only=True)
    say(describe_moves(run, moves))
    points.features.copy_(own)
    light = run.pipeline.tonemapper.linearise_colours(own[:, :3].exp())
    points.features[:, :3] = light.clamp_min(MIN_RADIANCE).log()
    shift = refine_poses_and_points(photos, config.points, config.align)
    say(f"poses and points: adjusted together, points by {shift:.3g} scene units (median)")


def align_while_training(run: Run, step: int, share: float) -> list[CameraMove]:
    """Align the next few photos with the network's images, every `refine.align_every` steps; return how they moved.

    Of several processes the first one does so, and the others take over its cameras.

    Lenses stay fixed: a lens is shared by all photos, and the few of one turn must not move it.

    Args:
        step: number of steps taken so far.
        share: of the run that is done, in [0, 1].
    """
    config = run.config.refine
    if config.method != "picture" or step % config.align_every or share > config.align_until:
        return []
    refined = replace(refined_now(run, step), intrinsics=False, distortion=False)
    if not refined.any():
        return []
    moves = _align_turn(run, step, refined) if ranks().first else []
    copy_first_(run.pipeline.cameras.state_dict().values())
    if not ranks().first:
        run.pipeline.cameras.invalidate()
    follow_cameras(run.pipeline, run.cache)
    return moves


def _align_turn(run: Run, step: int, refined: RefinedParameters) -> list[CameraMove]:
    config = run.config.refine
    chosen = _photos_of_turn(run.split["train"], step // config.align_every - 1, config.align_photos)
    was_training = run.pipeline.training
    with torch.no_grad():
        photos = PhotoSet(run.pipeline, run.cache, sorted(chosen))
        moves = align_cameras(photos, config.align, refined, render_network, finest_only=True)
    run.pipeline.train(was_training)
    return moves


def _photos_of_turn(photos: list[int], turn: int, most: int) -> list[int]:
    """Return the photos of a turn, spread over the capture, so that no part of the scene waits for long."""
    count = min(most, len(photos))
    turns = -(-len(photos) // count)
    order = [photo for first in range(turns) for photo in photos[first::turns]]
    return [order[(turn * count + i) % len(order)] for i in range(count)]


def describe_moves(run: Run, moves: list[CameraMove]) -> str:
    """Return a sentence on how far the cameras moved, and which photos were put back."""
    kept = sorted((move for move in moves if move.kept), key=lambda move: move.pixels)
    failed = [m for m in moves if not m.kept and m.pixels > REPORTED_PX]
    names = [run.scene.photos[move.photo].name for move in failed]
    text = f"cameras: {len(kept)} of {len(moves)} moved"
    if kept:
        text += f", by {kept[len(kept) // 2].pixels:.2f} px (median), at most {kept[-1].pixels:.1f} px"
    if names:
        more = f" and {len(names) - REPORTED_PHOTOS} more" if len(names) > REPORTED_PHOTOS else ""
        text += f"; put back, because no better pose was found: {', '.join(names[:REPORTED_PHOTOS])}{more}"
    return text + f"; focal length {run.pipeline.cameras.focal_length(0):.1f} px"
