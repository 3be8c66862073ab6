"""What damaged files once did to a reader: each case ended in a traceback, a hang, or gigabytes of memory."""

from __future__ import annotations

import json
import re
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from adop.capture.capture_config import CaptureConfig
from adop.capture.sources.photo_files import collect_photos
from adop.capture.sources.video import extract_frames
from adop.errors import UserError
from adop.images.photo_files import photo_size, read_mask, read_photo
from adop.scene.point_cloud import PREPARED_VERSION, fingerprint, load_prepared
from support.hostile_readers import READERS, valid_input, write_input
from support.mutations import is_one_sentence
from support.small_scene import write_photos

HUGE = 10**400  # no float
DEEP = "[" * 100_000


def with_bytes(file: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = (folder / file).read_bytes()
        assert old in content
        (folder / file).write_bytes(content.replace(old, new, 1))

    return change


def with_text(file: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_text(text)


def with_json(file: str, *keys: Any, value: Any) -> Callable[[Path], None]:
    """Set the value under nested keys of a JSON file."""

    def change(folder: Path) -> None:
        content = inner = json.loads((folder / file).read_text())
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        (folder / file).write_text(json.dumps(content))

    return change


def with_matrix(row: int, column: int, value: float) -> Callable[[Path], None]:
    return with_json("path.json", "camera_path", 0, "camera_to_world", 4 * row + column, value=value)


def with_header(key: str, value: Any) -> Callable[[Path], None]:
    """Change the metadata of a checkpoint without a hash."""

    def change(folder: Path) -> None:
        file = folder / "step_00000003.safetensors"
        content = file.read_bytes()
        (length,) = struct.unpack_from("<Q", content)
        header = json.loads(content[8 : 8 + length])
        if value is None:
            del header["__metadata__"][key]
        else:
            header["__metadata__"][key] = value
        text = json.dumps(header).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])

    return change


def renamed_tensor(folder: Path) -> None:
    with_bytes("step_00000003.safetensors", b"optimiser.rate_factor", b"model.xxxxxxxxxxxxxxx")(folder)


def last_byte(folder: Path) -> None:
    file = folder / "step_00000003.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def not_finite(folder: Path) -> None:
    """Fill the end of the tensors, which is the model's, with NaN."""
    file = folder / "step_00000003.safetensors"
    content = file.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    start, end = header["model.points.lod_radius"]["data_offsets"]
    start, end = start + 8 + length, end + 8 + length
    file.write_bytes(content[:start] + struct.pack("<f", np.nan) * ((end - start) // 4) + content[end:])


LONG = "x" * 400  # longer than file names may be
REFUSED = {
    "long mask": ("scene", with_text("scene/masks.txt", f"{LONG}\n-\n-\n-\n-\n-\n"), "mask not found"),
    "long photo": ("scene", with_bytes("scene/images.txt", b"photo0.png", LONG.encode()), "photo not found"),
    "control characters": ("scene", with_bytes("scene/images.txt", b"photo0", b"\x1b[2Jo0"), "does not stay inside"),
    "infinite exposure": ("scene", with_text("scene/exposure.txt", "1e300\n" * 6), "must be an EV of at most 100"),
    "far pose": ("scene", with_text("scene/poses.txt", "0 0 0 1 0 0 1e300\n" * 6), "line 1 .*huge"),
    "UTF-16": ("scene", with_bytes("scene/poses.txt", b"0", "\ufeff0".encode("utf-16")), "text in UTF-8"),
    "bad CSV": ("EXIF table", with_text("exif.csv", "name,ev\n" + "a" * 140_000 + ",1\n"), "line .*is not CSV"),
    "camera twice": (
        "colmap text", with_text("cameras.txt", "7 PINHOLE 9 9 1 1 1 1\n" * 2), "line 2: camera 7 is listed twice"),
    "long size": ("colmap text", with_text("cameras.txt", f"7 PINHOLE {'9' * 4000} 9 1 1 1 1\n"), "line 1 must read"),
    "unknown model": ("colmap text", with_text("cameras.txt", f"7 {LONG} 9 9 1 1 1 1\n"), "no camera model"),
    "pose beyond floats": (
        "transforms.json", with_json("transforms.json", "frames", 0, "transform_matrix", 0, 0, value=HUGE), "finite"),
    "photo is the folder": (
        "transforms.json", with_json("transforms.json", "frames", 0, "file_path", value="."), "names no file"),
    "long photo in JSON": (
        "transforms.json", with_json("transforms.json", "frames", 0, "file_path", value=LONG), "not found"),
    "surrogate": ("transforms.json", with_json("transforms.json", "frames", 0, "file_path", value="\ud800"), "control"),
    "no angle": ("transforms.json", with_json("transforms.json", "camera_angle_x", value=0), "camera_angle_x"),
    "mask of no text": ("transforms.json", with_json("transforms.json", "frames", 0, "mask_path", value=5), "mask_path"),
    "cloud of no text": ("transforms.json", with_json("transforms.json", "ply_file_path", value=[1]), "ply_file_path"),
    "singular camera": ("camera path", with_matrix(3, 3, 0.0), "camera 1: .*rigid"),
    "camera beyond floats": ("camera path", with_matrix(0, 3, HUGE), "camera 1: .*rigid"),
    "mirrored camera": (
        "key frames",
        with_json("path.json", "keyframes", 0, "matrix", value=[*np.diag([1.0, 1, -1, 1]).ravel()]),
        "key frame 1: .*rigid",
    ),
    "no view": ("camera path", with_json("path.json", "camera_path", 0, "fov", value=1e-320), "fov"),
    "tall frames": (
        "camera path",
        with_bytes("path.json", b'"render_width": 64, "render_height": 48', b'"render_width": 1, "render_height": 999'),
        "63936 pixels high"),
    "same time": ("key frames", with_json("path.json", "keyframes", 1, "time", value=0.0), "path.json: two key frames"),
    "no key frame": ("key frames", with_json("path.json", "keyframes", 1, value=3), "keyframes"),
    "deep matrix": ("key frames", with_json("path.json", "keyframes", 0, "matrix", value=DEEP), "16 numbers"),
    "deep config": ("config.json", with_text("config.json", DEEP), "nested too deeply"),
    "config beyond floats": ("config.json", with_json("config.json", "lr", "features", value=HUGE), "expected"),
    "key with a dot": ("config.json", with_json("config.json", "render.levels", value=4), "unknown key 'render.levels'"),
    "part of a part": (
        "config.json",
        lambda folder: (folder / "config.json").write_text('{"refine": {"points": {"sizes": 5, "block": 3}}}'),
        "config.json: .*give only one of them",
    ),
    "long key": ("config.json", with_json("config.json", "x" * 9999, value=4), "unknown key"),
    "exposure beyond floats": ("exposure.json", with_json("exposure.json", "offset", 0, value=HUGE), "delete it"),
    "deep exposure": ("exposure.json", with_text("exposure.json", DEEP), "nested too deeply"),
    "ragged truth": (
        "truth.json", with_json("truth.json", "images", "photo0.png", "white_balance", value=[1]), "lacks data"),
    "deep truth": ("truth.json", with_text("truth.json", DEEP), "nested too deeply"),
    "changed checkpoint": ("checkpoint", last_byte, "its hash is not that of its content"),
    "no step": ("checkpoint without hash", with_header("step", None), "how far its run had come"),
    "endless step": ("checkpoint without hash", with_header("step", "9" * 5000), "how far its run had come"),
    "NaN seconds": ("checkpoint without hash", with_header("seconds", "nan"), "how far its run had come"),
    "wrong hash": ("checkpoint without hash", with_header("sha256", "0" * 64), "hash"),
    "tensor too many": ("checkpoint without hash", renamed_tensor, "which the model lacks"),
    "NaN tensor": ("checkpoint without hash", not_finite, "model.points.lod_radius|points.lod_radius holds values"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_case_is_refused_with_one_sentence(case: str, tmp_path: Path):
    name, change, expected = REFUSED[case]
    write_input(name, tmp_path)
    change(tmp_path)
    with pytest.raises(UserError, match=expected) as caught:
        READERS[name].read(tmp_path)
    assert is_one_sentence(str(caught.value), tmp_path)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def many_scans(tmp_path: Path) -> bytes:
    """Repeat the last scan of a progressive JPEG file."""
    content = valid_input("photo progressive.jpg")["progressive.jpg"]
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * 300 + b"\xff\xd9"


@pytest.mark.parametrize(
    "content, expected",
    [
        (png(60_000, 50_000), "exceeds limit"),
        (png(9_000, 9_000), "far too many for its"),
        (
            b"GIF89a" + struct.pack("<HH", 65_000, 65_000) + b"\0\0\0,\0\0\0\0\1\0\1\0\0\2\1D\0;",
            "exceeds limit",
        ),
        (png(8, 8)[:-12] + b"\x7f\xff\xff\xf0tEXt", "cannot be read as a photo"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is none of JPEG"),
        (many_scans, "more than 200 scans"),
    ],
    ids=["huge PNG", "large PNG", "huge GIF", "long chunk", "PostScript", "many scans"],
)
def test_small_files_of_large_photos_are_refused_before_they_are_decoded(tmp_path: Path, content, expected):
    file = tmp_path / "a.png"
    file.write_bytes(content(tmp_path) if callable(content) else content)
    for read in (read_photo, read_mask):
        begun = time.monotonic()
        with pytest.raises(UserError, match=expected) as caught:
            read(file)
        assert time.monotonic() - begun < 2 and str(file) in str(caught.value)


def test_large_masks_of_a_single_colour_are_read(tmp_path: Path):
    """Their files are a thousandth of their pixels."""
    from PIL import Image

    Image.new("1", (6000, 4000), 1).save(tmp_path / "m.png")
    assert (tmp_path / "m.png").stat().st_size < 20_000
    assert read_mask(tmp_path / "m.png", (6000, 4000)).all()
    assert photo_size(tmp_path / "m.png") == (6000, 4000)


@pytest.mark.parametrize(
    "tensors, metadata",
    [
        ({"xyz": np.float32(1)}, None),
        ({"xyz": np.zeros((3, 3), np.float64)}, None),
        ({"xyz": np.full((3, 3), np.nan, np.float32)}, None),
        ({"xyz": np.zeros((3, 3), np.float32)}, {"adop": DEEP}),
    ],
)
def test_prepared_points_that_are_damaged_are_ignored(tmp_path: Path, tensors, metadata):
    ply = tmp_path / "a.ply"
    ply.write_bytes(b"ply\n")
    key = json.dumps({"version": PREPARED_VERSION, "ply": fingerprint(ply)})
    others = {name: np.ones(3, np.float32) for name in ("radius", "lod_radius")}
    save_file(
        others | {k: np.asarray(v) for k, v in tensors.items()}, tmp_path / "p", metadata or {"adop": key}
    )
    assert load_prepared(tmp_path / "p", ply) is None


def test_folders_that_link_to_one_another_end(tmp_path: Path):
    """With two links in a circle, the number of paths doubles at every level."""
    write_photos(tmp_path / "in", 3, (160, 128))
    for name in ("a", "b", "c"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "in")
    photos = collect_photos(tmp_path / "in", tmp_path / "work", CaptureConfig(), lambda _: None)
    assert photos.names == ("photo0.png", "photo1.png", "photo2.png")
    (tmp_path / "in" / "loop.png").symlink_to(tmp_path / "in" / "loop.png")
    with pytest.raises(UserError, match=re.escape("loop.png: photo not found")):
        collect_photos(tmp_path / "in", tmp_path / "work", CaptureConfig(), lambda _: None)


def test_a_playlist_is_no_video(tmp_path: Path):
    """It would make FFmpeg read other files, and ask servers."""
    playlists = {
        "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.mp4\n#EXT-X-ENDLIST\n",
        "a.mp4": "ffconcat version 1.0\nfile b.mp4\n",
    }
    (tmp_path / "b.mp4").write_bytes(valid_input("video a.mp4")["a.mp4"])
    for name, text in playlists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=f"{name}: cannot be read as a video"):
            extract_frames(tmp_path / name, tmp_path / "work", CaptureConfig(frames=3), lambda _: None)


@pytest.mark.parametrize(
    "table, offset", [(b"stsz", 4), (b"stsz", 8), (b"stts", 4), (b"stsc", 4), (b"stco", 4)]
)
def test_tables_of_a_video_that_claim_too_much_are_refused(tmp_path: Path, table: bytes, offset: int):
    """FFmpeg allocates for all their entries first, half a gigabyte for 40 million samples of equal size."""
    content = valid_input("video a.mp4")["a.mp4"]
    start = content.index(table) + 4 + offset
    new = (
        struct.pack(">II", 100, 40_000_000)
        if (table, offset) == (b"stsz", 4)
        else struct.pack(">I", 0x0FFFFFFF)
    )
    (tmp_path / "a.mp4").write_bytes(content[:start] + new + content[start + len(new) :])
    with pytest.raises(UserError, match=rf"a\.mp4: is damaged, as its table '{table.decode()}' claims"):
        extract_frames(tmp_path / "a.mp4", tmp_path / "work", CaptureConfig(frames=3), lambda _: None)


def test_names_in_a_record_of_frames_stay_in_its_folder(tmp_path: Path):
    write_input("video a.mp4", tmp_path)
    config = CaptureConfig(frames=3)
    names = extract_frames(tmp_path / "a.mp4", tmp_path, config, lambda _: None)
    record = json.loads((tmp_path / "frames.json").read_text())
    for wrong in (["../a.mp4"] * 3, [1, 2, 3], [], "abc", None):
        (tmp_path / "frames.json").write_text(json.dumps(record | {"names": wrong}))
        assert extract_frames(tmp_path / "a.mp4", tmp_path, config, lambda _: None) == names
