"""Small ONNX models made on the spot, and what onnxruntime computes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from pellucid.models.graph.module import GraphModule
from pellucid.models.onnx.load import build

LATEST = 22  # a version of the operators that onnxruntime knows in full
KINDS = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "bool": TensorProto.BOOL,
}


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Any],
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    outputs: Sequence[str] = ("y",),
    opset: int = LATEST,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[tuple[str, int]] = (),
) -> onnx.ModelProto:
    """A model whose inputs have the types and shapes of arrays, or are ``(type, shape)``."""
    given = []
    for name, value in inputs.items():
        kind, shape = (KINDS[str(value.dtype)], value.shape) if isinstance(value, np.ndarray) else value
        given.append(helper.make_tensor_value_info(name, kind, shape))
    graph = helper.make_graph(
        list(nodes),
        "made",
        given,
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(*domain) for domain in domains)]
    made = helper.make_model(graph, opset_imports=imports, functions=list(functions))
    made.ir_version = 10
    return made


def node(op: str, *inputs: str, made: str | Sequence[str] = "y", **settings: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), [made] if isinstance(made, str) else list(made), **settings)


def saved(folder: Path, made: onnx.ModelProto, name: str = "net.onnx") -> Path:
    path = folder / name
    path.write_bytes(made.SerializeToString())
    return path


def reference(path: Path, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """onnxruntime's outputs, its rewriting of the graph switched off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(inputs))


def run(module: nn.Module, *x: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        made = module(*x)
    return made if isinstance(made, tuple) else (made,)


def distance(found: Tensor, expected: np.ndarray) -> float:
    """The largest difference over the largest expected value; infinite where shapes or places of NaN differ."""
    wanted = torch.as_tensor(expected)
    if found.shape != wanted.shape or not torch.equal(found.isnan(), wanted.isnan()):
        return float("inf")
    if not wanted.numel():
        return 0.0
    found, wanted = found.double().nan_to_num(), wanted.double().nan_to_num()
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6))


def agrees(
    folder: Path, made: onnx.ModelProto, inputs: Mapping[str, np.ndarray], tolerance: float = 1e-5
) -> GraphModule:
    """Load the model, compare all outputs with onnxruntime's, and return it."""
    path = saved(folder, made)
    expected = reference(path, inputs)
    module = build(path)
    found = run(module, *(torch.from_numpy(inputs[name.removesuffix("_")].copy()) for name in module.input_names))
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert distance(mine, theirs) <= tolerance
    return module
