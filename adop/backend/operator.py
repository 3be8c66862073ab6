"""Functions of named inputs and outputs as operators of torch, with gradients by name.

An operator is a function of one named tuple that returns a tensor or a named tuple. The annotations make the operator's
schema; a field that is itself a named tuple stands for its own fields. While `torch.compile` traces, the registered
operator is called. Otherwise the function runs past torch's dispatcher, whose handling of lists of tensors costs more
than small images take to draw.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Inputs = TypeVar("Inputs", bound=tuple)
Outputs = TypeVar("Outputs")
Saved = TypeVar("Saved")

# Of the inputs by name; an input that is left out has no gradient.
Gradients = Mapping[str, Tensor | Sequence[Tensor | None] | None]
Formula = Callable[[Saved, Outputs, frozenset[str]], Gradients]

_SCHEMA_TYPES: dict[Any, str] = {
    Tensor: "Tensor",
    Tensor | None: "Tensor?",
    list[Tensor]: "Tensor[]",
    list[int]: "int[]",
    int: "int",
    float: "float",
    bool: "bool",
    str: "str",
}

_PLAIN_TYPES = (Tensor, torch.nn.Parameter)


@functools.cache
def _groups(kind: Any) -> tuple[Any, ...]:
    """Return, per field of a named tuple, the named tuple that the field is, or None where it is a plain value."""
    return tuple(None if hint in _SCHEMA_TYPES else hint for hint in typing.get_type_hints(kind).values())


@functools.cache
def _schema(kind: Any) -> dict[str, str]:
    """Return the schema's type of each argument by name, those of inner named tuples in their place."""
    result: dict[str, str] = {}
    for name, hint in typing.get_type_hints(kind).items():
        added = {name: _SCHEMA_TYPES[hint]} if hint in _SCHEMA_TYPES else _schema(hint)
        if added.keys() & result.keys():
            raise TypeError(
                f"{kind.__name__}: two fields are called {', '.join(added.keys() & result.keys())}"
            )
        result |= added
    return result


def flatten(values: Sequence[Any]) -> list[Any]:
    """Return the fields of a named tuple, those of inner ones in their place."""
    flat: list[Any] = []
    for value in values:
        if isinstance(value, tuple):
            flat.extend(flatten(value))
        else:
            flat.append(value)
    return flat


def _assemble(kind: Any, flat: Iterator[Any]) -> Any:
    """Return the named tuple whose fields `flat` lists: the inverse of `flatten`."""
    return kind(*(next(flat) if group is None else _assemble(group, flat) for group in _groups(kind)))


def _is_tensor_list(value: Any) -> bool:
    return isinstance(value, list) and all(item is None or isinstance(item, Tensor) for item in value)


def _spread(values: Sequence[Any]) -> list[Any]:
    """Return the values with the items of lists of tensors in their place."""
    flat: list[Any] = []
    for value in values:
        if _is_tensor_list(value):
            flat.extend(value)
        else:
            flat.append(value)
    return flat


def _gather(flat: Iterator[Any], lengths: Sequence[int | None]) -> list[Any]:
    """Return values of which those with a length are lists: the inverse of `_spread`."""
    return [next(flat) if length is None else [next(flat) for _ in range(length)] for length in lengths]


def _take_tensors(value: Any, tensors: list[Tensor]) -> Any:
    """Append a value's tensors to a list and return the value with their indices in the list for them."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return _Index(len(tensors) - 1)
    if isinstance(value, list):
        return [_take_tensors(item, tensors) for item in value]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_take_tensors(item, tensors) for item in value))
    return value


def _put_tensors(value: Any, tensors: Sequence[Tensor]) -> Any:
    """Return a value with its tensors: the inverse of `_take_tensors`."""
    if isinstance(value, _Index):
        return tensors[value]
    if isinstance(value, list):
        return [_put_tensors(item, tensors) for item in value]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_put_tensors(item, tensors) for item in value))
    return value


class _Index(int):
    """The index of a saved tensor."""


class Operator(Generic[Inputs, Outputs]):
    """A function of named inputs that torch knows as an operator.

    Args:
        name: of the operator, "namespace::name".
        run: the function; its annotations, named tuples of tensors, lists of tensors and plain values, are the schema.
        fake: returns outputs of the right shapes and types, for `torch.compile`.
        device: the only device type that it runs on; None is any.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Inputs], Outputs],
        fake: Callable[[Inputs], Outputs],
        device: str | None = None,
    ) -> None:
        hints = typing.get_type_hints(run)
        self.run = run
        self._outputs = hints.pop("return")
        (self._inputs,) = hints.values()
        self._arguments = _schema(self._inputs)
        self._save: Callable[[Inputs, Outputs], Any] | None = None
        self._formula: Formula[Any, Outputs] | None = None
        self._differentiable: tuple[str, ...] = ()
        self.registered = torch.library.custom_op(
            name, self._positional(run), mutates_args=(), device_types=device, schema=self._schema_text()
        )
        self.registered.register_fake(self._positional(fake))

    def _schema_text(self) -> str:
        returns = _SCHEMA_TYPES.get(self._outputs)
        if returns is None:
            returns = ", ".join(_schema(self._outputs).values())
        arguments = ", ".join(f"{kind} {name}" for name, kind in self._arguments.items())
        return f"({arguments}) -> ({returns})"

    def _positional(self, function: Callable[[Inputs], Outputs]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            outputs = function(_assemble(self._inputs, iter(arguments)))
            return outputs if isinstance(outputs, Tensor) else tuple(outputs)  # type: ignore[arg-type]

        return call

    def _name_outputs(self, values: Any) -> Any:
        return values if self._outputs is Tensor else self._outputs(*values)

    def gradient(
        self, save: Callable[[Inputs, Outputs], Any], of: Sequence[str] = ()
    ) -> Callable[[Formula[Any, Outputs]], Formula[Any, Outputs]]:
        """Register the decorated function as the gradient.

        It takes what `save` returned, the gradients of the outputs, and the names of the inputs whose gradient is
        asked for; it returns gradients of the inputs by name.

        Args:
            save: returns a named tuple of tensors, lists of tensors and plain values, of the inputs and outputs.
            of: names of the outputs that have a gradient, which is never None; of a single tensor leave it out.
        """

        def register(formula: Formula[Any, Outputs]) -> Formula[Any, Outputs]:
            self._save, self._formula, self._differentiable = save, formula, tuple(of)
            self.registered.register_autograd(self._library_backward, setup_context=self._library_setup)
            return formula

        return register

    def __call__(self, inputs: Inputs) -> Outputs:
        """Run the function, with its gradient if it has one and any input asks for it."""
        if torch.compiler.is_compiling():
            return self._dispatch(inputs)
        flat = _spread(flatten(inputs))
        tensors = [value for value in flat if isinstance(value, Tensor)]
        differentiable = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
        # Tensors of other types trace what is called; torch itself refuses a gradient where there is no formula.
        traced = any(type(tensor) not in _PLAIN_TYPES for tensor in tensors)
        if traced or (differentiable and self._formula is None):
            return self._dispatch(inputs)
        if not differentiable:
            return self.run(inputs)
        lengths: list[int | None] = []
        values = _Direct.apply(self, inputs, lengths, *flat)
        return values if self._outputs is Tensor else self._name_outputs(_gather(iter(values), lengths))

    def _dispatch(self, inputs: Inputs) -> Outputs:
        return self._name_outputs(self.registered(*flatten(inputs)))

    def remember(self, ctx: Any, inputs: Inputs, outputs: Any) -> None:
        """Keep on `ctx` what the gradient needs."""
        assert self._save is not None
        tensors: list[Tensor] = []
        ctx.remembered = _take_tensors(self._save(inputs, outputs), tensors)
        ctx.save_for_backward(*tensors)
        ctx.lengths = [len(value) if _is_tensor_list(value) else None for value in flatten(inputs)]
        if self._outputs is not Tensor:
            names = _schema(self._outputs)
            pairs = zip(names, outputs, strict=True)
            fixed = [value for name, value in pairs if name not in self._differentiable]
            ctx.mark_non_differentiable(*_spread(fixed))

    def differentiate(self, ctx: Any, grads: Any, needs: Sequence[Any]) -> list[Any]:
        """Return the gradient of each argument, of a list as a list.

        Args:
            grads: of the outputs, named.
            needs: per argument, whether its gradient is asked for; of a list, that of its items.
        """
        assert self._formula is not None
        asked = (any(need) if isinstance(need, list | tuple) else need for need in needs)
        names = frozenset(name for name, need in zip(self._arguments, asked, strict=True) if need)
        found = self._formula(_put_tensors(ctx.remembered, ctx.saved_tensors), grads, names)
        unknown = found.keys() - self._arguments.keys()
        if unknown:
            raise KeyError(f"gradients of inputs that there are not: {', '.join(sorted(unknown))}")
        result = []
        for name, length in zip(self._arguments, ctx.lengths, strict=True):
            value = found.get(name)
            result.append([None] * length if value is None and length is not None else value)
        return result

    def _library_setup(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        self.remember(ctx, _assemble(self._inputs, iter(inputs)), self._name_outputs(output))

    def _library_backward(self, ctx: Any, *grads: Any) -> tuple[Any, ...]:
        named = self._name_outputs(grads[0] if self._outputs is Tensor else grads)
        return tuple(self.differentiate(ctx, named, ctx.needs_input_grad))


class _Direct(torch.autograd.Function):
    """An operator called past torch's dispatcher."""

    @staticmethod
    def forward(
        ctx: Any, operator: Operator[Any, Any], inputs: Any, lengths: list[int | None], *flat: Any
    ) -> Any:
        outputs = operator.run(inputs)
        operator.remember(ctx, inputs, outputs)
        ctx.operator, ctx.output_lengths = operator, lengths
        if isinstance(outputs, Tensor):
            return outputs
        lengths.extend(len(value) if _is_tensor_list(value) else None for value in outputs)
        return tuple(_spread(outputs))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        operator, lengths = ctx.operator, ctx.output_lengths
        named = operator._name_outputs(_gather(iter(grads), lengths) if lengths else grads[0])
        needs = _gather(iter(ctx.needs_input_grad[3:]), ctx.lengths)
        return None, None, None, *_spread(operator.differentiate(ctx, named, needs))
