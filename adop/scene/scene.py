"""A scene: lenses, photos and points; and the folder that holds one (format: scenes/README.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adop.errors import UserError
from adop.geometry.lens import Lens, View
from adop.scene.point_cloud import PointCloud

if TYPE_CHECKING:
    from adop.geometry.camera import Camera

Report = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo and what is known about how it was taken."""

    file: Path
    lens: int  # index into Scene.lenses
    world_to_camera: np.ndarray  # [4,4] f64, OpenCV axes
    exposure: float | None = None  # EV at ISO 100, stops
    white_balance: np.ndarray | None = None  # [3] f64, green is 1
    mask: Path | None = None  # 8-bit picture, 0 = ignore
    name: str = ""  # as in images.txt: unique, with / between folders

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.file.name)


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything that training starts from. World: right-handed, any unit."""

    name: str
    folder: Path
    lenses: tuple[Lens, ...]
    photos: tuple[Photo, ...]
    points: PointCloud
    up_vector: np.ndarray  # [3] f64, unit
    scene_exposure: float = 0.0  # EV that the photos' EVs are relative to
    znear: float = 0.1  # scene units
    zfar: float = 1000.0
    world_offset: np.ndarray = field(default_factory=lambda: np.zeros(3))  # [3] f64: source = ours + offset

    @property
    def views(self) -> list[View]:
        """Lens and world_to_camera of each photo."""
        return [(self.lenses[photo.lens], photo.world_to_camera) for photo in self.photos]


def camera_of(scene: Scene, index: int) -> Camera:
    """Return the Camera (B = 1) of a photo at its full size."""
    import torch

    from adop.geometry.camera import Camera

    photo = scene.photos[index]
    lens = scene.lenses[photo.lens]

    def row(values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.asarray(values, np.float32))[None]

    return Camera(
        model=lens.model,  # type: ignore[arg-type]
        width=lens.width,
        height=lens.height,
        intrinsics=row(lens.intrinsics),
        distortion=row(lens.distortion),
        world_to_camera=row(photo.world_to_camera),
        crop=row(np.array([1.0, 0.0, 0.0])),
    )


def demo_scene_folder() -> Path:
    """Return the folder of the scene that ships with adop, in the checkout or in the installed package."""
    here = Path(__file__).resolve().parents[1]
    for folder in (here / "scenes" / "demo", here.parent / "scenes" / "demo"):
        if (folder / "dataset.ini").is_file():
            return folder
    raise UserError(
        f"the demo scene is not installed (looked in {here / 'scenes'} and {here.parent / 'scenes'})."
    )


def load_scene(folder: Path, report: Report = print) -> Scene:
    """Load a scene folder.

    A cloud that was not prepared yet, or whose PLY file changed since, is prepared and stored beside it.

    Args: report: gets a sentence for each thing that was repaired.
    Raises: UserError naming the file and line, what is wrong, and what to do.
    """
    from adop.scene.read import read_scene

    return read_scene(Path(folder), report)


def save_scene(scene: Scene, folder: Path, link: bool = False, force: bool = False) -> Scene:
    """Write a scene folder, all of it or nothing, and return the scene as it lies there.

    Photos and masks larger than their lens are written in its size.

    Args: link: point to the photos and masks (symbolic links) instead of copying them.
        force: replace the scene that is there.
    Raises: UserError where the folder holds something else.
    """
    from adop.scene.write import write_scene

    return write_scene(scene, Path(folder), link, force)


def rigid(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Put a rotation [3,3] and a translation [3] into a [4,4] f64 matrix."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, translation
    return matrix


def invert_rigid(matrix: np.ndarray) -> np.ndarray:
    """Invert a rigid [4,4] matrix."""
    return rigid(matrix[:3, :3].T, -matrix[:3, :3].T @ matrix[:3, 3])


def rotation_of(quaternion: np.ndarray, where: str) -> np.ndarray:
    """Turn a quaternion x y z w into a rotation [3,3]; small errors of its length are normalised away.

    Raises: UserError beginning with `where` if it is not finite or its length is off by more than 1 %.
    """
    from scipy.spatial.transform import Rotation

    length = float(np.linalg.norm(quaternion))
    if not abs(length - 1.0) < 0.01:
        raise UserError(f"{where}: the rotation quaternion has length {length:.4g} instead of 1.")
    return Rotation.from_quat(np.asarray(quaternion, np.float64)).as_matrix()


def photo_file(images: Path, name: str, where: str) -> Path:
    """Join a photo's name to its folder, which it must not leave."""
    parts = name.replace("\\", "/").split("/")
    if (
        not name
        or name.startswith(("/", "\\"))
        or ".." in parts
        or ":" in parts[0]
        or any(c in name for c in "\n\r\0")
    ):
        raise UserError(f"{where}: the photo's path leaves the folder {images}; use a path inside it.")
    return images / name
