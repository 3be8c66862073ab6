"""Optimiser groups, their schedule, and their state as plain tensors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adop.config.config import Group, TrainConfig, learned
from adop.model.pipeline import Pipeline
from adop.training.sparse_adam import AdamSettings, RowMoments, sparse_adam_

BETAS = (0.9, 0.99)
EPSILON = 1e-10
# Adam moves a texel that crops hardly show as fast as one that fills them, and such texels end far from what any photo
# shows. A gradient well below these counts by its size instead; of a map's texels each has its share of a crop.
TEXEL_EPSILON, MAP_EPSILON = 3e-4, 0.04


@dataclass(frozen=True)
class ParameterGroup:
    """Tensors that learn at one rate."""

    parameters: Sequence[Tensor]
    rate: float
    when: Group
    epsilon: float = EPSILON


def _groups(pipeline: Pipeline, config: TrainConfig) -> list[ParameterGroup]:
    """Return what Adam moves, the points' features apart; cameras and points only with the published gradient."""
    tonemapper, rates, when = pipeline.tonemapper, config.lr, config.learn
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
    if config.refine.method == "gradient":
        focal = max(float(lens[0].detach()) for lens in pipeline.intrinsics)
        groups += [
            ParameterGroup([pipeline.pose_delta], rates.pose, when.poses),
            ParameterGroup(list(pipeline.intrinsics), rates.lens * focal, when.intrinsics),
            ParameterGroup(list(pipeline.distortion), rates.lens, when.distortion),
            ParameterGroup([pipeline.xyz_delta], rates.points, when.points),
        ]
    return _joined([g for g in groups if g.parameters and g.when != "off"])


def _joined(groups: list[ParameterGroup]) -> list[ParameterGroup]:
    """Return the groups, neighbours of one rate, time and epsilon as one, which is moved in one pass.

    No parameter changes its place: checkpoints number the optimiser's state by it.
    """
    runs = itertools.groupby(groups, key=lambda group: (group.rate, group.when, group.epsilon))
    return [
        ParameterGroup([tensor for group in run for tensor in group.parameters], *key) for key, run in runs
    ]


class Optimiser:
    """Adam for every learned group; of the features, only rows that were drawn in the step move.

    Source: Kingma and Ba 2015; lazy rows as in ADOP's follow-ups, so that points no crop shows stay put.
    """

    def __init__(self, pipeline: Pipeline, config: TrainConfig) -> None:
        self.config = config
        self.pipeline = pipeline
        self.groups = _groups(pipeline, config)
        pipeline.requires_grad_(False)
        for group in self.groups:
            for tensor in group.parameters:
                tensor.requires_grad_(True)
        pipeline.features.requires_grad_(config.learn.features != "off")
        self.adam = torch.optim.Adam(
            [{"params": g.parameters, "lr": g.rate, "start": g.rate, "eps": g.epsilon} for g in self.groups],
            betas=BETAS,
            fused=True,
        )
        self.features = pipeline.features
        self.exp_avg = torch.zeros_like(self.features)
        self.exp_avg_sq = torch.zeros_like(self.features)
        self.row_steps = torch.zeros(len(self.features), dtype=torch.int32, device=self.features.device)

    def step(self, step: int, progress: float) -> None:
        """Move every group by its gradient; `progress` in [0, 1] sets the learning rate."""
        optim = self.config.lr
        scale = optim.final + (1 - optim.final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        scale *= min(1.0, (step + 1) / max(optim.warmup, 1))
        for named, group in zip(self.groups, self.adam.param_groups, strict=True):
            group["lr"] = group["start"] * scale
            if not learned(named.when, step):
                for tensor in named.parameters:
                    tensor.grad = None
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        if not learned(self.config.learn.features, step):
            self.features.grad = None
        if self.features.grad is not None:
            moments = RowMoments(self.exp_avg, self.exp_avg_sq, self.row_steps)
            settings = AdamSettings(optim.features * scale, BETAS, EPSILON)
            backend = self.config.render.backend
            sparse_adam_(self.features.data, self.features.grad, moments, settings, backend)
            self.features.grad = None

    def state(self) -> dict[str, Tensor]:
        """Return the state as named tensors."""
        tensors = {
            "features.exp_avg": self.exp_avg,
            "features.exp_avg_sq": self.exp_avg_sq,
            "features.row_steps": self.row_steps,
        }
        for index, values in self.adam.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"adam.{index}.{name}"] = value
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take the state that `state` returned."""
        self.exp_avg.copy_(tensors["features.exp_avg"])
        self.exp_avg_sq.copy_(tensors["features.exp_avg_sq"])
        self.row_steps.copy_(tensors["features.row_steps"])
        state: dict[int, dict[str, Tensor]] = {}
        parameters = [p for group in self.adam.param_groups for p in group["params"]]
        for key, value in tensors.items():
            kind, index, *name = key.split(".")
            if kind == "adam":
                like = parameters[int(index)]
                # One pass over parameter and moments needs them in one order in memory.
                same = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
                state.setdefault(int(index), {})[".".join(name)] = same
        whole = self.adam.state_dict()
        self.adam.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
