"""Training, scoring and rendering by two processes, as `torchrun` starts them, against one process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from adop.config import AlignConfig, LearnConfig, RefineConfig, TrainConfig, save_config
from adop.errors import UserError
from adop.ranks import Ranks
from adop.run.checkpoint import checkpoints
from adop.run.run import new_run
from adop.training.processes import check_processes
from adop.training.train import train, train_scenes
from support.command_line import status_of
from support.fast_training import CONFIG, PHYSICAL_CAMERA_FROM_STEP_1

pytestmark = pytest.mark.long
TOLERANCE = 1e-4  # relative, of parameters after some steps: sums are made in another order
# All numbers in 32 bits: in bfloat16, gradients of half a batch and of a whole one differ by some thousandths.
EXACT = replace(CONFIG, batch=4, steps=5, bf16=False)
# Cameras are aligned in the third step; the last photo has a mask, so that processes count other numbers of pixels.
ALIGNED = replace(
    EXACT,
    learn=LearnConfig(intrinsics="off", distortion="off", **PHYSICAL_CAMERA_FROM_STEP_1),
    refine=RefineConfig(align_every=3, align_photos=2, align=AlignConfig(longest_side=64, iterations=2)),
)
BY_GRADIENT = replace(
    EXACT,
    learn=LearnConfig(points="on", **PHYSICAL_CAMERA_FROM_STEP_1),
    refine=RefineConfig(method="gradient"),
)


def environment() -> dict[str, str]:
    """Return the environment of the processes: sums of a start are made in one order only on as many threads."""
    return os.environ | {"OMP_NUM_THREADS": "1"}


def command(words: list[str], processes: int) -> list[str]:
    """Return the command that runs `adop` in some processes."""
    alone = [str(Path(sys.executable).with_name("adop"))]
    together = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
    ]
    return [*(alone if processes == 1 else [*together, "--no-python", *alone]), *words]


def run_adop(words: list[str], processes: int) -> subprocess.CompletedProcess[str]:
    """Run `adop` in some processes to its end."""
    return subprocess.run(
        command(words, processes), env=environment(), capture_output=True, text=True, timeout=300, check=False
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, as in each process that `torchrun` starts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train_words(scene: Path, config: TrainConfig, output: Path) -> list[str]:
    """Return the words after `adop` that train a scene with a configuration."""
    file = output.with_suffix(".json")
    save_config(config, file)
    return ["train", str(scene), "--config", str(file), "--output", str(output)]


@pytest.fixture(scope="module")
def masked_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny scene, the left half of its last photo masked."""
    folder = tmp_path_factory.mktemp("masked") / "scene"
    shutil.copytree(tiny_folder, folder)
    names = (folder / "images.txt").read_text().split()
    with Image.open(folder / "images" / names[-1]) as photo:
        mask = np.full((photo.height, photo.width), 255, np.uint8)
    mask[:, : mask.shape[1] // 2] = 0
    (folder / "masks").mkdir(exist_ok=True)
    Image.fromarray(mask).save(folder / "masks" / "last.png")
    (folder / "masks.txt").write_text("-\n" * (len(names) - 1) + "last.png\n")
    return folder


def assert_end_alike(one: Path, other: Path) -> dict[str, Tensor]:
    """Compare the newest checkpoints of two runs, and return that of the first."""
    alone, together = (load_file(checkpoints(run / "checkpoints")[-1]) for run in (one, other))
    assert alone.keys() == together.keys()
    for name, values in alone.items():
        difference = (together[name].double() - values.double()).norm()
        assert difference <= TOLERANCE * values.double().norm() + 1e-7, name
    return alone


@pytest.mark.parametrize("config", [ALIGNED, BY_GRADIENT], ids=["aligned", "by gradient"])
def test_two_processes_with_half_the_batch_each_end_where_one_does(
    masked_folder: Path, tmp_path: Path, config: TrainConfig
) -> None:
    with one_thread():
        train(masked_folder, tmp_path / "run1", config, say=lambda _: None)
    ended = run_adop(train_words(masked_folder, config, tmp_path / "run2"), 2)
    assert ended.returncode == 0, ended.stderr
    alone = assert_end_alike(tmp_path / "run1", tmp_path / "run2")
    start = load_file(checkpoints(tmp_path / "run1" / "checkpoints")[0])
    learned = ["points.features", "tonemapper.exposure_delta", "environment.map"]
    learned += ["cameras.poses"] if config is ALIGNED else ["points.xyz_delta", "cameras.pose_delta"]
    assert not any(torch.equal(start[f"model.{name}"], alone[f"model.{name}"]) for name in learned)
    logs = [(tmp_path / f"run{n}" / "metrics.jsonl").read_text().splitlines() for n in (1, 2)]
    assert len(logs[0]) == len(logs[1]), "only the first process writes"
    scores = [json.loads((tmp_path / f"run{n}" / "eval" / "eval.json").read_text()) for n in (1, 2)]
    assert [p["photo"] for p in scores[0]["photos"]] == [p["photo"] for p in scores[1]["photos"]]
    assert abs(scores[0]["mean"]["psnr"] - scores[1]["mean"]["psnr"]) < 0.01


def network_of(run: Path) -> dict[str, Tensor]:
    """Return the network of a run's newest checkpoint."""
    tensors = load_file(checkpoints(run / "checkpoints")[-1])
    return {name: value for name, value in tensors.items() if name.startswith("model.network")}


def several_words(scenes: list[Path], config: TrainConfig, output: Path) -> list[str]:
    """Return the words after `adop` that train several scenes with a configuration."""
    words = train_words(scenes[0], config, output)
    return [*words[:2], *map(str, scenes[1:]), *words[2:]]


def test_processes_have_scenes_of_their_own_and_teach_one_network_which_one_process_goes_on_with(
    tiny_folder: Path, masked_folder: Path, tmp_path: Path
) -> None:
    for name, folder in (("house", tiny_folder), ("garden", masked_folder), ("shed", tiny_folder)):
        shutil.copytree(folder, tmp_path / name)
    scenes, output = [tmp_path / name for name in ("house", "garden", "shed")], tmp_path / "together"
    once = replace(EXACT, steps=1)
    with one_thread():
        for scene in scenes[:2]:
            train(scene, tmp_path / "apart" / scene.name, once, say=lambda _: None)
    ended = run_adop(several_words(scenes[:2], once, output), 2)
    assert ended.returncode == 0, ended.stderr
    # One step each: the network is the mean of both, and everything else as in a run of one scene.
    networks = [network_of(tmp_path / "apart" / scene.name) for scene in scenes[:2]]
    for scene in scenes[:2]:
        one, other = (
            load_file(checkpoints(f / scene.name / "checkpoints")[-1]) for f in (tmp_path / "apart", output)
        )
        for name, values in other.items():
            expected = one[name]
            if name in networks[0]:
                expected = (networks[0][name] + networks[1][name]) / 2
            torch.testing.assert_close(values, expected, rtol=TOLERANCE, atol=1e-6, msg=name)
        assert ended.stdout.count(f"{scene.name}\nheld-out photos") == 1
    # A new scene joins and comes first: one process has two scenes, the other one waits for it, and what the network
    # has learned stays.
    words = ["train", *map(str, reversed(scenes)), "--output", str(output), "--resume", "--steps", "3"]
    ended = run_adop(words, 2)
    assert ended.returncode == 0 and ended.stdout.count("resumed at step 1") == 2, ended.stderr
    networks = [network_of(output / scene.name) for scene in scenes]
    for name, values in networks[0].items():
        assert all(torch.equal(values, other[name]) for other in networks[1:])
    said: list[str] = []
    with one_thread():
        train_scenes(scenes, output, replace(EXACT, steps=4), resume=True, say=said.append)
    assert sum("resumed at step 3" in text for text in said) == 3


def test_where_there_are_more_processes_than_scenes_they_share_the_crops(
    tiny_folder: Path, masked_folder: Path, tmp_path: Path
) -> None:
    for name, folder in (("house", tiny_folder), ("garden", masked_folder)):
        shutil.copytree(folder, tmp_path / name)
    scenes, outputs = [tmp_path / "house", tmp_path / "garden"], [tmp_path / "alone", tmp_path / "together"]
    config = replace(EXACT, steps=1)
    with one_thread():
        train_scenes(scenes, outputs[0], config, say=lambda _: None)
    ended = run_adop(several_words(scenes, config, outputs[1]), 3)
    assert ended.returncode == 0, ended.stderr
    for scene in scenes:
        assert_end_alike(*(output / scene.name for output in outputs))


def end_by_killing(rank: int, words: list[str], run: Path) -> None:
    """Train in two processes, kill one after the first checkpoint of a run, and check what is said."""
    with subprocess.Popen(
        command(words, 2), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as launcher:
        until = time.monotonic() + 120
        while not [file for file in checkpoints(run / "checkpoints") if file.stem > "step_00000000"]:
            assert time.monotonic() < until and launcher.poll() is None
            time.sleep(0.1)
        workers = [p for p in psutil.Process(launcher.pid).children() if "train" in p.cmdline()]
        (victim,) = [worker for worker in workers if worker.environ()["RANK"] == str(rank)]
        victim.kill()
        said, _ = launcher.communicate(timeout=60)
    assert launcher.returncode != 0
    assert said.count("adop: one of the 2 processes ended before its work was done") == 1
    assert "[rank" not in said, "a process ended with a traceback"


LONG = replace(CONFIG, batch=4, steps=100_000, checkpoint_seconds=0.2)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_run_with_one_sentence_and_one_process_goes_on(
    masked_folder: Path, tmp_path: Path, killed: int
) -> None:
    run = tmp_path / "run"
    end_by_killing(killed, train_words(masked_folder, LONG, run), run)
    if killed == 0:
        return  # the rest is the same for both
    step = int(checkpoints(run / "checkpoints")[-1].stem.removeprefix("step_"))
    ended = run_adop(
        ["train", str(masked_folder), "--output", str(run), "--resume", "--steps", str(step + 3)], 1
    )
    assert ended.returncode == 0, ended.stderr
    assert f"resumed at step {step}" in ended.stdout


def test_a_killed_process_ends_the_runs_of_all_scenes(
    tiny_folder: Path, masked_folder: Path, tmp_path: Path
) -> None:
    for name, folder in (("house", tiny_folder), ("garden", masked_folder)):
        shutil.copytree(folder, tmp_path / name)
    end_by_killing(
        1,
        several_words([tmp_path / "house", tmp_path / "garden"], LONG, tmp_path / "runs"),
        tmp_path / "runs" / "garden",
    )
    steps = [
        int(checkpoints(tmp_path / "runs" / name / "checkpoints")[-1].stem[5:])
        for name in ("house", "garden")
    ]
    assert min(steps) > 0


def test_two_processes_share_the_frames_and_the_scores(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, frames = tmp_path / "run", {}
    config = replace(CONFIG, steps=2, test_every=4, scene=str(tiny_folder))
    alone = train(tiny_folder, run, config, say=lambda _: None)
    for processes in (1, 2):
        output = tmp_path / f"frames{processes}"
        words = ["render", str(run), "--path", "--seconds", "0.2", "--width", "64", "--output", str(output)]
        if processes == 1:
            assert status_of(words, monkeypatch) == 0
        else:
            ended = run_adop(words, processes)
            assert ended.returncode == 0 and ended.stdout.count(str(output)) == 1, ended.stderr
        frames[processes] = [np.asarray(Image.open(file)) for file in sorted(output.glob("*.png"))]
    assert len(frames[1]) == len(frames[2]) > 2
    for one, other in zip(frames[1], frames[2], strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1, "sums of two threads are rounded otherwise"
    ended = run_adop(["eval", str(run)], 2)
    assert ended.returncode == 0 and ended.stdout.count("results: ") == 1, ended.stderr
    together = json.loads((run / "eval" / "eval.json").read_text())
    assert [photo["photo"] for photo in together["photos"]] == [photo["photo"] for photo in alone["photos"]]
    pairs = list(zip(together["photos"], alone["photos"], strict=True))
    pairs.append((together["baseline_points"], alone["baseline_points"]))
    assert all(abs(ours["psnr"] - expected["psnr"]) < 0.01 for ours, expected in pairs) and len(pairs) > 3


def test_more_processes_than_crops_are_refused(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(tiny_folder, tmp_path, CONFIG, lambda _: None)
    check_processes(run)
    monkeypatch.setattr("adop.training.processes.ranks", lambda: Ranks(0, CONFIG.batch + 1))
    with pytest.raises(
        UserError, match=f"{CONFIG.batch + 1} processes and only {CONFIG.batch} crops in a step"
    ):
        check_processes(run)


def test_a_mistake_is_said_once(tmp_path: Path) -> None:
    ended = run_adop(["train", str(tmp_path / "nothing"), "--output", str(tmp_path / "run")], 2)
    assert ended.returncode != 0 and not (tmp_path / "run").exists()
    assert ended.stderr.count(f"adop: {tmp_path / 'nothing'}") == 1
