"""Packed runs with more points than a device has room for: views bring in the blocks that they draw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adop.errors import UserError
from adop.evaluation.evaluate import score_photo
from adop.evaluation.run_plots import plot_run
from adop.export.points import exported_points
from adop.geometry.camera import Camera
from adop.model.block_cache import BlockCache
from adop.model.point_store import StoredPoints, read_point_store
from adop.ops import Points, RasterConfig, draw, visible_blocks
from adop.run.checkpoint import PACKED, load_packed
from adop.run.run import Run, load

CPU = torch.device("cpu")


def stored_points(folder: Path) -> StoredPoints:
    """Return the points of a packed run."""
    return read_point_store(folder / PACKED)[0]


def room_for(stored: StoredPoints, blocks: int) -> int:
    """Return the bytes that a number of blocks take."""
    return blocks * stored.blocks.size * stored.bytes_per_point


def details(run: Run) -> list[Camera]:
    """Return cameras that see a part of what their photos show."""
    whole = [run.photo_camera(photo) for photo in range(0, len(run.scene.photos), 5)]
    return [camera.cropped(2.0, 0.5 * camera.width, 0.6 * camera.height, 80, 60) for camera in whole]


def limited(folder: Path, blocks: int) -> Run:
    """Return a run that has room for a number of blocks."""
    run = load(folder)
    load_packed(folder / PACKED, run.pipeline, room_for(stored_points(folder), blocks))
    return run


def most_needed(folder: Path) -> int:
    """Return how many blocks the photo that sees the most of them needs."""
    run, blocks = load(folder), stored_points(folder).blocks
    cameras = [run.photo_camera(photo) for photo in range(len(run.scene.photos))]
    return max(int(visible_blocks(camera, blocks, run.pipeline.view_raster).sum()) for camera in cameras)


class Interrupting:
    """In place of the features on the device: Ctrl-C comes while they are copied."""

    device = CPU

    def view(self, *_: int) -> torch.Tensor:
        raise KeyboardInterrupt


def check_drawn(cache: BlockCache, camera: Camera, raster: RasterConfig) -> None:
    """Check that a camera sees the same by a cache as of all points."""
    stored = cache.stored
    assert cache.bring([camera], raster) == 1
    found = draw(camera, cache.points, cache.features, raster)
    points = Points(stored.xyz, stored.radius, stored.normals, stored.blocks)
    expected = draw(camera, points, stored.features, raster)
    for a, b in zip(found.features, expected.features, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_views_are_those_of_all_points_whatever_was_there_before(packed_folder: Path) -> None:
    whole, most = load(packed_folder), most_needed(packed_folder)
    assert most < len(stored_points(packed_folder).blocks.radius)
    run = limited(packed_folder, most)
    assert len(run.pipeline.points().xyz) < len(run.pipeline.points) == len(whole.pipeline.points)
    for camera in (*details(run), run.photo_camera(0), *reversed(details(run))):
        found, expected = run.render(camera), whole.render(camera)
        torch.testing.assert_close(found.image, expected.image, atol=1e-4, rtol=0)
        torch.testing.assert_close(found.depth, expected.depth, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_blocks_that_are_there_are_not_copied_again(packed_folder: Path) -> None:
    stored, run = stored_points(packed_folder), load(packed_folder)
    raster, (first, second, *_) = run.pipeline.view_raster, details(run)
    needed = [set(visible_blocks(c, stored.blocks, raster).nonzero()[:, 0].tolist()) for c in (first, second)]
    assert needed[0] - needed[1] and needed[1] - needed[0]
    cache = BlockCache(stored, CPU, room_for(stored, len(needed[0] | needed[1])))
    copied: list[int] = []
    copy = cache._copy
    cache._copy = lambda blocks, slots: (copied.extend(blocks.tolist()), copy(blocks, slots))  # type: ignore
    for camera in (first, second, first, second):
        assert cache.bring([camera], raster) == 1
    assert sorted(copied) == sorted(needed[0] | needed[1])


@torch.no_grad()
def test_the_blocks_that_were_not_drawn_for_longest_make_room(packed_folder: Path) -> None:
    stored, run = stored_points(packed_folder), load(packed_folder)
    raster, (first, second, *_) = run.pipeline.view_raster, details(run)
    seen = [visible_blocks(camera, stored.blocks, raster) for camera in (first, second)]
    cache = BlockCache(stored, CPU, room_for(stored, int(max(part.sum() for part in seen))))
    for camera in (first, second, first):
        check_drawn(cache, camera, raster)


@torch.no_grad()
def test_where_a_view_needs_more_than_there_is_room_for_it_is_drawn_coarser(packed_folder: Path) -> None:
    whole, run = (
        load(packed_folder).pipeline,
        limited(packed_folder, most_needed(packed_folder) // 2).pipeline,
    )
    camera = whole.camera(torch.tensor([0]))
    factor = run.points.bring([camera], run.view_raster)
    for other in details(load(packed_folder)):
        run.points.bring([other], run.view_raster)
    assert factor > 1
    whole.view_raster = replace(
        whole.view_raster, radius_threshold=factor * whole.view_raster.radius_threshold
    )
    found, expected = (pipeline.render(camera).levels.features for pipeline in (run, whole))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_view_at_full_detail_for_which_there_is_no_room_is_refused(packed_folder: Path) -> None:
    run = limited(packed_folder, 2)
    run.pipeline.view_raster = replace(run.pipeline.view_raster, radius_threshold=0.0)
    with pytest.raises(UserError, match="the device has room for 2; use --device cpu"):
        run.render(run.photo_camera(0))


@torch.no_grad()
def test_after_an_interrupted_copy_the_view_is_whole(
    packed_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, run = stored_points(packed_folder), load(packed_folder)
    raster, (first, second, *_) = run.pipeline.view_raster, details(run)
    needed = [int(visible_blocks(camera, stored.blocks, raster).sum()) for camera in (first, second)]
    cache = BlockCache(stored, CPU, room_for(stored, max(needed)))
    cache.bring([first], raster)
    with monkeypatch.context() as patched:
        patched.setattr(cache, "features", Interrupting())
        with pytest.raises(KeyboardInterrupt):
            cache.bring([second], raster)
    check_drawn(cache, second, raster)


def test_a_run_whose_blocks_are_cached_is_scored_and_plotted(packed_folder: Path, tmp_path: Path) -> None:
    run = limited(packed_folder, most_needed(packed_folder))
    plot_run(run, tmp_path)
    assert (tmp_path / "plots").is_dir()
    assert score_photo(run, run.split["held_out"][0])[0].plain.psnr > 5


def test_all_points_are_exported(packed_folder: Path) -> None:
    run, whole = limited(packed_folder, 4), load(packed_folder)
    found, expected = (exported_points(each, None, np.zeros(3)) for each in (run, whole))
    assert np.array_equal(found.xyz, expected.xyz) and np.array_equal(found.colours, expected.colours)
