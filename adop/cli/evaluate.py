"""`adop eval` and `adop compare`: score the held-out photos of a run, and show runs side by side."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from adop.cli.parse import parse_options
from adop.errors import UserError
from adop.evaluation.tables import flicker_text, photo_table, score_table
from adop.files import OutputFile, OutputFolder, write_text
from adop.progress import Stages

if TYPE_CHECKING:
    from adop.run.run import Run


@dataclass(frozen=True)
class EvalOptions:
    """Score a run's held-out photos again; write eval/eval.json and eval/index.html."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    scene: Path | None = None
    """Scene folder. None: where it was during training."""
    refine_poses: bool = False
    """Also report scores after aligning the held-out poses to their photos, listed apart: they have used the photos."""
    path: Path | None = None
    """Measure flicker along this nerfstudio camera path JSON. None: on a path through the photos' cameras, small."""
    device: str = "auto"
    """Device of torch to run on: cpu, cuda, cuda:1, ... auto uses a CUDA GPU if there is one."""


def eval_command(name: str, words: list[str]) -> int:
    """Run `adop eval` and return the exit status."""
    options = parse_options(EvalOptions, name, words)
    from adop.ranks import joined, rank_device
    from adop.run.run import load

    with joined(options.device):
        _evaluate(load(options.run, options.scene, rank_device(options.device)), options)
    return 0


def _evaluate(run: Run, options: EvalOptions) -> None:
    """Score a run and print the scores."""
    from adop.evaluation.evaluate import PLOTS, SCORES, evaluate, scoring_seconds
    from adop.evaluation.flicker import run_flicker
    from adop.evaluation.pages.evaluated_run import known_machine
    from adop.evaluation.run_plots import plot_run
    from adop.ranks import ranks

    if not run.split["held_out"]:
        raise UserError(f"{options.run}: was trained with every photo; there is none to score")
    if not ranks().first:
        evaluate(run, options.refine_poses)
        return
    seconds = scoring_seconds(run) * (3 if options.refine_poses else 1)
    with Stages("evaluation", {"flicker": 10.0, PLOTS: 3.0, SCORES: seconds}) as stages:
        flicker = run_flicker(run, options.path)
        stages.begin(PLOTS)
        plot_run(run, run.folder / "eval")
        stages.begin(SCORES)
        result = evaluate(run, options.refine_poses, flicker, known_machine(run.folder))
    print(result["exposure"]["description"])
    print(photo_table(result))
    print(score_table(result))
    print(flicker_text(result["flicker"]))
    print(f"results: {run.folder / 'eval' / 'index.html'}")


@dataclass(frozen=True)
class CompareOptions:
    """Compare runs by the photos that all of them held out: scores, settings, curves, and the renders side by side.

    The runs' evaluations are used as they are; `adop eval RUN` makes that of a run anew.
    """

    runs: tyro.conf.Positional[list[Path]]
    """Run folders, two or more."""
    output: OutputFolder
    """Folder of the page, index.html, and its pictures; new, empty, or that of an earlier comparison."""
    json: OutputFile | None = None
    """Write the scores and the settings that differ to this JSON file; - prints them instead of the table."""


def compare_command(name: str, words: list[str]) -> int:
    """Run `adop compare` and return the exit status."""
    options = parse_options(CompareOptions, name, words)
    from adop.evaluation.pages.comparison import compare_runs, comparison_json, comparison_table
    from adop.evaluation.pages.comparison_page import check_output, write_comparison

    check_output(options.output)
    comparison = compare_runs(options.runs)
    write_comparison(comparison, options.output)
    only_json = str(options.json) == "-"
    written = json.dumps(comparison_json(comparison), indent=1) + "\n"
    print(written if only_json else comparison_table(comparison), end="" if only_json else "\n")
    if options.json is not None and not only_json:
        write_text(options.json, written)
    if not only_json:
        print(f"results: {options.output / 'index.html'}")
    return 0
