"""Choosing frames of a video: evenly spread over its motion, and the sharpest of each part."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from adop.capture.capture_config import CaptureConfig
from adop.capture.sources.sample_tables import check_sample_tables
from adop.errors import UserError, one_line
from adop.files import check_readable, read_json, write_atomically, write_text
from adop.progress import Bar
from adop.scene.prepare import Report

# FFmpeg must open nothing but the video: playlists would name other files and servers.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,asf,ogg,mxf,dv,"
    "gif,apng,mjpeg,yuv4mpegpipe,nut,rm"
)
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
# Before version 19, metadata that are not UTF-8 were an error unless said otherwise.
_METADATA: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
)
_SMALL_BYTES, _MAX_COMPRESSION = (
    30_000_000,
    1000,
)  # of a frame's pixels: larger ones need a file in proportion
_SMALL_SIDE_PX = 320  # longer side of the grey frames on which motion and sharpness are measured
_FRAME_NAME = re.compile(r"frame_\d{6,}\.jpg")
_STILL = 0.05  # share of the mean motion that a frame adds in any case, so that a pause cannot hide frames
_WINDOW = 7  # frames on either side with which a frame's sharpness is compared


@dataclass(frozen=True, eq=False)
class _Measures:
    motion: np.ndarray  # [F] since the frame before, 0 for the first
    sharpness: np.ndarray  # [F] variance of the Laplacian


def extract_frames(video: Path, work: Path, config: CaptureConfig, report: Report) -> list[str]:
    """Write `config.frames` frames of a video to `work/photos` as JPEG, and return their names.

    Frames keep the pixels as stored; a phone's rotation tag is not applied, as with photos. A finished extraction is
    not repeated.

    Raises: UserError for a file that is not a video, or has no frame that can be decoded.
    """
    video, folder, record = Path(video), Path(work) / "photos", Path(work) / "frames.json"
    if config.frames < 3:
        raise UserError(f"--frames {config.frames}: a scene needs at least 3 frames.")
    check_readable(video)
    check_sample_tables(video)
    state = video.stat()
    key = [str(video.resolve()), state.st_size, state.st_mtime_ns, config.frames]
    done = _read_record(record, key)
    if done is not None and all((folder / name).is_file() for name in done):
        return done
    measures = _measure(video)
    chosen = choose_frames(measures.motion, measures.sharpness, config.frames)
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"frame_{index:06d}.jpg" for index in chosen]
    for file in [file for file in folder.rglob("*") if file.is_file() and file.name not in set(names)]:
        file.unlink()
    _write(video, folder, chosen)
    write_text(record, json.dumps({"key": key, "names": names}))
    report(f"{video}: {len(names)} of {len(measures.motion)} frames were taken.")
    return names


def choose_frames(motion: np.ndarray, sharpness: np.ndarray, count: int) -> list[int]:
    """Return the numbers of `count` frames: the sharpest of each of as many parts of equal motion.

    Args: motion: [F] since the frame before; sharpness: [F], compared only with that of near frames.
    """
    total = len(motion)
    if total <= count:
        return list(range(total))
    steps = motion + _STILL * max(float(motion.mean()), 1e-9)
    way = np.cumsum(steps)
    part = np.minimum((way / way[-1] * count * (1 - 1e-12)).astype(int), count - 1)
    padded = np.pad(sharpness, _WINDOW, mode="edge")
    near = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * _WINDOW + 1), axis=1)
    relative = sharpness / np.maximum(near, 1e-9)
    chosen = {int(frames[relative[frames].argmax()]) for frames in _parts(part, count)}
    for index in np.argsort(-relative, kind="stable"):  # a jump between two frames leaves parts empty
        if len(chosen) == count:
            break
        chosen.add(int(index))
    return sorted(chosen)


def _parts(part: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Yield the frames of each part, without the last third: chosen frames must not be neighbours."""
    for number in range(count):
        frames = np.flatnonzero(part == number)
        if len(frames):
            yield frames[: max(1, len(frames) - len(frames) // 3)]


def _measure(video: Path) -> _Measures:
    from scipy import ndimage

    motion, sharpness = [], []
    before: np.ndarray | None = None
    for frame in _decode(video, "looking at frames"):
        scale = min(1.0, _SMALL_SIDE_PX / max(frame.width, frame.height))
        size = {
            "width": max(2, round(scale * frame.width)),
            "height": max(2, round(scale * frame.height)),
        }
        grey = frame.reformat(**size, format="gray").to_ndarray().astype(np.float32)
        sharpness.append(float(ndimage.laplace(grey).var()))
        coarse = ndimage.zoom(ndimage.gaussian_filter(grey, 3), 0.25, order=1)
        coarse -= coarse.mean()  # a change of exposure is no motion
        motion.append(
            0.0 if before is None or before.shape != coarse.shape else float(np.abs(coarse - before).mean())
        )
        before = coarse
    if not motion:
        raise UserError(f"{video}: has no frame that can be decoded; use another video.")
    return _Measures(np.array(motion), np.array(sharpness))


def _write(video: Path, folder: Path, chosen: list[int]) -> None:
    wanted = set(chosen)
    for number, frame in enumerate(_decode(video, "writing frames")):
        if number in wanted:
            image = Image.fromarray(frame.to_ndarray(format="rgb24"))
            write_atomically(folder / f"frame_{number:06d}.jpg", partial(_save, image))
        if number == chosen[-1]:
            break


def _save(image: Image.Image, path: Path) -> None:
    image.save(path, format="JPEG", quality=97, subsampling=0)


def _decode(video: Path, stage: str) -> Iterator[av.VideoFrame]:
    """Yield the frames of the first video stream; damage ends it where at least one frame was decoded."""
    count = 0
    try:
        # An absolute path, as FFmpeg takes what precedes a colon for a protocol.
        with av.open(os.path.abspath(video), options=_OPTIONS, **_METADATA) as container:
            if not container.streams.video:
                raise UserError(f"{video}: is not a video; use a folder of photos or a video.")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise UserError(f"{video}: is of a codec that adop cannot decode; convert it to H.264.")
            _check_cost(video, stream.codec_context.width, stream.codec_context.height)
            stream.thread_type = "AUTO"
            for frame in Bar(container.decode(stream), stage, stream.frames or None):
                yield frame
                count += 1
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
        if isinstance(error, UserError):
            raise
        if not count:
            raise UserError(
                f"{video}: cannot be read as a video ({one_line(error)}); use a folder of photos or a video."
            ) from None


def _check_cost(video: Path, width: int, height: int) -> None:
    """Refuse a file whose decoding would take far more memory than its size suggests."""
    size = os.path.getsize(video)
    if width * height > _SMALL_BYTES + _MAX_COMPRESSION * size:
        raise UserError(
            f"{video}: claims to have frames of {width}x{height} pixels, far too many for its {size} bytes; "
            "use another video."
        )


def _read_record(record: Path, key: list) -> list[str] | None:
    """Return the names of the frames that an earlier run took with the same key; None where there are none."""
    try:
        content = read_json(record)
        names = content["names"] if content["key"] == key else []
    except (UserError, KeyError, TypeError):
        return None
    valid = isinstance(names, list) and all(
        isinstance(name, str) and _FRAME_NAME.fullmatch(name) for name in names
    )
    return names if valid and names else None
