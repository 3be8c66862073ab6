"""Writing images: 8-bit pixels and depth images, PNG, linear EXR, and MP4 files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from adop.files import write_atomically


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


@contextmanager
def video_writer(path: Path, rate: float) -> Iterator[Any]:
    """Yield a function that appends a frame [H, W, 3] uint8 to an H.264 MP4 file of `rate` frames a second.

    The file appears at `path` when the context ends without an error. Odd sides lose their last row or column, which
    H.264 cannot hold.
    """
    import imageio.v3 as iio

    temporary = path.with_name(f".{path.stem}.{os.getpid()}.mp4")
    try:
        with iio.imopen(temporary, "w", plugin="pyav") as file:
            file.init_video_stream("libx264", fps=round(rate))

            def append(frame: np.ndarray) -> None:
                height, width = (n - n % 2 for n in frame.shape[:2])
                file.write_frame(np.ascontiguousarray(frame[:height, :width]))

            yield append
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
