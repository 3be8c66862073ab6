"""The renderer of one scene: points, cameras, environment, network and physical camera, composed."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from adop.backend.graphs import Graphs, capture_on, copied
from adop.config import RenderConfig, TrainConfig
from adop.geometry.camera import Camera
from adop.model.cameras import LearnedCameras, ViewInfo
from adop.model.environment import (
    DenseLookup,
    Environment,
    SparseLookup,
    level_directions,
    pixel_angle,
)
from adop.model.hole_filling import OCCLUSION_LEVELS, FilledPyramid, fill_holes, filled_depth
from adop.model.network import NeuralRenderer
from adop.model.points import LearnedPoints
from adop.model.tonemapper import Photometry, Tonemapper
from adop.model.views.extrapolation import (
    NEAREST,
    Continued,
    Extrapolation,
    composite_extrapolation,
    extrapolate,
)
from adop.model.views.view import ChosenPhotos, PictureInputs, Radiance, ViewInputs
from adop.ops import Backend, Levels, Points, Projection, RasterConfig, choose_backend, draw, project
from adop.ops.tonemap import tonemap_photo
from adop.reprojection.photo_table import PhotoTable, choose_photos
from adop.reprojection.reproject import reproject
from adop.scene.scene import Scene

PositionGradient = Literal["ghost", "bilinear"]
NEAR = 1e-3  # nearest depth that is drawn, relative to the scene's extent
ANTIALIAS_VIEWS = 3  # besides its own, of which a picture is the mean
ANTIALIAS_PX = 0.25  # how far they are moved
MOST_PICTURES = 8  # kinds of pictures that a GPU replays
MOST_PIXELS = 1 << 22  # of such a picture; larger ones keep it busy anyway, and a graph keeps its memory
FAR = 1e4  # distance that stands for infinitely far, relative to the scene's extent

# Levels, and the environment's light on each, where it is looked up densely.
_Drawn = tuple[Levels, list[Tensor] | None]


class Pipeline(nn.Module):
    """Render views of a scene with its learned parameters.

    Args:
        points, cameras, environment, network, tonemapper: what is learned.
        config: how points become a pyramid; its backend runs every kernel.
        position_gradient: which published approximation moves points and cameras by gradient.
    """

    def __init__(  # noqa: PLR0913 (the five learned parts, and how they are drawn)
        self,
        points: LearnedPoints,
        cameras: LearnedCameras,
        environment: Environment,
        network: NeuralRenderer,
        tonemapper: Tonemapper,
        config: RenderConfig,
        position_gradient: PositionGradient = "ghost",
    ) -> None:
        super().__init__()
        self.points, self.cameras = points, cameras
        self.environment, self.network, self.tonemapper = environment, network, tonemapper
        self.config = config
        self.cuda_graphs = True  # whether they are used on a GPU, see `replays`
        self._pictures: Graphs[PictureInputs, Radiance] | None = None
        self._photos: PhotoTable | Callable[[], PhotoTable | None] | None = None
        self.fill_levels = min(config.fill_levels, config.levels)
        self.raster = RasterConfig(
            levels=config.levels,
            depth_tolerance=config.depth_tolerance,
            radius_threshold=config.radius_threshold,
            near=NEAR * points.extent,
            position_gradient=position_gradient,
        )
        self.view_raster = replace(self.raster, harmonics=config.harmonics)  # draws whole features

    @property
    def device(self) -> torch.device:
        """Where views are drawn, and the network lives."""
        return self.points.device

    @property
    def backend(self) -> Backend:
        """The backend that runs every op: the configured one, on the device where the points live."""
        return choose_backend(self.config.backend, self.device)

    @property
    def photos(self) -> PhotoTable | None:
        """The photos that views look up, see `adop.run.photos.photo_lookup`.

        Where a function was set in their place, it makes them ready when they are first needed.
        """
        if callable(self._photos):
            self._photos = self._photos()
        return self._photos

    @photos.setter
    def photos(self, photos: PhotoTable | Callable[[], PhotoTable | None] | None) -> None:
        self._photos = photos

    def camera(
        self, photos: Tensor, crop: Tensor | None = None, size: tuple[int, int] | None = None
    ) -> Camera:
        """Return the cameras of photos [B] of one lens model; see `LearnedCameras.forward`."""
        return self.cameras(photos, crop, size)

    def moves_by_gradient(self) -> bool:
        """Return whether cameras or points are learned by the published gradient."""
        cameras = self.cameras
        moved = [cameras.pose_delta, self.points.xyz_delta, *cameras.intrinsics, *cameras.distortion]
        return any(parameter.requires_grad for parameter in moved)

    def invalidate(self) -> None:
        """Forget what was derived from points and cameras; the optimiser calls it after it has moved them."""
        self.points.invalidate()
        self.cameras.invalidate()

    def project(self, camera: Camera, points: Points | None = None) -> Projection:
        """Project points into every view; the scene's own where none are given."""
        return project(camera, points or self.points(), self.raster.near, self.backend)

    def draw(
        self, camera: Camera, features: Tensor, raster: RasterConfig, background: Tensor | None = None
    ) -> Levels:
        """Draw the scene's points with features [N, C] over a background [C], or 0, into pyramid levels."""
        return draw(camera, self.points(), features, raster, background, backend=self.backend)

    def view_inputs(
        self,
        camera: Camera,
        views: ViewInfo | None = None,
        ghosts: Tensor | None = None,
        own: list[int] | None = None,
        rows: Tensor | None = None,
    ) -> ViewInputs:
        """Return what rendering the cameras' views needs.

        Args:
            views: what is known of them on the CPU; None: it is read from the device, which waits for it.
            ghosts: [B, N] bool, points that are not drawn and have the published gradient; None: no such gradient.
            own: [B] photos that these are views of, so that they are not looked up; None: of no photos.
            rows: [B, K] of the photos that are looked up; None: they are chosen here.
        """
        angle = pixel_angle(camera) if views is None else views.pixel_angle
        dense = self.config.fill_levels <= OCCLUSION_LEVELS or ghosts is not None or self.moves_by_gradient()
        dense = dense or self.backend == "reference"
        table = self.photos if self.network.photos > 0 else None
        if dense and table is None:
            return ViewInputs(camera, DenseLookup(angle), ghosts=ghosts)
        rays, chosen = self.cameras.ray_grid(camera, views), None
        if table is not None:
            if rows is None:
                rows = choose_photos(table, camera, self.network.photos, own, self.backend)
            chosen = ChosenPhotos(rows, rays)
        if dense:
            return ViewInputs(camera, DenseLookup(angle), chosen, ghosts)
        mip_levels = self.environment.mip_levels(angle, self.config.levels)
        return ViewInputs(camera, SparseLookup(rays, mip_levels), chosen)

    def radiance(self, view: ViewInputs) -> Radiance:
        """Render views, linear light.

        Gradients: exact to features, environment and network; with ghosts, the published approximation to poses,
        lenses and points.
        """
        return self._radiance(view, [])

    def _radiance(self, view: ViewInputs, continued: Continued, drawn: _Drawn | None = None) -> Radiance:
        """Return the radiance of views, with what continues in the empty pixels of their levels."""
        levels, background = drawn or self._draw_over_environment(view)
        if continued:
            levels = composite_extrapolation(levels, continued)
            if background is not None:
                parts = zip(background, continued, strict=True)
                background = [image.lerp(other[:, :3].exp(), share) for image, (other, share) in parts]
        filled = self.fill_holes(levels, background)
        image = self.network(levels, filled, self._shown(view, levels, filled), self.backend)
        return Radiance(image, levels, filled)

    @torch.no_grad()
    def _shown(self, view: ViewInputs, levels: Levels, filled: FilledPyramid) -> Tensor | None:
        """Return what photos show at the places that views see, or None where none are looked up."""
        if view.photos is None or self.photos is None:
            return None
        depth = filled_depth(levels, filled, self.fill_levels)
        light = self.tonemapper.light_of_photos(self.photos.photos)
        chosen, far = view.photos, FAR * self.points.extent
        return reproject(self.photos, chosen.rows, view.camera, chosen.rays, depth, light, far, self.backend)

    def render(
        self,
        camera: Camera,
        views: ViewInfo | None = None,
        extrapolate: bool = False,
        antialias: bool = False,
        own: list[int] | None = None,
    ) -> Radiance:
        """Render the cameras' views, linear light: `view_inputs` and `radiance` at once.

        Args:
            extrapolate: continue what is drawn into space that hardly any photo saw, see
                `adop.model.views.extrapolation`; B = 1.
            antialias: the image is the mean of this view and of others moved by a fraction of a pixel, so that it
                depends less on which points share a pixel; see `ANTIALIAS_PX`. The pyramid is that of this view.
            own: [B] photos that these are views of, and that are not looked up for them; see `adop.reprojection`.
        """
        inputs = self._picture_inputs(self.view_inputs(camera, views, own=own), extrapolate, antialias)
        replayed = self._replayed(inputs) if extrapolate else None
        return self._picture(inputs) if replayed is None else replayed

    def _picture_inputs(self, view: ViewInputs, extrapolate: bool, antialias: bool) -> PictureInputs:
        camera, moved, nearest = view.camera, [], []
        for number in range(ANTIALIAS_VIEWS if antialias else 0):
            angle = 2 * math.pi * number / ANTIALIAS_VIEWS
            x, y = ANTIALIAS_PX * math.sin(angle), ANTIALIAS_PX * math.cos(angle)
            # A view moved as little as this looks up the same photos.
            rows = None if view.photos is None else view.photos.rows
            moved.append(self.view_inputs(camera.cropped(1.0, x, y, camera.width, camera.height), rows=rows))
        if extrapolate and self.config.extrapolation_views > 0:
            trained = torch.nonzero(self.tonemapper.trained)[:, 0]
            nearest = self.cameras.nearest(camera.centre()[0], trained, NEAREST)
        views = [view, *moved]
        coarser = self.points.bring([part.camera for part in views], self.view_raster)
        view, *moved = (replace(part, thinning=coarser * part.thinning) for part in views)
        return PictureInputs(view, moved, nearest)

    def _picture(self, inputs: PictureInputs) -> Radiance:
        """Return a view's radiance; on a GPU, nothing here waits for it where the environment is looked up sparsely."""
        drawn = self._draw_over_environment(inputs.view)
        continued = self._continued(inputs, drawn[0])
        rendered = self._radiance(inputs.view, continued, drawn)
        if not inputs.moved:
            return rendered
        image = rendered.image
        for moved in inputs.moved:  # what continues is blurred, and the same for them
            image = image + self._radiance(moved, continued).image
        return replace(rendered, image=image / (1 + len(inputs.moved)))

    def _replayed(self, inputs: PictureInputs) -> Radiance | None:
        """Return what `_picture` does by a CUDA graph; None where there is none."""
        camera, is_sparse = inputs.view.camera, isinstance(inputs.view.lookup, SparseLookup)
        fits = is_sparse and camera.width * camera.height <= MOST_PIXELS
        if not (fits and self.replays) or torch.is_grad_enabled():
            return None
        if self._pictures is None:
            begin, say = functools.partial(capture_on, self.device), functools.partial(print, file=sys.stderr)
            self._pictures = Graphs(self._picture, begin, say, MOST_PICTURES, renews=True)
        read = [self.points().blocks, self.photos, self.network, *self.parameters(), *self.buffers()]
        replayed = self._pictures.replay(inputs, read)
        return None if replayed is None else copied(replayed)

    @property
    def replays(self) -> bool:
        """Whether pictures are replayed as CUDA graphs: on a GPU, unless every operation is asked for."""
        return self.cuda_graphs and self.device.type == "cuda"

    @property
    def replayed(self) -> int:
        """How many pictures were replayed as CUDA graphs so far."""
        return 0 if self._pictures is None else self._pictures.replayed

    @contextmanager
    def every_operation(self) -> Iterator[None]:
        """Run each operation by itself meanwhile, so that hooks and clocks find it; else a GPU replays whole pictures."""
        before, self.cuda_graphs = self.cuda_graphs, False
        try:
            yield
        finally:
            self.cuda_graphs = before

    def new_view(self, camera: Camera, views: ViewInfo | None = None) -> Radiance:
        """Render the cameras' views as people look at them: extrapolated, and antialiased unless configured otherwise."""
        return self.render(camera, views, extrapolate=True, antialias=self.config.antialias)

    def depth(self, rendered: Radiance) -> Tensor:
        """Return [B, 1, H, W] depth in scene units, holes filled as in the image; +inf where the environment shows."""
        return filled_depth(rendered.levels, rendered.filled, self.fill_levels)

    @torch.no_grad()
    def surfaces(self, camera: Camera) -> Tensor:
        """Return [B, 1, H, W] the depth of the points that cameras see, as `depth` does, without rendering an image."""
        raster = replace(self.raster, levels=self.fill_levels)
        coarser = self.points.bring([camera], raster)
        raster = replace(raster, radius_threshold=coarser * raster.radius_threshold)
        points = self.points()
        # No colour is asked for: positions stand for features, which stored points would have to read from the file.
        levels = draw(camera, points, points.xyz, raster, backend=self.backend)
        return filled_depth(levels, self.fill_holes(levels, None), self.fill_levels)

    def fill_holes(self, levels: Levels, background: list[Tensor] | None) -> FilledPyramid:
        """Fill the holes of levels from coarser ones; see `adop.model.hole_filling.fill_holes`."""
        tolerance = self.config.occlusion_tolerance
        return fill_holes(levels, background, self.fill_levels, tolerance, self.backend)

    def _draw_over_environment(self, view: ViewInputs) -> _Drawn:
        """Return the levels, and the environment's light per level where it is looked up densely."""
        camera, points, features, lookup = view.camera, self.points(), self.points.drawn_features, view.lookup
        raster = replace(self.view_raster, radius_threshold=self.view_raster.radius_threshold * view.thinning)
        if isinstance(lookup, SparseLookup):
            levels = draw(camera, points, features, raster, backend=self.backend)
            return self.environment.composite(levels, lookup.rays, lookup.mip_levels, self.backend), None
        images = self.environment(level_directions(camera, self.config.levels), lookup.pixel_angle)
        levels = draw(camera, points, features, raster, images, view.ghosts, self.backend)
        return levels, [image[:, :3].exp() for image in images]

    def _continued(self, inputs: PictureInputs, levels: Levels) -> Continued:
        """Return what continues beyond the levels of a view; nothing where no photos say what is unknown space."""
        if not inputs.nearest:
            return []
        settings = Extrapolation(self.config.extrapolation_views, self.config.fill_levels, self.backend)
        return extrapolate(levels, inputs.view.camera, inputs.nearest, self.environment, settings)

    def photo(
        self,
        radiance: Tensor,
        camera: Camera,
        photos: Tensor,
        photometry: Photometry | None = None,
        leak: bool = False,
    ) -> Tensor:
        """Return what the cameras of photos [B] make of `radiance` [B, 3, H, W].

        Args:
            photometry: exposure and white balance; None: those that were learned.
            leak: let clipped values keep a small gradient, for training.
        """
        photometry = photometry or self.tonemapper.photometry(photos)
        size, lens = self.cameras.photo_size[photos], self.cameras.photo_lens[photos]
        physical = self.tonemapper.physical_camera(photometry, camera.crop, size, lens, leak)
        return tonemap_photo(radiance, physical, self.backend)

    @torch.no_grad()
    def photo_of_points(self, radiance: Tensor, photo: int, position: Tensor) -> Tensor:
        """Return what a photo's camera makes of radiances [M, 3] at positions [M, 2] on the photo, in half diagonals
        from its centre."""
        index = torch.tensor([photo])
        light, where = radiance.T[None, :, None], position.T[None, :, None]
        lens = self.cameras.photo_lens[index]
        return self.tonemapper(light, self.tonemapper.photometry(index), where, lens)[0, :, 0].T


def build_pipeline(scene: Scene, config: TrainConfig, exposure: Tensor, trained: Tensor) -> Pipeline:
    """Return the untrained pipeline of a scene.

    Args:
        exposure: [P] EV of each photo relative to the scene's.
        trained: [P] bool, the photos that are trained on.
    """
    render, by_gradient = config.render, config.refine.method == "gradient"
    moved = by_gradient and config.learn.points != "off"
    points = LearnedPoints(scene.points, render.features, render.harmonics, moved)
    cameras = LearnedCameras(scene, points.extent, by_gradient)
    environment = Environment(config.environment, render.features)
    network = NeuralRenderer(config.network, render.levels, render.features, bf16=bool(config.bf16))
    tonemapper = Tonemapper(exposure, cameras.photo_lens, trained)
    position_gradient = config.refine.position_gradient
    pipeline = Pipeline(points, cameras, environment, network, tonemapper, render, position_gradient)
    pipeline.cuda_graphs = config.cuda_graphs
    return pipeline
