"""Every reader of adop with a small valid input: what damage is done to, in the tests and in `fuzz_readers.py`."""

from __future__ import annotations

import dataclasses
import functools
import json
import random
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from adop.capture.capture_config import CaptureConfig
from adop.capture.sources.video import extract_frames
from adop.config import NetworkConfig, RenderConfig, TrainConfig, load_config
from adop.config.files import save_config
from adop.errors import UserError
from adop.evaluation.photometric_truth import read_truth
from adop.geometry.colmap_lens import colmap_lens, colmap_pose
from adop.images.exif import read_exposure_table
from adop.importers.programs.colmap import read_colmap, read_points3d
from adop.importers.programs.nerfstudio import read_transforms
from adop.model.network import NeuralRenderer
from adop.model.pipeline import build_pipeline
from adop.render.camera_path import CameraPath, Frame
from adop.render.key_frames import KeyFrame, KeyPath, load_key_path, save_key_path
from adop.render.nerfstudio_path import file_path, path_json
from adop.run.checkpoint import (
    Progress,
    load_checkpoint,
    load_network,
    load_optimiser_state,
    save_checkpoint,
    save_network,
)
from adop.run.exposure import ExposureModel, load_exposure, save_exposure
from adop.run.exposure_model import ViewPrediction
from adop.run.photos.occluders import load_occluders
from adop.run.run import Run
from adop.scene.photo_cache import PhotoCache
from adop.scene.ply import read_ply, write_ply
from adop.scene.point_cloud import load_prepared, order, save_prepared
from adop.scene.read import load_scene
from adop.scene.scene import photo_file
from adop.scene.write import save_scene
from adop.training.optimiser import Optimiser
from support.hostile_imports import Reader, import_readers
from support.hostile_photos import PHOTOS, make_photos, read_photos_of
from support.hostile_runs import run_readers
from support.mutations import mutated, replaced
from support.small_scene import ball, poses, small_scene, with_points, write_colmap, write_photos

Files = dict[str, bytes]  # by their path in the input's folder


def _colmap(folder: Path) -> None:
    model = read_colmap(folder)
    for camera in model.cameras.values():
        colmap_lens(camera.model, camera.width, camera.height, camera.params, str(folder / "cameras"))
    for image in model.images:
        photo_file(folder, image.name, str(folder / "images"))
        colmap_pose(image.rotation, image.translation, str(folder / "images"))
    read_points3d(folder)


def _make_scene(folder: Path) -> None:
    scene = with_points(small_scene(folder / "source"), slice(0, 40))
    lens = scene.lenses[0]
    fisheye = dataclasses.replace(lens, model="fisheye", distortion=np.array([0.01, 0, 0, 0]))
    polynomial = np.array([1.0, 20.0, 0.1] + [0.0] * 13)
    ocam = dataclasses.replace(lens, model="ocam", distortion=np.array([1.0, 0, 0, 1.0, *polynomial]))
    white = np.array([1.1, 1.0, 0.9])
    photos = [
        dataclasses.replace(p, lens=i % 3, white_balance=white, held_out=i == 2)
        for i, p in enumerate(scene.photos)
    ]
    photos[1] = dataclasses.replace(photos[1], mask=photos[1].file)
    save_scene(
        dataclasses.replace(scene, lenses=(lens, fisheye, ocam), photos=tuple(photos)), folder / "scene"
    )
    shutil.rmtree(folder / "source")
    load_scene(folder / "scene", lambda _: None)


def _make_transforms(folder: Path) -> None:
    write_photos(folder / "images", 3)
    frames: list[dict[str, Any]] = [
        {"file_path": f"images/photo{i}.png", "transform_matrix": np.linalg.inv(m).tolist()}
        for i, m in enumerate(poses(3))
    ]
    values_of_split = {
        "train_filenames": ["images/photo0.png", "images/photo1.png"],
        "test_filenames": ["photo2"],
    }
    frames[0] |= {"camera_model": "OPENCV_FISHEYE", "fl_x": 50.0, "k1": 0.1, "mask_path": "images/photo0.png"}
    values = {
        "w": 48,
        "h": 36,
        "camera_angle_x": 0.9,
        "camera_angle_y": 0.7,
        "cx": 24.0,
        "ply_file_path": "a.ply",
    }
    for frame in frames:
        frame["transform_matrix"] = (np.array(frame["transform_matrix"]) * (1, -1, -1, 1)).tolist()
    (folder / "transforms.json").write_text(json.dumps(values | values_of_split | {"frames": frames}))


def _frames() -> list[Frame]:
    return [Frame(matrix, 1.2, 0.5) for matrix in poses(4)]


def _make_path(folder: Path) -> None:
    (folder / "path.json").write_text(json.dumps(path_json(CameraPath(_frames(), 64, 48, 24.0))))


def _make_key_path(folder: Path) -> None:
    keys = tuple(KeyFrame(0.05 * i, frame) for i, frame in enumerate(_frames()))
    save_key_path(folder / "path.json", KeyPath(keys, 64, 48, 24.0))


def _load_key_path(folder: Path) -> None:
    path = load_key_path(folder / "path.json")
    if path.seconds * path.rate < 500:
        path.sampled()


def _make_ply(folder: Path, write: Callable[[Path], object]) -> None:
    write(folder / "a.ply")


def _ascii_ply(path: Path) -> None:
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    head = [
        "ply",
        "format ascii 1.0",
        "comment x",
        "element vertex 5",
        *(f"property float {n}" for n in names),
    ]
    rows = [" ".join(f"{v:.3f}" for v in row) for row in np.random.default_rng(0).normal(size=(5, 9))]
    faces = ["element face 1", "property list uchar int vertex_indices", "end_header"]
    path.write_text("\n".join([*head, *faces, *rows, "3 0 1 2"]) + "\n")


def _binary_ply(path: Path) -> None:
    write_ply(path, ball(5), ball(5), np.full((5, 3), 7, np.uint8))


def _make_prepared(folder: Path) -> None:
    _binary_ply(folder / "a.ply")
    xyz = ball(30).astype(np.float32)
    cloud = order(xyz, xyz, np.full((30, 3), 9, np.uint8), np.full(30, 0.1, np.float32))
    save_prepared(cloud, folder / "points.safetensors", folder / "a.ply")


def _make_table(folder: Path) -> None:
    (folder / "exif.csv").write_text(
        "name,exposure_time,f_number,iso,ev\na.jpg,0.01,4.0,100,99\nb.jpg,,,,7.5\n"
    )


def _make_config(folder: Path) -> None:
    save_config(TrainConfig(), folder / "config.json")


@functools.cache
def small_run() -> Run:
    """Return an untrained run of the small scene, in a folder of its own that goes with the process."""
    keep = tempfile.TemporaryDirectory(prefix="adop-small-run-")
    folder = Path(keep.name)
    scene = with_points(small_scene(folder), slice(0, 40))
    config = TrainConfig(
        network=NetworkConfig(kind="none"),
        render=RenderConfig(levels=2, extrapolation_views=0),
        device="cpu",
        bf16=False,
    )
    trained = torch.ones(6, dtype=torch.bool)
    pipeline = build_pipeline(scene, config, torch.zeros(6), trained)
    pipeline.environment.resize(4)
    run = Run(
        folder,
        config,
        scene,
        PhotoCache(scene),
        pipeline,
        {"train": [0, 1], "held_out": []},
        Progress(3, 1.0),
    )
    run.keep = keep  # type: ignore[attr-defined]
    return run


def _make_checkpoint(folder: Path) -> None:
    run = small_run()
    optimiser = Optimiser(run.pipeline, run.config.learn, run.config.lr)
    save_checkpoint(folder, run.pipeline, optimiser.state(), Progress(3, 1.5))


def _make_unhashed(folder: Path) -> None:
    """Write a checkpoint as older versions did, so that damage is not found by the hash alone."""
    _make_checkpoint(folder)
    file = folder / "step_00000003.safetensors"
    content = file.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    del header["__metadata__"]["sha256"]
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def _load_checkpoint(folder: Path) -> None:
    run = small_run()
    file = folder / "step_00000003.safetensors"
    load_checkpoint(file, run.pipeline)
    Optimiser(run.pipeline, run.config.learn, run.config.lr).load(load_optimiser_state(file), str(file))


def _small_network() -> NeuralRenderer:
    return NeuralRenderer(NetworkConfig(width=4), levels=2, features=4)


def _make_network(folder: Path) -> None:
    save_network(folder / "network.safetensors", _small_network(), Progress(3, 1.5))


def _load_network(folder: Path) -> None:
    if not load_network(folder / "network.safetensors", _small_network()):
        raise UserError("the network has another size")


def _make_exposure(folder: Path) -> None:
    errors = {kind: {"mean": 0.1, "neighbours": 0.2} for kind in ("exposure", "white_balance")}
    chosen = {"exposure": "mean", "white_balance": "neighbours"}
    view = ViewPrediction(np.zeros(3), np.zeros((10, 3)), np.zeros((2, 3)))
    save_exposure(ExposureModel(3, errors, chosen, chosen, np.zeros((2, 3)), view), folder)


def _make_truth(folder: Path) -> None:
    names = [photo.name for photo in small_run().scene.photos]
    samples = [{"x": x, "R": x, "G": x, "B": x} for x in (0.0, 0.5, 1.0)]
    values = {
        "images": {name: {"ev": 0.5, "white_balance": [1.1, 1.0, 0.9]} for name in names},
        "vignette": {"a": -0.3, "b": 0.0, "c": 0.0},
        "response_samples": samples,
    }
    (folder / "truth.json").write_text(json.dumps(values))
    photos = [{"file": name, "exposure": 1.0, "white_balance": [1, 1, 1]} for name in names]
    curve = {"x": [0, 1], "y": [[0, 0, 0], [1, 1, 1]]}
    demo = {"photos": photos, "vignette": values["vignette"], "response": curve}
    (folder / "demo.json").write_text(json.dumps(demo))


def _read_truths(folder: Path) -> None:
    for name in ("truth.json", "demo.json"):
        read_truth(folder / name, small_run().scene)


def _make_video(folder: Path, kind: str) -> None:
    import av

    random_pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 48, 3), dtype=np.uint8)
    codec = {"a.mp4": "mpeg4", "a.avi": "mjpeg", "a.mkv": "mpeg4"}[kind]
    with av.open(str(folder / kind), "w") as file:
        stream = file.add_stream(codec, rate=10)
        stream.width, stream.height = 48, 32
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for pixels in random_pixels:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())


def _read_video(folder: Path, kind: str) -> None:
    extract_frames(folder / kind, folder / "work", CaptureConfig(frames=3), lambda _: None)


def _make_occluders(folder: Path) -> None:
    (folder / "occluders").mkdir()
    Image.fromarray(np.zeros((36, 48), np.uint8)).save(folder / "occluders" / "000_photo0.png")


def _load_occluders(folder: Path) -> None:
    run = small_run()
    load_occluders(folder, run.scene, run.cache, [0, 1])


def _video_readers() -> dict[str, Reader]:
    return {
        f"video {kind}": Reader(
            functools.partial(_make_video, kind=kind),
            functools.partial(_read_video, kind=kind),
            {kind: "bytes"},
        )
        for kind in ("a.mp4", "a.avi", "a.mkv")
    }


def _readers() -> dict[str, Reader]:
    texts = ["images", "poses", "camera_indices", "exposure", "white_balance", "masks", "split"]
    scene = {f"scene/{name}.txt": "text" for name in texts}
    scene |= {f"scene/{name}.ini": "text" for name in ("dataset", "camera0", "camera1", "camera2")}
    scene |= {"scene/points.safetensors": "safetensors", "scene/point_cloud.ply": "ply"}
    colmap = {end: {f"{name}.{end}": kind for name in ("cameras", "images", "points3D")} for end, kind in
              (("bin", "bytes"), ("txt", "text"))}  # fmt: skip
    small = functools.partial(write_colmap, names=["a.png", "b.png"], matrices=poses(2), points=ball(3))
    checkpoint = {"step_00000003.safetensors": "safetensors"}
    readers = {
        "scene": Reader(_make_scene, lambda d: load_scene(d / "scene", lambda _: None), scene),
        "ply ascii": Reader(
            lambda d: _ascii_ply(d / "a.ply"), lambda d: read_ply(d / "a.ply"), {"a.ply": "ply"}
        ),
        "ply binary": Reader(
            lambda d: _binary_ply(d / "a.ply"), lambda d: read_ply(d / "a.ply"), {"a.ply": "ply"}
        ),
        "prepared points": Reader(
            _make_prepared,
            lambda d: load_prepared(d / "points.safetensors", d / "a.ply"),
            {"points.safetensors": "safetensors"},
        ),
        "colmap binary": Reader(lambda d: small(d, False), _colmap, colmap["bin"]),
        "colmap text": Reader(lambda d: small(d, True), _colmap, colmap["txt"]),
        "transforms.json": Reader(
            _make_transforms,
            lambda d: read_transforms(d, None, False, True, lambda _: None),
            {"transforms.json": "json"},
        ),
        **import_readers(),
        **run_readers(),
        "camera path": Reader(
            _make_path, lambda d: file_path(d / "path.json", 64, None), {"path.json": "json"}
        ),
        "key frames": Reader(_make_key_path, _load_key_path, {"path.json": "json"}),
        "EXIF table": Reader(
            _make_table, lambda d: read_exposure_table(d / "exif.csv"), {"exif.csv": "text"}
        ),
        "config.json": Reader(
            _make_config, lambda d: load_config(d / "config.json", lambda _: None), {"config.json": "json"}
        ),
        "checkpoint": Reader(_make_checkpoint, _load_checkpoint, checkpoint),
        "checkpoint without hash": Reader(_make_unhashed, _load_checkpoint, checkpoint),
        "network": Reader(_make_network, _load_network, {"network.safetensors": "safetensors"}),
        "exposure.json": Reader(_make_exposure, lambda d: load_exposure(d, 2, 3), {"exposure.json": "json"}),
        "truth.json": Reader(_make_truth, _read_truths, {"truth.json": "json", "demo.json": "json"}),
        "occluders": Reader(_make_occluders, _load_occluders, {"occluders/000_photo0.png": "png"}),
    }
    kinds = {".png": "png"}
    for name in PHOTOS:
        readers[f"photo {name}"] = Reader(
            make_photos,
            functools.partial(read_photos_of, name=name),
            {name: kinds.get(Path(name).suffix, "bytes")},
        )
    return readers | _video_readers()


READERS = _readers()


@functools.cache
def valid_input(name: str) -> Files:
    """Return the files of a reader's valid input."""
    with tempfile.TemporaryDirectory() as folder:
        READERS[name].make(Path(folder))
        return {
            f.relative_to(folder).as_posix(): f.read_bytes() for f in Path(folder).rglob("*") if f.is_file()
        }


def write_input(name: str, folder: Path) -> None:
    """Write a reader's valid input into an empty folder."""
    for file, content in valid_input(name).items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)


def write_mutated(name: str, seed: int, number: int, folder: Path) -> str:
    """Write a damaged input of a reader into an empty folder and return the damaged file; the numbers choose it."""
    rng = random.Random(f"{seed} {name} {number}")
    write_input(name, folder)
    file = rng.choice(sorted(READERS[name].kinds))
    path = folder / file
    if rng.random() < 0.03:
        return f"{file} is {replaced(path, rng)}"
    path.write_bytes(mutated(path.read_bytes(), READERS[name].kinds[file], rng))
    return file
