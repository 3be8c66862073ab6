"""Photos that a capture holds out stay held out: in the scene, in the training, and whatever file says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from adop.config import TrainConfig
from adop.errors import UserError
from adop.importers.import_config import ImportConfig
from adop.importers.import_scene import import_colmap, import_nerfstudio
from adop.importers.splits import held_out_photos
from adop.run.photos.scene_photos import scene_split
from adop.scene.info import scene_info
from adop.scene.ply import write_ply
from adop.scene.read import load_scene
from support.imports import PLAIN, assert_refused, silent
from support.small_scene import ball, poses, write_colmap, write_photos


@pytest.fixture
def capture(tmp_path):
    write_photos(tmp_path / "images")
    write_ply(tmp_path / "a.ply", ball(), None, None)
    write_colmap(tmp_path / "sparse")
    return tmp_path


def frames(folder="images"):
    result = []
    for index, pose in enumerate(poses()):
        matrix = np.linalg.inv(pose) @ np.diag([1.0, -1.0, -1.0, 1.0])
        result.append({"file_path": f"./{folder}/photo{index}.png", "transform_matrix": matrix.tolist()})
    return result


def nerfstudio(folder, values, config=PLAIN, report=silent):
    (folder / "transforms.json").write_text(json.dumps({"camera_angle_x": 0.9, "frames": frames(), **values}))
    return import_nerfstudio(folder, folder / "a.ply", folder / "scene", None, config, report)


def colmap(folder, split, report=silent, **options):
    config = ImportConfig(split=split, prepare=PLAIN.prepare, **options)
    return import_colmap(folder / "sparse", folder / "images", None, folder / "scene", config, report)


def held_out(scene):
    """Return the numbers of the photos that the stored scene holds out, and of those that it has."""
    photos = load_scene(scene.folder, silent).photos
    number = {photo.name: int(photo.name[-5]) for photo in photos}
    return [number[photo.name] for photo in photos if photo.held_out], sorted(number.values())


def names(*numbers):
    return [f"images/photo{number}.png" for number in numbers]


def test_the_lists_of_a_transforms_json_hold_photos_out(capture):
    said: list[str] = []
    lists = {"train_filenames": names(0, 2, 3), "val_filenames": names(1), "test_filenames": names(1, 4)}
    scene = nerfstudio(capture, lists, report=said.append)
    assert held_out(scene) == ([1, 4], [0, 1, 2, 3, 4])
    assert "Split: 3 photos to train on, 2 held out, as the capture says." in said
    assert "Split: 1 of 6 photos are in none of its lists and were left out." in said


def test_without_a_list_to_train_on_the_other_photos_are_trained_on(capture):
    assert held_out(nerfstudio(capture, {"test_filenames": names(5)})) == ([5], [0, 1, 2, 3, 4, 5])


def test_a_split_beside_each_frame_counts(capture):
    own = frames()
    for frame, part in zip(own, ("train", "test", "train", "val", "train"), strict=False):
        frame["split"] = part
    assert held_out(nerfstudio(capture, {"frames": own})) == ([1, 3], [0, 1, 2, 3, 4])


def test_the_three_files_of_blender_are_one_scene(capture):
    for part, numbers in {"train": (0, 1, 2), "val": (3,), "test": (4, 5)}.items():
        (capture / part).mkdir()
        for number in numbers:
            (capture / "images" / f"photo{number}.png").rename(capture / part / f"photo{number}.png")
        own = [frame for number, frame in enumerate(frames(part)) if number in numbers]
        for frame in own:
            frame["file_path"] = frame["file_path"][:-4]  # Blender's names have no ending
        values = {"camera_angle_x": 0.9, "frames": own}
        (capture / f"transforms_{part}.json").write_text(json.dumps(values))
    said: list[str] = []
    scene = import_nerfstudio(capture, capture / "a.ply", capture / "scene", None, PLAIN, said.append)
    assert held_out(scene) == ([4, 5, 3], [0, 1, 2, 3, 4, 5])
    assert len(scene.lenses) == 1 and "Split: 3 photos to train on, 3 held out, as the capture says." in said
    for photo in scene.photos:
        np.testing.assert_allclose(photo.world_to_camera, poses()[int(photo.name[-5])], atol=1e-12)
    alone = import_nerfstudio(
        capture / "transforms_train.json", capture / "a.ply", capture / "other", None, PLAIN, silent
    )
    assert len(alone.photos) == 3 and all(photo.held_out is None for photo in alone.photos)


def test_lists_in_text_files_hold_photos_out(capture):
    lists = capture / "lists"
    lists.mkdir()
    (lists / "test.txt").write_text("# held out\nphoto1.png\n\n/data/images/PHOTO3.PNG\r\nphoto4\n")
    assert held_out(colmap(capture, lists)) == ([1, 3, 4], [0, 1, 2, 3, 4, 5])
    (lists / "train.txt").write_text("photo0.png\nphoto2.png\n")
    said: list[str] = []
    assert held_out(colmap(capture, lists, said.append, force=True)) == ([1, 3, 4], [0, 1, 2, 3, 4])
    assert "Split: 1 of 6 photos are in none of its lists and were left out." in said
    assert held_out(colmap(capture, lists / "test.txt", force=True)) == ([1, 3, 4], [0, 1, 2, 3, 4, 5])


def test_lists_in_text_files_replace_those_of_the_json(capture):
    (capture / "test.txt").write_text("photo0.png\n")
    config = ImportConfig(split=capture / "test.txt", prepare=PLAIN.prepare)
    scene = nerfstudio(capture, {"train_filenames": ["nowhere.png"], "test_filenames": names(1)}, config)
    assert held_out(scene) == ([0], [0, 1, 2, 3, 4, 5])


def test_names_of_missing_photos_in_lists_may_be_left_out(capture):
    (capture / "images" / "photo2.png").unlink()
    (capture / "test.txt").write_text("photo1.png\nphoto2.png\n")
    assert held_out(colmap(capture, capture / "test.txt", skip_missing=True)) == ([1], [0, 1, 3, 4, 5])


HOSTILE = {
    "missing": (None, r"lists: holds out no photo; --split names a folder with test\.txt"),
    "empty": ("\n# none\n", "holds out no photo"),
    "unknown": ("photo9.png\n", r"'photo9\.png' in the list test is not among the 6 photos"),
    "outside": ("../../etc/passwd\n", "is not among the 6 photos"),
    "binary": (b"\xff\0\x1b[2J\n", "in the list test is not among the 6 photos"),
    "both": ("photo0.png\n", r"'photo0\.png' is in the lists train and test; remove it from one of them"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_errors_in_lists_are_one_sentence(capture, name):
    content, expected = HOSTILE[name]
    (capture / "lists").mkdir()
    if content is not None:
        (capture / "lists" / "test.txt").write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )
    if name == "both":
        (capture / "lists" / "train.txt").write_text("photo0.png\nphoto1.png\n")
    assert_refused(lambda: colmap(capture, capture / "lists"), expected, capture)


def test_a_short_name_that_fits_two_photos_is_refused():
    photos = ["left/1.png", "right/1.png", "right/2.png"]
    assert held_out_photos({"test": ["right/1.png", "2"]}, photos, "x", False) == [False, True, True]
    with pytest.raises(
        UserError, match=r"x: '1\.png' in the list test may be 'left/1\.png' or 'right/1\.png'"
    ):
        held_out_photos({"test": ["1.png"]}, photos, "x", False)


def test_training_holds_out_what_the_scene_does_unless_it_is_told_otherwise(capture):
    plain = load_scene(colmap(capture, None).folder, silent)
    assert scene_split(plain, TrainConfig().test_every) == {"train": [1, 2, 3, 4, 5], "held_out": [0]}
    assert "as training chooses" in str(scene_info(plain))
    (capture / "test.txt").write_text("photo2.png\nphoto5.png\n")
    scene = load_scene(colmap(capture, capture / "test.txt", force=True).folder, silent)
    assert scene_split(scene, TrainConfig().test_every) == {"train": [0, 1, 3, 4], "held_out": [2, 5]}
    assert scene_split(scene, 3) == {"train": [1, 2, 4, 5], "held_out": [0, 3]}
    assert scene_split(scene, 0) == {"train": [0, 1, 2, 3, 4, 5], "held_out": []}
    assert "2 of 6 photos, by the scene's split.txt" in str(scene_info(scene))
    (scene.folder / "split.txt").write_text("test\n" * 5 + "train\n")
    with pytest.raises(UserError, match="has 6 photos, of which 5 are held out: training needs at least 2"):
        scene_split(load_scene(scene.folder, silent), None)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("test\n" * 5, r"has 5 lines, but images\.txt has 6"),
        ("train\n" * 5 + "maybe\n", r"line 6 \(photo5\.png\) must be train or test, not 'maybe'"),
    ],
)
def test_errors_in_the_split_of_a_scene_are_one_sentence(capture, text, expected):
    folder: Path = colmap(capture, None).folder
    (folder / "split.txt").write_text(text)
    with pytest.raises(UserError, match=rf"split\.txt: {expected}"):
        load_scene(folder, silent)
