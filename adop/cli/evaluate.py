"""`adop eval`: score the held-out photos of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from adop.cli.parse import parse_options
from adop.errors import UserError
from adop.evaluation.tables import flicker_text, photo_table, score_table


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
    from adop.evaluation.evaluate import evaluate
    from adop.evaluation.flicker import run_flicker
    from adop.run.run import load

    run = load(options.run, options.scene, options.device)
    if not run.split["held_out"]:
        raise UserError(f"{options.run}: was trained with every photo; there is none to score")
    flicker = run_flicker(run, options.path)
    result = evaluate(run, options.refine_poses, flicker)
    print(result["exposure"]["description"])
    print(photo_table(result))
    print(score_table(result))
    print(flicker_text(result["flicker"]))
    print(f"results: {run.folder / 'eval' / 'index.html'}")
    return 0
