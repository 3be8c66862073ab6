"""A point cloud like one from multi-view stereo: noisy, with holes and outliers, coloured from the photos."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy import ndimage, spatial

from adop.scenes.mesh import Array, unit
from adop.scenes.simulate import CameraTruth
from adop.scenes.tracer import FACE_NORMAL, World

PIXEL_NOISE = 0.3  # standard deviation in pixels along each axis of the photo
NORMAL_NOISE = 0.12  # standard deviation in radians
OUTLIER_SHARE = 0.01
MIN_PHOTOS = 3  # that see a point


@dataclass(frozen=True)
class Candidates:
    """K surface points, each under a random pixel of one photo."""

    xyz: Array  # [K,3] m
    face_normals: Array  # [K,3] unit, of the triangle hit
    rays: Array  # [K,3] unit, from the photo's camera to the point
    distance: Array  # [K] m, along the ray
    material: Array  # [K] int


@dataclass(frozen=True)
class Cloud:
    """N points as stereo reconstructs them, with the true position of each."""

    xyz: Array  # [N,3] float32
    normals: Array  # [N,3] float32
    colours: Array  # [N,3] uint8
    true_xyz: Array  # [N,3] float32: the surface point before noise
    outlier: Array  # [N] bool


def pixel_rays(camera: CameraTruth, photo: int, uv: Array) -> tuple[Array, Array]:
    """Return the camera's centre [3] and the unit world directions [R,3] through the pixels `uv` [R,2]."""
    xy = camera.lens.undistort(uv)
    pose = camera.world_to_camera[photo]
    local = np.concatenate([xy, np.ones_like(xy[:, :1])], 1)
    return -pose[:3, :3].T @ pose[:3, 3], unit(local @ pose[:3, :3])


def project(camera: CameraTruth, photo: int, xyz: Array) -> tuple[Array, Array]:
    """Return pixels [R,2] and depths [R] of world points; pixels are NaN behind the camera and far outside the photo."""
    pose = camera.world_to_camera[photo]
    local = xyz @ pose[:3, :3].T + pose[:3, 3]
    z = local[:, 2]
    xy = local[:, :2] / np.where(z > 0.05, z, np.nan)[:, None]
    xy[np.hypot(xy[:, 0], xy[:, 1]) > 1.2] = np.nan
    return camera.lens.distort(xy), z


def _candidates(world: World, camera: CameraTruth, rng: np.random.Generator, per_photo: int) -> Candidates:
    """Sample the surface under random pixels of all photos; stereo often fails at depth edges and far away."""
    size = np.array([camera.lens.width, camera.lens.height])
    found: list[Candidates] = []
    for photo in range(len(camera.exposure)):
        uv = rng.uniform(0, 1, (per_photo, 2)) * size
        origin, rays = pixel_rays(camera, photo, uv)
        origins = np.broadcast_to(origin, rays.shape)
        hits = world.cast(origins, rays)
        distance = hits.distance.astype(np.float64)
        agree = np.zeros(per_photo, int)
        for shift in ((1.5, 0), (-1.5, 0), (0, 1.5), (0, -1.5)):
            other = world.cast(origins, pixel_rays(camera, photo, uv + shift)[1]).distance
            agree += np.abs(np.where(np.isfinite(other), other, 1e9) - distance) < 0.04 * distance
        chance = np.where(agree >= 3, 1.0, 0.8) * np.exp(-((distance / 48) ** 2))
        keep = np.isfinite(distance) & (rng.uniform(size=per_photo) < chance)
        triangle = hits.triangle[keep]
        found.append(
            Candidates(
                xyz=origin + rays[keep] * distance[keep, None],
                face_normals=world.table[triangle, FACE_NORMAL],
                rays=rays[keep],
                distance=distance[keep],
                material=world.mesh.material[triangle],
            )
        )
    return Candidates(*(np.concatenate([getattr(c, f.name) for c in found]) for f in fields(Candidates)))


def _photo_samples(
    world: World, camera: CameraTruth, photos: list[Array], candidates: Candidates
) -> tuple[Array, Array, Array]:
    """Return the number of photos that see each candidate, and its mean colour and mean contrast in them (0 to 255).

    A photo sees a point if nothing hides it and the ray meets the surface at more than 10°.
    """
    xyz = candidates.xyz
    count, colour, contrast = np.zeros(len(xyz)), np.zeros((len(xyz), 3)), np.zeros(len(xyz))
    width, height = camera.lens.width, camera.lens.height
    for photo, image in enumerate(photos):
        uv, _ = project(camera, photo, xyz)
        inside = (uv[:, 0] >= 0) & (uv[:, 0] < width) & (uv[:, 1] >= 0) & (uv[:, 1] < height)
        index = np.flatnonzero(inside)
        pose = camera.world_to_camera[photo]
        centre = -pose[:3, :3].T @ pose[:3, 3]
        towards = xyz[index] - centre
        steep = np.abs((unit(towards) * candidates.face_normals[index]).sum(1)) > 0.17
        index, towards = index[steep], towards[steep]
        free = ~world.occluded(np.broadcast_to(centre, towards.shape), towards, 0.998)
        index = index[free]
        grey = image.mean(-1)
        local = np.sqrt(
            np.maximum(ndimage.uniform_filter(grey**2, 7) - ndimage.uniform_filter(grey, 7) ** 2, 0)
        )
        column, row = uv[index].astype(int).T
        count[index] += 1
        colour[index] += image[row, column]
        contrast[index] += local[row, column]
    seen = np.maximum(count, 1)
    return count, colour / seen[:, None], contrast / seen


def make_cloud(world: World, camera: CameraTruth, photos: list[Array], seed: int, size: int) -> Cloud:
    """Return about `size` points, whose colours come from the developed `photos` [H,W,3] (0 to 255)."""
    rng = np.random.default_rng([seed, 600])
    candidates = _candidates(world, camera, rng, per_photo=max(1000, 7 * size // len(photos)))
    count, colour, contrast = _photo_samples(world, camera, photos, candidates)
    mirror = world.reflectance[candidates.material, 1] > 0.5
    chance = (
        np.where(mirror, 0.6, 1.0) * np.clip((contrast - 1.0) / 4.0, 0.2, 1) / np.sqrt(np.maximum(count, 1))
    )
    chance[count < MIN_PHOTOS] = 0
    chance[_holes(candidates, rng, np.flatnonzero(chance > 0))] *= 0.02
    pick = np.flatnonzero(rng.uniform(size=len(chance)) < chance / chance.sum() * size)
    true, ray, distance = candidates.xyz[pick], candidates.rays[pick], candidates.distance[pick]
    lateral = PIXEL_NOISE * distance / camera.lens.intrinsics[0]
    shift = rng.normal(size=true.shape) * lateral[:, None]
    along = rng.normal(size=len(pick)) * lateral * np.clip(distance / 8, 1, 8) * np.where(mirror[pick], 3, 1)
    xyz = true + shift + ray * (along - (shift * ray).sum(1))[:, None]
    outlier = rng.uniform(size=len(pick)) < OUTLIER_SHARE
    factor = np.exp(-np.abs(rng.normal(size=len(pick))) * 0.35 * rng.choice([1, 1, -0.5], len(pick)))
    xyz[outlier] += (ray * (distance * (factor - 1))[:, None])[outlier]
    face_normals = candidates.face_normals[pick]
    normals = face_normals * -np.sign((face_normals * ray).sum(1, keepdims=True) + 1e-9)
    normals = unit(normals + NORMAL_NOISE * rng.normal(size=normals.shape))
    return Cloud(
        xyz=xyz.astype(np.float32),
        normals=normals.astype(np.float32),
        colours=np.rint(colour[pick]).astype(np.uint8),
        true_xyz=true.astype(np.float32),
        outlier=outlier,
    )


def _holes(candidates: Candidates, rng: np.random.Generator, pool: Array, count: int = 50) -> Array:
    """Return the indices of candidates inside `count` random balls, whose radius grows with the distance.

    The balls are centred at candidates drawn from the indices `pool`.
    """
    tree = spatial.cKDTree(candidates.xyz)
    centres = rng.choice(pool, count, replace=False)
    radius = candidates.distance[centres] * rng.uniform(0.010, 0.034, count)
    return np.unique(np.concatenate(tree.query_ball_point(candidates.xyz[centres], radius)).astype(int))
