"""One recorded forward of one sample: which modules ran, what they gave, and how the explained scalar depends on it.

It is made once for a model and kind of input; what is found out is kept with the model's copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node
from torch.overrides import TorchFunctionMode

from pellucid.engine.function import ModelFunction
from pellucid.engine.graph import Edge, Graph, build_graph
from pellucid.engine.inputs import Prepared
from pellucid.engine.intercept import first_floating, function_name
from pellucid.engine.observer import observing
from pellucid.engine.point import Kind, Point
from pellucid.engine.private import next_sequence_number, sequence_number
from pellucid.engine.watch import Watch
from pellucid.errors import ModelError, PellucidError
from pellucid.methods.positions.attending import Attending, attending_nodes
from pellucid.methods.positions.finding import layout_of
from pellucid.methods.positions.layout import InputShape, Layout
from pellucid.methods.positions.origins import Origins
from pellucid.targets import PerSample, Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["Made", "Survey", "kind_of", "nonzero_positions"]

_OURS = frozenset(("clone", "detach", "to", "index_select", "requires_grad_"))
"""Functions that are called where values are read and put as well, so that their calls are not the model's alone."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a module, or a function that the model calls itself, gave.

    Args:
        kind: LAYER or CALL.
        name: of the module or function.
        run: which of its runs, from 1.
        node: that made the tensor.
        output: which of its outputs.
        shape: of the tensor, with the batch of the survey.
        own: whether the module made it, and did not just hand on what it was given.
        bare: whether it gave the tensor alone.
    """

    kind: Kind
    name: str
    run: int
    node: Node
    output: int
    shape: tuple[int, ...]
    own: bool
    bare: bool


class _Calls(TorchFunctionMode):
    """Notes what functions give that the model calls."""

    def __init__(self, note: Callable[[str, object], None]) -> None:
        super().__init__()
        self._note = note

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self._note(function_name(func), result)
        return result


class Survey:
    """The forward, its graph, and questions about both.

    Args:
        call: what is explained.
        target: the explained scalar; of several per sample that of the first one.

    Raises:
        as the model and the target do. ModelError: the scalar does not depend on the explained inputs.
    """

    def __init__(self, call: Call, target: Target) -> None:
        one = target.parts[0] if isinstance(target, PerSample) else target
        try:
            self._run(_twice(call.prepared), one, call)
        except PellucidError:  # made for one size of batch, or a target for all samples together
            self._run(call.prepared, target, call)
        self.inputs = {
            **{name: InputShape(tuple(leaf.shape), False) for name, leaf in call.prepared.leaves.items()},
            **{name: InputShape(tuple(ids.shape), True) for name, ids in call.prepared.ids.items()},
        }

    def _run(self, prepared: Prepared, target: Target, call: Call) -> None:
        function = ModelFunction(call.shadow, prepared, seed=call.seed, most=prepared.batch)
        points = function.points
        self.batch, self.watch = prepared.batch, Watch({})
        self._begin()
        with ExitStack() as stack:
            stack.enter_context(observing(self.watch))
            stack.enter_context(_listening(call.shadow.modules, self._note, self._begin))
            if not call.shadow.scripted:
                stack.enter_context(_Calls(lambda name, result: self._note(Kind.CALL, name, result, 0)))
            read = [*points, *map(function.layer, target.layers())]
            done = function.run({}, read=read, leaves=points, differentiate=True)
        scalar = function.fix(target, done)
        with torch.enable_grad(), observing(self.watch):
            self.scalars = scalar.of(done)
        if self.scalars.grad_fn is None:
            raise ModelError(
                f"The explained scalar does not depend on {', '.join(map(str, points))}: it was computed without a "
                "gradient graph. Check detach() and no_grad inside the model, and that inputs= names what it uses."
            )
        self.graph: Graph = build_graph([self.scalars.grad_fn])
        leaves = {id(tensor): point.name for point, tensor in done.values.items() if point.kind is not Kind.LAYER}
        variables = ((i, getattr(node, "variable", None)) for i, node in enumerate(self.graph.nodes))
        sources = {i: leaves[id(tensor)] for i, tensor in variables if tensor is not None and id(tensor) in leaves}
        self.origins = Origins(self.graph, self.watch, sources)
        self.output = self.edge(done.logits.grad_fn, done.logits.output_nr)

    def _begin(self) -> None:
        self.made: list[Made] = []
        self.calls: list[Made] = []
        self._runs: dict[tuple[Kind, str], int] = {}

    def _note(self, kind: Kind, name: str, result: object, start: int) -> None:
        self._runs[kind, name] = run = self._runs.get((kind, name), 0) + 1
        tensor = first_floating(result)
        node = None if tensor is None else tensor.grad_fn
        if tensor is None or node is None or (kind is Kind.CALL and (name.endswith("_") or name in _OURS)):
            return
        own, bare = sequence_number(node) >= start, isinstance(result, Tensor)
        made = Made(kind, name, run, node, tensor.output_nr, tuple(tensor.shape), own, bare)
        (self.made if kind is Kind.LAYER else self.calls).append(made)

    # -- questions ----------------------------------------------------------------------------------------------

    def edge(self, node: Node | None, output: int) -> Edge | None:
        """Where in the graph a tensor is, None where the scalar does not depend on it."""
        place = None if node is None else self.graph.index.get(node)
        return None if place is None else (place, output)

    def point(self, made: Made) -> Point:
        """The point at which that value can be read and replaced."""
        several = made.kind is Kind.CALL or self._runs[made.kind, made.name] > 1
        return Point(made.kind, made.name, made.run if several else 0)

    def layout(self, edge: Edge) -> Layout | None:
        """The layout of the value on ``edge``."""
        if edge not in self._layouts:
            self._layouts[edge] = layout_of(self.origins, edge, self.batch, self.inputs)
        return self._layouts[edge]

    @cached_property
    def _layouts(self) -> dict[Edge, Layout | None]:
        return {}

    def gradient(self, edge: Edge, *, of: tuple[Edge, Tensor] | None = None) -> Tensor | None:
        """The gradient there of the first sample's scalar, or of a value at which a given gradient arrives."""
        outputs: list[Any] = [self.scalars if of is None else self._gradient_edge(of[0])]
        arriving = torch.zeros_like(self.scalars) if of is None else of[1]
        if of is None:
            arriving[0] = 1
        (found,) = torch.autograd.grad(
            outputs, [self._gradient_edge(edge)], [arriving], retain_graph=True, allow_unused=True
        )
        return found

    @cached_property
    def constant(self) -> bool:
        """Whether the gradient is zero at every input, as behind a head that is all zeros."""
        found = [self.gradient((i, 0)) for i in self.origins.sources]
        return not any(bool(gradient.any()) for gradient in found if gradient is not None)

    def cuts(self, edge: Edge, source: str) -> bool:
        """Whether every way from the scalar to an input goes through the value on ``edge``."""
        waiting, seen = [0], {0}
        if edge[0] == 0:
            return True
        while waiting:
            for target in self.graph.edges[waiting.pop()]:
                if target[0] < 0 or target == edge or target[0] in seen:
                    continue
                if source in self.origins.reaches[target[0]]:
                    if target[0] in self.origins.sources:
                        return False
                    seen.add(target[0])
                    waiting.append(target[0])
        return True

    def module_of(self, i: int) -> str:
        """The innermost module that was running when node ``i`` was made."""
        return self.watch.module_of([self.graph.sequence(i)])[0]

    @cached_property
    def attending(self) -> list[Attending]:
        """The attentions on the way."""
        return attending_nodes(self.graph)

    @cached_property
    def attending_modules(self) -> list[str]:
        """For each of them the innermost module that does all of it."""
        numbers = [self.graph.sequence(i) for one in self.attending for i in (one.weights, one.product)]
        modules = self.watch.module_of(numbers)
        return [_around(*pair) for pair in zip(modules[::2], modules[1::2], strict=True)]

    def _gradient_edge(self, edge: Edge) -> GradientEdge:
        return GradientEdge(self.graph.nodes[edge[0]], edge[1])


def kind_of(call: Call, target: Target) -> tuple[object, ...]:
    """What a finding of a survey depends on beside the model: the kind of input, and where the scalar is made."""
    one = target.parts[0] if isinstance(target, PerSample) else target
    shapes = ((name, tuple(tensor.shape[1:]), tensor.dtype) for name, tensor in call.prepared.values.items())
    explained = (*call.prepared.leaves, *call.prepared.ids)
    return (*shapes, explained, one if one.takes_raw else one.layers())


def _around(one: str, other: str) -> str:
    """The innermost module around two."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one.split("."), other.split("."), strict=False))
    return ".".join(name for name, _ in same)


def _twice(prepared: Prepared) -> Prepared:
    """The first sample two times, so that the dimension of the samples shows itself."""

    def take(tensor: Tensor) -> Tensor:
        batched = tensor.ndim > 0 and tensor.shape[0] == prepared.batch
        return torch.cat([tensor[:1], tensor[:1]]).detach() if batched else tensor

    leaves = {name: take(leaf).requires_grad_() for name, leaf in prepared.leaves.items()}
    ids = {name: take(value) for name, value in prepared.ids.items()}
    values = {name: take(value) for name, value in prepared.values.items()} | leaves | ids
    return replace(prepared, leaves=leaves, ids=ids, values=values, batch=2)


@contextmanager
def _listening(
    modules: dict[str, nn.Module], note: Callable[[Kind, str, object, int], None], again: Callable[[], None]
) -> Iterator[None]:
    """Tell ``note`` what each module gives, and the number of the first node made while it ran.

    ``again`` is told when the model starts, which it does twice where it must be seen whether it ends in a gate.
    """
    starts: dict[str, list[int]] = {}

    def begins(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any) -> None:
            starts.setdefault(name, []).append(next_sequence_number())

        return hook

    def ends(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any, output: object) -> None:
            note(Kind.LAYER, name, output, starts[name].pop())

        return hook

    with ExitStack() as stack:
        for name, module in modules.items():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            if not name:
                stack.callback(module.register_forward_pre_hook(lambda *_: again()).remove)
            else:
                stack.callback(module.register_forward_pre_hook(begins(name)).remove)
                stack.callback(module.register_forward_hook(ends(name)).remove)
        yield


def nonzero_positions(layout: Layout, gradient: Tensor) -> Sequence[int] | None:
    """Positions where the gradient of the first sample's scalar is not zero; None where another sample has one too."""
    flat = layout.unfold(gradient)
    if bool((flat[1:] != 0).any()):
        return None
    return list((flat[0] != 0).any(0).nonzero()[:, 0].tolist())
