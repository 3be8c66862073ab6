"""The optimiser's groups, and the order by which checkpoints number its state."""

from pathlib import Path

from adop.config import TrainConfig
from adop.optim import Optimiser
from adop.run import open_scene


def test_joined_groups_leave_every_parameter_in_its_place(small_folder: Path):
    pipeline, _, _ = open_scene(small_folder, TrainConfig(), lambda _: None)
    tonemapper = pipeline.tonemapper
    expected = [
        *pipeline.network.parameters(),
        pipeline.environment.map,
        tonemapper.exposure_delta,
        tonemapper.white_balance_log,
        tonemapper.vignette_coefficients,
        tonemapper.vignette_centre,
        tonemapper.response_logits,
    ]
    groups = Optimiser(pipeline, TrainConfig()).adam.param_groups
    assert [id(tensor) for group in groups for tensor in group["params"]] == [id(t) for t in expected]
    assert len({(group["start"], id(group["params"][0])) for group in groups}) == len(groups) == 5
