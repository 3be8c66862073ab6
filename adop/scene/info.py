"""What is in a scene, in words and numbers, and what is odd about it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from adop.errors import UserError
from adop.geometry.lens import Lens
from adop.scene.photo_cache import photo_size
from adop.scene.scene import Scene
from adop.scene.visibility import visible

_SAMPLE = 100_000  # points that coverage is judged by


@dataclass(frozen=True, eq=False)
class SceneInfo:
    """A scene's facts; `str()` of it is the text that `adop info` prints."""

    lines: tuple[tuple[str, str], ...]  # (label, text)
    warnings: tuple[str, ...]
    seen_by: np.ndarray  # [S] int, photos that see each sampled point
    points_of: np.ndarray  # [P] int, sampled points that each photo sees

    def __str__(self) -> str:
        lines = [f"{label:10} {text}" for label, text in self.lines]
        return "\n".join([*lines, *(f"warning    {text}" for text in self.warnings)])


def scene_info(scene: Scene) -> SceneInfo:
    """Describe a loaded scene: photos, lenses, exposure, points, coverage, and warnings."""
    seen_by, points_of = _coverage(scene)
    points = scene.points
    low, high = points.xyz.min(axis=0), points.xyz.max(axis=0)
    spacing = np.percentile(points.radius, [10, 50, 90])
    has = [
        name for name, value in (("normals", points.normals), ("colours", points.colors)) if value is not None
    ]
    sizes = Counter((scene.lenses[p.lens].width, scene.lenses[p.lens].height) for p in scene.photos)
    lines = [
        ("scene", f"{scene.name} ({scene.folder})"),
        ("photos", f"{len(scene.photos)}: " + ", ".join(f"{n} of {w}x{h}" for (w, h), n in sizes.items())),
    ]
    for index, lens in enumerate(scene.lenses):
        count = sum(photo.lens == index for photo in scene.photos)
        lines.append((f"lens {index}", f"{_lens_text(lens)}, {count} photos"))
    lines += [
        ("exposure", _exposure_text(scene)),
        ("masks", f"{sum(photo.mask is not None for photo in scene.photos)} of {len(scene.photos)} photos"),
        ("points", f"{len(points):,} with {' and '.join(has) or 'positions only'}"),
        (
            "spacing",
            f"{spacing[1]:.4g} (10 % below {spacing[0]:.4g}, 10 % above {spacing[2]:.4g}): 4th neighbour",
        ),
        ("box", f"{_vector(low)} to {_vector(high)}"),
        ("up", f"{_vector(scene.up_vector)}; depth {scene.znear:.4g} to {scene.zfar:.4g}"),
        (
            "coverage",
            f"a point is seen by {seen_by.mean():.1f} photos on average, "
            f"{100 * (seen_by == 0).mean():.1f} % by none",
        ),
        ("on photos", _footprint_text(scene, points_of)),
    ]
    if scene.world_offset.any():
        lines.append(("offset", f"the source's coordinates are these plus {_vector(scene.world_offset)}"))
    return SceneInfo(tuple(lines), tuple(_warnings(scene, seen_by, points_of)), seen_by, points_of)


def _coverage(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Count, over a sample of the points, the photos that see each and the points that each photo sees."""
    sample = scene.points.xyz[:: max(1, len(scene.points) // _SAMPLE)]
    seen_by = np.zeros(len(sample), np.int64)
    points_of = []
    for lens, world_to_camera in scene.views:
        index, _ = visible(sample, lens, world_to_camera)
        seen_by[index] += 1
        points_of.append(len(index))
    return seen_by, np.array(points_of)


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
    return (
        text
        if len(known) == len(scene.photos)
        else f"{text}; {len(known)} of {len(scene.photos)} photos have one"
    )


def _footprint_text(scene: Scene, points_of: np.ndarray) -> str:
    factor = max(1, len(scene.points) // _SAMPLE)
    pixels = np.array([lens.width * lens.height for lens, _ in scene.views])
    share = np.maximum(points_of, 1e-9) * factor / pixels
    return f"{share.mean():.2f} points for each pixel (least {share.min():.2f}, most {share.max():.2f})"


def _warnings(scene: Scene, seen_by: np.ndarray, points_of: np.ndarray) -> list[str]:
    found = _photo_warnings(scene)
    if len(scene.photos) < 8:
        found.append(f"only {len(scene.photos)} photos: views between them will hardly be good.")
    for index, lens in enumerate(scene.lenses):
        if not _one_to_one(lens):
            found.append(
                f"lens {index}: its distortion folds back inside the picture; corners show no points."
            )
    if (seen_by == 0).mean() > 0.2:
        found.append(f"{100 * (seen_by == 0).mean():.0f} % of the points are seen by no photo.")
    poor = [p.name for p, n in zip(scene.photos, points_of, strict=True) if n < 0.05 * np.median(points_of)]
    if poor:
        found.append(f"{len(poor)} photos see hardly any points: {_some(poor)}.")
    xyz = scene.points.xyz
    low, high = np.percentile(xyz, [1, 99], axis=0)
    if ((xyz.max(axis=0) - xyz.min(axis=0)) > 20 * np.maximum(high - low, 1e-30)).any():
        found.append("the box is over 20 times that of 98 % of the points: a few points lie very far away.")
    if scene.points.normals is None:
        found.append("the points have no normals: far sides show through.")
    if scene.points.colors is None:
        found.append("the points have no colours: they start grey.")
    return found


def _photo_warnings(scene: Scene) -> list[str]:
    """What is odd about files and poses."""
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
                f"{photo.name} is {width}x{height}, its lens {lens.width}x{lens.height}: training refuses it."
            )
    missing = [photo.name for photo in scene.photos if photo.exposure is None]
    if 0 < len(missing) < len(scene.photos):
        found.append(f"{len(missing)} photos have no exposure: {_some(missing)}.")
    poses = Counter(photo.world_to_camera.tobytes() for photo in scene.photos)
    same = [photo.name for photo in scene.photos if poses[photo.world_to_camera.tobytes()] > 1]
    if same:
        found.append(f"{len(same)} photos share a pose with another one: {_some(same)}.")
    return found


def _one_to_one(lens: Lens) -> bool:
    """Whether the lens maps the corners of its picture from somewhere, judged along the radius."""
    if lens.model == "ocam" or not lens.distortion.any():
        return True
    field = lens.field()
    if math.isinf(field):
        return True
    fx, fy, cx, cy = lens.intrinsics
    corner = max(math.hypot((x - cx) / fx, (y - cy) / fy) for x in (0, lens.width) for y in (0, lens.height))
    edge = 0.999 * field
    x, z = (edge, 1.0) if lens.model == "opencv" else (math.sin(edge), math.cos(edge))
    uv, _ = lens.project(np.array([[x, 0.0, z]]))
    return bool(abs(uv[0, 0] - cx) / fx > 0.98 * corner)


def _vector(values: np.ndarray) -> str:
    return " ".join(f"{float(value):.4g}" for value in values)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
