"""What the report says of photos that are blurred, badly exposed, poorly covered or left out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from adop.capture.mapping import LensFacts, Mapping, PhotoFacts
from adop.capture.report import CaptureReport, make_report, report_lines
from adop.capture.report_page import write_page
from adop.capture.sources.photo_files import CapturedPhotos
from adop.scene.read import load_scene
from adop.scene.scene import demo_scene_folder

NAMES = tuple(f"square_{index:03d}.jpg" for index in range(8))
BLURRED, WHITE, FAR_OFF, LEFT_OUT = NAMES[1], NAMES[2], NAMES[4], NAMES[7]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> CapturedPhotos:
    folder = tmp_path_factory.mktemp("photos")
    for name in NAMES:
        with Image.open(demo_scene_folder() / "images" / name) as photo:
            if name == BLURRED:
                photo = photo.filter(ImageFilter.GaussianBlur(6))
            elif name == WHITE:
                photo = photo.point(lambda value: 4 * value)
            photo.save(folder / name, quality=95)
    return CapturedPhotos(folder, NAMES, ((480, 360),) * len(NAMES))


def facts(name: str) -> PhotoFacts:
    if name == LEFT_OUT:
        return PhotoFacts(name, None, "it overlaps with no other photo", 900, 0, 0, 0, float("nan"))
    return PhotoFacts(name, 0, "", 1000, 6, 3000, 400, 0.4)


@pytest.fixture(scope="module")
def report(photos) -> CaptureReport:
    scene = load_scene(demo_scene_folder())
    chosen = [photo for photo in scene.photos if photo.name in NAMES and photo.name != LEFT_OUT]
    exposed = [replace(p, exposure=(p.exposure or 0) + 5 * (p.name == FAR_OFF)) for p in chosen]
    lens = LensFacts(7, "OPENCV", False, 576.0, 372.0)
    mapping = Mapping(Path(), (7,), tuple(map(facts, NAMES)), (lens,), 4000, 0.4, 4.2)
    return make_report(photos, mapping, replace(scene, photos=tuple(exposed)))


def remarks(report: CaptureReport) -> dict[str, str]:
    return {photo.name: "; ".join(photo.remarks) for photo in report.photos}


def test_odd_photos_are_named_and_others_are_not(report):
    said = remarks(report)
    assert said[BLURRED] == "blurred"
    assert said[WHITE].endswith("% of it is black or white")
    assert said[FAR_OFF].startswith("its EXIF exposure is +")
    assert [name for name, text in said.items() if text] == [BLURRED, WHITE, FAR_OFF]


def test_coverage_is_the_share_of_a_photo_with_points(report):
    coverage = [photo.coverage for photo in report.photos]
    assert coverage[-1] is None  # left out
    assert all(0.5 < value < 0.95 for value in coverage[:-1])  # the sky has none
    assert report.photos[-1].reprojection_error_px is None


def test_the_lines_say_what_to_do(report):
    lines = report_lines(report)
    assert lines[0] == "7 of 8 photos placed"
    assert "lens of 7 photos (OPENCV): focal length 372 px, guessed as 576 px" in lines
    assert f"{LEFT_OUT}: left out: it overlaps with no other photo" in lines
    assert "1 of 8 photos could not be placed" in "\n".join(lines)
    assert any("Leave blurred photos out" in line for line in lines)
    assert any("expose for the subject" in line for line in lines)


def test_the_page_shows_every_photo_and_escapes_names(report, photos, tmp_path):
    scene = load_scene(demo_scene_folder())
    few = replace(scene, name="<b>mine</b>", photos=scene.photos[:2])
    write_page(report, few, photos.folder, tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert "&lt;b&gt;mine&lt;/b&gt;" in page and "<b>mine</b>" not in page
    assert all(name in page for name in NAMES)
    pictures = sorted(path.name for path in (tmp_path / "photos").iterdir())
    assert len(pictures) == len(NAMES) + 2  # points of those in the scene
    with Image.open(tmp_path / "photos" / "0000_square_000_points.jpg") as picture:
        drawn = np.abs(np.asarray(picture).astype(int) - 128).max(axis=2) > 20
    assert drawn.mean() > 0.2
