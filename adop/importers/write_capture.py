"""Writing what another program's files hold, photos and points, as a scene folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from adop.errors import UserError, quoted
from adop.geometry.lens import Lens, PosedLens
from adop.geometry.rigid_motion import rigid
from adop.images import exif
from adop.images.photo_files import check_photos
from adop.importers.import_config import ImportConfig
from adop.importers.linear_photos import encoded_photos
from adop.importers.masks import check_mask, find_masks, masks_beside, report_masks
from adop.importers.splits import apply_split
from adop.scene.info import odd_photos
from adop.scene.ply import RawPoints
from adop.scene.point_cloud import PointCloud
from adop.scene.prepare import Report, prepare
from adop.scene.read import FARTHEST
from adop.scene.scene import Photo, Scene, usable_names
from adop.scene.write import save_scene

LARGE_PX = 2400  # longer side of a photo from which on the report suggests a smaller size

# Finds points in photos, whose lenses have the photos' sizes; `adop.capture.triangulate` has one.
MakePoints = Callable[[list[Lens], list[Photo]], RawPoints]


@dataclass(frozen=True, eq=False)
class Capture:
    """What another program's files hold."""

    lenses: list[Lens]
    photos: list[Photo]
    points: RawPoints | MakePoints


def share_lenses(lenses: Sequence[Lens]) -> tuple[list[Lens], list[int]]:
    """Return the different ones of the photos' lenses, and for each photo the index of its own."""
    index: dict[tuple, int] = {}
    different: list[Lens] = []
    own = []
    for lens in lenses:
        key = (lens.model, lens.width, lens.height, *lens.intrinsics, *lens.distortion)
        if key not in index:
            index[key] = len(different)
            different.append(lens)
        own.append(index[key])
    return different, own


def write_scene(capture: Capture, output: Path, config: ImportConfig, report: Report) -> Scene:
    """Check the photos, find their masks, read their exposure, prepare the points, and write the scene."""
    photos = _named(apply_split(capture.photos, config.split, config.skip_missing, report), report)
    for photo in photos:
        if not (np.abs(photo.world_to_camera) < FARTHEST).all():
            raise UserError(f"{photo.file}: its pose is not finite, or is huge; leave the photo out.")
    fitted = _fit_sizes(capture.lenses, photos, _once(report))
    lenses = _limit_sizes(fitted, config, _once(report))
    photos = _with_exposure(_with_masks(photos, config, report), config.exif, report)
    with encoded_photos(photos, output, config) as photos:
        raw = capture.points(fitted, photos) if callable(capture.points) else capture.points
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
            scene_exposure=float(np.median(known)) if known else 0.0,
            znear=znear,
            zfar=zfar,
            world_offset=offset,
        )
        for sentence in odd_photos(scene):
            report(sentence)
        return save_scene(scene, output, config.link, config.force)


def _once(report: Report) -> Report:
    """Return what reports each sentence only once, for captures in which every photo has a lens of its own."""
    said: set[str] = set()

    def say(sentence: str) -> None:
        if sentence not in said:
            said.add(sentence)
            report(sentence)

    return say


def _fit_sizes(lenses: list[Lens], photos: list[Photo], report: Report) -> list[Lens]:
    """Scale each lens to the size of its photos, which must all have been resized alike."""
    fitted = []
    for index, lens in enumerate(lenses):
        own = [photo for photo in photos if photo.lens == index]
        width, height = _common_size(own) or (lens.width, lens.height)
        if (width, height) != (lens.width, lens.height):
            scale = math.sqrt(width * height / (lens.width * lens.height))
            if max(abs(width - scale * lens.width), abs(height - scale * lens.height)) > 1.5:
                raise UserError(
                    f"{own[0].file}: is {width}x{height} pixels, its camera has {lens.width}x{lens.height}, "
                    "which is another shape; use the photos that the cameras were computed from."
                )
            report(
                f"The photos are {width}x{height}, their camera {lens.width}x{lens.height}: its lens was scaled."
            )
            lens = lens.scaled(width, height)
        fitted.append(lens)
    return fitted


def _common_size(photos: list[Photo]) -> tuple[int, int] | None:
    """Return the size in pixels that the photos of a camera share, or None for a camera without photos."""
    sizes: dict[tuple[int, int], Photo] = {}
    for photo, size in zip(photos, check_photos([photo.file for photo in photos]), strict=True):
        sizes.setdefault(size, photo)
    if len(sizes) > 1:
        (a, first), (b, second) = list(sizes.items())[:2]
        raise UserError(
            f"{second.file}: is {b[0]}x{b[1]} pixels, but {first.name} of the same camera is {a[0]}x{a[1]}; "
            "use the photos that the cameras were computed from."
        )
    return next(iter(sizes), None)


def _limit_sizes(lenses: list[Lens], config: ImportConfig, report: Report) -> list[Lens]:
    """Scale the lenses of photos beyond the configured size; `save_scene` writes a photo in the size of its lens."""
    longest, limit = max(max(lens.width, lens.height) for lens in lenses), config.longest_side
    if limit is None:
        if longest > LARGE_PX:
            report(
                f"The photos have up to {longest} pixels a side: --longest-side 1600 would shrink them and speed up "
                "training."
            )
        return lenses
    if config.link and longest > limit:
        raise UserError(
            "--link and --longest-side: photos that are shrunk cannot be linked; omit one of the two."
        )
    limited = []
    for lens in lenses:
        factor = min(1.0, limit / max(lens.width, lens.height))
        width, height = (max(1, round(factor * side)) for side in (lens.width, lens.height))
        if factor < 1:
            report(f"Photos of {lens.width}x{lens.height} are written as {width}x{height}.")
        try:
            limited.append(lens.scaled(width, height) if factor < 1 else lens)
        except ValueError as error:
            raise UserError(f"--longest-side {limit}: {error}; choose another size.") from None
    return limited


def _with_exposure(photos: list[Photo], table: Path | None, report: Report) -> list[Photo]:
    """Set each photo's EV from its EXIF tags, or from the CSV table where it has none."""
    rows = exif.read_exposure_table(table) if table is not None else {}
    result = []
    for photo in photos:
        value = exif.read_exposure(photo.file)
        if value is None:
            value = rows.get(photo.name, rows.get(photo.file.name))
        result.append(replace(photo, exposure=value))
    known = [photo.exposure for photo in result if photo.exposure is not None]
    if not known:
        report("Exposure: no photo has EXIF tags for it; training will estimate it.")
    elif len(known) < len(result):
        report(f"Exposure: {len(result) - len(known)} of {len(result)} photos have no EXIF tags for it.")
    else:
        report(f"Exposure: EV {min(known):.2f} to {max(known):.2f}.")
    return result


def _named(photos: list[Photo], report: Report) -> list[Photo]:
    """Give photos names that a scene can list, where their own are not UTF-8 or hold blanks at their ends."""
    names = usable_names([photo.name for photo in photos])
    changed = [(photo.name, name) for photo, name in zip(photos, names, strict=True) if photo.name != name]
    if changed:
        former, name = changed[0]
        report(
            f"{len(changed)} of {len(photos)} photos have names that a scene cannot list and got others, such as {name} "
            f"for {quoted(former)}."
        )
    return [replace(photo, name=name) for photo, name in zip(photos, names, strict=True)]


def _with_masks(photos: list[Photo], config: ImportConfig, report: Report) -> list[Photo]:
    """Give photos the masks of the folder that was named, or those that lie beside photos which have none yet."""
    files, names = [photo.file for photo in photos], [photo.name for photo in photos]
    if config.masks is not None:
        masks = find_masks(names, config.masks, report)
    elif config.find_masks:
        beside = masks_beside(files)
        masks = [photo.mask or mask for photo, mask in zip(photos, beside, strict=True)]
        report_masks(
            [mask if photo.mask is None else None for photo, mask in zip(photos, beside, strict=True)], report
        )
    else:
        masks = [photo.mask for photo in photos]
    for file, mask in zip(files, masks, strict=True):
        if mask is not None:
            check_mask(mask, file)
    return [replace(photo, mask=mask) for photo, mask in zip(photos, masks, strict=True)]


def _near_origin(
    photos: list[Photo], raw: RawPoints, report: Report
) -> tuple[list[Photo], RawPoints, np.ndarray]:
    """Move a scene to the origin if it lies so far away that float32 would lose digits, as map coordinates do.

    Returns: photos and points of the moved scene, and the offset [3]: source coordinates = new ones + offset.
    """
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
    report(f"The scene is far from the origin; it was moved by {' '.join(f'{-v:g}' for v in offset)}.")
    moved = []
    for photo in photos:
        rotation, translation = photo.world_to_camera[:3, :3], photo.world_to_camera[:3, 3]
        moved.append(replace(photo, world_to_camera=rigid(rotation, translation + rotation @ offset)))
    return moved, replace(raw, xyz=raw.xyz - offset), offset


def _check_seen(raw: RawPoints, views: list[PosedLens]) -> None:
    """Raise UserError for a cloud outside all photos: it is not in the coordinate system of the cameras."""
    some = raw.xyz[:: max(1, len(raw.xyz) // 2000)]
    seen = np.zeros(len(some), bool)
    for lens, world_to_camera in views:
        _, _, inside = lens.project(some @ world_to_camera[:3, :3].T + world_to_camera[:3, 3])
        seen |= inside
    if len(some) and not seen.any():
        raise UserError(
            f"{raw.source}: no photo sees any of its points; use a cloud in the coordinate system of the cameras."
        )


def _depth_range(cloud: PointCloud, photos: list[Photo]) -> tuple[float, float]:
    """Return near and far plane: 1/1000 and 1000 times the typical distance from photos to points."""
    some = cloud.xyz[:: max(1, len(cloud) // 10000)]
    medians = []
    for photo in photos:
        local = some @ photo.world_to_camera[:3, :3].T + photo.world_to_camera[:3, 3]
        medians.append(float(np.median(np.linalg.norm(local, axis=1))))
    typical = float(np.median(medians)) or 1.0
    return 1e-3 * typical, 1e3 * typical


def up_vector(photos: list[Photo]) -> np.ndarray:
    """Return a guess of the world's up direction [3].

    Level cameras that turn have right sides that span the ground, so up is the direction perpendicular to them. In
    other captures it is the mean direction of the photos' upper edges. Where cameras look straight down, the upper edges
    do not tell its sign, and up points from the scene to the cameras.
    """
    tops = np.stack([-photo.world_to_camera[1, :3] for photo in photos]).mean(axis=0)
    backs = np.stack([-photo.world_to_camera[2, :3] for photo in photos]).mean(axis=0)
    rights = np.stack([photo.world_to_camera[0, :3] for photo in photos])
    values, vectors = np.linalg.eigh(rights.T @ rights / len(photos))
    guess = tops
    if values[1] > 0.05 and values[1] > 3.0 * values[0]:  # the right sides span a plane
        up = vectors[:, 0]
        guide = tops if abs(tops @ up) > 0.1 else backs
        guess = up if guide @ up >= 0 else -up
    length = float(np.linalg.norm(guess))
    return guess / length if length > 1e-6 else np.array([0.0, -1.0, 0.0])
