"""The description of a scene and its warnings."""

import dataclasses
import json

import numpy as np
from PIL import Image

from adop.geometry.lens import Lens
from adop.scene.info import scene_info
from support.small_scene import small_scene


def test_a_scene_without_faults(tmp_path):
    info = scene_info(small_scene(tmp_path))
    text = str(info)
    for part in (
        "6 of 48x36",
        "EV 10.00 to 15.00, scene 12.50",
        "500 with normals and colours",
        "0.1 to the 4th neighbour (10 %",
    ):
        assert part in text
    assert info.seen_by.shape == (500,) and info.points_seen.shape == (6,)
    # From 4 radii away about 40 % of a ball is visible.
    assert 0.3 < info.points_seen.mean() / 500 < 0.5
    assert info.warnings == ("only 6 photos: expect poor views between them.",)


def test_every_fault_gets_a_warning(tmp_path):
    scene = small_scene(tmp_path)
    photos = list(scene.photos)
    Image.new("RGB", (10, 10)).save(photos[0].file)
    photos[1].file.unlink()
    photos[2] = dataclasses.replace(photos[2], exposure=None)
    photos[3] = dataclasses.replace(photos[3], world_to_camera=photos[4].world_to_camera.copy())
    facing_away = np.diag([-1.0, 1, -1, 1]) @ photos[5].world_to_camera
    photos[5] = dataclasses.replace(photos[5], world_to_camera=facing_away)
    xyz = scene.points.xyz.copy()
    xyz[7] = 1e4
    points = dataclasses.replace(scene.points, xyz=xyz, normals=None, colors=None)
    folding = dataclasses.replace(scene.lenses[0], distortion=np.array([-2.0, 0, 0, 0, 0, 0, 0, 0]))
    info = scene_info(dataclasses.replace(scene, photos=tuple(photos), points=points, lenses=(folding,)))
    for part in (
        "photo0.png is 10x10, but its lens 48x36",
        "photo1.png: photo not found",
        "1 photos have no exposure: photo2.png",
        "2 photos have the same pose as another one: photo3.png, photo4.png",
        "1 of 6 photos, sees hardly any points: photo5.png",
        "folds back",
        "very far away",
        "no normals",
        "no colours",
    ):
        assert any(part in warning for warning in info.warnings), part


def test_fisheye_lenses_unknown_exposure_and_an_offset(tmp_path):
    scene = small_scene(tmp_path)
    fisheye = Lens("fisheye", 48, 36, np.array([20.0, 20, 24, 18]), np.array([0.01, 0, 0, 0]))
    photos = tuple(dataclasses.replace(photo, exposure=None, lens=1) for photo in scene.photos)
    scene = dataclasses.replace(
        scene, lenses=(scene.lenses[0], fisheye), photos=photos, world_offset=np.array([1e6, 0, 0])
    )
    text = str(scene_info(scene))
    assert "unknown (training estimates it)" in text and "fisheye 48x36" in text and "1e+06 0 0" in text
    assert "folds" not in text


def test_photos_are_listed_with_what_is_odd_about_them(tmp_path):
    scene = small_scene(tmp_path)
    photos = list(scene.photos)
    mask = np.zeros((36, 48), np.uint8)
    mask[:, :36] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    photos[1] = dataclasses.replace(photos[1], mask=tmp_path / "mask.png")
    pose = photos[2].world_to_camera.copy()
    pose[:3, 3] *= 1000
    photos[2] = dataclasses.replace(photos[2], world_to_camera=pose)
    photos[3] = dataclasses.replace(photos[3], exposure=21.0)
    info = scene_info(dataclasses.replace(scene, photos=tuple(photos)))
    listed = json.loads(json.dumps(info.as_dict()))["photos"]
    assert [photo["name"] for photo in listed] == [photo.name for photo in photos]
    assert [photo["masked"] for photo in listed] == [0, 0.25, 0, 0, 0, 0]
    assert [photo["points_seen"] for photo in listed] == info.points_seen.tolist()
    assert "stands far from everything else" in listed[2]["odd"]
    assert listed[3]["odd"] == ["its exposure is far from the others'"] and listed[3]["exposure"] == 21
    assert [bool(photo["odd"]) for photo in listed] == [False, False, True, True, False, False]
    line = next(line for line in str(info).splitlines() if line.startswith(photos[1].name))
    assert line.split() == [photos[1].name, "48x36", "11.00", f"{info.points_seen[1]}", "25", "%"]
    assert "1 of 6 photos, stands far from everything else: photo2.png." in info.warnings
