"""The files that a viewer writes: notes, camera paths and their renders, under names that cannot leave their folder."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adop.errors import UserError, one_line
from adop.files import read_json, write_text
from adop.render.camera_path import CameraPath
from adop.render.camera_settings import CameraSettings
from adop.render.crop_box import CropBox
from adop.render.key_frames import KeyPath, load_key_path, save_key_path
from adop.render.output import Format, save_path_views
from adop.render.views import View
from adop.viewer.drawing.long_render import LongView, render_long_view
from adop.viewer.drawing.render_thread import RenderCancelledError, RenderThread
from adop.viewer.session import protocol
from adop.viewer.session.protocol import NAME

EXPORT_FORMATS: dict[str, tuple[Format, ...]] = {"mp4": ("png",), "png": ("png",), "exr": ("exr",)}
MAX_PATHS = 1000  # saved in one folder
NOTES_FILE, NOTES_FORMAT = "notes.json", "adop-notes-1"
MAX_NOTES, MAX_NOTE = 200, 500  # of a run, and characters of one
MAX_COORDINATE = 1e9  # of a note's place, scene units
MAX_SCALE = 1e9  # metres per scene unit, and scene units per metre
# Of a path that is rendered: larger frames take too much memory and time beside the browsers' images.
MAX_FRAME_PIXELS = {"cpu": 2560 * 1440, "cuda": 4096 * 2304}


@dataclass(frozen=True)
class Note:
    """A text pinned to a place."""

    position: tuple[float, ...]  # [3] world
    text: str


@dataclass(frozen=True)
class Notes:
    """What was written down about a scene."""

    notes: tuple[Note, ...] = ()
    metres_per_unit: float | None = None  # None: no distance is known in metres

    def values(self) -> dict[str, Any]:
        """Return them as the values of a message and of the file."""
        notes = [{"position": list(note.position), "text": note.text} for note in self.notes]
        return {"metres_per_unit": self.metres_per_unit, "notes": notes}


def parse_note(values: dict[str, Any]) -> Note:
    """Return a note of a message or of a file. Raises: UserError."""
    position = tuple(protocol.numbers(values, "position", 3, MAX_COORDINATE))
    return Note(position, protocol.text(values, "text", MAX_NOTE))


def parse_scale(values: dict[str, Any]) -> float | None:
    """Return the metres per scene unit of a message or of a file. Raises: UserError."""
    if values.get("metres_per_unit") is None:
        return None
    return protocol.number(values, "metres_per_unit", 1 / MAX_SCALE, MAX_SCALE)


class Files:
    """Camera paths in `folder/paths`, their renders in `folder/renders`, notes in `folder/notes.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._busy = threading.Lock()  # one path is read or written at a time: a long one keeps a core busy
        self._notes: Notes | None = None  # None: not read yet

    @property
    def notes(self) -> Notes:
        """The notes of the run; none where the file is damaged, which is then not overwritten."""
        try:
            return self._known_notes()
        except UserError:
            return Notes()

    def add_note(self, note: Note) -> None:
        """Keep one more note. Raises: UserError."""
        with self._busy:
            known = self._known_notes()
            if len(known.notes) >= MAX_NOTES:
                raise UserError(f"a run keeps up to {MAX_NOTES} notes; delete some")
            self._save_notes(replace(known, notes=(*known.notes, note)))

    def delete_note(self, index: int) -> None:
        """Forget a note. Raises: UserError."""
        with self._busy:
            known = self._known_notes()
            kept = tuple(note for i, note in enumerate(known.notes) if i != index)
            self._save_notes(replace(known, notes=kept))

    def set_scale(self, metres_per_unit: float | None) -> None:
        """Keep how long a scene unit is. Raises: UserError."""
        with self._busy:
            self._save_notes(replace(self._known_notes(), metres_per_unit=metres_per_unit))

    def _known_notes(self) -> Notes:
        if self._notes is None:
            self._notes = load_notes(self.folder)
        return self._notes

    def _save_notes(self, notes: Notes) -> None:
        path = self.folder / NOTES_FILE
        text = json.dumps({"format": NOTES_FORMAT} | notes.values(), indent=2, allow_nan=False)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(path, text + "\n")
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from None
        self._notes = notes

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


def load_notes(folder: Path) -> Notes:
    """Return the notes of a run folder. Raises: UserError where the file is damaged."""
    path = folder / NOTES_FILE
    if not os.path.lexists(path):
        return Notes()
    try:
        values = read_json(path)
        if values["format"] != NOTES_FORMAT or len(values["notes"]) > MAX_NOTES:
            raise ValueError(f"its format is not {NOTES_FORMAT}, or it has more than {MAX_NOTES} notes")
        return Notes(tuple(parse_note(note) for note in values["notes"]), parse_scale(values))
    except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = one_line(error).removeprefix(f"{path}: ").rstrip(".")
        raise UserError(f"{path}: holds no notes ({reason}); move it away to write new ones") from None


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

    def begin(
        self,
        name: str,
        kind: str,
        key_path: KeyPath,
        settings: CameraSettings,
        crop: CropBox | None = None,
    ) -> None:
        """Start to render a path; `progress` says how far it has come.

        The exposure is that of the key frames; everything else is that of `settings`. Only `crop` is drawn, if given.

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
                args=(self._views(path, replace(settings, exposure=0.0), crop), path, output, kind),
                name="adop-export",
                daemon=True,
            )
            self._thread.start()

    def cancel(self) -> None:
        """Stop as soon as possible; no unfinished video is left."""
        self._cancelled.set()

    def _export(self, views: Iterator[View], path: CameraPath, output: Path, kind: str) -> None:
        try:
            save_path_views(views, path, output, EXPORT_FORMATS[kind])
        except RenderCancelledError:
            self.progress = replace(self.progress, state="cancelled")
        except Exception as error:  # the page shows what went wrong, and the server continues
            self.progress = replace(self.progress, state="failed", message=f"{type(error).__name__}: {error}")
        else:
            self.progress = replace(self.progress, state="done")

    def _views(self, path: CameraPath, settings: CameraSettings, crop: CropBox | None) -> Iterator[View]:
        """Yield the views of a path. Raises: RenderCancelledError."""
        for camera, frame_settings in path.cameras(settings, self._render_thread.run.device):
            if self._cancelled.is_set():
                raise RenderCancelledError
            wanted = LongView(camera, frame_settings, crop=crop)
            yield render_long_view(self._render_thread, wanted, self._cancelled.is_set, lambda view: view)
            self.progress = replace(self.progress, done=self.progress.done + 1)
