"""Choosing frames of a video."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from adop.capture.capture_config import CaptureConfig
from adop.capture.sources.photo_files import collect_photos
from adop.capture.sources.video import choose_frames
from adop.errors import UserError

SIZE = (192, 144)
FRAMES = 60
STILL = range(20, 40)  # the camera rests


def silent(_):
    """Report nothing."""


def frame(index):
    """Return a window of a texture; every odd frame is blurred."""
    texture = cv2.resize(np.random.default_rng(0).integers(0, 256, (90, 300, 3), dtype=np.uint8), (1200, 360))
    shift = 4 * (min(index, STILL.start) + max(0, index - STILL.stop))
    pixels = texture[100 : 100 + SIZE[1], shift : shift + SIZE[0]]
    return cv2.GaussianBlur(pixels, (0, 0), 3) if index % 2 else pixels


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "walk.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 90)
        time = 0
        for index in range(FRAMES):
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame(index)), format="rgb24")
            image.pts, image.time_base = time, Fraction(1, 90)
            time += 2 if index % 3 else 5  # a variable frame rate
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    return path


def numbers(photos):
    return [int(name[6:12]) for name in photos.names]


def test_sharp_frames_spread_over_the_motion_are_taken(video, tmp_path):
    sentences = []
    photos = collect_photos(video, tmp_path, CaptureConfig(frames=12), sentences.append)
    chosen = numbers(photos)
    assert photos.sequence and len(chosen) == 12 and photos.sizes == (SIZE,) * 12
    assert sum(index % 2 for index in chosen) <= 1
    assert sum(index in STILL for index in chosen) <= 3  # of 20, though they are a third of the video
    pixels = np.asarray(Image.open(photos.files[3])).astype(float)
    grey, expected = pixels.mean(axis=2), frame(chosen[3]).mean(axis=2)  # the video's colours are coarse
    assert np.corrcoef(grey.ravel(), expected.ravel())[0, 1] > 0.98
    assert sentences[0].endswith("12 of 60 frames were taken.")


def test_a_finished_extraction_is_not_repeated_but_another_number_of_frames_is(video, tmp_path):
    photos = collect_photos(video, tmp_path, CaptureConfig(frames=8), silent)
    before = [file.stat().st_mtime_ns for file in photos.files]
    again = collect_photos(video, tmp_path, CaptureConfig(frames=8), silent)
    assert [file.stat().st_mtime_ns for file in again.files] == before
    photos.files[0].unlink()
    assert collect_photos(video, tmp_path, CaptureConfig(frames=8), silent).names == photos.names
    fewer = collect_photos(video, tmp_path, CaptureConfig(frames=5), silent)
    assert len(fewer.names) == 5 == len(list(fewer.folder.iterdir()))


def test_a_short_video_gives_all_its_frames(video, tmp_path):
    assert numbers(collect_photos(video, tmp_path, CaptureConfig(frames=500), silent)) == list(range(FRAMES))


def test_a_camera_at_rest_and_a_cut_still_give_as_many_frames():
    still = choose_frames(np.zeros(100), np.ones(100), 10)
    assert len(still) == 10 and np.diff(still).max() <= 20
    cut = np.ones(100)
    cut[50] = 1e6
    assert len(choose_frames(cut, np.ones(100), 10)) == 10


@pytest.mark.parametrize("content", [b"", b"no video" * 1000])
def test_a_file_that_is_not_a_video_is_named(tmp_path, content):
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.mp4: cannot be read as a video"):
        collect_photos(path, tmp_path / "work", CaptureConfig(), silent)


def test_a_broken_video_is_named_and_too_few_frames_are_refused(video, tmp_path):
    path = tmp_path / "half.mp4"
    path.write_bytes(video.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"half\.mp4: cannot be read as a video"):
        collect_photos(path, tmp_path / "work", CaptureConfig(), silent)
    with pytest.raises(UserError, match="--frames 2"):
        collect_photos(video, tmp_path / "work", CaptureConfig(frames=2), silent)
