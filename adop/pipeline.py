"""Everything that is learned, held together: points, lenses, poses, environment, network, physical camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from adop.base import Base, base_picture
from adop.camera import Camera
from adop.config import TrainConfig
from adop.environment import Environment
from adop.network import NeuralRenderer
from adop.ops import Levels, Points, RasterConfig, draw
from adop.scene import Scene
from adop.tonemap import Photometry, Tonemapper, srgb_decode

DARKEST = 1e-3


@dataclass(frozen=True)
class Radiance:
    """A rendered view before the physical camera."""

    picture: Tensor  # [B, 3, H, W] linear light, >= 0
    levels: Levels
    base: Base


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
    poses: Tensor
    photo_lens: Tensor
    photo_size: Tensor

    def __init__(self, scene: Scene, config: TrainConfig, exposure: Tensor, trained: Tensor) -> None:
        super().__init__()
        self.config = config
        points = scene.points
        self.register_buffer("xyz", torch.from_numpy(np.ascontiguousarray(points.xyz)).float())
        self.register_buffer("lod_radius", torch.from_numpy(np.ascontiguousarray(points.lod_radius)).float())
        normals = points.normals
        self.register_buffer("normals", None if normals is None else torch.from_numpy(np.ascontiguousarray(normals)).float())
        lenses = [scene.lenses[photo.lens] for photo in scene.photos]
        self.models = [lens.model for lens in lenses]
        self.register_buffer("photo_lens", torch.tensor([photo.lens for photo in scene.photos]))
        self.register_buffer("photo_size", torch.tensor([[lens.width, lens.height] for lens in lenses]))
        poses = np.stack([photo.world_to_camera for photo in scene.photos])
        self.register_buffer("poses", torch.from_numpy(poses).double())
        self.intrinsics = nn.ParameterList(
            nn.Parameter(torch.from_numpy(lens.intrinsics).float(), requires_grad=False) for lens in scene.lenses
        )
        self.distortion = nn.ParameterList(
            nn.Parameter(torch.from_numpy(lens.distortion).float(), requires_grad=False) for lens in scene.lenses
        )
        self.features = nn.Parameter(start_features(scene, config.render.features))
        self.environment = Environment(config.environment, config.render.features)
        self.network = NeuralRenderer(config.network, config.render.levels, config.render.features)
        self.tonemapper = Tonemapper(exposure, self.photo_lens, trained)
        self.raster = RasterConfig(
            levels=config.render.levels,
            depth_tolerance=config.render.depth_tolerance,
            radius_threshold=config.render.radius_threshold,
        )

    def points(self) -> Points:
        """Return the points as the rasterizer takes them."""
        return Points(xyz=self.xyz, radius=self.lod_radius, normals=self.normals)

    def camera(self, photos: Tensor, crop: Tensor | None = None, size: tuple[int, int] | None = None) -> Camera:
        """Return the cameras of photos [B] of one model, of their whole pictures or of crops of (width, height)."""
        first = int(photos[0])
        lens = [int(self.photo_lens[i]) for i in photos]
        width, height = size or tuple(self.photo_size[first].tolist())
        if crop is None:
            crop = torch.tensor([1.0, 0.0, 0.0]).repeat(len(photos), 1)
        return Camera(
            model=self.models[first],
            width=width,
            height=height,
            intrinsics=torch.stack([self.intrinsics[i] for i in lens]),
            distortion=torch.stack([self.distortion[i] for i in lens]),
            world_to_camera=self.poses[photos].float(),
            crop=crop.to(self.xyz.device),
        )

    def radiance(self, camera: Camera) -> Radiance:
        """Render the cameras' views, linear light. Gradients: exact to features, environment and network."""
        directions = [camera.rays(level) for level in range(self.config.render.levels)]
        background = self.environment(directions)
        levels = draw(
            camera, self.points(), self.features, self.raster, background, backend=self.config.render.backend
        )
        render = self.config.render
        colours = [image[:, :3].exp() for image in background]
        base = base_picture(levels, colours, render.fill_levels, render.occlusion_tolerance)
        with torch.autocast(camera.intrinsics.device.type, torch.bfloat16, enabled=self.config.bf16):
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
        self, radiance: Tensor, camera: Camera, photos: Tensor, photometry: Photometry | None = None, leak: bool = False
    ) -> Tensor:
        """Return what the photos' camera makes of `radiance` [B, 3, H, W]; `photometry` replaces the learned one."""
        photometry = photometry or self.tonemapper.photometry(photos)
        position = self.position(camera, photos)
        return self.tonemapper(radiance, photometry, position, self.photo_lens[photos], leak)


def start_features(scene: Scene, channels: int) -> Tensor:
    """Return [N, C]: the logarithm of the points' own colours in linear light, and zeros."""
    features = torch.zeros(len(scene.points.xyz), channels)
    if scene.points.colors is None:
        features[:, :3] = float(np.log(0.2))
    else:
        colors = torch.from_numpy(np.ascontiguousarray(scene.points.colors)).float() / 255
        features[:, :3] = srgb_decode(colors).clamp_min(DARKEST).log()
    return features
