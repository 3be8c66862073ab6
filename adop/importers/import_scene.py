"""Make scenes of other programs' output: COLMAP models and nerfstudio's transforms.json."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from adop.errors import UserError
from adop.geometry.lens import Lens, View
from adop.images import exif
from adop.importers.colmap import ColmapModel, lens_of, read_colmap, read_points3d
from adop.importers.nerfstudio import read_transforms
from adop.scene.photo_cache import check_photos
from adop.scene.ply import RawPoints, read_ply
from adop.scene.point_cloud import PointCloud
from adop.scene.prepare import PrepareConfig, prepare
from adop.scene.scene import Photo, Scene, photo_file, rigid, rotation_of, save_scene
from adop.scene.write import check_output

Report = Callable[[str], None]
LARGE = 2400  # pixels along the longer side from which on a smaller size is proposed
SMALLEST_SIDE = 128


@dataclass(frozen=True)
class ImportConfig:
    """What an import does besides converting numbers."""

    masks: Path | None = None
    """Folder with a mask for each photo, called as the photo with .png added or instead of its ending."""
    exif: Path | None = None
    """CSV file for photos without EXIF tags: name, exposure_time, f_number, iso (or name, ev)."""
    link: bool = False
    """Link to the photos instead of copying them into the scene."""
    longest_side: int | None = None
    """Write larger photos and masks smaller, so many pixels along their longer side; their lens is scaled with them."""
    force: bool = False
    """Replace a scene that is there."""
    prepare: PrepareConfig = field(default_factory=PrepareConfig)


def import_colmap(
    sparse: Path,
    images: Path,
    points: Path | None,
    output: Path,
    config: ImportConfig | None = None,
    report: Report = print,
) -> Scene:
    """Import a COLMAP model and write it as a scene folder.

    Args: sparse: folder of cameras, images (and points3D), binary or text; images: folder of the photos;
        points: PLY file of a dense cloud, or None for the model's own sparse points; report: gets a sentence
        for each thing that the user may want to know.
    Raises: UserError naming the file and what is wrong in it; nothing is written then.
    """
    config = config or ImportConfig()
    check_output(Path(output), config.force)
    model = read_colmap(Path(sparse))
    lenses, photos = _colmap_photos(model, Path(images))
    if points is not None:
        raw = read_ply(Path(points))
    else:
        xyz, colors = read_points3d(model.folder)
        raw = RawPoints(xyz, None, colors, str(model.folder))
        report(f"No --points: the model's {len(xyz)} sparse points are used; a dense cloud is better.")
    return _finish(lenses, photos, raw, Path(output), config, report)


def import_nerfstudio(
    transforms: Path,
    points: Path | None,
    output: Path,
    images: Path | None = None,
    config: ImportConfig | None = None,
    report: Report = print,
) -> Scene:
    """Import a transforms.json of nerfstudio, instant-ngp or Blender and write it as a scene folder.

    Args: transforms: the file or its folder; points: PLY file in the same coordinates, or None for the one
        that the JSON names; images: folder that the photos' paths start from, if not the JSON's own.
    Raises: UserError naming the file and what is wrong in it; nothing is written then.
    """
    config = config or ImportConfig()
    check_output(Path(output), config.force)
    lenses, photos, ply = read_transforms(Path(transforms), None if images is None else Path(images))
    source = Path(points) if points is not None else ply
    if source is None:
        raise UserError(f"{transforms}: names no point cloud (ply_file_path); name one with --points.")
    return _finish(lenses, _without_common_folder(photos), read_ply(source), Path(output), config, report)


def _without_common_folder(photos: list[Photo]) -> list[Photo]:
    """Call `images/a.jpg` just `a.jpg` where all photos lie in the same folder."""
    firsts = {photo.name.split("/")[0] for photo in photos}
    if len(firsts) > 1 or any("/" not in photo.name for photo in photos):
        return photos
    return _without_common_folder([replace(photo, name=photo.name.split("/", 1)[1]) for photo in photos])


def _colmap_photos(model: ColmapModel, images: Path) -> tuple[list[Lens], list[Photo]]:
    if not images.is_dir():
        raise UserError(f"{images}: no such folder of photos.")
    used = sorted({image.camera for image in model.images})
    lenses = [lens_of(model.cameras[key], f"{model.folder}: camera {key}") for key in used]
    photos = []
    for image in model.images:
        where = f"{model.folder}: photo {image.name!r}"
        qw, qx, qy, qz = image.rotation
        if not np.isfinite([*image.rotation, *image.translation]).all():
            raise UserError(f"{where}: its pose is not finite; leave the photo out of the model.")
        matrix = rigid(rotation_of(np.array([qx, qy, qz, qw]), where), np.array(image.translation))
        file = photo_file(images, image.name, where)
        photos.append(Photo(file, used.index(image.camera), matrix, name=image.name))
    missing = [photo for photo in photos if not photo.file.is_file()]
    if missing:
        raise UserError(
            f"{missing[0].file}: photo not found ({len(missing)} of {len(photos)} are missing); "
            "--images names the folder that the photos' names in the model are relative to."
        )
    return lenses, photos


def _finish(
    lenses: list[Lens],
    photos: list[Photo],
    raw: RawPoints,
    output: Path,
    config: ImportConfig,
    report: Report,
) -> Scene:
    """Check the photos, read their exposure, prepare the points, and write the scene."""
    lenses = _limited(_fit_sizes(lenses, photos, report), config, report)
    photos = _with_exposure(photos, config.exif, report)
    if config.masks is not None:
        photos = _with_masks(photos, config.masks, report)
    photos, raw, offset = _near_origin(photos, raw, report)
    views = [(lenses[photo.lens], photo.world_to_camera) for photo in photos]
    _check_seen(raw, views)
    cloud = prepare(raw, views, config.prepare, report)
    znear, zfar = _depth_range(cloud, photos)
    known = [photo.exposure for photo in photos if photo.exposure is not None]
    scene = Scene(
        name=output.name,
        folder=output,
        lenses=tuple(lenses),
        photos=tuple(photos),
        points=cloud,
        up_vector=up_vector(photos),
        scene_exposure=float(np.mean(known)) if known else 0.0,
        znear=znear,
        zfar=zfar,
        world_offset=offset,
    )
    return save_scene(scene, output, config.link, config.force)


def _fit_sizes(lenses: list[Lens], photos: list[Photo], report: Report) -> list[Lens]:
    """Give each lens the size of its photos, where all were made smaller or larger alike."""
    fitted = []
    for index, lens in enumerate(lenses):
        own = [photo for photo in photos if photo.lens == index]
        sizes: dict[tuple[int, int], Photo] = {}
        for photo, size in zip(own, check_photos([photo.file for photo in own]), strict=True):
            sizes.setdefault(size, photo)
        if len(sizes) > 1:
            (a, first), (b, second) = list(sizes.items())[:2]
            raise UserError(
                f"{second.file}: is {b[0]}x{b[1]} pixels, but {first.name} of the same camera {a[0]}x{a[1]}; "
                "use the photos that the cameras were computed from."
            )
        width, height = next(iter(sizes), (lens.width, lens.height))
        if (width, height) != (lens.width, lens.height):
            scale = math.sqrt(width * height / (lens.width * lens.height))
            if max(abs(width - scale * lens.width), abs(height - scale * lens.height)) > 1.5:
                raise UserError(
                    f"{own[0].file}: is {width}x{height} pixels, its camera has {lens.width}x{lens.height}: "
                    "not the same picture made smaller; use the photos that the cameras were computed from."
                )
            report(
                f"Photos of {width}x{height}, a camera of {lens.width}x{lens.height}: its lens was scaled."
            )
            lens = lens.scaled(width, height)
        fitted.append(lens)
    return fitted


def _limited(lenses: list[Lens], config: ImportConfig, report: Report) -> list[Lens]:
    """Scale lenses of photos beyond the configured size; `save_scene` writes a photo in the size of its lens."""
    longest, most = max(max(lens.width, lens.height) for lens in lenses), config.longest_side
    if most is None:
        if longest > LARGE:
            report(
                f"Photos of up to {longest} pixels: with --longest-side 1600 they are written smaller and train sooner."
            )
        return lenses
    if most < SMALLEST_SIDE:
        raise UserError(f"--longest-side {most}: expected at least {SMALLEST_SIDE} pixels.")
    if config.link and longest > most:
        raise UserError(
            "--link and --longest-side: photos that are made smaller cannot be linked; leave one out."
        )
    limited = []
    for lens in lenses:
        factor = min(1.0, most / max(lens.width, lens.height))
        width, height = (max(1, round(factor * side)) for side in (lens.width, lens.height))
        if factor < 1:
            report(f"Photos of {lens.width}x{lens.height} are written as {width}x{height}.")
        try:
            limited.append(lens.scaled(width, height) if factor < 1 else lens)
        except ValueError as error:
            raise UserError(f"--longest-side {most}: {error}; choose another size.") from None
    return limited


def _with_exposure(photos: list[Photo], table: Path | None, report: Report) -> list[Photo]:
    """Read each photo's EV from its EXIF tags, or from a table where it has none."""
    rows = exif.read_exposure_table(table) if table is not None else {}
    result = []
    for photo in photos:
        value = exif.read_exposure(photo.file)
        if value is None:
            value = rows.get(photo.name, rows.get(photo.file.name))
        result.append(replace(photo, exposure=value))
    known = [photo.exposure for photo in result if photo.exposure is not None]
    if not known:
        report("Exposure: no photo has EXIF tags for it; training estimates it.")
    elif len(known) < len(result):
        report(f"Exposure: {len(result) - len(known)} of {len(result)} photos have no EXIF tags for it.")
    else:
        report(f"Exposure: EV {min(known):.2f} to {max(known):.2f}.")
    return result


def _with_masks(photos: list[Photo], folder: Path, report: Report) -> list[Photo]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of masks.")
    result = []
    for photo in photos:
        base = folder / photo.name
        candidates = [base.with_name(base.name + ".png"), base.with_suffix(".png"), base]
        mask = next((path for path in candidates if path.is_file()), None)
        result.append(replace(photo, mask=mask))
    found = sum(photo.mask is not None for photo in result)
    if not found:
        raise UserError(f"{folder}: no mask for any photo; a mask is called as its photo, with .png added.")
    if found < len(photos):
        report(f"Masks: {len(photos) - found} of {len(photos)} photos have none.")
    return result


def _near_origin(
    photos: list[Photo], raw: RawPoints, report: Report
) -> tuple[list[Photo], RawPoints, np.ndarray]:
    """Move a scene to the origin where float32 would blur it (as in map coordinates)."""
    centres = np.stack([-p.world_to_camera[:3, :3].T @ p.world_to_camera[:3, 3] for p in photos])
    usable = raw.xyz[np.isfinite(raw.xyz).all(axis=1)]
    if not len(usable):
        return photos, raw, np.zeros(3)
    middle = np.median(usable, axis=0)
    size = float(np.median(np.abs(usable - middle).max(axis=1)))
    reach = max(size, float(np.abs(centres - middle).max()))
    if np.abs(middle).max() < 100.0 * reach:
        return photos, raw, np.zeros(3)
    offset = np.rint(middle) if reach > 100 else middle
    report(f"The scene lies far from the origin; it was moved by {' '.join(f'{-v:g}' for v in offset)}.")
    moved = []
    for photo in photos:
        rotation, translation = photo.world_to_camera[:3, :3], photo.world_to_camera[:3, 3]
        moved.append(replace(photo, world_to_camera=rigid(rotation, translation + rotation @ offset)))
    return moved, replace(raw, xyz=raw.xyz - offset), offset


def _check_seen(raw: RawPoints, views: list[View]) -> None:
    """Refuse a cloud that lies outside all photos: it is not in the cameras' coordinates."""
    some = raw.xyz[:: max(1, len(raw.xyz) // 2000)]
    seen = np.zeros(len(some), bool)
    for lens, world_to_camera in views:
        seen |= lens.project(some @ world_to_camera[:3, :3].T + world_to_camera[:3, 3])[1]
    if len(some) and not seen.any():
        raise UserError(
            f"{raw.source}: no photo sees any of its points; it is not in the coordinates of the cameras."
        )


def _depth_range(cloud: PointCloud, photos: list[Photo]) -> tuple[float, float]:
    """Near and far plane: a thousandth and a thousand times the median distance from photos to points."""
    some = cloud.xyz[:: max(1, len(cloud) // 10000)]
    middle = [
        float(
            np.median(np.linalg.norm(some @ p.world_to_camera[:3, :3].T + p.world_to_camera[:3, 3], axis=1))
        )
        for p in photos
    ]
    typical = float(np.median(middle)) or 1.0
    return 1e-3 * typical, 1e3 * typical


def up_vector(photos: list[Photo]) -> np.ndarray:
    """Guess which way is up: what the photos' tops share, or, where they look down, the way back to them."""
    tops = np.stack([-photo.world_to_camera[1, :3] for photo in photos]).mean(axis=0)
    backs = np.stack([-photo.world_to_camera[2, :3] for photo in photos]).mean(axis=0)
    rights = np.stack([photo.world_to_camera[0, :3] for photo in photos])
    values, vectors = np.linalg.eigh(rights.T @ rights / len(photos))
    guess = tops
    if (
        values[1] > 0.05 and values[1] > 3.0 * values[0]
    ):  # level cameras that turn: their right sides span the ground
        up = vectors[:, 0]
        guide = tops if abs(tops @ up) > 0.1 else backs
        guess = up if guide @ up >= 0 else -up
    length = float(np.linalg.norm(guess))
    return guess / length if length > 1e-6 else np.array([0.0, -1.0, 0.0])
