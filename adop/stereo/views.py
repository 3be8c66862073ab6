"""Photos as stereo takes them: without distortion, reduced, grey; and which photos each is compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adop.geometry.lens import Lens
from adop.scene.photo_cache import PhotoCache
from adop.scene.scene import Scene
from adop.scene.visibility import visible
from adop.stereo.problem import StereoView

MAX_FIELD = 1.5  # tangent of the largest angle to the optical axis that the picture without distortion shows
MAX_GROWTH = 1.25  # of a side by which that picture may be larger than the photo
BORDER_SAMPLES = 64  # along each side of a photo
MAX_POINTS = 20_000  # of the scene, spread evenly, that photos are compared by
BEST_ANGLE_DEG = 8.0  # between the rays of two photos, at which stereo works best
SMALLER_ANGLE_SIGMA_DEG, LARGER_ANGLE_SIGMA_DEG = 3.0, 15.0  # how fast it gets worse on either side
# Factors by which surfaces may be nearer or farther than the points that a photo sees: the ground before a camera is
# often much nearer than what structure from motion finds.
NEAR_MARGIN, FAR_MARGIN = 8.0, 2.0
DEPTH_QUANTILE = 0.01  # of these points that may be wrong on either side


@dataclass(frozen=True)
class ColourView:
    """A photo without distortion."""

    view: StereoView
    colour: Tensor  # [H, W, 3] u8


def undistorted_view(scene: Scene, cache: PhotoCache, index: int, longest_side: int) -> ColourView:
    """Return a photo as a pinhole camera would have taken it, its longer side at most `longest_side` pixels.

    Parts beyond `MAX_FIELD` are left out.
    """
    photo = scene.photos[index]
    lens = scene.lenses[photo.lens]
    factor = min(1.0, longest_side / max(lens.width, lens.height))
    reduced = lens.scaled(max(2, round(factor * lens.width)), max(2, round(factor * lens.height)))
    intrinsics, width, height = pinhole(reduced)
    uv, inside = _positions(reduced, intrinsics, width, height)
    image = cache.image(index, torch.device("cpu"))
    size = (reduced.height, reduced.width)
    image = F.interpolate(image, size=size, mode="bilinear", antialias=True, align_corners=False)
    grid = (2 * uv / torch.tensor([reduced.width, reduced.height]) - 1)[None]
    colour = F.grid_sample(image, grid, padding_mode="border", align_corners=False)[0].clamp(0, 1)
    mask = cache.mask(index)
    if mask is not None:
        counted = F.interpolate(mask[None, None].float(), size=size, mode="area")
        inside &= F.grid_sample(counted, grid, padding_mode="border", align_corners=False)[0, 0] > 0.99
    grey = (colour * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0)
    view = StereoView(
        image=torch.where(inside, grey, torch.nan),
        intrinsics=torch.from_numpy(intrinsics),
        world_to_camera=torch.from_numpy(photo.world_to_camera),
    )
    return ColourView(view, (colour.permute(1, 2, 0) * 255).round().byte())


def pinhole(lens: Lens) -> tuple[np.ndarray, int, int]:
    """Return the intrinsics [3, 3], width and height of a camera without distortion that shows what a lens does."""
    fx, fy = lens.intrinsics[:2]
    along = np.linspace(0, 1, BORDER_SAMPLES)
    zero, one = np.zeros_like(along), np.ones_like(along)
    edges = np.concatenate(
        [np.stack(pair, 1) for pair in ((along, zero), (along, one), (zero, along), (one, along))]
    )
    rays = _rays(lens, edges * [lens.width, lens.height])
    low, high = rays.min(0), rays.max(0)
    middle = (low + high) / 2
    limit = np.minimum(MAX_FIELD, MAX_GROWTH * np.array([lens.width / fx, lens.height / fy]) / 2)
    low, high = np.maximum(low, middle - limit), np.minimum(high, middle + limit)
    width, height = (max(2, int(np.ceil(side))) for side in (high - low) * [fx, fy])
    centre = -low * [fx, fy]
    return np.array([[fx, 0, centre[0]], [0, fy, centre[1]], [0, 0, 1]]), width, height


def _rays(lens: Lens, uv: np.ndarray) -> np.ndarray:
    """Return x / z, y / z [N, 2] of the rays through pixels [N, 2]; far from the axis no more than twice `MAX_FIELD`."""
    from adop.geometry.camera import Camera

    camera = Camera.from_lens(lens, np.eye(4))
    xyz = camera.unproject(torch.from_numpy(uv).float()[None], torch.ones(1, len(uv)))[0].double().numpy()
    far = 2 * MAX_FIELD
    with np.errstate(divide="ignore", invalid="ignore"):
        plane = xyz[:, :2] / xyz[:, 2:]
    steep = ~(xyz[:, 2] > 0) | (np.abs(plane).max(1) > far)
    direction = xyz[:, :2] / np.maximum(np.linalg.norm(xyz[:, :2], axis=1, keepdims=True), 1e-12)
    return np.where(steep[:, None], far * direction, plane)


def _positions(lens: Lens, intrinsics: np.ndarray, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Return where the photo shows each pixel of a pinhole camera, [H, W, 2] in pixels, and whether it does, [H, W]."""
    x = (np.arange(width) + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (np.arange(height) + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
    rays = np.stack((*np.meshgrid(x, y), np.ones((height, width))), axis=-1).reshape(-1, 3)
    uv, _, inside = lens.project(rays)
    uv = np.where(inside[:, None], uv, 0).astype(np.float32).reshape(height, width, 2)
    return torch.from_numpy(uv), torch.from_numpy(inside.reshape(height, width))


@dataclass(frozen=True)
class Neighbourhood:
    """What a photo is compared with."""

    sources: tuple[int, ...]  # photos, best first
    min_inverse: float  # least and largest inverse depth of its surfaces, 1 / scene unit
    max_inverse: float


def find_neighbourhoods(scene: Scene, count: int) -> dict[int, Neighbourhood]:
    """Return for each photo up to `count` others that see the same points at good angles and alike sizes.

    Photos that share too few points with any other are left out.

    Source: the piecewise Gaussian of the angle is that of MVSNet (Yao et al. 2018).
    """
    xyz = scene.points.xyz[:: max(1, len(scene.points) // MAX_POINTS)]
    seen = np.zeros((len(scene.photos), len(xyz)), bool)
    depths = np.full(seen.shape, np.nan, np.float32)
    for index, (lens, pose) in enumerate(scene.views):
        points, depth = visible(xyz, lens, pose)
        seen[index, points], depths[index, points] = True, depth
    focal = np.array([lens.intrinsics[0] for lens, _ in scene.views])
    centres = np.stack([-pose[:3, :3].T @ pose[:3, 3] for _, pose in scene.views])
    result = {}
    for index in range(len(scene.photos)):
        own = np.flatnonzero(seen[index])
        if not len(own):
            continue
        scores = _pair_scores(xyz[own], centres, index)
        size = (focal[index] / depths[index, own]) / (focal[:, None] / depths[:, own])
        scores = np.where(seen[:, own], scores * np.minimum(size, 1 / size), 0).sum(1)
        scores[index] = 0
        best = np.argsort(-scores, kind="stable")[:count]
        sources = tuple(int(i) for i in best if scores[i] > 0.02 * len(own))
        if sources:
            inverse = np.quantile(1 / depths[index, own], [DEPTH_QUANTILE, 1 - DEPTH_QUANTILE])
            result[index] = Neighbourhood(sources, inverse[0] / FAR_MARGIN, inverse[1] * NEAR_MARGIN)
    return without_lonely(result)


def without_lonely(neighbourhoods: dict[int, Neighbourhood]) -> dict[int, Neighbourhood]:
    """Return the neighbourhoods without photos that have none themselves, and without those that have no others then."""
    kept = neighbourhoods
    while True:
        sources = {photo: tuple(s for s in near.sources if s in kept) for photo, near in kept.items()}
        fewer = {photo: replace(kept[photo], sources=own) for photo, own in sources.items() if own}
        if len(fewer) == len(kept):
            return fewer
        kept = fewer


def _pair_scores(xyz: np.ndarray, centres: np.ndarray, index: int) -> np.ndarray:
    """Return [photos, N] how good the angle is at which each photo and the given one see the points."""
    rays = xyz[None] - centres[:, None]
    rays /= np.maximum(np.linalg.norm(rays, axis=2, keepdims=True), 1e-12)
    cosine = (rays * rays[index]).sum(2).clip(-1, 1)
    difference = np.degrees(np.arccos(cosine)) - BEST_ANGLE_DEG
    sigma = np.where(difference < 0, SMALLER_ANGLE_SIGMA_DEG, LARGER_ANGLE_SIGMA_DEG)
    return np.exp(-0.5 * (difference / sigma) ** 2)
