"""Every operation of one forward pass, with who made what it was given and in which module call it ran.

The autograd graph knows only what is differentiated. A dispatch mode sees all of it: comparisons, indices, what runs
under ``no_grad``, the insides of custom functions. The number that autograd gave to a node ties the two together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pellucid.engine.record import leaves

__all__ = ["Held", "Recorder", "TracedCall", "TracedOp", "TracedValue"]

INVISIBLE = frozenset(("detach", "lift_fresh", "lift", "alias", "lift_fresh_copy"))
"""What hands a tensor on as it is: no operation of the model."""


@dataclass(frozen=True, slots=True)
class Held:
    """Stands for a tensor among the arguments of an operation: the number of its value."""

    value: int


@dataclass(slots=True)
class TracedValue:
    """A tensor as it was at one time.

    ``kind`` is "op", or what a leaf is: "input", "parameter", "buffer", "constant"; ``name`` is a leaf's.
    """

    number: int
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    producer: int
    kind: str
    name: str = ""
    view_of: int = -1
    """The value that this one is a view of, or was written over."""


@dataclass(slots=True)
class TracedOp:
    """One operation: ``args`` with every tensor replaced by :class:`Held`."""

    number: int
    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    call: int
    sequence: int
    """The number of the autograd node made for it; -1 where none was."""
    before: int
    """The newest number that autograd had given when it ran."""
    grad: bool
    """Whether gradients were recorded at that time."""
    multiply_adds: int
    bytes: int
    """What its results take that share no memory with what it was given."""

    @property
    def name(self) -> str:
        """The operation's name without its overload: "addmm"."""
        return str(self.func._overloadpacket.__name__)


@dataclass(slots=True)
class TracedCall:
    """One run of a module."""

    number: int
    module: str
    parent: int
    sequences: tuple[int, int]
    outputs: list[int] = field(default_factory=list)
    """Values that it returned, as far as they are tensors."""


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records one forward pass in one thread; told of modules by the hooks of a shadow.

    Args:
        known: tensors that no operation makes: kind and name of parameters, buffers and inputs.
        multiply_adds: of an operation, from its packet, arguments and result.
    """

    def __init__(self, known: Mapping[tuple[str, str], Tensor], multiply_adds: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ops: list[TracedOp] = []
        self.values: list[TracedValue] = []
        self.calls = [TracedCall(0, "", -1, (_sequence(), -1))]
        self._count = multiply_adds
        self._current: dict[int, int] = {}
        """id of a tensor -> its value now. The tensors are held, so that no id is used twice."""
        self._written: dict[int, int] = {}
        """Storage -> the value by which it was last written in place."""
        self._whole: dict[int, int] = {}
        """Storage -> the newest value that lies in it."""
        self._held: list[Tensor] = []
        self._numbers: set[int] = set()
        self._stack = [0]
        for (kind, name), tensor in known.items():
            self._value(tensor, producer=-1, kind=kind, name=name)

    # -- modules ------------------------------------------------------------------------------------------------

    def enter(self, module: str) -> None:
        """A module starts; the whole model is the call that is there from the beginning."""
        if module == "" and len(self._stack) == 1:
            return
        call = TracedCall(len(self.calls), module, self._stack[-1], (_sequence(), -1))
        self.calls.append(call)
        self._stack.append(call.number)

    def leave(self, module: str, output: object) -> None:
        """A module ended, or its forward raised within it."""
        while len(self._stack) > 1 and self.calls[self._stack[-1]].module != module:
            self._stack.pop()
        call = self.calls[self._stack[-1]]
        call.sequences = (call.sequences[0], _sequence())
        call.outputs = [self._of(tensor) for tensor in tensors_in(output)]
        if len(self._stack) > 1:
            self._stack.pop()

    # -- operations ---------------------------------------------------------------------------------------------

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        before = _sequence()
        name = func._overloadpacket.__name__
        given: list[int] = []
        held_args = self._replace(args, given)
        held_kwargs = {key: self._replace(value, given) for key, value in kwargs.items()}
        written = _written(func, args, kwargs)
        for tensor in written:
            base = self._written_or_whole(tensor)
            if base is not None and base not in given:
                given.append(base)
        sequence = -1
        if torch.is_grad_enabled():
            made = before - 1 if written and before - 1 not in self._numbers and before in self._numbers else before
            sequence = made if made >= 0 and made not in self._numbers else -1
        output = func(*args, **kwargs)
        results = [leaf for leaf in leaves(output) if isinstance(leaf, Tensor)]
        if name in INVISIBLE and given:
            for tensor in results:
                self._current[id(tensor)] = given[0]
                self._held.append(tensor)
            return output
        if sequence >= 0:
            self._numbers.add(sequence)
            if any(tensor._is_view() for tensor in written):
                self._numbers.add(sequence + 1)  # the node that writes the view back into its base
        number = len(self.ops)
        op = TracedOp(
            number, func, held_args, held_kwargs, tuple(given), (), self._stack[-1], sequence, before,
            torch.is_grad_enabled(), self._count(func._overloadpacket, args, kwargs, output), 0,
        )  # fmt: skip
        self.ops.append(op)
        storages = {_storage(leaf) for leaf in leaves((args, tuple(kwargs.values()))) if isinstance(leaf, Tensor)}
        made_values = []
        for tensor in [*results, *(tensor for tensor in written if not any(tensor is r for r in results))]:
            place = _storage(tensor)
            shares = place is not None and place in storages
            over = self._of(tensor) if any(tensor is w for w in written) else given[0] if shares and given else -1
            value = self._value(tensor, producer=number, kind="op", view_of=over)
            if not shares:
                op.bytes += self.values[value].bytes
                storages.add(place)
            if any(tensor is w for w in written) and place is not None:
                self._written[place] = value
            made_values.append(value)
        op.outputs = tuple(made_values)
        return output

    def outside(self, output: object) -> list[int]:
        """Values of what the model returned."""
        return [self._of(tensor) for tensor in tensors_in(output)]

    def release(self) -> None:
        """Let go of all tensors."""
        self._held.clear()
        self._current.clear()

    # -- values -------------------------------------------------------------------------------------------------

    def _value(self, tensor: Tensor, *, producer: int, kind: str, name: str = "", view_of: int = -1) -> int:
        number = len(self.values)
        self.values.append(
            TracedValue(
                number, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), _bytes(tensor), producer, kind,
                name, view_of,
            )
        )  # fmt: skip
        self._current[id(tensor)] = number
        self._held.append(tensor)
        place = _storage(tensor)
        if place is not None:
            self._whole[place] = number
        return number

    def _of(self, tensor: Tensor) -> int:
        """The value of ``tensor`` now; where something was written into its memory since, what was written."""
        place = _storage(tensor)
        own = self._current.get(id(tensor))
        last = None if place is None else self._written.get(place)
        if own is not None:
            return own if last is None or self.values[last].producer <= self.values[own].producer else last
        if place is not None and place in self._whole:  # the same memory by another way: .data, .numpy()
            return self._whole[place] if last is None else last
        return self._value(tensor, producer=-1, kind="constant")

    def _written_or_whole(self, tensor: Tensor) -> int | None:
        """What lay around a view that is written in place."""
        base = tensor._base if tensor._is_view() else None
        return None if base is None else self._of(base)

    def _replace(self, value: Any, given: list[int]) -> Any:
        if isinstance(value, Tensor):
            number = self._of(value)
            if number not in given:
                given.append(number)
            return Held(number)
        if isinstance(value, (list, tuple)):
            return type(value)(self._replace(item, given) for item in value)
        return value


def tensors_in(output: object) -> Iterator[Tensor]:
    """The tensors inside nested lists, tuples, dicts and data classes."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for item in output.values():
            yield from tensors_in(item)
    elif isinstance(output, (list, tuple)):
        for item in output:
            yield from tensors_in(item)
    elif hasattr(output, "__dataclass_fields__"):
        for name in output.__dataclass_fields__:
            yield from tensors_in(getattr(output, name))


def _sequence() -> int:
    return int(torch._C._autograd._get_sequence_nr()) - 1


def _storage(tensor: Tensor) -> int | None:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError):  # sparse and opaque tensors have none
        return None


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that an operation writes in place."""
    if not func._schema.is_mutable:
        return []
    found = []
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            found += [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]
    return found
