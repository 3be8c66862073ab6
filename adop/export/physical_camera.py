"""What a run learned of the physical camera: a lens's response as a .cube file, the photos' exposures as a table."""

from __future__ import annotations

import csv
import io

import torch

from adop.errors import UserError
from adop.export.points import checked_lens
from adop.run.run import Run

COLUMNS = (
    "name",
    "lens",
    "split",
    "exposure_ev",
    "exif_ev",
    "white_balance_red",
    "white_balance_green",
    "white_balance_blue",
)


@torch.no_grad()
def response_cube(run: Run, lens: int | None, samples: int) -> str:
    """Return the learned response of a lens as the text of a one-dimensional .cube look-up table.

    Its input is linear light on the sensor, 0 to 1, that is, radiance times 2^-EV, white balance and vignette; light of 1
    saturates the sensor. Its output is the value in the photo, 0 to 1.

    Args:
        lens: number of the lens; None: the scene's only one.
        samples: number of samples, evenly spaced in linear light.

    Raises: UserError where the scene has no such lens, or several and none is named.
    **Source** Adobe, Cube LUT Specification 1.0.
    """
    if lens is None and len(run.scene.lenses) > 1:
        last = len(run.scene.lenses) - 1
        raise UserError(f"{run.folder}: the scene has several lenses; choose one from 0 to {last} (--lens)")
    lens = checked_lens(run, lens or 0)
    tonemapper = run.pipeline.tonemapper
    light = torch.linspace(0, 1, samples, dtype=torch.float64).to(tonemapper.response_logits)
    values = tonemapper.apply_response(light.expand(1, 3, 1, -1), torch.tensor([lens], device=light.device))
    rows = values[0, :, 0].T.cpu().tolist()
    lines = [
        f"# The response that adop learned for lens {lens}, in {run.progress.step} steps.",
        "# Input: linear light on the sensor, after exposure, white balance and vignette; 1 saturates it.",
        "# Output: values of the photo.",
        f'TITLE "adop response of lens {lens}"',
        f"LUT_1D_SIZE {samples}",
        "DOMAIN_MIN 0 0 0",
        "DOMAIN_MAX 1 1 1",
        *(" ".join(f"{value:.7f}" for value in row) for row in rows),
    ]
    return "\n".join(lines) + "\n"


@torch.no_grad()
def photometry_table(run: Run) -> str:
    """Return a CSV table with a row for each photo.

    - split: train, or held_out: then exposure and white balance are predicted.
    - exposure_ev: learned, in stops relative to the scene's; the light on the sensor is radiance times 2^-EV.
    - exif_ev: EV at ISO 100 in stops, log2(N^2/t) - log2(ISO/100), as the scene has it; empty where it is unknown.
    - white_balance_*: the factors of the channels, green 1.
    """
    tonemapper, held_out = run.pipeline.tonemapper, set(run.split["held_out"])
    exposures, gains = tonemapper.exposures().tolist(), tonemapper.white_balances().tolist()
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for index, photo in enumerate(run.scene.photos):
        known = "" if photo.exposure is None else f"{photo.exposure:.6f}"
        split = "held_out" if index in held_out else "train"
        numbers = [f"{value:.6f}" for value in gains[index]]
        table.writerow([photo.name, photo.lens, split, f"{exposures[index]:.6f}", known, *numbers])
    return text.getvalue()
