"""Pictures on disk: PNG, linear EXR, depth, MP4."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from adop.run.checkpoint import write_atomically


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Write [H, W, 3] or [H, W] uint8."""
    write_atomically(path, lambda temporary: Image.fromarray(pixels).save(temporary, format="PNG"))


def save_exr(path: Path, channels: dict[str, np.ndarray]) -> None:
    """Write float32 channels: RGB [H, W, 3] as "RGB", depth [H, W] as "Z"."""
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    parts = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in channels.items()}
    write_atomically(path, lambda temporary: OpenEXR.File(header, parts).write(str(temporary)))


def depth_picture(depth: np.ndarray) -> np.ndarray:
    """Return [H, W] uint8 of depth [H, W]: near bright, far dark, nothing (+inf) black; even steps in 1/depth."""
    known = np.isfinite(depth)
    if not known.any():
        return np.zeros(depth.shape, np.uint8)
    inverse = np.where(known, 1 / np.maximum(depth, 1e-9), 0)
    low, high = np.percentile(inverse[known], [1, 99])
    scaled = 40 + 215 * np.clip((inverse - low) / max(high - low, 1e-12), 0, 1)
    return np.where(known, scaled, 0).astype(np.uint8)


@contextmanager
def video_writer(path: Path, rate: float) -> Iterator[Any]:
    """Yield a function that appends a frame [H, W, 3] uint8 to an H.264 MP4; the file appears when all are in."""
    import os

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
