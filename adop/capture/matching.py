"""Features of photos, and which features of two photos show the same spot: SIFT, matching and RANSAC, on the CPU.

Both stages write into COLMAP's database and continue where an interrupted run stopped.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import combinations, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image  # before pycolmap: else their copies of zlib clash, and writing a PNG aborts

from adop.capture.cameras import CameraGroup, write_cameras
from adop.capture.capture_config import CaptureConfig
from adop.capture.sources.photo_files import CapturedPhotos
from adop.errors import UserError
from adop.files import read_json, write_text
from adop.images.photo_files import read_mask, read_photo
from adop.importers.masks import find_masks, masks_beside
from adop.progress import Bar
from adop.scene.prepare import Report

if TYPE_CHECKING:
    import pycolmap
    import torch

Pair = tuple[int, int]
T = TypeVar("T")

SEED = 0
MIN_MATCHES = 15  # COLMAP's least number of matches of two photos that overlap
# COLMAP's limits: nearest to second nearest, and radians between descriptors.
_MAX_RATIO, _MAX_ANGLE = 0.8, 0.7
_DESCRIPTOR_NORM = 512.0
_EXHAUSTIVE_PHOTOS = 60  # up to so many, comparing all is cheap
_NEIGHBOURS = 10  # following frames with which a frame of a video is compared
_COARSE_FEATURES = 512  # largest features by which similar photos are found
_SMALL_PX = 1600  # longer side up to which features are also sought at twice the size
_MOST_THREADS = 16  # that seek features; for a large photo each needs about 1 GB
_ROWS = 512  # of descriptors compared at a time; their products stay in the cache
_TRANSPARENT = ("RGBA", "LA", "PA", "P")


def check_pycolmap(task: str, instead: str) -> None:
    """Raise UserError where pycolmap is missing, saying which task needs it and what to do instead."""
    try:
        import pycolmap  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{task} needs pycolmap, which cannot be imported ({error}): pip install pycolmap. Where there is no build "
            f"of it, {instead}."
        ) from error


def find_features(
    photos: CapturedPhotos, groups: list[CameraGroup], work: Path, config: CaptureConfig, report: Report
) -> Path:
    """Find SIFT features in all photos and return COLMAP's database, `work/database.db`.

    Photos, cameras or options that differ from those of an earlier run start it afresh.
    """
    import pycolmap

    database = Path(work) / "database.db"
    key = [
        list(photos.names),
        photos.sizes,
        _ages(photos),
        [vars(group) for group in groups],
        config.sfm_longest_side,
    ]
    if _forget_unless(Path(work) / "features.json", key):
        for end in ("", "-wal", "-shm"):
            Path(f"{database}{end}").unlink(missing_ok=True)
        shutil.rmtree(Path(work) / "sparse", ignore_errors=True)
        Path(work, "matches.json").unlink(missing_ok=True)
        with pycolmap.Database.open(database) as opened, pycolmap.DatabaseTransaction(opened):
            write_cameras(groups, photos, opened)
        _remember(Path(work) / "features.json", key)
    with pycolmap.Database.open(database) as opened:
        missing = [i for i in range(len(photos.names)) if not opened.exists_descriptors(i + 1)]
    total = len(photos.names)
    with Bar(total=total, initial=total - len(missing), desc="features") as bar:
        for chunk in _chunks(photos, missing):
            _extract(database, photos, chunk, config)
            bar.update(len(chunk))
    with pycolmap.Database.open(database) as opened:
        unread = [i for i in range(total) if not opened.exists_descriptors(i + 1)]
        counts = [opened.num_keypoints_for_image(i + 1) for i in range(total)]
    if unread:
        raise UserError(
            f"{photos.files[unread[0]]}: COLMAP cannot read this photo; save it anew or leave it out."
        )
    if min(counts) < MIN_MATCHES:
        poor = [name for name, count in zip(photos.names, counts, strict=True) if count < MIN_MATCHES]
        report(
            f"{poor[0]} shows hardly any detail and cannot be placed ({len(poor)} of {total} such photos)."
        )
    return database


def match_photos(photos: CapturedPhotos, work: Path, config: CaptureConfig, report: Report) -> None:
    """Match the photos' features, verify the matches geometrically, and write both into `work/database.db`.

    Products of descriptors are integers and RANSAC has a fixed seed: the result does not depend on the number of threads
    or on interruptions.

    Raises: UserError where no two photos overlap.
    """
    import pycolmap

    database, record = Path(work) / "database.db", Path(work) / "matches.json"
    masks = list(photos.masks)
    if not masks:
        folder = config.masks
        masks = masks_beside(photos.files) if folder is None else find_masks(photos.names, folder, report)
    key: list[object] = [config.matcher, config.features, config.partners]
    key += [None if mask is None else [str(mask), mask.stat().st_mtime_ns] for mask in masks]
    with pycolmap.Database.open(database) as opened:
        if _forget_unless(record, key):
            opened.clear_matches()
            opened.clear_two_view_geometries()
            shutil.rmtree(Path(work) / "sparse", ignore_errors=True)
            _remember(record, key)
        features = _Features(opened, photos, masks, config.features)
        pairs = _choose_pairs(photos, features, config)
        missing = [pair for pair in pairs if not _is_matched(opened, pair)]
        with Bar(total=len(pairs), initial=len(pairs) - len(missing), desc="matching") as bar:
            for pair, result in _in_order(missing, features.match):
                _write_pair(opened, pair, *result)
                bar.update()
        verified = sum(count >= MIN_MATCHES for count in opened.read_two_view_geometry_num_inliers()[1])
    if not verified:
        raise UserError(
            f"{photos.folder}: no two photos overlap; take photos that share at least two thirds of what they show with "
            "the next one."
        )
    report(f"{verified} of {len(pairs)} pairs of photos overlap.")


class _Features:
    """The features of all photos that are compared: outside masks, the largest ones."""

    def __init__(
        self, database: pycolmap.Database, photos: CapturedPhotos, masks: list[Path | None], count: int
    ) -> None:
        import pycolmap

        self.rows, self.xy, self.descriptors, self.cameras = [], [], [], []
        for index, (file, mask) in enumerate(zip(photos.files, masks, strict=True)):
            keypoints = database.read_keypoints(index + 1)
            scale = np.hypot(keypoints[:, 2], keypoints[:, 4]) if keypoints.size else np.zeros(0)
            rows = np.zeros(0, int)
            if keypoints.size:
                rows = np.flatnonzero(_usable(keypoints[:, :2], file, mask, photos.sizes[index]))
            rows = rows[np.argsort(-scale[rows], kind="stable")][:count]
            data = database.read_descriptors(index + 1).data if len(rows) else np.zeros((0, 128), np.uint8)
            self.rows.append(rows.astype(np.uint32))
            self.xy.append(keypoints[:, :2].astype(np.float64) if keypoints.size else np.zeros((0, 2)))
            self.descriptors.append(data[rows])
            self.cameras.append(database.read_camera(database.read_image(index + 1).camera_id))
        self.places = [photos.place(index) for index in range(len(photos.names))]
        self.options = pycolmap.TwoViewGeometryOptions()
        self.options.ransac.random_seed = SEED

    def match(self, pair: Pair) -> tuple[np.ndarray, pycolmap.TwoViewGeometry]:
        """Return the matches [M,2] u32 of two photos, and their geometry."""
        import pycolmap

        i, j = pair
        found = match_descriptors(self.descriptors[i], self.descriptors[j])
        if len(found) < MIN_MATCHES:
            return np.zeros((0, 2), np.uint32), pycolmap.TwoViewGeometry()
        matches = np.stack([self.rows[i][found[:, 0]], self.rows[j][found[:, 1]]], axis=1)
        geometry = pycolmap.estimate_two_view_geometry(
            self.cameras[i], self.xy[i], self.cameras[j], self.xy[j], matches, self.options
        )
        return matches, geometry

    def similar(self, partners: int) -> list[Pair]:
        """Return each photo with the others that have the most matches among the largest features."""
        count = len(self.rows)
        coarse = [data[:_COARSE_FEATURES] for data in self.descriptors]
        alike = np.zeros((count, count), int)
        pairs = [(i, j) for i, j in combinations(range(count), 2) if self.places[i] != self.places[j]]
        for (i, j), found in _in_order(
            Bar(pairs, "similar photos"),
            lambda pair: match_descriptors(coarse[pair[0]], coarse[pair[1]]),
        ):
            alike[i, j] = alike[j, i] = len(found)
        nearest = np.argsort(-alike, axis=1, kind="stable")[:, :partners]
        chosen = {(min(i, int(j)), max(i, int(j))) for i in range(count) for j in nearest[i]}
        return sorted((i, j) for i, j in chosen if self.places[i] != self.places[j])


def match_descriptors(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return rows [M,2] of SIFT descriptors that are nearest to each other, and clearly nearer than the second nearest.

    Args: first: [N,128] u8; second: [M,128] u8. COLMAP's matcher gives nearly the same in ten times the time.
    """
    import torch

    if len(first) < 2 or len(second) < 2:
        return np.zeros((0, 2), np.int64)
    a, b = (torch.from_numpy(data.astype(np.float32)) for data in (first, second))
    best, near, runner_up = [], [], []
    column = torch.full((len(b),), -1.0)
    back = torch.zeros(len(b), dtype=torch.long)
    for start in range(0, len(a), _ROWS):
        products = a[start : start + _ROWS] @ b.T  # integers below 2^24, so exact
        value, row = products.max(dim=0)
        better = value > column
        column[better], back[better] = value[better], row[better] + start
        value, index = products.max(dim=1)
        best.append(value)
        near.append(index)
        runner_up.append(products.scatter_(1, index[:, None], -1.0).amax(dim=1))
    nearest = torch.cat(near)
    kept = _distinct(torch.cat(best), torch.cat(runner_up)) & (back[nearest] == torch.arange(len(a)))
    rows = torch.nonzero(kept)[:, 0]
    return torch.stack([rows, nearest[rows]], dim=1).numpy()


def _distinct(best: torch.Tensor, runner_up: torch.Tensor) -> torch.Tensor:
    import torch

    angle, other = ((value / _DESCRIPTOR_NORM**2).clamp(0, 1).arccos() for value in (best, runner_up))
    return torch.logical_and(angle <= _MAX_ANGLE, angle < _MAX_RATIO * other)


def _choose_pairs(photos: CapturedPhotos, features: _Features, config: CaptureConfig) -> list[Pair]:
    """Return the pairs (i, j), i < j, to be matched, which were taken from different places."""
    count, matcher = len(photos.names), config.matcher
    if matcher == "auto":
        few = count <= _EXHAUSTIVE_PHOTOS
        matcher = "sequential" if photos.sequence and count > 30 else "exhaustive" if few else "retrieval"
    if matcher == "exhaustive":
        pairs = combinations(range(count), 2)
        return [(i, j) for i, j in pairs if photos.place(i) != photos.place(j)]
    if matcher == "retrieval":
        return features.similar(config.partners)
    following = {
        (i, j)
        for i in range(count)
        for j in range(i + 1, count)
        if 0 < photos.place(j) - photos.place(i) <= _NEIGHBOURS
    }
    return sorted(following | set(features.similar(_NEIGHBOURS)))  # similar frames close loops


def _chunks(photos: CapturedPhotos, missing: list[int]) -> Iterator[list[int]]:
    """Yield photos of like size, as many as there are processors: a chunk takes seconds, and Ctrl-C waits for it."""
    small = [index for index in missing if max(photos.sizes[index]) <= _SMALL_PX]
    large = [index for index in missing if max(photos.sizes[index]) > _SMALL_PX]
    for part in (small, large):
        rest = iter(part)
        while chunk := list(islice(rest, min(os.cpu_count() or 1, _MOST_THREADS))):
            yield chunk


def _extract(database: Path, photos: CapturedPhotos, chunk: list[int], config: CaptureConfig) -> None:
    import pycolmap

    options = pycolmap.FeatureExtractionOptions()
    options.max_image_size = config.sfm_longest_side
    options.num_threads = len(chunk)
    # The features found at twice the size are the smallest, and a large photo has enough others.
    options.sift.first_octave = -1 if max(photos.sizes[chunk[0]]) <= _SMALL_PX else 0
    names = [photos.names[index] for index in chunk]
    with quiet():
        pycolmap.extract_features(
            database, photos.folder, names, extraction_options=options, device=pycolmap.Device.cpu
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep COLMAP's log off the terminal; its failures are exceptions."""
    import pycolmap

    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = int(pycolmap.logging.FATAL)
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = before


def _in_order(items: Iterable[Pair], work: Callable[[Pair], T]) -> Iterator[tuple[Pair, T]]:
    """Yield (item, work(item)) in the items' order, computed by threads a little ahead."""
    import torch

    ahead = 4 * (os.cpu_count() or 1)
    pool, threads = ThreadPoolExecutor(os.cpu_count()), torch.get_num_threads()
    torch.set_num_threads(1)  # each worker is a thread of its own
    try:
        rest = iter(items)
        waiting = [(item, pool.submit(work, item)) for item in islice(rest, ahead)]
        while waiting:
            item, future = waiting.pop(0)
            yield item, future.result()
            waiting += [(item, pool.submit(work, item)) for item in islice(rest, 1)]
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _is_matched(database: pycolmap.Database, pair: Pair) -> bool:
    return database.exists_two_view_geometry(pair[0] + 1, pair[1] + 1)


def _write_pair(
    database: pycolmap.Database, pair: Pair, matches: np.ndarray, geometry: pycolmap.TwoViewGeometry
) -> None:
    """Write a pair's matches and its geometry, the latter last: it marks the pair as done."""
    first, second = pair[0] + 1, pair[1] + 1
    if database.exists_matches(first, second):
        database.delete_matches(first, second)
    database.write_matches(first, second, np.ascontiguousarray(matches))
    database.write_two_view_geometry(first, second, geometry)


def _usable(xy: np.ndarray, file: Path, mask: Path | None, size: tuple[int, int]) -> np.ndarray:
    """Return [N] bool, False for features where the photo is masked or transparent."""
    keep = np.ones((size[1], size[0]), bool)
    if mask is not None:
        keep &= read_mask(mask, size)
    with Image.open(file) as image:
        transparent = image.mode in _TRANSPARENT
    if transparent:
        opaque = read_photo(file)[1]
        keep &= True if opaque is None else opaque
    column, row = np.floor(xy).astype(int).T
    return keep[row.clip(0, size[1] - 1), column.clip(0, size[0] - 1)]


def _ages(photos: CapturedPhotos) -> list[int]:
    return [file.stat().st_mtime_ns for file in photos.files]


def _forget_unless(record: Path, key: object) -> bool:
    """Return whether a record differs from what a run would write there, and remove it then."""
    try:
        same = read_json(record) == json.loads(json.dumps(key))
    except UserError:
        same = False
    if not same:
        record.unlink(missing_ok=True)
    return not same


def _remember(record: Path, key: object) -> None:
    write_text(record, json.dumps(key))
