"""`adop bench stereo`: the points that stereo finds in the demo scene against its true surfaces, and its speed."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from adop.errors import UserError
from adop.files import OutputFile, write_text
from adop.geometry.lens import PosedLens
from adop.geometry.nearest_points import nearest_points
from adop.ranges import MAX_SIDE_PX, Count, Range
from adop.scene.photo_cache import PhotoCache
from adop.scene.point_cloud import PointCloud
from adop.scene.read import load_scene
from adop.scene.scene import Scene, demo_scene_folder
from adop.scene.visibility import import_open3d
from adop.stereo.densify_scene import densify_scene
from adop.stereo.depth_maps import StereoScene
from adop.stereo.patch_match import plane_costs, random_planes, sweep_planes
from adop.stereo.problem import Sweep
from adop.stereo.stereo_config import StereoConfig
from adop.stereo.views import find_neighbourhoods

MIN_PHOTOS = 3  # that must see a sample
# Of the scene's size: within which a surface counts as found, and beyond which a point counts as wrong.
NEAR, FAR = 0.01, 0.02


@dataclass(frozen=True)
class BenchStereoConfig:
    """Measure the points that stereo finds in the demo scene against its true surfaces, and the speed of the kernels.

    The scene's size is the diagonal of the box that holds 98 % of its points along each axis. Only surfaces in that box
    count, since the ground goes on to the horizon.
    """

    stereo: StereoConfig = field(default_factory=lambda: StereoConfig(keep_points=False))
    samples: Count = 500_000
    """Number of positions on the true surfaces at which points are sought."""
    speed_side: Annotated[int, Range(16, MAX_SIDE_PX)] = 120
    """Longer side in pixels of the photos with which kernels and plain torch are timed."""
    repeats: Count = 5
    """How often each is timed; medians are printed."""
    json: OutputFile | None = None
    """Write all numbers to this JSON file."""


def bench_stereo(config: BenchStereoConfig) -> dict[str, float]:
    """Print and return how complete and how exact the points are, and how many times as fast as torch the kernels."""
    scene = load_scene(demo_scene_folder())
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        found = densify_scene(scene.folder, Path(folder) / "scene", config.stereo).points
        seconds = time.perf_counter() - start
    result = {"seconds": seconds, "points": float(len(found)), **against_truth(scene, found, config.samples)}
    print(
        f"{len(found):,} points in {seconds:.0f} s. Of the surface that {MIN_PHOTOS} photos see, "
        f"{100 * result['complete']:.1f} % has a point within {100 * NEAR:.0f} % of the scene's size "
        f"({result['size']:.1f}); {100 * result['wrong']:.1f} % of the points are more than {100 * FAR:.0f} % off; "
        f"median distance {100 * result['distance']:.3f} %, median error of the normals {result['normals_deg']:.1f} "
        "degrees."
    )
    if found.confidence is not None:
        print(
            f"Of the quarter of the points with the lowest confidence {100 * result['wrong_lowest']:.2f} % are that far "
            f"off, of the quarter with the highest {100 * result['wrong_highest']:.2f} %."
        )
    result |= _speed(scene, config)
    print(
        f"One sweep over a photo of {config.speed_side} px: {1000 * result['kernel_seconds']:.1f} ms, "
        f"{result['times_torch']:.0f} times as fast as plain torch on the same "
        f"{torch.get_num_threads()} threads."
    )
    if config.json:
        write_text(config.json, json.dumps(result, indent=1) + "\n")
    return result


def against_truth(scene: Scene, found: PointCloud, samples: int) -> dict[str, float]:
    """Return how complete and how exact points of the demo scene are, see `BenchStereoConfig`.

    Where the points have a confidence, the shares of wrong ones in its lowest and highest quarter are among it.
    """
    from scipy.spatial import cKDTree

    from adop.scenes.world import build_world

    truth = scene.folder / "truth" / "truth.json"
    if not truth.is_file():
        raise UserError(
            f"{truth}: not found; the true surfaces are those of the demo scene that ships with adop."
        )
    open3d = import_open3d("to measure distances from true surfaces")
    mesh = build_world(json.loads(truth.read_text())["seed"])
    vertices, triangles = mesh.xyz.astype(np.float32), mesh.triangles.astype(np.uint32)
    tracer = open3d.t.geometry.RaycastingScene()
    tracer.add_triangles(open3d.core.Tensor(vertices), open3d.core.Tensor(triangles))

    def first_hit(rays: np.ndarray) -> np.ndarray:
        return tracer.cast_rays(open3d.core.Tensor(rays.astype(np.float32)))["t_hit"].numpy()

    low, high = np.quantile(scene.points.xyz, [0.01, 0.99], axis=0)
    size = float(np.linalg.norm(high - low))
    corners = vertices[triangles].astype(np.float64)
    chosen = _surface_samples(corners, (low, high), samples)
    seen = chosen[_photo_counts(chosen, scene.views, first_hit) >= MIN_PHOTOS]
    distance = nearest_points(cKDTree(found.xyz), seen, 1)[0][:, 0]
    closest = tracer.compute_closest_points(open3d.core.Tensor(found.xyz))
    off = np.linalg.norm(closest["points"].numpy() - found.xyz, axis=1)
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    wrong = off > FAR * size
    quarters = {}
    if found.confidence is not None:
        rising = np.argsort(found.confidence, kind="stable")
        count = -(-len(rising) // 4)
        lowest, highest = wrong[rising[:count]], wrong[rising[-count:]]
        quarters = {"wrong_lowest": float(lowest.mean()), "wrong_highest": float(highest.mean())}
    assert found.normals is not None
    cosine = np.abs((flat[closest["primitive_ids"].numpy()] * found.normals).sum(1)).clip(0, 1)
    return {
        "size": size,
        "complete": float((distance < NEAR * size).mean()),
        "wrong": float(wrong.mean()),
        **quarters,
        "distance": float(np.median(off)) / size,
        "normals_deg": float(np.degrees(np.arccos(np.median(cosine[off < NEAR * size])))),
    }


def _surface_samples(corners: np.ndarray, box: tuple[np.ndarray, np.ndarray], count: int) -> np.ndarray:
    """Return positions [M, 3] on triangles [T, 3, 3], evenly spread, at most `count`, that lie in a box."""
    random = np.random.default_rng(0)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    outside = (corners.max(axis=1) < box[0]) | (corners.min(axis=1) > box[1])
    area[outside.any(axis=1)] = 0
    chosen = corners[random.choice(len(corners), count, p=area / area.sum())]
    along, across = np.sqrt(random.random((count, 1))), random.random((count, 1))
    weights = np.concatenate((1 - along, along * (1 - across), along * across), axis=1)
    xyz = (chosen * weights[..., None]).sum(axis=1)
    return xyz[((xyz >= box[0]) & (xyz <= box[1])).all(axis=1)]


def _photo_counts(
    xyz: np.ndarray, views: list[PosedLens], first_hit: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return [M] how many photos see each position."""
    count = np.zeros(len(xyz), int)
    for lens, pose in views:
        centre = -pose[:3, :3].T @ pose[:3, 3]
        _, _, inside = lens.project(xyz @ pose[:3, :3].T + pose[:3, 3])
        offsets = xyz[inside] - centre
        hit = first_hit(np.concatenate((np.broadcast_to(centre, offsets.shape), offsets), axis=1))
        count[inside] += hit > 0.998  # of the way: nothing in between
    return count


def _speed(scene: Scene, config: BenchStereoConfig) -> dict[str, float]:
    """Time a sweep over one photo by the kernels and by plain torch."""
    options = replace(config.stereo, longest_side=config.speed_side, device="cpu")
    near = find_neighbourhoods(scene, options.sources)
    with tempfile.TemporaryDirectory() as folder:
        problem = StereoScene(scene, PhotoCache(scene), near, options, Path(folder)).problem(0, 0, None)
    planes = random_planes(problem, torch.Generator().manual_seed(0))
    costs = plane_costs(problem, planes)

    def median(backend: str) -> float:
        times = []
        for _ in range(config.repeats):
            start = time.perf_counter()
            sweep_planes(problem, planes, costs, Sweep(0, 0.5), backend)  # type: ignore[arg-type]
            times.append(time.perf_counter() - start)
        return float(np.median(times))

    kernel = median("auto")
    return {"kernel_seconds": kernel, "times_torch": median("reference") / kernel}
