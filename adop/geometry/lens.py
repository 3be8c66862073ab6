"""One physical camera of a scene, in numpy: what a file says about it, and where it sees a point.

Rendering uses `adop.geometry.camera.Camera`, which is differentiable; this serves import, where a cloud is prepared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

DISTORTION_SIZE = {"opencv": 8, "fisheye": 4, "ocam": 20}


@dataclass(frozen=True, eq=False)
class Lens:
    """Size, model and numbers of a camera; meaning and order as in `adop.geometry.camera.Camera`."""

    model: str  # "opencv" | "fisheye" | "ocam"
    width: int  # px
    height: int  # px
    intrinsics: np.ndarray  # [4] f64: fx fy cx cy px, centre of the first pixel at (0.5, 0.5)
    distortion: np.ndarray  # [8 | 4 | 20] f64
    poly_cam2world: np.ndarray | None = None  # [D] f64, kept for writing an ocam file back

    def __post_init__(self) -> None:
        """Check sizes and values; ValueError says which."""
        if self.model not in DISTORTION_SIZE:
            raise ValueError(f"model: expected one of {sorted(DISTORTION_SIZE)}, got {self.model!r}")
        if not (0 < self.width <= 1 << 20 and 0 < self.height <= 1 << 20):
            raise ValueError(f"size: expected positive pixels, got {self.width}x{self.height}")
        for name, size in (("intrinsics", 4), ("distortion", DISTORTION_SIZE[self.model])):
            value = np.asarray(getattr(self, name), dtype=np.float64)
            if value.shape != (size,):
                raise ValueError(f"{name}: expected [{size}], got {list(value.shape)}")
            if not np.isfinite(value).all():
                raise ValueError(f"{name}: holds a value that is not finite")
            object.__setattr__(self, name, value)
        if not (self.intrinsics[:2] > 0).all():
            raise ValueError(f"focal length: expected fx, fy > 0, got {self.intrinsics[:2].tolist()}")

    def scaled(self, width: int, height: int) -> Lens:
        """The same lens on a picture of another size."""
        factor = np.array([width / self.width, height / self.height])
        intrinsics = self.intrinsics * np.concatenate([factor, factor])
        distortion = self.distortion
        if self.model == "ocam":
            if abs(factor[0] / factor[1] - 1) > 1e-3:
                raise ValueError("an ocam lens is scaled by the same factor in both directions only")
            distortion = distortion.copy()
            distortion[4:] *= factor[0]
        return replace(
            self,
            width=width,
            height=height,
            intrinsics=intrinsics,
            distortion=distortion,
            poly_cam2world=None,
        )

    def project(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Project camera-space points.

        Args: xyz [N,3] float, camera frame.
        Returns: uv [N,2] in pixels, and inside [N] bool: in front, within the lens' field and in the picture.
        Source: adop-system 3.1, 3.2; OpenCV's fisheye model.
        """
        x, y, z = np.ascontiguousarray(xyz.T)  # whole columns: strided ones take twice the time
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            project = {
                "opencv": self._project_opencv,
                "fisheye": self._project_fisheye,
                "ocam": self._project_ocam,
            }
            u, v, valid = project[self.model](x, y, z)
            inside = valid & (u >= 0) & (v >= 0) & (u < self.width) & (v < self.height)
        return np.stack([u, v], axis=1), inside

    def _project_opencv(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, ...]:
        k1, k2, p1, p2, k3, k4, k5, k6 = self.distortion.astype(x.dtype)
        fx, fy, cx, cy = self.intrinsics.astype(x.dtype)
        valid = z > 0
        x, y = x / z, y / z
        if self.distortion.any():
            r2 = x * x + y * y
            valid &= r2 < self.field() ** 2
            radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
            if k4 or k5 or k6:
                radial /= 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
            twist = 2 * (p1 * y + p2 * x)
            x, y = x * (radial + twist) + p2 * r2, y * (radial + twist) + p1 * r2
        return fx * x + cx, fy * y + cy, valid

    def _project_fisheye(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, ...]:
        flat = np.hypot(x, y)
        theta = np.arctan2(flat, z)
        t2 = theta * theta
        k1, k2, k3, k4 = self.distortion.astype(x.dtype)
        bent = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
        scale = np.where(flat > 0, bent / np.where(flat > 0, flat, 1), 0)
        fx, fy, cx, cy = self.intrinsics.astype(x.dtype)
        return fx * x * scale + cx, fy * y * scale + cy, theta < self.field()

    def _project_ocam(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, ...]:
        c, d, e, cutoff = self.distortion[:4]
        flat = np.hypot(x, y)
        theta = np.arctan2(-z, flat)  # -pi/2 on the optical axis
        rho = np.polynomial.polynomial.polyval(theta, self.distortion[4:])
        scale = np.where(flat > 0, rho / np.where(flat > 0, flat, 1), 0)
        down, right = y * scale, x * scale
        column, row = self.intrinsics[2:]
        return e * down + right + column, c * down + d * right + row, theta <= cutoff

    def field(self) -> float:
        """Where the lens stops being one-to-one: a radius `|x/z, y/z|` (opencv) or an angle (others)."""
        if self.model == "ocam":
            return float(self.distortion[3]) + math.pi / 2
        if self.model == "fisheye":
            r = np.linspace(0.0, math.pi, 4097)
            t2 = r * r
            k1, k2, k3, k4 = self.distortion
            bent = r * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
        else:
            r = np.concatenate([np.linspace(0.0, 4.0, 4097), np.geomspace(4.0, 1e3, 1025)[1:]])
            r2 = r * r
            k1, k2, _, _, k3, k4, k5, k6 = self.distortion
            with np.errstate(divide="ignore", invalid="ignore"):
                bent = r * (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        falls = np.flatnonzero(~(np.diff(bent) > 0))
        return float(r[falls[0]]) if len(falls) else math.inf


View = tuple[Lens, np.ndarray]  # a lens and its world_to_camera [4,4] f64
