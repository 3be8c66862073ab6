"""Writing images: 8-bit pixels and depth, as PNG, JPEG and linear EXR."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from adop.errors import UserError, one_line
from adop.files import write_atomically

NO_SURFACE, DEEPEST = 0, 65535  # values of a depth PNG
DEPTH_TEXT = {  # of a depth PNG, besides its `near` and `far`
    "unit": "scene units",
    "no surface": str(NO_SURFACE),
    "depth": f"near + (value - 1) / {DEEPEST - 1} * (far - near), for values of 1 or more",
    "meaning": "camera z; of fisheye, omnidirectional and equirectangular views the distance from the camera centre",
}
# Of photos of 360 by 180 degrees; viewers of panoramas look for it. Source: Google's Photo Sphere XMP metadata.
PANORAMA_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:GPano="http://ns.google.com/photos/1.0/panorama/"'
    ' GPano:ProjectionType="equirectangular" GPano:UsePanoramaViewer="True"'
    ' GPano:FullPanoWidthPixels="{width}" GPano:FullPanoHeightPixels="{height}"'
    ' GPano:CroppedAreaImageWidthPixels="{width}" GPano:CroppedAreaImageHeightPixels="{height}"'
    ' GPano:CroppedAreaLeftPixels="0" GPano:CroppedAreaTopPixels="0"/></rdf:RDF></x:xmpmeta>'
)


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


def save_png(path: Path, pixels: np.ndarray, panorama: bool = False) -> None:
    """Write pixels [H, W, 3] or [H, W] uint8 as a PNG file.

    Args: panorama: tell viewers that it is equirectangular, 360 by 180 degrees.
    """
    info = PngInfo()
    if panorama:
        info.add_itxt("XML:com.adobe.xmp", panorama_xmp(pixels))
    _write_png(path, pixels, info)


def panorama_xmp(pixels: np.ndarray) -> str:
    """Return the XMP metadata of a panorama [H, W, 3] of 360 by 180 degrees."""
    return PANORAMA_XMP.format(height=pixels.shape[0], width=pixels.shape[1])


def save_depth_png(path: Path, depth: np.ndarray) -> None:
    """Write depth [H, W] as a 16-bit PNG file; `+inf`, where there is no surface, becomes 0.

    The values 1 to 65535 span the nearest to the farthest surface evenly. These are `near` and `far` in the file's
    text, beside `DEPTH_TEXT`.
    """
    known = np.isfinite(depth)
    near, far = (float(f(depth[known])) if known.any() else 0.0 for f in (np.min, np.max))
    share = (np.where(known, depth, near).astype(np.float64) - near) / max(far - near, 1e-30)
    values = np.where(known, 1 + np.round((DEEPEST - 1) * share), NO_SURFACE).astype(np.uint16)
    info = PngInfo()
    for key, value in ({"near": repr(near), "far": repr(far)} | DEPTH_TEXT).items():
        info.add_text(key, value)
    _write_png(path, values, info)


def _write_png(path: Path, pixels: np.ndarray, info: PngInfo) -> None:
    write_atomically(path, lambda temporary: Image.fromarray(pixels).save(temporary, "PNG", pnginfo=info))


def save_exr(path: Path, channels: dict[str, np.ndarray]) -> None:
    """Write channels as a float32 EXR file: "RGB" of [H, W, 3] and/or "Z" of [H, W]."""
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    parts = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in channels.items()}
    try:
        write_atomically(path, lambda temporary: OpenEXR.File(header, parts).write(str(temporary)))
    except RuntimeError as error:  # so OpenEXR says that the disk is full
        raise UserError(f"{path}: cannot be written ({one_line(error)}); choose another place") from None


def save_jpeg(path: Path, pixels: np.ndarray, panorama: bool = False) -> None:
    """Write pixels [H, W, 3] uint8 as a JPEG file of high quality. Args: panorama: see `save_png`."""
    options = {"xmp": panorama_xmp(pixels).encode()} if panorama else {}
    image = Image.fromarray(pixels)
    write_atomically(
        path, lambda temporary: image.save(temporary, "JPEG", quality=95, subsampling=0, **options)
    )
