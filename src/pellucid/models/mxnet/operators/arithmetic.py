"""Elementwise functions, comparisons, products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pellucid.models.graph import layers
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.mxnet.attributes import Attributes
from pellucid.models.mxnet.operators.table import family
from pellucid.models.operators import arithmetic, attention

FAMILY = family()

UNARY: dict[str, Callable[..., Any]] = {
    "abs": torch.abs,
    "sign": torch.sign,
    "negative": torch.neg,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log2": torch.log2,
    "log10": torch.log10,
    "log1p": torch.log1p,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "square": torch.square,
    "cbrt": arithmetic.cube_root,
    "rcbrt": arithmetic.inverse_cube_root,
    "reciprocal": torch.reciprocal,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "arcsin": torch.asin,
    "arccos": torch.acos,
    "arctan": torch.atan,
    "arcsinh": torch.asinh,
    "arccosh": torch.acosh,
    "arctanh": torch.atanh,
    "degrees": torch.rad2deg,
    "radians": torch.deg2rad,
    "erf": torch.erf,
    "erfinv": torch.erfinv,
    "gamma": arithmetic.gamma,
    "gammaln": torch.lgamma,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "trunc": torch.trunc,
    "fix": torch.trunc,
    "round": arithmetic.round_away,
    "rint": arithmetic.round_down,
    "logical_not": arithmetic.logical_not,
}
for _name, _function in UNARY.items():
    FAMILY.same(f"{_name} _sparse_{_name} _npi_{_name} _npx_{_name}", layers.function(_function))
FAMILY.same("_npi_absolute", layers.function(torch.abs))

FAMILY.same(
    "elemwise_add _plus _Plus _add _grad_add _sparse_elemwise_add broadcast_add broadcast_plus _sparse_broadcast_add "
    "_npi_add",
    layers.function(torch.add),
)
FAMILY.same(
    "elemwise_sub _minus _Minus _sub _sparse_elemwise_sub broadcast_sub broadcast_minus _sparse_broadcast_sub "
    "_npi_subtract",
    layers.function(torch.sub),
)
FAMILY.same(
    "elemwise_mul _mul _Mul _sparse_elemwise_mul broadcast_mul _sparse_broadcast_mul _npi_multiply",
    layers.function(torch.mul),
)
FAMILY.same(
    "elemwise_div _div _Div _sparse_elemwise_div broadcast_div _sparse_broadcast_div _npi_true_divide",
    layers.function(torch.div),
)
FAMILY.same("broadcast_power _power _Power _npi_power", layers.function(torch.pow))
FAMILY.same("broadcast_maximum _maximum _Maximum _npi_maximum", layers.function(torch.maximum))
FAMILY.same("broadcast_minimum _minimum _Minimum _npi_minimum", layers.function(torch.minimum))
FAMILY.same("broadcast_mod _mod _Mod _npi_mod", layers.function(arithmetic.remainder))
FAMILY.same("broadcast_hypot _hypot _Hypot _npi_hypot", layers.function(torch.hypot))
FAMILY.same("add_n ElementWiseSum _sparse_ElementWiseSum _sparse_add_n", layers.function(arithmetic.add_all))

RELATIONS: dict[str, Callable[..., Any]] = {
    "equal": torch.eq,
    "not_equal": torch.ne,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "lesser": torch.lt,
    "lesser_equal": torch.le,
}
LOGIC: dict[str, Callable[..., Any]] = {"and": torch.logical_and, "or": torch.logical_or, "xor": torch.logical_xor}
for _name, _relation in RELATIONS.items():
    _np = _name.replace("lesser", "less")
    FAMILY.same(
        f"broadcast_{_name} _{_name} _{_name.title()} _npi_{_np}",
        layers.function(arithmetic.compared, relation=_relation),
    )
for _name, _relation in LOGIC.items():
    FAMILY.same(
        f"broadcast_logical_{_name} _logical_{_name} _Logical_{_name.title()}",
        layers.function(arithmetic.logical, relation=_relation),
    )

SCALAR: dict[str, Callable[..., Any]] = {
    "_plus_scalar _PlusScalar _npi_add_scalar _scatter_plus_scalar": arithmetic.add_scalar,
    "_minus_scalar _MinusScalar _npi_subtract_scalar _scatter_minus_scalar": arithmetic.subtract_scalar,
    "_rminus_scalar _RMinusScalar _npi_rsubtract_scalar": arithmetic.subtract_from,
    "_mul_scalar _MulScalar _npi_multiply_scalar": arithmetic.multiply_scalar,
    "_div_scalar _DivScalar _npi_true_divide_scalar": arithmetic.divide_by,
    "_rdiv_scalar _RDivScalar _npi_rtrue_divide_scalar": arithmetic.divide_scalar,
    "_power_scalar _PowerScalar _npi_power_scalar": arithmetic.to_power,
    "_rpower_scalar _RPowerScalar _npi_rpower_scalar": arithmetic.power_of,
    "_maximum_scalar _MaximumScalar _npi_maximum_scalar": arithmetic.at_least,
    "_minimum_scalar _MinimumScalar _npi_minimum_scalar": arithmetic.at_most,
    "_mod_scalar _ModScalar _npi_mod_scalar": arithmetic.remainder_scalar,
    "_rmod_scalar _RModScalar _npi_rmod_scalar": arithmetic.remainder_of,
    "_hypot_scalar _HypotScalar _npi_hypot_scalar": arithmetic.hypotenuse,
    "smooth_l1 _npx_smooth_l1": arithmetic.smooth_l1,
}


def _scalar(call: Call, a: Attributes) -> Value:
    return call.apply(_SCALAR_FUNCTIONS[call.node.op], call.input(0), scalar=a.number("scalar", 1.0))


def _scalar_relation(call: Call, a: Attributes) -> Value:
    relation = _SCALAR_RELATIONS[call.node.op]
    scalar = a.number("scalar", 1.0)
    return call.apply(arithmetic.compared_scalar, call.input(0), relation=relation, scalar=scalar)


def _scalar_logic(call: Call, a: Attributes) -> Value:
    relation = _SCALAR_LOGIC[call.node.op]
    return call.apply(arithmetic.logical_scalar, call.input(0), relation=relation, scalar=a.number("scalar", 1.0))


_SCALAR_FUNCTIONS = {name: function for names, function in SCALAR.items() for name in names.split()}
_SCALAR_RELATIONS: dict[str, Callable[..., Any]] = {
    name: relation
    for word, relation in RELATIONS.items()
    for name in (
        f"_{word}_scalar",
        f"_{word.title().replace('_', '')}Scalar",
        f"_npi_{word.replace('lesser', 'less')}_scalar",
    )
}
_SCALAR_LOGIC: dict[str, Callable[..., Any]] = {
    name: relation
    for word, relation in LOGIC.items()
    for name in (f"_logical_{word}_scalar", f"_Logical{word.title()}Scalar")
}
FAMILY.add(" ".join(_SCALAR_FUNCTIONS))(_scalar)
FAMILY.add(" ".join(_SCALAR_RELATIONS))(_scalar_relation)
FAMILY.add(" ".join(_SCALAR_LOGIC))(_scalar_logic)


@FAMILY.add("clip _sparse_clip _npi_clip")
def _clip(call: Call, a: Attributes) -> Value:
    low, high = a.number("a_min"), a.number("a_max")
    if (low, high) == (0.0, 6.0):
        return call.layer(torch.nn.ReLU6, call.input(0))
    return call.apply(arithmetic.clip, call.input(0), low=low, high=high)


@FAMILY.add("dot _sparse_dot")
def _dot(call: Call, a: Attributes) -> Value:
    turns: dict[str, Any] = {"transpose_a": a.flag("transpose_a"), "transpose_b": a.flag("transpose_b")}
    return call.apply(arithmetic.dot, call.input(0), call.input(1), **turns)


@FAMILY.add("batch_dot _npx_batch_dot _npi_matmul")
def _batch_dot(call: Call, a: Attributes) -> Value:
    turns: dict[str, Any] = {"transpose_a": a.flag("transpose_a"), "transpose_b": a.flag("transpose_b")}
    return call.apply(arithmetic.matmul, call.input(0), call.input(1), **turns)


@FAMILY.add("_linalg_gemm2 linalg_gemm2 _linalg_gemm linalg_gemm")
def _gemm(call: Call, a: Attributes) -> Value:
    third = call.input(2) if call.node.op.endswith("gemm") else None
    return call.apply(
        arithmetic.gemm,
        call.input(0),
        call.input(1),
        third,
        transpose_a=a.flag("transpose_a"),
        transpose_b=a.flag("transpose_b"),
        alpha=a.number("alpha", 1.0),
        beta=a.number("beta", 1.0),
    )


FAMILY.same("_np_dot", layers.function(arithmetic.dot_np))


@FAMILY.add("_npi_einsum")
def _einsum(call: Call, a: Attributes) -> Value:
    return call.apply(arithmetic.einsum, *call.inputs, equation=a.text("subscripts", ""))


@FAMILY.add("_npi_tensordot_int_axes")
def _tensordot(call: Call, a: Attributes) -> Value:
    return call.apply(torch.tensordot, call.input(0), call.input(1), dims=a.integer("axes", 1))


@FAMILY.add("_npi_tensordot")
def _tensordot_axes(call: Call, a: Attributes) -> Value:
    axes = (a.integers("a_axes_summed", ()), a.integers("b_axes_summed", ()))
    return call.apply(torch.tensordot, call.input(0), call.input(1), dims=axes)


@FAMILY.add("_contrib_quadratic")
def _quadratic(call: Call, a: Attributes) -> Value:
    terms: dict[str, Any] = {key: a.number(key, 0.0) for key in "abc"}
    return call.apply(arithmetic.quadratic, call.input(0), **terms)


@FAMILY.add(
    "_contrib_interleaved_matmul_selfatt_qk _contrib_interleaved_matmul_selfatt_valatt "
    "_contrib_interleaved_matmul_encdec_qk _contrib_interleaved_matmul_encdec_valatt"
)
def _attention(call: Call, a: Attributes) -> Value:
    functions: dict[str, Callable[..., Any]] = {
        "selfatt_qk": attention.self_scores,
        "selfatt_valatt": attention.self_values,
        "encdec_qk": attention.cross_scores,
        "encdec_valatt": attention.cross_values,
    }
    function = functions[call.node.op.removeprefix("_contrib_interleaved_matmul_")]
    return call.apply(function, *call.inputs, heads=a.integer("heads", 1))


FAMILY.same("_contrib_div_sqrt_dim", layers.function(attention.divide_by_root))
