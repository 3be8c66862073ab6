"""What a scene is: lenses, photos and points. `read` and `write` load and save its folder (scenes/README.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from adop.errors import UserError
from adop.geometry.camera import Camera
from adop.geometry.lens import Lens, PosedLens
from adop.scene.point_cloud import PointCloud


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

    def __post_init__(self) -> None:
        """Fill in the default name."""
        if not self.name:
            object.__setattr__(self, "name", self.file.name)


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


def photo_file(images: Path, name: str, where: str) -> Path:
    """Return the path of a photo in a folder that the photo's name must not leave.

    Raises: UserError beginning with `where` for an absolute path, a path that climbs out, or an unusable name.
    """
    parts = name.replace("\\", "/").split("/")
    absolute = name.startswith(("/", "\\")) or ":" in parts[0]
    if not name or absolute or ".." in parts or any(c in name for c in "\n\r\0"):
        raise UserError(f"{where}: the photo's path leaves the folder {images}; use a path inside it.")
    return images / name
