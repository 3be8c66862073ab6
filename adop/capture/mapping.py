"""Where the photos were taken: incremental structure from motion by COLMAP, and what became of each photo."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adop.capture.matching import MIN_MATCHES, SEED, quiet
from adop.capture.sources.photo_files import CapturedPhotos
from adop.errors import UserError
from adop.progress import Bar
from adop.scene.prepare import Report

if TYPE_CHECKING:
    import pycolmap


_SMALLEST_GROUP = 3  # photos
_PHOTOS_FOR_PRINCIPAL_POINT = 10  # of a lens; fewer cannot tell a moved centre from a turned camera
# Of an observation that the last adjustment drops, in longer sides, but 2 px at least and 4 at most.
_LARGE_ERROR = 2e-3
_SMALL_ANGLE_DEG = 1.5  # between a point's rays, below which it is dropped
_FLAT_SHARE = 0.9  # of pairs that a plane or a rotation explains, from which on rotations are suspected
_ROTATION_SPREAD = 0.03  # largest to smallest singular value - 1 of homographies that count as rotations


@dataclass(frozen=True)
class PhotoFacts:
    """What became of a photo."""

    name: str
    group: int | None  # number of the model that holds it, None where it could not be placed
    reason: str  # why it is not in the largest model; empty where it is
    keypoints: int
    pairs: int  # other photos that it overlaps with
    inliers: int  # verified matches with all of them
    observations: int  # of points of its model
    error_px: float  # mean reprojection error of these; NaN without any


@dataclass(frozen=True)
class LensFacts:
    """A lens before and after mapping."""

    photos: int
    model: str
    known: bool  # the first focal length came from EXIF tags or from the user
    focal_before_px: float
    focal_after_px: float


@dataclass(frozen=True)
class Mapping:
    """The largest model of a capture, and figures about it."""

    model: Path  # its folder in COLMAP's format
    group_sizes: tuple[int, ...]  # photos of each model, largest first
    photos: tuple[PhotoFacts, ...]  # in the order of CapturedPhotos
    lenses: tuple[LensFacts, ...]
    points: int
    error_px: float  # mean reprojection error
    track_length: float  # mean number of photos that see a point

    @property
    def placed(self) -> list[PhotoFacts]:
        """The photos of the largest model."""
        return [photo for photo in self.photos if photo.group == 0]


def map_photos(photos: CapturedPhotos, work: Path, report: Report) -> Mapping:
    """Compute cameras and sparse points from the matches in `work/database.db`; write them to `work/sparse/0, 1, ...`.

    The largest model is number 0. A finished mapping is not done again.

    Raises: UserError where fewer than three photos can be placed, or all were taken from one place.
    """
    work = Path(work)
    sparse = work / "sparse"
    if not (sparse / "0").is_dir():
        if _Pairs.read(work / "database.db", len(photos.names)).turned:
            raise UserError(
                f"{photos.folder}: all photos were taken from one place, so nothing tells distances; walk around the "
                "scene while taking photos instead of turning on the spot."
            )
        models = _map(photos, work)
        placed = models[0].num_reg_frames() if models else 0
        if placed < _SMALLEST_GROUP:
            total = photos.place(len(photos.names) - 1) + 1
            raise UserError(
                f"{photos.folder}: {placed} of {total} photos could be placed; take more photos, each "
                "sharing at least two thirds of what it shows with the next one."
            )
        unfinished = work / "sparse_unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        for number, model in enumerate(models):
            (unfinished / str(number)).mkdir(parents=True)
            model.write(unfinished / str(number))
        shutil.rmtree(sparse, ignore_errors=True)
        unfinished.rename(sparse)
    mapping = _facts(photos, work)
    _report(mapping, report)
    return mapping


def _map(photos: CapturedPhotos, work: Path) -> list[pycolmap.Reconstruction]:
    """Return the models, largest first, after a last bundle adjustment."""
    import pycolmap

    folder = work / "mapping_unfinished"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    token = pycolmap.CancellationToken()
    done: list[pycolmap.Reconstruction] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            done.extend(_run(photos, work, folder, token, bar))
        except Exception as error:
            failed.append(error)

    places = photos.place(len(photos.names) - 1) + 1
    with Bar(total=places, desc="placing photos") as bar, quiet():
        thread = threading.Thread(target=run)  # Ctrl-C must not be raised inside COLMAP
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.2)
        finally:
            token.cancel()
            thread.join()
    shutil.rmtree(folder, ignore_errors=True)
    if failed:
        raise failed[0]
    return done


def _run(
    photos: CapturedPhotos, work: Path, folder: Path, token: pycolmap.CancellationToken, bar: Bar
) -> list[pycolmap.Reconstruction]:
    import pycolmap

    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = SEED
    # Sums of several threads would differ from run to run.
    options.num_threads = options.mapper.num_threads = 1
    options.min_model_size = min(_SMALLEST_GROUP, len(photos.names))
    options.mapper.init_min_tri_angle = 8.0  # tried first; COLMAP halves it where no pair has it
    if photos.views > 1:
        options.ba_refine_focal_length = options.ba_refine_extra_params = False
        options.ba_refine_sensor_from_rig = False
        options.mapper.abs_pose_refine_focal_length = options.mapper.abs_pose_refine_extra_params = False

    def registered(count: int) -> None:
        bar.update(min(count, bar.total - bar.n))

    models = pycolmap.incremental_mapping(
        work / "database.db",
        photos.folder,
        folder,
        options,
        initial_image_pair_callback=lambda: registered(2),
        next_image_callback=lambda: registered(1),
        cancellation_token=token,
    )
    largest = sorted(models.values(), key=lambda model: (-model.num_reg_images(), min(model.reg_image_ids())))
    bar.set_description("adjusting all cameras")
    for model in largest:
        _adjust(model, refine_lenses=photos.views == 1)
    return largest if photos.views == 1 else [_with_one_lens(model) for model in largest]


def _with_one_lens(model: pycolmap.Reconstruction) -> pycolmap.Reconstruction:
    """Return a model of panoramas as photos of one lens: the lenses of its rig are the same."""
    import pycolmap

    result = pycolmap.Reconstruction()
    camera = model.cameras[min(model.cameras)]
    result.add_camera_with_trivial_rig(camera)
    for image in _placed(model):
        xy = [point.xy for point in image.points2D]
        own = pycolmap.Image(
            name=image.name, keypoints=xy, camera_id=camera.camera_id, image_id=image.image_id
        )
        result.add_image_with_trivial_frame(own, image.cam_from_world())
    for point in model.points3D.values():
        result.add_point3D(point.xyz, point.track, point.color)
    result.update_point_3d_errors()
    return result


def _adjust(model: pycolmap.Reconstruction, refine_lenses: bool) -> None:
    """Adjust a whole model; the principal point is refined where every lens has enough photos to tell it."""
    import pycolmap

    options, config = pycolmap.BundleAdjustmentOptions(), pycolmap.BundleAdjustmentConfig()
    options.print_summary = False
    options.ceres.solver_options.num_threads = 1  # see `_run`
    for index in model.reg_image_ids():
        config.add_image(index)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    used = [model.images[index].camera_id for index in model.reg_image_ids()]
    options.refine_sensor_from_rig = False
    options.refine_focal_length = options.refine_extra_params = refine_lenses
    enough = min(used.count(camera) for camera in used) >= _PHOTOS_FOR_PRINCIPAL_POINT
    options.refine_principal_point = refine_lenses and enough
    limit = float(
        np.clip(_LARGE_ERROR * max(max(c.width, c.height) for c in model.cameras.values()), 2.0, 4.0)
    )
    for _ in range(2):
        pycolmap.create_default_bundle_adjuster(options, config, model).solve()
        pycolmap.ObservationManager(model).filter_all_points3D(limit, _SMALL_ANGLE_DEG)
    model.update_point_3d_errors()


@dataclass(frozen=True, eq=False)
class _Pairs:
    """The verified pairs of photos."""

    inliers: np.ndarray  # [P,P] verified matches of two photos
    turned: bool  # photos differ by rotations alone

    @staticmethod
    def read(database: Path, count: int) -> _Pairs:
        import pycolmap

        kind = pycolmap.TwoViewGeometryConfiguration
        flat = {int(kind.PLANAR), int(kind.PANORAMIC), int(kind.PLANAR_OR_PANORAMIC)}
        inliers, total, homographies = np.zeros((count, count), int), 0, []
        with pycolmap.Database.open(database) as opened:
            cameras = {camera.camera_id: camera for camera in opened.read_all_cameras()}
            of_photo = {image.image_id: cameras[image.camera_id] for image in opened.read_all_images()}
            for pair, geometry in zip(*opened.read_two_view_geometries(), strict=True):
                i, j = pycolmap.pair_id_to_image_pair(pair)
                number = len(geometry.inlier_matches)
                if number < MIN_MATCHES:
                    continue
                inliers[i - 1, j - 1] = inliers[j - 1, i - 1] = number
                total += 1
                if int(geometry.config) in flat and geometry.H is not None:
                    homographies.append(_centred(geometry.H, of_photo[i], of_photo[j]))
        many = len(homographies) >= max(1, _FLAT_SHARE * total)
        return _Pairs(inliers, many and _are_rotations(np.stack(homographies)))


def _centred(homography: np.ndarray, first: pycolmap.Camera, second: pycolmap.Camera) -> np.ndarray:
    """Return a homography [3,3] of coordinates from the photo's centre, in longer sides, with determinant 1."""

    def scale(camera: pycolmap.Camera) -> np.ndarray:
        side = max(camera.width, camera.height)
        return np.array([[side, 0, camera.width / 2], [0, side, camera.height / 2], [0, 0, 1]])

    result = np.linalg.inv(scale(second)) @ homography @ scale(first)
    return result / np.cbrt(np.linalg.det(result))


def _are_rotations(homographies: np.ndarray) -> bool:
    """Return whether there is a focal length for which homographies [N,3,3] are rotations, as a plane's seldom are."""
    spreads = []
    for focal in np.geomspace(0.4, 5.0, 64):
        scale = np.array([focal, focal, 1.0])
        values = np.linalg.svd(homographies * scale / scale[:, None], compute_uv=False)
        spreads.append(float(np.median(values[:, 0] / values[:, 2])) - 1.0)
    return min(spreads) < _ROTATION_SPREAD


def _facts(photos: CapturedPhotos, work: Path) -> Mapping:
    """Read the figures of a finished mapping."""
    import pycolmap

    folders = sorted((work / "sparse").iterdir(), key=lambda folder: int(folder.name))
    models = [pycolmap.Reconstruction(folder) for folder in folders]
    pairs = _Pairs.read(work / "database.db", len(photos.names))
    group: dict[int, int] = {}
    for number, model in reversed(list(enumerate(models))):  # a photo in two models counts for the larger
        group |= dict.fromkeys((index - 1 for index in model.reg_image_ids()), number)
    with pycolmap.Database.open(work / "database.db") as opened:
        keypoints = [opened.num_keypoints_for_image(index + 1) for index in range(len(photos.names))]
        first = {camera.camera_id: camera for camera in opened.read_all_cameras()}
    facts = []
    for index, name in enumerate(photos.names):
        own = group.get(index)
        counts = pairs.inliers[index]
        facts.append(
            PhotoFacts(
                name,
                own,
                _reason(index, group, keypoints[index], counts),
                keypoints[index],
                int((counts > 0).sum()),
                int(counts.sum()),
                *((0, float("nan")) if own is None else _observed(models[own], index + 1)),
            )
        )
    best = models[0]
    return Mapping(
        folders[0],
        tuple(model.num_reg_images() for model in models),
        tuple(facts),
        tuple(_lens(best, key, first[key]) for key in sorted({i.camera_id for i in _placed(best)})),
        best.num_points3D(),
        float(best.compute_mean_reprojection_error()),
        float(best.compute_mean_track_length()),
    )


def _placed(model: pycolmap.Reconstruction) -> list[pycolmap.Image]:
    return [model.images[index] for index in model.reg_image_ids()]


def _lens(model: pycolmap.Reconstruction, key: int, before: pycolmap.Camera) -> LensFacts:
    count = sum(image.camera_id == key for image in _placed(model))
    after = model.cameras[key].mean_focal_length()
    known = before.has_prior_focal_length
    return LensFacts(count, before.model_name, known, before.mean_focal_length(), after)


def _observed(model: pycolmap.Reconstruction, image_id: int) -> tuple[int, float]:
    """Return how many points of its model a photo sees, and their mean reprojection error in it."""
    image = model.images[image_id]
    seen = image.get_observation_points2D()
    xyz = np.array([model.points3D[point.point3D_id].xyz for point in seen]).reshape(-1, 3)
    local = image.cam_from_world() * xyz
    shown = model.cameras[image.camera_id].img_from_cam(local)
    error = np.linalg.norm(np.asarray(shown) - np.array([point.xy for point in seen]).reshape(-1, 2), axis=1)
    return len(seen), float(error.mean()) if len(seen) else float("nan")


def _reason(index: int, group: dict[int, int], keypoints: int, inliers: np.ndarray) -> str:
    """Return why a photo is not in the largest model."""
    if group.get(index) == 0:
        return ""
    if keypoints < MIN_MATCHES:
        return "it shows hardly any detail"
    if not inliers.any():
        return "it overlaps with no other photo"
    others = {group.get(int(other)) for other in np.flatnonzero(inliers)}
    if group.get(index) is not None:
        joined = (
            "overlaps too little with the largest group"
            if 0 in others
            else "no overlap with the largest group"
        )
        return f"it belongs to another group of photos ({joined})"
    if others == {None}:
        return "it overlaps only with photos that could not be placed"
    if 0 not in others:
        return "it overlaps only with photos of another group"
    return f"it has too few matches with placed photos (at most {int(inliers.max())} with one)"


def _report(mapping: Mapping, report: Report) -> None:
    left = [photo for photo in mapping.photos if photo.group != 0]
    report(
        f"{len(mapping.placed)} of {len(mapping.photos)} photos were placed, with {mapping.points} points; mean "
        f"reprojection error {mapping.error_px:.2f} px."
    )
    if len(mapping.group_sizes) > 1:
        sizes = ", ".join(str(size) for size in mapping.group_sizes)
        report(
            f"The photos form {len(mapping.group_sizes)} groups without common points ({sizes}); the largest is used."
        )
    for photo in left[:20]:
        report(f"{photo.name} is left out: {photo.reason}.")
    if len(left) > 20:
        report(f"{len(left) - 20} more photos are left out.")
