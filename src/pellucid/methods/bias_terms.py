"""What every operation of a recorded run adds besides its linear part: ``y - J x``, biases first of all.

For an output that is computed through operations ``y = f(x)``, the gradients G at all y give the exact sum ``output =
sum of x G over the explained inputs + sum of (y - J x) G over all operations`` (Srinivas 2019, proposition 1; what is
no bias by name is called an implicit one there).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pellucid.engine.book import Book
from pellucid.engine.graph import Edge, Graph, build_graph
from pellucid.engine.numerics import accumulation_dtype
from pellucid.engine.ops import Kind, Op
from pellucid.engine.passes import Scalar
from pellucid.engine.plan import make_plan
from pellucid.engine.point import Point
from pellucid.engine.private import ADDCMUL, MULS
from pellucid.engine.record import Record
from pellucid.engine.recording import Run
from pellucid.engine.step import Step
from pellucid.engine.walk import Walk
from pellucid.errors import ModelError
from pellucid.rules.maps import linear_map
from pellucid.rules.norm import batch_norm_affine
from pellucid.rules.structural import LINEAR_WRITES

__all__ = ["Recorded", "Term", "parameter_names"]

_HOMOGENEOUS = frozenset((Op.RELU, Op.LEAKY_RELU, Op.SCALE))
"""Elementwise functions with ``y = J x`` everywhere."""


@dataclass(frozen=True, slots=True)
class Term:
    """One operation's ``(y - J x) G``.

    Args:
        edge: the value in whose shape it is: the operation's result, or one of its operands.
        source: as in the ledger.
        module: where.
        value: elementwise; its sum is the amount.
    """

    edge: Edge
    source: str
    module: str
    value: Tensor


class Recorded:
    """A recorded run with the graph behind the explained scalar.

    Args:
        run: the run.
        scalar: what is explained.
        rows: (n,) the sample of each row of the run.
        names: of parameters, by the address of their storage.

    Raises:
        ModelError: the scalar depends on none of the points.
    """

    def __init__(self, run: Run, scalar: Scalar, rows: Tensor | None, names: dict[int, str]) -> None:
        node, self._output, self._arriving, self.scalars = run.root(scalar, rows)
        self.run, self._names = run, names
        self.graph: Graph = build_graph([node])
        points = {id(leaf): point for point, leaf in run.leaves().items()}
        variables = ((i, getattr(node, "variable", None)) for i, node in enumerate(self.graph.nodes))
        self.sources = {i: points[id(leaf)] for i, leaf in variables if leaf is not None and id(leaf) in points}

    def gradients(self, tell: Callable[[Term], None]) -> dict[Point, Tensor]:
        """The gradients at the points; ``tell`` hears every operation's term on the way."""
        plan = make_plan(
            self.graph,
            self.run.recorder,
            [0],
            {i: str(point) for i, point in self.sources.items()},
            lambda _: _unchosen,
            parameter_names={},
            module_types={},
            softmax_gates=False,
            fold=lambda _: False,
            every_edge=True,
        )

        def rule(step: Step, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
            messages = step.keep_live(step.native(arrived))
            for term in _Operation(step, arrived, messages, self._names).terms():
                tell(term)
            return messages

        for i, on_path in enumerate(plan.on_path):
            plan.rules[i] = rule if on_path else None
        walked = Walk(self.graph, plan, self.run.recorder, Book()).run({(0, self._output): self._arriving})
        found = {point: torch.zeros_like(leaf) for point, leaf in self.run.leaves().items()}
        return found | {point: walked.densities[i] for i, point in self.sources.items() if i in walked.densities}


def _unchosen(step: Step, _: Sequence[Tensor | None]) -> list[Tensor | None]:
    raise AssertionError(f"{step.describe()} was given no rule")


@dataclass(frozen=True)
class _Operation:
    """One operation with the gradients at its results and its operands."""

    step: Step
    arrived: Sequence[Tensor | None]
    messages: Sequence[Tensor | None]
    names: dict[int, str]

    def terms(self) -> Iterator[Term]:
        """What it adds."""
        record, op = self.step.record, self.step.op
        density = self.arrived[0]
        if record is None or op is None or op in _HOMOGENEOUS or self._scales(op):
            return
        if op.kind in (Kind.LEAF, Kind.MOVE, Kind.MIX) or (op.kind is Kind.WINNER and not record.dead_tensors()):
            return
        if op.kind is Kind.LINEAR:
            yield from self._bias(density, linear_map(self.step).bias)
        elif op is Op.BATCH_NORM and not self.step.field("training"):
            yield from self._bias(density, _per_channel(batch_norm_affine(self.step)[1], density))
        elif op.kind is Kind.AFFINE or self._adds_product():
            yield from self._dead(record, density)
        elif op.kind is Kind.NORM:
            bias = _norm_bias(self.step, record, density)
            yield from self._bias(density, bias)
            yield from self._remainder(record, bias)
        else:
            yield from self._remainder(record, None)

    def _scales(self, op: Op) -> bool:
        """Whether it is one signal times or by numbers."""
        name, live = self.step.walk.graph.names[self.step.index], self.step.live
        if name in MULS:
            return sum(live) == 1
        return op.kind is Kind.DIVISION and live[0] and sum(live) == 1

    def _adds_product(self) -> bool:
        """Whether it adds a product with one signal at most, so that it is affine in it."""
        name, live = self.step.walk.graph.names[self.step.index], self.step.live
        return name == ADDCMUL and sum(live[1:]) < 2

    def _bias(self, density: Tensor | None, bias: Tensor | None) -> Iterator[Term]:
        if density is not None and bias is not None:
            yield self._term("bias", self.step.module, _product(bias.expand(density.shape), density))

    def _dead(self, record: Record, density: Tensor | None) -> Iterator[Term]:
        """What the operands brought that no point reaches: numbers, constants, learned embeddings."""
        op = self.step.op
        alone = all(self.step.live) and op in (Op.ADD, Op.JOIN) and record.func._overloadname != "Scalar"
        hidden = op is Op.WRITE and record.func._overloadpacket.__name__ not in LINEAR_WRITES
        part = None if alone or hidden or density is None else self.step.dead_part(density)
        if part is None or density is None:
            return
        name = next((self.names[key] for key in map(_address, record.dead_tensors()) if key in self.names), None)
        if name is None:
            yield self._term("constant", self.step.module, _product(part, density))
        elif "bias" in name.rpartition(".")[2]:
            yield self._term("bias", name.rpartition(".")[0], _product(part, density))
        else:
            yield self._term("learned token", name, _product(part, density))

    def _remainder(self, record: Record, bias: Tensor | None) -> Iterator[Term]:
        """``y G - x dx`` of a function that is not linear; without the part ``bias`` of y, which has its own term."""
        try:
            operands = {k: self.step.operand(k) for k, live in enumerate(self.step.live) if live}
        except ModelError:  # a value that nothing holds: the ledger shows what is missing
            return
        results = record.call(*operands.values())
        outputs = [
            (y, density)
            for y, density in zip(results if isinstance(results, tuple) else (results,), self.arrived, strict=False)
            if density is not None
        ]
        inputs = {k: _product(x, message) for k, x in operands.items() if (message := self.messages[k]) is not None}
        source, module = "taylor remainder", self.step.module
        for number, (y, density) in enumerate(outputs):
            value = _product(y if bias is None else y - bias, density)
            for k in [k for k, part in inputs.items() if part.shape == value.shape] if number == 0 else []:
                value = value - inputs.pop(k)
            yield self._term(source, module, value)
        for k, part in inputs.items():
            yield Term(self.step.walk.graph.edges[self.step.index][k], source, module, -part)

    def _term(self, source: str, module: str, value: Tensor) -> Term:
        return Term((self.step.index, 0), source, module, value)


def _product(value: Tensor, density: Tensor) -> Tensor:
    """Their real product, in the dtype that sums are taken in; nothing where no gradient arrives, whatever is there."""
    if value.is_complex() or density.is_complex():
        return (density.conj() * value).real
    dtype = accumulation_dtype(density.dtype)
    found = value.to(dtype) * density.to(dtype)
    return found if bool(torch.isfinite(found).all()) else torch.where(density == 0, 0, found)


def _per_channel(values: Tensor, like: Tensor | None) -> Tensor | None:
    return None if like is None else values.to(like.dtype).view(1, -1, *[1] * (like.ndim - 2))


def _norm_bias(step: Step, record: Record, density: Tensor | None) -> Tensor | None:
    """The bias of a norm that takes its statistics from the input."""
    place = {Op.LAYER_NORM: 3, Op.GROUP_NORM: 2, Op.BATCH_NORM: 2}.get(step.op) if step.op is not None else None
    bias = record.args[place] if place is not None and len(record.args) > place else None
    if not isinstance(bias, Tensor):
        return None
    return bias if step.op is Op.LAYER_NORM else _per_channel(bias, density)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def parameter_names(module: nn.Module) -> dict[int, str]:
    """Names of parameters by the address of their storage, which views of them share."""
    return {_address(parameter): name for name, parameter in module.named_parameters()}
