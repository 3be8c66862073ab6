"""Points in a mapped file: their order, their blocks, and what is drawn of them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from adop.bench.raster.scene import bench_camera
from adop.errors import UserError
from adop.model.point_store import FIRST_LAYER, Tile, read_point_store, write_point_store
from adop.ops import Points, RasterConfig, draw
from adop.scene.point_cloud import block_order

WIDTH = 5


def random_tile(first: float, count: int) -> Tile:
    """Return points of a strip of a wall ahead, with radii over a wide range."""
    generator = torch.Generator().manual_seed(int(first * 10))
    xyz = torch.rand(count, 3, generator=generator) * torch.tensor([2.0, 4.0, 0.1])
    xyz += torch.tensor([first, -2.0, 10.0])
    radius = 0.01 / torch.rand(count, generator=generator).clamp_min(1e-9).sqrt()
    order = torch.from_numpy(block_order(xyz.numpy(), radius.numpy()))
    features, normals = torch.randn(count, WIDTH, generator=generator), -torch.ones(count, 3) / 3**0.5
    return Tile(xyz[order], radius[order], normals, features[order])


@pytest.fixture(scope="module")
def tiles() -> list[Tile]:
    """Three strips of different sizes, more points than the first layer has."""
    return [random_tile(-3.0, 70_001), random_tile(-1.0, 12_345), random_tile(1.0, 55_555)]


@pytest.fixture(scope="module")
def stored(tiles: list[Tile], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The strips in a file."""
    path = tmp_path_factory.mktemp("store") / "points.safetensors"
    write_point_store(
        path, [lambda tile=tile: tile for tile in tiles], {"other": torch.arange(3)}, {"step": "7"}
    )
    return path


def test_every_point_is_there_once_with_what_belongs_to_it(tiles: list[Tile], stored: Path) -> None:
    points, others, metadata = read_point_store(stored)
    assert metadata["step"] == "7" and others["other"].tolist() == [0, 1, 2]
    given = torch.cat([torch.cat((t.xyz, t.radius[:, None], t.features, t.normals), 1) for t in tiles])
    found = torch.cat((points.xyz, points.radius[:, None], points.features, points.normals), 1)
    assert given.shape == found.shape and torch.equal(given.unique(dim=0), found.unique(dim=0))


def test_larger_radii_come_first_and_blocks_bound_their_points(stored: Path) -> None:
    points, _, _ = read_point_store(stored)
    count, size = len(points.radius), points.blocks.size
    layer = points.radius[:FIRST_LAYER]
    assert layer.min() >= 0.9 * points.radius[2 * FIRST_LAYER :].max(), (
        "the first layer has the largest radii"
    )
    assert bool(points.blocks.falling.all())
    for block in range(-(-count // size)):
        part = slice(block * size, (block + 1) * size)
        assert bool((points.xyz[part] >= points.blocks.lower[block]).all())
        assert bool((points.xyz[part] <= points.blocks.upper[block]).all())
        assert points.radius[part].sort(descending=True).values.equal(points.radius[part])


def test_a_view_of_the_file_is_that_of_the_points(tiles: list[Tile], stored: Path) -> None:
    points, _, _ = read_point_store(stored)
    camera = bench_camera().scaled(0.25)
    whole = Points(*(torch.cat([getattr(t, name) for t in tiles]) for name in ("xyz", "radius", "normals")))
    features = torch.cat([tile.features for tile in tiles])
    raster = RasterConfig(levels=3)
    expected = draw(camera, whole, features, raster)
    mapped = Points(points.xyz, points.radius, points.normals, points.blocks)
    found = draw(camera, mapped, points.features, raster)
    assert float(expected.weight[0].sum()) > 10_000
    for ours, theirs in zip(found.features, expected.features, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(found.weight, expected.weight, strict=True):
        assert torch.equal(ours, theirs)


def test_tiles_that_fit_into_one_layer_need_no_normals(tmp_path: Path) -> None:
    tile = random_tile(0.0, 100)
    tile = Tile(tile.xyz, tile.radius, None, tile.features)
    write_point_store(tmp_path / "few", [lambda: tile], {}, {})
    points, others, _ = read_point_store(tmp_path / "few")
    assert points.normals is None and len(points.xyz) == 100 and not others


def test_a_full_disk_is_an_error_and_leaves_nothing(
    tiles: list[Tile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("adop.model.point_store.allocate", no_room)
    with pytest.raises(OSError, match="No space left"):
        write_point_store(tmp_path / "points", [lambda: tiles[1]], {}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "what", ["cut off", "block table", "no file of points", "block size", "shape", "pipe"]
)
def test_damaged_files_are_refused_in_a_sentence(stored: Path, tmp_path: Path, what: str) -> None:
    path = tmp_path / "points.safetensors"
    content = stored.read_bytes()
    changed = {
        "cut off": content[:-1000],
        "no file of points": content.replace(b"adop-points-1", b"adop-points-9"),
        "block size": content.replace(b'"block_size": "256"', b'"block_size": "250"'),
        "block table": content[:-40] + bytes([content[-40] ^ 1]) + content[-39:],
        "shape": content.replace(b"points.radius", b"points.radios"),
    }
    if what == "pipe":
        os.mkfifo(path)
    else:
        assert changed[what] != content
        path.write_bytes(changed[what])
    with pytest.raises(UserError, match=r"points\.safetensors: "):
        read_point_store(path)
