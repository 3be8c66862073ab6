"""What `adop render` writes, by the ending of its output, and the options that it refuses."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from adop.cli.render import NOT_WITH, RenderOptions, _all_options, render_command
from adop.errors import UserError


def render(*words: object) -> int:
    return render_command("adop render", [str(word) for word in words])


def test_a_photo_is_written_as_its_name_says_and_as_wide_as_asked(trained_folder: Path, tmp_path: Path):
    words = (trained_folder, "--photo", "5", "--no-antialias", "--device", "cpu", "--output")
    assert render(*words, tmp_path / "view.jpg", "--width", 100) == 0
    assert render(*words, tmp_path / "view.png") == 0
    with Image.open(tmp_path / "view.jpg") as small, Image.open(tmp_path / "view.png") as large:
        assert (small.format, small.width, large.format) == ("JPEG", 100, "PNG")
        assert small.height == round(large.height * 100 / large.width)
        shrunk = np.asarray(large.resize(small.size, Image.Resampling.BOX)).astype(float)
        error = np.abs(np.asarray(small) - shrunk).mean()
        assert error < 16 and error < 0.5 * np.abs(np.asarray(small)[:, ::-1] - shrunk).mean()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["view.jpg", "view.png"]


QUICK = ("--no-antialias", "--device", "cpu", "--exposure", "scene", "--seconds", "0.1", "--rate", "29.97")


def test_paths_that_the_photos_suggest_become_videos_and_animations(
    trained_folder: Path, tmp_path: Path, capsys
):
    words = (trained_folder, *QUICK, "--width", "61", "--output")
    assert render(*words, tmp_path / "a.mov", "--turntable", "--codec", "prores") == 0
    assert "of 360 degrees" in capsys.readouterr().out  # the demo's photos cover an arc
    assert render(*words, tmp_path / "b.webp", "--interpolate", "1", "4", "2", "--quality", "50") == 0
    assert render(*words, tmp_path / "c.mp4", "--spiral", "--stereo", "0.03", "--bits", "10") == 0
    with av.open(str(tmp_path / "a.mov")) as prores, av.open(str(tmp_path / "c.mp4")) as pair:
        assert prores.streams.video[0].codec_context.name == "prores"
        assert pair.streams.video[0].codec_context.pix_fmt == "yuv420p10le"
        assert [(f.width, f.height) for f in pair.decode(video=0)] == [(120, 46)] * 3  # two eyes of 60
        assert [(f.width, f.height) for f in prores.decode(video=0)] == [(60, 46)] * 3
    with Image.open(tmp_path / "b.webp") as animation:
        assert animation.n_frames == 3 and animation.size == (60, 46)  # type: ignore[attr-defined]


def test_a_panorama_of_a_photo_says_that_it_is_one(trained_folder: Path, tmp_path: Path):
    words = (trained_folder, "--photo", "5", "--no-antialias", "--device", "cpu", "--output")
    panorama = ("--projection", "equirectangular", "--width", "130", "--formats", "png", "jpg", "depth")
    assert render(*words, tmp_path / "all.png", *panorama) == 0
    for name in ("all.png", "all.jpg"):
        with Image.open(tmp_path / name) as image:
            assert image.size == (128, 64)
            xmp = image.info.get("xmp") or image.info["XML:com.adobe.xmp"].encode()
        assert b'ProjectionType="equirectangular"' in xmp
    with Image.open(tmp_path / "all_depth.png") as depth:
        assert depth.mode == "I;16" and float(depth.text["far"]) > float(depth.text["near"]) > 0  # type: ignore[attr-defined]
    assert render(*words, tmp_path / "round.png", "--projection", "fisheye", "--width", "64") == 0
    with Image.open(tmp_path / "round.png") as image:
        pixels = np.asarray(image)
        assert image.size == (64, 64) and "XML:com.adobe.xmp" not in image.info
    assert pixels[32, 32].any() and not pixels[0, 0].any()


def test_a_perspective_view_of_a_photo_is_the_photos_without_its_distortion(
    trained_folder: Path, tmp_path: Path
):
    words = (trained_folder, "--photo", "5", "--no-antialias", "--device", "cpu", "--width", "96", "--output")
    assert render(*words, tmp_path / "lens.png") == 0
    assert render(*words, tmp_path / "pinhole.png", "--projection", "perspective") == 0
    assert render(*words, tmp_path / "pair.png", "--stereo", "0.0001") == 0
    lens, pinhole, pair = (
        np.asarray(Image.open(tmp_path / f"{n}.png")).astype(float) for n in ("lens", "pinhole", "pair")
    )
    assert lens.shape == pinhole.shape and pair.shape[1] == 2 * pinhole.shape[1]
    middle = (slice(20, 52), slice(30, 66))
    error, mirrored = (np.abs(lens[middle] - other[middle]).mean() for other in (pinhole, pinhole[:, ::-1]))
    assert error < 0.6 * mirrored
    assert np.abs(pair[:, :96] - pinhole).mean() < 1 and np.abs(pair[:, 96:] - pinhole).mean() < 1


PANORAMA = ("--path", "--projection", "equirectangular", "--output", "a.mp4")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--photo", "5", "--output", "walk.mp4"), "is not written as .mp4; choose .png, .jpg, .exr"),
        (("--photo", "5", "--output", "view.tif"), "is not written as .tif"),
        (("--path", "--output", "view.png"), "not written as .png; choose .mp4, .mov, .webm, .gif, .webp"),
        (("--path", "--output", "walk.avi"), "is not written as .avi"),
        (("--path", "--output", "walk.mp4", "--formats", "exr"), "--formats changes nothing with a video"),
        (("--photo", "5", "--output", "a.png", "--exposure", "1"), "--exposure changes nothing with --photo"),
        (("--photo", "5", "--output", "a.png", "--rate", "30"), "--rate changes nothing with --photo"),
        (("--photo", "5", "--output", "a.jpg", "--quality", "9"), "--quality changes nothing with --photo"),
        (
            ("--cameras", "x.json", "--output", "a", "--seconds", "3"),
            "--seconds changes nothing with --cameras",
        ),
        (("--path", "--output", "a", "--codec", "h264"), "--codec changes nothing with images"),
        (
            ("--path", "--output", "a", "--field-of-view", "90"),
            "--field-of-view changes nothing with --projection p",
        ),
        ((*PANORAMA, "--vignette"), "--vignette changes nothing with --projection equirectangular"),
        ((*PANORAMA, "--stereo", "0.1"), "--stereo changes nothing with --projection equirectangular"),
        (("--path", "--output", "a.mp4", "--codec", "prores"), "prores is written as .mov, not as .mp4"),
        (("--turntable", "--output", "a.gif", "--quality", "9"), "--quality changes nothing in .gif"),
        (("--interpolate", "5", "--output", "a.mp4"), "--interpolate needs two photos or more"),
        (
            ("--output", "a.png"),
            "exactly one of --photo NAME, --path, --turntable, --spiral, --interpolate NAME",
        ),
        (("--turntable", "--path", "--output", "a.mp4"), "exactly one of"),
    ],
)
def test_what_changes_nothing_or_fits_nothing_is_refused_before_the_run_is_loaded(
    words: tuple[str, ...], says: str
):
    with pytest.raises(UserError) as refused:
        render("RUN", *words)
    assert says in str(refused.value)


def test_every_option_in_the_table_is_one():
    known = {option.name for option, _ in _all_options(RenderOptions(Path("run"), Path("out")))}
    assert {name for names in NOT_WITH.values() for name in names} <= known
