"""Cleaning, measuring and ordering point clouds, their normals, and the stored form."""

import builtins
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adop.errors import UserError
from adop.geometry.lens import Lens
from adop.scene.ply import RawPoints, read_ply, write_ply
from adop.scene.point_cloud import (
    BLOCK,
    PREPARED_VERSION,
    PrepareConfig,
    load_prepared,
    morton_order,
    order,
    save_prepared,
    thinned,
)
from adop.scene.prepare import prepare
from adop.scene.visibility import estimate_normals, visible
from support.small_scene import ball, can_import_open3d, lens, looking_at_origin, poses

needs_open3d = pytest.mark.skipif(not can_import_open3d(), reason="Open3D cannot be imported here")
VIEWS = [(lens(), matrix) for matrix in poses()]


def raw_ball(count=500, normals=True):
    xyz = ball(count)
    colors = np.random.default_rng(0).integers(0, 256, xyz.shape, dtype=np.uint8)
    return RawPoints(
        xyz, (xyz / np.linalg.norm(xyz, axis=1)[:, None]).astype(np.float32) if normals else None, colors
    )


def faces_a_camera(xyz, cosine):
    """Return [N] bool: points of the ball whose outward normal meets the direction to a camera at this cosine or more."""
    centres = np.array([-matrix[:3, :3].T @ matrix[:3, 3] for matrix in poses()])
    towards = centres[:, None] - xyz
    cosines = np.einsum("pij,ij->pi", towards, xyz) / np.linalg.norm(towards, axis=2)
    return cosines.max(axis=0) > cosine


def rows(*arrays):
    table = np.concatenate(
        [np.asarray(array, np.float64).reshape(len(array), -1) for array in arrays], axis=1
    )
    return table[np.lexsort(table.T)]


def test_clean_points_all_stay_and_keep_their_colours_and_normals():
    raw = raw_ball()
    cloud = prepare(raw, VIEWS)
    assert len(cloud) == 500
    np.testing.assert_array_equal(rows(cloud.xyz, cloud.colors), rows(raw.xyz.astype(np.float32), raw.colors))
    outwards = np.einsum("ij,ij->i", cloud.normals, cloud.xyz / np.linalg.norm(cloud.xyz, axis=1)[:, None])
    np.testing.assert_allclose(np.abs(outwards), 1, atol=1e-6)
    assert (outwards > 0)[faces_a_camera(cloud.xyz, 0.0)].all()


def test_radius_is_the_distance_to_the_fourth_neighbour():
    cloud = prepare(raw_ball(200), VIEWS)
    apart = np.linalg.norm(cloud.xyz[:, None].astype(np.float64) - cloud.xyz[None], axis=2)
    np.testing.assert_allclose(cloud.radius, np.sort(apart, axis=1)[:, 4], rtol=1e-5)


def test_radius_is_right_after_points_were_dropped():
    raw = raw_ball(200)
    doubles = raw.xyz[:50] * (1 + 1e-6)
    far = np.array([[300.0, 0, 0], [0, 400.0, 0]])
    more = RawPoints(np.concatenate([raw.xyz, doubles, far]), None, None)
    sentences = []
    cloud = prepare(more, VIEWS, PrepareConfig(normals=False), sentences.append)
    assert len(cloud) == 200 and np.abs(cloud.xyz[:, None] - raw.xyz).max(axis=2).min(axis=1).max() < 2e-6
    apart = np.linalg.norm(cloud.xyz[:, None].astype(np.float64) - cloud.xyz[None], axis=2)
    np.testing.assert_allclose(cloud.radius, np.sort(apart, axis=1)[:, 4], rtol=1e-5)
    assert any("50 of 252" in text for text in sentences) and any("2 of 202" in text for text in sentences)


def test_lod_radius_follows_its_distribution():
    count = 20000
    radius = np.full(count, 0.5, np.float32)
    cloud = order(np.random.default_rng(0).random((count, 3)).astype(np.float32), None, None, radius)
    assert (cloud.lod_radius >= cloud.radius).all() and np.isfinite(cloud.lod_radius).all()
    # P(lod_radius > x) = (radius / x)^2
    for factor in (1.5, 2.0, 4.0):
        assert (cloud.lod_radius > 0.5 * factor).mean() == pytest.approx(factor**-2, abs=0.015)
    again = order(cloud.xyz, None, None, radius)
    other = order(cloud.xyz, None, None, radius, seed=1)
    assert (np.sort(again.lod_radius) == np.sort(cloud.lod_radius)).all()
    assert (np.sort(other.lod_radius) != np.sort(cloud.lod_radius)).any()


def test_blocks_are_compact_and_sorted_by_falling_radius():
    count = 256 * 64 + 17
    xyz = np.random.default_rng(0).random((count, 3)).astype(np.float32) + 1000
    cloud = order(xyz, None, None, np.full(count, 0.02, np.float32))
    for start in range(0, count, BLOCK):
        assert (np.diff(cloud.lod_radius[start : start + BLOCK]) <= 0).all()
    full = cloud.xyz[: 64 * BLOCK].reshape(64, BLOCK, 3)
    size = full.max(axis=1) - full.min(axis=1)
    assert np.median(size) < 0.5  # a 64th of a unit cube is 0.25 wide


def test_morton_order_by_hand_and_with_a_far_outlier():
    corners = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)], np.float64)
    shuffled = np.random.default_rng(0).permutation(8)
    # The 1st to 99th percentile is almost the whole cube: z is the most significant axis, x the least.
    np.testing.assert_array_equal(corners[shuffled][morton_order(corners[shuffled])], corners)
    xyz = np.random.default_rng(1).random((2000, 3))
    with_outlier = np.concatenate([xyz, [[1e9, 1e9, 1e9]]])
    step = np.linalg.norm(np.diff(with_outlier[morton_order(with_outlier)][:2000], axis=0), axis=1)
    assert np.median(step) < 0.15  # neighbours in order are neighbours in space


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(-6, 6).map(lambda e: 10.0**e), shift=st.floats(-3, 3))
def test_the_unit_of_the_scene_does_not_matter(scale, shift):
    raw = raw_ball(150)
    messy = np.concatenate([raw.xyz, raw.xyz[:10] + 1e-7, [[50.0, 0, 0]], [[np.nan, 0, 0]]])
    normals = np.concatenate([raw.normals, raw.normals[:12]])
    colors = np.concatenate([raw.colors, raw.colors[:12]])
    views = [(lens(), matrix) for matrix in poses(scale=scale)]
    cloud = prepare(RawPoints(messy * scale, normals, colors), views)
    plain = prepare(RawPoints(messy, normals, colors), VIEWS)
    assert len(cloud) == len(plain) == 150
    np.testing.assert_allclose(np.sort(cloud.radius), np.sort(plain.radius) * scale, rtol=1e-3)


def test_unusable_points_are_dropped_and_an_empty_cloud_is_an_error():
    raw = raw_ball(100)
    xyz = np.concatenate([raw.xyz, raw.xyz[:30], [[np.nan, 0, 0], [np.inf, 0, 0], [0, 1e300, 0]]])
    sentences = []
    cloud = prepare(RawPoints(xyz, None, None), VIEWS, PrepareConfig(normals=False), sentences.append)
    assert len(cloud) == 100 and cloud.normals is None and cloud.colors is None
    assert "3 of 133 points are not finite" in sentences[0] and "30 of 130 points repeat" in sentences[1]
    for few in (xyz[:1], xyz[-3:], np.repeat(xyz[:1], 9, axis=0), xyz[:0]):
        with pytest.raises(UserError, match="usable points"):
            prepare(RawPoints(few, None, None), VIEWS)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 257])
def test_clouds_of_few_points(count):
    xyz = np.random.default_rng(count).random((count, 3))
    cloud = prepare(RawPoints(xyz, xyz.astype(np.float32), None), VIEWS)
    assert len(cloud) == count and (cloud.radius > 0).all()


def test_a_cloud_without_photos_is_prepared():
    cloud = prepare(raw_ball(100), [])
    assert len(cloud) == 100


def test_outliers_are_judged_as_the_cameras_see_them():
    """A far wall may be sparse; a single point in front of it may not."""
    random = np.random.default_rng(0)
    near = np.concatenate([random.uniform(-1, 1, (2000, 2)), np.full((2000, 1), 3.0)], axis=1)
    wall = np.concatenate([random.uniform(-40, 40, (2000, 2)), np.full((2000, 1), 120.0)], axis=1)
    outliers = np.array([[0.0, 0.1, 20.0], [0.5, 0, 0.4], [-0.5, 0, 8.0]])
    wide = Lens("opencv", 64, 48, np.array([40.0, 40, 32, 24]), np.zeros(8))
    views = [(wide, np.eye(4))]
    cloud = prepare(
        RawPoints(np.concatenate([near, wall, outliers]), None, None), views, PrepareConfig(normals=False)
    )
    kept = {tuple(point) for point in cloud.xyz.astype(np.float32).tolist()}
    assert not any(tuple(point) in kept for point in outliers.astype(np.float32).tolist())
    assert len(cloud) >= 3980
    everything = prepare(
        RawPoints(np.concatenate([near, wall, outliers]), None, None),
        views,
        PrepareConfig(normals=False, outlier=0),
    )
    assert len(everything) == 4003


def test_given_normals_are_kept_unless_they_face_away_from_the_cameras():
    raw = raw_ball()
    crooked = raw.normals + 0.1 * np.random.default_rng(0).standard_normal(raw.normals.shape).astype(
        np.float32
    )
    crooked /= np.linalg.norm(crooked, axis=1)[:, None]
    cloud = prepare(dataclasses.replace(raw, normals=crooked * 7), VIEWS)
    assert (
        np.abs(rows(cloud.xyz, np.abs(cloud.normals)) - rows(raw.xyz.astype("f4"), np.abs(crooked))) < 1e-6
    ).all()
    sentences = []
    turned = prepare(dataclasses.replace(raw, normals=-raw.normals), VIEWS, report=sentences.append)
    assert "away from the cameras: all were reversed" in sentences[0]
    outwards = np.einsum("ij,ij->i", turned.normals, turned.xyz)
    assert (outwards > 0)[faces_a_camera(turned.xyz, 0.0)].mean() > 0.99


@pytest.mark.parametrize("every", [20, 2])
def test_single_flipped_normals_are_reversed(every):
    raw = raw_ball()
    flipped = raw.normals.copy()
    flipped[::every] *= -1
    cloud = prepare(dataclasses.replace(raw, normals=flipped), VIEWS)
    outwards = np.einsum("ij,ij->i", cloud.normals, cloud.xyz)
    assert (outwards > 0)[faces_a_camera(cloud.xyz, 0.25)].mean() > 0.99


def test_missing_normals_point_to_the_camera():
    raw = raw_ball()
    normals = raw.normals.copy()
    normals[:50] = 0
    normals[50:60] = np.nan
    cloud = prepare(dataclasses.replace(raw, normals=normals), VIEWS)
    np.testing.assert_allclose(np.linalg.norm(cloud.normals, axis=1), 1, atol=1e-5)
    outwards = np.einsum("ij,ij->i", cloud.normals, cloud.xyz)
    assert (outwards > 0)[faces_a_camera(cloud.xyz, 0.1)].mean() > 0.99


@needs_open3d
@pytest.mark.parametrize("missing", ["none", "zero"])
def test_estimated_normals_point_outwards(missing):
    raw = raw_ball(2000, normals=False)
    raw = dataclasses.replace(raw, normals=np.zeros((2000, 3), np.float32) if missing == "zero" else None)
    sentences = []
    cloud = prepare(raw, VIEWS, report=sentences.append)
    assert "2000 of 2000 points had no normal" in sentences[0]
    outwards = np.einsum("ij,ij->i", cloud.normals, cloud.xyz / np.linalg.norm(cloud.xyz, axis=1)[:, None])
    assert np.median(outwards) > 0.99 and (outwards > 0)[faces_a_camera(cloud.xyz, 0.1)].mean() > 0.995


@needs_open3d
def test_estimated_normals_do_not_depend_on_the_unit():
    xyz = ball(800)
    expected = np.abs(np.einsum("ij,ij->i", estimate_normals(xyz), xyz))
    for scale, shift in ((1e-9, 0), (1e9, 0), (1.0, 1e5)):
        found = np.abs(np.einsum("ij,ij->i", estimate_normals(xyz * scale + shift), xyz))
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_error_without_open3d_names_the_packages(monkeypatch):
    real = builtins.__import__

    def broken(name, *args, **kwargs):
        if name == "open3d":
            raise OSError("libusb-1.0.so.0: cannot open shared object file")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(UserError, match=r"libusb-1\.0-0 libgl1 libegl1 libx11-6 libgomp1"):
        prepare(raw_ball(normals=False), VIEWS)
    assert len(prepare(raw_ball(), VIEWS)) == 500  # a cloud with normals needs no Open3D


def test_a_photo_sees_only_the_near_side():
    xyz = ball(3000).astype(np.float32)
    matrix = looking_at_origin(0.3)
    index, depth = visible(xyz, lens(), matrix)
    centre = -matrix[:3, :3].T @ matrix[:3, 3]
    facing = np.einsum("ij,ij->i", xyz, centre - xyz) > 0
    # The depth map is coarse (four points in a cell), so the silhouette is uncertain by the width of a cell.
    assert facing[index].mean() > 0.95 and np.isin(np.flatnonzero(facing), index).mean() > 0.85
    np.testing.assert_allclose(depth, (xyz @ matrix[:3, :3].T + matrix[:3, 3])[index, 2], rtol=1e-5)


def test_each_point_keeps_its_confidence_unknown_ones_included(tmp_path):
    raw = raw_ball()
    confidence = np.linspace(0, 1, len(raw.xyz), dtype=np.float32)
    confidence[::7] = np.nan
    known = dict(zip(map(tuple, raw.xyz.astype(np.float32)), confidence, strict=True))
    cloud = prepare(dataclasses.replace(raw, confidence=confidence), VIEWS)
    ply, stored = tmp_path / "a.ply", tmp_path / "points.safetensors"
    write_ply(ply, cloud.xyz, cloud.normals, cloud.colors, cloud.confidence)
    save_prepared(cloud, stored, ply)
    for points in (cloud, thinned(cloud, 100), load_prepared(stored, ply), read_ply(ply)):
        expected = [known[tuple(row)] for row in points.xyz.astype(np.float32)]
        np.testing.assert_array_equal(points.confidence, np.float32(expected))


def test_a_prepared_cloud_is_loaded_only_for_its_own_ply_file(tmp_path):
    cloud = prepare(raw_ball(), VIEWS)
    ply, stored = tmp_path / "a.ply", tmp_path / "points.safetensors"
    write_ply(ply, cloud.xyz, cloud.normals, cloud.colors)
    assert load_prepared(stored, ply) is None
    save_prepared(cloud, stored, ply)
    loaded = load_prepared(stored, ply)
    for field in dataclasses.fields(cloud):
        np.testing.assert_array_equal(getattr(loaded, field.name), getattr(cloud, field.name))
    content = stored.read_bytes()
    version = f'version\\": {PREPARED_VERSION}'.encode()
    assert version in content
    for damaged in (
        content[:-1],
        b"",
        content.replace(version, version[:-1] + b"0"),
        content[:8] + b"x" + content[9:],
    ):
        stored.write_bytes(damaged)
        assert load_prepared(stored, ply) is None
    save_prepared(dataclasses.replace(cloud, radius=cloud.radius * np.float32(np.nan)), stored, ply)
    assert load_prepared(stored, ply) is None
    save_prepared(dataclasses.replace(cloud, radius=cloud.radius[:-1]), stored, ply)
    assert load_prepared(stored, ply) is None
    stored.write_bytes(content)
    data = bytearray(ply.read_bytes())
    data[-1] ^= 1  # same size, different content
    ply.write_bytes(data)
    assert load_prepared(stored, ply) is None


def test_a_thinned_cloud_is_spread_evenly_and_its_radii_fit():
    random = np.random.default_rng(3)
    xyz = random.random((20_000, 3)).astype(np.float32)
    radius = np.full(len(xyz), 0.04, np.float32)
    colors = (xyz * 255).astype(np.uint8)
    whole = order(xyz, xyz, colors, radius, seed=1)
    few = thinned(whole, 5_000)
    assert len(few) == 5_000 and len({tuple(row) for row in few.xyz} - {tuple(row) for row in xyz}) == 0
    np.testing.assert_array_equal(few.normals, few.xyz)
    np.testing.assert_array_equal(few.colors, (few.xyz * 255).astype(np.uint8))
    np.testing.assert_allclose(few.radius, 0.08, rtol=1e-6)  # a quarter of the points on the same surface
    octants = np.bincount((few.xyz > 0.5) @ [1, 2, 4], minlength=8)
    assert octants.min() > 500
    # U of a cloud that had so few points from the start.
    uniform = np.sort((few.radius / few.lod_radius) ** 2)
    assert np.abs(uniform - np.linspace(0, 1, 5_000)).max() < 0.03
    blocks = [few.lod_radius[start : start + 256] for start in range(0, 5_000, 256)]
    assert all((np.diff(block) <= 0).all() for block in blocks)
