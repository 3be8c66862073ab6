"""The files that a viewer writes: camera paths and their renders, under names that cannot leave their folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from adop.errors import UserError
from adop.render.camera_path import CameraPath
from adop.render.camera_settings import CameraSettings
from adop.render.key_frames import KeyPath, load_key_path, save_key_path
from adop.render.output import Format, save_path_views
from adop.render.views import View
from adop.viewer.drawing.long_render import render_long_view
from adop.viewer.drawing.render_thread import RenderCancelledError, RenderThread
from adop.viewer.session.protocol import NAME

EXPORT_FORMATS: dict[str, tuple[Format, ...]] = {"mp4": ("png",), "png": ("png",), "exr": ("exr",)}
MAX_PATHS = 1000  # saved in one folder
# Of a path that is rendered: larger frames take too much memory and time beside the browsers' images.
MAX_FRAME_PIXELS = {"cpu": 2560 * 1440, "cuda": 4096 * 2304}


class Files:
    """Camera paths in `folder/paths`, their renders in `folder/renders`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._busy = threading.Lock()  # one path is read or written at a time: a long one keeps a core busy

    def path_names(self) -> list[str]:
        """Return the names of the saved paths."""
        return sorted(
            file.stem for file in (self.folder / "paths").glob("*.json") if NAME.fullmatch(file.stem)
        )

    def save_path(self, name: str, path: KeyPath) -> Path:
        """Save a path as nerfstudio's camera path JSON and return the file. Raises: UserError."""
        if not path.keys:
            raise UserError("the path has no key frames yet")
        file = self._file("paths", name, ".json")
        if not file.exists() and len(self.path_names()) >= MAX_PATHS:
            raise UserError(f"{file.parent} has {MAX_PATHS} paths already; delete some, or overwrite one")
        try:
            with self._busy:
                save_key_path(file, path)
        except OSError as error:
            raise UserError(f"{file}: cannot be written ({error.strerror})") from None
        return file

    def load_path(self, name: str) -> KeyPath:
        """Return a saved path. Raises: UserError."""
        with self._busy:
            return load_key_path(self._file("paths", name, ".json"))

    def render_output(self, name: str, kind: str) -> Path:
        """Return where the render of a path is written: a file for mp4, a folder of images for png and exr."""
        return self._file("renders", name, ".mp4" if kind == "mp4" else f"-{kind}")

    def video(self, name: str) -> Path | None:
        """Return the MP4 file of that name, or None where there is none."""
        if not NAME.fullmatch(name):
            return None
        file = self._file("renders", name, ".mp4")
        return file if file.is_file() and not file.is_symlink() else None

    def _file(self, folder: str, name: str, ending: str) -> Path:
        if not NAME.fullmatch(name):
            raise UserError(f"{name[:64]!r} is not a valid name for a file here")
        return self.folder / folder / (name + ending)


@dataclass(frozen=True)
class ExportProgress:
    """How far the rendering of a path has come, as the page shows it."""

    name: str = ""
    kind: str = ""
    done: int = 0  # frames
    total: int = 0  # frames
    state: str = "idle"  # idle | running | done | cancelled | failed
    message: str = ""  # the output, or what went wrong


class Exporter:
    """Render one path at a time, frame by frame between the images of the browsers."""

    def __init__(self, render_thread: RenderThread, files: Files) -> None:
        self.progress = ExportProgress()
        self._render_thread, self._files = render_thread, files
        self._cancelled = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def begin(self, name: str, kind: str, key_path: KeyPath, settings: CameraSettings) -> None:
        """Start to render a path; `progress` says how far it has come.

        The exposure is that of the key frames; everything else is that of `settings`.

        Raises: UserError where another path is being rendered, or this one has no key frames or too large ones.
        """
        limit = MAX_FRAME_PIXELS[self._render_thread.run.pipeline.device.type]
        if key_path.width * key_path.height > limit:
            raise UserError(
                f"{key_path.width}x{key_path.height}: the viewer renders frames of up to {limit:,} pixels here; "
                "save the path and render it with `adop render`"
            )
        output = self._files.render_output(name, kind)
        if not key_path.keys:
            raise UserError("the path has no key frames yet")
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                raise UserError(f"{self.progress.name} is being rendered; wait for it or cancel it")
            self._cancelled.clear()
            path = key_path.sampled()
            self.progress = ExportProgress(name, kind, 0, len(path.frames), "running", str(output))
            self._thread = threading.Thread(
                target=self._export,
                args=(path, output, kind, replace(settings, exposure=0.0)),
                name="adop-export",
                daemon=True,
            )
            self._thread.start()

    def cancel(self) -> None:
        """Stop as soon as possible; no unfinished video is left."""
        self._cancelled.set()

    def _export(self, path: CameraPath, output: Path, kind: str, settings: CameraSettings) -> None:
        try:
            save_path_views(self._views(path, settings), path, output, EXPORT_FORMATS[kind])
        except RenderCancelledError:
            self.progress = replace(self.progress, state="cancelled")
        except Exception as error:  # the page shows what went wrong, and the server continues
            self.progress = replace(self.progress, state="failed", message=f"{type(error).__name__}: {error}")
        else:
            self.progress = replace(self.progress, state="done")

    def _views(self, path: CameraPath, settings: CameraSettings) -> Iterator[View]:
        """Yield the views of a path. Raises: RenderCancelledError."""
        for camera, frame_settings in path.cameras(settings, self._render_thread.run.device):
            if self._cancelled.is_set():
                raise RenderCancelledError
            yield render_long_view(
                self._render_thread, camera, frame_settings, None, self._cancelled.is_set, lambda view: view
            )
            self.progress = replace(self.progress, done=self.progress.done + 1)
