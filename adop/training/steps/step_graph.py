"""Training steps replayed as CUDA graphs."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from adop.backend.graphs import Graphs, capture_on
from adop.images.vgg import Vgg
from adop.model.hole_filling import OCCLUSION_LEVELS
from adop.run.run import Run
from adop.training.steps.sampler import Batch
from adop.training.steps.step import StepInputs, step_inputs, step_loss

MOST_GRAPHS = 32

# What a step leaves: the numbers to log, and the gradients of the parameters.
Learned = tuple[dict[str, Tensor], list[Tensor | None]]


class StepGraphs:
    """Run the training steps of a run up to their gradients. On a GPU, capture each kind of step once, then replay it.

    Two steps share a graph if these match: sizes, lens model, whether there is a rolling shutter, which mip level of the
    environment each pyramid level reads, how far the points are thinned out, and whether the physical camera's prior is
    included.
    """

    def __init__(self, run: Run, vgg: Vgg | None, say: Callable[[str], None]) -> None:
        self.run, self.vgg = run, vgg
        self._parameters = [p for p in run.pipeline.parameters() if p.requires_grad]
        self._graphs: Graphs[StepInputs, Learned] | None = None
        if can_capture(run):
            begin = functools.partial(capture_on, run.device)
            self._graphs = Graphs(self._learned, begin, say, MOST_GRAPHS)

    @property
    def replayed(self) -> int:
        """How many steps were replayed so far."""
        return 0 if self._graphs is None else self._graphs.replayed

    def learning_step(self, batch: Batch) -> dict[str, Tensor]:
        """Render the batch and set the parameters' gradients; return loss, PSNR and the loss's terms.

        Gradients and returned tensors are valid until the next step.
        """
        inputs, pipeline = step_inputs(self.run, batch), self.run.pipeline
        replayed = None
        if self._graphs is not None:
            replayed = self._graphs.replay(inputs, (pipeline.points().blocks, pipeline.photos))
        if replayed is None:
            total, values = step_loss(pipeline, self.run.config, inputs, self.vgg)
            total.backward()
            return values
        values, gradients = replayed
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        return values

    def _learned(self, inputs: StepInputs) -> Learned:
        total, values = step_loss(self.run.pipeline, self.run.config, inputs, self.vgg)
        gradients = torch.autograd.grad(total, self._parameters, allow_unused=True)
        return values, [_laid_as(*pair) for pair in zip(gradients, self._parameters, strict=True)]


def can_capture(run: Run) -> bool:
    """Return whether the run's steps can be replayed.

    They run on a GPU, by the kernels; points and cameras are fixed in a step; and the host asks the device for nothing.
    """
    config = run.config
    on_gpu = run.device.type == "cuda" and config.render.backend != "reference"
    fixed = config.render.fill_levels > OCCLUSION_LEVELS and not run.pipeline.moves_by_gradient()
    return config.cuda_graphs and on_gpu and fixed


def _laid_as(gradient: Tensor | None, parameter: Tensor) -> Tensor | None:
    """Return a gradient with its parameter's memory layout, which the fused optimiser needs."""
    if gradient is None or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)
