"""Everything that is learned, held together: points, lenses, poses, environment, network, physical camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adop.config.config import TrainConfig
from adop.geometry.camera import Camera
from adop.geometry.lens_model import Model
from adop.geometry.rigid_motion import se3_exp
from adop.model.environment import Environment
from adop.model.extrapolation import NEAREST, composite_extrapolation, extrapolate
from adop.model.hole_filling import OCCLUSION_LEVELS, FilledPyramid, fill_holes
from adop.model.network import NeuralRenderer
from adop.model.tonemapper import Photometry, Tonemapper, srgb_decode
from adop.ops import Blocks, Levels, Points, RasterConfig, draw, make_blocks
from adop.ops.environment import RayGrid
from adop.scene.scene import Scene

MIN_RADIANCE = 1e-3
NEAR = 1e-3
RAY_GRID = 129  # points of a ray grid along its longer side: a hundredth of a pixel is lost between them


def _extent(xyz: Tensor) -> float:
    """Return the median distance of the points from their median."""
    return float((xyz - xyz.median(0).values).norm(dim=1).median().clamp_min(1e-12))


@dataclass(frozen=True)
class EnvironmentLookup:
    """How views see the environment where no point is: along which rays, and in how coarse a map at each level."""

    rays: RayGrid
    blurs: list[int]


@dataclass(frozen=True)
class Radiance:
    """A rendered view before the physical camera."""

    picture: Tensor  # [B, 3, H, W] linear light, >= 0
    levels: Levels
    base: FilledPyramid


class Pipeline(nn.Module):
    """The renderer of one scene with its parameters.

    Args:
        scene: photos, lenses and points.
        config: the run's configuration.
        exposure: [P] EV of each photo relative to the scene's.
        trained: [P] bool, the photos that are trained on.
    """

    xyz: Tensor
    lod_radius: Tensor
    normals: Tensor | None
    origin: Tensor  # [N] int32 index in the scene's cloud, -1 for points that were added
    poses: Tensor
    motion: Tensor  # [P, 6] float64, see adop.geometry.rolling_shutter
    photo_lens: Tensor
    photo_size: Tensor

    def __init__(self, scene: Scene, config: TrainConfig, exposure: Tensor, trained: Tensor) -> None:
        super().__init__()
        self.config = config
        points = scene.points
        self.register_buffer("xyz", torch.from_numpy(np.ascontiguousarray(points.xyz)).float())
        self.register_buffer("lod_radius", torch.from_numpy(np.ascontiguousarray(points.lod_radius)).float())
        self.scene_points = len(points.xyz)
        self.register_buffer("origin", torch.arange(len(points.xyz), dtype=torch.int32))
        normals = points.normals
        self.register_buffer(
            "normals", None if normals is None else torch.from_numpy(np.ascontiguousarray(normals)).float()
        )
        self.lens_of = [photo.lens for photo in scene.photos]  # as `photo_lens`, without asking a GPU
        lenses = [scene.lenses[lens] for lens in self.lens_of]
        self.models = [cast(Model, lens.model) for lens in lenses]
        self.register_buffer("photo_lens", torch.tensor(self.lens_of))
        self.register_buffer("photo_size", torch.tensor([[lens.width, lens.height] for lens in lenses]))
        poses = np.stack([photo.world_to_camera for photo in scene.photos])
        self.register_buffer("poses", torch.from_numpy(poses).double())
        self.register_buffer("motion", torch.zeros(len(scene.photos), 6, dtype=torch.float64))
        self.intrinsics = nn.ParameterList(
            nn.Parameter(torch.from_numpy(lens.intrinsics).float(), requires_grad=False)
            for lens in scene.lenses
        )
        self.distortion = nn.ParameterList(
            nn.Parameter(torch.from_numpy(lens.distortion).float(), requires_grad=False)
            for lens in scene.lenses
        )
        # Moved by the published gradient alone: twists, translation relative to the scene's extent; shifts likewise.
        self.pose_delta = nn.Parameter(torch.zeros(len(scene.photos), 6), requires_grad=False)
        self.xyz_delta = nn.Parameter(torch.zeros(0, 3), requires_grad=False)
        self.extent = _extent(self.xyz)
        if config.refine.method == "gradient" and config.learn.points != "off":
            self.xyz_delta = nn.Parameter(torch.zeros_like(self.xyz), requires_grad=False)
        self.lens_size = [(lens.width, lens.height) for lens in scene.lenses]
        self._blocks: tuple[tuple[int, int, int], Blocks] | None = None
        self._motion: tuple[int, bool] | None = None
        self._focal: dict[int, tuple[int, float]] = {}
        self._rays: dict[int, tuple[tuple[int, int], Tensor, Tensor]] = {}
        self.features = nn.Parameter(start_features(scene, config.render.features))
        self.environment = Environment(config.environment, config.render.features)
        self.network = NeuralRenderer(config.network, config.render.levels, config.render.features)
        self.tonemapper = Tonemapper(exposure, self.photo_lens, trained)
        self.raster = RasterConfig(
            levels=config.render.levels,
            depth_tolerance=config.render.depth_tolerance,
            radius_threshold=config.render.radius_threshold,
            near=NEAR * self.extent,
            position_gradient=config.refine.position_gradient,
        )

    def moves_by_gradient(self) -> bool:
        """Return whether cameras or points are learned by the published gradient."""
        moved = [self.pose_delta, self.xyz_delta, *self.intrinsics, *self.distortion]
        return any(parameter.requires_grad for parameter in moved)

    @torch.no_grad()
    def add_points(self, xyz: Tensor, lod_radius: Tensor, normals: Tensor, features: Tensor) -> None:
        """Append points [M]; normals are dropped where the scene has none."""
        self._set_points(
            torch.cat((self.xyz, xyz)),
            torch.cat((self.lod_radius, lod_radius)),
            None if self.normals is None else torch.cat((self.normals, normals)),
            torch.cat((self.features, features)),
            torch.cat((self.origin, torch.full_like(self.origin[:1], -1).expand(len(xyz)))),
        )

    @torch.no_grad()
    def keep_points(self, keep: Tensor) -> None:
        """Drop all points but those of `keep` [N] bool."""
        if len(self.xyz_delta):
            self.xyz_delta = nn.Parameter(self.xyz_delta[keep], requires_grad=False)
        self._set_points(
            self.xyz[keep],
            self.lod_radius[keep],
            None if self.normals is None else self.normals[keep],
            self.features[keep],
            self.origin[keep],
        )

    def resize(self, count: int) -> None:
        """Make room for `count` points, whose values a checkpoint will set."""
        device, channels = self.xyz.device, self.features.shape[1]
        self._set_points(
            torch.zeros(count, 3, device=device),
            torch.zeros(count, device=device),
            None if self.normals is None else torch.zeros(count, 3, device=device),
            torch.zeros(count, channels, device=device),
            torch.zeros(count, dtype=torch.int32, device=device),
        )

    def _set_points(
        self, xyz: Tensor, lod_radius: Tensor, normals: Tensor | None, features: Tensor, origin: Tensor
    ) -> None:
        self.xyz, self.lod_radius, self.normals, self.origin = xyz, lod_radius, normals, origin
        self.features = nn.Parameter(features.detach())
        if len(self.xyz_delta):
            still = self.xyz_delta.detach()[: len(xyz)]
            more = torch.zeros(len(xyz) - len(still), 3, device=xyz.device)
            self.xyz_delta = nn.Parameter(torch.cat((still, more)), requires_grad=False)
        self._blocks = None

    def points(self) -> Points:
        """Return the points as the rasterizer takes them; their blocks are bounded anew when they have moved."""
        xyz = self.xyz
        if len(self.xyz_delta):
            xyz = xyz + self.extent * self.xyz_delta
        version = (self.xyz._version, self.xyz.data_ptr(), self.xyz_delta._version)
        if self._blocks is None or self._blocks[0] != version:
            self._blocks = (version, make_blocks(xyz.detach(), self.lod_radius))
        return Points(xyz, self.lod_radius, self.normals, self._blocks[1])

    def world_to_camera(self, photos: Tensor) -> Tensor:
        """Return the poses [B, 4, 4] float64 of photos [B]. Gradients: exact to `pose_delta`, where it is learned."""
        poses = self.poses[photos]
        if self.config.refine.method != "gradient":
            return poses
        unit = self.pose_delta.new_tensor([self.extent] * 3 + [1.0] * 3)
        return se3_exp((self.pose_delta[photos] * unit).double()) @ poses

    def camera(
        self, photos: Tensor, crop: Tensor | None = None, size: tuple[int, int] | None = None
    ) -> Camera:
        """Return the cameras of photos [B] of one model, of their whole pictures or of crops of (width, height)."""
        numbers = photos.tolist()
        lens = [self.lens_of[i] for i in numbers]
        width, height = size or self.lens_size[lens[0]]
        if crop is None:
            crop = torch.tensor([1.0, 0.0, 0.0]).repeat(len(photos), 1)
        photos = photos.to(self.xyz.device, non_blocking=True)
        motion = self.motion[photos].float() if self._moves() else None
        return Camera(
            model=self.models[numbers[0]],
            width=width,
            height=height,
            intrinsics=torch.stack([self.intrinsics[i] for i in lens]),
            distortion=torch.stack([self.distortion[i] for i in lens]),
            world_to_camera=self.world_to_camera(photos).float(),
            crop=crop.to(self.xyz.device, non_blocking=True),
            motion=motion if motion is not None and motion.any() else None,
            photo_height=self.photo_size[photos, 1].float(),
        )

    def _moves(self) -> bool:
        """Return whether any camera moves while it is read out; asked of the device once a change."""
        if self._motion is None or self._motion[0] != self.motion._version:
            self._motion = (self.motion._version, bool(self.motion.any()))
        return self._motion[1]

    @torch.no_grad()
    def directions(self, camera: Camera) -> list[Tensor]:
        """Return the world directions [B, 3, H_l, W_l] of the pixels, per level; coarser ones average finer ones."""
        rays = camera.rays(0)
        levels = [rays]
        for _ in range(self.config.render.levels - 1):
            rays = F.avg_pool2d(rays, 2, ceil_mode=True, count_include_pad=False)
            levels.append(F.normalize(rays, dim=1))
        return levels

    @torch.no_grad()
    def ray_grid(self, camera: Camera, lens: list[int] | None = None) -> RayGrid:
        """Return the rays of the cameras' pixels, on a grid.

        With the index of each view's `lens` the grid is that of the lens's whole photo, made once, unless one of
        the cameras moves while it is read out.
        """
        known = None if lens is None else [self._lens_rays(camera.model, i) for i in lens]
        # Photos of other proportions have grids of other sizes.
        if known is None or camera.motion is not None or len({rays.shape for rays, _ in known}) > 1:
            whole = torch.tensor([[1.0, 0.0, 0.0]], device=camera.crop.device).expand(len(camera), 3)
            size = whole.new_tensor([[camera.width, camera.height]]).expand(len(camera), 2)
            return RayGrid(camera.ray_grid(RAY_GRID), size, whole, camera.world_to_camera)
        local, size = (torch.cat(parts) for parts in zip(*known, strict=True))
        return RayGrid(local, size, camera.crop, camera.world_to_camera)

    def focal_length(self, lens: int) -> float:
        """Return a lens's focal length, pixels; asked of the device once a change."""
        version = self.intrinsics[lens]._version
        if self._focal.get(lens, (None,))[0] != version:
            self._focal[lens] = version, float(self.intrinsics[lens][0].detach())
        return self._focal[lens][1]

    def _lens_rays(self, model: Model, lens: int) -> tuple[Tensor, Tensor]:
        """Return the rays [1, 3, R, S] of a lens's whole photo, and its width and height [1, 2]."""
        versions = (self.intrinsics[lens]._version, self.distortion[lens]._version)
        if self._rays.get(lens, (None,))[0] != versions:
            pose = torch.eye(4, device=self.xyz.device)[None]
            size, parts = self.lens_size[lens], (self.intrinsics[lens][None], self.distortion[lens][None])
            rays = Camera(model, *size, *parts, pose).ray_grid(RAY_GRID)
            self._rays[lens] = (versions, rays, rays.new_tensor([size]))
        return self._rays[lens][1:]

    @torch.no_grad()
    def cameras_near(self, place: Tensor, most: int) -> list[Camera]:
        """Return the cameras of the trained photos nearest to a place [3], those of one model and size at a time."""
        photos = torch.nonzero(self.tonemapper.trained)[:, 0]
        poses = self.world_to_camera(photos)
        centres = -(poses[:, :3, :3].transpose(1, 2) @ poses[:, :3, 3:])[:, :, 0]
        chosen = photos[(centres - place).norm(dim=1).argsort()[:most]]
        alike: dict[tuple[str, int, int], list[int]] = {}
        for photo in chosen.tolist():
            alike.setdefault((self.models[photo], *self.lens_size[self.lens_of[photo]]), []).append(photo)
        return [self.camera(torch.tensor(group)) for group in alike.values()]

    def behind(
        self,
        camera: Camera,
        lens: list[int] | None = None,
        ghosts: Tensor | None = None,
        pixel_angle: float | None = None,
    ) -> EnvironmentLookup | None:
        """Return how the cameras see the environment where no point is.

        For speed, `lens` names each view's lens and `pixel_angle` says how far apart pixels look, in radians: on a GPU
        both are else found by waiting for it.

        None where it has to be looked up in every pixel: a level that fills nothing shows the environment behind what
        is occluded too; so do points that move.
        """
        render = self.config.render
        everywhere = render.fill_levels <= OCCLUSION_LEVELS or ghosts is not None or self.moves_by_gradient()
        if render.backend == "reference" or everywhere:
            return None
        blurs = self.environment.blurs(pixel_angle or _pixel_angle(camera), render.levels)
        return EnvironmentLookup(self.ray_grid(camera, lens), blurs)

    def radiance(
        self,
        camera: Camera,
        lens: list[int] | None = None,
        ghosts: Tensor | None = None,
        new_view: bool = False,
        behind: EnvironmentLookup | None = None,
    ) -> Radiance:
        """Render the cameras' views, linear light; `lens` names each view's lens, for speed.

        Args:
            ghosts: [B, N] bool, points that look on.
            new_view: what is drawn goes on into space that hardly any photo saw, see `adop.model.extrapolation`; B = 1.
            behind: what `behind` returned for the cameras; None asks it.

        Gradients: exact to features, environment and network; with `ghosts`, the published approximation to poses,
        lenses and points.
        """
        render = self.config.render
        fills, tolerance = render.fill_levels, render.occlusion_tolerance
        behind = behind or self.behind(camera, lens, ghosts)
        if behind is None:
            shown = self.environment(self.directions(camera), _pixel_angle(camera))
            levels = draw(camera, self.points(), self.features, self.raster, shown, ghosts, render.backend)
            colours = [image[:, :3].exp() for image in shown]
        else:
            levels = draw(camera, self.points(), self.features, self.raster, backend=render.backend)
            levels = self.environment.show_behind(levels, behind.rays, behind.blurs)
            colours = None
        if new_view and render.extrapolation_views > 0:
            photos, views = self.cameras_near(camera.centre()[0], NEAREST), render.extrapolation_views
            around = extrapolate(levels, camera, photos, self.environment, views, fills)
            levels = composite_extrapolation(levels, around) if around else levels
            if around and colours is not None:
                parts = zip(colours, around, strict=True)
                colours = [image.lerp(other[:, :3].exp(), share) for image, (other, share) in parts]
        base = fill_holes(levels, colours, fills, tolerance, render.backend)
        with torch.autocast(camera.intrinsics.device.type, torch.bfloat16, enabled=bool(self.config.bf16)):
            picture = self.network(levels, base)
        return Radiance(picture, levels, base)

    def position(self, camera: Camera, photos: Tensor) -> Tensor:
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

    def photo(
        self,
        radiance: Tensor,
        camera: Camera,
        photos: Tensor,
        photometry: Photometry | None = None,
        leak: bool = False,
    ) -> Tensor:
        """Return what the photos' camera makes of `radiance` [B, 3, H, W]; `photometry` replaces the learned one."""
        photometry = photometry or self.tonemapper.photometry(photos)
        lens = self.photo_lens[photos]
        if self.config.render.backend == "reference":
            return self.tonemapper(radiance, photometry, self.position(camera, photos), lens, leak)
        return self.tonemapper.take(radiance, photometry, camera.crop, self.photo_size[photos], lens, leak)

    @torch.no_grad()
    def photo_of_points(self, radiance: Tensor, photo: int, position: Tensor) -> Tensor:
        """Return what a photo's camera makes of radiances [M, 3] at places [M, 2] on the photo, see `position`."""
        index = torch.tensor([photo])
        light, where = radiance.T[None, :, None], position.T[None, :, None]
        taken = self.tonemapper(light, self.tonemapper.photometry(index), where, self.photo_lens[index])
        return taken[0, :, 0].T


def _pixel_angle(camera: Camera) -> float:
    """Return the angle between neighbouring pixels of the cameras, radians."""
    return 1 / float((camera.crop[:, 0] * camera.intrinsics[:, 0]).detach().mean())


def start_features(scene: Scene, channels: int) -> Tensor:
    """Return [N, C]: the logarithm of the points' own colours in linear light, and zeros."""
    features = torch.zeros(len(scene.points.xyz), channels)
    if scene.points.colors is None:
        features[:, :3] = float(np.log(0.2))
    else:
        colors = torch.from_numpy(np.ascontiguousarray(scene.points.colors)).float() / 255
        features[:, :3] = srgb_decode(colors).clamp_min(MIN_RADIANCE).log()
    return features
