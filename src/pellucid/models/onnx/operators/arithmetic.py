"""Elementwise functions, comparisons, products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pellucid.models.graph import layers
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.onnx.attributes import Attributes
from pellucid.models.onnx.operators.table import family
from pellucid.models.operators import arithmetic

FAMILY = family()

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs,
    "Neg": torch.neg,
    "Sign": torch.sign,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Asin": torch.asin,
    "Acos": torch.acos,
    "Atan": torch.atan,
    "Asinh": torch.asinh,
    "Acosh": torch.acosh,
    "Atanh": torch.atanh,
    "Erf": torch.erf,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "IsNaN": torch.isnan,
    "Not": torch.logical_not,
    "BitwiseNot": torch.bitwise_not,
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Sum": arithmetic.add_all,
    "Mean": arithmetic.mean_all,
    "Max": arithmetic.max_all,
    "Min": arithmetic.min_all,
    "Det": torch.det,
}
for _name, _function in FUNCTIONS.items():
    FAMILY.same(_name, layers.function(_function))


def divide(x: Tensor, y: Tensor) -> Tensor:
    """The quotient; of whole numbers rounded towards 0."""
    return x / y if x.is_floating_point() or x.is_complex() else torch.div(x, y, rounding_mode="trunc")


def power(x: Tensor, y: Tensor) -> Tensor:
    """``x`` to the power of ``y``, in the type of ``x``."""
    return x.pow(y).to(x.dtype)


FAMILY.same("Div", layers.function(divide))


@FAMILY.plain("Pow")
def _power(call: Call) -> Value:
    """A known lone exponent is a number, so that squares are squares and not exponentials of logarithms."""
    exponent = call.input(1).tensor
    if exponent is not None and exponent.numel() == 1 and exponent.ndim == 0:
        return call.apply(power_known, call.input(0), exponent=exponent.item())
    return call.apply(power, call.input(0), call.input(1))


def power_known(x: Tensor, exponent: float) -> Tensor:
    """``x`` to a power, in the type of ``x``."""
    whole = int(exponent) if float(exponent).is_integer() else exponent
    return x.pow(whole).to(x.dtype)


@FAMILY.add("Mod")
def _modulo(call: Call, a: Attributes) -> Value:
    """The sign is that of the dividend with ``fmod``, else of the divisor."""
    return call.apply(torch.fmod if a.flag("fmod") else torch.remainder, call.input(0), call.input(1))


@FAMILY.add("BitShift")
def _shift(call: Call, a: Attributes) -> Value:
    left = a.choice("direction", ("LEFT", "RIGHT"), "") == "LEFT"
    function = torch.bitwise_left_shift if left else torch.bitwise_right_shift
    return call.apply(function, call.input(0), call.input(1))


@FAMILY.add("Clip")
def _clip(call: Call, a: Attributes) -> Value:
    """Bounds are settings before version 11, inputs since."""
    x, low, high = call.input(0), call.optional(1), call.optional(2)
    if low is None and high is None:
        bound = a.number("min"), a.number("max")
        return x if bound == (None, None) else call.apply(arithmetic.clip, x, low=bound[0], high=bound[1])
    bounds = [None if value is None or value.tensor is None else value.tensor.item() for value in (low, high)]
    if all(value is None or value.tensor is not None for value in (low, high)):
        return call.apply(arithmetic.clip, x, low=bounds[0], high=bounds[1])
    return call.apply(clip_between, x, low, high)


def clip_between(x: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
    """``x`` within live bounds; the upper one wins where they cross."""
    x = x if low is None else torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


@FAMILY.add("IsInf")
def _infinite(call: Call, a: Attributes) -> Value:
    settings: dict[str, Any] = {
        "negative": a.flag("detect_negative", True),
        "positive": a.flag("detect_positive", True),
    }
    return call.apply(infinite, call.input(0), **settings)


def infinite(x: Tensor, negative: bool, positive: bool) -> Tensor:
    """Where ``x`` is infinite, of the wanted signs."""
    return (
        x.isinf()
        & ((x < 0) if negative and not positive else (x > 0) if positive and not negative else x.isinf())
        & (negative or positive)
    )


@FAMILY.add("Einsum")
def _einsum(call: Call, a: Attributes) -> Value:
    return call.apply(arithmetic.einsum, *call.inputs, equation=a.text("equation", ""))


@FAMILY.add("CumSum CumProd")
def _running(call: Call, a: Attributes) -> Value:
    settings: dict[str, Any] = {"exclusive": a.flag("exclusive"), "reverse": a.flag("reverse")}
    settings["product"] = call.node.op == "CumProd"
    axis = call.input(1)
    if axis.tensor is not None:
        return call.apply(running, call.input(0), axis=int(axis.tensor), **settings)
    return call.apply(running, call.input(0), axis, **settings)


def running(x: Tensor, axis: Tensor | int, exclusive: bool, reverse: bool, product: bool) -> Tensor:
    """Running sums or products along an axis."""
    axis = int(axis)
    x = x.flip(axis) if reverse else x
    if exclusive:
        first = x.narrow(axis, 0, 1)
        first = torch.ones_like(first) if product else torch.zeros_like(first)
        x = torch.cat([first, x.narrow(axis, 0, x.shape[axis] - 1)], axis)
    made = x.cumprod(axis, dtype=x.dtype) if product else x.cumsum(axis, dtype=x.dtype)
    return made.flip(axis) if reverse else made
