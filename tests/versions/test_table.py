"""Everything that is relied on of PyTorch's half-private names is in one module, and in the torch that is installed.

Nodes are bound to Python with their saved fields only when one is first made, so the names are read from the header
that torch installs with itself; what the modules use is read off their source, so that a name which is used without
standing in that module fails too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import Node

import pellucid
from pellucid.engine import private
from pellucid.engine.ops import NODE_OPS, Op

pytestmark = pytest.mark.core

SOURCE = Path(pellucid.__file__).parent
HEADER = Path(torch.__file__).parent / "include" / "torch" / "csrc" / "autograd" / "generated" / "Functions.h"

NOT_GENERATED = {private.ACCUMULATE_GRAD, private.COPY_SLICES, private.COPY_BACKWARDS}
"""Nodes that torch writes by hand."""

OF_OTHER_LIBRARIES = {private.ROI_ALIGN}

_PRIVATE = "engine/private.py"


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


def test_every_node_has_one_operation() -> None:
    names = [node for op in Op for node in op.nodes]
    assert len(names) == len(set(names))
    assert set(private.NODES) == {op.name for op in Op}


def test_every_saved_field_exists() -> None:
    fields = {
        *((node, field) for node, fields in private.OPERANDS.items() for field in fields.values()),
        *private.RESULTS.items(),
        *((node, field) for field, nodes in private.FIELDS.items() for node in nodes),
    }
    assert sorted(f"{node}._saved_{field}" for node, field in fields if field not in generated()[node]) == []
    assert {node for node, _ in fields} | set(private.FACTORS) <= set(NODE_OPS)


@cache
def sources() -> dict[str, ast.Module]:
    """Every module but the one that names what is half-private."""
    paths = {path.relative_to(SOURCE).as_posix(): path for path in SOURCE.rglob("*.py")}
    return {name: ast.parse(paths[name].read_text(encoding="utf-8")) for name in sorted(paths) if name != _PRIVATE}


def texts(tree: ast.Module) -> Iterator[ast.Constant]:
    """Text that runs: no docstrings."""
    idle = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in idle:
            yield node


def spelled(name: str, tree: ast.Module) -> Iterator[str]:
    """What a module spells that only the one module may."""
    stems = _STEMS if name.startswith(_OF_THE_GRAPH) else frozenset()
    for node in texts(tree):
        text = str(node.value)
        if re.search(r"\w+Backward(\d|$)|^_saved_", text) or text in NODE_OPS or text in stems:
            yield f"{name}:{node.lineno}: {text!r}"
    for part in ast.walk(tree):
        if isinstance(part, ast.Attribute) and (part.attr in _REACHED_THERE or part.attr.startswith("_saved_")):
            yield f"{name}:{part.lineno}: .{part.attr}"


_OF_THE_GRAPH = ("engine/", "rules/", "methods/", "composites.py", "flightcheck.py", "testing/")
"""Where a text such as "Softmax" would be the beginning of a node's name."""
_STEMS = frozenset(private.short_name(node) for node in NODE_OPS) - {"T", "Trace", "Zero"}  # names of our own too
_REACHED_THERE = ("_C", "_input_metadata", "_sequence_nr", "_get_sequence_nr", "_version", "_forward_cls")


def test_no_other_module_names_a_node_or_a_saved_field() -> None:
    assert [found for name, tree in sources().items() for found in spelled(name, tree)] == []


@pytest.mark.parametrize(
    "line",
    [
        'name == "MulBackward0"',
        'name.startswith("Split")',
        'getattr(node, "_saved_eps")',
        "node._saved_eps",
        'getattr(node, f"_saved_{name}")',
        'name.startswith("PowBackward")',
        "torch._C._get_mkldnn_enabled()",
        "node._input_metadata",
    ],
)
def test_a_name_that_is_spelled_elsewhere_is_found(line: str) -> None:
    assert len(list(spelled("rules/new.py", ast.parse(line)))) == 1


def test_every_field_that_is_read_by_name_is_named() -> None:
    read = set()
    for _, tree in sources().items():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            if name in ("field", "saved"):
                read |= {
                    part.value
                    for argument in call.args[:2]
                    for part in ast.walk(argument)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                }
    assert sorted(read) == sorted(private.FIELDS)


def test_every_private_attribute_is_named_and_exists() -> None:
    ours: set[str] = set()
    used: dict[str, str] = {}
    for name, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                ours.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                ours.add(node.id)
            elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                    ours.add(node.attr)
                else:
                    used[node.attr] = f"{name}:{node.lineno}"
    named = {attribute for attributes in private.ATTRIBUTES.values() for attribute in attributes}
    assert {place for attribute, place in used.items() if attribute not in ours | named} == set()
    for owner, attributes in private.ATTRIBUTES.items():
        for attribute in attributes:
            assert has(owner, attribute), f"{owner}.{attribute}"


def has(owner: str, attribute: str) -> bool:
    """Whether something in torch, by its dotted name, has an attribute."""
    if owner.startswith("torch._dynamo"):  # slow to load, and so read
        path = Path(torch.__file__).parent.joinpath(*owner.split(".")[1:]).with_suffix(".py")
        return re.search(rf"\b{attribute}\b", path.read_text(encoding="utf-8")) is not None
    found: Any = torch
    for part in owner.split(".")[1:]:
        found = getattr(found, part)
    return hasattr(found() if found is torch.nn.Module else found, attribute)


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
    seen = set(private.OPERANDS) & set(nodes)
    assert len(seen) >= 18
    wrong = [
        f"{name}._saved_{field}"
        for name in sorted(seen)
        for field in private.OPERANDS[name].values()
        if not isinstance(getattr(nodes[name], f"_saved_{field}", None), Tensor)
    ]
    assert wrong == []
    assert sorted(set(nodes) - set(NODE_OPS)) == []


def test_the_interface_of_nodes() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    node = (x * 2).sum(1).grad_fn
    assert node is not None
    assert node.name() == "SumBackward1"
    metadata = private.metadata(node)
    assert tuple(metadata[0].shape) == (3,)
    assert metadata[0].dtype == torch.float32
    assert node.next_functions[0][0].name() == "MulBackward0"
    leaf = node.next_functions[0][0].next_functions[0][0]
    assert leaf.variable is x
    assert private.sequence_number(leaf) == 2**64 - 1
    assert private.next_sequence_number() - 1 == private.sequence_number(node)
    with torch.no_grad():
        assert node(torch.ones(3)).shape == (3, 4)
    assert private.version(x) == 0
    assert isinstance(private.mkldnn_enabled(), bool)
    assert all(read() is not None for read in private.SETTINGS.values())
    assert private.function_class(node) is None
