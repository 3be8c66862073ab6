"""Views that take long to render, between the images of browsers whose cameras move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from adop.geometry.camera import Camera
from adop.render.camera_settings import CameraSettings
from adop.render.crop_box import CropBox, cropped
from adop.render.views import View, render_views
from adop.viewer.drawing.render_thread import RenderCancelledError, RenderThread, watch_stages

Result = TypeVar("Result")

MAX_RESTARTS = 6  # times that a view is given up at once for a browser whose camera moves
PIXEL_SECONDS = 2e-6  # that a view is expected to take for each pixel


@dataclass(frozen=True)
class LongView:
    """A view that is rendered at full quality."""

    camera: Camera  # B = 1
    settings: CameraSettings
    lenses: list[int] | None = None  # [1] the scene's lens that the camera has; None: unknown
    crop: CropBox | None = None  # None: the whole scene is drawn


def render_long_view(
    render_thread: RenderThread,
    wanted: LongView,
    is_cancelled: Callable[[], bool],
    finish: Callable[[View], Result],
) -> Result:
    """Render a view as `adop render` does, again and again until no browser whose camera moves has interrupted it.

    Args:
        finish: makes the result of the view, on the render thread, so that only one view is in memory at a time.

    Raises: RenderCancelledError once `is_cancelled()`, and where the render thread has ended.
    """
    pipeline = render_thread.run.pipeline
    seconds = PIXEL_SECONDS * wanted.camera.width * wanted.camera.height
    restarts_left = MAX_RESTARTS

    def must_stop() -> bool:
        return is_cancelled() or render_thread.must_give_way(restarts_left)

    def job() -> Result:
        with watch_stages(pipeline, must_stop), cropped(pipeline, wanted.crop):
            view = render_views(pipeline, wanted.camera, wanted.settings, wanted.lenses)[0]
        return finish(view)

    while True:
        try:
            return render_thread.submit(job, seconds=seconds)
        except RenderCancelledError:
            if is_cancelled() or render_thread.is_closed:
                raise
            restarts_left = max(0, restarts_left - 1)
