"""The scene that benchmarks draw: a wall of points under open sky, half of it in view, with any number of points."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adop.geometry.camera import Camera
from adop.ops import Points, make_blocks
from adop.ops.types import block_size_for

WIDTH, HEIGHT = 960, 640  # pixels
# Metres, in the near camera's frame: x right, y down, z forward.
WALL_HALF_WIDTH, WALL_TOP, WALL_BOTTOM, WALL_DISTANCE = 12.0, -2.0, 2.5, 10.0
TILES = (32, 6)  # the wall is made tile by tile, which needs little memory


@dataclass(frozen=True)
class BenchScene:
    """A camera, a Morton-ordered cloud with its block table, and features [N, 4]."""

    camera: Camera
    points: Points
    features: Tensor


def bench_camera(distance: float = WALL_DISTANCE) -> Camera:
    """Return a slightly distorted camera at a distance (metres) from the wall.

    At the default distance it sees the middle half of the wall, at twice that distance all of it.
    """
    intrinsics = torch.tensor([[800.0, 800.0, WIDTH / 2, HEIGHT / 2]])
    distortion = torch.tensor([[-0.05, 0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    pose = torch.eye(4)[None].clone()
    pose[0, 2, 3] = distance - WALL_DISTANCE
    return Camera("opencv", WIDTH, HEIGHT, intrinsics, distortion, pose)


def make_bench_scene(count: int, seed: int = 0, device: torch.device | str = "cpu") -> BenchScene:
    """Return a wall of `count` points, uniformly distributed over its area, made on a device.

    A point's level-of-detail radius is the distance to its 4th neighbour, drawn from that distance's distribution,
    times `sqrt(1 / U)` with U uniform in (0, 1). The points of a tile are in Morton order, then those of a block are
    sorted by falling radius.
    """
    generator = torch.Generator(device).manual_seed(seed)
    density = count / (2 * WALL_HALF_WIDTH * (WALL_BOTTOM - WALL_TOP))
    tiles = TILES[0] * TILES[1]
    sizes = [count * (i + 1) // tiles - count * i // tiles for i in range(tiles)]
    xyz, radius = torch.empty(count, 3, device=device), torch.empty(count, device=device)
    first = 0
    for tile, size in zip(_morton_tiles(), sizes, strict=True):
        part = slice(first, first + size)
        xyz[part] = _tile_points(tile, size, generator)
        radius[part] = random_radii(size, density, generator)
        first += size
    block_size = block_size_for(count)
    _sort_blocks(xyz, radius, block_size)
    features = torch.rand(count, 4, generator=generator, device=device)
    blocks = make_blocks(xyz, radius, block_size)
    return BenchScene(bench_camera().to(device), Points(xyz, radius, None, blocks), features)


def random_radii(count: int, density: float, generator: torch.Generator) -> Tensor:
    """Return level-of-detail radii [count] of points spread over a plane, see `make_bench_scene`; density: per m2."""
    uniform = torch.rand(5, count, generator=generator, device=generator.device).clamp_min(1e-12)
    fourth = (-uniform[:4].log().sum(0) / (math.pi * density)).sqrt()
    return fourth / uniform[4].sqrt()


def _morton_tiles() -> list[tuple[int, int]]:
    tiles = [(x, y) for x in range(TILES[0]) for y in range(TILES[1])]
    return sorted(tiles, key=lambda tile: int(_morton_code(torch.tensor([tile]))[0]))


def _morton_code(cells: Tensor) -> Tensor:
    """Return the Morton codes [N] of integer pairs [N, 2] below 2^15."""
    spread = cells.to(torch.int64)
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        spread = (spread | (spread << shift)) & mask
    return spread[:, 0] | (spread[:, 1] << 1)


def _tile_points(tile: tuple[int, int], size: int, generator: torch.Generator) -> Tensor:
    """Return the Morton-ordered points [size, 3] of one tile of the wall; its windows are recessed by 30 cm."""
    device = generator.device
    position = torch.rand(size, 2, generator=generator, device=device)
    position = position[_morton_code((position * 32767).int()).argsort()]
    x = -WALL_HALF_WIDTH + 2 * WALL_HALF_WIDTH * (tile[0] + position[:, 0]) / TILES[0]
    y = WALL_TOP + (WALL_BOTTOM - WALL_TOP) * (tile[1] + position[:, 1]) / TILES[1]
    window = ((x % 1.5) < 0.8) & ((y % 1.5) < 0.9)
    roughness = 0.01 * torch.randn(size, generator=generator, device=device)
    return torch.stack((x, y, WALL_DISTANCE + 0.3 * window + roughness), 1)


def _sort_blocks(xyz: Tensor, radius: Tensor, size: int) -> None:
    """Sort each whole block of `size` points by falling radius, in place, about a million points at a time."""
    whole = len(radius) // size * size
    step = max(1, (1 << 20) // size) * size
    for first in range(0, whole, step):
        last = min(first + step, whole)
        values, order = radius[first:last].reshape(-1, size).sort(1, descending=True)
        radius[first:last] = values.flatten()
        blocks = xyz[first:last].reshape(-1, size, 3)
        xyz[first:last] = blocks.take_along_dim(order[..., None], 1).reshape(-1, 3)
