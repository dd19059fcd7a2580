"""The flight check: what a model runs and which rule each operation gets, before anything is explained."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from pellucid.composites import Composite, rule_name
from pellucid.engine.graph import build_graph
from pellucid.engine.plan import Plan, Unknown
from pellucid.engine.trace import Start, Trace
from pellucid.errors import PellucidError, reason
from pellucid.methods.base import Cost
from pellucid.methods.call import Call
from pellucid.methods.catalogue import method_named, methods
from pellucid.methods.lrp import plan_for
from pellucid.methods.relevance import LRP

__all__ = ["Check", "Fit", "Row", "check_methods", "check_trace"]

_GRADIENT = 3
"""What a forward with a backward pass takes, in forwards, about."""


@dataclass(frozen=True, slots=True)
class Row:
    """Operations of one kind with one rule."""

    op: str
    rule: str
    count: int
    modules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a method will work on this model and input, and what it would cost.

    Args:
        method: its name.
        family: "relevance", "gradient", ...
        reason: why not, naming the layer to blame; empty where it will.
        forwards: of every sample, without a gradient; None where it depends on how soon it converges.
        gradients: forward passes of every sample with a backward pass.
        seconds: about what all samples take, from the time of one forward; None where that is not known.
        remark: what to know of it on this model and input though it fits; empty if there is nothing.
    """

    method: str
    family: str
    reason: str
    forwards: int | None
    gradients: int | None
    seconds: float | None
    remark: str = ""

    @property
    def fits(self) -> bool:
        """Whether it will work."""
        return not self.reason

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"method": self.method, "fits": self.fits, **asdict(self)}


@dataclass(frozen=True)
class Check:
    """What was found; prints as a table.

    Args:
        rows: operations on live paths, with the rule that each would get.
        sources: where explained inputs enter, by name.
        unknown: live operations without a rule, which ``explain`` would refuse.
        warnings: cut paths and whatever else a user should know.
        target: what would be explained, one label per sample.
        composite: its name.
        methods: for every method whether it will work, and its cost; none of them was run.
    """

    rows: tuple[Row, ...]
    sources: tuple[str, ...]
    unknown: tuple[Unknown, ...]
    warnings: tuple[str, ...]
    target: tuple[str, ...]
    composite: str
    methods: tuple[Fit, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether ``explain`` would run with its default method, relevance propagation."""
        return not self.unknown and bool(self.sources)

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "ok": self.ok,
            "composite": self.composite,
            "target": list(self.target),
            "sources": list(self.sources),
            "operations": [
                {"op": row.op, "rule": row.rule, "count": row.count, "modules": list(row.modules)} for row in self.rows
            ],
            "unknown": [{"op": item.name, "module": item.module} for item in self.unknown],
            "warnings": list(self.warnings),
            "methods": [fit.to_dict() for fit in self.methods],
        }

    def __str__(self) -> str:
        """The table."""
        body = [(row.op, str(row.count), row.rule, _shortened(row.modules)) for row in self.rows]
        lines = _lines([("operation", "count", "rule", "modules"), *body])
        lines.append(
            f"explained: {', '.join(self.target[:3])}{' ...' if len(self.target) > 3 else ''} with {self.composite}"
        )
        lines.append(f"sources: {', '.join(self.sources) or 'none: no explained input reaches the target'}")
        lines.extend(f"unknown: {item.name} in module {item.module or '(the model itself)'!r}" for item in self.unknown)
        lines.extend(f"warning: {warning}" for warning in self.warnings)
        if self.methods:
            rows = [
                (fit.method, *_cost_texts(fit)) if fit.fits else (fit.method, "no", fit.reason) for fit in self.methods
            ]
            lines += ["", *_lines([("method", "about", "passes of every sample, or why not"), *rows])]
        return "\n".join(lines)


def check_trace(
    trace: Trace, start: Start | None, composite: Composite, labels: Sequence[str], warnings: Sequence[str] = ()
) -> Check:
    """Plan the walk from ``start`` and tell, without walking; None: there is nothing to walk on."""
    if start is None:
        return Check((), (), (), (*trace.notes, *warnings), tuple(labels), composite.name)
    assert start.node is not None
    graph = build_graph([start.node])
    plan = plan_for(graph, trace, composite)
    counts: Counter[tuple[str, str]] = Counter()
    modules: dict[tuple[str, str], list[str]] = {}
    for i, on_path in enumerate(plan.on_path):
        if not on_path or i in plan.sources or plan.ops[i] is None:
            continue
        key = (_label(plan, i), _rule_text(plan, i))
        counts[key] += 1
        modules.setdefault(key, []).append(plan.modules[i])
    rows = tuple(
        Row(op, rule, count, tuple(dict.fromkeys(modules[op, rule]))) for (op, rule), count in sorted(counts.items())
    )
    sources = tuple(dict.fromkeys(name for i, name in plan.sources.items() if plan.on_path[i]))
    cut = sorted({name or "(the model itself)" for name in trace.observer.cuts})
    told = [*trace.notes, *warnings]
    if cut:
        told.append(f"detach or no_grad cuts part of the paths from the input in: {', '.join(cut)}")
    return Check(rows, sources, tuple(dict.fromkeys(plan.unknown)), tuple(told), tuple(labels), composite.name)


def check_methods(check: Check, call: Call, composite: Composite) -> Check:
    """The check with a row for every method; runs a plain forward to time it, and no method.

    Args:
        check: of the walk.
        call: what would be explained.
        composite: what the method "lrp" would walk with.
    """
    forward = _seconds(call)
    rows = []
    for name, kind in methods().items():
        why = ""
        try:
            method = method_named(kind)
            if type(method) is LRP:
                method = LRP(composite)
            why = method.unfit(call) or ""
            remark = "" if why else method.remark(call) or ""
            cost = method.passes(call)
        except Exception as error:  # of a user's own method too; the others are told all the same
            why, remark, cost = why or reason(error), "", Cost(None, None)
        known = forward is not None and cost.forwards is not None and cost.gradients is not None
        seconds = forward * ((cost.forwards or 0) + _GRADIENT * (cost.gradients or 0)) if known and forward else None
        rows.append(Fit(name, kind.family, why, cost.forwards, cost.gradients, seconds, remark))
    return replace(check, methods=tuple(rows))


def _seconds(call: Call) -> float | None:
    """Of a plain forward of the whole input; None where the model cannot be run as a function."""
    times = []
    try:
        for _ in range(3):  # the first sets up, and others may keep the machine busy
            started = time.perf_counter()
            call.function.read([])
            times.append(time.perf_counter() - started)
    except PellucidError:
        return None
    return min(times)


def _cost_texts(fit: Fit) -> tuple[str, str]:
    seconds = (
        "?" if fit.seconds is None else f"{fit.seconds:.2g} s" if fit.seconds < 100 else f"{fit.seconds / 60:.0f} min"
    )
    return seconds, f"{Cost(fit.forwards, fit.gradients)}{'; ' if fit.remark else ''}{fit.remark}"


def _lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with aligned columns."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _label(plan: Plan, i: int) -> str:
    op = plan.ops[i]
    assert op is not None
    return "elementwise region" if i in plan.regions else op.label


def _rule_text(plan: Plan, i: int) -> str:
    if i in plan.fold_into:
        return "folded into the layer before"
    return rule_name(plan.rules[i])


def _shortened(modules: Sequence[str]) -> str:
    named = [name or "(the model itself)" for name in modules]
    return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
