"""The point cloud that multi-view stereo gives: noisy, with holes and outliers, coloured from the photos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, spatial

from adop.scenes.mesh import Array, unit
from adop.scenes.simulate import CameraTruth
from adop.scenes.tracer import World

PIXEL_NOISE = 0.3  # pixels, per axis of the photo
NORMAL_NOISE = 0.12  # radians
OUTLIERS = 0.01
LEAST_VIEWS = 3


@dataclass(frozen=True)
class Cloud:
    """N points as stereo gives them, and the truth behind each."""

    xyz: Array  # [N,3] float32
    normals: Array  # [N,3] float32
    colours: Array  # [N,3] uint8
    true_xyz: Array  # [N,3] float32: the surface point before noise
    outlier: Array  # [N] bool


def pixel_rays(camera: CameraTruth, photo: int, uv: Array) -> tuple[Array, Array]:
    """Camera centre [3] and unit world directions [R,3] through pixels [R,2]."""
    xy = camera.lens.undistort(uv)
    pose = camera.world_to_camera[photo]
    local = np.concatenate([xy, np.ones_like(xy[:, :1])], 1)
    return -pose[:3, :3].T @ pose[:3, 3], unit(local @ pose[:3, :3])


def project(camera: CameraTruth, photo: int, xyz: Array) -> tuple[Array, Array]:
    """Pixels [R,2] and depths [R] of world points; NaN pixels behind the camera or far outside the photo."""
    pose = camera.world_to_camera[photo]
    local = xyz @ pose[:3, :3].T + pose[:3, 3]
    z = local[:, 2]
    xy = local[:, :2] / np.where(z > 0.05, z, np.nan)[:, None]
    xy[np.hypot(xy[:, 0], xy[:, 1]) > 1.2] = np.nan
    return camera.lens.distort(xy), z


def _candidates(
    world: World, camera: CameraTruth, rng: np.random.Generator, per_photo: int
) -> dict[str, Array]:
    """Surface points under random pixels of all photos; depth edges and far points often fail."""
    size = np.array([camera.lens.width, camera.lens.height])
    found: dict[str, list[Array]] = {k: [] for k in ("xyz", "flat", "ray", "depth", "material")}
    for photo in range(len(camera.exposure)):
        uv = rng.uniform(0, 1, (per_photo, 2)) * size
        origin, ray = pixel_rays(camera, photo, uv)
        origins = np.broadcast_to(origin, ray.shape)
        hits = world.cast(origins, ray)
        distance = hits.distance.astype(np.float64)
        agree = np.zeros(per_photo, int)
        for shift in ((1.5, 0), (-1.5, 0), (0, 1.5), (0, -1.5)):
            other = world.cast(origins, pixel_rays(camera, photo, uv + shift)[1]).distance
            agree += np.abs(np.where(np.isfinite(other), other, 1e9) - distance) < 0.04 * distance
        chance = np.where(agree >= 3, 1.0, 0.8) * np.exp(-((distance / 48) ** 2))
        keep = np.isfinite(distance) & (rng.uniform(size=per_photo) < chance)
        triangle = hits.triangle[keep]
        found["xyz"].append(origin + ray[keep] * distance[keep, None])
        found["flat"].append(world.table[triangle, 33:36])
        found["ray"].append(ray[keep])
        found["depth"].append(distance[keep])
        found["material"].append(world.mesh.material[triangle])
    return {k: np.concatenate(v) for k, v in found.items()}


def _seen(
    world: World, camera: CameraTruth, photos: list[Array], c: dict[str, Array]
) -> tuple[Array, Array, Array]:
    """Of the photos that see each candidate at over 10°: number, mean colour, mean contrast (8-bit)."""
    count, colour, contrast = np.zeros(len(c["xyz"])), np.zeros((len(c["xyz"]), 3)), np.zeros(len(c["xyz"]))
    width, height = camera.lens.width, camera.lens.height
    for photo, picture in enumerate(photos):
        uv, _ = project(camera, photo, c["xyz"])
        inside = (uv[:, 0] >= 0) & (uv[:, 0] < width) & (uv[:, 1] >= 0) & (uv[:, 1] < height)
        index = np.flatnonzero(inside)
        pose = camera.world_to_camera[photo]
        centre = -pose[:3, :3].T @ pose[:3, 3]
        towards = c["xyz"][index] - centre
        steep = np.abs((unit(towards) * c["flat"][index]).sum(1)) > 0.17
        index, towards = index[steep], towards[steep]
        free = ~world.occluded(np.broadcast_to(centre, towards.shape), towards, 0.998)
        index = index[free]
        grey = picture.mean(-1)
        local = np.sqrt(
            np.maximum(ndimage.uniform_filter(grey**2, 7) - ndimage.uniform_filter(grey, 7) ** 2, 0)
        )
        column, row = uv[index].astype(int).T
        count[index] += 1
        colour[index] += picture[row, column]
        contrast[index] += local[row, column]
    seen = np.maximum(count, 1)
    return count, colour / seen[:, None], contrast / seen


def make_cloud(world: World, camera: CameraTruth, photos: list[Array], seed: int, size: int) -> Cloud:
    """Sample about `size` points; the finished pictures `photos` [H,W,3] (0 to 255) give the colours."""
    rng = np.random.default_rng([seed, 600])
    c = _candidates(world, camera, rng, per_photo=max(1000, 7 * size // len(photos)))
    count, colour, contrast = _seen(world, camera, photos, c)
    mirror = world.gloss[c["material"], 1] > 0.5
    chance = (
        np.where(mirror, 0.6, 1.0) * np.clip((contrast - 1.0) / 4.0, 0.2, 1) / np.sqrt(np.maximum(count, 1))
    )
    chance[count < LEAST_VIEWS] = 0
    chance[_holes(c, rng, np.flatnonzero(chance > 0))] *= 0.02
    pick = np.flatnonzero(rng.uniform(size=len(chance)) < chance / chance.sum() * size)
    true, ray, depth = c["xyz"][pick], c["ray"][pick], c["depth"][pick]
    lateral = PIXEL_NOISE * depth / camera.lens.intrinsics[0]
    shift = rng.normal(size=true.shape) * lateral[:, None]
    along = rng.normal(size=len(pick)) * lateral * np.clip(depth / 8, 1, 8) * np.where(mirror[pick], 3, 1)
    xyz = true + shift + ray * (along - (shift * ray).sum(1))[:, None]
    outlier = rng.uniform(size=len(pick)) < OUTLIERS
    factor = np.exp(-np.abs(rng.normal(size=len(pick))) * 0.35 * rng.choice([1, 1, -0.5], len(pick)))
    xyz[outlier] += (ray * (depth * (factor - 1))[:, None])[outlier]
    normals = c["flat"][pick] * -np.sign((c["flat"][pick] * ray).sum(1, keepdims=True) + 1e-9)
    normals = unit(normals + NORMAL_NOISE * rng.normal(size=normals.shape))
    return Cloud(
        xyz.astype(np.float32), normals.astype(np.float32), np.rint(colour[pick]).astype(np.uint8),
        true.astype(np.float32), outlier,
    )  # fmt: skip


def _holes(c: dict[str, Array], rng: np.random.Generator, pool: Array, count: int = 50) -> Array:
    """Indices of candidates inside random blobs, whose size grows with the distance."""
    tree = spatial.cKDTree(c["xyz"])
    centres = rng.choice(pool, count, replace=False)
    radius = c["depth"][centres] * rng.uniform(0.010, 0.034, count)
    return np.unique(np.concatenate(tree.query_ball_point(c["xyz"][centres], radius)).astype(int))
