"""Files that someone else made: every reader accepts them or refuses them with one sentence, and loads no pickle.

`fuzz_readers.py` looks for more of them, for longer, with limits on time and memory.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from adop.capture.capture_config import CaptureConfig
from adop.capture.sources.video import extract_frames
from adop.errors import UserError
from adop.images.vgg import Vgg
from adop.stereo.depth_maps import StereoScene
from adop.training.log import Log
from adop.viewer.training_record import TrainingRecord
from support.hostile_readers import (
    READERS,
    small_run,
    valid_input,
    write_input,
    write_mutated,
)
from support.mutations import Mark, is_one_sentence, pickled, put

ROOT = Path(__file__).resolve().parents[2]
COUNT = 15  # damaged inputs of each reader
# A damaged one is ignored: the points of a scene and of a prepared cloud are made again, and the curves are left out.
IGNORED = ("points.safetensors", "metrics.jsonl")
FILES = [(name, file) for name, reader in READERS.items() for file in reader.kinds]

pytestmark = pytest.mark.filterwarnings(
    "ignore"
)  # libraries complain about damaged files in words of their own


def refusal(name: str, folder: Path) -> str | None:
    """Return the sentence with which a reader refuses a folder, or None where it accepts it."""
    try:
        READERS[name].read(folder)
    except UserError as error:
        return str(error)
    return None


def assert_one_sentence(text: str, folder: Path) -> None:
    assert is_one_sentence(text, folder), text


@pytest.mark.parametrize("name", READERS)
def test_valid_files_are_accepted(name: str, tmp_path: Path):
    write_input(name, tmp_path)
    assert refusal(name, tmp_path) is None


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_accepted_or_refused_with_one_sentence(name: str, tmp_path: Path):
    for number in range(COUNT):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_mutated(name, 2026, number, folder)
        text = refusal(name, folder)
        if text is not None:
            assert_one_sentence(text, folder)


@pytest.mark.parametrize("what", ["nothing", "empty", "folder", "loop", "dangling", "device", "pipe", "zip"])
def test_whatever_stands_in_the_place_of_a_file_is_named(what: str, tmp_path: Path):
    """A pipe would hang whoever waits for it, and /dev/zero never ends."""
    optional = (
        *("camera_indices", "exposure.txt", "exposure.json", "white_balance", "masks", "occluders"),
        *("split.txt", "train.txt", "val.txt", "crop_box.json", "notes.json"),
    )
    for number, (name, file) in enumerate(FILES):
        if name.startswith("photo ") and file not in ("photo0.png", "a.jpg", "a.tif"):
            continue  # photos are opened alike
        folder = tmp_path / str(number)
        folder.mkdir()
        write_input(name, folder)
        (folder / file).unlink()
        put(folder / file, what)
        text = refusal(name, folder)
        if text is not None:
            assert_one_sentence(text, folder)
        elif not file.endswith(IGNORED):
            few = (what == "empty" and file in ("points3D.txt", "train.txt", "val.txt")) or (
                "occluders" in file and what not in ("empty", "zip")
            )
            assert few or (what == "nothing" and any(word in file for word in optional)), (name, file)


def torch_pickle(marker: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Mark(marker), buffer)
    return buffer.getvalue()


def numpy_pickle(marker: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Mark(marker)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize("make", [pickled, torch_pickle, numpy_pickle])
def test_no_reader_loads_a_pickle(make, tmp_path: Path):
    marker = tmp_path / "marker"
    for number, (name, file) in enumerate(FILES):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_input(name, folder)
        (folder / file).write_bytes(make(marker))
        text = refusal(name, folder)
        assert (text is not None) or file.endswith(IGNORED), (name, file)
        assert not marker.exists(), (name, file)


def test_pickles_would_leave_a_mark(tmp_path: Path):
    """The marker of the test above is made by those who load the pickles."""
    import pickle

    pickle.loads(pickled(tmp_path / "a"))
    torch.load(io.BytesIO(torch_pickle(tmp_path / "b")), weights_only=False)
    np.load(io.BytesIO(numpy_pickle(tmp_path / "c")), allow_pickle=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b", "c"]


@pytest.mark.parametrize("make", [pickled, torch_pickle, numpy_pickle, lambda marker: b""])
def test_files_without_a_reader_of_their_own_are_no_pickles_either(make, tmp_path: Path):
    """Network weights, planes of stereo, metrics, and the record of a video's frames."""
    marker, file = tmp_path / "marker", tmp_path / "00000.safetensors"
    content = make(marker)
    file.write_bytes(content)
    with pytest.raises(UserError, match="is not a readable safetensors file"):
        Vgg(str(file))
    scene = small_run()
    (tmp_path / "fine").mkdir()
    (tmp_path / "fine" / "00000.safetensors").write_bytes(content)
    stereo = StereoScene(scene.scene, scene.cache, {}, None, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="is damaged"):
        stereo.planes("fine", 0)
    (tmp_path / "metrics.jsonl").write_bytes(
        content + b"\n" + b"[" * 100_000 + b'\n{"step": 1' + b"0" * 400 + b"}\n"
    )
    Log(tmp_path, 3, lambda _: None).close()
    assert TrainingRecord(tmp_path, 3).history(0) == []
    (tmp_path / "a.mp4").write_bytes(valid_input("video a.mp4")["a.mp4"])
    (tmp_path / "frames.json").write_bytes(content)
    assert len(extract_frames(tmp_path / "a.mp4", tmp_path, CaptureConfig(frames=3), lambda _: None)) == 3
    assert not marker.exists()


def test_the_code_names_nothing_that_loads_pickles():
    loaders = re.compile(
        r"torch\.load\b|\bpickle\b|\ballow_pickle\b|\bjoblib\b|\bnp\.load\(|\bnumpy\.load\(|\bshelve\b|\bmarshal\b|"
        r"\bdill\b|yaml\.(unsafe_)?load\b|\bload_state_dict_from_url\b|read_pickle"
    )
    files = [file for folder in ("adop", "viewer") for file in (ROOT / folder).rglob("*.py")]
    if not files:
        pytest.skip("the repository is not beside the tests")
    found = []
    for file in files:
        lines = enumerate(file.read_text().splitlines(), 1)
        found += [f"{file.name}:{number}" for number, line in lines if loaders.search(line)]
    assert len(files) > 100 and found == []
