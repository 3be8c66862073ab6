"""A lens: image size, lens model, intrinsics and distortion, as stored in a scene's files."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from adop.geometry.lens_model import DISTORTION_SIZE, monotonic_radius, project_lens

MAX_SIDE_PX = 1 << 20


@dataclass(frozen=True, eq=False)
class Lens:
    """A camera's intrinsics and distortion, shared by the photos that it took.

    Meaning and order of the numbers are those of `adop.geometry.camera.Camera`.
    """

    model: str  # one of lens_model.Model, checked below
    width: int  # px
    height: int  # px
    intrinsics: np.ndarray  # [4] f64: fx fy cx cy px, centre of the first pixel at (0.5, 0.5)
    distortion: np.ndarray  # [8 | 4 | 20] f64
    poly_cam2world: np.ndarray | None = None  # [D] f64, kept only to be written into an ocam file again

    def __post_init__(self) -> None:
        """Check sizes and values; ValueError says which is wrong."""
        if self.model not in DISTORTION_SIZE:
            raise ValueError(f"model: expected one of {sorted(DISTORTION_SIZE)}, got {self.model!r}")
        if not (0 < self.width <= MAX_SIDE_PX and 0 < self.height <= MAX_SIDE_PX):
            raise ValueError(
                f"size: expected 1 to {MAX_SIDE_PX} pixels a side, got {self.width}x{self.height}"
            )
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
        """Return the same lens for photos that were resized to width x height.

        Raises: ValueError for an ocam lens whose sides would be scaled by different factors.
        """
        factor = np.array([width / self.width, height / self.height])
        intrinsics = self.intrinsics * np.concatenate([factor, factor])
        distortion = self.distortion
        if self.model == "ocam":
            if abs(factor[0] / factor[1] - 1) > 1e-3:
                raise ValueError("an ocam lens must be scaled by the same factor in both directions")
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

    def project(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Project camera-space points [N, 3].

        Returns: uv [N, 2] in pixels, depth [N] (see `lens_model`), and inside [N] bool: whether the lens sees the
            point and it falls into the image. Outside, uv may be infinite or NaN. All floats are of the points' type.
        """
        points = torch.from_numpy(xyz)
        distortion = torch.as_tensor(self.distortion, dtype=points.dtype)[None]
        intrinsics = torch.as_tensor(self.intrinsics, dtype=points.dtype)
        uv, depth, field_radius = project_lens(self.model, points, intrinsics, distortion[0])
        u, v = uv.unbind(-1)
        inside = (u >= 0) & (v >= 0) & (u < self.width) & (v < self.height) & (depth > 0)
        inside &= field_radius <= monotonic_radius(self.model, distortion)
        return uv.numpy(), depth.numpy(), inside.numpy()


PosedLens = tuple[Lens, np.ndarray]  # a photo's lens and its world_to_camera [4,4] f64
