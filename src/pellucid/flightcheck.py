"""The flight check: what a model runs and which rule each operation gets, before anything is explained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pellucid.composites import Composite, rule_name
from pellucid.engine.graph import build_graph
from pellucid.engine.plan import Plan, Unknown
from pellucid.engine.trace import Start, Trace
from pellucid.methods.lrp import plan_for

__all__ = ["Check", "Row", "check_trace"]


@dataclass(frozen=True, slots=True)
class Row:
    """Operations of one kind with one rule."""

    op: str
    rule: str
    count: int
    modules: tuple[str, ...]


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
    """

    rows: tuple[Row, ...]
    sources: tuple[str, ...]
    unknown: tuple[Unknown, ...]
    warnings: tuple[str, ...]
    target: tuple[str, ...]
    composite: str

    @property
    def ok(self) -> bool:
        """Whether ``explain`` would run."""
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
        }

    def __str__(self) -> str:
        """The table."""
        head = ("operation", "count", "rule", "modules")
        body = [(row.op, str(row.count), row.rule, _shortened(row.modules)) for row in self.rows]
        widths = [max(len(line[k]) for line in (head, *body)) for k in range(4)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in (head, *body)
        ]
        lines.append(
            f"explained: {', '.join(self.target[:3])}{' ...' if len(self.target) > 3 else ''} with {self.composite}"
        )
        lines.append(f"sources: {', '.join(self.sources) or 'none: no explained input reaches the target'}")
        lines.extend(f"unknown: {item.name} in module {item.module or '(the model itself)'!r}" for item in self.unknown)
        lines.extend(f"warning: {warning}" for warning in self.warnings)
        return "\n".join(lines)


def check_trace(trace: Trace, start: Start, composite: Composite, labels: Sequence[str]) -> Check:
    """Plan the walk from ``start`` and tell, without walking."""
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
    warnings = [*trace.notes]
    if cut:
        warnings.append(f"detach or no_grad cuts part of the paths from the input in: {', '.join(cut)}")
    return Check(rows, sources, tuple(dict.fromkeys(plan.unknown)), tuple(warnings), tuple(labels), composite.name)


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
