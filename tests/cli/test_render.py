"""What `adop render` writes, by the ending of its output, and the options that it refuses."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from adop.cli.render import render_command
from adop.errors import UserError
from adop.images.writers import broadcast_rate, video_writer


def render(*words: object) -> int:
    return render_command("adop render", [str(word) for word in words])


@pytest.mark.parametrize(
    ("ending", "container", "codec"),
    [(".mp4", "mp4", "h264"), (".mov", "mov", "h264"), (".webm", "webm", "vp9")],
)
def test_a_video_is_what_its_name_says(ending: str, container: str, codec: str, tmp_path: Path):
    frames = [np.full((49, 64, 3), value, np.uint8) for value in (30, 90, 200)]
    with video_writer(tmp_path / f"walk{ending}", 29.97) as append:
        for frame in frames:
            append(frame)
    with av.open(str(tmp_path / f"walk{ending}")) as file:
        stream = file.streams.video[0]
        assert container in file.format.name.split(",") and stream.codec_context.name == codec
        assert stream.average_rate is not None and abs(float(stream.average_rate) - 30000 / 1001) < 1e-3
        seen = [picture.to_ndarray(format="rgb24") for picture in file.decode(stream)]
    assert [picture.shape for picture in seen] == [(48, 64, 3)] * 3
    assert all(
        abs(float(got.mean()) - float(made.mean())) < 4 for got, made in zip(seen, frames, strict=True)
    )


def test_a_gif_holds_all_frames_and_repeats(tmp_path: Path):
    with video_writer(tmp_path / "walk.gif", 10) as append:
        for value in (30, 90, 200):
            append(np.full((48, 64, 3), value, np.uint8))
    with Image.open(tmp_path / "walk.gif") as image:
        assert (image.format, image.n_frames, image.info["duration"], image.info["loop"]) == (
            "GIF",
            3,
            100,
            0,
        )
        image.seek(2)
        assert abs(np.asarray(image.convert("RGB")).mean() - 200) < 4
    assert [file.name for file in tmp_path.iterdir()] == ["walk.gif"]


@pytest.mark.parametrize(
    ("rate", "exact"),
    [
        (29.97, 30000 / 1001),
        (23.976, 24000 / 1001),
        (23.98, 24000 / 1001),
        (59.94, 60000 / 1001),
        (25, 25),
        (12.5, 12.5),
    ],
)
def test_rates_of_broadcast_are_exact(rate: float, exact: float):
    assert broadcast_rate(rate) == pytest.approx(exact, abs=1e-9)


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


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--photo", "5", "--output", "walk.mp4"), "is not written as .mp4; choose .png, .jpg, .exr"),
        (("--photo", "5", "--output", "view.tif"), "is not written as .tif"),
        (("--path", "--output", "view.png"), "a path is not written as .png; choose .mp4, .mov, .webm, .gif"),
        (("--path", "--output", "walk.avi"), "is not written as .avi"),
        (("--path", "--output", "walk.mp4", "--formats", "exr"), "--formats changes nothing in a video"),
        (("--photo", "5", "--output", "a.png", "--exposure", "1"), "--exposure changes nothing with --photo"),
        (("--photo", "5", "--output", "a.png", "--rate", "30"), "--rate changes nothing with --photo"),
        (
            ("--cameras", "x.json", "--output", "a", "--seconds", "3"),
            "--seconds changes nothing with --cameras",
        ),
        (("--output", "a.png"), "exactly one of --photo NAME, --path, --cameras FILE"),
    ],
)
def test_what_changes_nothing_or_fits_nothing_is_refused(words: tuple[str, ...], says: str):
    with pytest.raises(UserError) as refused:
        render("RUN", *words)
    assert says in str(refused.value)
