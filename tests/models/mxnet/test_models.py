"""Whole models as real MXNet computes them: outputs, gradients, and explanations whose ledger closes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.models.graph.module import GraphModule
from pellucid.targets import raw
from tests.models.mxnet.fixtures import MODELS, io, meta, relative, symbol

pytestmark = pytest.mark.core
WITH_GRADIENT = [name for name in MODELS if any(key.startswith("grad_") for key in io(name))]


def load(name: str, outputs: str = "") -> GraphModule:
    return pl.load_model(f"mxnet:{symbol(name)}" + (f"?outputs={outputs}" if outputs else "")).module


def inputs(module: GraphModule, name: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.from_numpy(io(name)[key]).to(dtype) for key in module.input_names]


def run(module: nn.Module, *x: Tensor) -> tuple[Tensor, ...]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN")
        made = module(*x)
    return made if isinstance(made, tuple) else (made,)


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_those_of_mxnet(name: str) -> None:
    module = load(name)
    with torch.no_grad():
        made = run(module, *inputs(module, name))
    assert not module.training
    assert len(made) == len([key for key in io(name) if key.startswith("out_")])
    for index, output in enumerate(made):
        assert relative(output, io(name)[f"out_{index}"]) < 2e-5


@pytest.mark.parametrize("name", WITH_GRADIENT)
def test_gradients_are_those_of_mxnet(name: str) -> None:
    """In float64, so that no ReLU sits on another side of its kink than in the reference."""
    module = load(name, meta(name).get("logits", "")).double()
    wanted = next(key for key in io(name) if key.startswith("grad_")).removeprefix("grad_")
    x = [value.requires_grad_() for value in inputs(module, name, torch.float64)]
    looked_up: list[Tensor] = []
    if wanted not in module.input_names:
        module.get_submodule(wanted).register_forward_hook(lambda _, __, output: looked_up.append(output))
    logits = run(module, *x)[0].flatten(1)
    top = torch.from_numpy(io(name)["top"]).long().reshape(-1, 1)
    source = looked_up[0] if looked_up else x[module.input_names.index(wanted)]
    (gradient,) = torch.autograd.grad(logits.gather(1, top).sum(), source)
    exact = "float64" in meta(name).get("grad_dtype", "")
    assert relative(gradient, io(name)[f"grad_{wanted}"]) < (1e-6 if exact else 1e-5)


@pytest.mark.parametrize("composite", ["epsilon", None])
@pytest.mark.parametrize("name", MODELS)
def test_explanations_account_for_every_part_of_the_output(name: str, composite: str | None) -> None:
    module = load(name, load(name).output_names[0])
    text = name.startswith(("text", "bert"))
    x = {
        key: value.long() if text else value
        for key, value in zip(module.input_names, inputs(module, name), strict=True)
    }
    target = {"seg_tiny": raw(lambda y: y.flatten(1)[:, 0]), "lstm_states": raw(lambda y: y[-1].sum(1))}.get(name)
    if name == "lstm_states":  # its states have layers, not samples, on their first axis
        pytest.skip("the first axis of its inputs is no axis of samples")
    explanation = pl.explain(
        module,
        x if len(x) > 1 else next(iter(x.values())),
        target=target,
        composite=composite,
        dtype="float64",
        inputs=[module.input_names[0]] if len(x) > 1 else None,
    )
    assert explanation.ledger.closed(1e-8), explanation.ledger
    reached = explanation.relevance[module.input_names[0]] if len(x) > 1 else explanation.relevance
    assert torch.isfinite(reached).all()
    assert (reached != 0).any()


@pytest.mark.parametrize(("name", "layer"), [("symbol_cnn", "fc2"), ("np_cnn", "np_dense1_fwd")])
def test_a_model_that_ends_in_a_softmax_is_explained_from_its_logits(name: str, layer: str) -> None:
    x = torch.from_numpy(io(name)["data"])
    explanation = pl.explain(load(name), x, target=3, composite="epsilon")
    assert relative(explanation.output, load(name, layer)(x)[:, 3].detach()) < 2e-5
    assert any("logits" in warning for warning in explanation.warnings)


def test_gates_are_seen_in_fused_and_unrolled_layers() -> None:
    """A fused layer hides nothing: the relevance of its steps adds up to the output, less what the ledger names."""
    for name in ("text_lstm_bi", "text_lstm_cell"):
        module = load(name)
        tokens = torch.from_numpy(io(name)["data"]).long()
        explanation = pl.explain(module, tokens, composite="epsilon", dtype="float64")
        assert explanation.relevance.shape[:2] == tokens.shape
        assert explanation.ledger.inputs == pytest.approx(float(explanation.relevance.sum()), rel=1e-9)


def test_class_activation_can_be_read_at_every_node() -> None:
    """Hooks at a node by its name, as Grad-CAM sets them, see what MXNet saw there."""
    name = "resnet18_v1"
    module = load(name).double()
    kept: list[Tensor] = []
    module.get_submodule(meta(name)["cam_layer"]).register_forward_hook(lambda _, __, output: kept.append(output))
    logits = module(torch.from_numpy(io(name)["data"]).double())
    top = torch.from_numpy(io(name)["top"]).long().reshape(-1, 1)
    (gradient,) = torch.autograd.grad(logits.gather(1, top).sum(), kept[0])
    assert relative(kept[0], io(name)["cam_act"]) < 2e-5
    assert relative(gradient, io(name)["cam_grad"]) < 1e-6


def test_the_fixtures_are_small() -> None:
    folder = symbol("digits_mlp").parents[2]
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 5_000_000
    assert all(np.isfinite(value).all() for name in MODELS for value in io(name).values())
