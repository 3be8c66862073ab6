"""Images as the bytes that are sent to a browser: JPEG for frames, PNG and EXR for snapshots."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from adop.images.writers import save_depth_png, save_exr, to_uint8
from adop.render.views import View


def jpeg_bytes(pixels: np.ndarray, quality: int) -> bytes:
    """Return pixels [H, W, 3] uint8 as a JPEG; above a quality of 90, chroma keeps its full resolution."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality, subsampling=0 if quality > 90 else 2)
    return buffer.getvalue()


def png_bytes(view: View) -> bytes:
    """Return a view's image as the PNG that `adop render` writes."""
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(view.image)).save(buffer, format="PNG")
    return buffer.getvalue()


def exr_bytes(view: View) -> bytes:
    """Return a view's linear radiance as the EXR that `adop render` writes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "view.exr"
        save_exr(file, {"RGB": view.radiance.permute(1, 2, 0).cpu().numpy()})
        return file.read_bytes()


def depth_bytes(view: View) -> bytes:
    """Return a view's depth as the 16-bit PNG that `adop render` writes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "depth.png"
        save_depth_png(file, view.depth.cpu().numpy())
        return file.read_bytes()


SNAPSHOT_ENCODERS: dict[str, tuple[Callable[[View], bytes], str]] = {  # by kind, and how the file's name ends
    "png": (png_bytes, ".png"),
    "exr": (exr_bytes, ".exr"),
    "depth": (depth_bytes, "_depth.png"),
}
