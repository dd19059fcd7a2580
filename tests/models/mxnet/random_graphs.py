"""Random networks of MXNet's operators with random settings, as the json of a symbol, grown node by node."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Shape = tuple[int, ...]
Infer = Callable[[str], list[Shape] | None]

CURVES = "tanh sigmoid erf sin arctan softsign relu square abs negative exp expm1 cos arcsinh degrees".split()
POSITIVE = "sqrt log log1p log2 log10 rsqrt reciprocal cbrt gammaln".split()
STEPS = "floor ceil round rint trunc fix sign".split()
SCALAR = "_plus _minus _rminus _mul _div _maximum _minimum".split()
BINARY = "broadcast_add broadcast_sub broadcast_mul broadcast_maximum broadcast_minimum broadcast_hypot".split()


class Grower:
    """A graph under way.

    Args:
        draw: of hypothesis.
        infer: gives the shapes of a graph's outputs, None where MXNet refuses it.
        shape: of the input ``data``.
    """

    def __init__(self, draw: Any, infer: Infer, shape: Shape) -> None:
        self.draw = draw
        self.infer = infer
        self.nodes: list[dict[str, Any]] = [{"op": "null", "name": "data", "inputs": []}]
        self.values: list[tuple[int, int, Shape]] = [(0, 0, shape)]
        self.used: list[str] = []

    def text(self, heads: list[tuple[int, int]]) -> str:
        places = [index for index, node in enumerate(self.nodes) if node["op"] == "null"]
        content = {"nodes": self.nodes, "arg_nodes": places, "heads": [[*head, 0] for head in heads]}
        return json.dumps({**content, "attrs": {"mxnet_version": ["int", 10901]}})

    def variable(self, name: str) -> tuple[int, int]:
        self.nodes.append({"op": "null", "name": name, "inputs": []})
        return len(self.nodes) - 1, 0

    def add(self, op: str, *inputs: Any, weights: str = "", outputs: int = 1, **settings: Any) -> bool:
        """Add a node whose further inputs are variables named after it; False where MXNet refuses it."""
        before = len(self.nodes)
        name = f"n{before}"
        refs = [*inputs, *(self.variable(f"{name}_{part}") for part in weights.split())]
        entry = {"op": op, "name": name, "inputs": [[place, index, 0] for place, index, *_ in refs]}
        entry["attrs"] = {key: str(value) for key, value in settings.items() if value is not None}
        self.nodes.append(entry)
        shapes = self.infer(self.text([(len(self.nodes) - 1, index) for index in range(outputs)]))
        small = shapes is not None and all(0 < math.prod(shape) <= 20_000 and len(shape) <= 5 for shape in shapes)
        if shapes is None or not small:
            del self.nodes[before:]
            return False
        self.values += [(len(self.nodes) - 1, index, shape) for index, shape in enumerate(shapes)]
        self.used.append(op)
        return True

    # -- choices ------------------------------------------------------------------------------------------------

    def pick(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def each(self, count: int, low: int, high: int) -> tuple[int, ...]:
        return tuple(self.number(low, high) for _ in range(count))


def convolution(g: Grower, x: Any) -> bool:
    axes = len(x[2]) - 2
    if not 1 <= axes <= 3:
        return False
    groups = g.pick(*(n for n in (1, 2, 3, 4) if x[2][1] % n == 0))
    op = g.pick("Convolution", "Deconvolution")
    stride, bias = g.each(axes, 1, 2), g.pick(None, False, True)
    settings: dict[str, Any] = {"stride": stride, "pad": g.each(axes, 0, 1), "dilate": g.each(axes, 1, 2)}
    kernel = g.each(axes, 1, 3)
    with_bias = (bias is None and op == "Convolution") or bias is False
    if op == "Deconvolution" and g.pick(True, False):
        settings["adj"] = tuple(g.number(0, step - 1) for step in stride)
    settings = {key: value for key, value in settings.items() if key in ("adj", "stride") or g.pick(True, False)}
    filters = groups * g.number(1, 3)
    weights = "weight bias" if with_bias else "weight"
    return g.add(op, x, weights=weights, kernel=kernel, num_filter=filters, num_group=groups, no_bias=bias, **settings)


def dense(g: Grower, x: Any) -> bool:
    flat = g.pick(None, True, False)
    return g.add("FullyConnected", x, weights="weight bias", num_hidden=g.number(1, 6), flatten=flat)


def pooling(g: Grower, x: Any) -> bool:
    axes = len(x[2]) - 2
    if not 1 <= axes <= 3:
        return False
    settings: dict[str, Any] = {"kernel": g.each(axes, 1, 3), "pool_type": g.pick("max", "avg", "sum")}
    if g.pick(True, False, False):
        return g.add("Pooling", x, global_pool=True, **settings)
    settings["pad"] = tuple(g.number(0, min(1, k // 2)) for k in settings["kernel"])
    settings["pooling_convention"] = g.pick("valid", "full") if axes == 2 else "valid"
    counted = g.pick(None, True, False)
    return g.add("Pooling", x, stride=g.each(axes, 1, 2), count_include_pad=counted, **settings)


def norm(g: Grower, x: Any) -> bool:
    kind = g.pick("batch", "layer", "group", "instance", "l2", "lrn")
    if kind == "batch":
        axis = g.number(1, len(x[2]) - 1) if len(x[2]) > 1 else 1
        settings = {"fix_gamma": g.pick(None, True, False), "eps": g.pick(None, 1e-5), "axis": axis}
        return g.add("BatchNorm", x, weights="gamma beta mean var", **settings)
    if kind == "layer":
        return g.add("LayerNorm", x, weights="gamma beta", axis=g.number(-1, len(x[2]) - 1), eps=g.pick(None, 1e-3))
    if kind in ("group", "instance") and math.prod(x[2][2:]) < 2:
        return False  # of one number, a norm leaves rounding times 1 / sqrt(eps)
    if kind == "group" and len(x[2]) > 2:
        divisors = [n for n in (1, 2, 3) if x[2][1] % n == 0]
        return g.add("GroupNorm", x, weights="gamma beta", num_groups=g.pick(*divisors))
    if kind == "instance" and len(x[2]) > 2:
        return g.add("InstanceNorm", x, weights="gamma beta")
    if kind == "l2":
        return len(x[2]) > 2 and g.add("L2Normalization", x, mode=g.pick("instance", "channel", "spatial"))
    return kind == "lrn" and len(x[2]) == 4 and g.add("LRN", x, nsize=g.pick(3, 5), alpha=0.01)


def activation(g: Grower, x: Any) -> bool:
    kind = g.pick("curve", "Activation", "LeakyReLU", "positive", "steps", "clip", "smooth")
    if kind == "curve":
        return g.add(g.pick(*CURVES), x)
    if kind == "Activation":
        return g.add("Activation", x, act_type=g.pick("relu", "sigmoid", "tanh", "softrelu", "softsign"))
    if kind == "LeakyReLU":
        act = g.pick("leaky", "elu", "selu", "gelu", "rrelu", "prelu")
        weights = "gamma" if act == "prelu" else ""
        return g.add("LeakyReLU", x, weights=weights, act_type=act, slope=g.pick(None, 0.1))
    if kind == "positive":
        return (
            g.add("abs", x) and g.add("_plus_scalar", g.values[-1], scalar=1) and g.add(g.pick(*POSITIVE), g.values[-1])
        )
    if kind == "clip":
        return g.add("clip", x, a_min=g.pick(-1, 0), a_max=g.pick(1, 6))
    if kind == "smooth":
        return g.add("smooth_l1", x, scalar=g.pick(None, 2)) if g.pick(True, False) else g.add("hard_sigmoid", x)
    # A jump is only compared where both sides see the very same number.
    return x[0] == 0 and g.add(g.pick(*STEPS), x)


def arithmetic(g: Grower, x: Any) -> bool:
    kind = g.pick("scalar", "binary", "square", "power", "compare", "dot")
    if kind == "scalar":
        return g.add(f"{g.pick(*SCALAR)}_scalar", x, scalar=g.pick(0.5, 2, -1.5))
    if kind == "binary":
        fitting = [value for value in g.values if len(value[2]) == len(x[2])]
        return g.add(g.pick(*BINARY), x, g.pick(*fitting))
    if kind == "square":
        return g.add(g.pick("elemwise_mul", "elemwise_add", "elemwise_sub"), x, x)
    if kind == "power":
        return g.add("_power_scalar", x, scalar=g.pick(2, 3))
    if kind == "compare":
        return x[0] == 0 and g.add(g.pick("_greater_scalar", "_lesser_equal_scalar", "_mod_scalar"), x, scalar=0.5)
    if len(x[2]) == 3:
        turns = g.pick((False, True), (True, False))
        return g.add("batch_dot", x, x, transpose_a=turns[0], transpose_b=turns[1])
    return len(x[2]) == 2 and g.add("dot", x, x, transpose_b=True)


def shape(g: Grower, x: Any) -> bool:
    rank = len(x[2])
    kind = g.pick("reshape", "transpose", "swap", "expand", "flatten", "slice", "axis", "split", "join", "tile", "pad")
    if kind == "reshape":
        codes = g.pick((0, -1), (-3, -2), (0, -2), (-1, 0), (-2, 1), (0, 0, -1), (-4, 1, -1, -2), (-3, -3), (-1,))
        # Read backwards, MXNet takes a code of 1 for an axis that there is, and then loses elements.
        return g.add("Reshape", x, shape=codes, reverse=None if 1 in codes else g.pick(None, True))
    if kind == "transpose":
        return g.add("transpose", x, axes=tuple(g.draw(st.permutations(range(rank)))) if g.pick(True, False) else None)
    if kind == "swap":
        return g.add("SwapAxis", x, dim1=g.number(0, rank - 1), dim2=g.number(0, rank - 1))
    if kind == "expand":
        return rank < 5 and g.add("expand_dims", x, axis=g.number(-1, rank - 1))
    if kind == "flatten":
        return g.add("Flatten", x)
    if kind == "slice":
        begin = tuple(g.pick(None, 0, -1 if length > 1 else 0) for length in x[2])
        return g.add("slice", x, begin=begin, end=tuple(None for _ in begin), step=tuple(g.pick(1, 2) for _ in begin))
    axis = g.number(0, rank - 1)
    if kind == "axis":
        return g.add("slice_axis", x, axis=axis, begin=0, end=g.pick("None", 1))
    if kind == "split":
        parts = g.pick(*(n for n in (1, 2, 3) if x[2][axis] % n == 0))
        return g.add("SliceChannel", x, axis=axis, num_outputs=parts, outputs=parts)
    if kind == "join":
        if g.pick(True, False):
            return g.add("Concat", x, x, dim=axis, num_args=2)
        return rank < 5 and g.add("stack", x, x, axis=axis, num_args=2)
    if kind == "tile":
        op = g.pick("tile", "repeat", "reverse")
        settings = {"tile": {"reps": g.each(rank, 1, 2)}, "repeat": {"repeats": 2, "axis": axis}}
        return g.add(op, x, **settings.get(op, {"axis": axis}))
    widths = (0, 0, 0, 0, *g.each(2 * (rank - 2), 0, 1))
    modes = ("constant", "edge", "reflect") if min(x[2]) > 1 else ("constant", "edge")
    return rank in (4, 5) and g.add("Pad", x, mode=g.pick(*modes), pad_width=widths)


def reduction(g: Grower, x: Any) -> bool:
    axes = tuple(sorted(g.draw(st.sets(st.integers(0, len(x[2]) - 1), min_size=1))))
    op = g.pick("sum", "mean", "max", "min", "prod", "norm")
    settings = {"axis": g.pick(axes, None), "keepdims": g.pick(None, True)}
    exclude = None if op == "norm" or settings["axis"] is None else g.pick(None, True)
    if op == "norm" and len(axes) > 2:
        return False
    return g.add(op, x, exclude=exclude, **settings)


def softmax(g: Grower, x: Any) -> bool:
    axis = g.number(-1, len(x[2]) - 1)
    op = g.pick("softmax", "log_softmax", "softmin", "SoftmaxActivation", "topk", "sort")
    if op == "SoftmaxActivation":
        return g.add(op, x, mode=g.pick("channel", "instance") if len(x[2]) > 2 else None)
    if op == "topk":
        return g.add(op, x, ret_typ="value", k=g.number(1, max(1, x[2][axis])), axis=axis)
    if op == "sort":
        return g.add(op, x, axis=axis, is_ascend=g.pick(None, False))
    return g.add(op, x, axis=axis, temperature=g.pick(None, 2.0))


def image(g: Grower, x: Any) -> bool:
    if len(x[2]) != 4:
        return False
    kind = g.pick("up", "resize", "scaled", "adaptive", "blocks", "space")
    if kind == "up":
        return g.add("UpSampling", x, scale=2, sample_type="nearest", num_args=1)
    if kind == "resize":
        align = g.pick(None, True, False)
        return g.add("_contrib_BilinearResize2D", x, height=g.number(1, 7), width=g.number(1, 7), align_corners=align)
    if kind == "scaled":
        mode = g.pick("odd_scale", "to_even_down", "to_even_up", "to_odd_down", "to_odd_up")
        settings = {"scale_height": 2.0, "scale_width": 1.5} if mode == "odd_scale" else {}
        return min(x[2][2:]) > 1 and g.add("_contrib_BilinearResize2D", x, mode=mode, **settings)
    if kind == "adaptive":
        return g.add("_contrib_AdaptiveAvgPooling2D", x, output_size=g.pick(None, 2, (1, 3)))
    if kind == "blocks":
        return x[2][1] % 4 == 0 and g.add("depth_to_space", x, block_size=2)
    return x[2][2] % 2 == 0 and x[2][3] % 2 == 0 and g.add("space_to_depth", x, block_size=2)


def sequence(g: Grower, x: Any) -> bool:
    if len(x[2]) != 3:
        return False
    kind = g.pick("RNN", "mask", "last", "attention", "linear")
    steps, batch, width = x[2]
    if kind == "RNN":
        mode = g.pick("lstm", "gru", "rnn_tanh", "rnn_relu")
        both, outputs = g.pick(True, False), g.pick(True, False)
        states = "state cell" if mode == "lstm" else "state"
        settings = {"state_size": g.number(1, 3), "num_layers": g.number(1, 2), "bidirectional": both}
        count = (3 if mode == "lstm" else 2) if outputs else 1
        return g.add("RNN", x, weights=f"weight {states}", mode=mode, state_outputs=outputs, outputs=count, **settings)
    if kind == "attention":
        op = "_contrib_interleaved_matmul_selfatt_qk"
        divisors = [heads for heads in (1, 2) if width % (3 * heads) == 0]
        return bool(divisors) and g.add(op, x, heads=g.pick(*divisors))
    if kind == "linear":
        return g.add("_contrib_div_sqrt_dim", x)
    if min(steps, batch) < 3:  # lengths are drawn from 1 to 3
        return False
    if kind == "mask":
        settings = {"axis": g.pick(None, 1), "value": g.pick(None, -2.0)}
        return g.add("SequenceMask", x, weights="lengths", use_sequence_length=True, **settings)
    op = g.pick("SequenceLast", "SequenceReverse")
    return g.add(op, x, weights="lengths", use_sequence_length=True)


FAMILIES = (convolution, dense, pooling, norm, activation, arithmetic, shape, reduction, softmax, image, sequence)


@st.composite
def graphs(draw: Any, infer: Callable[[str, Shape], list[Shape] | None]) -> tuple[str, Shape, list[str]]:
    """(the json, the shape of ``data``, the operators used)."""
    start = draw(
        st.sampled_from([(2, 4, 6, 6), (1, 3, 5, 7), (2, 6, 8), (4, 3, 6), (3, 5), (1, 2, 4, 5, 4), (2, 12, 3, 3)])
    )
    grower = Grower(draw, lambda text: infer(text, start), start)
    for _ in range(draw(st.integers(1, 8))):
        recent = grower.values[-3:]
        draw(st.sampled_from(FAMILIES))(grower, recent[draw(st.integers(0, len(recent) - 1))])
    place, index, _ = grower.values[-1]
    return grower.text([(place, index)]), start, grower.used
