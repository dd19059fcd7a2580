"""Layer-wise relevance propagation (Bach 2015) over the recorded graph, for any composite of rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.composites import Composite
from pellucid.engine.book import Book
from pellucid.engine.graph import Graph, build_graph
from pellucid.engine.ledger import Ledger
from pellucid.engine.numerics import accumulation_dtype
from pellucid.engine.plan import Plan, Unknown, make_plan
from pellucid.engine.private import CHECKPOINT
from pellucid.engine.taps import Tap
from pellucid.engine.trace import Start, Trace, source_nodes
from pellucid.engine.walk import Walk, Walked
from pellucid.errors import ModelError, UnknownOpError
from pellucid.methods.units import masks, module_outputs

__all__ = ["Explained", "explain_trace", "plan_for", "refuse_unknown", "unwalkable"]


@dataclass(frozen=True, slots=True)
class Explained:
    """What one walk gives."""

    relevance: dict[str, Tensor]
    layers: dict[str, Tensor]
    ledger: Ledger | None


def explain_trace(
    trace: Trace,
    start: Start,
    composite: Composite,
    *,
    layers: Sequence[str] = (),
    keep: Mapping[str, int | Sequence[int] | str | Tensor] | None = None,
    consume: bool = False,
) -> Explained:
    """Walk once from ``start``.

    Args:
        trace: the forward.
        start: where the walk begins.
        composite: the rules.
        layers: modules at which relevance is read too.
        keep: units through which alone the walk goes on, as ``masks`` takes them.
        consume: give the forward's memory back on the way; no other walk can follow on this trace.

    Raises:
        UnknownOpError: a live operation has no rule.
        ModelError: no explained input is live.
        InputError: a layer did not run.
    """
    keep = keep or {}
    assert start.node is not None
    graph = build_graph([start.node])
    taps = [tap for name in layers for tap in _taps(graph, trace, name, gradient=composite.gradient)]
    kept = [mask for name, units in keep.items() for mask in masks(graph, trace, name, units)]
    plan = plan_for(
        graph, trace, composite, asked=frozenset([tap.edge[0] for tap in taps] + [mask.edge[0] for mask in kept])
    )
    refuse_unknown(plan.unknown)
    if not plan.root_live:
        raise ModelError(_no_source(trace))
    book = Book()
    if consume:
        start.node = None
        trace.release()
    walk = Walk(graph, plan, trace.observer, book, taps=taps, masks=kept, consume=consume)
    walked = walk.run({start.edge: start.density})
    relevance = _collect(trace, graph, plan, walked, gradient=composite.gradient)
    for name, part in relevance.items():
        book.add("input", name, part.sum(dtype=torch.float64))
    ledger = book.close(start.scalar.double().sum()) if composite.conserving else None
    return Explained(relevance, walked.taps, ledger)


def plan_for(graph: Graph, trace: Trace, composite: Composite, *, asked: frozenset[int] = frozenset()) -> Plan:
    """The plan of a walk from the graph's first node."""
    return make_plan(
        graph,
        trace.observer,
        [0],
        source_nodes(graph, trace),
        composite.rule,
        parameter_names=trace.shadow.parameter_names,
        module_types=trace.shadow.module_types,
        softmax_gates=composite.softmax_gates,
        fold=composite.folds,
        unfoldable=asked,
        every_edge=composite.gradient,
    )


def refuse_unknown(unknown: Sequence[Unknown]) -> None:
    """Stop where a live operation has no rule.

    Raises:
        UnknownOpError: names each operation, its module, and how to register a rule.
        ModelError: a part is checkpointed in the reentrant way.
    """
    if not unknown:
        return
    for item in unknown:
        if item.name == CHECKPOINT:
            raise ModelError(
                f"The module {item.module or '(the model itself)'!r} is checkpointed with use_reentrant=True, which "
                f"hides its operations behind a function that would run them again and fill the parameters' gradients. "
                f"Use torch.utils.checkpoint.checkpoint(..., use_reentrant=False), or turn checkpointing off."
            )
    seen = {(item.name, item.module): None for item in unknown}
    places = "; ".join(f"{name} in module {module or '(the model itself)'!r}" for name, module in list(seen)[:6])
    first = unknown[0].name
    raise UnknownOpError(
        f"No rule for {len(seen)} operation(s) on a live path: {places}. A plain gradient there would be silently "
        "wrong. Register "
        f"one: pellucid.engine.registry.register({first!r}, rule), where rule(step, densities) returns one density "
        "per operand; "
        f"for a linear operation that rule is pellucid.rules.structural.native."
    )


def unwalkable(trace: Trace, start: Start, composite: Composite, layers: Sequence[str]) -> str | None:
    """Why a walk from ``start`` that reads ``layers`` would not come to an end; None if it would.

    Raises:
        InputError: a layer did not run.
    """
    assert start.node is not None, "nothing was walked yet"
    graph = build_graph([start.node])
    plan = plan_for(graph, trace, composite)
    unknown = list(
        dict.fromkeys(f"{item.name} in module {item.module or '(the model itself)'!r}" for item in plan.unknown)
    )
    if unknown:
        return f"no rule for {', '.join(unknown[:3])}{f' and {len(unknown) - 3} more' if len(unknown) > 3 else ''}"
    for name in layers:
        module_outputs(graph, trace, name)
    return None if plan.root_live else _no_source(trace)


def _no_source(trace: Trace) -> str:
    cut = sorted({name or "(the model itself)" for name in trace.observer.cuts})
    where = f" The gradient is cut by detach or no_grad in: {', '.join(cut)}." if cut else ""
    names = [*trace.prepared.leaves, *trace.prepared.ids]
    return (
        f"No explained input reaches the explained scalar: {names} have no live path to it.{where} Integer inputs "
        "are explained "
        f"where they are looked up in an embedding; check inputs=, detach() and no_grad inside the model."
    )


def _taps(graph: Graph, trace: Trace, name: str, *, gradient: bool) -> list[Tap]:
    return [Tap(name, (i, output), value, gradient) for i, output, value in module_outputs(graph, trace, name)]


def _collect(trace: Trace, graph: Graph, plan: Plan, walked: Walked, *, gradient: bool) -> dict[str, Tensor]:
    """Relevance at the explained inputs: value times density, or the density itself where it is a gradient."""
    relevance: dict[str, Tensor] = {}
    for i, name in plan.sources.items():
        if name in trace.prepared.ids:
            part = _token_relevance(trace, graph, i, name, walked, gradient=gradient)
        else:
            value = trace.prepared.leaves[name].detach()
            part = torch.zeros_like(value)
            if i in walked.densities:
                part = part + (walked.densities[i] if gradient else value * walked.densities[i])
            if i in walked.relevances:
                part = part + walked.relevances[i]
        relevance[name] = relevance[name] + part if name in relevance else part
    for name, leaf in trace.prepared.leaves.items():
        relevance.setdefault(name, torch.zeros_like(leaf))
    for name, ids in trace.prepared.ids.items():
        relevance.setdefault(name, torch.zeros(ids.shape, dtype=torch.get_default_dtype(), device=ids.device))
    return relevance


def _token_relevance(trace: Trace, graph: Graph, i: int, name: str, walked: Walked, *, gradient: bool) -> Tensor:
    """Relevance of every token: over its embedding's features, ``sum value * G`` (of a gradient, ``sum G``)."""
    ids = trace.prepared.ids[name]
    weight, indices = trace.observer.records[graph.sequence(i)].args[:2]
    value = torch.nn.functional.embedding(indices, weight.detach()).reshape(*ids.shape, -1)
    total = torch.zeros(ids.shape, dtype=accumulation_dtype(value.dtype), device=ids.device)
    density, relevance = walked.densities.get(i), walked.relevances.get(i)
    if density is not None:
        shaped = density.reshape(value.shape)
        total = total + (shaped if gradient else shaped * value).sum(-1, dtype=total.dtype)
    if relevance is not None:
        total = total + relevance.reshape(value.shape).sum(-1, dtype=total.dtype)
    return total
