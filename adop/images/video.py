"""Writing moving images: MP4, MOV and WebM videos with colours that players agree on, GIF and WebP animations."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adop.errors import UserError, one_line
from adop.images.writers import to_uint8

VIDEO_ENDINGS = (".mp4", ".mov", ".webm", ".gif", ".webp")
CodecName = Literal["h264", "hevc", "prores", "vp9"]
Append = Callable[[Tensor], None]
GOOD_QUALITY = 75
# Full-range R'G'B' in [0, 1] to Y' in [0, 1] and Cb, Cr in [-0.5, 0.5]. Source: ITU-R BT.709.
RED, GREEN, BLUE = 0.2126, 0.7152, 0.0722
BT709 = (
    (RED, GREEN, BLUE),
    (-RED / (2 - 2 * BLUE), -GREEN / (2 - 2 * BLUE), 0.5),
    (0.5, -GREEN / (2 - 2 * RED), -BLUE / (2 - 2 * RED)),
)
LIMITED_SCALE, LIMITED_OFFSET = (
    (219, 224, 224),
    (16, 128, 128),
)  # Y, Cb, Cr of limited range, in steps of 8 bits
TAG_BT709, TAG_LIMITED = 1, 1  # in FFmpeg's enumerations, as in ITU-T H.273
PRORES_PROFILES = (
    "proxy",
    "lt",
    "standard",
    "hq",
)  # of falling compression, a quarter of the quality scale each


@dataclass(frozen=True)
class Encoding:
    """How a video is encoded."""

    codec: CodecName | None = None  # None: the first that fits the file's ending
    bits: int | None = None  # per colour; None: the codec's usual number
    quality: int | None = None  # 0 (smallest file) to 100 (nothing visible lost); None: `GOOD_QUALITY`


@dataclass(frozen=True)
class Codec:
    """A video codec, as FFmpeg's encoder of it wants it."""

    encoder: str
    endings: tuple[str, ...]
    pixel_formats: dict[int, str]  # by bits, the usual number first
    options: Callable[[int], dict[str, str]]  # of a quality
    tag: str = ""  # that QuickTime expects; "": FFmpeg's own


# Constant rate factors: at the quality 75 they are what is usually called visually lossless.
CODECS: dict[CodecName, Codec] = {
    "h264": Codec(
        "libx264",
        (".mp4", ".mov"),
        {8: "yuv420p", 10: "yuv420p10le"},
        lambda quality: {"crf": f"{48 - 0.4 * quality:g}"},
    ),
    "hevc": Codec(
        "libx265",
        (".mp4", ".mov"),
        {8: "yuv420p", 10: "yuv420p10le"},
        lambda quality: {"crf": f"{51 - 0.4 * quality:g}", "x265-params": "log-level=error"},
        "hvc1",
    ),
    "prores": Codec(
        "prores_ks",
        (".mov",),
        {10: "yuv422p10le"},
        lambda quality: {"profile": PRORES_PROFILES[min(3, quality // 25)]},
    ),
    "vp9": Codec(
        "libvpx-vp9",
        (".webm",),
        {8: "yuv420p"},
        lambda quality: {"crf": f"{round(63 - 0.5 * quality)}", "b": "0"},
    ),
}


def codec_of(path: Path, encoding: Encoding) -> Codec | None:
    """Return the codec of a video, or None for an animation (.gif, .webp).

    Raises: UserError where codec, bits or quality do not fit the file's ending, or the encoder is not installed.
    """
    ending = path.suffix.lower()
    if ending in (".gif", ".webp"):
        _check_animation(path, ending, encoding)
        return None
    fitting = [name for name, codec in CODECS.items() if ending in codec.endings]
    name = encoding.codec or fitting[0]
    codec = CODECS[name]
    if name not in fitting:
        raise UserError(f"{path}: {name} is written as {' or '.join(codec.endings)}, not as {ending}")
    if encoding.bits is not None and encoding.bits not in codec.pixel_formats:
        has = " or ".join(str(bits) for bits in codec.pixel_formats)
        raise UserError(f"{path}: {name} is written with {has} bits, not with {encoding.bits}")
    _require(codec.encoder, codec.pixel_formats[_bits(codec, encoding)], path)
    return codec


def _check_animation(path: Path, ending: str, encoding: Encoding) -> None:
    if encoding.codec is not None or encoding.bits is not None:
        raise UserError(f"{path}: --codec and --bits change nothing in {ending}; leave them out")
    if ending == ".webp":
        _require("libwebp_anim", "bgra", path)
    elif encoding.quality is not None:
        raise UserError(f"{path}: --quality changes nothing in .gif; leave it out")


def _bits(codec: Codec, encoding: Encoding) -> int:
    return encoding.bits or next(iter(codec.pixel_formats))


def _require(encoder: str, pixel_format: str, path: Path) -> None:
    """Raise UserError where PyAV's FFmpeg lacks an encoder, or it does not take a format of pixels."""
    import av

    try:
        formats = {known.name for known in av.codec.Codec(encoder, "w").video_formats or ()}
    except (ValueError, av.FFmpegError):  # unknown to FFmpeg, or not an encoder
        formats = set()
    if pixel_format not in formats:
        raise UserError(
            f"{path}: the FFmpeg of the installed PyAV cannot write it, as it has no {encoder} for {pixel_format}; "
            "choose another --codec, --bits or ending"
        )


@contextmanager
def video_writer(path: Path, rate: float, encoding: Encoding | None = None) -> Iterator[Append]:
    """Yield a function that appends a frame [3, H, W] in [0, 1] to a video of `rate` frames a second.

    The path's ending, one of `VIDEO_ENDINGS`, chooses the kind of file, which appears when the context ends without
    an error. Videos lose the last row or column of odd sides, which codecs cannot hold. Their colours are converted by
    the matrix of BT.709 to limited range, and the file says so.

    Raises: UserError as `codec_of`, and where the codec cannot hold frames of that size.
    """
    encoding = encoding or Encoding()
    codec = codec_of(path, encoding)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix.lower()}")
    if codec is not None:
        writer = _video(temporary, broadcast_rate(rate), codec, encoding)
    elif temporary.suffix == ".gif":
        writer = _gif(temporary, rate)
    else:
        writer = _webp(temporary, broadcast_rate(rate), encoding)
    try:
        with writer as append:
            yield append
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _video(path: Path, rate: Fraction, codec: Codec, encoding: Encoding) -> Iterator[Append]:
    bits = _bits(codec, encoding)
    container = {"movflags": "+faststart"} if path.suffix in (".mp4", ".mov") else {}  # plays while it loads
    options = codec.options(_quality(encoding))
    stream = Stream(codec.encoder, codec.pixel_formats[bits], rate, options, codec.tag)
    with _encoder(path, stream, container) as encode:

        def append(image: Tensor) -> None:
            height, width = (side - side % 2 for side in image.shape[1:])
            pixels = to_ycbcr(image[:, :height, :width], bits)
            encode(pixels, "yuv444p" if bits == 8 else "yuv444p16le")

        yield append


@contextmanager
def _webp(path: Path, rate: Fraction, encoding: Encoding) -> Iterator[Append]:
    stream = Stream("libwebp_anim", "bgra", rate, {"quality": str(_quality(encoding))})
    with _encoder(path, stream, {"loop": "0"}) as encode:
        yield lambda image: encode(to_uint8(image), "rgb24")


def _quality(encoding: Encoding) -> int:
    return GOOD_QUALITY if encoding.quality is None else encoding.quality


@dataclass(frozen=True)
class Stream:
    """What FFmpeg is told about the frames of a file."""

    encoder: str
    pixel_format: str
    rate: Fraction  # frames per second
    options: dict[str, str]  # of the encoder
    tag: str = ""

    @property
    def is_ycbcr(self) -> bool:
        """Whether the frames are in Y, Cb and Cr."""
        return self.pixel_format.startswith("yuv")


@contextmanager
def _encoder(
    path: Path, stream: Stream, container: dict[str, str]
) -> Iterator[Callable[[np.ndarray, str], None]]:
    """Yield a function that encodes a frame, given its pixels and their format (as PyAV names it)."""
    import av

    output = None
    with av.open(str(path), "w", container_options=container) as file:

        def encode(pixels: np.ndarray, pixel_format: str) -> None:
            nonlocal output
            frame = av.VideoFrame.from_ndarray(pixels, format=pixel_format, channel_last=True)
            if output is None:
                output = _open_stream(file, stream, frame.width, frame.height)
            # Only chroma changes its resolution here: the pixels are of the file's colours already.
            frame = frame.reformat(format=stream.pixel_format)
            if stream.is_ycbcr:
                _tag(frame)
            file.mux(output.encode(frame))

        yield encode
        if output is not None:
            file.mux(output.encode())


def _open_stream(file: Any, stream: Stream, width: int, height: int) -> Any:
    """Return the opened video stream of a file. Raises: UserError where the encoder refuses it."""
    import av

    output = file.add_stream(stream.encoder, rate=stream.rate, options=stream.options)
    context = output.codec_context
    context.width, context.height, context.pix_fmt = width, height, stream.pixel_format
    if stream.is_ycbcr:
        _tag(context)
    if stream.tag:
        context.codec_tag = stream.tag
    try:
        context.open()
    except av.FFmpegError as error:
        raise UserError(
            f"{stream.encoder} cannot write frames of {width}x{height} pixels ({one_line(error)}); choose another "
            "--width, or images"
        ) from None
    return output


def _tag(tagged: Any) -> None:
    """Say of a codec's context, for the file, or of a frame, for ProRes, that its colours are BT.709's."""
    tagged.color_primaries = tagged.color_trc = tagged.colorspace = TAG_BT709
    tagged.color_range = TAG_LIMITED


def to_ycbcr(image: Tensor, bits: int) -> np.ndarray:
    """Return an image [3, H, W] in [0, 1] as Y, Cb, Cr [H, W, 3] of limited range, by the matrix of BT.709.

    They are uint8 for 8 `bits`, else uint16 in which the code values of more bits are the most significant ones.
    """
    matrix = image.new_tensor(BT709)
    scale, offset = (image.new_tensor(values)[:, None, None] for values in (LIMITED_SCALE, LIMITED_OFFSET))
    values = torch.einsum("ij,jhw->ihw", matrix, image.clamp(0, 1)) * scale + offset
    values = values.permute(1, 2, 0)
    if bits == 8:
        return values.round().byte().cpu().numpy()
    return (values * 256).round().int().cpu().numpy().astype(np.uint16)


@contextmanager
def _gif(path: Path, rate: float) -> Iterator[Append]:
    frames: list[Image.Image] = []

    def append(image: Tensor) -> None:
        picture = Image.fromarray(to_uint8(image))
        frames.append(picture.quantize(dither=Image.Dither.FLOYDSTEINBERG))

    yield append
    if frames:
        times = gif_times(len(frames), rate)
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0)


def gif_times(frames: int, rate: float) -> list[int]:
    """Return how long each frame of a GIF is shown, milliseconds: whole hundredths of a second that sum up right."""
    # Browsers show times below 20 ms as 100 ms.
    ends = [round(100 * frame / min(rate, 50.0)) for frame in range(frames + 1)]
    return [10 * (end - start) for start, end in itertools.pairwise(ends)]


def broadcast_rate(rate: float) -> Fraction:
    """Return the exact frame rate that 23.976, 29.97 or 59.94 stands for; other rates are returned as they are."""
    exact = Fraction(round(rate * 1.001) * 1000, 1001)
    if round(float(exact), 2) == round(rate, 2) and rate != round(rate):
        return exact
    return Fraction(rate).limit_denominator(1001)
