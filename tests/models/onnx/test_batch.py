"""Models that were written for one number of samples take any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime")

import onnx
from onnx import helper

import pellucid as pl
from pellucid.errors import InputError
from pellucid.models.onnx.load import build
from tests.models.onnx.made import agrees, model, node, saved

RNG = np.random.default_rng(0)


def whole(*values: int) -> np.ndarray:
    return np.array(values, dtype="int64")


def declared(made: onnx.ModelProto, *shape: int) -> onnx.ModelProto:
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info(made.graph.output[0].name, 1, shape))
    return made


def conv_net(batch: int) -> onnx.ModelProto:
    nodes = [
        node("Conv", "x", "w", made="h", pads=[1, 1, 1, 1]),
        node("Relu", "h", made="a"),
        node("ReduceMean", "a", "axes", made="m"),
        node("Reshape", "m", "shape", made="f"),
        node("Gemm", "f", "v"),
    ]
    weights = {"w": RNG.normal(size=(4, 3, 3, 3)).astype("f4"), "v": RNG.normal(size=(4, 5)).astype("f4")}
    weights |= {"axes": whole(2, 3), "shape": whole(batch, 4)}
    return declared(model(nodes, {"x": np.zeros((batch, 3, 6, 6), "f4")}, weights), batch, 5)


def attention(batch: int) -> onnx.ModelProto:
    """Time before samples, as torch's multi-head attention has it: no rule about reshapes alone is right."""
    nodes = [
        node("Transpose", "x", made="t", perm=[1, 0, 2]),
        node("Reshape", "t", "split", made="s"),
        node("Transpose", "s", made="k", perm=[1, 2, 0]),
        node("Transpose", "s", made="q", perm=[1, 0, 2]),
        node("MatMul", "q", "k", made="e"),
        node("Softmax", "e", made="p"),
        node("MatMul", "p", "q", made="o"),
        node("Reshape", "o", "joined"),
    ]
    weights = {"split": whole(6, batch * 2, 2), "joined": whole(batch, -1, 6)}
    return declared(model(nodes, {"x": np.zeros((batch, 6, 4), "f4")}, weights), batch, 4, 6)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_number_that_is_in_reshapes_alone_is_taken_out(tmp_path: Path, batch: int) -> None:
    inputs = {"x": RNG.normal(size=(batch, 3, 6, 6)).astype("f4")}
    module = agrees(tmp_path, conv_net(batch), inputs)
    assert module.batch is None
    x = torch.from_numpy(inputs["x"])
    assert torch.allclose(module(torch.cat([x, x * 2, x[:1]]))[-1], module(x)[0], atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3])
def test_else_samples_are_run_part_by_part(tmp_path: Path, batch: int) -> None:
    inputs = {"x": RNG.normal(size=(batch, 6, 4)).astype("f4")}
    module = agrees(tmp_path, attention(batch), inputs)
    assert module.batch == batch
    x = torch.from_numpy(inputs["x"])
    assert torch.equal(module(torch.cat([x, x * 2])), torch.cat([module(x), module(x * 2)]))
    if batch > 1:
        with pytest.raises(InputError, match="written for 3 samples at once, but got inputs of the shapes"):
            module(x[:2])


def test_a_declared_number_without_a_trace_is_no_bound(tmp_path: Path) -> None:
    made = declared(model([node("Relu", "x")], {"x": np.zeros((1, 3), "f4")}), 1, 3)
    assert build(saved(tmp_path, made)).batch is None
    free = declared(model([node("Transpose", "x", perm=[1, 0])], {"x": np.zeros((1, 3), "f4")}), 3, 1)
    assert build(saved(tmp_path, free)).batch is None, "its output is not one of samples"


@pytest.mark.parametrize("made", [conv_net(1), attention(1)])
def test_methods_that_look_at_many_variants(tmp_path: Path, made: onnx.ModelProto) -> None:
    module = build(saved(tmp_path, made))
    x = torch.randn(1, *(6, 4) if module.batch else (3, 6, 6), generator=torch.Generator().manual_seed(0))
    target = pl.targets.raw(lambda y: y.flatten(1)[:, 1])
    explanation = pl.explain(module, x, target=target, method="integrated-gradients", dtype="float64")
    assert abs(explanation.ledger.unaccounted) < 1e-3 * explanation.output.abs().max()
    assert explanation.relevance.abs().max() > 0
