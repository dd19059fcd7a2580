"""Concept relevance propagation: what chosen units of a layer bring to a decision (Achtibat 2023)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pellucid.composites import Composite
from pellucid.engine.trace import Start, Trace
from pellucid.errors import InputError, ModelError
from pellucid.methods.base import Attribution, Cost
from pellucid.methods.lrp import explain_trace
from pellucid.methods.positions.choice import sites_for
from pellucid.methods.relevance import LRP, dressed
from pellucid.methods.units import unit_scores
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["CRP"]

_CITATION = """@article{achtibat2023,
  author = {Achtibat, Reduan and Dreyer, Maximilian and Eisenbraun, Ilona and Bosse, Sebastian and Wiegand, Thomas
    and Samek, Wojciech and Lapuschkin, Sebastian},
  title = {From Attribution Maps to Human-Understandable Explanations through Concept Relevance Propagation},
  journal = {Nature Machine Intelligence}, volume = {5}, pages = {1006--1019}, year = {2023}
}"""
_TOP = re.compile(r"top(?::([1-9][0-9]*))?")


@dataclass(frozen=True)
class CRP(LRP):
    """Relevance that flows through chosen units of a layer only (Achtibat 2023, eq. 5).

    ``details["unit scores"]`` (N, units) tells how much relevance every unit of the layer got, summed over positions.
    With units that are chosen by it, a first walk finds those of most relevance, for each sample its own; a second one
    goes on through these alone. What is not walked on is booked as "not kept". Over all units, maps sum to LRP's.

    Args:
        composite: the rules, by name or as a Composite; None: ``auto``.
        at: the module whose units they are; None: the layer that was asked for, else the last one with positions, as
            class activation maps choose it.
        units: "top" or "top:5", that many units of most relevance; or their numbers, one or several.

    Raises:
        InputError: ``units`` is neither, or names a unit that the layer does not have.
    """

    at: str | None = None
    units: str | int | Sequence[int] = "top:1"

    name: ClassVar[str] = "crp"
    cost: ClassVar[str] = "1 forward + 2 walks"
    needs: ClassVar[str] = "a layer with units: channels, features"
    placed: ClassVar[bool] = True
    advice: ClassVar[str] = "What single channels stand for in a decision, and where in the input each one looks."

    def __post_init__(self) -> None:
        """Check the settings."""
        units = self.units
        numbers = [units] if isinstance(units, int) else units
        if isinstance(units, str):
            fits = _TOP.fullmatch(units) is not None
        else:
            fits = isinstance(numbers, Sequence) and all(isinstance(unit, int) for unit in numbers)
        if not fits:
            raise InputError(
                f"Expected units of crp as 'top', 'top:5' or the numbers of units, such as 3 or [3, 17], got {units!r}."
            )

    def wanted(self, call: Call, target: Target) -> tuple[str, ...]:
        """The layer."""
        return (self.layer(call, target),)

    def layer(self, call: Call, target: Target) -> str:
        """The module whose units are chosen from.

        Raises:
            InputError: the model has no such module. ModelError: none was named, and there is none to be chosen.
        """
        if self.at is not None:
            call.require_layer(self.at)
            return self.at
        chosen = next((site.once for site in sites_for(call, target).sites if site.once is not None), None)
        if chosen is None:
            raise ModelError(
                "crp finds no module with positions that runs once in a forward, whose units it could choose from. "
                "Name one: CRP(at='module')."
            )
        return chosen

    def walk(self, call: Call, composite: Composite, trace: Trace, start: Start, *, last: bool) -> Attribution:
        """See the class."""
        name = self.layer(call, start.target)
        first = explain_trace(trace, start, composite, layers=[name], keep=call.keep)
        scores = unit_scores(trace, start, name, first.layers[name])
        chosen = self._chosen(name, scores)
        kept = torch.zeros_like(scores).scatter_(1, chosen, 1.0)
        keep = {**call.keep, name: kept}
        explained = explain_trace(trace, start, composite, layers=call.layers, keep=keep, consume=last)
        found = dressed(call, composite, trace, start, explained)
        return replace(
            found,
            details={"unit scores": scores},
            settings={**found.settings, "layer": name, "units of each sample": chosen.tolist()},
        )

    def _chosen(self, name: str, scores: Tensor) -> Tensor:
        """(N, k), the units of every sample."""
        size = scores.shape[1]
        if isinstance(self.units, str):
            match = _TOP.fullmatch(self.units)
            count = int(match[1] or 1) if match else 1
            return scores.argsort(dim=1, descending=True, stable=True)[:, : min(count, size)]
        units = [self.units] if isinstance(self.units, int) else list(self.units)
        wrong = [unit for unit in units if not 0 <= unit < size]
        if wrong or not units:
            raise InputError(
                f"units={self.units!r} of crp: the module {name!r} has the units 0 to {size - 1}, got "
                f"{wrong or 'none'}."
            )
        return torch.tensor(units, device=scores.device).expand(len(scores), -1)

    def passes(self, call: Call) -> Cost:  # noqa: ARG002
        """One forward and two walks."""
        return Cost(0, 2)

    def settings(self) -> dict[str, object]:
        """What was chosen is told with the result."""
        units = self.units if isinstance(self.units, (str, int)) else list(self.units)
        return {"at": self.at, "units": units}

    @property
    def citation(self) -> str:  # type: ignore[override]
        """BibTeX of the paper and of what the composite builds on."""
        return f"{_CITATION}\n\n{super().citation}"
