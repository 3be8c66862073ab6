"""The cloud that the benchmarks draw: a facade under open sky, half of it in view, at any number of points."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adop.geometry.camera import Camera
from adop.ops import Points, make_blocks
from adop.ops.types import block_size_for

WIDTH, HEIGHT = 960, 640
HALF_WIDTH, TOP, BOTTOM, DISTANCE = 12.0, -2.0, 2.5, 10.0  # metres; the camera looks along z from the origin
TILES = (32, 6)  # the wall is made tile by tile, so that making it needs little memory


@dataclass(frozen=True)
class BenchScene:
    """A camera, a Morton-ordered cloud with its block table, and features [N, 4]."""

    camera: Camera
    points: Points
    features: Tensor

    def to(self, device: torch.device | str) -> "BenchScene":
        """Move all of it; the wall has no normals."""
        points, blocks = self.points, self.points.blocks
        moved = Points(points.xyz.to(device), points.radius.to(device), None, blocks and blocks.to(device))
        return BenchScene(self.camera.to(device), moved, self.features.to(device))


def bench_camera(distance: float = DISTANCE) -> Camera:
    """Return a slightly distorted camera, 960 x 640; at the usual distance it has the middle half of the wall in view,
    at twice that distance all of it."""
    intrinsics = torch.tensor([[800.0, 800.0, WIDTH / 2, HEIGHT / 2]])
    distortion = torch.tensor([[-0.05, 0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    pose = torch.eye(4)[None].clone()
    pose[0, 2, 3] = distance - DISTANCE
    return Camera("opencv", WIDTH, HEIGHT, intrinsics, distortion, pose)


def make_bench_scene(count: int, seed: int = 0, block_size: int = 0) -> BenchScene:
    """Scatter `count` points over the wall, evenly by area.

    The radius is the distance to the 4th neighbour of an even scatter, drawn from its distribution, times
    `sqrt(1/U)`. Within a tile points are Morton-ordered, within a block sorted by falling radius.
    """
    generator = torch.Generator().manual_seed(seed)
    density = count / (2 * HALF_WIDTH * (BOTTOM - TOP))
    tiles = TILES[0] * TILES[1]
    sizes = [count * (i + 1) // tiles - count * i // tiles for i in range(tiles)]
    xyz, radius = torch.empty(count, 3), torch.empty(count)
    first = 0
    for tile, size in zip(_morton_tiles(), sizes, strict=True):
        part = slice(first, first + size)
        xyz[part] = _tile_points(tile, size, generator)
        uniform = torch.rand(5, size, generator=generator).clamp_min(1e-12)
        fourth = (-uniform[:4].log().sum(0) / (math.pi * density)).sqrt()
        radius[part] = fourth / uniform[4].sqrt()
        first += size
    block_size = block_size or block_size_for(count)
    _sort_blocks(xyz, radius, block_size)
    features = torch.rand(count, 4, generator=generator)
    blocks = make_blocks(xyz, radius, block_size)
    return BenchScene(bench_camera(), Points(xyz, radius, None, blocks), features)


def _morton_tiles() -> list[tuple[int, int]]:
    tiles = [(x, y) for x in range(TILES[0]) for y in range(TILES[1])]
    return sorted(tiles, key=lambda tile: int(_interleave(torch.tensor([tile]))[0]))


def _interleave(cells: Tensor) -> Tensor:
    """Return the Morton codes of integer pairs [N, 2] below 2^15."""
    spread = cells.to(torch.int64)
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        spread = (spread | (spread << shift)) & mask
    return spread[:, 0] | (spread[:, 1] << 1)


def _tile_points(tile: tuple[int, int], size: int, generator: torch.Generator) -> Tensor:
    """Return the Morton-ordered points [size, 3] of one tile of the wall, with windows 30 cm deep."""
    place = torch.rand(size, 2, generator=generator)
    place = place[_interleave((place * 32767).int()).argsort()]
    x = -HALF_WIDTH + 2 * HALF_WIDTH * (tile[0] + place[:, 0]) / TILES[0]
    y = TOP + (BOTTOM - TOP) * (tile[1] + place[:, 1]) / TILES[1]
    window = ((x % 1.5) < 0.8) & ((y % 1.5) < 0.9)
    rough = 0.01 * torch.randn(size, generator=generator)
    return torch.stack((x, y, DISTANCE + 0.3 * window + rough), 1)


def _sort_blocks(xyz: Tensor, radius: Tensor, size: int) -> None:
    """Sort whole blocks of `size` by falling radius, in place, about a million points at a time."""
    whole = len(radius) // size * size
    step = max(1, (1 << 20) // size) * size
    for first in range(0, whole, step):
        last = min(first + step, whole)
        values, order = radius[first:last].reshape(-1, size).sort(1, descending=True)
        radius[first:last] = values.flatten()
        blocks = xyz[first:last].reshape(-1, size, 3)
        xyz[first:last] = blocks.take_along_dim(order[..., None], 1).reshape(-1, 3)
