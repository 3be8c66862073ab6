"""Collecting the photos of a capture: a folder that COLMAP and adop read alike, made of links and of converted copies."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from adop.capture.capture_config import CaptureConfig
from adop.capture.sources.panoramas import are_panoramas, cut_views, view_rotations, view_size
from adop.capture.sources.video import extract_frames
from adop.errors import UserError
from adop.files import write_atomically
from adop.images.exif import kept_exif
from adop.images.linear import write_encoded
from adop.images.photo_files import ENDINGS, check_photos, is_exr, open_photo, photo_size, read_photo
from adop.importers.masks import masks_beside, report_masks, without_masks
from adop.progress import Bar
from adop.ranges import SMALLEST_PHOTO_PX
from adop.scene.prepare import Report
from adop.scene.scene import Photo, name_with_ending, photo_file, usable_names

WORK_ENDING = ".capture"  # of the folder beside the output in which a capture keeps what is finished
_JPEG_QUALITY = 97
_VIEW_QUALITY = 95
_HEIF = (".heic", ".heif")
_CAPTURED = (*ENDINGS, *_HEIF)
_DIRECT = {"JPEG": ("RGB", "L"), "MPO": ("RGB", "L"), "PNG": ("RGB", "RGBA", "L", "LA", "P")}
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")


@dataclass(frozen=True, eq=False)
class CapturedPhotos:
    """The photos of a capture. Pixels are as stored: neither pycolmap 4.2.1 nor adop applies the EXIF orientation."""

    folder: Path
    names: tuple[str, ...]  # relative to the folder, with / between folders; sorted, or as they were given
    sizes: tuple[tuple[int, int], ...]  # width and height
    sequence: bool = False  # consecutive frames of a video
    masks: tuple[Path | None, ...] = ()  # of each photo, where they are not looked up by name
    views: int = 1  # photos in a row that were cut from one panorama, as `view_rotations` are directed

    @property
    def files(self) -> list[Path]:
        """Path of each photo."""
        return [self.folder / name for name in self.names]

    def place(self, index: int) -> int:
        """Return the number of the place where a photo was taken; a panorama's views share it."""
        return index // self.views


def collect_photos(source: Path, work: Path, config: CaptureConfig, report: Report) -> CapturedPhotos:
    """Return the photos of a folder, or frames of a video, after linking or converting them into `work/photos`.

    What is there already is kept, so that a second run converts nothing again.

    Raises: UserError naming the first photo that is unreadable or too small, and how many are.
    """
    with warnings.catch_warnings():
        # Pillow's, about damaged tags; a photo that cannot be read is an error.
        warnings.simplefilter("ignore")
        return _collect_photos(Path(source), Path(work), config, report)


def link_photos(photos: Sequence[Photo], folder: Path) -> CapturedPhotos:
    """Return the photos of a scene, in their order, after linking or converting them into a folder.

    Raises: UserError naming the first photo that is unreadable or too small, and how many are.
    """
    files = [photo.file for photo in photos]
    names = _free_names(files, [photo.name for photo in photos])
    targets = [folder / name for name in names]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _collect(files, targets, lambda _: None)
        sizes = _check(targets, files)
    return CapturedPhotos(folder, tuple(names), tuple(sizes), masks=tuple(photo.mask for photo in photos))


def _collect_photos(source: Path, work: Path, config: CaptureConfig, report: Report) -> CapturedPhotos:
    linear = config.input_linear
    folder = work / ("encoded" if linear else "photos")
    if source.is_dir():
        output = work.with_name(work.name.removesuffix(WORK_ENDING))
        every = _find(source, [work, output, *([] if config.masks is None else [config.masks])])
        files = without_masks(every)
        if are_panoramas(files, config.panoramas):
            if len(files) < len(every):
                report(f"{len(every) - len(files)} masks of panoramas were found, which are not used.")
            return _collect_views(source, files, folder, config, report)
        names = _target_names(source, files, linear)
        masks = _masks_by_name(files, names, config, report)
        _remove_others(folder, {*names, *masks})
        _collect(files, [folder / name for name in names], report, linear)
        for name, mask in masks.items():
            if not _is_current(mask, folder / name):
                (folder / name).unlink(missing_ok=True)
                _link(mask, folder / name)
    elif source.suffix.lower() in _CAPTURED and source.is_file():
        raise UserError(f"{source}: is one photo; name the folder that it lies in, or a video.")
    elif source.is_file():
        names = extract_frames(source, work, config, report)
        files = [folder / name for name in names]
    else:
        raise UserError(f"{source}: no such folder of photos, and no such video.")
    sizes = _check([folder / name for name in names], files)
    if len(names) == 1:
        raise UserError(f"{source}: has one photo; a scene needs at least 3 that overlap.")
    chosen = sorted(zip(names, sizes, strict=True))
    return CapturedPhotos(
        folder, tuple(name for name, _ in chosen), tuple(size for _, size in chosen), source.is_file()
    )


def _collect_views(
    source: Path, files: Sequence[Path], folder: Path, config: CaptureConfig, report: Report
) -> CapturedPhotos:
    """Cut each panorama into views unless they are there and no older than the panorama."""
    if config.input_linear:
        raise UserError("--input-linear: panoramas must be encoded as sRGB already; leave the option out.")
    if config.masks is not None:
        raise UserError("--masks: panoramas cannot be masked; leave the option out.")
    if len(files) < 3:
        raise UserError(f"{source}: has {len(files)} panoramas; a scene needs at least 3 that overlap.")
    size = view_size(max(width for width, _ in _check(files, files)))
    count = len(view_rotations())
    names = [
        f"{name}/view{number:02d}.jpg" for name in _view_folders(source, files) for number in range(count)
    ]
    _remove_others(folder, set(names))
    bad: list[str] = []

    def cut(number: int) -> None:
        file = files[number]
        targets = [folder / name for name in names[number * count : (number + 1) * count]]
        if all(_is_current(file, target) and photo_size(target) == (size, size) for target in targets):
            return
        try:
            _write_views(file, targets, size)
        except (UserError, OSError) as error:
            bad.append(str(error) if isinstance(error, UserError) else _broken(file, error))

    for number in Bar(range(len(files)), "cutting panoramas"):
        cut(number)
    _raise_bad(bad, len(files))
    report(f"{len(files)} panoramas were cut into {count} views of {size}x{size} pixels each.")
    return CapturedPhotos(folder, tuple(names), ((size, size),) * len(names), views=count)


def _view_folders(source: Path, files: Sequence[Path]) -> list[str]:
    """Return the folder of each panorama's views: named like it, without the ending where no other has that name."""
    whole = _target_names(source, files)
    short = [str(Path(name).with_suffix("").as_posix()) for name in whole]
    lower = [name.lower() for name in short]
    return [a if lower.count(a.lower()) == 1 else b for a, b in zip(short, whole, strict=True)]


def _write_views(file: Path, targets: Sequence[Path], size: int) -> None:
    with open_photo(file) as image:
        exif = kept_exif(image)
    for pixels, target in zip(cut_views(read_photo(file)[0], size), targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        view = Image.fromarray(pixels)
        write_atomically(target, partial(view.save, format="JPEG", quality=_VIEW_QUALITY, exif=exif))


def _find(source: Path, without: Sequence[Path]) -> list[Path]:
    """Return the photos of a folder and of the folders in it, sorted, without hidden ones and those in some folders."""
    found = []
    # Links to folders may lead in a circle.
    seen = {os.path.realpath(folder) for folder in (source, *without)}
    for folder, folders, names in os.walk(source, followlinks=True):
        visible_folders = sorted(name for name in folders if not name.startswith("."))
        places = {name: os.path.realpath(os.path.join(folder, name)) for name in visible_folders}
        folders[:] = [name for name in visible_folders if places[name] not in seen]
        seen.update(places.values())
        visible = (name for name in names if not name.startswith("."))
        found += [Path(folder, name) for name in visible if Path(name).suffix.lower() in _CAPTURED]
    if not found:
        raise UserError(f"{source}: has no photos; their endings must be {' '.join(sorted(_CAPTURED))}.")
    return sorted(found)


def _target_names(source: Path, files: Sequence[Path], linear: bool = False) -> list[str]:
    """Return the name of each photo in the capture."""
    relative = [file.relative_to(source).as_posix() for file in files]
    usable = usable_names(relative)
    for name in usable:
        photo_file(source, name, f"{source}: photo {name!r}")
        if name.startswith("#") or not name.isprintable():
            raise UserError(f"{source / name!s}: the photo's name cannot be listed in a scene; rename it.")
    return _free_names(files, usable, linear)


def _masks_by_name(
    files: Sequence[Path], names: Sequence[str], config: CaptureConfig, report: Report
) -> dict[str, Path]:
    """Return the masks beside photos by the names under which `masks_beside` finds them beside the collected photos."""
    masks = masks_beside(files) if config.masks is None else [None] * len(files)
    report_masks(masks, report)
    return {f"{name}.png": mask for name, mask in zip(names, masks, strict=True) if mask is not None}


def _free_names(files: Sequence[Path], wanted: Sequence[str], linear: bool = False) -> list[str]:
    """Return the name of each photo in the capture: as wanted if it is linked, else one that no other photo has."""
    linked = [_is_direct(file, linear) for file in files]
    taken = {name.lower() for name, direct in zip(wanted, linked, strict=True) if direct}
    names = []
    for name, direct in zip(wanted, linked, strict=True):
        if not direct:
            ending = ".jpg" if Path(name).suffix.lower() in _HEIF and not linear else ".png"
            name = name_with_ending(name, ending, taken)
        names.append(name)
    return names


def _is_direct(file: Path, linear: bool = False) -> bool:
    """Return whether COLMAP and adop read the file's pixels alike; both take the upper 8 bits of 16-bit colours."""
    if linear or file.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        return False
    try:
        with open_photo(file) as image:
            return image.mode in _DIRECT.get(str(image.format), ())
    except UserError:
        return True  # a broken file is named where photos are checked


def _remove_others(folder: Path, names: set[str]) -> None:
    """Remove what an earlier run put into the folder and this one does not know."""
    for file in [file for file in folder.rglob("*") if not file.is_dir()] if folder.is_dir() else []:
        if file.relative_to(folder).as_posix() not in names:
            file.unlink()


def _collect(files: Sequence[Path], targets: Sequence[Path], report: Report, linear: bool = False) -> None:
    """Link or convert each photo to its target unless it is there and no older than the photo."""
    if any(file.suffix.lower() in _HEIF for file in files):
        _register_heif(next(file for file in files if file.suffix.lower() in _HEIF))
    bad: list[str] = []

    def collect(file: Path, target: Path) -> bool:
        if _is_current(file, target):
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if _is_direct(file, linear):
            _link(file, target)
            return False
        try:
            write_atomically(target, lambda path: _convert(file, path, target.suffix, linear))
        except (UserError, OSError) as error:
            bad.append(str(error) if isinstance(error, UserError) else _broken(file, error))
        return True

    pool = ThreadPoolExecutor()
    try:
        done = pool.map(collect, files, targets)
        converted = sum(Bar(done, "collecting photos", len(files)))
    finally:
        pool.shutdown(cancel_futures=True)
    _raise_bad(bad, len(files))
    if converted:
        report(f"{converted} of {len(files)} photos were converted to 8-bit PNG or JPEG.")


def _is_current(file: Path, target: Path) -> bool:
    if target.is_symlink():
        return os.path.realpath(target) == os.path.realpath(file)
    both = target.is_file() and os.path.isfile(file)
    return both and target.stat().st_mtime_ns >= file.stat().st_mtime_ns


def _link(file: Path, target: Path) -> None:
    try:
        target.symlink_to(os.path.realpath(file))
    except OSError:  # Windows allows links only to some users
        write_atomically(target, lambda path: shutil.copyfile(file, path))


def _convert(file: Path, target: Path, ending: str, linear: bool) -> None:
    """Write a photo with 8 bits: as JPEG or PNG after the ending, with its EXIF data."""
    if linear and not is_exr(file):
        write_encoded(file, target)
        return
    with open_photo(file) as image:
        image.load()
        kept = {"exif": kept_exif(image), "icc_profile": image.info.get("icc_profile")}
        if image.mode == "CMYK":
            kept.pop("icc_profile")  # describes inks
        transparent = image.mode in _TRANSPARENT or "transparency" in image.info
        keeps_alpha = transparent and ending == ".png"
        pixels = np.asarray(image.convert("RGBA")) if keeps_alpha else read_photo(file)[0]
    result = Image.fromarray(pixels)
    kind = "JPEG" if ending == ".jpg" else "PNG"
    options = {"quality": _JPEG_QUALITY, "subsampling": 0} if kind == "JPEG" else {"compress_level": 3}
    result.save(target, format=kind, **options, **{key: value for key, value in kept.items() if value})


def _register_heif(file: Path) -> None:
    try:
        import pillow_heif
    except ImportError:
        raise UserError(f"{file}: HEIC photos need another package: pip install pillow-heif.") from None
    pillow_heif.register_heif_opener()


def _check(targets: Sequence[Path], files: Sequence[Path]) -> list[tuple[int, int]]:
    """Return the photos' sizes after decoding them."""
    sizes, bad = [], []
    for target, file in zip(targets, files, strict=True):
        try:
            sizes += check_photos([target])
            if min(sizes[-1]) < SMALLEST_PHOTO_PX:
                width, height = sizes[-1]
                bad.append(
                    f"{file}: is {width}x{height} pixels; a photo needs {SMALLEST_PHOTO_PX} at least, so leave it out."
                )
        except UserError as error:
            bad.append(str(error).replace(str(target), str(file)))
    _raise_bad(bad, len(files))
    return sizes


def _raise_bad(bad: Sequence[str], total: int) -> None:
    if bad:
        more = f" ({len(bad)} of {total} photos are unusable.)" if len(bad) > 1 else ""
        raise UserError(min(bad) + more)


def _broken(file: Path, error: Exception) -> str:
    return f"{file}: cannot be read as a photo ({error}); replace it or leave it out."
