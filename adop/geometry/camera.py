"""Cameras: lens model, pose and crop, from world points to pixels and back.

`z` of a point, everywhere in this package, is its depth: the camera z for `opencv`, and the distance to
the camera centre for `fisheye` and `ocam`, whose field may reach beyond 90 degrees, where camera z is no
longer positive.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from adop.geometry.rolling_shutter import row_time, unmoved

Model = Literal["opencv", "fisheye", "ocam"]
DISTORTION_SIZE: dict[str, int] = {"opencv": 8, "fisheye": 4, "ocam": 20}
TIMES = (
    3  # looks at the row of a point; each is about the motion's share of the photo nearer: far below 0.02 px
)


@dataclass(frozen=True)
class Camera:
    """B views of one size and one lens model.

    Args:
        model: "opencv" (pinhole and 8 coefficients), "fisheye" (OpenCV's, COLMAP's OPENCV_FISHEYE) or
            "ocam".
        width, height: size in pixels of the picture that is drawn, that is of the crop.
        intrinsics: [B, 4] fx fy cx cy in pixels of the full photo, the first pixel's centre at 0.5. With
            "ocam" fx is only the scale for the level of detail, and cx, cy are the centre's column and row.
        distortion: [B, D]. opencv: k1 k2 p1 p2 k3 k4 k5 k6; fisheye: k1 k2 k3 k4; ocam: c d e, the
            largest angle above the image plane (radians), then 16 coefficients of the polynomial from
            angle to radius.
        world_to_camera: [B, 4, 4], x right, y down, z forward.
        crop: [B, 3] zoom, offset x, offset y: `uv = zoom * uv_full - offset`. Left out: the full photo.
        motion: [B, 6] twist of the camera between the first and the last row of the full photo, see
            `adop.geometry.rolling_shutter`. None: all rows are taken at once.
        photo_height: [B] rows of the full photo. Left out: `height`, as of a camera that is not yet cropped.
    """

    model: Model
    width: int
    height: int
    intrinsics: Tensor
    distortion: Tensor
    world_to_camera: Tensor
    crop: Tensor = None  # type: ignore[assignment]  # filled in below when left out
    motion: Tensor | None = None
    photo_height: Tensor = None  # type: ignore[assignment]  # filled in below when left out

    def __post_init__(self) -> None:
        if self.model not in DISTORTION_SIZE:
            raise ValueError(f"model: expected one of {', '.join(DISTORTION_SIZE)}, got {self.model!r}")
        views = self.intrinsics.shape[0]
        if self.crop is None:
            identity = torch.tensor(
                [1.0, 0.0, 0.0], dtype=self.intrinsics.dtype, device=self.intrinsics.device
            )
            object.__setattr__(self, "crop", identity.expand(views, 3))
        if self.photo_height is None:
            object.__setattr__(self, "photo_height", torch.full_like(self.crop[:, 0], self.height))
        shapes: dict[str, tuple[int, ...]] = {
            "intrinsics": (views, 4),
            "distortion": (views, DISTORTION_SIZE[self.model]),
            "world_to_camera": (views, 4, 4),
            "crop": (views, 3),
            "photo_height": (views,),
        }
        if self.motion is not None:
            shapes["motion"] = (views, 6)
        for name, shape in shapes.items():
            got = tuple(getattr(self, name).shape)
            if got != shape:
                raise ValueError(
                    f"{name}: expected {list(shape)} for B={views}, {self.model}, got {list(got)}"
                )
        if self.width < 1 or self.height < 1:
            raise ValueError(f"size: expected at least 1x1, got {self.width}x{self.height}")

    @classmethod
    def from_intrinsics(cls, *args: Any, **kwargs: Any) -> "Camera":
        """Make cameras of focal length, centre and pose; arguments as of `camera_constructors.from_intrinsics`."""
        from adop.geometry.camera_constructors import from_intrinsics

        return from_intrinsics(*args, **kwargs)

    @classmethod
    def look_at(cls, *args: Any, **kwargs: Any) -> "Camera":
        """Make a camera that looks from one point at another; arguments as of `camera_constructors.look_at`."""
        from adop.geometry.camera_constructors import look_at

        return look_at(*args, **kwargs)

    @classmethod
    def from_colmap(cls, *args: Any, **kwargs: Any) -> "Camera":
        """Make a camera of COLMAP's numbers; arguments as of `adop.geometry.camera_constructors.from_colmap`."""
        from adop.geometry.camera_constructors import from_colmap

        return from_colmap(*args, **kwargs)

    @classmethod
    def from_nerfstudio(cls, *args: Any, **kwargs: Any) -> "Camera":
        """Make a camera of nerfstudio's numbers; arguments as of `adop.geometry.camera_constructors.from_nerfstudio`."""
        from adop.geometry.camera_constructors import from_nerfstudio

        return from_nerfstudio(*args, **kwargs)

    def __len__(self) -> int:
        return self.intrinsics.shape[0]

    def __getitem__(self, index: int | slice | list[int] | Tensor) -> "Camera":
        """Select views; an int keeps the view dimension."""
        rows = [index] if isinstance(index, int) else index
        return replace(
            self,
            intrinsics=self.intrinsics[rows],
            distortion=self.distortion[rows],
            world_to_camera=self.world_to_camera[rows],
            crop=self.crop[rows],
            motion=None if self.motion is None else self.motion[rows],
            photo_height=self.photo_height[rows],
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Camera":
        """Move and convert all tensors."""
        return replace(
            self,
            intrinsics=self.intrinsics.to(device=device, dtype=dtype),
            distortion=self.distortion.to(device=device, dtype=dtype),
            world_to_camera=self.world_to_camera.to(device=device, dtype=dtype),
            crop=self.crop.to(device=device, dtype=dtype),
            motion=None if self.motion is None else self.motion.to(device=device, dtype=dtype),
            photo_height=self.photo_height.to(device=device, dtype=dtype),
        )

    def cropped(
        self,
        zoom: float | Tensor,
        offset_x: float | Tensor,
        offset_y: float | Tensor,
        width: int,
        height: int,
    ) -> "Camera":
        """Draw a zoomed window of the present picture: `uv' = zoom * uv - offset`; the lens stays as it
        is."""

        def row(value: float | Tensor) -> Tensor:
            return torch.as_tensor(value, dtype=self.crop.dtype, device=self.crop.device).expand(len(self))

        scale = row(zoom)
        offset = torch.stack((row(offset_x), row(offset_y)), -1)
        crop = torch.cat(((scale * self.crop[:, 0])[:, None], scale[:, None] * self.crop[:, 1:] + offset), -1)
        return replace(self, width=width, height=height, crop=crop)

    def scaled(self, factor: float) -> "Camera":
        """Draw the whole picture `factor` times as large, each side rounded to whole pixels."""
        size = (max(1, round(self.width * factor)), max(1, round(self.height * factor)))
        return self.cropped(factor, 0.0, 0.0, *size)

    def reduced(self, scale: int) -> "Camera":
        """Draw the picture 1/scale as large; what is left over at its right and lower edge is cut off."""
        return self.cropped(1 / scale, 0.0, 0.0, self.width // scale, self.height // scale)

    def centre(self) -> Tensor:
        """Return the camera centres [B, 3] in the world."""
        rotation, translation = self.world_to_camera[:, :3, :3], self.world_to_camera[:, :3, 3:]
        return -(rotation.transpose(1, 2) @ translation).squeeze(-1)

    def unproject(self, uv: Tensor, z: Tensor, directions: Tensor | None = None) -> Tensor:
        """Return the world points [B, N, 3] seen at `uv` [B, N, 2] of the crop at depth `z` [B, N].

        Where many cameras of one lens are asked, `directions` [B, N, 3] may hold what `lens_directions` said of `uv`.

        With a motion the row at which the still camera sees the point is found by looking `TIMES` times.

        **Gradients** exact to `z` and the pose, none to `uv`, the lens and the time of the row.
        """
        seen = self.lens_directions(uv) if directions is None else directions
        local = seen * z.to(self.world_to_camera.dtype)[..., None]
        if self.motion is not None:
            local = self._stilled(local, uv, self.motion)
        rotation, translation = self.world_to_camera[:, :3, :3], self.world_to_camera[:, :3, 3]
        return (local - translation[:, None]) @ rotation

    def rays(self, level: int = 0) -> Tensor:
        """Return unit world directions [B, 3, H_l, W_l] through the pixel centres of a level; **Gradients** pose
        only. With a motion, those of what is far away: its rotation counts, its translation does not."""
        rows, columns = level_size(self.height, self.width, level)
        uv = self.pixel_centres(level).expand(len(self), -1, 2)
        return self.rays_at(uv).transpose(1, 2).reshape(len(self), 3, rows, columns)

    def pixel_centres(self, level: int = 0) -> Tensor:
        """Return the pixel centres [1, H_l W_l, 2] of a level, row by row, in pixels of the crop."""
        rows, columns = level_size(self.height, self.width, level)
        y = (torch.arange(rows, device=self.crop.device).to(self.crop.dtype) + 0.5) * 2**level
        x = (torch.arange(columns, device=self.crop.device).to(self.crop.dtype) + 0.5) * 2**level
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(1, -1, 2)

    def rays_at(self, uv: Tensor) -> Tensor:
        """Return unit world directions [B, N, 3] through `uv` [B, N, 2] of the crop, as `rays` does."""
        world = self._far_directions(uv) @ self.world_to_camera[:, :3, :3]
        return torch.nn.functional.normalize(world, dim=-1)

    @torch.no_grad()
    def ray_grid(self, points: int) -> Tensor:
        """Return unit directions [B, 3, R, S] in camera space at places spread evenly from corner to corner of
        the picture, `points` of them along its longer side; with a motion as in `rays`."""
        longer = max(self.width, self.height)
        columns, rows = (max(2, round(points * side / longer)) for side in (self.width, self.height))
        x = torch.linspace(0, self.width, columns, dtype=self.crop.dtype, device=self.crop.device)
        y = torch.linspace(0, self.height, rows, dtype=self.crop.dtype, device=self.crop.device)
        uv = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(1, -1, 2).expand(len(self), -1, 2)
        local = torch.nn.functional.normalize(self._far_directions(uv), dim=-1)
        return local.transpose(1, 2).reshape(len(self), 3, rows, columns).contiguous()

    @torch.no_grad()
    def lens_directions(self, uv: Tensor) -> Tensor:
        """Return camera-space points [B, N, 3] of depth 1 that are seen at `uv` [B, N, 2] of the crop."""
        full = (uv.to(self.crop.dtype) + self.crop[:, None, 1:]) / self.crop[:, None, :1]
        return unproject_lens(self.model, full, self.intrinsics, self.distortion).to(
            self.world_to_camera.dtype
        )

    def _far_directions(self, uv: Tensor) -> Tensor:
        local = self.lens_directions(uv)
        if self.motion is None:
            return local
        return self._stilled(
            local, uv, torch.cat((torch.zeros_like(self.motion[:, :3]), self.motion[:, 3:]), 1)
        )

    def _stilled(self, seen: Tensor, uv: Tensor, motion: Tensor) -> Tensor:
        """Return where points that are seen at `uv` [B, N, 2] as if at `seen` [B, N, 3] are for the still camera."""
        motion, height = motion.to(seen.dtype)[:, None], self.photo_height.to(seen.dtype)[:, None]
        row = ((uv[..., 1].to(self.crop.dtype) + self.crop[:, None, 2]) / self.crop[:, None, 0]).to(
            seen.dtype
        )
        lens = (
            self.intrinsics.detach().to(seen.dtype)[:, None],
            self.distortion.detach().to(seen.dtype)[:, None],
        )
        for _ in range(TIMES):
            row = project_lens(self.model, unmoved(seen, motion, row_time(row, height)), *lens)[0][..., 1]
        return unmoved(seen, motion, row_time(row, height))


def level_size(height: int, width: int, level: int) -> tuple[int, int]:
    """Return the rows and columns of a pyramid level, `ceil(size / 2^level)`."""
    return -(-height >> level), -(-width >> level)


def project_lens(
    model: str, points: Tensor, intrinsics: Tensor, distortion: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Project camera-space points [..., 3] by their lenses [..., 4] and [..., D].

    Returns:
        uv [..., 2] in full-photo pixels, the depth z [...] and the field radius [...] that
        `monotonic_radius` bounds.

    **Gradients** exact. **Source** OpenCV's models; Scaramuzza's omnidirectional model.
    """
    x, y, z = points.unbind(-1)
    fx, fy, cx, cy = intrinsics.unbind(-1)
    if model == "opencv":
        x, y = x / z, y / z
        dx, dy = distort_opencv(x, y, distortion)
        return torch.stack((fx * dx + cx, fy * dy + cy), -1), z, (x * x + y * y).detach().sqrt()
    planar, distance = _lengths(x, y, z)
    if model == "fisheye":
        theta = torch.atan2(planar, z)
        scale = radial_profile(model, distortion, theta) / planar
        return torch.stack((fx * (scale * x) + cx, fy * (scale * y) + cy), -1), distance, theta.detach()
    theta = torch.atan2(-z, planar)
    scale = radial_profile(model, distortion, theta) / planar
    c, d, e = distortion[..., 0], distortion[..., 1], distortion[..., 2]
    row, column = scale * y, scale * x
    return torch.stack((e * row + column + cx, c * row + d * column + cy), -1), distance, theta.detach()


def _lengths(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return |xy|, kept above 0 so that the optical axis has a direction and a gradient, and |xyz|."""
    square = x * x + y * y
    planar = square.clamp_min(1e-18).sqrt()
    return planar, (square + z * z).sqrt()


def distort_opencv(x: Tensor, y: Tensor, distortion: Tensor) -> tuple[Tensor, Tensor]:
    """Apply OpenCV's rational and tangential distortion to normalised image coordinates."""
    k1, k2, p1, p2, k3, k4, k5, k6 = distortion.unbind(-1)
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    xy = x * y
    dx = x * radial + 2 * p1 * xy + p2 * (r2 + 2 * (x * x))
    dy = y * radial + p1 * (r2 + 2 * (y * y)) + 2 * p2 * xy
    return dx, dy


def radial_profile(model: str, distortion: Tensor, r: Tensor) -> Tensor:
    """Return the distorted radius of field radii `r`: |xy/z| for opencv, theta for fisheye, the angle
    above the image plane for ocam. `distortion` [..., D] broadcasts against `r` [...]."""
    if model == "opencv":
        dx, _ = distort_opencv(r, torch.zeros_like(r), without_tangential(distortion))
        return dx
    if model == "fisheye":
        k1, k2, k3, k4 = distortion.unbind(-1)
        t2 = r * r
        return r * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
    total = distortion[..., 19]
    for k in range(18, 3, -1):
        total = total * r + distortion[..., k]
    return total


def without_tangential(distortion: Tensor) -> Tensor:
    """Return opencv coefficients with p1 = p2 = 0."""
    keep = torch.tensor([1, 1, 0, 0, 1, 1, 1, 1], dtype=distortion.dtype, device=distortion.device)
    return distortion * keep


def _growth(model: str, distortion: Tensor, r: Tensor) -> Tensor:
    """Return a value that is positive where the distorted radius grows with `r` and is well defined."""
    r2 = r * r
    if model == "opencv":
        k1, k2, _, _, k3, k4, k5, k6 = distortion.unbind(-1)
        top, slope = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)), 2 * r2 * (k1 + r2 * (2 * k2 + r2 * 3 * k3))
        bottom, fall = 1 + r2 * (k4 + r2 * (k5 + r2 * k6)), 2 * r2 * (k4 + r2 * (2 * k5 + r2 * 3 * k6))
        return torch.minimum((top + slope) * bottom - top * fall, bottom)
    k1, k2, k3, k4 = distortion.unbind(-1)
    return 1 + r2 * (3 * k1 + r2 * (5 * k2 + r2 * (7 * k3 + r2 * 9 * k4)))


def field_grid(model: str, like: Tensor) -> Tensor:
    """Return 1025 field radii from the axis to the end of the model: tan of 0..89.4 degrees, or an
    angle."""
    if model == "opencv":
        return torch.linspace(0, 1.56, 1025, dtype=like.dtype, device=like.device).tan()
    return torch.linspace(0, math.pi, 1025, dtype=like.dtype, device=like.device)


@torch.no_grad()
def monotonic_radius(model: str, distortion: Tensor) -> Tensor:
    """Return for each view [B] the field radius up to which the distorted radius grows, +inf where it
    always does.

    opencv: |xy/z|; fisheye: theta in radians, at most pi; ocam: the cut-off angle above the image plane.
    """
    if model == "ocam":
        return distortion[:, 3].clone()
    grid = field_grid(model, distortion)
    lens = distortion[:, None, :]
    falls = _growth(model, lens, grid[None]) <= 0
    first = falls.int().argmax(1).clamp_min(1)
    low, high = grid[first - 1], grid[first]
    steps = torch.linspace(0, 1, 257, dtype=grid.dtype, device=grid.device)
    for _ in range(2):  # far from the axis a grid's step is wide
        fine = low[:, None] + (high - low)[:, None] * steps
        inner = (_growth(model, lens, fine) <= 0).int().argmax(1).clamp_min(1)[:, None]
        low, high = fine.gather(1, inner - 1)[:, 0], fine.gather(1, inner)[:, 0]
    end = torch.full_like(low, math.inf if model == "opencv" else math.pi)
    return torch.where(falls.any(1), low, end)


@torch.no_grad()
def unproject_lens(model: str, uv: Tensor, intrinsics: Tensor, distortion: Tensor) -> Tensor:
    """Return camera-space points [B, N, 3] of depth 1 seen at full-photo pixels `uv` [B, N, 2].

    Pixels that no ray reaches get the ray at the end of the field. Solved by a table and Newton steps;
    no gradients.
    """
    fx, fy, cx, cy = (value[:, None] for value in intrinsics.unbind(-1))
    x, y = uv[..., 0] - cx, uv[..., 1] - cy
    if model == "opencv" and not bool(distortion.any()):
        return torch.stack((x / fx, y / fy, torch.ones_like(x)), -1)
    lens = distortion[:, None, :]
    if model == "ocam":
        c, d, e = lens[..., 0], lens[..., 1], lens[..., 2]
        row = (y - d * x) / (c - d * e)
        x, y = x - e * row, row
    else:
        x, y = x / fx, y / fy
    radius = (x * x + y * y).sqrt()
    field = _invert_profile(model, radius, distortion)
    safe = radius.clamp_min(1e-12)
    if model == "opencv":
        x, y = _newton_opencv(x, y, x / safe * field, y / safe * field, lens)
        return torch.stack((x, y, torch.ones_like(x)), -1)
    theta = field if model == "fisheye" else field + math.pi / 2
    return torch.stack((x / safe * theta.sin(), y / safe * theta.sin(), theta.cos()), -1)


def _invert_profile(model: str, radius: Tensor, distortion: Tensor) -> Tensor:
    """Return the field radius [B, N] whose distorted radius is `radius` [B, N]."""
    limit = monotonic_radius(model, distortion)[:, None]
    grid = field_grid(model, distortion)[None].expand(len(distortion), -1)
    if model == "ocam":
        grid = grid / math.pi * (limit + math.pi / 2) - math.pi / 2
    grid = grid.minimum(limit)
    lens = distortion[:, None, :]
    table = radial_profile(model, lens, grid).cummax(1).values
    cell = torch.searchsorted(table, radius.contiguous()).clamp(1, table.shape[1] - 1)
    low, high = table.gather(1, cell - 1), table.gather(1, cell)
    start, end = grid.gather(1, cell - 1), grid.gather(1, cell)
    step = (end - start).clamp_min(1e-12)
    r = start + step * ((radius - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    if model == "opencv":  # _newton_opencv solves the whole model from here
        return r
    for _ in range(3):
        h = step * 1e-3
        slope = (radial_profile(model, lens, r + h) - radial_profile(model, lens, r - h)) / (2 * h)
        r = r - (radial_profile(model, lens, r) - radius) / torch.where(
            slope > 1e-9, slope, torch.ones_like(slope)
        )
        r = r.maximum(start).minimum(end)
    return r


def _newton_opencv(u: Tensor, v: Tensor, x: Tensor, y: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
    """Refine (x, y), whose distorted image shall be (u, v), by four Newton steps with the full model."""
    k1, k2, p1, p2, k3, k4, k5, k6 = lens.unbind(-1)
    for _ in range(4):
        r2 = x * x + y * y
        top, slope = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)), k1 + r2 * (2 * k2 + r2 * 3 * k3)
        bottom, fall = 1 + r2 * (k4 + r2 * (k5 + r2 * k6)), k4 + r2 * (2 * k5 + r2 * 3 * k6)
        radial, change = top / bottom, 2 * (slope * bottom - top * fall) / (bottom * bottom)
        dx, dy = distort_opencv(x, y, lens)
        a = radial + x * x * change + 2 * p1 * y + 6 * p2 * x
        b = x * y * change + 2 * p1 * x + 2 * p2 * y
        d = radial + y * y * change + 6 * p1 * y + 2 * p2 * x
        determinant = a * d - b * b
        good = determinant.abs() > 1e-6
        determinant = torch.where(good, determinant, torch.ones_like(determinant))
        ru, rv = (
            torch.where(good, dx - u, torch.zeros_like(u)),
            torch.where(good, dy - v, torch.zeros_like(v)),
        )
        x, y = x - (d * ru - b * rv) / determinant, y - (a * rv - b * ru) / determinant
    return x, y
