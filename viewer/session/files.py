"""The files a viewer makes: camera paths and renders, by names that cannot leave their folder."""

from __future__ import annotations

import io
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from adop.errors import UserError
from adop.geometry.camera import Camera
from adop.images.writers import save_exr, to_uint8
from adop.render.camera_settings import CameraSettings
from adop.render.key_frames import KeyPath, load_key_path, save_key_path
from adop.render.render import CameraPath, Format, View, render_cameras, render_path
from adop.viewer.drawing.studio import AbandonedError, Studio, watch
from adop.viewer.session.protocol import SLUG

KINDS: dict[str, tuple[Format, ...]] = {"mp4": ("png",), "png": ("png",), "exr": ("exr",)}
PATIENCE = 6  # times that a frame of a path makes way for somebody who steers


@dataclass(frozen=True)
class Progress:
    """A path's rendering, as the page shows it."""

    name: str = ""
    kind: str = ""
    done: int = 0  # frames
    total: int = 0
    state: str = "idle"  # idle | running | done | cancelled | failed
    message: str = ""


class Files:
    """Paths in `folder/paths`, renders in `folder/renders`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def paths(self) -> list[str]:
        """Return the names of the saved paths."""
        return sorted(
            file.stem for file in (self.folder / "paths").glob("*.json") if SLUG.fullmatch(file.stem)
        )

    def save(self, name: str, path: KeyPath) -> Path:
        """Save a path as nerfstudio's camera path JSON and return its file."""
        if not path.keys:
            raise UserError("the path has no key frame yet")
        file = self._file("paths", name, ".json")
        try:
            save_key_path(file, path)
        except OSError as error:
            raise UserError(f"{file}: cannot be written ({error.strerror})") from None
        return file

    def load(self, name: str) -> KeyPath:
        """Load a saved path."""
        return load_key_path(self._file("paths", name, ".json"))

    def render(self, name: str, kind: str) -> Path:
        """Return where a path's render goes: a file for mp4, a folder of frames for png and exr."""
        return self._file("renders", name, ".mp4" if kind == "mp4" else f"-{kind}")

    def video(self, name: str) -> Path | None:
        """Return the MP4 of that name, where there is one."""
        if not SLUG.fullmatch(name):
            return None
        file = self._file("renders", name, ".mp4")
        return file if file.is_file() and not file.is_symlink() else None

    def _file(self, folder: str, name: str, ending: str) -> Path:
        if not SLUG.fullmatch(name):
            raise UserError(f"{name[:64]!r} is no name for a file here")
        return self.folder / folder / (name + ending)


class Exporter:
    """Render one path at a time, frame by frame among the browsers' pictures."""

    def __init__(self, studio: Studio, files: Files) -> None:
        self.progress = Progress()
        self._studio, self._files = studio, files
        self._cancelled = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def begin(self, name: str, kind: str, path: KeyPath, look: CameraSettings) -> None:
        """Start rendering; `progress` follows it. Raises: UserError where one is under way or the path is empty."""
        output = self._files.render(name, kind)
        frames = path.frames()
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                raise UserError(f"{self.progress.name} is being rendered; wait for it or cancel it")
            self._cancelled.clear()
            self.progress = Progress(name, kind, 0, len(frames), "running", str(output))
            cameras = CameraPath(frames, path.width, path.height, path.rate)
            self._thread = threading.Thread(
                target=self._render,
                args=(cameras, output, kind, replace(look, exposure=0.0)),
                name="adop-export",
                daemon=True,
            )
            self._thread.start()

    def cancel(self) -> None:
        """Stop after the frame under way; no half-made video is left."""
        self._cancelled.set()

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the rendering under way."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _render(self, path: CameraPath, output: Path, kind: str, look: CameraSettings) -> None:
        def draw(camera: Camera, look: CameraSettings) -> View:
            if self._cancelled.is_set():
                raise AbandonedError
            view = self._frame(camera, look)
            self.progress = replace(self.progress, done=self.progress.done + 1)
            return view

        try:
            render_path(self._studio.run, path, output, KINDS[kind], look, draw)
        except AbandonedError:
            self.progress = replace(self.progress, state="cancelled")
        except Exception as error:  # the page says what went wrong; the server lives on
            self.progress = replace(self.progress, state="failed", message=f"{type(error).__name__}: {error}")
        else:
            self.progress = replace(self.progress, state="done")

    def _frame(self, camera: Camera, look: CameraSettings) -> View:
        """Render a frame; up to `PATIENCE` times it makes way for somebody who steers."""
        run = self._studio.run
        for patience in reversed(range(PATIENCE + 1)):

            def unwanted(patience: int = patience) -> bool:
                return self._studio.hurried and patience > 0

            def job(unwanted: Callable[[], bool] = unwanted) -> View:
                with watch(run.pipeline, unwanted):
                    return render_cameras(run, camera, look)[0]

            try:
                return self._studio.draw(job)
            except AbandonedError:
                if self._cancelled.is_set() or patience == 0:
                    raise
        raise AbandonedError


def png_bytes(view: View) -> bytes:
    """Return a view as the PNG that `adop render` writes."""
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(view.image)).save(buffer, format="PNG")
    return buffer.getvalue()


def exr_bytes(view: View) -> bytes:
    """Return a view's linear radiance as the EXR that `adop render` writes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "view.exr"
        save_exr(file, {"RGB": view.radiance.permute(1, 2, 0).cpu().numpy()})
        return file.read_bytes()


def jpeg_bytes(pixels: np.ndarray, quality: int) -> bytes:
    """Return pixels [H, W, 3] uint8 as a JPEG; of high quality, with colour at full resolution."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality, subsampling=0 if quality > 90 else 2)
    return buffer.getvalue()


SNAPSHOTS: dict[str, Callable[[View], bytes]] = {"png": png_bytes, "exr": exr_bytes}
