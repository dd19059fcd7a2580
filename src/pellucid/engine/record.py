"""What one operation of the forward was, as data that can be run again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from pellucid.engine.private import version

__all__ = ["Live", "ModuleOutput", "Record", "leaves"]


@dataclass(frozen=True, slots=True)
class Live:
    """Stands for an operand that the graph reaches from an explained input; ``position`` counts them from 0."""

    position: int


@dataclass(frozen=True, slots=True)
class ModuleOutput:
    """What a module returned: the node that made it, which of its outputs, its value then, and the tensor itself."""

    node: Node
    output: int
    value: Tensor
    tensor: Tensor


@dataclass(slots=True)
class Record:
    """One operation as it ran: ``args`` with every live operand replaced by :class:`Live`."""

    func: torch._ops.OpOverload[Any, Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[Tensor, ...] = ()
    """Values of the live operands, kept for functions whose node does not save them."""
    output: Tensor | None = None
    """What it made, kept for rules that ask for it."""
    version: int = 0
    copied: tuple[torch.Size, tuple[torch.Size, tuple[int, ...], int]] | None = None
    """Where only a rearranged copy of the output is kept: its shape, and size, stride and offset of what was copied."""
    base: Tensor | None = None
    """The value, before the operation, of a dead tensor that was written in place."""
    view: tuple[tuple[int, ...], tuple[int, ...], int] | None = None
    """Size, stride and offset of the view that was written in place, within its base."""

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the operation was called with; needs the kept values of all live operands."""
        return _fill(self.args, self.inputs), _fill(self.kwargs, self.inputs)

    def kept(self) -> Tensor | None:
        """The output, or None where it is not kept or was changed in place since."""
        if self.output is None or version(self.output) != self.version:
            return None
        if self.copied is None:
            return self.output.detach()
        shape, view = self.copied
        whole = self.output.new_empty(shape)
        whole.as_strided(*view).copy_(self.output.detach())
        return whole

    def first(self, *live: Tensor) -> Tensor:
        """The first result of :meth:`call`."""
        result = self.call(*live)
        value: Tensor = result[0] if isinstance(result, (tuple, list)) else result
        return value

    def call(self, *live: Tensor) -> Any:
        """Run the operation again with ``live`` in the place of the live operands, never in place on a kept value."""
        args = _fill(self.args, live)
        if self.base is not None and self.view is None:
            args = (self.base.clone(), *args[1:])
        elif self.func._schema.is_mutable:
            args = (args[0].clone(), *args[1:])
        return self.func(*args, **_fill(self.kwargs, live))

    def call_on_base(self, base: Tensor, *live: Tensor) -> Tensor:
        """Run an operation that wrote through a view again on ``base``, which is changed and returned."""
        assert self.view is not None
        size, stride, offset = self.view
        target = base.as_strided(size, stride, offset)
        self.func(target, *_fill(self.args[1:], live), **_fill(self.kwargs, live))
        return base

    def without_dead(self) -> Record:
        """The same operation with zeros for every dead operand."""
        return replace(self, args=_zeroed(self.args), kwargs=_zeroed(self.kwargs), base=None)

    def dead_tensors(self) -> list[Tensor]:
        """The floating operands that no explained input reaches."""
        return [leaf for leaf in leaves((self.args, tuple(self.kwargs.values()))) if isinstance(leaf, Tensor)]


def leaves(value: Any) -> Iterator[Any]:
    """What nested lists and tuples hold."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def _zeroed(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.zeros_like(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_zeroed(item) for item in value)
    if isinstance(value, dict):
        return {key: _zeroed(item) for key, item in value.items()}
    return value


def _fill(value: Any, live: Sequence[Tensor]) -> Any:
    if isinstance(value, Live):
        return live[value.position]
    if isinstance(value, (list, tuple)):
        return type(value)(_fill(item, live) for item in value)
    if isinstance(value, dict):
        return {key: _fill(item, live) for key, item in value.items()}
    return value
