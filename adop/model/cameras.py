"""The photos' cameras as they are learned: poses, rolling shutters, and the lenses that photos share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from adop.geometry.camera import Camera, Model
from adop.geometry.rigid_motion import pose_centres, se3_exp
from adop.ops.environment import RayGrid
from adop.scene.scene import Scene

RAY_GRID = 129  # points along a ray grid's longer side: interpolation between them errs by 0.01 px
WHOLE_PHOTO = (1.0, 0.0, 0.0)  # zoom and offset of a crop that is the whole photo


@dataclass(frozen=True)
class ViewInfo:
    """Facts about B views that are kept on the CPU, so that nothing need be read back from a GPU."""

    lenses: tuple[int, ...]  # [B] index of each view's lens
    pixel_angle: float  # radians between neighbouring pixels, mean over the views
    trained: bool = False  # whether every view is that of a photo that is trained on


class LearnedCameras(nn.Module):
    """Poses, rolling shutters and lenses of all photos.

    They change through `set_pose`, `set_motion` and `set_lens`, or by the optimiser, which calls `invalidate`. Values
    that are cached on the CPU are then discarded.

    Args:
        scene: photos and lenses.
        extent: of the scene, scene units; a pose's translation is learned relative to it.
        moved_by_gradient: whether the optimiser moves poses through `pose_delta`.
    """

    poses: Tensor  # [P, 4, 4] float64 world_to_camera
    motion: Tensor  # [P, 6] float64, see adop.geometry.rolling_shutter
    photo_lens: Tensor  # [P] index of the lens
    photo_size: Tensor  # [P, 2] width and height, pixels

    def __init__(self, scene: Scene, extent: float, moved_by_gradient: bool) -> None:
        super().__init__()
        self.extent, self.moved_by_gradient = extent, moved_by_gradient
        self.lens_of = [photo.lens for photo in scene.photos]  # `photo_lens` on the host
        self.lens_size = [(lens.width, lens.height) for lens in scene.lenses]
        self.lens_model = [cast(Model, lens.model) for lens in scene.lenses]
        self.register_buffer("photo_lens", torch.tensor(self.lens_of))
        self.register_buffer("photo_size", torch.tensor([self.lens_size[lens] for lens in self.lens_of]))
        poses = np.stack([photo.world_to_camera for photo in scene.photos])
        self.register_buffer("poses", torch.from_numpy(poses).double())
        self.register_buffer("motion", torch.zeros(len(scene.photos), 6, dtype=torch.float64))
        self.intrinsics = _frozen(lens.intrinsics for lens in scene.lenses)
        self.distortion = _frozen(lens.distortion for lens in scene.lenses)
        # [P, 6] twists that only the published gradient moves; translation in units of the extent.
        self.pose_delta = nn.Parameter(torch.zeros(len(scene.photos), 6), requires_grad=False)
        self.invalidate()
        self.register_load_state_dict_post_hook(lambda module, _: module.invalidate())

    def __len__(self) -> int:
        """Return the number of photos."""
        return len(self.poses)

    @property
    def device(self) -> torch.device:
        """Where poses and lenses live."""
        return self.poses.device

    def invalidate(self) -> None:
        """Discard values cached on the CPU, because poses, motions or lenses have changed."""
        self._has_motion: bool | None = None  # None: not read from the device yet
        self._focal: dict[int, float] = {}
        self._rays: dict[int, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def set_pose(self, photo: int, world_to_camera: Tensor) -> None:
        """Set the pose [4, 4] of a photo."""
        self.poses[photo] = world_to_camera.to(self.poses)

    @torch.no_grad()
    def set_poses(self, photos: list[int], world_to_camera: Tensor) -> None:
        """Set the poses [B, 4, 4] of photos [B]."""
        self.poses[photos] = world_to_camera.to(self.poses)

    @torch.no_grad()
    def set_motion(self, photos: int | list[int], motion: Tensor) -> None:
        """Set the motion [6] of a photo, or [B, 6] of photos, between its first and last row."""
        self.motion[photos] = motion.to(self.motion)
        self._has_motion = None

    def lens_values(self, lens: int) -> Tensor:
        """Return intrinsics and distortion of a lens, end to end, [4 + D] float64 on the CPU."""
        parts = self.intrinsics[lens], self.distortion[lens]
        return torch.cat([part.detach().cpu().double() for part in parts])

    @torch.no_grad()
    def set_lens(self, lens: int, values: Tensor) -> None:
        """Set intrinsics and distortion of a lens, end to end [4 + D]."""
        self.intrinsics[lens].copy_(values[:4])
        self.distortion[lens].copy_(values[4:])
        self.invalidate()

    def world_to_camera(self, photos: Tensor) -> Tensor:
        """Return the poses [B, 4, 4] float64 of photos [B]. Gradients: exact to `pose_delta`, where it is learned."""
        poses = self.poses[photos]
        if not self.moved_by_gradient:
            return poses
        unit = self.pose_delta.new_tensor([self.extent] * 3 + [1.0] * 3)
        return se3_exp((self.pose_delta[photos] * unit).double()) @ poses

    def forward(
        self, photos: Tensor, crop: Tensor | None = None, size: tuple[int, int] | None = None
    ) -> Camera:
        """Return the cameras of photos [B] of one lens model.

        Args:
            crop: [B, 3] zoom and offset of each view on its photo; None: the whole photos.
            size: (width, height) of the views in pixels; None: the first photo's.
        """
        numbers = photos.tolist()
        lenses = [self.lens_of[i] for i in numbers]
        width, height = size or self.lens_size[lenses[0]]
        if crop is None:
            crop = torch.tensor(WHOLE_PHOTO).repeat(len(photos), 1)
        photos = photos.to(self.device, non_blocking=True)
        motion = self.motion[photos].float() if self._any_motion() else None
        return Camera(
            model=self.lens_model[lenses[0]],
            width=width,
            height=height,
            intrinsics=torch.stack([self.intrinsics[i] for i in lenses]),
            distortion=torch.stack([self.distortion[i] for i in lenses]),
            world_to_camera=self.world_to_camera(photos).float(),
            crop=crop.to(self.device, non_blocking=True),
            motion=motion if motion is not None and motion.any() else None,
            photo_height=self.photo_size[photos, 1].float(),
        )

    def photo(self, photo: int) -> Camera:
        """Return the camera of one whole photo."""
        return self(torch.tensor([photo]))

    def view_info(self, photos: Sequence[int], zooms: Sequence[float], trained: bool) -> ViewInfo:
        """Return what is known on the CPU of views of photos [B], magnified by zooms [B]."""
        lenses = tuple(self.lens_of[i] for i in photos)
        focal = [zoom * self.focal_length(lens) for zoom, lens in zip(zooms, lenses, strict=True)]
        return ViewInfo(lenses, len(focal) / sum(focal), trained)

    def focal_length(self, lens: int) -> float:
        """Return a lens's focal length in pixels; it is read from the device once after each change."""
        if lens not in self._focal:
            self._focal[lens] = float(self.intrinsics[lens][0].detach())
        return self._focal[lens]

    def _any_motion(self) -> bool:
        if self._has_motion is None:
            self._has_motion = bool(self.motion.any())
        return self._has_motion

    @torch.no_grad()
    def ray_grid(self, camera: Camera, views: ViewInfo | None) -> RayGrid:
        """Return the rays of the cameras' pixels, on a grid.

        Where the views' lenses are known, the grid of a lens's whole photo is made once and shared, unless one of
        the cameras has a rolling shutter or the lenses' photos have other proportions, and so grids of other sizes.
        """
        known = None if views is None else [self._lens_rays(lens) for lens in views.lenses]
        if known is None or camera.motion is not None or len({rays.shape for rays, _ in known}) > 1:
            whole = torch.tensor([WHOLE_PHOTO], device=camera.crop.device).expand(len(camera), 3)
            size = whole.new_tensor([[camera.width, camera.height]]).expand(len(camera), 2)
            return RayGrid(camera.ray_grid(RAY_GRID), size, whole, camera.world_to_camera)
        local, size = (torch.cat(parts) for parts in zip(*known, strict=True))
        return RayGrid(local, size, camera.crop, camera.world_to_camera)

    def _lens_rays(self, lens: int) -> tuple[Tensor, Tensor]:
        """Return the rays [1, 3, R, S] of a lens's whole photo, and its width and height [1, 2]."""
        if lens not in self._rays:
            pose = torch.eye(4, device=self.device)[None]
            size, parts = self.lens_size[lens], (self.intrinsics[lens][None], self.distortion[lens][None])
            rays = Camera(self.lens_model[lens], *size, *parts, pose).ray_grid(RAY_GRID)
            self._rays[lens] = (rays, rays.new_tensor([size]))
        return self._rays[lens]

    @torch.no_grad()
    def nearest(self, position: Tensor, photos: Tensor, most: int) -> list[Camera]:
        """Return the cameras of those of `photos` nearest to a world position [3], one batch a lens model and size."""
        centres = pose_centres(self.world_to_camera(photos))
        chosen = photos[(centres - position).norm(dim=1).argsort()[:most]]
        alike: dict[tuple[str, int, int], list[int]] = {}
        for photo in chosen.tolist():
            lens = self.lens_of[photo]
            alike.setdefault((self.lens_model[lens], *self.lens_size[lens]), []).append(photo)
        return [self(torch.tensor(group)) for group in alike.values()]

    def photo_position(self, camera: Camera, photos: Tensor) -> Tensor:
        """Return [B, 2, H, W], where each pixel lies on its whole photo, in half diagonals from the centre."""
        device = camera.crop.device
        v, u = torch.meshgrid(
            torch.arange(camera.height, device=device) + 0.5,
            torch.arange(camera.width, device=device) + 0.5,
            indexing="ij",
        )
        size = self.photo_size[photos].float()
        zoom, offset = camera.crop[:, :1, None, None], camera.crop[:, 1:, None, None]
        full = (torch.stack((u, v))[None] + offset) / zoom
        half_diagonal = size.square().sum(1).sqrt()[:, None, None, None] / 2
        return (full - size[:, :, None, None] / 2) / half_diagonal

    def _apply(self, *args: Any, **kwargs: Any) -> LearnedCameras:
        self.invalidate()
        return super()._apply(*args, **kwargs)


def _frozen(values: Any) -> nn.ParameterList:
    tensors = (torch.from_numpy(value).float() for value in values)
    return nn.ParameterList(nn.Parameter(tensor, requires_grad=False) for tensor in tensors)
