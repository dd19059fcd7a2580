"""Contrastive relevance propagation: a class's relevance less that of all others (Gu 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pellucid.composites import Composite
from pellucid.engine.trace import Start, Trace
from pellucid.methods.base import Attribution, Cost
from pellucid.methods.classes import classes_of, no_classes
from pellucid.methods.lrp import explain_trace
from pellucid.methods.relevance import LRP, dressed
from pellucid.targets import Logit
from pellucid.targets.base import per_sample

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["CLRP"]

_CITATION = """@inproceedings{gu2018,
  author = {Gu, Jindong and Yang, Yinchong and Tresp, Volker},
  title = {Understanding Individual Decisions of {CNNs} via Contrastive Backpropagation},
  booktitle = {Asian Conference on Computer Vision}, year = {2018}
}"""
_SMALLEST = 1e-9
"""Of a logit that a share of relevance is divided by, relative to the largest."""


@dataclass(frozen=True)
class CLRP(LRP):
    """``max(0, R - R_dual)``: relevance of a class less that of its dual (Gu 2018, eq. 5, CLRP1).

    The dual is all other classes, which share the score of the class equally. What any class would find relevant falls
    away, so that maps of different classes differ. The explained scalar is the logit of the class, also where the
    target compares it with others.

    Args:
        composite: the rules, by name or as a Composite; the paper's is z+ with zB at the input, which is deep Taylor
            decomposition.
        relu: leave out what is negative, as in the paper; without it the maps of class and dual can be told apart.
    """

    composite: str | Composite | None = "deep-taylor"
    relu: bool = True

    name: ClassVar[str] = "clrp"
    cost: ClassVar[str] = "1 forward + 2 walks"
    needs: ClassVar[str] = "a classifier of several classes"
    advice: ClassVar[str] = "What speaks for a class and for no other, where all maps of plain LRP look alike."

    def walk(self, call: Call, composite: Composite, trace: Trace, start: Start, *, last: bool) -> Attribution:
        """See the class.

        Raises:
            InputError: the target is no class of a classifier of several.
        """
        logits = trace.logits().detach()
        classes = classes_of(start.target, logits, caller=self.name)
        start = trace.start(per_sample([Logit(index) for index in classes]))
        there = torch.tensor(classes, device=logits.device)[:, None]
        share = start.scalar[:, None].to(logits) / (logits.shape[1] - 1)
        smallest = _SMALLEST * logits.abs().amax(1, keepdim=True).clamp(min=torch.finfo(logits.dtype).tiny)
        divided = share / (logits + smallest.copysign(logits))
        dual = replace(start, density=divided.scatter(1, there, 0.0))
        others = explain_trace(trace, dual, composite, layers=call.layers, keep=call.keep)
        own = explain_trace(trace, start, composite, layers=call.layers, keep=call.keep, consume=last)
        return replace(
            dressed(call, composite, trace, start, own),
            relevance=self._contrasted(own.relevance, others.relevance),
            layers=self._contrasted(own.layers, others.layers),
            ledger=None,
        )

    def _contrasted(self, own: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> dict[str, Tensor]:
        differences = {name: value - others[name] for name, value in own.items()}
        return {name: value.clamp(min=0) for name, value in differences.items()} if self.relu else differences

    def unfit(self, call: Call) -> str | None:
        """The target is no class of several."""
        return no_classes(call, caller=self.name) or super().unfit(call)

    def passes(self, call: Call) -> Cost:  # noqa: ARG002
        """One forward and two walks."""
        return Cost(0, 2)

    def settings(self) -> dict[str, object]:
        """The composite is told with its rules once it is chosen."""
        return {"relu": self.relu}

    @property
    def citation(self) -> str:  # type: ignore[override]
        """BibTeX of the paper and of what the composite builds on."""
        return f"{_CITATION}\n\n{super().citation}"
