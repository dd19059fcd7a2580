"""Specifications of ONNX models, names, other outputs, and operators that are not known."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("onnxruntime")

import onnx
from onnx import helper

import pellucid as pl
from pellucid.errors import FileError, InputError, MissingDependencyError, ModelError
from pellucid.models import load_model, register_operator
from tests.models.onnx.made import agrees, model, node, saved

X = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
W = np.random.default_rng(1).normal(size=(3, 4)).astype("float32")
NET = model(
    [
        node("MatMul", "x", "w", made="h", name="first"),
        node("Relu", "h", made="a"),
        node("Gemm", "a", "v", name="last"),
    ],
    {"x": X},
    {"w": W, "v": np.ones((4, 2), "f4")},
)


def test_a_bare_file_and_every_wording_of_it(tmp_path: Path) -> None:
    path = saved(tmp_path, NET)
    for spec in (str(path), f"onnx:{path}"):
        loaded = load_model(spec, labels=["no", "yes"])
        assert (loaded.source, loaded.class_names) == (spec, ("no", "yes"))
        assert not any(part.training for part in loaded.module.modules())
    upper = path.rename(tmp_path / "NET.ONNX")
    assert load_model(str(upper)).module.input_names == ("x",)


def test_other_outputs_can_be_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path, NET)
    module = load_model(f"onnx:{path}?outputs=a,last").module
    hidden, logits = module(torch.from_numpy(X))
    assert module.output_names == ("a", "last")
    assert hidden.shape == (2, 4)
    assert torch.equal(logits, load_model(str(path)).module(torch.from_numpy(X)))
    with pytest.raises(InputError, match=r"no value or node 'frist'\. Near ones: first"):
        load_model(f"onnx:{path}?outputs=frist")


def test_layers_bear_the_names_of_the_file_or_of_the_layers_that_were_exported(tmp_path: Path) -> None:
    scopes = "['', 'stem', 'stem.act', 'relu_3']"
    nodes = [
        node("MatMul", "x", "blocks.0.fc.weight", made="h", name="node_linear_7"),
        node("Relu", "h", made="a", name="node_relu_3"),
        node("Abs", "a", made="val_12"),
        node("Neg", "val_12", made="n", name="/head/head.1/act/Neg"),
        node("Exp", "n"),
    ]
    nodes[1].metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    made = model(nodes, {"x": X}, {"blocks.0.fc.weight": W})
    module = load_model(str(saved(tmp_path, made))).module
    named = ["blocks.0.fc", "stem.act.relu_3", "val_12", "head.1.act.Neg", "y"]
    assert [step.layer for step in module.steps] == named
    assert all(module.get_submodule(name) is not None for name in named)


def test_the_type_of_numbers_is_single_unless_all_are_double(tmp_path: Path) -> None:
    for kind, dtype in (("float16", torch.float32), ("float32", torch.float32), ("float64", torch.float64)):
        made = model([node("Gemm", "x", "w")], {"x": (onnx.TensorProto.UNDEFINED, [2, 3])}, {"w": W.astype(kind)})
        module = load_model(str(saved(tmp_path, made))).module
        assert module.y.weight.dtype == dtype
    mixed = model([node("Cast", "x", made="c", to=11), node("MatMul", "c", "w")], {"x": X}, {"w": W.astype("f8")})
    module = load_model(str(saved(tmp_path, mixed))).module
    assert module(torch.from_numpy(X)).dtype == torch.float32
    assert module.double()(torch.from_numpy(X).double()).dtype == torch.float64


def test_all_unknown_operators_are_listed_at_once(tmp_path: Path) -> None:
    body = helper.make_graph([node("Inner", "h", domain="own")], "b", [], [onnx.ValueInfoProto(name="y")])
    nodes = [
        node("Strange", "x", made="g"),
        node("FusedThing", "g", made="h", domain="com.microsoft"),
        node("If", "c", then_branch=body, else_branch=body),
    ]
    domains = [("com.microsoft", 1), ("own", 1)]
    path = saved(tmp_path, model(nodes, {"x": X, "c": np.zeros((), "bool")}, domains=domains))
    with pytest.raises(ModelError) as caught:
        load_model(str(path))
    said = str(caught.value)
    assert "3 operators of this onnx model are not known here" in said
    assert "Strange (g); com.microsoft::FusedThing (h); own::Inner (y, y)" in said
    assert 'register_operator("onnx", "Strange", function)' in said


def scaled_swish(x: Tensor, weight: Tensor, beta: float = 1.0, sizes: tuple[int, ...] = ()) -> Tensor:
    assert sizes == (2, 3)
    return weight * x * torch.sigmoid(beta * x)


def test_users_add_operators_of_their_own(tmp_path: Path) -> None:
    register_operator("onnx", "own::TestSwish", scaled_swish)
    made = model(
        [node("TestSwish", "x", "w", domain="own", beta=2.0, sizes=[2, 3])],
        {"x": X},
        {"w": np.array([3.0], "f4")},
        domains=[("own", 1)],
    )
    module = load_model(str(saved(tmp_path, made))).module
    x = torch.from_numpy(X)
    assert torch.allclose(module(x), 3 * x * torch.sigmoid(2 * x))
    assert [name for name, _ in module.named_parameters()] == ["w"]
    assert pl.explain(module, x, target=1, composite="epsilon", dtype="float64").ledger.closed(1e-9)
    with pytest.raises(InputError, match="known already"):
        register_operator("onnx", "Conv", scaled_swish)


def test_functions_of_the_model_get_their_settings_and_defaults(tmp_path: Path) -> None:
    leaky = node("LeakyRelu", "a", made="b")
    leaky.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    opset = [helper.make_opsetid("", 20)]
    function = helper.make_function("own", "F", ["a", "c"], ["b"], [leaky], opset, ["slope"])
    defaulted = helper.make_function(
        "own", "G", ["a"], ["b"], [leaky], opset, [], [helper.make_attribute("slope", 0.5)]
    )
    nodes = [node("F", "x", domain="own", made="h", slope=0.2), node("G", "h", domain="own")]
    made = model(nodes, {"x": X}, functions=[function, defaulted], domains=[("own", 1)], opset=20)
    module = agrees(tmp_path, made, {"x": X})
    assert [layer.negative_slope for layer in module.children()] == pytest.approx([0.2, 0.5])


def test_branches_and_loops(tmp_path: Path) -> None:
    """What a body takes from around it is an input of the body, or a weight in it."""
    results = [onnx.ValueInfoProto(name="y")]
    then = helper.make_graph([node("MatMul", "x", "w")], "then", [], results)
    otherwise = helper.make_graph([node("Sub", "h", "b")], "else", [], results)
    nodes = [node("MatMul", "x", "w", made="h"), node("ReduceSum", "x", made="s", keepdims=0)]
    nodes += [node("Greater", "s", "b", made="c"), node("If", "c", then_branch=then, else_branch=otherwise)]
    branch = model(
        nodes,
        {"x": X},
        {"w": W, "b": np.float32(0.5)},
    )
    for sign in (1, -1):
        agrees(tmp_path, branch, {"x": sign * np.abs(X)})
    values = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (("i", 7, []), ("c", 9, []), ("v", 1, X.shape))
    ]
    steps = [node("Identity", "c", made="going"), node("Mul", "v", "k", made="w2"), node("Add", "w2", "x", made="seen")]
    outs = [onnx.ValueInfoProto(name=name) for name in ("going", "w2", "seen")]
    body = helper.make_graph(steps, "body", values, outs)
    loop = model(
        [node("Loop", "n", "", "x", made=["y", "all"], body=body)],
        {"x": X},
        {"n": np.array(3), "k": np.float32(2)},
        outputs=["y", "all"],
    )
    module = agrees(tmp_path, loop, {"x": X})
    assert module(torch.from_numpy(X))[1].shape == (3, 2, 3)


def test_old_versions_and_wrong_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"written for version 6 .* 7 and newer"):
        load_model(str(saved(tmp_path, model([node("Relu", "x")], {"x": X}, opset=6))))
    with pytest.raises(FileError, match="cannot be opened"):
        load_model("nowhere.onnx")
    with pytest.raises(InputError, match="'outputs=' is not understood"):
        load_model("onnx:net.onnx?outputs=")


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r"pellucid\[onnx\]"):
        load_model(str(saved(tmp_path, NET)))
