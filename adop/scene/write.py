"""Writing a scene folder: a new folder is filled beside the old one and replaces it when it is complete."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from adop.errors import UserError, quoted
from adop.geometry.lens import Lens
from adop.geometry.rigid_motion import invert_rigid
from adop.images.photo_files import photo_size, write_reduced, write_reduced_mask
from adop.progress import Bar
from adop.scene.ply import write_ply
from adop.scene.point_cloud import save_prepared
from adop.scene.read import FILE_MODELS, PREPARED_FILE, SPLIT_FILE, SPLIT_WORDS
from adop.scene.scene import Photo, Scene, photo_file, usable_name

# What is in a scene folder besides its lenses: written here, by `adop capture`, or by the original ADOP.
CONTENTS = (
    *(
        "images",
        "masks",
        "capture",
        "dataset.ini",
        "images.txt",
        "camera_indices.txt",
        "poses.txt",
        "masks.txt",
    ),
    *("exposure.txt", "white_balance.txt", SPLIT_FILE, PREPARED_FILE, "point_cloud.ply", "point_cloud.bin"),
    ".DS_Store",  # which macOS puts into every folder that is looked at
)


def save_scene(scene: Scene, folder: Path, link: bool = False, force: bool = False) -> Scene:
    """Write a scene folder, completely or not at all, and return the scene as it is stored there.

    Photos and masks larger than their lens are written in the lens's size.

    Args:
        link: make symbolic links to the photos and masks instead of copying them.
        force: replace a scene that is there already.

    Raises: UserError where the folder holds something else.
    """
    folder = Path(os.path.realpath(folder))
    check_output(folder, force)
    if link and any(
        _is_within(file, folder) for photo in scene.photos for file in (photo.file, photo.mask) if file
    ):
        raise UserError(
            f"{folder}: cannot link to photos in the folder that is being replaced; copy them instead."
        )
    for photo in scene.photos:  # refuses names that leave the folder before anything is written
        photo_file(folder / "images", photo.name, f"{folder}: photo {photo.name!r}")
        if photo.name != usable_name(photo.name):
            raise UserError(
                f"{folder}: a photo cannot be listed as {quoted(photo.name)}; name it {quoted(usable_name(photo.name))}."
            )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _write(scene, temporary, link)
            temporary.chmod(0o777 & ~_umask())
            replace_folder(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{folder}: the scene cannot be written ({error}).") from error
    photos = tuple(_stored(photo, folder) for photo in scene.photos)
    return replace(scene, name=folder.name, folder=folder, photos=photos)


def check_output(folder: Path, force: bool) -> None:
    """Raise UserError where an output folder is not empty, unless it holds a scene and `force` is set."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: exists but is not a folder; choose another output.")
    if not any(folder.iterdir()):
        return
    if not (folder / "dataset.ini").is_file():
        raise UserError(f"{folder}: is not empty and is not a scene; choose another output.")
    if not force:
        raise UserError(f"{folder}: already holds a scene; --force replaces it.")
    other = sorted(entry.name for entry in folder.iterdir() if not _is_of_scene(entry.name))
    if other:
        raise UserError(
            f"{folder}: holds something besides the scene ({quoted(other[0])}), which --force would remove; move it "
            "away, or choose another output."
        )


def _is_of_scene(name: str) -> bool:
    """Return whether a scene folder's entry belongs to the scene, and can be made again with it."""
    return name in CONTENTS or (name.startswith("camera") and name.endswith(".ini"))


def replace_folder(new: Path, folder: Path) -> None:
    """Move a folder to where another one may be, which is then removed."""
    if folder.is_dir() and any(folder.iterdir()):
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
        os.replace(folder, old)
        os.replace(new, folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(new, folder)


def _write(scene: Scene, folder: Path, link: bool) -> None:
    names = [photo.name for photo in scene.photos]
    _write_lines(folder / "images.txt", names)
    _write_lines(folder / "camera_indices.txt", (str(photo.lens) for photo in scene.photos))
    _write_lines(folder / "poses.txt", (_pose_line(photo) for photo in scene.photos))
    if any(photo.exposure is not None for photo in scene.photos):
        lines = ("nan" if photo.exposure is None else repr(float(photo.exposure)) for photo in scene.photos)
        _write_lines(folder / "exposure.txt", lines)
    if any(photo.white_balance is not None for photo in scene.photos):
        balances = (
            np.ones(3) if photo.white_balance is None else photo.white_balance for photo in scene.photos
        )
        _write_lines(folder / "white_balance.txt", (_numbers(balance) for balance in balances))
    if any(photo.mask for photo in scene.photos):
        _write_lines(folder / "masks.txt", (_mask_name(photo) or "-" for photo in scene.photos))
    if any(photo.held_out is not None for photo in scene.photos):
        words = {held_out: word for word, held_out in SPLIT_WORDS.items()}
        _write_lines(folder / SPLIT_FILE, (words[bool(photo.held_out)] for photo in scene.photos))
    _write_photos(scene, folder, link)
    (folder / "images").mkdir(exist_ok=True)
    camera_files = [f"camera{i}.ini" for i in range(len(scene.lenses))]
    for name, lens in zip(camera_files, scene.lenses, strict=True):
        _write_lines(folder / name, _lens_lines(lens))
    _write_lines(folder / "dataset.ini", _dataset_lines(scene, camera_files))
    ply = folder / "point_cloud.ply"
    points = scene.points
    write_ply(ply, points.xyz, points.normals, points.colors, points.confidence)
    save_prepared(scene.points, folder / PREPARED_FILE, ply)


def _dataset_lines(scene: Scene, camera_files: list[str]) -> list[str]:
    models = {lens.model for lens in scene.lenses}
    # Each camera file names its own model. ADOP reads only this number; mixed lenses get one that it does not know.
    model = models.pop() if len(models) == 1 else "fisheye"
    kind = next(number for number, name in FILE_MODELS.items() if name == model)
    return [
        "[SceneDatasetParams]",
        "file_model = ",
        "image_dir = images/",
        "mask_dir = masks/",
        "camera_files = " + " ".join(camera_files),
        "file_point_cloud = point_cloud.ply",
        "file_point_cloud_compressed = point_cloud.bin",
        f"camera_type_int = {kind}",
        f"znear = {float(scene.znear)!r}",
        f"zfar = {float(scene.zfar)!r}",
        "render_scale = 1",
        f"scene_exposure_value = {float(scene.scene_exposure)!r}",
        f"up_vector = {_numbers(scene.up_vector)}",
        "# source coordinates = coordinates of this scene + this offset",
        f"world_offset = {_numbers(scene.world_offset)}",
    ]


def _lens_lines(lens: Lens) -> list[str]:
    fx, fy, cx, cy = lens.intrinsics
    lines = ["[SceneCameraParams]", f"model = {lens.model}", f"w = {lens.width}", f"h = {lens.height}"]
    if lens.model == "ocam":
        c, d, e, cutoff, *polynomial = lens.distortion
        lines += ["# c d e cx cy", "op = " + _numbers([c, d, e, cy - 0.5, cx - 0.5])]
        lines += ["poly_world2cam = " + _numbers(np.trim_zeros(np.array(polynomial), "b"))]
        lines += [
            "poly_cam2world = " + _numbers(lens.poly_cam2world if lens.poly_cam2world is not None else [])
        ]
        return [*lines, f"ocam_cutoff = {float(cutoff)!r}"]
    if lens.model == "fisheye":
        coefficients = [*lens.distortion, 0, 0, 0, 0]
    else:
        k1, k2, p1, p2, k3, k4, k5, k6 = lens.distortion
        coefficients = [k1, k2, k3, k4, k5, k6, p1, p2]
    lines += [
        "# fx fy cx cy s; pixel centres at integers",
        "K = " + _numbers([fx, fy, cx - 0.5, cy - 0.5, 0]),
    ]
    return [*lines, "# k1 k2 k3 k4 k5 k6 p1 p2", "distortion = " + _numbers(coefficients)]


def _pose_line(photo: Photo) -> str:
    from scipy.spatial.transform import Rotation

    camera_to_world = invert_rigid(photo.world_to_camera)
    return _numbers([*Rotation.from_matrix(camera_to_world[:3, :3]).as_quat(), *camera_to_world[:3, 3]])


def _numbers(values: Iterable[float]) -> str:
    return " ".join(repr(float(value)) for value in values)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _mask_name(photo: Photo) -> str | None:
    return f"{photo.name}{photo.mask.suffix}" if photo.mask else None


def _stored(photo: Photo, folder: Path) -> Photo:
    """Return the photo with the paths that it has in the written folder."""
    mask = folder / "masks" / str(_mask_name(photo)) if photo.mask else None
    return replace(photo, file=folder / "images" / photo.name, mask=mask)


def _write_photos(scene: Scene, folder: Path, link: bool) -> None:
    """Copy or link photos and masks; those larger than their lens are copied in its size."""

    def write(photo: Photo) -> None:
        lens = scene.lenses[photo.lens]
        size = lens.width, lens.height
        _write_photo(photo.file, folder / "images" / photo.name, link, size, write_reduced)
        if photo.mask:
            target = folder / "masks" / str(_mask_name(photo))
            _write_photo(photo.mask, target, link, size, write_reduced_mask)

    with ThreadPoolExecutor() as pool:
        list(Bar(pool.map(write, scene.photos), "photos", len(scene.photos)))


def _write_photo(
    source: Path,
    target: Path,
    link: bool,
    size: tuple[int, int],
    reduce: Callable[[Path, Path, tuple[int, int]], None],
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        target.symlink_to(os.path.abspath(source))
    elif any(side > limit for side, limit in zip(photo_size(source), size, strict=True)):
        reduce(source, target, size)
    else:
        shutil.copyfile(source, target)


def _is_within(file: Path, folder: Path) -> bool:
    return Path(os.path.abspath(file)).is_relative_to(folder)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
