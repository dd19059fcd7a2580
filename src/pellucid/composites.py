"""Composites: ordered pairs of a selection of layers and a rule; the first match wins, the default rules come last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from pellucid.engine.ops import Kind, Op
from pellucid.engine.plan import Layer
from pellucid.engine.registry import RuleFunction
from pellucid.engine.step import Fresh, Relevance, Step
from pellucid.errors import InputError
from pellucid.rules import (
    AlphaBeta,
    AlphaBetaByDepth,
    Box,
    Epsilon,
    Flat,
    Gamma,
    Gate,
    Half,
    LinearRule,
    SignalTakesAll,
    Taylor,
    Zero,
    ZPlus,
)
from pellucid.selection import Selection, select

__all__ = ["COMPOSITES", "Composite", "composite_named"]


@dataclass(frozen=True)
class Composite:
    """Rules by selection.

    Args:
        rows: pairs of a selection (or any callable of a layer) and a rule.
        name: how it is called in settings and tables.
        conserving: whether what arrives adds up, so that a ledger makes sense.
        gradient: everything that no row names gets its native backward (gradient-like methods).
    """

    rows: Sequence[tuple[Callable[[Layer], bool], RuleFunction]] = ()
    name: str = "custom"
    conserving: bool = True
    gradient: bool = False
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Check the rows at the door.

        Raises:
            InputError: a row is not a pair of a selection and a rule.
        """
        for row in self.rows:
            if len(row) != 2 or not callable(row[0]) or not callable(row[1]):
                raise InputError(f"Expected rows of a composite as pairs (selection, rule), got {row!r}.")
        object.__setattr__(self, "rows", tuple(self.rows))

    def __add__(self, other: Composite) -> Composite:
        """These rows first, then the other's."""
        if not isinstance(other, Composite):
            return NotImplemented
        return Composite(
            (*self.rows, *other.rows),
            f"{self.name} + {other.name}",
            self.conserving and other.conserving,
            self.gradient or other.gradient,
        )

    def rule(self, layer: Layer) -> RuleFunction | None:
        """The rule for ``layer``; None leaves it to the registry's default."""
        for selection, rule in self.rows:
            if selection(layer) and _fits(rule, layer.op):
                return rule
        return native_gradient if self.gradient and layer.op.kind is not Kind.LEAF else None

    def folds(self, layer: Layer) -> bool:
        """Whether a batch-norm after this layer is merged into it."""
        rule = self.rule(layer)
        return isinstance(rule, LinearRule) and rule.folds

    def needs_outputs(self) -> bool:
        """Whether some rule asks for the outputs of dense layers."""
        return any(isinstance(rule, LinearRule) and not isinstance(rule, Zero) for _, rule in self.rows)

    @property
    def softmax_gates(self) -> bool:
        """Whether softmax results are coefficients."""
        return any(isinstance(rule, Gate) for _, rule in self.rows)

    def table(self) -> list[tuple[str, str]]:
        """The rows as text."""
        return [(str(selection), rule_name(rule)) for selection, rule in self.rows]

    def __str__(self) -> str:
        """The table."""
        rows = self.table()
        width = max((len(left) for left, _ in rows), default=0)
        rest = "native gradient" if self.gradient else "its default rule"
        lines = [f"{left:<{width}}  {right}" for left, right in rows]
        return "\n".join([f"Composite {self.name}", *lines, f"{'anything else':<{width}}  {rest}"])


def rule_name(rule: object) -> str:
    """How a rule prints."""
    return str(getattr(rule, "__name__", None) or rule)


def operations_of(rule: object) -> list[str]:
    """The operations that a composite may give ``rule`` to, as selections call them."""
    return [op.label for op in Op if _fits(rule, op)]


def _fits(rule: object, op: Op) -> bool:
    """A rule for linear maps says nothing about other operations, one for softmax nothing about layers."""
    if isinstance(rule, LinearRule):
        return op in (Op.LINEAR, Op.CONVOLUTION)
    if isinstance(rule, (Gate, Taylor)):
        return op is Op.SOFTMAX
    if isinstance(rule, (Half, SignalTakesAll)):
        return op.kind is Kind.PRODUCT
    return True


def native_gradient(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Fresh | Relevance | None]:
    """The derivative itself, ``G_x = sum_j G_j dy_j/dx``."""
    if step.op in (Op.LINEAR, Op.CONVOLUTION):
        from pellucid.rules.maps import linear_map

        layer = linear_map(step)
        density = densities[0]
        assert density is not None
        return layer.messages(density, lambda: layer.backward(density, layer.weight))
    return list(step.keep_live(step.native(densities)))


def guided_relu(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
    """ReLU of guided backprop: ``G_x = max(G, 0) [x > 0]`` (Springenberg 2015)."""
    density = densities[0]
    assert density is not None
    return list(step.keep_live(step.native([density.clamp(min=0)])))


def deconvolution_relu(_: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
    """ReLU of deconvnet: ``G_x = max(G, 0)``, whatever the unit did (Zeiler 2014)."""
    density = densities[0]
    assert density is not None
    return [torch.clamp(density, min=0)]


_LAYERS = select("layer")
_CONVOLUTIONS = select("convolution")
_LINEAR = select("linear")
_FIRST = select("layer", first=True)
_RELU = select("relu")
_SOFTMAX = select("softmax")


def epsilon(epsilon: float = 1e-6) -> Composite:
    """LRP-epsilon at every linear map."""
    return Composite([(_LAYERS, Epsilon(epsilon))], "epsilon")


def epsilon_plus(epsilon: float = 1e-6) -> Composite:
    """z+ at convolutions, epsilon at dense layers (Kohlbrenner 2020)."""
    return Composite([(_CONVOLUTIONS, ZPlus(epsilon)), (_LINEAR, Epsilon(epsilon))], "epsilon-plus")


def epsilon_alpha2_beta1(epsilon: float = 1e-6) -> Composite:
    """alpha-beta (2, 1) at convolutions, epsilon at dense layers (Kohlbrenner 2020)."""
    return Composite([(_CONVOLUTIONS, AlphaBeta(2, 1, epsilon)), (_LINEAR, Epsilon(epsilon))], "epsilon-alpha2-beta1")


def epsilon_gamma_box(
    low: float | Tensor = -1.0, high: float | Tensor = 1.0, gamma: float = 0.25, epsilon: float = 1e-6
) -> Composite:
    """zB at the first convolution, gamma at the others, epsilon at dense layers (Montavon 2019, Anders 2021).

    Args:
        low: lowest possible input after preprocessing (a number, or a tensor that broadcasts to the input).
        high: highest possible input.
        gamma: how much more the contributions of the output's sign count.
        epsilon: stabiliser.
    """
    rows: list[tuple[Selection, Any]] = [
        (select("convolution", first=True), Box(low, high, epsilon)),
        (_CONVOLUTIONS, Gamma(gamma, epsilon)),
        (_LINEAR, Epsilon(epsilon)),
    ]
    return Composite(rows, "epsilon-gamma-box")


def epsilon_plus_flat(epsilon: float = 1e-6) -> Composite:
    """As epsilon-plus, with equal shares at the first layer (Lapuschkin 2019)."""
    return Composite([(_FIRST, Flat()), *epsilon_plus(epsilon).rows], "epsilon-plus-flat")


def epsilon_alpha2_beta1_flat(epsilon: float = 1e-6) -> Composite:
    """As epsilon-alpha2-beta1, with equal shares at the first layer (Lapuschkin 2019)."""
    return Composite([(_FIRST, Flat()), *epsilon_alpha2_beta1(epsilon).rows], "epsilon-alpha2-beta1-flat")


def excitation_backprop(epsilon: float = 1e-6) -> Composite:
    """z+ everywhere (Zhang 2016)."""
    return Composite([(_LAYERS, ZPlus(epsilon))], "excitation-bp")


def deep_taylor(low: float | Tensor = -1.0, high: float | Tensor = 1.0, epsilon: float = 1e-6) -> Composite:
    """Deep Taylor decomposition: zB at the first layer, z+ everywhere else (Montavon 2017)."""
    return Composite([(_FIRST, Box(low, high, epsilon)), (_LAYERS, ZPlus(epsilon))], "deep-taylor")


def guided_backprop() -> Composite:
    """The gradient with negative parts cut at every ReLU (Springenberg 2015); no relevance, no ledger."""
    return Composite([(_RELU, guided_relu)], "guided-backprop", conserving=False, gradient=True)


def deconvnet() -> Composite:
    """The gradient with ReLU applied to itself (Zeiler 2014); no relevance, no ledger."""
    return Composite([(_RELU, deconvolution_relu)], "deconvnet", conserving=False, gradient=True)


def gradient() -> Composite:
    """The plain gradient."""
    return Composite([], "gradient", conserving=False, gradient=True)


def attn_lrp(epsilon: float = 0.0) -> Composite:
    """AttnLRP: softmax by first-order Taylor, products half and half (Achtibat 2024)."""
    linear: LinearRule = Epsilon(epsilon) if epsilon else Zero()
    return Composite([(_SOFTMAX, Taylor()), (_LAYERS, linear)], "attn-lrp")


def cp_lrp(epsilon: float = 0.0) -> Composite:
    """CP-LRP: attention weights are coefficients (Ali 2022)."""
    linear: LinearRule = Epsilon(epsilon) if epsilon else Zero()
    return Composite([(_SOFTMAX, Gate()), (_LAYERS, linear)], "cp-lrp")


def auto(epsilon: float = 1e-6) -> Composite:
    """The default: sees in the graph which parts are convolutional, attention or recurrent; each gets its rules."""
    rows: list[tuple[Selection, Any]] = [
        (select("convolution", first=True, attention=True), Gamma(0.25, epsilon)),
        (select("convolution", first=True), ZPlus(epsilon)),
        (select("convolution", attention=True), Gamma(0.05, epsilon)),
        (_CONVOLUTIONS, AlphaBetaByDepth(epsilon=epsilon)),
        (_SOFTMAX, Gate()),
        (select("linear", attention=True, convolved=True), Gamma(0.05, epsilon)),
        (_LINEAR, Epsilon(epsilon)),
    ]
    return Composite(rows, "auto")


COMPOSITES: MappingProxyType[str, Callable[..., Composite]] = MappingProxyType(
    {
        "attn-lrp": attn_lrp,
        "auto": auto,
        "cp-lrp": cp_lrp,
        "deconvnet": deconvnet,
        "deep-taylor": deep_taylor,
        "epsilon": epsilon,
        "epsilon-alpha2-beta1": epsilon_alpha2_beta1,
        "epsilon-alpha2-beta1-flat": epsilon_alpha2_beta1_flat,
        "epsilon-gamma-box": epsilon_gamma_box,
        "epsilon-plus": epsilon_plus,
        "epsilon-plus-flat": epsilon_plus_flat,
        "excitation-bp": excitation_backprop,
        "gradient": gradient,
        "guided-backprop": guided_backprop,
    }
)
"""Name -> function that builds the composite."""


_BOUNDED = ("deep-taylor", "epsilon-gamma-box")
"""Composites whose rule for the input needs to know its range."""


def composite_named(
    spec: str | Composite | None, *, bounds: tuple[tuple[float, ...], tuple[float, ...]] | None = None
) -> Composite:
    """The composite that ``spec`` means: a name, a composite, or None for ``auto``.

    Args:
        spec: as above.
        bounds: lowest and highest possible input per channel, where a model's preprocessing tells; else -1 and 1.

    Raises:
        InputError: no composite has that name, or it is something else.
    """
    if spec is None:
        return auto()
    if isinstance(spec, Composite):
        return spec
    if isinstance(spec, str) and spec in COMPOSITES:
        if bounds is not None and spec in _BOUNDED:
            return COMPOSITES[spec](*(torch.tensor(bound) for bound in bounds))
        return COMPOSITES[spec]()
    if isinstance(spec, str):
        raise InputError(f"No composite is called {spec!r}. Expected one of: {', '.join(COMPOSITES)}, or a Composite.")
    raise InputError(f"Expected a composite's name or a Composite, got {spec!r} ({type(spec).__name__}).")
