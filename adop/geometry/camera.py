"""Cameras: lens, pose and crop of a batch of views, from world points to pixels and back.

The lens models are those of `lens_model`, which also says what *depth* means for each of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from adop.geometry.colmap_lens import colmap_lens, colmap_pose
from adop.geometry.lens import Lens
from adop.geometry.lens_model import DISTORTION_SIZE, Model, project_lens, unproject_lens
from adop.geometry.nerfstudio_lens import nerfstudio_lens, nerfstudio_pose
from adop.geometry.rigid_motion import Vector, look_at_pose, pose_centres
from adop.geometry.rolling_shutter import row_time, undo_motion

# Fixed-point steps that find the row at which a camera at rest sees a point. Each multiplies the error by the share of
# the photo that the motion covers; after three it is far below 0.02 px.
ROW_ITERATIONS = 3


@dataclass(frozen=True)
class Camera:
    """B views of one image size and one lens model.

    Args:
        model: "opencv" (pinhole and 8 coefficients), "fisheye" (OpenCV's, COLMAP's OPENCV_FISHEYE) or "ocam".
        width, height: size in pixels of the image that is drawn, that is, of the crop.
        intrinsics: [B, 4] fx fy cx cy in pixels of the full photo, the centre of the first pixel at 0.5. With "ocam"
            fx only scales the level of detail, and cx, cy are the centre's column and row.
        distortion: [B, D]. opencv: k1 k2 p1 p2 k3 k4 k5 k6; fisheye: k1 k2 k3 k4; ocam: c d e, the largest angle
            above the image plane (radians), then 16 coefficients of the polynomial from angle to radius.
        world_to_camera: [B, 4, 4], x right, y down, z forward.
        crop: [B, 3] zoom, offset x, offset y: `uv = zoom * uv_full - offset`. By default the full photo.
        motion: [B, 6] twist of the camera between the first and the last row of the full photo, see
            `adop.geometry.rolling_shutter`. None: all rows are exposed at once.
        photo_height: [B] rows of the full photo. By default `height`, for a camera without a crop.
    """

    model: Model
    width: int
    height: int
    intrinsics: Tensor
    distortion: Tensor
    world_to_camera: Tensor
    crop: Tensor = None  # type: ignore[assignment]  # set below
    motion: Tensor | None = None
    photo_height: Tensor = None  # type: ignore[assignment]  # set below

    def __post_init__(self) -> None:
        """Fill in the defaults and check all shapes; ValueError says which is wrong."""
        if self.model not in DISTORTION_SIZE:
            raise ValueError(f"model: expected one of {', '.join(DISTORTION_SIZE)}, got {self.model!r}")
        views = self.intrinsics.shape[0]
        if self.crop is None:
            identity = self.intrinsics.new_tensor([1.0, 0.0, 0.0])
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
    def from_intrinsics(
        cls,
        width: int,
        height: int,
        focal: float | tuple[float, float],
        world_to_camera: Tensor | np.ndarray | None = None,
        centre: tuple[float, float] | None = None,
        distortion: Sequence[float] = (),
    ) -> "Camera":
        """Make cameras that share one pinhole lens with OpenCV's distortion.

        Args:
            width, height: pixels.
            focal: pixels; one number for both directions, or (fx, fy).
            world_to_camera: [4, 4] or [B, 4, 4], x right, y down, z forward. By default the camera is at the origin
                and looks along +z.
            centre: cx, cy in pixels, where the first pixel's centre is (0.5, 0.5). By default the middle of the image.
            distortion: the first of OpenCV's k1 k2 p1 p2 k3 k4 k5 k6, at most 8; the others are 0.

        Returns: B cameras. Raises: ValueError for a pose that is not rigid or a focal length that is not positive.
        """
        fx, fy = focal if isinstance(focal, tuple) else (focal, focal)
        if not (0 < fx < math.inf and 0 < fy < math.inf):
            raise ValueError(f"focal: expected positive pixels, got {focal}")
        if len(distortion) > 8:
            raise ValueError(f"distortion: expected at most 8 numbers, got {len(distortion)}")
        pose = torch.as_tensor(np.eye(4) if world_to_camera is None else world_to_camera, dtype=torch.float64)
        pose = pose.reshape(-1, 4, 4) if pose.dim() == 2 else pose
        _check_rigid(pose)
        cx, cy = centre or (width / 2, height / 2)
        views = len(pose)
        lens = torch.zeros(views, 8)
        lens[:, : len(distortion)] = torch.tensor(list(distortion))
        intrinsics = torch.tensor([[fx, fy, cx, cy]], dtype=torch.float32).repeat(views, 1)
        return cls("opencv", width, height, intrinsics, lens, pose.float())

    @classmethod
    def look_at(
        cls,
        eye: Vector,
        target: Vector,
        up: Vector = (0.0, 0.0, 1.0),
        width: int = 960,
        height: int = 540,
        fov: float = 50.0,
    ) -> "Camera":
        """Make a pinhole camera (B = 1) at `eye` that sees `target` in the middle of its image.

        Args:
            eye, target: [3] world coordinates, scene units: a tuple, list, array or tensor. `run.scene_centre` is what
                a scene's photos look at, from about `run.scene_radius` away.
            up: [3] world direction that points up in the image; `run.scene.up_vector` is a scene's own.
            width, height: pixels.
            fov: vertical field of view, degrees, above 0 and below 180.

        Raises: ValueError where eye and target coincide, `up` is parallel to the viewing direction, or a number is out
            of its range.

        >>> Camera.look_at(eye=(0, -2, 1), target=(0, 0, 1)).rays_at(torch.tensor([[[480.0, 270.0]]]))
        tensor([[[0., 1., 0.]]])
        """
        if not 0 < fov < 180:
            raise ValueError(f"fov: expected degrees above 0 and below 180, got {fov}")
        focal = height / 2 / math.tan(math.radians(fov) / 2)
        return cls.from_intrinsics(width, height, focal, look_at_pose(eye, target, up))

    @classmethod
    def from_colmap(
        cls,
        model: str,
        width: int,
        height: int,
        params: Sequence[float],
        rotation: Sequence[float] = (1.0, 0.0, 0.0, 0.0),
        translation: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> "Camera":
        """Make a camera from a row of COLMAP's `cameras.txt` and one of its `images.txt`.

        Args:
            model, width, height, params: as in `cameras.txt`, e.g. "OPENCV", 800, 600,
                [fx, fy, cx, cy, k1, k2, p1, p2].
            rotation, translation: world to camera, quaternion QW QX QY QZ and TX TY TZ.

        Raises: UserError for a model without an exact counterpart in adop.
        """
        lens = colmap_lens(model, width, height, params, "from_colmap")
        return cls.from_lens(lens, colmap_pose(rotation, translation, "from_colmap"))

    @classmethod
    def from_nerfstudio(
        cls,
        transform_matrix: Sequence[Sequence[float]] | np.ndarray,
        width: int,
        height: int,
        **values: float | str,
    ) -> "Camera":
        """Make a camera from a frame of nerfstudio's `transforms.json`.

        Args:
            transform_matrix: [4, 4] camera to world, camera axes x right, y up, z back, as in the file.
            width, height: pixels.
            values: the file's own keys: fl_x fl_y cx cy (pixels), k1 k2 k3 p1 p2, camera_model, or camera_angle_x
                (radians) instead of fl_x.

        Raises: UserError for a missing key or a model without an exact counterpart in adop.
        """
        lens = nerfstudio_lens(values, (width, height), "from_nerfstudio")
        return cls.from_lens(lens, nerfstudio_pose(transform_matrix, "from_nerfstudio"))

    @classmethod
    def from_lens(cls, lens: Lens, world_to_camera: np.ndarray) -> "Camera":
        """Make the camera (B = 1, float32) of a lens and a pose [4, 4], at the lens's full size."""

        def row(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values, dtype=torch.float32)[None]

        numbers = row(lens.intrinsics), row(lens.distortion), row(world_to_camera)
        return cls(lens.model, lens.width, lens.height, *numbers)  # type: ignore[arg-type]  # Lens checked its model

    def __len__(self) -> int:
        """Return the number of views B."""
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
        """Return cameras that draw a window of the present image: `uv' = zoom * uv - offset`. The lens stays."""

        def row(value: float | Tensor) -> Tensor:
            return torch.as_tensor(value, dtype=self.crop.dtype, device=self.crop.device).expand(len(self))

        scale = row(zoom)
        offset = torch.stack((row(offset_x), row(offset_y)), -1)
        crop = torch.cat(((scale * self.crop[:, 0])[:, None], scale[:, None] * self.crop[:, 1:] + offset), -1)
        return replace(self, width=width, height=height, crop=crop)

    def scaled(self, factor: float) -> "Camera":
        """Return cameras that draw the whole image `factor` times as large, each side rounded to whole pixels."""
        size = (max(1, round(self.width * factor)), max(1, round(self.height * factor)))
        return self.cropped(factor, 0.0, 0.0, *size)

    def reduced(self, scale: int) -> "Camera":
        """Return cameras that draw the image 1/scale as large; remainders at the right and lower edge are cut off."""
        return self.cropped(1 / scale, 0.0, 0.0, self.width // scale, self.height // scale)

    def centre(self) -> Tensor:
        """Return the camera centres [B, 3] in the world."""
        return pose_centres(self.world_to_camera)

    def unproject(self, uv: Tensor, z: Tensor, directions: Tensor | None = None) -> Tensor:
        """Return the world points [B, N, 3] seen at `uv` [B, N, 2] of the crop at depth `z` [B, N].

        Args: directions: [B, N, 3], `lens_directions(uv)` where the caller already has it (cameras that share a
            lens share it).

        **Gradients** exact to `z` and the pose; none to `uv`, the lens and the time of the row.
        """
        seen = self.lens_directions(uv) if directions is None else directions
        local = seen * z.to(self.world_to_camera.dtype)[..., None]
        if self.motion is not None:
            local = self._at_rest(local, uv, self.motion)
        rotation, translation = self.world_to_camera[:, :3, :3], self.world_to_camera[:, :3, 3]
        return (local - translation[:, None]) @ rotation

    def rays(self, level: int = 0) -> Tensor:
        """Return unit world directions [B, 3, H_l, W_l] through the pixel centres of a level.

        With a motion they are the directions of points infinitely far away, which only its rotation moves.
        **Gradients** exact to the pose, none to the lens.
        """
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
        """Return unit directions [B, 3, R, S] in camera space on an even grid from corner to corner of the image.

        `points` of them lie along the longer side. With a motion as in `rays`.
        """
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
        directions = unproject_lens(self.model, full, self.intrinsics, self.distortion)
        return directions.to(self.world_to_camera.dtype)

    def _far_directions(self, uv: Tensor) -> Tensor:
        """Return camera-space directions [B, N, 3] of points at infinity seen at `uv`; a motion only turns them."""
        local = self.lens_directions(uv)
        if self.motion is None:
            return local
        rotation_only = torch.cat((torch.zeros_like(self.motion[:, :3]), self.motion[:, 3:]), 1)
        return self._at_rest(local, uv, rotation_only)

    def _at_rest(self, seen: Tensor, uv: Tensor, motion: Tensor) -> Tensor:
        """Return where points are, in the frame of the camera at the middle row.

        Args: seen: [B, N, 3] where the moving camera sees them; uv: [B, N, 2] the pixels at which it does.
        """
        motion, height = motion.to(seen.dtype)[:, None], self.photo_height.to(seen.dtype)[:, None]
        row = (uv[..., 1].to(self.crop.dtype) + self.crop[:, None, 2]) / self.crop[:, None, 0]
        row = row.to(seen.dtype)
        lens = (
            self.intrinsics.detach().to(seen.dtype)[:, None],
            self.distortion.detach().to(seen.dtype)[:, None],
        )
        for _ in range(ROW_ITERATIONS):
            still = undo_motion(seen, motion, row_time(row, height))
            row = project_lens(self.model, still, *lens)[0][..., 1]
        return undo_motion(seen, motion, row_time(row, height))


def level_size(height: int, width: int, level: int) -> tuple[int, int]:
    """Return the rows and columns of a pyramid level, `ceil(size / 2^level)`."""
    return -(-height >> level), -(-width >> level)


def _check_rigid(pose: Tensor) -> None:
    rotation = pose[:, :3, :3]
    error = (rotation @ rotation.transpose(1, 2) - torch.eye(3, dtype=pose.dtype)).abs().amax()
    if pose.shape[1:] != (4, 4) or not float(error) < 1e-3 or bool((torch.linalg.det(rotation) < 0).any()):
        raise ValueError("world_to_camera: expected a rotation and a translation, [4, 4] or [B, 4, 4]")
