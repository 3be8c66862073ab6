"""Scores as text: the mean of the held-out photos, every photo, and flicker."""

from __future__ import annotations

import math
from typing import Any

PICTURES = {
    "": "plain",
    "_fitted": "fitted",
    "_corrected": "colour-corrected",
}  # end of a score's name -> picture
SCORES = {"psnr": "PSNR", "ssim": "SSIM", "flip": "FLIP", "edge_contrast": "edge contrast"}
DECIMALS = {"psnr": 2, "ssim": 3, "flip": 3, "edge_contrast": 2}
UNITS = {
    "psnr": "dB, higher is better",
    "ssim": "0 to 1, higher is better",
    "flip": "0 to 1, lower is better",
    "edge_contrast": "1 is as sharp as the photo",
}
EXPLANATIONS = {
    "": "exposure and white balance are predicted without the photo; the whole photo is scored.",
    "_fitted": "exposure and white balance are fitted on the photo's left half; only its right half is scored, so that "
    "it may be below the plain score, which is of both halves.",
    "_corrected": "the plain picture after the affine map of its colours that fits the photo best, which tells what "
    "remains if colours are disregarded.",
}
FEW_PHOTOS = 10  # held-out photos, below which a mean says little about other photos


def mean_scores(scores: list[dict[str, Any]]) -> dict[str, float]:
    """Return the mean of each score over the photos that have it."""
    means = {}
    for name in scores[0]:
        values = [score[name] for score in scores if isinstance(score[name], int | float)]
        if values:
            means[name] = sum(values) / len(values)
    return means


def groups(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the mean scores that an evaluation (the contents of `eval.json`) has, by what was scored."""
    means = {"trained": result["mean"], "untrained points": result["baseline_points"]}
    if "poses_refined" in result:
        means["trained, poses of these photos refined"] = result["poses_refined"]["mean"]
    return means


def score_text(scores: dict[str, Any], name: str, picture: str) -> str:
    """Return a score of a picture (a key of `PICTURES`) as text; "-" where there is none."""
    value = scores.get(name + picture)
    return "-" if value is None else f"{value:.{DECIMALS[name]}f}"


def best_runs(scores: list[dict[str, Any]], name: str, picture: str) -> list[int]:
    """Return which of several runs have the best score of a picture; all that show the same as the best."""

    def loss(value: float) -> float:
        return {"psnr": -value, "ssim": -value, "flip": value}.get(name, abs(value - 1))

    texts = [score_text(run, name, picture) for run in scores]
    losses = [math.inf if text == "-" else loss(float(text)) for text in texts]
    return [i for i, value in enumerate(losses) if value == min(losses) < math.inf]


def few_photos_text(count: int) -> str:
    """Return the sentence that a mean over few photos needs, or nothing."""
    if count >= FEW_PHOTOS:
        return ""
    photos = "is over 1 photo" if count == 1 else f"is over {count} photos"
    return f"The mean {photos} only: others would give another, so small differences say little."


def score_table(result: dict[str, Any]) -> str:
    """Return the mean scores of an evaluation as a table: a row for each picture, of what was trained and what not."""
    titles = SCORES | {"psnr": "PSNR, dB"}
    lines = [f"{'held-out photos, mean':40}" + "".join(f"{title:>15}" for title in titles.values())]
    for label, scores in groups(result).items():
        lines.append(label)
        for picture, title in PICTURES.items():
            cells = "".join(f"{score_text(scores, name, picture):>15}" for name in SCORES)
            lines.append(f"  {title:38}{cells}")
            if picture == "" and "psnr_right" in scores:
                lines.append(f"  {'plain, right half only, as fitted':38}{scores['psnr_right']:>15.2f}")
    return "\n".join(lines)


def photo_table(result: dict[str, Any]) -> str:
    """Return every held-out photo's scores as a table: plain, fitted and colour-corrected side by side."""
    width = 6 * len(PICTURES)
    lines = [
        f"{'each photo:':20}" + "".join(f"  {title:>{width}}" for title in SCORES.values()),
        f"{'':20}" + len(SCORES) * f"  {'plain':>6}{'fit':>6}{'cc':>6}",
    ]
    for scores in result["photos"]:
        cells = ("".join(f"{score_text(scores, name, end):>6}" for end in PICTURES) for name in SCORES)
        lines.append(f"{scores['photo'][-20:]:20}" + "".join(f"  {cell}" for cell in cells))
    return "\n".join(lines)


def covered_text(share: float) -> str:
    """Return a sentence on the share of a photo in which points are drawn."""
    if share > 0.995:
        return "Points are drawn everywhere in this photo."
    return (
        f"Points are drawn in {share:.0%} of this photo. Elsewhere the environment shows, as in the sky, or a blur of "
        "what lies around; more photos of such a place, from several sides, give it points."
    )


def flicker_text(flicker: dict[str, Any]) -> str:
    """Return the flicker of `eval.json` as one sentence."""
    if flicker["difference_of_255"] is None:
        return "flicker: the frames of the path show no common surface"
    return (
        f"flicker: {flicker['difference_of_255']:.2f} of 255 between consecutive frames, over {flicker['pixels']:,} "
        f"pixels ({flicker['share']:.0%}) of {flicker['pairs']} pairs"
    )
