"""Reading the cameras that Agisoft Metashape exports as XML.

Axes and pixels are as in adop: a camera looks along z, x points right and y down, and the centre of the first pixel is at
(0.5, 0.5). Source: the manual of Metashape Professional 2.3, appendix on camera models. A camera's `transform` leads from
the camera into the chunk, the `transform` of its component from there into the coordinate system of the points.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

import numpy as np

from adop.errors import UserError, one_line, quoted
from adop.files import check_readable
from adop.geometry.brown_lens import brown_lens, corner_radius
from adop.geometry.lens import Lens
from adop.geometry.rigid_motion import invert_rigid, nearest_rotation, rigid
from adop.importers.photo_finder import find_photos, keep_present
from adop.importers.write_capture import share_lenses
from adop.scene.prepare import Report
from adop.scene.scene import Photo

MAX_DEPTH, MAX_ELEMENTS = 64, 5_000_000  # a camera has about six
MAX_LEFT_OUT_PX = 0.25  # effect of skew and of a fisheye's tangential distortion, which adop's lenses lack
_FISHEYES = ("fisheye", "equidistant_fisheye")
_ELSEWHERE = "export the cameras in COLMAP's format with undistorted photos, and use adop import colmap"


@dataclass(frozen=True, eq=False)
class _Component:
    """Where a component of the chunk lies: point = scale * rotation @ chunk point + translation."""

    scale: float
    rotation: np.ndarray  # [3,3]
    translation: np.ndarray  # [3]


def read_metashape(
    path: Path, images: Path, skip_missing: bool, report: Report
) -> tuple[list[Lens], list[Photo]]:
    """Return the lenses, and the aligned photos sorted by name, in the coordinate system of the exported points.

    Args: path: the XML file; images: folder of the photos; skip_missing: leave out photos that are not there.
    Raises: UserError naming the file and the sensor or camera, and what is wrong.
    """
    chunk = _chunk(path)
    cameras = _aligned_cameras(path, chunk, report)
    labels = [camera.get("label", "") for camera in cameras]
    files = find_photos(images, labels, str(path), report)
    hint = "cameras are named like photos in the folder that --images names"
    kept = keep_present(files, skip_missing, hint, report)
    sensors: dict[str, Lens] = {}
    lenses, poses = [], []
    for index in kept:
        number = cameras[index].get("sensor_id", "")
        if number not in sensors:
            sensors[number] = _lens(path, chunk, number, report)
        lenses.append(sensors[number])
        poses.append(_pose(path, chunk, cameras[index]))
    _report_coordinates(chunk, report)
    different, own = share_lenses(lenses)
    names = [files[index].relative_to(images).as_posix() for index in kept]
    photos = [
        Photo(files[index], lens, pose, name=name)
        for index, lens, pose, name in zip(kept, own, poses, names, strict=True)
    ]
    return different, sorted(photos, key=lambda photo: photo.name)


def _chunk(path: Path) -> ET.Element:
    """Return the chunk of an XML file."""
    root = _parse(path)
    chunks = root.findall("chunk") if root.tag == "document" else []
    if not chunks or chunks[0].find("cameras") is None:
        raise UserError(
            f"{path}: holds no cameras of Metashape; export them by File > Export > Export Cameras."
        )
    if len(chunks) > 1:
        raise UserError(f"{path}: holds {len(chunks)} chunks; export the cameras of one.")
    return chunks[0]


def _parse(path: Path) -> ET.Element:
    """Parse an XML file. A document type is refused, because only there can entities be declared, which may be bombs."""
    builder, depth, count = ET.TreeBuilder(), 0, 0
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > MAX_DEPTH or count > MAX_ELEMENTS:
            what = "elements in one another" if depth > MAX_DEPTH else "elements"
            raise UserError(
                f"{path}: line {parser.CurrentLineNumber}: too many {what} for a file of cameras."
            )
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise UserError(
            f"{path}: declares a document type, which no file of Metashape does; export it again."
        )

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = builder.data, refuse
    check_readable(path)
    try:
        with open(path, "rb") as file:
            parser.ParseFile(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (expat.ExpatError, LookupError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: is not XML, or is cut off ({one_line(error)}).") from error
    return builder.close()


def _aligned_cameras(path: Path, chunk: ET.Element, report: Report) -> list[ET.Element]:
    """Return the enabled cameras with a pose, of one component unless all components say where they lie."""
    every = list(chunk.iterfind("cameras//camera"))
    enabled = [camera for camera in every if camera.get("enabled", "true").lower() not in ("false", "0")]
    aligned = [camera for camera in enabled if camera.find("transform") is not None]
    for few, many, what in ((enabled, every, "disabled"), (aligned, enabled, "not aligned")):
        if len(few) < len(many):
            report(f"{len(many) - len(few)} of {len(every)} cameras are {what} and were left out.")
    if not aligned:
        raise UserError(f"{path}: none of its {len(every)} cameras is aligned; align the photos first.")
    numbers = [camera.get("component_id", "") for camera in aligned]
    placed = {component.get("id") for component in chunk.iterfind("components/component[transform]")}
    if len(set(numbers)) > 1 and not placed.issuperset(numbers):
        largest = max(sorted(set(numbers)), key=numbers.count)
        report(
            f"{len(numbers) - numbers.count(largest)} of {len(every)} cameras belong to other components, whose places "
            "are not known, and were left out."
        )
        aligned = [camera for camera in aligned if camera.get("component_id", "") == largest]
    return aligned


def _pose(path: Path, chunk: ET.Element, camera: ET.Element) -> np.ndarray:
    """Return world_to_camera [4,4] of a camera."""
    where = f"{path}: camera {quoted(camera.get('label', ''))}"
    matrix = _numbers(camera, "transform", 16, where).reshape(4, 4)
    rotation = nearest_rotation(matrix[:3, :3], where)
    component = _component(path, chunk, camera.get("component_id", ""))
    if component is None:
        return invert_rigid(rigid(rotation, matrix[:3, 3]))
    centre = component.scale * component.rotation @ matrix[:3, 3] + component.translation
    return invert_rigid(rigid(component.rotation @ rotation, centre))


def _component(path: Path, chunk: ET.Element, number: str) -> _Component | None:
    """Return where a component lies, or the whole chunk if the component does not say, or None if neither does."""
    own = [c for c in chunk.iterfind("components/component") if c.get("id") == number]
    transforms = [holder.find("transform") for holder in (*own, chunk)]
    transform = next((one for one in transforms if one is not None), None)
    if transform is None:
        return None
    where = f"{path}: the transform of component {quoted(number)}"
    if not len(transform):  # as PhotoScan wrote it
        matrix = _finite(transform.text, 16, f"{where} must be 16 finite numbers.").reshape(4, 4)
        scale = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
        rotation, translation = matrix[:3, :3] / (scale or 1.0), matrix[:3, 3]
    else:
        rotation = _numbers(transform, "rotation", 9, where).reshape(3, 3)
        translation = _numbers(transform, "translation", 3, where)
        scale = float(_numbers(transform, "scale", 1, where)[0])
    if not scale > 0:
        raise UserError(f"{where}: its scale is {scale:g}; it must be above 0.")
    return _Component(scale, nearest_rotation(rotation, where), translation)


def _report_coordinates(chunk: ET.Element, report: Report) -> None:
    """Say what points must be like where the chunk is georeferenced: its transform then leads to the earth's centre."""
    reference = (chunk.findtext("reference") or "").strip()
    if reference and not reference.startswith("LOCAL_CS"):
        report(
            "The chunk has map coordinates: export its points in geocentric coordinates (EPSG::4978), or set the chunk "
            "to Local Coordinates and export cameras and points again."
        )


def _lens(path: Path, chunk: ET.Element, number: str, report: Report) -> Lens:
    """Return the lens of a sensor, its adjusted calibration in preference to the initial one."""
    sensor = next((s for s in chunk.iterfind("sensors/sensor") if s.get("id") == number), None)
    where = f"{path}: sensor {quoted(number)}"
    calibrations = [] if sensor is None else sensor.findall("calibration")
    if sensor is None or not calibrations:
        raise UserError(f"{where}: has no calibration, but aligned cameras use it; export the cameras again.")
    calibration = max(calibrations, key=lambda one: one.get("class") == "adjusted")
    resolution = calibration.find("resolution")
    resolution = sensor.find("resolution") if resolution is None else resolution
    try:
        size = (int(resolution.get("width", "")), int(resolution.get("height", "")))  # type: ignore[union-attr]
    except (AttributeError, ValueError) as error:
        raise UserError(
            f"{where}: its resolution is missing or not a width and a height in pixels."
        ) from error
    names = ("f", "cx", "cy", "b1", "b2", "k1", "k2", "k3", "k4", "p1", "p2", "p3", "p4")
    values = {name: _number(calibration, name, where) for name in names}
    if calibration.find("f") is None:
        raise UserError(f"{where}: has no focal length f; export the cameras with Metashape 1.5 or newer.")
    if values["p3"] or values["p4"]:
        raise UserError(f"{where}: p3 and p4 have no counterpart in adop; {_ELSEWHERE}.")
    kind = calibration.get("type", sensor.get("type", "frame"))
    if kind not in ("frame", *_FISHEYES):
        raise UserError(f"{where}: cameras of type {quoted(kind)} have no counterpart in adop; {_ELSEWHERE}.")
    return _lens_of(kind, size, values, where, report)


def _lens_of(kind: str, size: tuple[int, int], values: dict[str, float], where: str, report: Report) -> Lens:
    """Return the lens of a calibration, and say what of it was fitted or left out."""
    width, height = size
    intrinsics = [
        values["f"] + values["b1"],
        values["f"],
        width / 2 + values["cx"],
        height / 2 + values["cy"],
    ]
    radial = [values[name] for name in ("k1", "k2", "k3", "k4")]
    tangential = values["p1"], values["p2"]
    if kind == "frame":
        lens, error_px = brown_lens(size, intrinsics, radial, tangential, where)
        if error_px > 0:
            report(f"{where}: k4 was fitted by other radial terms, to within {error_px:.2g} pixels.")
    else:
        try:
            lens = Lens("fisheye", width, height, np.array(intrinsics), np.array(radial))
        except ValueError as error:
            raise UserError(f"{where}: {error}.") from error
    corner = corner_radius(size, intrinsics)
    left_out = {"skew (b2)": abs(values["b2"]) * max(intrinsics[3], height - intrinsics[3]) / intrinsics[1]}
    if kind != "frame":
        left_out["tangential distortion (p1, p2)"] = (
            intrinsics[0] * 3 * corner * corner * math.hypot(*tangential)
        )
    for what, effect_px in left_out.items():
        if effect_px > MAX_LEFT_OUT_PX:
            raise UserError(
                f"{where}: its {what} moves the photo's corners by {effect_px:.2g} pixels, which adop's lenses cannot "
                f"follow; optimize the cameras without it, or {_ELSEWHERE}."
            )
        if effect_px > 0:
            report(f"{where}: its {what}, at most {effect_px:.2g} pixels, was left out.")
    return lens


def _number(parent: ET.Element, name: str, where: str) -> float:
    """Return the number in a child element, 0 where there is none."""
    return 0.0 if parent.find(name) is None else float(_numbers(parent, name, 1, where)[0])


def _numbers(parent: ET.Element, name: str, count: int, where: str) -> np.ndarray:
    """Return the finite numbers in a child element."""
    wanted = "one finite number" if count == 1 else f"{count} finite numbers"
    return _finite(parent.findtext(name), count, f"{where}: its {name} must be {wanted}.")


def _finite(text: str | None, count: int, error: str) -> np.ndarray:
    try:
        values = np.array([float(word) for word in (text or "").split(maxsplit=count)])
    except ValueError:
        values = np.empty(0)
    if len(values) != count or not np.isfinite(values).all():
        raise UserError(error)
    return values
