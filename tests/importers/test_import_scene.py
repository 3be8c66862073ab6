"""Importing COLMAP models and transforms.json files, with photos, masks and points."""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adop.errors import UserError
from adop.geometry.rigid_motion import invert_rigid
from adop.images.photo_files import read_mask, read_photo
from adop.importers.import_config import ImportConfig
from adop.importers.import_scene import import_colmap
from adop.importers.write_capture import up_vector
from adop.scene.ply import write_ply
from adop.scene.read import load_scene
from adop.scene.scene import Photo
from support.imports import PLAIN, silent
from support.small_scene import (
    HEIGHT,
    WIDTH,
    ball,
    can_import_open3d,
    lens,
    looking_at_origin,
    poses,
    write_colmap,
    write_photos,
)

SHARED = Path(__file__).resolve().parents[3] / "shared" / "scenes"


@pytest.fixture
def capture(tmp_path):
    write_photos(tmp_path / "images")
    write_ply(tmp_path / "dense.ply", ball(), ball(), None)
    write_colmap(tmp_path / "sparse" / "0")
    return tmp_path


def colmap(folder, points="dense.ply", output="scene", config=None, report=silent):
    ply = folder / points if points else None
    return import_colmap(folder / "sparse" / "0", folder / "images", ply, folder / output, config, report)


@pytest.mark.parametrize("text", [False, True])
def test_a_colmap_model_is_imported(capture, text):
    if text:
        for path in (capture / "sparse" / "0").iterdir():
            path.unlink()
        write_colmap(capture / "sparse" / "0", text=True)
    reports = []
    colmap(capture, report=reports.append)
    scene = load_scene(capture / "scene", reports.append)
    assert [photo.name for photo in scene.photos] == [f"photo{i}.png" for i in range(6)]
    for photo, matrix in zip(scene.photos, poses(), strict=True):
        np.testing.assert_allclose(photo.world_to_camera, matrix, atol=1e-12)
        assert (
            photo.exposure is None
            and photo.file.read_bytes() == (capture / "images" / photo.name).read_bytes()
        )
    np.testing.assert_allclose(scene.lenses[0].intrinsics, lens().intrinsics, rtol=1e-14)
    np.testing.assert_array_equal(scene.lenses[0].distortion, lens().distortion)
    assert len(scene.points) == 500 and 0 < scene.znear < 1 and scene.zfar > 10
    np.testing.assert_allclose(scene.up_vector, [0, -1, 0], atol=0.05)
    assert "no photo has EXIF" in reports[0]


def test_without_a_dense_cloud_the_sparse_points_are_used(capture):
    reports = []
    scene = colmap(capture, points=None, config=PLAIN, report=reports.append)
    assert len(scene.points) == 500 and "500 sparse points" in reports[0]
    np.testing.assert_array_equal(scene.points.colors[0], [1, 2, 3])


def test_exposure_comes_from_exif_or_the_table(capture):
    exif = Image.Exif()
    exif[272] = "a camera"
    exif.get_ifd(0x8769).update({33434: 0.01, 33437: 4.0, 34855: 100})
    with Image.open(capture / "images" / "photo1.png") as image:
        image.load()
        image.save(capture / "images" / "photo1.png", exif=exif)
    (capture / "exif.csv").write_text("name,ev\nphoto0.png,7\nphoto1.png,99\n")
    scene = colmap(capture, config=ImportConfig(exif=capture / "exif.csv"))
    known = [photo.exposure for photo in scene.photos]
    assert known[0] == 7 and known[1] == pytest.approx(np.log2(1600), abs=1e-4) and known[2:] == [None] * 4
    assert scene.scene_exposure == pytest.approx((7 + np.log2(1600)) / 2, abs=1e-4)
    assert [photo.exposure for photo in load_scene(scene.folder).photos] == known


def test_the_lens_is_scaled_to_smaller_photos(capture):
    write_photos(capture / "images", size=(WIDTH // 2, HEIGHT // 2))
    reports = []
    scene = colmap(capture, report=reports.append)
    assert (scene.lenses[0].width, scene.lenses[0].height) == (24, 18)
    np.testing.assert_allclose(scene.lenses[0].intrinsics, lens().intrinsics / 2)
    assert "its lens was scaled" in reports[0]


def test_photos_beyond_the_longest_side_are_shrunk(capture):
    size = (4 * WIDTH, 4 * HEIGHT)
    write_photos(capture / "images", size=size)
    exif = Image.Exif()
    exif[272] = "a camera"
    with Image.open(capture / "images" / "photo1.png") as image:
        smooth = image.crop((0, 0, 24, 18)).resize(size, Image.Resampling.BICUBIC)
    smooth.save(capture / "images" / "photo1.png", exif=exif)
    (capture / "masks").mkdir()
    counts = np.zeros(size[::-1], np.uint8)
    counts[:, : size[0] // 2 + 1] = 255
    Image.fromarray(counts).save(capture / "masks" / "photo1.png")
    reports = []
    config = ImportConfig(longest_side=128, masks=capture / "masks")
    written = colmap(capture, config=config, report=reports.append)
    assert "Photos of 192x144 are written as 128x96." in reports
    scene = load_scene(written.folder)
    assert (scene.lenses[0].width, scene.lenses[0].height) == (128, 96)
    np.testing.assert_allclose(scene.lenses[0].intrinsics, lens().intrinsics * 128 / WIDTH)
    pixels, _ = read_photo(scene.photos[1].file, (128, 96))
    whole, _ = read_photo(capture / "images" / "photo1.png", size)
    # 2 x 2 pixels of the written photo show the same part of the scene as 3 x 3 pixels of the given one.
    own, given = (p.reshape(48, k, 64, k, 3).mean((1, 3)) for p, k in ((pixels, 2), (whole, 3)))
    assert np.abs(own - given).mean() < 3 and np.abs(own - np.roll(given, 1, 1)).mean() > 6
    with Image.open(scene.photos[1].file) as image:
        assert image.getexif()[272] == "a camera"
    mask = read_mask(scene.photos[1].mask, (128, 96))
    assert mask[:, :64].all() and not mask[:, 64:].any()  # partly masked pixels do not count

    with pytest.raises(UserError, match=r"--link and --longest-side"):
        colmap(capture, output="linked", config=ImportConfig(longest_side=128, link=True))
    with pytest.raises(UserError, match=r"longest_side: expected 128 to 65536, got 5"):
        colmap(capture, output="tiny", config=ImportConfig(longest_side=5))
    grey = np.zeros(size[::-1], np.uint16)
    Image.fromarray(grey).save(capture / "images" / "photo2.png")
    with pytest.raises(UserError, match=r"photo2\.png: has more than 8 bits"):
        colmap(capture, output="deep", config=ImportConfig(longest_side=128))
    assert not any((capture / name).exists() for name in ("linked", "tiny", "deep"))


def test_photos_of_another_aspect_ratio_are_refused(capture):
    write_photos(capture / "images", count=1, size=(WIDTH, HEIGHT + 10))
    with pytest.raises(
        UserError, match=r"photo1\.png: is 48x36 pixels, but photo0\.png of the same camera is 48x46"
    ):
        colmap(capture)
    write_photos(capture / "images", size=(HEIGHT, WIDTH))
    with pytest.raises(UserError, match="36x48 pixels, its camera has 48x36"):
        colmap(capture)


def test_missing_photos_may_be_left_out(capture):
    (capture / "images" / "photo4.png").unlink()
    with pytest.raises(
        UserError, match=r"1 of 6 are missing\).*--skip-missing leaves out those that are not"
    ):
        colmap(capture)
    reports = []
    config = ImportConfig(skip_missing=True, prepare=PLAIN.prepare)
    scene = colmap(capture, config=config, report=reports.append)
    assert [photo.name for photo in scene.photos] == [f"photo{index}.png" for index in (0, 1, 2, 3, 5)]
    assert reports[0].startswith("1 of 6 photos are missing and were left out, such as ")
    for index in (0, 1, 2, 3):
        (capture / "images" / f"photo{index}.png").unlink()
    with pytest.raises(UserError, match=r"5 of 6 are missing\); an import needs at least 2 photos.*--images"):
        colmap(capture, output="other", config=config)
    assert not (capture / "other").exists()


def test_a_broken_photo_is_named_and_nothing_is_written(capture):
    path = capture / "images" / "photo4.png"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match=r"photo4\.png: cannot be read as a photo"):
        colmap(capture)
    path.unlink()
    with pytest.raises(UserError, match=r"photo4\.png: photo not found \(1 of 6 are missing\).*--images"):
        colmap(capture)
    assert not (capture / "scene").exists()


def test_errors_in_poses_name_the_photo(capture):
    matrices = poses()
    matrices[2][0, 3] = np.nan
    write_colmap(capture / "sparse" / "0", matrices=matrices)
    with pytest.raises(UserError, match=r"photo 'photo2\.png': its pose is not finite"):
        colmap(capture)
    write_colmap(capture / "sparse" / "0", text=True)
    for path in (capture / "sparse" / "0").glob("*.bin"):
        path.unlink()
    text = (capture / "sparse" / "0" / "images.txt").read_text().split("\n")
    words = text[1].split()
    for factor, fine in ((1.001, True), (3.0, False)):
        scaled = [repr(float(word) * factor) for word in words[1:5]]
        text[1] = " ".join([words[0], *scaled, *words[5:]])
        (capture / "sparse" / "0" / "images.txt").write_text("\n".join(text))
        if fine:
            scene = colmap(capture)
            np.testing.assert_allclose(scene.photos[0].world_to_camera, poses()[0], atol=1e-9)
        else:
            with pytest.raises(UserError, match=r"'photo0\.png': the rotation quaternion has length 3"):
                colmap(capture, output="other")


def test_the_output_folder_is_checked_first(capture):
    colmap(capture)
    (capture / "images" / "photo0.png").unlink()  # would be the next error
    with pytest.raises(UserError, match="--force"):
        colmap(capture)


def test_a_cloud_that_no_photo_sees_is_refused(capture):
    write_ply(capture / "far.ply", ball() + 1000.0, None, None)
    with pytest.raises(UserError, match=r"far\.ply: no photo sees any"):
        colmap(capture, "far.ply", config=PLAIN)


def test_a_scene_far_from_the_origin_is_moved_without_loss(capture):
    offset = np.array([512345.0, 4123456.0, 300.0])
    matrices = [matrix.copy() for matrix in poses()]
    for matrix in matrices:
        matrix[:3, 3] -= matrix[:3, :3] @ offset
    write_colmap(capture / "sparse" / "0", matrices=matrices, points=ball() + offset)
    reports = []
    scene = colmap(capture, points=None, config=PLAIN, report=reports.append)
    assert any("far from the origin" in text for text in reports)
    loaded = load_scene(scene.folder)
    found = loaded.points.xyz + loaded.world_offset
    np.testing.assert_allclose(
        found[np.lexsort(found.T)].mean(axis=0), (ball() + offset).mean(axis=0), atol=1e-6
    )
    assert np.abs(loaded.points.xyz).max() < 10
    near, far = invert_rigid(loaded.photos[1].world_to_camera), invert_rigid(matrices[1])
    np.testing.assert_allclose(near[:3, 3] + loaded.world_offset, far[:3, 3], atol=1e-6)


def test_masks_are_found_by_the_names_of_their_photos(capture):
    masks = capture / "masks"
    masks.mkdir()
    with pytest.raises(UserError, match="no mask for any photo"):
        colmap(capture, config=ImportConfig(masks=masks))
    Image.new("L", (WIDTH, HEIGHT)).save(masks / "photo1.png.png")
    Image.new("L", (WIDTH, HEIGHT)).save(masks / "photo2.png")
    scene = colmap(capture, config=ImportConfig(masks=masks))
    assert [photo.mask is not None for photo in scene.photos] == [False, True, True, False, False, False]


@pytest.mark.skipif(not can_import_open3d(), reason="Open3D cannot be imported here")
def test_sparse_points_get_normals(capture):
    scene = colmap(capture, points=None)
    facing = np.einsum("ij,ij->i", scene.points.normals, scene.points.xyz)
    assert (facing > 0).mean() > 0.8


def test_up_vector():
    def photos(matrices):
        return [Photo(Path("x"), 0, matrix) for matrix in matrices]

    np.testing.assert_allclose(up_vector(photos(poses())), [0, -1, 0], atol=1e-6)
    pitched = [looking_at_origin(angle, height=3.0) for angle in np.linspace(0, 2, 8)]
    np.testing.assert_allclose(up_vector(photos(pitched)), [0, -1, 0], atol=1e-6)
    down = []
    for turn in np.linspace(0, 6, 12):  # cameras look along +z, turned any way: up is -z
        matrix = np.eye(4)
        matrix[:2, :2] = [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
        down.append(matrix)
    np.testing.assert_allclose(up_vector(photos(down)), [0, 0, -1], atol=1e-6)
    assert np.isfinite(up_vector(photos([np.eye(4)]))).all()


@pytest.mark.parametrize(
    "name", ["sceaux", *(pytest.param(name, marks=pytest.mark.slow) for name in ("monstree", "caliterra"))]
)
def test_real_captures_are_imported(tmp_path, name):
    source = SHARED / name
    if not source.is_dir():
        pytest.skip("needs the captured scenes beside the repository")
    started = time.monotonic()
    config = ImportConfig(link=True)
    import_colmap(source / "sparse", source / "images", source / "dense.ply", tmp_path / name, config, silent)
    assert time.monotonic() - started < 60
    scene = load_scene(tmp_path / name)
    header = (source / "dense.ply").read_bytes()[:500].split(b"element vertex ")[1]
    assert len(scene.points) > 0.999 * int(header.split(b"\n")[0])
    table = [line.split(",") for line in (source / "exif.csv").read_text().split()[1:]]
    expected = {row[0]: float(row[4]) for row in table}
    assert all(photo.exposure == pytest.approx(expected[photo.name], abs=1e-3) for photo in scene.photos)


def test_cameras_that_stand_far_off_or_see_nothing_are_named(capture):
    images = capture / "sparse" / "0" / "images.txt"
    for path in images.parent.iterdir():
        path.unlink()
    write_colmap(images.parent, text=True)
    lines = images.read_text().splitlines()
    number = next(index for index, line in enumerate(lines) if line.split()[-1:] == ["photo3.png"])
    words = lines[number].split()
    lines[number] = " ".join([*words[:5], "0", "0", "-5000", *words[8:]])
    images.write_text("\n".join(lines) + "\n")
    reports = []
    colmap(capture, config=PLAIN, report=reports.append)
    assert "1 of 6 photos, sees hardly any points: photo3.png." in reports
    assert "1 of 6 photos, stands far from everything else: photo3.png." in reports
