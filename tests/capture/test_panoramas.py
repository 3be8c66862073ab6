"""Panoramas of 360 degrees: recognising them, cutting them into views, and placing them as rigs."""

import functools
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from adop.capture.cameras import group_cameras
from adop.capture.capture_config import CaptureConfig
from adop.capture.mapping import map_photos
from adop.capture.matching import find_features, match_photos
from adop.capture.sources.panoramas import are_panoramas, cut_views, view_rotations, view_size
from adop.capture.sources.photo_files import collect_photos
from adop.errors import UserError
from adop.importers.import_scene import import_colmap
from adop.importers.programs.colmap import read_colmap

WIDTH, HEIGHT = 800, 400
ROOM = np.array([5.0, 3.0, 4.0])  # its walls are planes of constant x, y or z, the origin is its middle
STEPS = np.array([0.0, 0.5, 1.1, 1.6])  # of the camera along a line
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" GPano:ProjectionType="equirectangular"/>'


def directions(width: int, height: int) -> np.ndarray:
    """Return the directions [H,W,3] of a panorama's pixels: x right, y down, z through its middle."""
    heading = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
    pitch = (0.5 - (np.arange(height) + 0.5) / height)[:, None] * np.pi
    x, z = np.cos(pitch) * np.sin(heading), np.cos(pitch) * np.cos(heading)
    return np.stack([x, np.broadcast_to(-np.sin(pitch), x.shape), z], axis=-1)


@functools.cache
def texture(seed: int) -> np.ndarray:
    """Return spots of many sizes [512,512,3]."""
    random = np.random.default_rng(seed)
    layers = [ndimage.gaussian_filter(random.standard_normal((512, 512, 3)), (s, s, 0)) for s in (3, 6, 14)]
    return np.clip(128 + 45 * sum(layer / layer.std() for layer in layers), 0, 255)


def panorama(centre: np.ndarray) -> Image.Image:
    """Return what a camera in the room sees."""
    rays = directions(WIDTH, HEIGHT)
    with np.errstate(divide="ignore"):
        ways = (np.sign(rays) * ROOM / 2 - centre) / rays
    axis = ways.argmin(axis=-1)
    hits = centre + rays * ways.min(axis=-1)[..., None]
    pixels = np.zeros((HEIGHT, WIDTH, 3))
    for wall in range(6):
        here = (axis == wall // 2) & ((hits[..., wall // 2] > 0) == wall % 2)
        across = np.delete(hits[here], wall // 2, axis=1) * 90 + 256
        image = texture(wall)
        pixels[here] = np.stack(
            [ndimage.map_coordinates(image[..., c], across.T, order=1) for c in range(3)], axis=1
        )
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """Return the folder of panoramas that were taken along a line."""
    folder = tmp_path_factory.mktemp("room")
    for index, step in enumerate(STEPS):
        exif = Image.Exif()
        exif.get_ifd(0x8769).update({33434: 0.01, 33437: 4.0, 34855: 100})
        image = panorama(np.array([-1.3 + step, 0.2, 0.3]))
        image.save(folder / f"{index}.jpg", quality=97, xmp=XMP, exif=exif)
    return folder


def test_panoramas_are_placed_on_their_line(room, tmp_path):
    pytest.importorskip("pycolmap")
    config, said = CaptureConfig(features=500, partners=12), []
    photos = collect_photos(room, tmp_path, config, said.append)
    assert said == ["4 panoramas were cut into 12 views of 255x255 pixels each."]
    assert photos.names[:2] == ("0/view00.jpg", "0/view01.jpg") and len(photos.names) == 48
    find_features(photos, group_cameras(photos, config), tmp_path, config, said.append)
    match_photos(photos, tmp_path, config, said.append)
    mapping = map_photos(photos, tmp_path, said.append)
    model = read_colmap(mapping.model)
    (camera,) = model.cameras.values()
    assert camera.model == "PINHOLE" and camera.params == (127.5, 127.5, 127.5, 127.5)
    assert len(model.images) == 48 and len(mapping.lenses) == 1
    scene = import_colmap(mapping.model, photos.folder, None, tmp_path / "scene", report=lambda _: None)
    assert len(scene.lenses) == 1 and all(photo.exposure is not None for photo in scene.photos)
    poses = np.stack([photo.world_to_camera for photo in scene.photos]).reshape(4, 12, 4, 4)
    centres = -np.einsum("pvji,pvj->pvi", poses[..., :3, :3], poses[..., :3, 3])
    assert np.ptp(centres, axis=1).max() < 1e-5 * np.ptp(centres)  # views of a panorama share their place
    turned = poses[:, :, :3, :3] @ poses[:, :1, :3, :3].transpose(0, 1, 3, 2)
    np.testing.assert_allclose(turned, np.broadcast_to(view_rotations(), turned.shape), atol=1e-6)
    line = centres[:, 0] - centres[:, 0].mean(axis=0)
    along = np.linalg.svd(line)[2][0]
    found = line @ along
    true = STEPS - STEPS.mean()
    scale = found @ true / (true @ true)
    assert np.abs(found / scale - true).max() < 0.005
    assert np.linalg.norm(line - np.outer(found, along), axis=1).max() / abs(scale) < 0.005


def test_views_show_the_panorama_in_their_directions():
    """The colours of the panorama are its directions."""
    pixels = (127.5 * (directions(WIDTH, HEIGHT) + 1)).round().astype(np.uint8)
    size = view_size(WIDTH)
    side = (np.arange(size) + 0.5) / (size / 2) - 1
    rays = np.stack([*np.meshgrid(side, side), np.ones((size, size))], axis=-1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    views = list(cut_views(pixels, size))
    assert len(views) == len(view_rotations()) == 12 and size == 255
    for view, rotation in zip(views, view_rotations(), strict=True):
        assert np.abs(view / 127.5 - 1 - rays @ rotation).max() < 0.015
    forward = np.stack([rotation[2] for rotation in view_rotations()])
    np.testing.assert_allclose(forward[[0, 2, 4]], [[0, 0, 1], [1, 0, 0], [0, 0, -1]], atol=1e-12)
    assert (forward[8:10, 1] < -0.7).all() and (forward[10:, 1] > 0.7).all()  # up, then down
    smaller = list(cut_views(pixels, 128))
    assert smaller[3].shape == (128, 128, 3)
    assert np.abs(views[3][1::2, 1::2].astype(int) - smaller[3][:127, :127]).max() < 6


def plain(file: Path, width: int, height: int, **options: object) -> Path:
    """Write a photo whose left and right edges differ."""
    ramp = np.linspace(0, 255, width).astype(np.uint8)
    Image.fromarray(np.broadcast_to(ramp[None, :, None], (height, width, 3)).copy()).save(file, **options)
    return file


def test_panoramas_are_told_by_their_tags_or_their_edges(room, tmp_path):
    tagged = sorted(room.glob("*.jpg"))
    assert are_panoramas(tagged, "auto") and not are_panoramas(tagged, "no")
    bare = tmp_path / "bare.png"
    Image.open(tagged[0]).save(bare)
    assert are_panoramas([bare], "auto")
    wide = plain(tmp_path / "wide.jpg", 600, 300)
    assert not are_panoramas([wide], "auto") and not are_panoramas([bare, wide], "auto")
    assert are_panoramas([wide], "yes")
    assert not are_panoramas([plain(tmp_path / "photo.jpg", 400, 300)], "auto")
    with pytest.raises(UserError, match=r"0\.jpg: is a panorama, wide\.jpg is not.*--panoramas yes or no"):
        are_panoramas([wide, tagged[0]], "auto")
    for choice, options in (("yes", {}), ("auto", {"xmp": XMP})):
        narrow = plain(tmp_path / "narrow.jpg", 500, 300, **options)
        with pytest.raises(UserError, match=r"narrow\.jpg: is not twice as wide as high"):
            are_panoramas([narrow], choice)


def test_views_are_not_cut_again(tmp_path):
    source, work = tmp_path / "in", tmp_path / "work"
    source.mkdir()
    for name in ("a.jpg", "a.png", "b.jpg"):
        plain(source / name, 600, 300)
    config = CaptureConfig(panoramas="yes")
    photos = collect_photos(source, work, config, lambda _: None)
    assert [photos.names[index] for index in (0, 12, 35)] == [
        "a.jpg/view00.jpg",
        "a.png/view00.jpg",
        "b/view11.jpg",
    ]
    assert [photos.place(index) for index in (0, 11, 12, 35)] == [0, 0, 1, 2]
    times = [file.stat().st_mtime_ns for file in photos.files]
    photos.files[13].unlink()
    os.utime(source / "b.jpg")
    collect_photos(source, work, config, lambda _: None)
    kept = [file.stat().st_mtime_ns == time for file, time in zip(photos.files, times, strict=True)]
    assert kept == [True] * 12 + [False] * 24
    (source / "b.jpg").unlink()
    with pytest.raises(UserError, match="has 2 panoramas; a scene needs at least 3"):
        collect_photos(source, work, config, lambda _: None)
    with pytest.raises(UserError, match="panoramas cannot be masked"):
        collect_photos(source, work, CaptureConfig(panoramas="yes", masks=tmp_path), lambda _: None)
