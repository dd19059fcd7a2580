"""The dialects of ``-symbol.json``, and files that are damaged or made to do harm."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from pellucid.errors import FileError
from pellucid.models.mxnet.load import build
from pellucid.models.mxnet.symbol import parse_symbol, read_symbol
from tests.models.mxnet.fixtures import DATA, relative

pytestmark = pytest.mark.core
FORMATS = DATA / "formats"


@pytest.mark.parametrize("dialect", ["sym_now", "sym_v10_attr", "sym_v08"])
def test_one_network_in_every_dialect(dialect: str) -> None:
    with np.load(FORMATS / "expected.npz") as archive:
        x, expected = torch.from_numpy(archive["sym/data"]), archive[f"{dialect}/out"]
    module = build(FORMATS / f"{dialect}-symbol.json", FORMATS / "sym.params")
    assert module.input_names == ("data",)
    assert relative(module(x), expected) < 1e-6


def test_old_files_get_the_states_that_they_do_not_list() -> None:
    graph = read_symbol(FORMATS / "sym_v08-symbol.json")
    norm = next(node for node in graph.nodes if node.op == "BatchNorm")
    named = [graph.nodes[ref[0]].name for ref in norm.inputs if ref is not None]
    assert named == ["conv", "bn_gamma", "bn_beta", "bn_moving_mean", "bn_moving_var"]
    assert graph.nodes[graph.heads[0][0]].op == "SoftmaxOutput"


def text(*nodes: dict[str, Any], heads: Any = None, **more: Any) -> str:
    return json.dumps({"nodes": list(nodes), "heads": [[len(nodes) - 1, 0, 0]] if heads is None else heads, **more})


def variable(name: str = "data") -> dict[str, Any]:
    return {"op": "null", "name": name, "inputs": []}


def node(op: str, *inputs: Any, **more: Any) -> dict[str, Any]:
    return {"op": op, "name": op.lower(), "inputs": [[place, 0, 0] for place in inputs], **more}


def test_notes_of_users_are_no_settings() -> None:
    entry = node("FullyConnected", 0, param={"num_hidden": "3"}, attr={"ctx_group": "stage1", "num_hidden": "4"})
    graph = parse_symbol(text(variable(), entry), origin="a.json")
    assert graph.nodes[1].attributes == {"num_hidden": "3"}
    later = node("FullyConnected", 0, attrs={"num_hidden": "3"})
    assert parse_symbol(text(variable(), later), origin="a.json").nodes[1].attributes == {"num_hidden": "3"}


def test_an_axis_meant_all_of_them_before_0_9_5() -> None:
    entry = node("argmax", 0, attr={"axis": "-1"})
    old = parse_symbol(text(variable(), entry, attrs={"mxnet_version": ["int", 903]}), origin="a.json")
    new = parse_symbol(text(variable(), entry, attrs={"mxnet_version": ["int", 905]}), origin="a.json")
    assert "axis" not in old.nodes[1].attributes
    assert new.nodes[1].attributes == {"axis": "-1"}


def nested(depth: int) -> dict[str, Any]:
    body = node("_foreach", 0)
    for _ in range(depth):
        body = node("_foreach", 0, subgraphs=[{"nodes": [variable(), body], "heads": [[1, 0, 0]]}])
    return body


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is no JSON"),
        ("{", "is no JSON"),
        ("[1, 2]", "must be an MXNet symbol"),
        ('{"layers": []}', "must be an MXNet symbol"),
        ("[" * 200_000, "nests too deeply"),
        ('{"nodes":' + "[" * 200_000, "nests too deeply"),
        (text(), "missing or empty"),
        (text(variable(), heads=[]), "missing or empty"),
        (json.dumps({"nodes": {}, "heads": [[0, 0]]}), "missing or empty"),
        (text({"name": "a"}), "node 0 must be an object with 'op' and 'name'"),
        (text(variable(), 3), "node 1 must be an object"),
        (text(variable(), node("relu", 5)), r"node 1 \('relu'\) must refer to an output of an earlier node"),
        (text(variable(), node("relu", 1)), "an earlier node"),
        (text(variable(), node("relu", -1)), "an earlier node"),
        (text(variable(), node("relu", True)), "an earlier node"),
        (text(variable(), {"op": "relu", "name": "r", "inputs": [3]}), "an earlier node"),
        (text(variable(), {"op": "relu", "name": "r", "inputs": "data"}), "must list its inputs"),
        (text(variable(), heads=[[7, 0, 0]]), "a head must refer to an output"),
        (text(variable(), node("relu", 0, attrs=[])), None),
        (text(variable(), node("relu", 0, attrs=["a"])), "must hold its settings as an object"),
        (text(variable(), node("relu", 0, attrs={"a": 1})), "the setting 'a' must be text, but is 1"),
        (text(variable(), nested(9)), "loops within loops"),
    ],
)
def test_damaged_files_say_where_and_what(content: str, said: str | None) -> None:
    if said is None:
        assert parse_symbol(content, origin="a.json").nodes[1].attributes == {}
        return
    with pytest.raises(FileError, match=r"a\.json.*" + said):
        parse_symbol(content, origin="a.json")


def test_long_chains_are_no_deep_recursion() -> None:
    chain = [variable(), *(node("relu", place) for place in range(20_000))]
    assert len(parse_symbol(text(*chain), origin="a.json").reached()) == 20_001
