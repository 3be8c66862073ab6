"""Edge cases: empty views, single points, borders, crowded pixels, points behind the camera, NaN and infinity."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from adop.geometry.camera import Camera
from adop.ops import Levels, Points, RasterConfig, make_blocks
from support.compare import assert_same_gradients, assert_same_pictures
from support.strategies import LENSES, Scene, draw_with_gradients

WIDTH = 33
HEIGHT = 21
NOT_FINITE = (math.nan, math.inf, -math.inf)


def camera_of(model: str, views: int) -> Camera:
    """Return neighbouring views of a pinhole camera whose borders are exact numbers, or of a fisheye or ocam lens."""
    focal = 16.0
    lens = torch.tensor(LENSES[model]) if model != "opencv" else torch.zeros(8)
    if model == "ocam":
        lens[4:] *= focal
    pose = torch.eye(4).repeat(views, 1, 1)
    pose[:, 0, 3] = torch.arange(views) * 0.125
    intrinsics = torch.tensor([[focal, focal, 16.0, 10.0]]).repeat(views, 1)
    return Camera(model, WIDTH, HEIGHT, intrinsics, lens.repeat(views, 1), pose)  # type: ignore[arg-type]


def at(camera: Camera, uv: list[tuple[float, float]], z: list[float]) -> torch.Tensor:
    """Return points that the first view sees at these pixels and depths."""
    if not uv:
        return torch.zeros(0, 3)
    depth = torch.tensor(z)
    if camera.model == "opencv":
        plane = (torch.tensor(uv) - torch.tensor([16.0, 10.0])) / 16.0
        return torch.cat((plane, torch.ones(len(z), 1)), 1) * depth[:, None]
    return camera[0].unproject(torch.tensor(uv)[None], depth[None])[0]


def nothing(camera: Camera) -> torch.Tensor:
    """Return no points."""
    return at(camera, [], [])


def none_in_view(camera: Camera) -> torch.Tensor:
    """Return points that no view sees."""
    return torch.tensor([[0.0, 0.0, -2.0], [0.5, 0.1, -1.0], [0.0, 1000.0, -1.0]])


def one(camera: Camera) -> torch.Tensor:
    """Return one point in view."""
    return at(camera, [(12.5, 8.25)], [2.0])


def borders(camera: Camera) -> torch.Tensor:
    """Return points on the edges of pixels and of the image; with lenses that round, slightly to either side."""
    edges = [(x, y) for x in (0.0, 2.0, 8.0, 16.0, 31.0, 32.0, 33.0) for y in (0.0, 1.0, 4.0, 20.0, 21.0)]
    if camera.model != "opencv":
        edges = [(x + d, y - d) for x, y in edges for d in (-0.03, 0.03)]
    return at(camera, [(float(x), float(y)) for x, y in edges], [2.0] * len(edges))


def one_pixel(camera: Camera) -> torch.Tensor:
    """Return many points in one pixel, at rising depths."""
    positions = [(12.2 + 0.6 * (i % 7) / 7, 8.2 + 0.6 * (i % 5) / 5) for i in range(60)]
    return at(camera, positions, [2.0 + 0.003 * i for i in range(60)])


def behind_camera(camera: Camera) -> torch.Tensor:
    """Return points behind the camera, in view, nearer than the near depth, and at the centre."""
    seen = at(camera, [(12.4, 8.3), (20.6, 11.7), (13.4, 8.3)], [2.0, 3.0, 2.0])
    return torch.cat((-seen, seen, seen * 0.001, torch.zeros(1, 3)))


def not_finite(camera: Camera) -> torch.Tensor:
    """Return points of which some have a coordinate that is not finite."""
    xyz = at(camera, [(12.4 + i % 3, 8.3) for i in range(24)], [2.0] * 24)
    for number, bad in enumerate(NOT_FINITE):
        for axis in range(3):
            xyz[3 * number + axis, axis] = bad
    return xyz


CASES = (nothing, none_in_view, one, borders, one_pixel, behind_camera, not_finite)


def scene_of(
    case: Callable[[Camera], torch.Tensor], model: str, views: int, ghosts: float, bilinear: bool = False
) -> Scene:
    """Return a case as a scene, with the share `ghosts` of the points as ghosts."""
    camera = camera_of(model, views)
    xyz = case(camera)
    generator = torch.Generator().manual_seed(len(xyz))
    radius = torch.where(torch.rand(len(xyz), generator=generator) < 0.3, 0.15, 100.0)
    if case is not_finite:
        radius[9:12] = torch.tensor(NOT_FINITE)
    features, background = torch.rand(len(xyz), 4, generator=generator), torch.rand(4, generator=generator)
    drawn_as_ghosts = torch.rand(views, len(xyz), generator=generator) < ghosts
    config = RasterConfig(near=0.01, position_gradient="bilinear" if bilinear else "ghost")
    return Scene(camera, Points(xyz, radius), features, background, drawn_as_ghosts, config)


def draw_as_the_oracle(scene: Scene) -> tuple[Levels, dict[str, torch.Tensor]]:
    """Draw with and without blocks, compare images and gradients with plain torch, and return those of plain torch."""
    expected, oracle = draw_with_gradients(scene, "reference")
    blocks = make_blocks(scene.points.xyz, scene.points.radius, 16)
    for points in (scene.points, replace(scene.points, blocks=blocks)):
        levels, gradients = draw_with_gradients(replace(scene, points=points), "cpu")
        for name in ("features", "weight", "depth"):
            assert_same_pictures(getattr(levels, name), getattr(expected, name))
        assert_same_gradients(gradients, oracle)
    return expected, oracle
