"""Everything that is relied on of PyTorch's half-private names exists in the torch that is installed.

Nodes are bound to Python with their saved fields only when one is first made, so the names are read from the header
that torch installs with itself; what the rules read on top of the table is read off their source, so that a field which
is used without being named here fails too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import Node

import pellucid
from pellucid.engine.ops import NODE_OPS, Op
from pellucid.engine.plan import _LINEAR_OPERANDS
from pellucid.engine.values import OWN, SAVED

pytestmark = pytest.mark.core

SOURCE = Path(pellucid.__file__).parent
HEADER = Path(torch.__file__).parent / "include" / "torch" / "csrc" / "autograd" / "generated" / "Functions.h"

NOT_GENERATED = {
    "torch::autograd::AccumulateGrad",
    "torch::autograd::CopySlices",
    "torch::autograd::CopyBackwards",
}
"""Nodes that torch writes by hand."""

OF_OTHER_LIBRARIES = {"GeneratedBackwardFor_torchvision_roi_align_defaultBackward"}

_ATTENTION = (
    "ScaledDotProductFlashAttentionForCpuBackward0",
    "ScaledDotProductFlashAttentionBackward0",
    "ScaledDotProductEfficientAttentionBackward0",
    "ScaledDotProductCudnnAttentionBackward0",
    "ScaledDotProductFusedAttentionOverrideableBackward0",
)

FIELDS_BY_OP = {
    "eps": ("NativeBatchNormBackward0",),
    "training": ("NativeBatchNormBackward0",),
    "running_mean": ("NativeBatchNormBackward0",),
    "running_var": ("NativeBatchNormBackward0",),
    "result2": ("NativeBatchNormBackward0", "NativeLayerNormBackward0", "NativeGroupNormBackward0"),
    "group": ("NativeGroupNormBackward0",),
    "result1": ("FusedRmsNormBackward0",),
    "result": ("SoftmaxBackward0", "SafeSoftmaxBackward0", "LogSoftmaxBackward0", "LogsumexpBackward0"),
    "output": _ATTENTION,
    "query": _ATTENTION,
    "key": _ATTENTION,
    "value": _ATTENTION,
    "scale": _ATTENTION,
    "is_causal": _ATTENTION,
    "attn_mask": ("ScaledDotProductFlashAttentionForCpuBackward0",),
    "attn_bias": ("ScaledDotProductEfficientAttentionBackward0", "ScaledDotProductCudnnAttentionBackward0"),
    "dropout_p": ("ScaledDotProductFlashAttentionForCpuBackward0",),
    "input": ("ConvolutionBackward0", "LinearBackward0"),
    "other": ("MulBackward0", "DivBackward0"),
    "mat2": ("MmBackward0",),
    "self": ("MmBackward0", "MulBackward0"),
}
"""Field that a rule reads by name -> the nodes that must have it."""


@cache
def generated() -> dict[str, frozenset[str]]:
    """Node -> the saved fields that its struct declares, from the header."""
    if not HEADER.exists():
        pytest.skip("this torch comes without its headers")
    nodes: dict[str, frozenset[str]] = {}
    text = HEADER.read_text()
    for match in re.finditer(
        r"struct TORCH_API (\w+) : public (?:TraceableFunction|Node) \{(.*?)\n\};", text, re.DOTALL
    ):
        members = re.findall(r"^\s+[\w:<>, ]+?[ >]&?(\w+?)_?(?: = [^;]+)?;", match[2], re.MULTILINE)
        nodes[match[1]] = frozenset(members)
    return nodes


def test_the_header_is_read() -> None:
    assert len(generated()) > 300
    assert {"input", "weight", "stride"} <= generated()["ConvolutionBackward0"]


def test_every_node_of_the_table_exists() -> None:
    named = set(NODE_OPS) - NOT_GENERATED - OF_OTHER_LIBRARIES
    assert sorted(named - set(generated())) == []


def test_no_node_is_named_twice() -> None:
    names = [node for op in Op for node in op.nodes]
    assert len(names) == len(set(names))


def test_every_saved_field_of_the_table_exists() -> None:
    missing = [
        f"{node}._saved_{field}"
        for node, fields in SAVED.items()
        for field in fields.values()
        if field not in generated()[node]
    ]
    missing += [f"{node}._saved_{field}" for node, field in OWN.items() if field not in generated()[node]]
    assert missing == []
    assert set(SAVED) | set(OWN) <= set(NODE_OPS)
    assert set(_LINEAR_OPERANDS) <= set(NODE_OPS)


def fields_read() -> Iterator[str]:
    """Every field that some module reads from a node: ``step.field("x")``, ``saved(node, "x")``, ``_saved_x``."""
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        yield from re.findall(r"""["']_saved_(\w+)["']""", text)
        for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if name in ("field", "saved") and call.args:
                yield from (
                    part.value
                    for part in ast.walk(call.args[-1])
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                )


def test_every_field_that_rules_read_is_named_and_exists() -> None:
    read = set(fields_read())
    assert {"result", "training", "eps"} <= read
    assert sorted(read - set(FIELDS_BY_OP)) == []
    missing = [
        f"{node}._saved_{field}"
        for field, nodes in FIELDS_BY_OP.items()
        for node in nodes
        if field not in generated()[node]
    ]
    assert missing == []


def made() -> dict[str, Node]:
    """Nodes that a CPU makes, from small graphs."""
    x = torch.randn(2, 4, 6, requires_grad=True)
    w = torch.randn(6, 6, requires_grad=True)
    image = torch.randn(2, 4, 6, 6, requires_grad=True)
    kernel = torch.randn(4, 4, 3, 3, requires_grad=True)
    scale = torch.randn(4, requires_grad=True)
    last = torch.randn(6, requires_grad=True)
    heads = x.reshape(2, 2, 4, 3)
    outputs: list[Tensor] = [
        F.conv2d(image, kernel),
        torch.addmm(last, x[0], w),
        x[0] @ w,
        torch.bmm(x, x.transpose(1, 2)),
        torch.baddbmm(x, x, w.expand(2, 6, 6)),
        torch.mv(w, last),
        x * last,
        x / last,
        F.batch_norm(image, torch.zeros(4), torch.ones(4), scale, scale),
        F.layer_norm(x, (6,), last, last),
        F.group_norm(image, 2, scale, scale),
        F.gelu(x),
        F.silu(x),
        F.hardswish(x),
        F.hardtanh(x),
        x**2,
        x.logsumexp(1),
        x.softmax(-1),
        x.log_softmax(-1),
        F.max_pool2d(image, 2),
        F.scaled_dot_product_attention(heads, heads, heads),
    ]
    found: dict[str, Node] = {}
    pending = [output.grad_fn for output in outputs if output.grad_fn is not None]
    while pending:
        node = pending.pop()
        if node.name() not in found:
            found[node.name()] = node
            pending.extend(child for child, _ in node.next_functions if child is not None)
    return found


def test_nodes_that_are_made_hold_what_the_table_says() -> None:
    nodes = made()
    seen = set(SAVED) & set(nodes)
    assert len(seen) >= 18
    wrong = [
        f"{name}._saved_{field}"
        for name in sorted(seen)
        for field in SAVED[name].values()
        if not isinstance(getattr(nodes[name], f"_saved_{field}", None), Tensor)
    ]
    assert wrong == []
    assert sorted(set(nodes) - set(NODE_OPS)) == []


def test_the_interface_of_nodes() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    node = (x * 2).sum(1).grad_fn
    assert node is not None
    assert node.name() == "SumBackward1"
    metadata = node._input_metadata
    assert tuple(metadata[0].shape) == (3,)
    assert metadata[0].dtype == torch.float32
    assert node.next_functions[0][0].name() == "MulBackward0"
    leaf = node.next_functions[0][0].next_functions[0][0]
    assert leaf.variable is x
    assert leaf._sequence_nr() == 2**64 - 1
    assert torch._C._autograd._get_sequence_nr() - 1 == node._sequence_nr()
    with torch.no_grad():
        assert node(torch.ones(3)).shape == (3, 4)
    assert isinstance(torch._C._get_mkldnn_enabled(), bool)
