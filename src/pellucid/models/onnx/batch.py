"""Models that were written for one number of samples, which is then part of their shapes.

Methods look at many variants of a sample at once, so such models must take any number. Where the only trace of the
number is the first length of reshapes, it is taken out; else the module runs its samples part by part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pellucid.models.graph.nodes import Graph, Node
from pellucid.models.onnx.flow import Flow

FREE = "free"
"""The setting of a reshape that says that its first length follows from the input."""
SAMPLE_BY_SAMPLE = frozenset(
    "Abs Add AveragePool BatchNormalization Cast Ceil Celu Clip Conv ConvTranspose Cos DepthToSpace Div Dropout Elu "
    "Erf Exp Floor Gelu GlobalAveragePool GlobalLpPool GlobalMaxPool GroupNormalization HardSigmoid HardSwish "
    "Identity InstanceNormalization LRN LeakyRelu Log LpPool Max MaxPool Mean Min Mish Mul Neg PRelu Pow Reciprocal "
    "Relu Selu Sigmoid Sin Softplus Softsign SpaceToDepth Sqrt Sub Sum Swish Tanh ThresholdedRelu Upsample".split()
)
"""Operators that never mix what lies along the first axis, whatever their settings."""
AXES = {"ReduceMean": 1, "ReduceSum": 1, "ReduceMax": 1, "ReduceMin": 1, "ReduceL2": 1, "Squeeze": 1, "Unsqueeze": 1}
"""Operators that take axes as a setting or as this input."""
AXIS = {"Concat": 1, "Split": 0, "Gather": 0, "Softmax": 1, "LogSoftmax": 1, "LayerNormalization": -1}
"""Operators with one axis, and the one that is meant where nothing is said."""


def fixed_batch(model: Any) -> int | None:
    """The one number of samples that all inputs and outputs of a ``ModelProto`` are declared with, if there is one."""
    weights = {proto.name for proto in model.graph.initializer}
    values = [value for value in (*model.graph.input, *model.graph.output) if value.name not in weights]
    found = set()
    for value in values:
        dims = value.type.tensor_type.shape.dim
        found.add(dims[0].dim_value if dims and dims[0].HasField("dim_value") else 0)
    number = found.pop() if len(found) == 1 else 0
    return number or None


def freed(graph: Graph, tensors: Mapping[str, Tensor], batch: int) -> Graph | None:
    """The graph with the number of samples taken out of its reshapes; None where it may lie elsewhere too.

    Args:
        graph: the main graph.
        tensors: its weights.
        batch: the number.
    """
    pass_ = _Pass(graph, tensors, batch)
    nodes = list(graph.nodes)
    for place in sorted(graph.reached() & pass_.live):
        node = nodes[place]
        if node.op and not pass_.independent(node):
            if node.op != "Reshape":
                return None
            first = pass_.first_length(node)
            if first is None:
                return None
            nodes[place] = dataclasses.replace(node, attributes={**node.attributes, FREE: first})
    return dataclasses.replace(graph, nodes=tuple(nodes))


class _Pass(Flow):
    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor], batch: int) -> None:
        super().__init__(graph, tensors)
        self.batch = batch

    def independent(self, node: Node) -> bool:
        """Whether a node leaves the samples along the first axis apart, as many as there are."""
        others = [ref for ref in node.inputs if ref is not None and not self.is_live(ref)]
        if node.op in SAMPLE_BY_SAMPLE:
            return True
        if node.op in ("MatMul", "Gemm"):
            return self.is_live(node.inputs[0]) and not node.attributes.get("transA", 0)
        if node.op == "Flatten":
            return bool(node.attributes.get("axis", 1) == 1)
        if node.op == "Transpose":
            return tuple(node.attributes.get("perm", ()))[:1] == (0,)
        if node.op in AXES:
            axes = self._axes(node, AXES[node.op])
            last = axes is not None and node.op.startswith("Reduce") and -1 in axes  # then -2 is no first axis either
            return axes is not None and all(axis > 0 or (last and axis in (-1, -2)) for axis in axes)
        if node.op in AXIS:
            axis = node.attributes.get("axis", AXIS[node.op])
            whole = node.op in ("Softmax", "LogSoftmax", "LayerNormalization")
            return bool(axis > 0 or (whole and axis == -1)) and not (node.op == "Concat" and others)
        return False

    def _axes(self, node: Node, place: int) -> list[int] | None:
        if "axes" in node.attributes:
            return list(node.attributes["axes"])
        found = self.known(node.inputs[place]) if place < len(node.inputs) else None
        return None if found is None or not found.numel() else [int(axis) for axis in found.reshape(-1).tolist()]

    def first_length(self, node: Node) -> int | None:
        """What the first length of a reshape becomes: -1, or 0 for that of its input; None if neither would do."""
        shape = self.known(node.inputs[1]) if len(node.inputs) > 1 else None
        if shape is None or node.attributes.get("allowzero", 0) or not shape.numel():
            return None
        lengths = [int(length) for length in shape.tolist()]
        if lengths[0] in (0, -1):
            return lengths[0]
        if lengths[0] % self.batch:
            return None
        if -1 not in lengths:
            return -1
        return 0 if lengths[0] == self.batch else None
