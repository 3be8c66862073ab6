"""Writing images: 8-bit pixels and depth images, PNG, JPEG, linear EXR, and videos."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from adop.files import write_atomically

VIDEO_ENDINGS = (".mp4", ".mov", ".webm", ".gif")
Append = Callable[[np.ndarray], None]


def to_uint8(image: Tensor) -> np.ndarray:
    """Return an image [3, H, W] in [0, 1] as pixels [H, W, 3] uint8."""
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def depth_picture(depth: np.ndarray) -> np.ndarray:
    """Return a depth map [H, W] as grey pixels [H, W] uint8, near bright and far dark, linear in 1/depth.

    Pixels without depth (+inf) are black. The grey values span the 1st to the 99th percentile of 1/depth.
    """
    known = np.isfinite(depth)
    if not known.any():
        return np.zeros(depth.shape, np.uint8)
    inverse = np.where(known, 1 / np.maximum(depth, 1e-9), 0)
    low, high = np.percentile(inverse[known], [1, 99])
    scaled = 40 + 215 * np.clip((inverse - low) / max(high - low, 1e-12), 0, 1)
    return np.where(known, scaled, 0).astype(np.uint8)


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Write pixels [H, W, 3] or [H, W] uint8 as a PNG file."""
    write_atomically(path, lambda temporary: Image.fromarray(pixels).save(temporary, format="PNG"))


def save_exr(path: Path, channels: dict[str, np.ndarray]) -> None:
    """Write channels as a float32 EXR file: "RGB" of [H, W, 3] and/or "Z" of [H, W]."""
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    parts = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in channels.items()}
    write_atomically(path, lambda temporary: OpenEXR.File(header, parts).write(str(temporary)))


def save_jpeg(path: Path, pixels: np.ndarray) -> None:
    """Write pixels [H, W, 3] uint8 as a JPEG file of high quality."""
    write_atomically(
        path,
        lambda temporary: Image.fromarray(pixels).save(temporary, format="JPEG", quality=95, subsampling=0),
    )


@contextmanager
def video_writer(path: Path, rate: float) -> Iterator[Append]:
    """Yield a function that appends a frame [H, W, 3] uint8 to a video of `rate` frames a second.

    The path's ending, one of `VIDEO_ENDINGS`, chooses the kind of file. The file appears when the context ends without
    an error. Odd sides lose their last row or column, which video codecs cannot hold.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix.lower()}")
    try:
        with _gif(temporary, rate) if temporary.suffix == ".gif" else _video(temporary, rate) as append:
            yield append
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _video(path: Path, rate: float) -> Iterator[Append]:
    import imageio.v3 as iio

    with iio.imopen(path, "w", plugin="pyav") as file:
        codec = "libvpx-vp9" if path.suffix == ".webm" else "libx264"
        file.init_video_stream(codec, fps=broadcast_rate(rate), pixel_format="yuv420p")

        def append(frame: np.ndarray) -> None:
            height, width = (n - n % 2 for n in frame.shape[:2])
            file.write_frame(np.ascontiguousarray(frame[:height, :width]))

        yield append


@contextmanager
def _gif(path: Path, rate: float) -> Iterator[Append]:
    frames: list[Image.Image] = []
    yield lambda frame: frames.append(Image.fromarray(frame).quantize(dither=Image.Dither.FLOYDSTEINBERG))
    if frames:
        # Browsers show times below 20 ms as 100 ms.
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=max(20, 1000 / rate), loop=0)


def broadcast_rate(rate: float) -> float:
    """Return the exact frame rate that 23.976, 29.97 or 59.94 stands for; other rates are returned as they are."""
    exact = round(rate * 1.001) / 1.001
    return exact if round(exact, 2) == round(rate, 2) and rate != round(rate) else rate
