"""What a scene is: lenses, photos and points. `read` and `write` load and save its folder (scenes/README.md)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from adop.errors import UserError, quoted
from adop.geometry.camera import Camera
from adop.geometry.lens import Lens, PosedLens
from adop.scene.point_cloud import PointCloud

MAX_NAME = 512  # characters of a path
# Control characters, also those that turn the direction of text: no file can be listed, or shown, under such a name.
_CONTROL = "\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069"
_UNREADABLE = re.compile(f"[{_CONTROL}\ud800-\udc7f\udd00-\udfff]")  # between them: bytes that are not UTF-8
_UNUSABLE = re.compile(f"[{_CONTROL}\ud800-\udfff\\\\]")
_DRIVE = re.compile("[A-Za-z]:")


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo and what is known about how it was taken."""

    file: Path
    lens: int  # index into Scene.lenses
    world_to_camera: np.ndarray  # [4,4] f64, OpenCV axes
    exposure: float | None = None  # EV at ISO 100, stops; None where it is unknown
    white_balance: np.ndarray | None = None  # [3] f64, green is 1; None where it is unknown
    mask: Path | None = None  # 8-bit image, 0 = ignore; None: the whole photo counts
    name: str = ""  # as in images.txt: unique, with / between folders; by default the file's
    held_out: bool | None = (
        None  # whether the scene keeps it from training; None where the scene has no split
    )

    def __post_init__(self) -> None:
        """Fill in the default name."""
        if not self.name:
            object.__setattr__(self, "name", usable_name(self.file.name))


@dataclass(frozen=True, eq=False)
class Scene:
    """What training starts from. World: right-handed, any unit."""

    name: str
    folder: Path
    lenses: tuple[Lens, ...]
    photos: tuple[Photo, ...]
    points: PointCloud
    up_vector: np.ndarray  # [3] f64, unit
    scene_exposure: float = 0.0  # EV to which the photos' EVs are relative
    znear: float = 0.1  # scene units
    zfar: float = 1000.0
    world_offset: np.ndarray = field(default_factory=lambda: np.zeros(3))  # [3] f64: source = ours + offset

    @property
    def views(self) -> list[PosedLens]:
        """Lens and world_to_camera of each photo."""
        return [(self.lenses[photo.lens], photo.world_to_camera) for photo in self.photos]


def camera_of(scene: Scene, index: int) -> Camera:
    """Return the Camera (B = 1) of a photo at its full size."""
    photo = scene.photos[index]
    return Camera.from_lens(scene.lenses[photo.lens], photo.world_to_camera)


def demo_scene_folder() -> Path:
    """Return the folder of the scene that ships with adop, in the checkout or in the installed package."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "scenes" / "demo", package.parent / "scenes" / "demo"):
        if (folder / "dataset.ini").is_file():
            return folder
    raise UserError(
        f"the demo scene is not installed (looked in {package / 'scenes'} and {package.parent / 'scenes'})."
    )


def stays_inside(name: str) -> bool:
    """Return whether a name in a file is a path below the folder that it is relative to, without control characters."""
    pure = PurePosixPath(name.replace("\\", "/"))
    usable = len(name) <= MAX_NAME and not _UNREADABLE.search(name) and bool(pure.parts)
    return usable and not pure.is_absolute() and ".." not in pure.parts and not _DRIVE.match(pure.parts[0])


def usable_name(name: str) -> str:
    """Return a name under which a scene can list a photo: in UTF-8, without control characters and blanks at its ends.

    Bytes that are not UTF-8, as `os.fsdecode` gives them, are taken for letters of Western Europe.
    """
    text = "/".join(_decoded(part) for part in name.split("/"))
    text = _UNUSABLE.sub("_", text).strip() or "_"
    return f"{text[0]}_{text[2:]}" if _DRIVE.match(text) else text


def usable_names(names: Sequence[str]) -> list[str]:
    """Return a usable name for each of several different ones, all different."""
    taken = {name for name in names if usable_name(name) == name}
    result = []
    for name in names:
        own, number = usable_name(name), 2
        while own != name and own in taken:
            path = PurePosixPath(usable_name(name))
            own, number = str(path.with_name(f"{path.stem}_{number}{path.suffix}")), number + 1
        taken.add(own)
        result.append(own)
    return result


def name_with_ending(name: str, ending: str, taken: set[str]) -> str:
    """Return a photo's name with another ending that none of the names `taken`, in small letters, is; it joins them."""
    short = PurePosixPath(name).with_suffix(ending).as_posix()
    own = short if short.lower() not in taken else name + ending
    while own.lower() in taken:
        own = own.removesuffix(ending) + "_" + ending
    taken.add(own.lower())
    return own


def _decoded(name: str) -> str:
    """Return a name whose bytes are not UTF-8 in the letters of Western Europe, and others as they are."""
    if name.isascii():
        return name
    try:
        data = name.encode("utf-8", "surrogateescape")
        return data.decode()
    except UnicodeEncodeError:
        return name
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace").replace("\ufffd", "_")


def first_twice(names: Sequence[str]) -> str | None:
    """Return the first name that an earlier one equals, or None where all differ."""
    seen = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def photo_file(images: Path, name: str, where: str) -> Path:
    """Return the path of a photo in a folder that the photo's name must not leave.

    Raises: UserError beginning with `where` for an absolute path, a path that climbs out, or an unusable name.
    """
    if _UNREADABLE.search(name) or len(name) > MAX_NAME:
        raise UserError(
            f"{where}: {quoted(name)} is too long, or has control characters, for a file in {images}; rename it."
        )
    if not stays_inside(name):
        raise UserError(f"{where}: {quoted(name)} leaves the folder {images}; use a path inside it.")
    return images / name
