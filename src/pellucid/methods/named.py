"""Composites of relevance propagation that are known as methods of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from pellucid.composites import Composite
from pellucid.engine.graph import build_graph
from pellucid.engine.ops import Op
from pellucid.engine.trace import Start, Trace
from pellucid.methods.base import Attribution
from pellucid.methods.relevance import LRP

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["CPLRP", "AttnLRP", "Deconvnet", "DeepTaylor", "ExcitationBackprop", "GuidedBackprop"]


@dataclass(frozen=True)
class AttnLRP(LRP):
    """AttnLRP (Achtibat 2024): softmax by its first-order Taylor expansion, products half and half."""

    composite: str | Composite | None = "attn-lrp"
    name: ClassVar[str] = "attn-lrp"
    advice: ClassVar[str] = "Transformers, where what attention looks at shall get its share too."


@dataclass(frozen=True)
class CPLRP(LRP):
    """CP-LRP (Ali 2022): attention weights are coefficients."""

    composite: str | Composite | None = "cp-lrp"
    name: ClassVar[str] = "cp-lrp"
    advice: ClassVar[str] = "Transformers, where relevance shall be conserved through attention."


@dataclass(frozen=True)
class DeepTaylor(LRP):
    """Deep Taylor decomposition (Montavon 2017): z+ in the middle, zB at the input."""

    composite: str | Composite | None = "deep-taylor"
    name: ClassVar[str] = "deep-taylor"
    advice: ClassVar[str] = "ReLU networks on bounded inputs; only what speaks for the class."


@dataclass(frozen=True)
class ExcitationBackprop(LRP):
    """Excitation backprop (Zhang 2018): z+ at every layer."""

    composite: str | Composite | None = "excitation-bp"
    name: ClassVar[str] = "excitation-bp"
    advice: ClassVar[str] = "Localising objects in ReLU networks; positive evidence only."


_NO_RELU = "No ReLU lies on the way to the explained scalar, so that this is the plain gradient."


@dataclass(frozen=True)
class _AtReLU(LRP):
    """The gradient with another rule at every ReLU."""

    def remark(self, call: Call) -> str | None:
        """There is none."""
        small = call.small
        return None if Op.RELU in small.way(small.function.points).ops else _NO_RELU

    def walk(self, call: Call, composite: Composite, trace: Trace, start: Start, *, last: bool) -> Attribution:
        """See the base class."""
        assert start.node is not None, "nothing was walked yet"
        without = Op.RELU not in build_graph([start.node]).ops
        found = super().walk(call, composite, trace, start, last=last)
        return replace(found, notes=(*found.notes, _NO_RELU)) if without else found


@dataclass(frozen=True)
class GuidedBackprop(_AtReLU):
    """Guided backprop (Springenberg 2015): the gradient, negative parts cut at every ReLU."""

    composite: str | Composite | None = "guided-backprop"
    name: ClassVar[str] = "guided-backprop"
    cost: ClassVar[str] = "1 forward + gradient"
    needs: ClassVar[str] = "ReLU; elsewhere it is the plain gradient"
    advice: ClassVar[str] = "Crisp pictures of edges; it hardly depends on the class: do not trust it alone."


@dataclass(frozen=True)
class Deconvnet(_AtReLU):
    """Deconvnet (Zeiler 2014): the gradient with ReLU applied to itself."""

    composite: str | Composite | None = "deconvnet"
    name: ClassVar[str] = "deconvnet"
    cost: ClassVar[str] = "1 forward + gradient"
    needs: ClassVar[str] = "ReLU; elsewhere it is the plain gradient"
    advice: ClassVar[str] = "For comparison with older work; it hardly depends on the class: do not trust it alone."
