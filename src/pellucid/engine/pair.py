"""Two recorded runs of one model, matched node by node, and a walk over both in step.

What is walked are multipliers: m with ``sum m_k (x_k - x0_k) = m (y - y0)`` at every node, so that the sum over the
sources is the difference of the two explained scalars (Shrikumar 2017, eq. 1 to 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

from pellucid.engine.book import Book
from pellucid.engine.graph import Graph, build_graph
from pellucid.engine.ops import Kind, Op
from pellucid.engine.passes import Scalar
from pellucid.engine.plan import Plan, function_name, make_plan
from pellucid.engine.point import Point
from pellucid.engine.private import CHOICES
from pellucid.engine.record import Live, Record
from pellucid.engine.recording import Run
from pellucid.engine.regions import Region, find_region
from pellucid.engine.step import Step
from pellucid.engine.taps import Tap, outputs_on
from pellucid.engine.walk import Walk
from pellucid.errors import ModelError, UnknownOpError

__all__ = ["Both", "Multipliers", "PairRule", "multipliers", "unruled"]


@dataclass(frozen=True, slots=True)
class Both:
    """One node in both runs: ``here`` at the explained input, ``there`` at the baseline."""

    here: Step
    there: Step
    region: Region | None = None
    """The function of one operand that ends here, where what carries no gradient (a mask, a number) is not the same."""

    @property
    def name(self) -> str:
        """Name of the node."""
        return self.here.walk.graph.names[self.here.index]

    @property
    def live(self) -> tuple[bool, ...]:
        """Per operand: is it behind a point?"""
        return self.here.live

    @property
    def records(self) -> tuple[Record, Record]:
        """What ran, in both runs.

        Raises:
            UnknownOpError: it was not seen.
        """
        here, there = self.here.record, self.there.record
        if here is None or there is None:
            raise UnknownOpError(f"{self.here.describe()} ran where it could not be observed; its values are unknown.")
        return here, there

    def inputs(self) -> tuple[Tensor, Tensor]:
        """The values of the only live operand."""
        here, there = self.records
        return here.inputs[0].detach(), there.inputs[0].detach()

    def native(self, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The node's own backward at the explained input."""
        return self.here.native(arrived)

    def natives(self, here: Sequence[Tensor | None], there: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The sum of the node's own backwards in both runs, each of its own density."""
        pairs = zip(self.here.native(here), self.there.native(there), strict=True)
        return [b if a is None else a if b is None else a + b for a, b in pairs]

    def refuse(self, why: str) -> UnknownOpError:
        """An error that names the operation and its module."""
        return UnknownOpError(f"DeepLIFT has no rule for {self.here.describe()}: {why}")


PairRule = Callable[[Both, "list[Tensor | None]"], "Sequence[Tensor | None]"]
"""``rule(both, multipliers) -> multipliers``: one per output in, one per operand out."""

Rules = Callable[[str, "Op | None"], "PairRule | None"]
"""The rule for the name of a node (of a custom function: of its class) and the operation that it means."""


@dataclass(frozen=True, slots=True)
class Multipliers:
    """What a walk over two runs gives.

    Args:
        at: multipliers at the points.
        layers: multiplier times difference at modules, by name.
        here: (n,) the explained scalars.
        there: (n,) the scalars of the baselines.
    """

    at: dict[Point, Tensor]
    layers: dict[str, Tensor]
    here: Tensor
    there: Tensor


def multipliers(
    here: Run,
    there: Run,
    scalar: Scalar,
    rows: Tensor | None,
    rules: Rules,
    changed: PairRule,
    *,
    module_types: Mapping[str, str],
    layers: Sequence[str] = (),
) -> Multipliers:
    """Walk both runs from the explained scalar to the points.

    Args:
        here: the run at the explained input.
        there: the run at the baseline.
        scalar: what is explained.
        rows: the sample of each row of the runs.
        rules: by operation.
        changed: for regions whose masks or numbers are not the same in both runs.
        module_types: module path -> class name.
        layers: modules at which multiplier times difference is read too.

    Raises:
        ModelError: the two runs took different ways, or the scalar depends on none of the points.
        UnknownOpError: an operation has no rule.
        InputError: a layer did not run on a path to the scalar.
    """
    node, output, arriving, value = here.root(scalar, rows)
    other, _, _, value_there = there.root(scalar, rows)
    graph, graph_there = build_graph([node]), build_graph([other])
    _match(graph, graph_there, here)
    leaves = {id(leaf): point for point, leaf in here.leaves().items()}
    sources = {
        i: leaves[id(node.variable)]
        for i, node in enumerate(graph.nodes)
        if hasattr(node, "variable") and id(node.variable) in leaves
    }
    plan = make_plan(
        graph,
        here.recorder,
        [0],
        {i: str(point) for i, point in sources.items()},
        lambda _: _to_be_chosen,
        parameter_names={},
        module_types=module_types,
        softmax_gates=False,
        fold=lambda _: False,
        every_edge=True,
    )
    taps = [tap for name in layers for tap in _taps(graph, graph_there, (here, there), name)]
    walk = Walk(graph, plan, here.recorder, Book(), taps=taps)
    walk_there = Walk(graph_there, plan, there.recorder, Book())
    _give_rules(plan, walk_there, rules, changed)
    walked = walk.run({(0, output): arriving})
    at = {point: torch.zeros_like(leaf) for point, leaf in here.leaves().items()}
    for i, point in sources.items():
        if i in walked.densities:
            at[point] = walked.densities[i]
    return Multipliers(at, walked.taps, value, value_there)


def unruled(run: Run, rules: Rules, layers: Sequence[str] = ()) -> str | None:
    """The first operation behind the logits of a run that has no rule, with its module.

    Raises:
        InputError: one of ``layers`` did not run on a path to them.
    """
    node = run.done.logits.grad_fn
    if node is None:
        return None
    graph = build_graph([node])
    for name in layers:
        outputs_on(graph, run.recorder.outputs, name)
    for i, op in enumerate(graph.ops):
        if op is not Op.LEAF and rules(function_name(graph.nodes[i]) if op is None else graph.names[i], op) is None:
            (module,) = run.recorder.module_of([graph.sequence(i)])
            return f"{graph.names[i]} in module {module or '(the model itself)'!r}"
    return None


def _to_be_chosen(step: Step, _: Sequence[Tensor | None]) -> list[Tensor | None]:
    raise AssertionError(f"{step.describe()} was given no rule")


def _give_rules(plan: Plan, there: Walk, rules: Rules, changed: PairRule) -> None:
    graph = plan.graph
    missing: dict[tuple[str, str], None] = {}
    for i, on_path in enumerate(plan.on_path):
        if not on_path or i in plan.sources:
            continue
        node, op, region = graph.nodes[i], graph.ops[i], None
        records = (
            plan.observer.records.get(graph.sequence(i)),
            there.observer.records.get(there.graph.sequence(i)),
        )
        rule = rules(function_name(node) if op is None else graph.names[i], op)
        if (
            None in records
            and not (op is not None and op.kind is Kind.MOVE)
            and not isinstance(node, BackwardCFunction)
        ):
            rule = None  # nothing tells whether it did the same in both runs
        elif _differs(*records):
            region = _region(plan, i)
            plan.targets[i], plan.live[i] = (region.source,), (True,)
            rule = changed
        if rule is None:
            missing[graph.names[i], plan.modules[i]] = None
        else:
            plan.rules[i] = partial(_apply, rule, there, region)
    if missing:
        places = "; ".join(f"{name} in module {module or '(the model itself)'!r}" for name, module in list(missing)[:6])
        raise UnknownOpError(
            f"DeepLIFT has no rule for {len(missing)} operation(s) between the input and the explained scalar: "
            f"{places}. Explain a layer after them, or use a method that asks only for gradients "
            "(method='integrated-gradients')."
        )


def _apply(
    rule: PairRule, there: Walk, region: Region | None, step: Step, arrived: list[Tensor | None]
) -> Sequence[Tensor | None]:
    return rule(Both(step, Step(there, step.index), region), arrived)


def _region(plan: Plan, i: int) -> Region:
    """The elementwise function of one signal that ends in node ``i``, whose masks or numbers depend on the data.

    Raises:
        ModelError: there is none.
    """
    graph = plan.graph
    ops = [Op.COPY if name in CHOICES else op for name, op in zip(graph.names, graph.ops, strict=True)]
    region = find_region(graph, ops, i, plan.reached, plan.observer)
    if region is None:
        raise ModelError(
            f"{graph.names[i]} in module {plan.modules[i] or '(the model itself)'!r} depends on the data in a way that "
            "carries no gradient (a mask, an index, a detached value), which is another one for the baseline than for "
            "the input: what that changed cannot be shared among inputs. Give a baseline= for which it is the same, or "
            "use another method."
        )
    return region


def _differs(here: Record | None, there: Record | None) -> bool:
    if here is None or there is None:
        return False
    return not (_same(_as_run(here), _as_run(there)) and _same(here.kwargs, there.kwargs))


def _as_run(record: Record) -> tuple[Any, ...]:
    """The arguments before the operation wrote into the first of them."""
    return record.args if record.base is None else (record.base, *record.args[1:])


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and _equal(one.detach(), other.detach())
    if isinstance(one, Live):
        return isinstance(other, Live)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return all(_same(value, other.get(key)) for key, value in one.items())
    return bool(one == other)


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.data_ptr() == other.data_ptr() and one.stride() == other.stride():
        return True  # a parameter or a buffer
    return torch.equal(one, other) or bool(torch.eq(one, other).logical_or_((one != one) & (other != other)).all())


def _match(here: Graph, there: Graph, run: Run) -> None:
    """Refuse runs that took different ways.

    Raises:
        ModelError: names the first node in which they differ.
    """
    for i in range(min(len(here.nodes), len(there.nodes))):
        one = (here.names[i], here.edges[i], _shapes(here, i))
        other = (there.names[i], there.edges[i], _shapes(there, i))
        if one != other:
            break
    else:
        if len(here.nodes) == len(there.nodes):
            return
        i = min(len(here.nodes), len(there.nodes)) - 1
    (module,) = run.recorder.module_of([here.sequence(i)])
    raise ModelError(
        f"The model computes its output for the baseline in another way than for the input: the first difference is "
        f"{here.names[i]} in module {module or '(the model itself)'!r}, with results of shape {_shapes(here, i)} for "
        f"the input, against {there.names[i]} with {_shapes(there, i)} for the baseline. Its forward depends on the "
        "data (an if, a loop, a choice of rows), so that the two have no differences to compare: give a baseline= "
        "that takes the same way, or use another method."
    )


def _shapes(graph: Graph, i: int) -> list[tuple[int, ...]]:
    return [tuple(graph.shape((i, k))) for k in range(graph.outputs(i))]


def _taps(here: Graph, there: Graph, runs: tuple[Run, Run], name: str) -> list[Tap]:
    one, other = (outputs_on(graph, run.recorder.outputs, name) for graph, run in zip((here, there), runs, strict=True))
    return [Tap(name, (here.index[a.node], a.output), a.value - b.value) for a, b in zip(one, other, strict=True)]
