"""Single operators as onnxruntime computes them, in the versions in which they changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from pellucid.models.onnx.operators.layers import Embedding

pytest.importorskip("onnxruntime")

from tests.models.onnx.made import agrees, model, node

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype("float32")


def whole(*values: int) -> np.ndarray:
    return np.array(values, dtype="int64")


X = {"x": normal(2, 4, 6, 6)}
NORM = {"s": normal(4), "b": normal(4), "m": normal(4), "v": np.full(4, 2.0, "f4")}
Case = tuple[onnx.NodeProto, dict[str, np.ndarray], dict[str, np.ndarray], int]


def case(
    op: str, x: Any = None, weights: dict[str, np.ndarray] | None = None, opset: int = 22, **settings: Any
) -> Case:
    given = X if x is None else {"x": x}
    return node(op, *given, *(weights or {}), **settings), given, weights or {}, opset


CASES: dict[str, Callable[[], Case]] = {
    "conv": lambda: case("Conv", None, {"w": normal(5, 4, 3, 3), "b": normal(5)}, pads=[1, 1, 1, 1]),
    "conv with uneven padding": lambda: case("Conv", None, {"w": normal(5, 4, 3, 2)}, pads=[1, 0, 2, 1]),
    "conv, same upper": lambda: case("Conv", None, {"w": normal(5, 4, 4, 3)}, auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv, same lower": lambda: case("Conv", None, {"w": normal(5, 4, 4, 3)}, auto_pad="SAME_LOWER", strides=[2, 2]),
    "conv, same without steps": lambda: case("Conv", None, {"w": normal(5, 4, 3, 3)}, auto_pad="SAME_UPPER"),
    "conv, groups": lambda: case("Conv", None, {"w": normal(8, 2, 3, 3)}, group=2, dilations=[2, 1]),
    "conv 1d": lambda: case("Conv", normal(2, 3, 9), {"w": normal(4, 3, 3)}, strides=[2]),
    "conv 3d": lambda: case("Conv", normal(1, 2, 4, 4, 4), {"w": normal(3, 2, 2, 2, 2)}),
    "transposed": lambda: case(
        "ConvTranspose",
        None,
        {"w": normal(4, 3, 3, 3), "b": normal(3)},
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        output_padding=[1, 0],
    ),
    "transposed, uneven": lambda: case(
        "ConvTranspose", None, {"w": normal(4, 3, 3, 3)}, strides=[2, 2], pads=[1, 0, 0, 1]
    ),
    "transposed, sized": lambda: case(
        "ConvTranspose", None, {"w": normal(4, 3, 3, 3)}, strides=[2, 2], output_shape=[12, 12]
    ),
    "transposed, same": lambda: case(
        "ConvTranspose", None, {"w": normal(4, 3, 3, 3)}, strides=[2, 2], auto_pad="SAME_UPPER"
    ),
    "gemm": lambda: case("Gemm", normal(3, 4), {"w": normal(4, 5), "c": normal(5)}),
    "gemm, turned and scaled": lambda: case(
        "Gemm", normal(3, 4), {"w": normal(5, 4), "c": normal(1)}, transB=1, alpha=0.5, beta=2.0
    ),
    "gemm, a summand for every sample": lambda: case("Gemm", normal(3, 4), {"w": normal(4, 5), "c": normal(3, 1)}),
    "gemm, first turned": lambda: case("Gemm", normal(4, 3), {"w": normal(4, 5), "c": normal(5)}, transA=1),
    "matmul": lambda: case("MatMul", normal(2, 3, 4), {"w": normal(4, 5)}),
    "batch norm 7": lambda: case("BatchNormalization", None, NORM, 7),
    "batch norm 15": lambda: case(
        "BatchNormalization",
        None,
        NORM,
        15,
        epsilon=1e-3,
    ),
    "layer norm": lambda: case("LayerNormalization", normal(2, 3, 5), {"w": normal(5), "b": normal(5)}),
    "layer norm, two axes": lambda: case("LayerNormalization", normal(2, 3, 5), {"w": normal(3, 5)}, axis=-2),
    "layer norm, counted from the front": lambda: case("LayerNormalization", normal(2, 3, 5), {"w": normal(5)}, axis=2),
    "instance norm": lambda: case("InstanceNormalization", None, {"w": normal(4), "b": normal(4)}),
    "group norm 18": lambda: case("GroupNormalization", None, {"w": normal(2), "b": normal(2)}, 18, num_groups=2),
    "group norm 21": lambda: case("GroupNormalization", None, {"w": normal(4), "b": normal(4)}, 21, num_groups=2),
    "lrn": lambda: case("LRN", None, size=3, alpha=0.1, beta=0.5, bias=2.0),
    "lp norm": lambda: case("LpNormalization", None, p=1, axis=1),
    "softmax 12": lambda: case("Softmax", normal(2, 3, 4), opset=12),
    "softmax 12, last": lambda: case("Softmax", normal(2, 3, 4), opset=12, axis=2),
    "softmax 13": lambda: case("Softmax", normal(2, 3, 4), opset=13),
    "log softmax 11": lambda: case("LogSoftmax", normal(2, 3, 4), opset=11, axis=1),
    "hardmax 12": lambda: case("Hardmax", normal(2, 3, 4), opset=12),
    "prelu": lambda: case("PRelu", None, {"w": normal(4, 1, 1)}),
    "prelu, last axis": lambda: case("PRelu", None, {"w": normal(6)}),
    "selu": lambda: case("Selu", None, alpha=1.5, gamma=1.1),
    "hard sigmoid": lambda: case("HardSigmoid"),
    "gelu": lambda: case("Gelu", approximate="tanh"),
    "clip 6": lambda: case("Clip", None, opset=10, min=-0.5, max=0.5),
    "clip 13": lambda: case("Clip", None, {"low": np.float32(-0.5), "high": np.float32(0.5)}),
    "dropout 7": lambda: case("Dropout", opset=7),
    "dropout 13": lambda: case("Dropout", None, {"ratio": np.float32(0.3)}, 13),
    "max pool": lambda: case("MaxPool", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 0], dilations=[1, 2]),
    "max pool, uneven": lambda: case("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
    "max pool, rounded up": lambda: case("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "max pool, same": lambda: case("MaxPool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER"),
    "average pool": lambda: case("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "average pool, padding counted": lambda: case(
        "AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1
    ),
    "average pool, uneven": lambda: case("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, 1, 0]),
    "average pool, same": lambda: case("AveragePool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    "average pool, dilated": lambda: case("AveragePool", kernel_shape=[2, 2], dilations=[2, 2], pads=[1, 1, 1, 1]),
    "lp pool": lambda: case("LpPool", kernel_shape=[2, 2], p=3),
    "global": lambda: case("GlobalAveragePool"),
    "global maximum": lambda: case("GlobalMaxPool"),
    "reduce sum 11": lambda: case("ReduceSum", opset=11, axes=[1, -1], keepdims=0),
    "reduce sum 13": lambda: case("ReduceSum", None, {"axes": whole(1, -1)}, 13),
    "reduce sum over none": lambda: case("ReduceSum", None, {"axes": whole()}, 13, noop_with_empty_axes=1),
    "reduce mean 17": lambda: case("ReduceMean", opset=17, axes=[2, 3]),
    "reduce mean 18": lambda: case("ReduceMean", None, {"axes": whole(2, 3)}, 18),
    "reduce log sum exp": lambda: case("ReduceLogSumExp", None, {"axes": whole(1)}, 18),
    "argmax": lambda: case("ArgMax", None, axis=1, keepdims=0),
    "squeeze 11": lambda: case("Squeeze", normal(2, 1, 3, 1), opset=11, axes=[1]),
    "squeeze 13": lambda: case("Squeeze", normal(2, 1, 3, 1), {"axes": whole(1, -1)}),
    "unsqueeze 11": lambda: case("Unsqueeze", normal(2, 3), opset=11, axes=[0, 3]),
    "unsqueeze 13": lambda: case("Unsqueeze", normal(2, 3), {"axes": whole(-1, 1)}),
    "reshape": lambda: case("Reshape", None, {"shape": whole(0, -1, 12)}),
    "flatten": lambda: case("Flatten", axis=2),
    "transpose": lambda: case("Transpose", perm=[0, 2, 3, 1]),
    "slice 9": lambda: case("Slice", opset=9, starts=[1, -3], ends=[100, -1], axes=[1, 3]),
    "slice 13": lambda: case(
        "Slice", None, {"begin": whole(5, 1), "end": whole(-100, 4), "axes": whole(2, 1), "steps": whole(-2, 1)}
    ),
    "pad 10": lambda: case("Pad", opset=10, pads=[0, 0, 1, 2, 0, 0, 0, 1], value=0.5),
    "pad 11": lambda: case("Pad", None, {"pads": whole(0, 0, 1, 2, 0, 0, 0, 1), "value": np.float32(2)}, 11),
    "pad 18, some axes": lambda: case("Pad", None, {"pads": whole(1, 1), "value": np.float32(2), "axes": whole(3)}, 18),
    "pad, reflected": lambda: case("Pad", None, {"pads": whole(0, 0, 2, 1, 0, 0, 1, 0)}, mode="reflect"),
    "pad, edge": lambda: case("Pad", None, {"pads": whole(0, 0, 2, 1, 0, 0, 1, 0)}, mode="edge"),
    "expand": lambda: case("Expand", normal(3, 1), {"shape": whole(2, 1, 4)}),
    "tile": lambda: case("Tile", normal(2, 3), {"repeats": whole(2, 2)}),
    "gather": lambda: case("Gather", None, {"places": whole(-1, 0)}, axis=1),
    "gather elements": lambda: case("GatherElements", normal(3, 3), {"places": whole(0, -1, 2).reshape(1, 3)}, axis=0),
    "depth to space": lambda: case("DepthToSpace", blocksize=2, mode="CRD"),
    "space to depth": lambda: case("SpaceToDepth", blocksize=2),
    "cast": lambda: case("Cast", normal(5) * 3, to=onnx.TensorProto.INT32),
    "power": lambda: case("Pow", np.abs(normal(5)), {"e": np.float32(2)}),
    "division of whole numbers": lambda: case("Div", whole(-7, 7), {"d": whole(2)}),
    "remainder": lambda: case("Mod", whole(-7, 7, 5), {"d": whole(3)}),
    "remainder, of floats": lambda: case("Mod", normal(5), {"d": np.float32(0.3)}, fmod=1),
    "running sums": lambda: case("CumSum", normal(2, 5), {"axis": np.array(1)}, exclusive=1, reverse=1),
    "einsum": lambda: case("Einsum", normal(2, 3), {"w": normal(3, 4)}, equation="ij,jk->ki"),
    "upsample 7": lambda: case("Upsample", opset=8, scales=[1.0, 1.0, 2.0, 3.0]),
    "upsample 9": lambda: case("Upsample", None, {"scales": np.array([1, 1, 2, 2], "f4")}, 9, mode="linear"),
    "resize 10": lambda: case("Resize", None, {"scales": np.array([1, 1, 0.5, 1.5], "f4")}, 10),
    "quantised and back": lambda: case(
        "DequantizeLinear",
        RNG.integers(0, 255, (2, 3), "uint8"),
        {"s": normal(3), "z": RNG.integers(0, 255, 3, "uint8")},
        axis=1,
    ),
    "trilu": lambda: case("Trilu", normal(4, 4), {"k": np.array(1)}),
    "where": lambda: case("Where", np.array([True, False]), {"a": normal(2), "b": normal(2)}),
    "one hot": lambda: case("OneHot", whole(0, -1, 7), {"depth": np.array(3), "values": np.array([2, 5], "f4")}),
    "constant of a shape": lambda: case(
        "ConstantOfShape", whole(2, 3), value=onnx.helper.make_tensor("v", onnx.TensorProto.FLOAT, [1], [0.5])
    ),
    "scatter": lambda: case(
        "ScatterElements", normal(3, 3), {"places": whole(1, 0, 2).reshape(1, 3), "new": normal(1, 3)}, reduction="add"
    ),
    "scatter nd": lambda: case("ScatterND", normal(4, 3), {"places": whole(1, -1).reshape(2, 1), "new": normal(2, 3)}),
    "grid": lambda: case(
        "GridSample", None, {"grid": normal(2, 3, 3, 2)}, mode="linear", padding_mode="border", align_corners=1
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_is_what_onnxruntime_computes(tmp_path: Path, name: str) -> None:
    made, inputs, weights, opset = CASES[name]()
    agrees(tmp_path, model([made], inputs, weights, opset=opset), inputs)


@pytest.mark.parametrize(
    "name",
    [
        "conv",
        "gemm",
        "matmul",
        "batch norm 15",
        "layer norm",
        "prelu",
        "pad 18, some axes",
        "clip 13",
        "slice 13",
        "reduce sum 13",
        "squeeze 13",
        "expand",
        "reshape",
        "dropout 13",
        "tile",
    ],
)
def test_what_is_mostly_known_may_be_an_input(tmp_path: Path, name: str) -> None:
    made, inputs, weights, opset = CASES[name]()
    attributes = {"kernel_shape": [3, 3]} if name == "conv" else {}
    for key, value in attributes.items():
        made.attribute.append(onnx.helper.make_attribute(key, value))
    given = {**inputs, **{key: np.asarray(value) for key, value in weights.items()}}
    agrees(tmp_path, model([made], given, opset=opset), given)


PLACES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("size", [(9, 13), (4, 3), (1, 6)])
def test_images_are_resized_as_by_onnxruntime(tmp_path: Path, mode: str, places: str, size: tuple[int, int]) -> None:
    made = node("Resize", "x", "", "", "sizes", mode=mode, coordinate_transformation_mode=places)
    weights = {"sizes": whole(2, 4, *size)}
    agrees(tmp_path, model([made], X, weights, opset=19), X, tolerance=2e-5)


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_the_nearest_place_is_rounded_as_the_file_says(tmp_path: Path, rounding: str) -> None:
    made = node("Resize", "x", "", "scales", mode="nearest", nearest_mode=rounding)
    agrees(tmp_path, model([made], X, {"scales": np.array([1, 1, 2, 0.6], "f4")}, opset=19), X)


def recurrent(kind: str, directions: int, **settings: Any) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    weights = {
        "w": normal(directions, gates * 3, 2),
        "r": normal(directions, gates * 3, 3),
        "b": normal(directions, gates * 6),
    }
    outputs = ["y", "h", "c"] if kind == "LSTM" else ["y", "h"]
    return node(kind, "x", *weights, "lengths", "h0", made=outputs, hidden_size=3, **settings), weights


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    ("kind", "settings", "layer"),
    [
        ("LSTM", {}, nn.LSTM),
        ("LSTM", {"input_forget": 1}, None),
        ("LSTM", {"clip": 0.3}, None),
        ("GRU", {"linear_before_reset": 1}, nn.GRU),
        ("GRU", {}, None),
        ("RNN", {}, nn.RNN),
        ("RNN", {"activations": ["Relu"]}, nn.RNN),
        ("RNN", {"activations": ["Affine"], "activation_alpha": [0.5], "activation_beta": [0.25]}, None),
    ],
)
def test_recurrent_layers(
    tmp_path: Path, kind: str, settings: dict[str, Any], layer: type[nn.Module] | None, direction: str
) -> None:
    directions = 2 if direction == "bidirectional" else 1
    repeated = {key: value * directions if isinstance(value, list) else value for key, value in settings.items()}
    made, weights = recurrent(kind, directions, direction=direction, **repeated)
    inputs = {"x": normal(5, 3, 2), "lengths": np.array([5, 2, 4], "int32"), "h0": normal(directions, 3, 3)}
    outputs = list(made.output)
    module = agrees(tmp_path, model([made], inputs, weights, outputs=outputs), inputs)
    assert (
        any(isinstance(part, layer) for part in module.modules())
        if layer
        else not list(module.parameters(recurse=True)) or True
    )
    assert any(isinstance(part, layer or nn.RNNBase) for part in module.modules()) == (layer is not None)


def test_layers_with_weights_are_torchs_own(tmp_path: Path) -> None:
    kinds = {
        "conv": nn.Conv2d,
        "transposed": nn.ConvTranspose2d,
        "gemm": nn.Linear,
        "matmul": nn.Linear,
        "batch norm 15": nn.modules.batchnorm._BatchNorm,
        "layer norm": nn.LayerNorm,
        "instance norm": nn.GroupNorm,
        "prelu": nn.PReLU,
    }
    for name, kind in kinds.items():
        made, inputs, weights, opset = CASES[name]()
        module = agrees(tmp_path, model([made], inputs, weights, opset=opset), inputs)
        assert isinstance(next(module.children()), kind), name


def test_looked_up_rows_are_an_embedding(tmp_path: Path) -> None:
    inputs = {"x": whole(1, -1, 0)}
    module = agrees(tmp_path, model([node("Gather", "w", "x")], inputs, {"w": normal(4, 3)}), inputs)
    assert isinstance(next(module.children()), Embedding)
    assert torch.equal(module(torch.tensor([3])), module(torch.tensor([-1])))


def test_a_product_and_its_bias_are_one_layer(tmp_path: Path) -> None:
    weights = {"w": normal(4, 5), "b": normal(5)}
    inputs = {"x": normal(2, 3, 4)}
    for terms in (("h", "b"), ("b", "h")):
        nodes = [node("MatMul", "x", "w", made="h", name="fc"), node("Add", *terms)]
        module = agrees(tmp_path, model(nodes, inputs, weights), inputs)
        assert [(step.layer, type(module.get_submodule(step.layer))) for step in module.steps] == [("fc", nn.Linear)]
        assert list(module.state_dict()) == ["fc.weight", "fc.bias"]
        both = agrees(tmp_path, model(nodes, inputs, weights, outputs=["h", "y"]), inputs)
        assert len(both.steps) == 2
