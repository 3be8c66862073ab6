"""Steps that leave no number to go on with: they are undone, a few times."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from adop.errors import UserError
from adop.run.checkpoint import checkpoints, load_optimiser_state
from adop.run.run import Run, load
from adop.training.loop import not_finite
from adop.training.train import train
from support.fast_training import CONFIG


def test_a_step_that_breaks_a_parameter_is_undone(tiny_folder: Path, tmp_path: Path):
    said: list[str] = []
    steps: list[int] = []

    def break_once(run: Run, _: dict[str, float]) -> str:
        steps.append(run.progress.step)
        if steps.count(7) == 1 and run.progress.step == 7:
            with torch.no_grad():
                run.pipeline.tonemapper.exposure_delta[run.split["train"][0]] = torch.nan
        return "save" if run.progress.step in (4, 7) else ""

    config = dataclasses.replace(CONFIG, scene=str(tiny_folder))
    result = train(tiny_folder, tmp_path / "run", config, say=said.append, callback=break_once)
    # The step after the seventh broke; its callback was not called.
    assert steps == [*range(1, 8), *range(5, 13)]
    (sentence,) = [text for text in said if "became infinite" in text]
    assert (
        sentence.startswith("step 7: ")
        and "exposure_delta became" in sentence
        and "from step 4 with learning rates times 0.5" in sentence
    )
    assert result["mean"]["psnr"] > 5
    run = load(tmp_path / "run", say=lambda _: None)
    assert run.progress.step == 12 and not_finite(run.pipeline) == ""
    newest = checkpoints(tmp_path / "run" / "checkpoints")[-1]
    assert float(load_optimiser_state(newest)["rate_factor"]) == 0.5
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)


def test_a_run_that_goes_wrong_again_and_again_ends_with_a_sentence(tiny_folder: Path, tmp_path: Path):
    said: list[str] = []

    def break_always(run: Run, _: dict[str, float]) -> None:
        with torch.no_grad():
            run.pipeline.environment.map[...] = torch.nan

    with pytest.raises(
        UserError, match=r"went wrong at step \d+ \(environment became.*smaller learning rates"
    ):
        train(tiny_folder, tmp_path / "run", CONFIG, say=said.append, callback=break_always)
    assert [text.split("times ")[1] for text in said if "became infinite" in text] == ["0.5", "0.25", "0.125"]
    (checkpoint,) = checkpoints(tmp_path / "run" / "checkpoints")
    assert checkpoint.stem == "step_00000000"


def test_a_run_that_was_killed_before_its_first_step_need_not_prepare_again(
    tiny_folder: Path, tmp_path: Path
):
    def stop(run: Run, _: dict[str, float]) -> None:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(tiny_folder, tmp_path / "run", CONFIG, say=lambda _: None, callback=stop)
    said: list[str] = []
    train(tiny_folder, tmp_path / "run", CONFIG, resume=True, say=said.append)
    assert "resumed at step 0" in said and not any("before the first step" in text for text in said)
