"""Optimiser groups, their schedule, and their state as plain tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from adop.config import TrainConfig
from adop.ops.adam import sparse_adam_
from adop.pipeline import Pipeline

BETAS = (0.9, 0.99)


class Optimiser:
    """Adam for every learned group; of the features, only rows that were drawn in the step move.

    Source: Kingma and Ba 2015; lazy rows as in ADOP's follow-ups, so that points no crop shows stay put.
    """

    def __init__(self, pipeline: Pipeline, config: TrainConfig) -> None:
        self.config = config
        tonemapper = pipeline.tonemapper
        rates, camera = config.optim, config.camera
        groups: list[tuple[str, float, list[Tensor], bool]] = [
            ("network", rates.network, list(pipeline.network.parameters()), True),
            ("environment", rates.environment, [pipeline.environment.map], True),
            ("exposure", rates.exposure, [tonemapper.exposure_delta], camera.exposure),
            ("white_balance", rates.white_balance, [tonemapper.white_balance_log], camera.white_balance),
            (
                "vignette",
                rates.vignette,
                [tonemapper.vignette_coefficients, tonemapper.vignette_centre],
                camera.vignette,
            ),
            ("response", rates.response, [tonemapper.response_logits], camera.response),
        ]
        for _, _, parameters, on in groups:
            for parameter in parameters:
                parameter.requires_grad_(on)
        self.adam = torch.optim.Adam(
            [{"params": p, "lr": rate, "start": rate} for _, rate, p, on in groups if on and p],
            betas=BETAS,
            eps=1e-10,
            fused=True,
        )
        self.features = pipeline.features
        self.exp_avg = torch.zeros_like(self.features)
        self.exp_avg_sq = torch.zeros_like(self.features)
        self.row_steps = torch.zeros(len(self.features), dtype=torch.int32, device=self.features.device)

    def step(self, step: int, progress: float) -> None:
        """Move every group by its gradient; `progress` in [0, 1] sets the learning rate."""
        optim = self.config.optim
        scale = optim.final + (1 - optim.final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        scale *= min(1.0, (step + 1) / max(optim.warmup, 1))
        for group in self.adam.param_groups:
            group["lr"] = group["start"] * scale
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        if self.features.grad is not None:
            sparse_adam_(
                self.features.data,
                self.features.grad,
                self.exp_avg,
                self.exp_avg_sq,
                self.row_steps,
                lr=optim.features * scale,
                betas=BETAS,
                eps=1e-10,
                backend=self.config.render.backend,
            )
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
