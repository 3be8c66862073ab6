"""Training steps replayed as CUDA graphs: launching a step's 800 small operations takes longer than running them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from adop.images.vgg import Vgg
from adop.model.environment import SparseLookup
from adop.model.hole_filling import OCCLUSION_LEVELS
from adop.run.run import Run
from adop.training.steps.sampler import Batch, Pixels
from adop.training.steps.step import StepInputs, step_inputs, step_loss

MOST_GRAPHS = 32  # a scene with photos of many sizes would otherwise fill the memory with them
WARM_UP = 3  # runs before a capture, in which libraries choose their kernels and modules are loaded


@dataclass(frozen=True)
class Captured:
    """A graph, the tensors that it reads, and those that it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: StepInputs
    values: dict[str, Tensor]
    gradients: tuple[Tensor | None, ...]


class StepGraphs:
    """Run the training steps of a run up to their gradients. On a GPU, capture each kind of step once, then replay it.

    Two steps share a graph if these match: sizes, lens model, whether there is a rolling shutter, which mip level of the
    environment each pyramid level reads, how far the points are thinned out, and whether the physical camera's prior is
    included.
    """

    def __init__(self, run: Run, vgg: Vgg | None, say: Callable[[str], None]) -> None:
        self.run, self.vgg, self.say = run, vgg, say
        self.enabled = can_capture(run)
        self.replayed = 0  # steps so far
        self._graphs: dict[Hashable, Captured] = {}
        self._read: tuple[Any, Any] = (None, None)  # what the graphs read besides their inputs
        self._pool: Any = None  # memory of the graphs, from the first capture on
        if self.enabled:
            self._stream = torch.cuda.Stream(run.device)

    def learning_step(self, batch: Batch) -> dict[str, Tensor]:
        """Render the batch and set the parameters' gradients; return loss, PSNR and the loss's terms.

        Gradients and returned tensors are valid until the next step.
        """
        inputs = step_inputs(self.run, batch)
        parameters = [p for p in self.run.pipeline.parameters() if p.requires_grad]
        captured = self._captured(inputs, parameters) if self.enabled else None
        if captured is None:
            total, values = step_loss(self.run.pipeline, self.run.config, inputs, self.vgg)
            total.backward()
            return values
        for target, tensor in zip(input_tensors(captured.inputs), input_tensors(inputs), strict=True):
            target.copy_(tensor, non_blocking=True)
        captured.graph.replay()
        self.replayed += 1
        for parameter, gradient in zip(parameters, captured.gradients, strict=True):
            parameter.grad = gradient
        return captured.values

    def _captured(self, inputs: StepInputs, parameters: Sequence[Tensor]) -> Captured | None:
        pipeline = self.run.pipeline
        read = (pipeline.points().blocks, pipeline.photos)
        if any(new is not old for new, old in zip(read, self._read, strict=True)):
            self._read = read  # points or photos have moved: the graphs read them at old addresses
            self._forget()
        kind = _kind(inputs)
        if kind not in self._graphs and len(self._graphs) < MOST_GRAPHS:
            try:
                self._graphs[kind] = self._capture(inputs, parameters)
            except RuntimeError as error:
                self.enabled = False
                self._forget()
                reason = str(error).splitlines()[0]
                self.say(f"CUDA graphs are off for this run: capturing a step failed ({reason})")
            if len(self._graphs) == MOST_GRAPHS:
                self.say(
                    f"{MOST_GRAPHS} kinds of steps are replayed as CUDA graphs; any other kind runs without"
                )
        return self._graphs.get(kind)

    def _forget(self) -> None:
        self._graphs.clear()
        self._pool = torch.cuda.graph_pool_handle()  # a pool whose graphs are gone cannot be used again

    def _capture(self, inputs: StepInputs, parameters: Sequence[Tensor]) -> Captured:
        inputs = copied(inputs)

        def work() -> tuple[dict[str, Tensor], tuple[Tensor | None, ...]]:
            total, values = step_loss(self.run.pipeline, self.run.config, inputs, self.vgg)
            gradients = torch.autograd.grad(total, parameters, allow_unused=True)
            return values, tuple(map(_laid_as, gradients, parameters))

        graph, own = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.run.device)
        self._stream.wait_stream(own)
        # A failed capture leaves the stream that it ran on current; this context restores ours in any case.
        with torch.cuda.device(self.run.device), torch.cuda.stream(self._stream):
            for _ in range(WARM_UP):
                work()
            # Another thread allocates pinned memory for the next batch meanwhile, which other modes forbid.
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                values, gradients = work()
        own.wait_stream(self._stream)
        return Captured(graph, inputs, values, gradients)


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


def _kind(inputs: StepInputs) -> Hashable:
    camera, lookup = inputs.view.camera, _sparse(inputs)
    shapes = tuple(tuple(tensor.shape) for tensor in input_tensors(inputs))
    cameras = (camera.model, camera.width, camera.height, camera.motion is None)
    share = None if inputs.part is None else inputs.part.share
    return (*cameras, tuple(lookup.mip_levels), inputs.view.thinning, inputs.prior, share, shapes)


def _sparse(inputs: StepInputs) -> SparseLookup:
    """Return how a step that can be captured looks up the environment."""
    lookup = inputs.view.lookup
    assert isinstance(lookup, SparseLookup)  # `can_capture` admits no other
    return lookup


def input_tensors(inputs: StepInputs) -> list[Tensor]:
    """Return all tensors of a step that can be captured, always in one order."""
    camera, rays = inputs.view.camera, _sparse(inputs).rays
    parts = [camera.intrinsics, camera.distortion, camera.world_to_camera, camera.crop, camera.photo_height]
    parts += [] if camera.motion is None else [camera.motion]
    parts += [rays.local, rays.size, rays.crop, rays.world_to_camera]
    parts += [] if inputs.view.photos is None else [inputs.view.photos.rows]
    parts += [] if inputs.part is None else [inputs.part.counted]
    return [*parts, inputs.photos, inputs.pixels.target, inputs.pixels.mask]


def copied(inputs: StepInputs) -> StepInputs:
    """Return a copy of the inputs at addresses of its own."""
    camera, lookup = inputs.view.camera, _sparse(inputs)
    camera = replace(
        camera,
        intrinsics=camera.intrinsics.clone(),
        distortion=camera.distortion.clone(),
        world_to_camera=camera.world_to_camera.clone(),
        crop=camera.crop.clone(),
        motion=None if camera.motion is None else camera.motion.clone(),
        photo_height=camera.photo_height.clone(),
    )
    rays = lookup.rays
    parts = (rays.local, rays.size, rays.crop, rays.world_to_camera)
    own = type(rays)(*(part.clone(memory_format=torch.contiguous_format) for part in parts))
    photos, pixels = inputs.photos.clone(), inputs.pixels
    pixels = Pixels(pixels.target.clone(), pixels.mask.clone())
    chosen = inputs.view.photos
    chosen = None if chosen is None else replace(chosen, rows=chosen.rows.clone(), rays=own)
    view = replace(inputs.view, camera=camera, lookup=replace(lookup, rays=own), photos=chosen)
    part = None if inputs.part is None else replace(inputs.part, counted=inputs.part.counted.clone())
    return replace(inputs, view=view, photos=photos, pixels=pixels, part=part)
