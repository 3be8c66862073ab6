"""Adam for everything that is learned: groups, schedule, and state as plain tensors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adop.config import LearnConfig, LearningRateConfig, Schedule, learned
from adop.errors import UserError, one_line
from adop.model.pipeline import Pipeline
from adop.model.points import with_harmonics
from adop.ops import channels_of
from adop.training.sparse_adam import AdamSettings, RowMoments, sparse_adam_

BETAS = (0.9, 0.99)
EPSILON = 1e-10
HARMONICS_RATE = 0.25  # of the rate of features: what few photos see is explained by the colour first
HARMONICS_DECAY = 1.0  # times their rate, per step: what photos do not show again and again fades
# Else few photos are learned by heart: in 2,400 steps held-out photos lose .3 dB, and with this nothing.
FEATURE_STEPS = 100  # of a point at the full rate; then it falls as one over the point's steps
# Adam normalises each gradient, so a texel of the environment that crops rarely show would move as fast as one that they
# often show, and drift away from the photos. With these epsilons a small gradient moves its texel in proportion to its
# size. A texel's gradient shrinks with the number of texels, so the smaller of the first and of the second divided by
# that number is used.
TEXEL_EPSILON, MAP_EPSILON = 3e-4, 0.04


@dataclass(frozen=True)
class ParameterGroup:
    """Tensors that share a learning rate."""

    parameters: Sequence[Tensor]
    rate: float
    when: Schedule
    epsilon: float = EPSILON


def _groups(pipeline: Pipeline, when: LearnConfig, rates: LearningRateConfig) -> list[ParameterGroup]:
    """Return what Adam moves besides the points' features; cameras and points only with the published gradient."""
    tonemapper = pipeline.tonemapper
    vignette = [tonemapper.vignette_coefficients, tonemapper.vignette_centre]
    environment = pipeline.environment.map
    epsilon = min(TEXEL_EPSILON, MAP_EPSILON / environment[0, 0].numel())
    groups = [
        ParameterGroup(list(pipeline.network.parameters()), rates.network, when.network),
        ParameterGroup([environment], rates.environment, when.environment, epsilon),
        ParameterGroup([tonemapper.exposure_delta], rates.exposure, when.exposure),
        ParameterGroup([tonemapper.white_balance_log], rates.white_balance, when.white_balance),
        ParameterGroup(vignette, rates.vignette, when.vignette),
        ParameterGroup([tonemapper.response_logits], rates.response, when.response),
    ]
    if pipeline.cameras.moved_by_gradient:
        focal = max(float(lens[0].detach()) for lens in pipeline.cameras.intrinsics)
        groups += [
            ParameterGroup([pipeline.cameras.pose_delta], rates.poses, when.poses),
            ParameterGroup(list(pipeline.cameras.intrinsics), rates.lens * focal, when.intrinsics),
            ParameterGroup(list(pipeline.cameras.distortion), rates.lens, when.distortion),
            ParameterGroup([pipeline.points.xyz_delta], rates.points, when.points),
        ]
    return _joined([g for g in groups if g.parameters and g.when != "off"])


def _joined(groups: list[ParameterGroup]) -> list[ParameterGroup]:
    """Join neighbouring groups of the same rate, schedule and epsilon, so that one pass moves them.

    The order of the parameters stays, because checkpoints number the optimiser's state by it.
    """
    runs = itertools.groupby(groups, key=lambda group: (group.rate, group.when, group.epsilon))
    return [
        ParameterGroup([tensor for group in run for tensor in group.parameters], *key) for key, run in runs
    ]


class Optimiser:
    """Apply Adam to every learned group; only the features of points that were drawn in the step are moved.

    Args:
        pipeline: whose parameters are learned.
        when: from which step each group is learned.
        rates: learning rates and their schedule.

    Source: Kingma and Ba 2015; sparse rows, so that points which no crop shows stay as they are.
    """

    def __init__(self, pipeline: Pipeline, when: LearnConfig, rates: LearningRateConfig) -> None:
        self.when, self.rates = when, rates
        self.pipeline = pipeline
        self.groups = _groups(pipeline, when, rates)
        pipeline.requires_grad_(False)
        for group in self.groups:
            for tensor in group.parameters:
                tensor.requires_grad_(True)
        pipeline.points.features.requires_grad_(when.features != "off")
        self.adam = torch.optim.Adam(
            [{"params": g.parameters, "lr": g.rate, "start": g.rate, "eps": g.epsilon} for g in self.groups],
            betas=BETAS,
            fused=True,
        )
        self.features = pipeline.points.features
        width = self.features.shape[1]
        channels = channels_of(self.features, pipeline.view_raster.harmonics)
        self.feature_rates = self.features.new_full((width,), rates.features)
        self.feature_rates[channels:] = HARMONICS_RATE * rates.features
        self.feature_decay = torch.zeros_like(self.feature_rates)
        self.feature_decay[channels:] = HARMONICS_DECAY
        self.exp_avg = torch.zeros_like(self.features)
        self.exp_avg_sq = torch.zeros_like(self.features)
        self.row_steps = torch.zeros(len(self.features), dtype=torch.int32, device=self.features.device)
        self.rate_factor = 1.0  # of all learning rates; smaller after a step went wrong

    def step(self, step: int, progress: float) -> None:
        """Move every group along its gradient; `progress` in [0, 1] sets the learning rate."""
        rates = self.rates
        scale = rates.final + (1 - rates.final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        scale *= self.rate_factor * min(1.0, (step + 1) / max(rates.warmup, 1))
        for named, group in zip(self.groups, self.adam.param_groups, strict=True):
            group["lr"] = group["start"] * scale
            if not learned(named.when, step):
                for tensor in named.parameters:
                    tensor.grad = None
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        if self.pipeline.moves_by_gradient():
            self.pipeline.invalidate()
        if not learned(self.when.features, step):
            self.features.grad = None
        if self.features.grad is not None:
            moments = RowMoments(self.exp_avg, self.exp_avg_sq, self.row_steps)
            feature_rates = self.feature_rates * scale
            settings = AdamSettings(feature_rates, BETAS, EPSILON, self.feature_decay, FEATURE_STEPS)
            backend = self.pipeline.backend
            sparse_adam_(self.features.detach(), self.features.grad, moments, settings, backend)
            self.features.grad = None

    def state(self) -> dict[str, Tensor]:
        """Return the optimiser's state as named tensors."""
        tensors = {
            "features.exp_avg": self.exp_avg,
            "features.exp_avg_sq": self.exp_avg_sq,
            "features.row_steps": self.row_steps,
            "rate_factor": torch.tensor(self.rate_factor),
        }
        for index, values in self.adam.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"adam.{index}.{name}"] = value
        return tensors

    def load(self, tensors: dict[str, Tensor], source: str = "the checkpoint") -> None:
        """Restore a state that `state` returned.

        Args: source: its name in errors.
        Raises: UserError where it is the state of other parameters.
        """
        try:
            self._load(tensors)
        except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
            raise UserError(
                f"{source}: its optimiser state does not fit the run ({one_line(error)}); "
                "delete it to use an older checkpoint"
            ) from error

    def _load(self, tensors: dict[str, Tensor]) -> None:
        self.exp_avg.copy_(with_harmonics(tensors["features.exp_avg"], self.exp_avg))
        self.exp_avg_sq.copy_(with_harmonics(tensors["features.exp_avg_sq"], self.exp_avg_sq))
        self.row_steps.copy_(tensors["features.row_steps"])
        self.adam.zero_grad(set_to_none=True)
        self.features.grad = None
        self.rate_factor = float(tensors.get("rate_factor", 1.0))
        state: dict[int, dict[str, Tensor]] = {}
        parameters = [p for group in self.adam.param_groups for p in group["params"]]
        for key, value in tensors.items():
            if key.startswith("adam."):
                _, index, *name = key.split(".")
                like = parameters[int(index)]
                # The fused optimiser needs parameter and moments in one memory layout.
                same = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
                state.setdefault(int(index), {})[".".join(name)] = same
        whole = self.adam.state_dict()
        self.adam.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
