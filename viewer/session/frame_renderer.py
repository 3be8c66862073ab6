"""The pixels of one browser's frames: rendered, or developed again from the radiance rendered last."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from adop.model.pipeline import ANTIALIAS_VIEWS
from adop.model.views.view import Radiance
from adop.render.camera_settings import CameraSettings, white_level
from adop.render.crop_box import cropped
from adop.run.exposure import drawn_pixels, light_statistics
from adop.viewer.drawing.captured_region import faded
from adop.viewer.drawing.kept_results import KeptResults
from adop.viewer.drawing.layers import LIT_LAYERS, layer_image
from adop.viewer.drawing.light_meter import AutoExposure, histogram, metered_exposure
from adop.viewer.drawing.quick_network import quicker
from adop.viewer.drawing.render_thread import JOB_SECONDS, RenderThread, TimedRadiance, render_radiance
from adop.viewer.session.frame_schedule import FramePlan, Quality
from adop.viewer.session.state import State, camera_of

FORGETTING = (
    0.7  # of the time that frames take: the share of the longest one that still counts after another frame
)


PICK_PIXELS = 4  # around a place that was picked, in which a surface is looked for


@dataclass(frozen=True)
class FrameRequest:
    """A frame to be rendered."""

    state: State
    version: int  # of the state
    mark: int  # the last one that the browser has set
    plan: FramePlan
    moving: bool  # whether the camera moves
    requested: float  # time.perf_counter() seconds
    last_frame: float  # time.monotonic() seconds of the last frame; since then automatic exposure adapts


@dataclass(frozen=True)
class RenderedFrame:
    """The pixels of a frame, and what the page is sent with it."""

    pixels: np.ndarray  # [H, W, 3] uint8
    header: dict[str, Any]
    settings: CameraSettings  # that it was developed with; automatic exposure has adapted them
    renders: int  # how often radiance was rendered for it; 0: it was only developed


@dataclass(frozen=True)
class Rendering:
    """The last rendered radiance, and the key that says what it shows."""

    key: tuple[Any, ...]
    quality: Quality
    timed: TimedRadiance


class FrameRenderer:
    """Render one browser's frames.

    While camera and parameters stay the same, other camera settings or layers only develop the last radiance again.

    Args: kept: the last radiance of all browsers.
    """

    def __init__(self, render_thread: RenderThread, kept: KeptResults[Rendering]) -> None:
        self.auto_exposure = AutoExposure()
        self._render_thread, self._kept = render_thread, kept
        self._seconds = {True: JOB_SECONDS, False: JOB_SECONDS}  # that a frame takes in motion and at rest

    def close(self) -> None:
        """Forget the last radiance."""
        self._kept.drop(self)

    def has_full_size(self, state: State) -> bool:
        """Return whether the last radiance is that of a state at full size and in final quality."""
        last = self._kept.get(self)
        return last is not None and last.quality == Quality.FINAL and last.key == self._key(state, 1.0)

    def submit(self, request: FrameRequest, is_cancelled: Callable[[], bool]) -> RenderedFrame:
        """Render a frame on the render thread, waiting for its turn. Raises: RenderCancelledError."""
        moving = request.moving

        def job() -> RenderedFrame:
            begun = time.perf_counter()
            try:
                return self._frame(request, is_cancelled)
            finally:
                taken = time.perf_counter() - begun
                self._seconds[moving] = max(taken, FORGETTING * self._seconds[moving])

        return self._render_thread.submit(job, moving, self._seconds[moving])

    def point_at(self, state: State, u: float, v: float) -> np.ndarray | None:
        """Return the surface point [3] at (u, v) of the last image, in shares of its width and height.

        The depth is that of the nearest pixel that shows a surface, up to `PICK_PIXELS` away. None where there is none,
        or no image yet.
        """
        return self._render_thread.submit(lambda: self._point_at(state, u, v))

    def _point_at(self, state: State, u: float, v: float) -> np.ndarray | None:
        last, run = self._kept.get(self), self._render_thread.run
        if last is None:
            return None
        camera, _ = camera_of(run, state)
        depth = run.pipeline.depth(last.timed.radiance)[0, 0]
        rows, columns = depth.shape
        z = _nearest_surface(depth, min(rows - 1, int(v * rows)), min(columns - 1, int(u * columns)))
        if z is None:
            return None
        uv = torch.tensor([[[u * camera.width, v * camera.height]]], device=depth.device)
        return camera.unproject(uv, z.reshape(1, 1))[0, 0].double().cpu().numpy()

    def _key(self, state: State, scale: float) -> tuple[Any, ...]:
        """Return what determines the radiance of a frame."""
        camera, _ = camera_of(self._render_thread.run, state, scale)
        viewpoint = state.viewpoint
        where = (state.photo, viewpoint.focal, viewpoint.camera_to_world.tobytes(), state.crop)
        return self._render_thread.step, camera.width, camera.height, *where

    def _frame(self, request: FrameRequest, is_cancelled: Callable[[], bool]) -> RenderedFrame:
        """Render or reuse the radiance, and develop it; runs on the render thread."""
        run, state = self._render_thread.run, request.state
        begun = time.perf_counter()
        plan = request.plan
        camera, lenses = camera_of(run, state, plan.scale)
        key = self._key(state, plan.scale)
        last, renders = self._kept.get(self), 0
        if last is None or last.key != key or last.quality < plan.quality:
            antialias = run.pipeline.config.antialias and plan.quality == Quality.FINAL
            quick = quicker(run.pipeline) if plan.quality == Quality.QUICK else nullcontext()
            with cropped(run.pipeline, state.crop), quick:
                timed = render_radiance(run.pipeline, camera, lenses, is_cancelled, antialias)
            last, renders = Rendering(key, plan.quality, timed), 1 + ANTIALIAS_VIEWS * antialias
            self._kept.keep(self, last, camera.width * camera.height)
        radiance = last.timed.radiance
        developing = time.perf_counter()
        settings = self._exposed(request, radiance)
        image = layer_image(run, camera, radiance, settings, state.display)
        pixels = image.pixels
        if state.display.layer == "neural" or state.display.layer in LIT_LAYERS:
            pixels = faded(pixels, run.pipeline, camera, radiance, state.region, state.surroundings)
        if state.side_by_side:
            points = replace(state.display, layer="points")
            right = layer_image(run, camera, radiance, settings, points).pixels
            pixels = np.concatenate([pixels, right], axis=1)
        stages = {"wait": begun - request.requested} | (last.timed.stages if renders else {})
        measured = histogram(image.light, white_level(settings))
        stages["develop"] = time.perf_counter() - developing
        header = {
            "kind": "frame",
            "width": pixels.shape[1],
            "height": pixels.shape[0],
            "rendered": renders > 0,
            "step": key[0],
            "stages": stages,
            "camera_to_world": state.viewpoint.camera_to_world.flatten().tolist(),
            "focal": state.viewpoint.focal,
            "pivot": state.viewpoint.pivot.tolist(),
            "photo": state.photo,
            "side_by_side": state.side_by_side,
            "exposure": round(settings.exposure, 3),
            "note": image.note,
            "histogram": measured,
        }
        return RenderedFrame(pixels, header, settings, renders)

    def _exposed(self, request: FrameRequest, radiance: Radiance) -> CameraSettings:
        """Return the camera settings; automatic exposure adapts them a little further to the radiance.

        It aims at what the photos' camera would choose, where that is known to follow the light, else at middle grey.
        """
        settings, run = request.state.settings, self._render_thread.run
        if not request.state.auto_exposure:
            self.auto_exposure.reset()
            return settings
        image = radiance.image[0]
        if run.exposure is not None and run.exposure.views["exposure"] == "light":
            statistics = light_statistics(image, drawn_pixels(run.pipeline, radiance))
            target = run.exposure.predict(statistics).exposure
        else:
            gains = torch.tensor(settings.white_balance, device=image.device)
            target = metered_exposure(image * gains[:, None, None])
        exposure = self.auto_exposure.adapt(settings.exposure, target, time.monotonic() - request.last_frame)
        return replace(settings, exposure=exposure)


def _nearest_surface(depth: torch.Tensor, row: int, column: int) -> torch.Tensor | None:
    """Return the depth at the pixel of [H, W] depths nearest to a place that is finite; None: none is near."""
    top, left = max(0, row - PICK_PIXELS), max(0, column - PICK_PIXELS)
    around = depth[top : row + PICK_PIXELS + 1, left : column + PICK_PIXELS + 1]
    places = torch.nonzero(torch.isfinite(around))
    if not len(places):
        return None
    centre = torch.tensor([row - top, column - left], device=depth.device)
    nearest = places[(places - centre).square().sum(1).argmin()]
    return around[nearest[0], nearest[1]]
