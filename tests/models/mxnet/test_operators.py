"""Single operators as real MXNet computes them: outputs and gradients, weights known or live."""

from __future__ import annotations

import json
from functools import cache

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pellucid.errors import FileError, ModelError
from pellucid.models.graph.assembly import assemble
from pellucid.models.graph.module import GraphModule
from pellucid.models.mxnet.heads import labels_of_losses
from pellucid.models.mxnet.symbol import parse_symbol
from pellucid.models.mxnet.table import OPERATORS
from tests.models.mxnet.fixtures import DATA, relative

pytestmark = pytest.mark.core
CASES = json.loads((DATA / "ops" / "cases.json").read_text())
ELSEWHERE = {"multibox_det"}  # post-processing, which is cut: see test_heads
SIGNALS = {"data", "b", "c", "i", "l", "len", "r", "th", "a", "s", "kv", "h", "offset", "loc", "an", "label"}
FIXED = ("rnn_", "layernorm", "instancenorm", "deconv_target", "up_bilinear")
"""Operators whose weights must be in the file."""


@cache
def tensors() -> dict[str, Tensor]:
    return load_file(DATA / "ops" / "cases.safetensors")


def build(case: str, known: dict[str, Tensor]) -> GraphModule:
    graph = parse_symbol(json.dumps(CASES[case]["symbol"]), origin=case)
    return assemble(graph, dict(known), OPERATORS, kind="mxnet", ignored=labels_of_losses(graph, known)).eval()


def compare(case: str, known: set[str]) -> None:
    given = {name: tensors()[f"{case}/in/{name}"].clone() for name in CASES[case]["inputs"]}
    states = {name: tensors()[f"{case}/aux/{name}"] for name in CASES[case]["aux"]}
    module = build(case, {**{name: given[name] for name in known}, **states})
    x = [given[name].requires_grad_(name in CASES[case]["grads"]) for name in module.input_names]
    made = module(*x)
    outputs = made if isinstance(made, tuple) else (made,)
    for index, output in enumerate(outputs):
        assert relative(output, tensors()[f"{case}/out/{index}"]) < 2e-6
    differentiable = [k for k, output in enumerate(outputs) if output.requires_grad]
    wanted = [value for value in x if value.requires_grad]
    if not wanted or not differentiable:
        return
    total = sum((outputs[k] * tensors()[f"{case}/cot/{k}"]).sum() for k in differentiable)
    gradients = torch.autograd.grad(total, wanted, materialize_grads=True)
    names = [name for name in module.input_names if name in CASES[case]["grads"]]
    for name, gradient in zip(names, gradients, strict=True):
        assert relative(gradient, tensors()[f"{case}/grad/{name}"]) < 5e-6, name


@pytest.mark.parametrize("case", [case for case in CASES if case not in ELSEWHERE])
def test_an_operator_is_what_mxnet_computes(case: str) -> None:
    compare(case, {name for name in CASES[case]["inputs"] if name not in SIGNALS})


WEIGHTED = [
    case
    for case, content in CASES.items()
    if case not in ELSEWHERE and set(content["inputs"]) - SIGNALS and not case.startswith(FIXED)
]


@pytest.mark.parametrize("case", WEIGHTED)
def test_weights_may_be_inputs_of_the_graph(case: str) -> None:
    compare(case, set())


@pytest.mark.parametrize("case", ["rnn_gru_1l_1d", "layernorm", "up_bilinear"])
def test_an_operator_that_needs_known_weights_says_so(case: str) -> None:
    states = {name: tensors()[f"{case}/aux/{name}"] for name in CASES[case]["aux"]}
    with pytest.raises((FileError, ModelError), match="in the file"):
        build(case, states)


@pytest.mark.parametrize(("case", "expected"), [("rnn_lstm_2l_2d", 8), ("rnn_gru_2l_1d", 4), ("rnn_rnn_relu_1l_2d", 4)])
def test_the_gradient_of_a_packed_vector_is_that_of_its_parts(case: str, expected: int) -> None:
    """MXNet packs weights layer by layer and biases behind them; the gradient of the vector has that order too."""
    given = {name: tensors()[f"{case}/in/{name}"] for name in CASES[case]["inputs"]}
    module = build(case, {"p": given["p"]})
    outputs = module(*(given[name] for name in module.input_names))
    total = sum((output * tensors()[f"{case}/cot/{k}"]).sum() for k, output in enumerate(outputs))
    total.backward()
    parameters = dict(module.named_parameters())
    weights = [value.grad.flatten() for name, value in parameters.items() if "weight" in name]
    biases = [value.grad.flatten() for name, value in parameters.items() if "bias" in name]
    assert len(weights) == expected
    assert relative(torch.cat([*weights, *biases]), tensors()[f"{case}/grad/p"]) < 5e-6
