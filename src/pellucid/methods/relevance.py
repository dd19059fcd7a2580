"""Layer-wise relevance propagation as a method, and the composites that have names of their own as methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pellucid.composites import Composite, composite_named
from pellucid.engine.trace import Start, Trace
from pellucid.errors import PellucidError, reason
from pellucid.methods.base import Attribution, Cost, Family, Method
from pellucid.methods.citations import citation
from pellucid.methods.lrp import Explained, explain_trace, unwalkable
from pellucid.rules.maps import InputNotSavedError
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["LRP", "dressed"]


@dataclass(frozen=True)
class LRP(Method):
    """Layer-wise relevance propagation (Bach 2015): relevance flows back by rules, and the ledger audits it.

    Args:
        composite: the rules, by name or as a Composite; None: ``auto``.
    """

    composite: str | Composite | None = None

    name: ClassVar[str] = "lrp"
    family: ClassVar[Family] = "relevance"
    cost: ClassVar[str] = "1 forward + walk (about a gradient; signed rules about two)"
    advice: ClassVar[str] = "The first choice: signed, audited, for any architecture, at the cost of a gradient."
    walks: ClassVar[bool] = True

    def chosen(self, call: Call) -> Composite:
        """The composite, its bounds taken from the model's preprocessing where that tells."""
        return composite_named(self.composite, bounds=call.bounds)

    def attribute(self, call: Call, target: Target) -> Attribution:
        """See the class."""
        [found] = self.attribute_all(call, [target])
        return found

    def attribute_all(self, call: Call, targets: Sequence[Target]) -> Iterator[Attribution]:
        """All targets from one forward."""
        composite, wanted = self.chosen(call), self.wanted(call, targets[0])
        trace = call.trace(composite, targets, wanted=wanted)
        done = 0
        try:
            for found in self._walks(call, composite, trace, targets):
                yield found
                done += 1
        except InputNotSavedError:
            trace.shadow.needs_inputs.add(composite.name)
            again = call.trace(composite, targets, wanted=wanted)
            yield from self._walks(call, composite, again, targets[done:])

    def wanted(self, call: Call, target: Target) -> tuple[str, ...]:  # noqa: ARG002
        """Modules whose outputs its walks need, besides those that the user asked for."""
        return ()

    def _walks(
        self, call: Call, composite: Composite, trace: Trace, targets: Sequence[Target]
    ) -> Iterator[Attribution]:
        for k, target in enumerate(targets):
            yield self.walk(call, composite, trace, trace.start(target), last=k == len(targets) - 1)

    def walk(self, call: Call, composite: Composite, trace: Trace, start: Start, *, last: bool) -> Attribution:
        """Explain one target.

        Args:
            call: what is explained.
            composite: the rules.
            trace: the forward.
            start: where the walk begins.
            last: no other walk follows on the trace.
        """
        explained = explain_trace(trace, start, composite, layers=call.layers, keep=call.keep, consume=last)
        return dressed(call, composite, trace, start, explained)

    def unfit(self, call: Call) -> str | None:
        """An operation without a rule, cut paths, or a layer that is on none."""
        small = call.small
        try:
            composite, wanted = self.chosen(small), self.wanted(small, small.target)
            trace = small.trace(composite, [small.target], wanted=wanted)
            layers = (*small.layers, *small.keep, *wanted)
            return unwalkable(trace, trace.start(small.target), composite, layers)
        except PellucidError as error:
            return reason(error)

    def passes(self, call: Call) -> Cost:  # noqa: ARG002
        """One forward and one walk."""
        return Cost(0, 1)

    def settings(self) -> dict[str, object]:
        """The composite is told with its rules once it is chosen."""
        return {}

    @property
    def citation(self) -> str:  # type: ignore[override]
        """BibTeX of what the composite builds on."""
        return citation(self.composite.name if isinstance(self.composite, Composite) else self.composite or "auto")


def dressed(call: Call, composite: Composite, trace: Trace, start: Start, explained: Explained) -> Attribution:
    """What a walk found, as an attribution."""
    return Attribution(
        relevance=explained.relevance,
        output=start.scalar,
        target=start.target,
        ledger=explained.ledger,
        layers=explained.layers,
        notes=(*trace.notes, *_cut_notes(trace), *composite.notes),
        settings=_found(composite, call),
    )


def _found(composite: Composite, call: Call) -> dict[str, object]:
    found: dict[str, object] = {"composite": composite.name, "rules": dict(composite.table())}
    if call.keep:
        found["keep"] = {
            name: units if isinstance(units, str) else [units] if isinstance(units, int) else list(units)
            for name, units in call.keep.items()
        }
    if not composite.conserving:
        found["unit"] = "gradient"
    return found


def _cut_notes(trace: Trace) -> list[str]:
    modules = sorted({name or "(the model itself)" for name in trace.observer.cuts})
    if not modules:
        return []
    return [
        f"detach or no_grad cuts part of the paths from the input in: {', '.join(modules)}. What those values bring "
        "is booked as constant."
    ]
