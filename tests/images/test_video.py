"""Videos: their kind, colours, tags, rates and errors, read back by PyAV and Pillow."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from adop.errors import UserError
from adop.images.video import CODECS, Encoding, broadcast_rate, codec_of, gif_times, video_writer

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 120, 40))
PATCH = 24  # px
KINDS = [
    (".mp4", Encoding(), "h264", "yuv420p"),
    (".mov", Encoding(), "h264", "yuv420p"),
    (".webm", Encoding(), "vp9", "yuv420p"),
    (".mp4", Encoding("hevc"), "hevc", "yuv420p"),
    (".mp4", Encoding("h264", 10), "h264", "yuv420p10le"),
    (".mov", Encoding("hevc", 10), "hevc", "yuv420p10le"),
    (".mov", Encoding("prores"), "prores", "yuv422p10le"),
]


def patches() -> Tensor:
    """Return an image [3, H, W] of flat patches, with an odd row and column more than they need."""
    row = np.repeat(np.repeat(np.array([COLOURS], np.uint8), PATCH, axis=0), PATCH, axis=1)
    row = np.pad(row, ((0, 1), (0, 1), (0, 0)), mode="edge")
    return torch.from_numpy(row).permute(2, 0, 1) / 255


def write(path: Path, images: list[Tensor], rate: float = 25, encoding: Encoding | None = None) -> None:
    with video_writer(path, rate, encoding) as append:
        for image in images:
            append(image)


def to_rgb(frame: av.VideoFrame, bits: int) -> np.ndarray:
    """Return the colours [H, W, 3] in [0, 255] of a frame by the formulas of BT.709, independent of FFmpeg's."""
    planes = [
        np.frombuffer(p, np.uint8 if bits == 8 else "<u2").reshape(p.height, -1)[:, : p.width]
        for p in frame.planes
    ]
    y, cb, cr = (plane.astype(float) / 2 ** (bits - 8) for plane in planes)
    cb, cr = (np.repeat(c, y.shape[1] // c.shape[1], axis=1) for c in (cb, cr))
    cb, cr = (np.repeat(c, y.shape[0] // c.shape[0], axis=0) for c in (cb, cr))
    y, cb, cr = (y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
    red, blue = y + 1.5748 * cr, y + 1.8556 * cb
    green = (y - 0.2126 * red - 0.0722 * blue) / 0.7152
    return 255 * np.stack([red, green, blue], axis=-1)


@pytest.mark.parametrize(("ending", "encoding", "codec", "pixels"), KINDS)
def test_a_video_has_the_colours_that_its_tags_say(
    ending: str, encoding: Encoding, codec: str, pixels: str, tmp_path: Path
):
    path = tmp_path / f"walk{ending}"
    write(path, [patches()] * 3, 29.97, encoding)
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt) == (codec, pixels)
        assert stream.average_rate == Fraction(30000, 1001)
        tags = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
        assert tags == (1, 1, 1, 1)  # BT.709 three times, limited range
        if codec == "hevc":
            assert context.codec_tag == "hvc1"
        if codec == "prores":
            assert stream.profile == "HQ"
        frames = list(file.decode(stream))
    assert [(frame.height, frame.width) for frame in frames] == [(PATCH, len(COLOURS) * PATCH)] * 3
    seen = to_rgb(frames[1], 10 if pixels.endswith("10le") else 8)
    as_players_do = frames[1].to_ndarray(format="rgb24").astype(float)
    for number, colour in enumerate(COLOURS):
        middle = (slice(8, -8), slice(number * PATCH + 8, (number + 1) * PATCH - 8))
        assert np.abs(seen[middle].mean((0, 1)) - colour).max() < 2.5, colour
        # Players round by themselves; other tags than the frames' would be off by 20 and more.
        assert np.abs(as_players_do[middle].mean((0, 1)) - colour).max() < 6, colour


def test_ten_bits_keep_steps_that_eight_lose(tmp_path: Path):
    ramp = torch.linspace(0.4, 0.45, 128).expand(3, 64, 128).contiguous()
    levels = {}
    for bits in (8, 10):
        write(tmp_path / f"{bits}.mp4", [ramp], encoding=Encoding("h264", bits, 100))
        with av.open(str(tmp_path / f"{bits}.mp4")) as file:
            frame = next(file.decode(video=0))
        plane = frame.planes[0]
        y = np.frombuffer(plane, np.uint8 if bits == 8 else "<u2").reshape(plane.height, -1)[:, : plane.width]
        levels[bits] = len(np.unique(y.mean(0).round()))
    assert levels[10] > 2.5 * levels[8]


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".webp", ".mov"])
def test_quality_decides_size_and_error(ending: str, tmp_path: Path):
    noise = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.3
    codec = "prores" if ending == ".mov" else None
    sizes = []
    for quality in (0, 60, 100):
        write(tmp_path / f"{quality}{ending}", [noise] * 2, encoding=Encoding(codec, None, quality))
        sizes.append((tmp_path / f"{quality}{ending}").stat().st_size)
    assert sizes[0] < 0.8 * sizes[1] and sizes[1] < 0.95 * sizes[2]


@pytest.mark.parametrize(("ending", "kind"), [(".gif", "GIF"), (".webp", "WEBP")])
def test_an_animation_holds_all_frames_and_repeats(ending: str, kind: str, tmp_path: Path):
    path = tmp_path / f"walk{ending}"
    write(path, [torch.full((3, 49, 63), value / 255) for value in (30, 90, 200)], 24)
    with Image.open(path) as image:
        assert (image.format, image.n_frames, image.size) == (kind, 3, (63, 49))  # type: ignore[attr-defined]
        assert image.info["loop"] == 0
        times = []
        for number, value in enumerate((30, 90, 200)):
            image.seek(number)
            assert abs(np.asarray(image.convert("RGB")).mean() - value) < 4
            times.append(image.info["duration"])
    assert sum(times) == pytest.approx(3000 / 24, abs=10)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_times_of_a_gif_add_up():
    assert sum(gif_times(29, 29)) == 1000 and set(gif_times(29, 29)) == {30, 40}
    assert gif_times(3, 240) == [20, 20, 20]  # browsers show shorter ones too long


@pytest.mark.parametrize(
    ("rate", "exact"),
    [
        (29.97, Fraction(30000, 1001)),
        (23.976, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (25, 25),
        (12.5, Fraction(25, 2)),
        (0.1, Fraction(1, 10)),
    ],
)
def test_rates_of_broadcast_are_exact(rate: float, exact: Fraction):
    assert broadcast_rate(rate) == exact


@pytest.mark.parametrize(
    ("name", "encoding", "says"),
    [
        ("a.mp4", Encoding("prores"), "prores is written as .mov, not as .mp4"),
        ("a.webm", Encoding("h264"), "h264 is written as .mp4 or .mov, not as .webm"),
        ("a.mov", Encoding("prores", 8), "prores is written with 10 bits, not with 8"),
        ("a.webm", Encoding(bits=10), "vp9 is written with 8 bits, not with 10"),
        ("a.gif", Encoding(quality=50), "--quality changes nothing in .gif"),
        ("a.webp", Encoding(bits=8), "--codec and --bits change nothing in .webp"),
    ],
)
def test_an_encoding_that_does_not_fit_is_refused(name: str, encoding: Encoding, says: str):
    with pytest.raises(UserError, match="a") as refused:
        codec_of(Path(name), encoding)
    assert says in str(refused.value)


def test_an_encoder_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    from dataclasses import replace

    monkeypatch.setitem(CODECS, "hevc", replace(CODECS["hevc"], encoder="libnobody"))
    with pytest.raises(UserError, match="has no libnobody for yuv420p"):
        codec_of(Path("walk.mp4"), Encoding("hevc"))


def test_frames_that_a_codec_cannot_hold_are_refused_and_nothing_is_left(tmp_path: Path):
    with pytest.raises(UserError, match="cannot write frames of 17000x2 pixels"):
        write(tmp_path / "walk.mp4", [torch.zeros(3, 2, 17000)])
    with pytest.raises(RuntimeError, match="stop"), video_writer(tmp_path / "walk.mp4", 25) as append:
        append(torch.zeros(3, 32, 32))
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []
