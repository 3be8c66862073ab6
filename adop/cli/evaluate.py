"""`adop eval`: score the held-out photos of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from adop.cli.parse import parse_options
from adop.errors import UserError


@dataclass(frozen=True)
class EvalOptions:
    """Score a run's held-out photos again; write eval/eval.json and eval/index.html."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    scene: Path | None = None
    """Scene folder. None: where it was during training."""
    refine_poses: bool = False
    """Also report scores after aligning the held-out poses to their photos, listed apart: they have used the photos."""
    device: str = "auto"
    """Device of torch to run on: cpu, cuda, cuda:1, ... auto uses a CUDA GPU if there is one."""


def eval_command(name: str, words: list[str]) -> int:
    """Run `adop eval` and return the exit status."""
    options = parse_options(EvalOptions, name, words)
    from adop.evaluation.evaluate import evaluate
    from adop.run.run import load

    run = load(options.run, options.scene, options.device)
    if not run.split["held_out"]:
        raise UserError(f"{options.run}: was trained with every photo; there is none to score")
    result = evaluate(run, options.refine_poses)
    print(result["exposure"]["description"])
    print(score_table(result))
    print(f"results: {run.folder / 'eval' / 'index.html'}")
    return 0


def score_table(result: dict[str, Any]) -> str:
    """Return the mean scores of an evaluation as a table, a row for each way of rendering."""
    lines = [f"{'held-out photos':20}  PSNR    PSNR fitted  SSIM"]
    rows = [("trained", result["mean"]), ("points, untrained", result["baseline_points"])]
    if "poses_refined" in result:
        rows.append(("their poses refined", result["poses_refined"]["mean"]))
    for label, values in rows:
        lines.append(
            f"{label:20}  {values['psnr']:5.2f}   {values['psnr_fitted']:5.2f}        {values['ssim']:.4f}"
        )
    return "\n".join(lines)
