"""A description of a scene in words and numbers, and warnings about what may spoil the result."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from adop.errors import UserError
from adop.geometry.lens import Lens
from adop.geometry.lens_model import monotonic_radius, radial_profile
from adop.images.photo_files import photo_size, read_mask
from adop.scene.point_cloud import PointCloud
from adop.scene.scene import Scene
from adop.scene.visibility import visible

SAMPLE_POINTS = 100_000  # about how many points are tested against the photos
FEW_PHOTOS = 8
MANY_HIDDEN = 0.2  # share of points that no photo sees
FEW_POINTS = 0.05  # of the median number of points that a photo sees
LARGE_BOX = 20.0  # times the box of 98 % of the points
FAR_AWAY = 10.0  # times the size of the points, or the usual distance between cameras
FAR_EXPOSURE_EV = 4.0  # from the median of the photos


@dataclass(frozen=True)
class PhotoInfo:
    """The facts about one photo."""

    name: str
    width: int
    height: int
    exposure: float | None  # EV at ISO 100
    points_seen: int  # about how many of all points
    masked: float  # share of the pixels that do not count
    odd: tuple[str, ...]  # what is unusual about it


@dataclass(frozen=True, eq=False)
class SceneInfo:
    """The facts about a scene; `str()` gives the text that `adop info` prints."""

    lines: tuple[tuple[str, str], ...]  # (label, text)
    photos: tuple[PhotoInfo, ...]
    warnings: tuple[str, ...]
    seen_by: np.ndarray  # [S] int, photos that see each sampled point
    points_seen: np.ndarray  # [P] int, sampled points that each photo sees

    def __str__(self) -> str:
        """Return a line for each fact, each photo and each warning."""
        lines = [f"{label:10} {text}" for label, text in self.lines]
        warnings = (f"warning    {text}" for text in self.warnings)
        return "\n".join([*lines, *_photo_table(self.photos), *warnings])

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain values, for JSON."""
        return {
            "facts": dict(self.lines),
            "photos": [asdict(photo) for photo in self.photos],
            "warnings": list(self.warnings),
        }


def scene_info(scene: Scene) -> SceneInfo:
    """Return the facts about a loaded scene: photos, lenses, exposure, points, coverage, and warnings."""
    seen_by, points_seen = _coverage(scene)
    photos = _photo_infos(scene, points_seen)
    lines = [*_photo_lines(scene), *_point_lines(scene.points)]
    lines += [
        ("up", f"{_vector(scene.up_vector)}; depth {scene.znear:.4g} to {scene.zfar:.4g}"),
        (
            "coverage",
            f"a point is seen by {seen_by.mean():.1f} photos on average, "
            f"{100 * (seen_by == 0).mean():.1f} % by none",
        ),
        ("on photos", _density_text(scene, points_seen)),
    ]
    if scene.world_offset.any():
        lines.append(("offset", f"source coordinates are these plus {_vector(scene.world_offset)}"))
    warnings = tuple(_warnings(scene, seen_by, photos))
    return SceneInfo(tuple(lines), photos, warnings, seen_by, points_seen)


def _photo_infos(scene: Scene, points_seen: np.ndarray) -> tuple[PhotoInfo, ...]:
    factor = max(1, len(scene.points) // SAMPLE_POINTS)
    odd = _oddities(scene, points_seen)
    infos = []
    for index, photo in enumerate(scene.photos):
        lens = scene.lenses[photo.lens]
        infos.append(
            PhotoInfo(
                name=photo.name,
                width=lens.width,
                height=lens.height,
                exposure=photo.exposure,
                points_seen=int(points_seen[index]) * factor,
                masked=0.0 if photo.mask is None else 1 - float(read_mask(photo.mask).mean()),
                odd=odd[index],
            )
        )
    return tuple(infos)


def _oddities(scene: Scene, points_seen: np.ndarray) -> list[tuple[str, ...]]:
    """Return what is unusual about each photo's camera and exposure."""
    far = far_cameras(scene)
    known = [photo.exposure for photo in scene.photos if photo.exposure is not None]
    usual = float(np.median(known)) if known else 0.0
    result = []
    for index, photo in enumerate(scene.photos):
        odd = []
        if points_seen[index] < FEW_POINTS * np.median(points_seen):
            odd.append("sees hardly any points")
        if far[index]:
            odd.append("stands far from everything else")
        if photo.exposure is not None and abs(photo.exposure - usual) > FAR_EXPOSURE_EV:
            odd.append("its exposure is far from the others'")
        result.append(tuple(odd))
    return result


def odd_photos(scene: Scene) -> list[str]:
    """Return a sentence for each thing that is unusual about photos' cameras and exposures."""
    return _odd_sentences([photo.name for photo in scene.photos], _oddities(scene, _coverage(scene)[1]))


def _odd_sentences(names: list[str], odd: list[tuple[str, ...]]) -> list[str]:
    sentences = []
    for what in dict.fromkeys(thing for things in odd for thing in things):
        some = [name for name, things in zip(names, odd, strict=True) if what in things]
        sentences.append(f"{len(some)} of {len(names)} photos, {what}: {_some(some)}.")
    return sentences


def far_cameras(scene: Scene) -> np.ndarray:
    """Return [P] bool, the photos whose cameras stand absurdly far from the points and from the other cameras."""
    centres = np.stack([-pose[:3, :3].T @ pose[:3, 3] for _, pose in scene.views])
    low, high = np.percentile(scene.points.xyz, [1, 99], axis=0)
    distance = np.linalg.norm(centres - np.median(centres, axis=0), axis=1)
    usual = max(float(np.linalg.norm(high - low)), float(np.median(distance)))
    return distance > FAR_AWAY * usual


def _photo_table(photos: tuple[PhotoInfo, ...]) -> list[str]:
    """Return a line for each photo, below a heading."""
    width = max(len(photo.name) for photo in photos)
    lines = [f"{'photo':{width}}  {'size':>11}  {'EV':>6}  {'points':>11}  masked"]
    for photo in photos:
        size, exposure = f"{photo.width}x{photo.height}", photo.exposure
        ev = "-" if exposure is None else f"{exposure:.2f}"
        masked = f"{100 * photo.masked:4.0f} %" if photo.masked else "     -"
        line = f"{photo.name:{width}}  {size:>11}  {ev:>6}  {photo.points_seen:>11,}  {masked}"
        lines.append("  ".join([line, *photo.odd]))
    return lines


def _photo_lines(scene: Scene) -> list[tuple[str, str]]:
    """Describe photos, lenses, exposure and masks."""
    sizes = Counter((scene.lenses[p.lens].width, scene.lenses[p.lens].height) for p in scene.photos)
    lines = [
        ("scene", f"{scene.name} ({scene.folder})"),
        ("photos", f"{len(scene.photos)}: " + ", ".join(f"{n} of {w}x{h}" for (w, h), n in sizes.items())),
    ]
    for index, lens in enumerate(scene.lenses):
        count = sum(photo.lens == index for photo in scene.photos)
        lines.append((f"lens {index}", f"{_lens_text(lens)}, {count} photos"))
    masks = sum(photo.mask is not None for photo in scene.photos)
    return [
        *lines,
        ("exposure", _exposure_text(scene)),
        ("masks", f"{masks} of {len(scene.photos)} photos"),
        ("held out", _split_text(scene)),
    ]


def _split_text(scene: Scene) -> str:
    held_out = [photo.held_out for photo in scene.photos]
    if all(mark is None for mark in held_out):
        return "as training chooses (the scene has no split.txt)"
    return f"{sum(map(bool, held_out))} of {len(held_out)} photos, by the scene's split.txt"


def _point_lines(points: PointCloud) -> list[tuple[str, str]]:
    """Describe how many points there are, what they carry, how dense they are and where they lie."""
    low, high = points.xyz.min(axis=0), points.xyz.max(axis=0)
    spacing = np.percentile(points.radius, [10, 50, 90])
    optional = (("normals", points.normals), ("colours", points.colors))
    has = [name for name, value in optional if value is not None]
    return [
        ("points", f"{len(points):,} with {' and '.join(has) or 'positions only'}"),
        (
            "spacing",
            f"{spacing[1]:.4g} to the 4th neighbour (10 % below {spacing[0]:.4g}, 10 % above {spacing[2]:.4g})",
        ),
        ("box", f"{_vector(low)} to {_vector(high)}"),
    ]


def _coverage(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Return, for a sample of the points, how many photos see each one and how many points each photo sees."""
    sample = scene.points.xyz[:: max(1, len(scene.points) // SAMPLE_POINTS)]
    seen_by = np.zeros(len(sample), np.int64)
    points_seen = []
    for lens, world_to_camera in scene.views:
        index, _ = visible(sample, lens, world_to_camera)
        seen_by[index] += 1
        points_seen.append(len(index))
    return seen_by, np.array(points_seen)


def _lens_text(lens: Lens) -> str:
    fx, fy, cx, cy = lens.intrinsics
    text = f"{lens.model} {lens.width}x{lens.height}, focal {fx:.1f} {fy:.1f}, centre {cx:.1f} {cy:.1f} px"
    if lens.model == "opencv":
        across = 2 * math.degrees(math.atan(0.5 * lens.width / fx))
        down = 2 * math.degrees(math.atan(0.5 * lens.height / fy))
        text += f", {across:.0f} x {down:.0f} degrees"
    return text + ("" if lens.distortion.any() else ", no distortion")


def _exposure_text(scene: Scene) -> str:
    known = [photo.exposure for photo in scene.photos if photo.exposure is not None]
    if not known:
        return "unknown (training estimates it)"
    text = f"EV {min(known):.2f} to {max(known):.2f}, scene {scene.scene_exposure:.2f}"
    if len(known) < len(scene.photos):
        text += f"; {len(known)} of {len(scene.photos)} photos have one"
    return text


def _density_text(scene: Scene, points_seen: np.ndarray) -> str:
    factor = max(1, len(scene.points) // SAMPLE_POINTS)
    pixels = np.array([lens.width * lens.height for lens, _ in scene.views])
    share = np.maximum(points_seen, 1e-9) * factor / pixels
    return f"{share.mean():.2f} points per pixel (from {share.min():.2f} to {share.max():.2f})"


def _warnings(scene: Scene, seen_by: np.ndarray, photos: tuple[PhotoInfo, ...]) -> list[str]:
    found = _photo_warnings(scene)
    if len(scene.photos) < FEW_PHOTOS:
        found.append(f"only {len(scene.photos)} photos: expect poor views between them.")
    for index, lens in enumerate(scene.lenses):
        if not _covers_corners(lens):
            found.append(
                f"lens {index}: its distortion folds back inside the image; its corners show no points."
            )
    if (seen_by == 0).mean() > MANY_HIDDEN:
        found.append(f"{100 * (seen_by == 0).mean():.0f} % of the points are seen by no photo.")
    found += _odd_sentences([photo.name for photo in photos], [photo.odd for photo in photos])
    xyz = scene.points.xyz
    low, high = np.percentile(xyz, [1, 99], axis=0)
    if ((xyz.max(axis=0) - xyz.min(axis=0)) > LARGE_BOX * np.maximum(high - low, 1e-30)).any():
        found.append(
            f"a few points lie very far away: the box is over {LARGE_BOX:.0f} times that of 98 % of the points."
        )
    if scene.points.normals is None:
        found.append("the points have no normals: surfaces that face away will show through gaps.")
    if scene.points.colors is None:
        found.append("the points have no colours: training starts from grey.")
    return found


def _photo_warnings(scene: Scene) -> list[str]:
    """Warn about photo files, exposures and poses."""
    found = []
    for photo in scene.photos:
        lens = scene.lenses[photo.lens]
        try:
            width, height = photo_size(photo.file)
        except UserError as error:
            found.append(str(error))
            continue
        if (width, height) != (lens.width, lens.height):
            found.append(
                f"{photo.name} is {width}x{height}, but its lens {lens.width}x{lens.height}: training will refuse it."
            )
    missing = [photo.name for photo in scene.photos if photo.exposure is None]
    if 0 < len(missing) < len(scene.photos):
        found.append(f"{len(missing)} photos have no exposure: {_some(missing)}.")
    poses = Counter(photo.world_to_camera.tobytes() for photo in scene.photos)
    same = [photo.name for photo in scene.photos if poses[photo.world_to_camera.tobytes()] > 1]
    if same:
        found.append(f"{len(same)} photos have the same pose as another one: {_some(same)}.")
    return found


def _covers_corners(lens: Lens) -> bool:
    """Whether the lens sees a direction in every corner of its image, tangential distortion left out."""
    if lens.model == "ocam":  # its cut-off angle is part of the calibration
        return True
    distortion = torch.from_numpy(lens.distortion)[None]
    limit = monotonic_radius(lens.model, distortion)
    if math.isinf(limit):
        return True
    fx, fy, cx, cy = lens.intrinsics
    corner = max(math.hypot((x - cx) / fx, (y - cy) / fy) for x in (0, lens.width) for y in (0, lens.height))
    return float(radial_profile(lens.model, distortion, limit)) > 0.98 * corner


def _vector(values: np.ndarray) -> str:
    return " ".join(f"{float(value):.4g}" for value in values)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
