"""Operators of named inputs: the schema, gradients by name on both paths, and the choice of a backend."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from adop.backend.choice import choose_backend
from adop.backend.operator import Gradients, Operator, flatten
from adop.errors import UserError


class Scale(NamedTuple):
    factor: Tensor
    offset: Tensor | None


class ExampleInputs(NamedTuple):
    images: list[Tensor]
    scale: Scale
    powers: list[int]
    name: str


class ExampleOutputs(NamedTuple):
    images: list[Tensor]
    total: Tensor


class Saved(NamedTuple):
    images: list[Tensor]
    scale: Scale
    shape: torch.Size


def run(inputs: ExampleInputs) -> ExampleOutputs:
    images = [image * inputs.scale.factor for image in inputs.images]
    return ExampleOutputs(images, torch.stack([image.sum() for image in images]).sum())


asked: list[frozenset[str]] = []
example = Operator("adop_test::example", run, run)


@example.gradient(
    lambda inputs, outputs: Saved(inputs.images, inputs.scale, inputs.images[0].shape), of=("images",)
)
def gradient(saved: Saved, grads: ExampleOutputs, needs: frozenset[str]) -> Gradients:
    asked.append(needs)
    assert saved.shape == saved.images[0].shape and saved.scale.offset is None
    pairs = list(zip(saved.images, grads.images, strict=True))
    factor = torch.stack([(image * grad).sum() for image, grad in pairs]).sum()
    return {"images": [grad * saved.scale.factor for grad in grads.images], "factor": factor}


def example_inputs() -> ExampleInputs:
    images = [torch.arange(3.0).requires_grad_(), torch.ones(2, requires_grad=True)]
    return ExampleInputs(images, Scale(torch.tensor(2.0, requires_grad=True), None), [1, 2], "a")


def test_the_schema_lists_the_fields_of_inner_tuples() -> None:
    schema = str(example.registered._opoverload._schema)
    expected = (
        "(Tensor[] images, Tensor factor, Tensor? offset, int[] powers, str name) -> (Tensor[], Tensor)"
    )
    assert schema == f"adop_test::example{expected}"
    torch.library.opcheck(example.registered, flatten(example_inputs()))


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_go_to_the_inputs_that_they_name(compiled: bool) -> None:
    inputs = example_inputs()

    def images(images: list[Tensor], factor: Tensor) -> list[Tensor]:
        return example(inputs._replace(images=images, scale=Scale(factor, None))).images

    function = torch.compile(images, fullgraph=True, backend="aot_eager") if compiled else images
    outputs = function(inputs.images, inputs.scale.factor)
    leaves = [*inputs.images, inputs.scale.factor]
    gradients = torch.autograd.grad([image.sum() for image in outputs], leaves)
    assert [g.tolist() for g in gradients] == [[2.0] * 3, [2.0] * 2, 5.0]


def test_the_gradient_knows_which_inputs_ask_for_one() -> None:
    inputs = example_inputs()
    detached = [image.detach() for image in inputs.images]
    outputs = example(inputs._replace(images=detached))
    assert not outputs.total.requires_grad, "only the named outputs have a gradient"
    asked.clear()
    outputs.images[0].sum().backward()
    assert asked == [{"factor"}]
    with torch.no_grad():
        assert not example(inputs).images[0].requires_grad


def test_a_misspelt_gradient_is_an_error() -> None:
    class OneInput(NamedTuple):
        image: Tensor

    def double(inputs: OneInput) -> Tensor:
        return inputs.image * 2

    double.__annotations__["inputs"] = OneInput
    operator = Operator("adop_test::double", double, double)
    operator.gradient(lambda inputs, output: inputs)(lambda saved, grad, needs: {"imgae": grad * 2})
    with pytest.raises(KeyError, match="imgae"):
        operator(OneInput(torch.ones(2, requires_grad=True))).sum().backward()


def test_a_backend_is_chosen_once() -> None:
    cpu = torch.device("cpu")
    assert choose_backend("auto", cpu) == "cpu" and choose_backend("reference", cpu) == "reference"
    assert choose_backend(choose_backend("auto", cpu), cpu) == "cpu"
    assert choose_backend("auto", torch.device("cuda", 0)) == "cuda"
    assert choose_backend("reference", torch.device("meta")) == "reference"
    with pytest.raises(UserError, match=r"no kernels for meta: .* \(--render.backend reference\)"):
        choose_backend("auto", torch.device("meta"))
    with pytest.raises(UserError, match="the points are on cpu"):
        choose_backend("cuda", cpu)
