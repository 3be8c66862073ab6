"""Brown's lens model with four radial coefficients, as Metashape and RealityScan write it, as our `opencv` lens.

Both apply it from undistorted to distorted coordinates, as OpenCV does, and swap OpenCV's tangential coefficients:

    x' = x (1 + k1 r² + k2 r⁴ + k3 r⁶ + k4 r⁸) + t1 (r² + 2 x²) + 2 t2 x y
    y' = y (1 + k1 r² + k2 r⁴ + k3 r⁶ + k4 r⁸) + t2 (r² + 2 y²) + 2 t1 x y

Source: the manual of Metashape Professional 2.3, appendix on camera models (P1, P2); RealityScan's export formats, which
give t2, t1 where OpenCV expects p1, p2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adop.errors import UserError
from adop.geometry.lens import Lens

MAX_FIT_ERROR_PX = 0.1  # of a fitted k4, anywhere in the photo
_GOOD_FIT_PX = 0.01  # below which no further term is added
_LARGEST_RADIUS = 8.0  # tan of the angle from the axis, 83 degrees


def brown_lens(
    size: tuple[int, int],
    intrinsics: Sequence[float],
    radial: Sequence[float],
    tangential: Sequence[float],
    where: str,
) -> tuple[Lens, float]:
    """Return the lens of Brown's model, and by how many pixels it deviates from it: 0 unless k4 had to be fitted.

    OpenCV has no r⁸. Where k4 is not 0, OpenCV's rational radial term is fitted to the polynomial over the photo.

    Args:
        size: width and height in pixels.
        intrinsics: fx fy cx cy in pixels; the centre of the first pixel is at (0.5, 0.5).
        radial: k1 k2 k3 k4.
        tangential: t1 t2 as above.
        where: what the error begins with.

    Raises: UserError for impossible numbers and for a k4 that cannot be fitted to `MAX_FIT_ERROR_PX`.
    """
    t1, t2 = tangential
    error_px = 0.0
    k1, k2, k3, k4 = radial
    distortion = [k1, k2, t2, t1, k3, 0.0, 0.0, 0.0]
    if k4 != 0 and np.isfinite([*intrinsics, *radial]).all() and min(intrinsics[:2]) > 0:
        fitted, error_px = _fit_radial(size, np.asarray(intrinsics, np.float64), np.asarray(radial))
        if not error_px <= MAX_FIT_ERROR_PX:
            raise UserError(
                f"{where}: k4 = {k4:g} multiplies r^8, which adop's lenses cannot follow here (they miss {error_px:.2g} "
                "pixels); estimate the lens without k4, or export undistorted photos."
            )
        distortion = [*fitted[:2], t2, t1, *fitted[2:]]
    try:
        return Lens("opencv", *size, np.array(intrinsics), np.array(distortion)), error_px
    except ValueError as error:
        raise UserError(f"{where}: {error}.") from error


def corner_radius(size: tuple[int, int], intrinsics: Sequence[float] | np.ndarray) -> float:
    """Return the largest distance |(x', y')| of a photo's corners from the principal point, in focal lengths."""
    fx, fy, cx, cy = np.asarray(intrinsics, np.float64)
    with np.errstate(all="ignore"):
        return float(np.hypot(max(cx, size[0] - cx) / fx, max(cy, size[1] - cy) / fy))


def _fit_radial(
    size: tuple[int, int], intrinsics: np.ndarray, radial: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return k1 k2 k3 k4 k5 k6 of OpenCV's rational radial term, and its largest deviation in pixels.

    Linear least squares of N(r) - P(r) (D(r) - 1) = P(r), where P is the given polynomial and N / D the rational term;
    D has as few terms as are needed.
    """
    r = _radii(corner_radius(size, intrinsics), radial)
    scaled = (r / r[-1]) ** 2
    powers = np.stack([scaled, scaled**2, scaled**3], axis=1)
    with np.errstate(all="ignore"):
        wanted = _polynomial(radial, r)
        best, smallest = np.zeros(6), np.inf
        for terms in range(4):
            table = np.concatenate([powers, -wanted[:, None] * powers[:, :terms]], axis=1) * r[:, None]
            if not np.isfinite(table).all():
                break
            values = np.zeros(6)
            values[: 3 + terms] = np.linalg.lstsq(table, (wanted - 1) * r, rcond=None)[0]
            bottom = 1 + powers @ values[3:]
            deviation = (1 + powers @ values[:3]) / bottom - wanted
            error_px = float(intrinsics[:2].max() * np.abs(r * deviation).max())
            if (bottom > 0).all() and error_px < smallest:
                best, smallest = values / np.tile(r[-1] ** np.array([2.0, 4.0, 6.0]), 2), error_px
            if smallest <= _GOOD_FIT_PX:
                break
    return best, smallest


def _radii(corner: float, radial: np.ndarray) -> np.ndarray:
    """Return rising undistorted radii up to the photo's corners, or up to where the distorted radius stops growing."""
    r = np.linspace(0, _LARGEST_RADIUS, 16001)[1:]
    with np.errstate(all="ignore"):
        distorted = r * _polynomial(radial, r)
        stop = ~(distorted < corner) | ~(np.diff(distorted, append=np.inf) > 0)
    end = int(stop.argmax()) if stop.any() else len(r) - 1
    return np.linspace(0, r[max(end, 1)], 401)[1:]


def _polynomial(radial: np.ndarray, r: np.ndarray) -> np.ndarray:
    k1, k2, k3, k4 = radial
    square = r * r
    return 1 + square * (k1 + square * (k2 + square * (k3 + square * k4)))
