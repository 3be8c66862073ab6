"""Photos are found under the names that other programs and systems gave them, and never outside their folder."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from adop.__main__ import main
from adop.errors import UserError
from adop.importers.import_config import ImportConfig
from adop.importers.import_scene import import_colmap, import_nerfstudio
from adop.importers.photo_finder import find_photos
from adop.scene.ply import write_ply
from adop.scene.read import load_scene
from adop.scene.write import save_scene
from support.imports import PLAIN, assert_refused, silent
from support.mutations import is_one_sentence
from support.small_scene import ball, poses, small_scene, write_colmap, write_photos

ELSEWHERE = ("photo1.png", "PHOTO1.PNG", "photo1", "/x/Photo1.png ", "Sub/Photo1.PNG", " sub/photo1.png")
OUTSIDE = (
    "../secret.png", "../../secret.png", "/etc/passwd", "sub/../../secret.png", "..\\secret.png", "C:/secret.png",
)  # fmt: skip
NO_NAMES = (
    "", ".", "..", "a/..", "/", "C:", "a\nb.png", "a\0.png", "\x1b[2J.png", "\u202ea.png", "\ud800.png", "x" * 600,
)  # fmt: skip
LATIN = os.fsdecode(b"caf\xe9.png")  # é in Latin-1, which is not UTF-8

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a disk that takes any bytes as a name")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "data" / "images"
    write_photos(folder, 2)
    (folder / "sub").mkdir()
    (folder / "photo1.png").rename(folder / "sub" / "photo1.png")
    write_photos(tmp_path / "outside", 1)
    write_photos(tmp_path / "data" / "outside", 1)
    (tmp_path / "outside" / "photo0.png").rename(tmp_path / "secret.png")
    (tmp_path / "data" / "outside" / "photo0.png").rename(tmp_path / "data" / "secret.png")
    return folder


def find(images, *names):
    """Return the paths found, relative to the folder, and what was said."""
    said: list[str] = []
    files = find_photos(images, names, "a.json", said.append)
    return [file.relative_to(images).as_posix() for file in files], said


@pytest.mark.parametrize(
    "name",
    [
        "sub/photo1.png", "./sub/photo1.png", ".\\sub\\photo1.png", "sub\\photo1.png", "images/sub/photo1.png",
        "../images/sub/photo1.png", "../../x/sub/photo1.png", "C:\\data\\images\\sub\\photo1.png", "C:sub\\photo1.png",
        "\\\\server\\share\\sub\\photo1.png", "\\\\?\\C:\\data\\sub\\photo1.png", "/home/x/images/sub/photo1.png",
        "sub/../sub/photo1.png", "sub/photo1", "/x/" * 300 + "sub/photo1.png",
    ],
)  # fmt: skip
def test_the_end_of_a_path_says_where_a_photo_lies(images, name):
    assert find(images, name) == (["sub/photo1.png"], [])


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_only_photo_of_a_name_is_found_and_counted(images, name):
    found, said = find(images, "photo0.png", name)
    assert found == ["photo0.png", "sub/photo1.png"]
    assert len(said) == 1 and said[0].startswith(
        "1 of 2 photos were found in another folder, or spelt otherwise, than a.json"
    )


def test_of_several_photos_the_one_whose_folders_fit_is_found(images):
    (images / "Left").mkdir()
    (images / "Left" / "photo1.png").write_bytes(b"")
    assert find(images, "x/left/PHOTO1.png", "/y/SUB/photo1.png")[0] == ["Left/photo1.png", "sub/photo1.png"]
    with pytest.raises(UserError, match=r"'photo1\.png' may be .*Left.* or .*sub.*; name a folder"):
        find(images, "photo1.png")


def test_names_that_fit_several_photos_but_for_case_are_refused(images):
    (images / "Photo0.png").write_bytes(b"")
    assert find(images, "Photo0.png", "photo0.png") == (["Photo0.png", "photo0.png"], [])
    with pytest.raises(UserError, match=r"a\.json: photo 'PHOTO0\.png' may be "):
        find(images, "PHOTO0.png")
    with pytest.raises(UserError, match=r"'photo0\.png' and '\./photo0\.png' are both"):
        find(images, "photo0.png", "./photo0.png")


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_outside_the_folder_is_found(images, name):
    assert (images / "../secret.png").is_file() and (images / "../../secret.png").is_file()
    (found,) = find_photos(images, [name], "a.json", silent)
    assert not found.exists() and Path(os.path.normpath(found)).is_relative_to(images)


@pytest.mark.parametrize("name", NO_NAMES)
def test_names_of_no_file_are_refused(images, name):
    with pytest.raises(UserError, match=r"^a\.json: ") as caught:
        find(images, name)
    assert is_one_sentence(str(caught.value), images)


@pytest.mark.parametrize("disk", [b"caf\xe9.png", "café.png".encode(), "cafe\u0301.png".encode()])
@pytest.mark.parametrize("listed", [LATIN, "café.png", "cafe\u0301.png", "CAFÉ.png"])
def test_accents_are_compared_whatever_their_encoding(images, disk, listed):
    Path(os.fsdecode(bytes(images) + b"/" + disk)).write_bytes(b"")
    said: list[str] = []
    (file,) = find_photos(images, [listed], "a.json", said.append)
    assert os.fsencode(file.name) == disk and len(said) == (os.fsdecode(disk) != listed)


@pytest.fixture
def odd(tmp_path):
    """A folder of six photos under odd names, and these names."""
    files = write_photos(tmp_path / "images")
    names = [LATIN, "café.png", " blank .png ", "12:30.png", "a\\b.png", "C:d.png"]
    for file, name in zip(files, names, strict=True):
        os.rename(file, os.fsencode(tmp_path / "images") + b"/" + os.fsencode(name))
    return names


LISTED = {LATIN: "café_2.png", "café.png": "café.png", " blank .png ": "blank .png", "12:30.png": "12:30.png",
          "a\\b.png": "a_b.png", "C:d.png": "C_d.png"}  # fmt: skip


def check_scene(scene, odd, folder, said):
    photos = {photo.name: photo for photo in scene.photos}
    assert photos.keys() == set(LISTED.values())
    for index, name in enumerate(odd):
        given = Path(os.fsdecode(os.fsencode(folder / "images") + b"/" + os.fsencode(name)))
        assert photos[LISTED[name]].file.read_bytes() == given.read_bytes()
        assert photos[LISTED[name]].world_to_camera == pytest.approx(poses()[index])
    assert [photo.name for photo in load_scene(scene.folder, silent).photos] == [p.name for p in scene.photos]
    assert sum("4 of 6 photos have names that a scene cannot list" in text for text in said) == 1
    "\n".join(said).encode()  # so that it can be printed


@pytest.mark.parametrize("text", [False, True])
def test_odd_names_are_imported_from_colmap(tmp_path, odd, text):
    listed = [name.strip() if text else name for name in odd]  # as if an editor had removed the blanks
    plain = [f"photo{index}.png" for index in range(6)]
    model = write_colmap(tmp_path / "sparse", text, plain)
    file = model / ("images.txt" if text else "images.bin")
    content = file.read_bytes()
    for short, name in zip(plain, listed, strict=True):
        content = content.replace(short.encode(), os.fsencode(name))
    file.write_bytes(content)
    said: list[str] = []
    scene = import_colmap(model, tmp_path / "images", None, tmp_path / "scene", PLAIN, said.append)
    check_scene(scene, odd, tmp_path, said)


@pytest.mark.parametrize("raw", [False, True])
def test_odd_names_are_imported_from_a_transforms_json(tmp_path, odd, raw):
    """The bytes of a name are in the file as they are, or as the escapes that json.dump makes of `os.fsdecode`."""
    frames = []
    for name, pose in zip(odd, poses(), strict=True):
        matrix = np.linalg.inv(pose) @ np.diag([1.0, -1.0, -1.0, 1.0])
        frames.append({"file_path": f"images/{name}", "transform_matrix": matrix.tolist()})
    text = json.dumps({"camera_angle_x": 0.9, "frames": frames}, ensure_ascii=not raw)
    (tmp_path / "transforms.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    said: list[str] = []
    write_ply(tmp_path / "a.ply", ball(), None, None)
    scene = import_nerfstudio(tmp_path, tmp_path / "a.ply", tmp_path / "scene", None, PLAIN, said.append)
    check_scene(scene, odd, tmp_path, said)
    linked = ImportConfig(link=True, force=True, prepare=PLAIN.prepare)
    scene = import_nerfstudio(tmp_path, tmp_path / "a.ply", tmp_path / "scene", None, linked, said.append)
    assert len(load_scene(scene.folder, silent).photos) == 6


def test_a_scene_may_list_names_that_are_not_utf_8(tmp_path):
    scene = save_scene(small_scene(tmp_path / "photos"), tmp_path / "scene")
    names = [b"caf\xe9.png", *(b"photo%d.png" % index for index in range(1, 6))]
    for table in ("images.txt", "masks.txt"):
        (scene.folder / table).write_bytes(b"\n".join(names))
    (scene.folder / "masks").mkdir()
    for photo, name in zip(scene.photos, names, strict=True):
        content = photo.file.read_bytes()
        for folder in ("images", "masks"):
            (scene.folder / folder / os.fsdecode(name)).write_bytes(content)
    loaded = load_scene(scene.folder, silent)
    assert [photo.name for photo in loaded.photos][:2] == ["café.png", "photo1.png"]
    assert os.fsencode(loaded.photos[0].file.name) == b"caf\xe9.png"
    again = save_scene(loaded, tmp_path / "again")
    assert load_scene(again.folder, silent).photos[0].name == "café.png"
    os.remove(loaded.photos[0].file)
    with pytest.raises(UserError, match=r"caf\\udce9\.png: photo not found \(1 of 6"):
        load_scene(scene.folder, silent)


def test_a_missing_photo_whose_name_is_not_utf_8_can_be_named(tmp_path):
    write_photos(tmp_path / "images")
    names = [LATIN, *(f"photo{index}.png" for index in range(1, 6))]
    model = write_colmap(tmp_path / "sparse", False, ["long.png", *names[1:]])
    file = model / "images.bin"
    file.write_bytes(file.read_bytes().replace(b"long.png", b"caf\xe9.png"))

    def run(config=PLAIN, report=silent):
        return import_colmap(model, tmp_path / "images", None, tmp_path / "scene", config, report)

    assert_refused(run, r"caf\\udce9\.png: photo not found", tmp_path)
    said: list[str] = []
    run(ImportConfig(skip_missing=True, prepare=PLAIN.prepare), said.append)
    assert any("such as" in text and "caf\\udce9.png" in text for text in said) and "\n".join(said).encode()


def test_names_that_the_terminal_cannot_show_are_printed_with_escapes(tmp_path, monkeypatch):
    folder = tmp_path / os.fsdecode(b"sc\xe9ne")
    write_photos(tmp_path / "images")
    write_colmap(tmp_path / "sparse")
    words = ["import", "colmap", str(tmp_path / "sparse"), "--images", str(tmp_path / "images")]
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "argv", ["adop", *words, "--output", str(folder), "--prepare.no-normals"])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii", write_through=True))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0 and b"sc\\udce9ne: 6 photos, 500 points" in printed.getvalue()
    assert len(load_scene(folder, silent).photos) == 6
