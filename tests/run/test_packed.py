"""`adop pack`: runs of which views read only the points that they draw."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from adop.errors import UserError
from adop.run.checkpoint import PACKED, save_checkpoint
from adop.run.run import load
from adop.training.train import train
from support.command_line import status_of


def copy_of(folder: Path, tmp_path: Path) -> Path:
    """Return a copy of a run's folder."""
    return Path(shutil.copytree(folder, tmp_path / "run"))


@torch.no_grad()
def test_views_of_a_packed_run_are_those_of_its_checkpoint(packed_folder: Path) -> None:
    packed, whole = load(packed_folder), load(packed_folder, packed=False)
    assert len(packed.pipeline.points) == len(whole.pipeline.points) and packed.progress == whole.progress
    assert not packed.pipeline.points.features.requires_grad
    camera = packed.photo_camera(3)
    found, expected = packed.render(camera), whole.render(camera)
    torch.testing.assert_close(found.image, expected.image, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.depth, expected.depth, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_samples_of_a_packed_run_lie_all_over_it_and_are_read_from_few_pages(packed_folder: Path) -> None:
    points = load(packed_folder).pipeline.points
    found = points.sampled(500, torch.Generator().manual_seed(0))
    leading = points.xyz[: len(points) // 4]
    assert (found[:, None] == leading).all(2).any(1).all()
    spread, whole = ((xyz.quantile(0.9, 0) - xyz.quantile(0.1, 0)) for xyz in (found, points.xyz))
    assert (spread > 0.7 * whole).all()


def test_the_command_packs_and_a_packed_folder_needs_no_checkpoints(
    trained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_of(trained_folder, tmp_path)
    assert status_of(["pack", str(folder)], monkeypatch) == 0
    assert f"{folder / PACKED}: " in capsys.readouterr().out
    shutil.rmtree(folder / "checkpoints")
    assert load(folder).progress.step == 3
    assert status_of(["pack", str(folder)], monkeypatch) == 2
    assert "has no checkpoint yet" in capsys.readouterr().err and (folder / PACKED).exists()


def test_a_packed_run_of_another_checkpoint_is_not_used(packed_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(packed_folder, tmp_path)
    run = load(folder)
    assert not run.pipeline.points.features.requires_grad
    whole = load(folder, packed=False)
    with torch.no_grad():
        whole.pipeline.points.features += 0.1
    save_checkpoint(folder / "checkpoints", whole.pipeline, {}, whole.progress)  # of the same step
    said: list[str] = []
    run = load(folder, say=said.append)
    assert run.pipeline.points.features.requires_grad and "was not made of the newest checkpoint" in said[-1]


def test_a_folder_with_a_packed_run_alone_is_not_trained_further(packed_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(packed_folder, tmp_path)
    shutil.rmtree(folder / "checkpoints")
    config = load(folder).config
    with pytest.raises(UserError, match="can be shown but not trained further"):
        train(Path(config.scene), folder, config, resume=True, say=lambda _: None)


def test_a_damaged_packed_run_is_refused(packed_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(packed_folder, tmp_path)
    content = bytearray((folder / PACKED).read_bytes())
    content[-1] ^= 1  # of the last small tensor
    (folder / PACKED).write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        load(folder)
