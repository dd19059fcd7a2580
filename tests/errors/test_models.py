"""Models that cannot be explained as they are: refused with the module named and what to do, or the loss is booked."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import pellucid as pl
from pellucid.engine.registry import overlay, register, unregister
from pellucid.errors import ModelError, PellucidError, UnknownOpError
from pellucid.rules.structural import native
from pellucid.testing import check_restores, check_rule
from tests.trace.models import Made, dense, numbers, seeded

pytestmark = pytest.mark.core

X = numbers(4, 6)


def refused(model: nn.Module, x: Any, expected: type[PellucidError], text: str, **settings: Any) -> None:
    with pytest.raises(expected, match=text) as caught:
        check_restores(model, x, lambda: pl.explain(model, x, target=0, **settings))
    assert type(caught.value) is expected
    assert "\n\n" not in str(caught.value)


class Layers(nn.Module):
    """A dense layer inside `inner`, whose forward is the function given."""

    class Inner(nn.Module):
        def __init__(self, function: Callable[..., Tensor]) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6)
            self.function = function

        def forward(self, x: Tensor) -> Tensor:
            return self.function(self.layer, x)

    def __init__(self, function: Callable[..., Tensor], *, beside: bool = False) -> None:
        super().__init__()
        self.inner = Layers.Inner(function)
        self.head = nn.Linear(6, 3)
        self.beside = beside

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x)
        return self.head(h + x if self.beside else h)


def without_grad(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return layer(x)


CUTS = {
    "no_grad": without_grad,
    "detach": lambda layer, x: layer(x).detach(),
    "detach before": lambda layer, x: layer(x.detach()),
    "data": lambda layer, x: layer(x).data * 1,
    "numpy": lambda layer, x: torch.from_numpy(layer(x).detach().numpy()),
}


@pytest.mark.parametrize("cut", CUTS)
def test_every_path_is_cut(cut: str) -> None:
    model = seeded(lambda: Layers(CUTS[cut]))
    text = r"No explained input reaches the explained scalar: \['x'\] have no live path to it"
    if cut != "numpy":
        text += r"\. The gradient is cut by detach or no_grad in: inner"
    refused(model, X, ModelError, text)


@pytest.mark.parametrize("cut", [name for name in CUTS if name != "numpy"])
def test_some_paths_are_cut(cut: str) -> None:
    model = seeded(lambda: Layers(CUTS[cut], beside=True))
    result = pl.explain(model, X, target=0)
    assert result.ledger is not None
    assert result.ledger.closed(1e-5)
    assert abs(result.ledger.amounts["constant" if "before" not in cut else "bias"]) > 0
    assert len(result.warnings) == 1
    assert result.warnings[0].startswith("detach or no_grad cuts part of the paths from the input in: inner")
    assert any("inner" in warning for warning in pl.check(model, X, target=0).warnings)


def test_no_live_source() -> None:
    two = Made(lambda self, a, b: self.layer(a), layer=nn.Linear(6, 3)).eval()
    refused(two, (X, X), ModelError, r"No explained input reaches the explained scalar: \['1'\]", inputs=1)
    ids = Made(lambda self, t: F.one_hot(t, 6).float().mean(1) @ self.layer.weight.T, layer=nn.Linear(6, 3)).eval()
    words = torch.randint(0, 6, (4, 5), generator=torch.Generator().manual_seed(0))
    refused(ids, words, ModelError, "Integer inputs are explained where they are looked up in an embedding")


def test_the_output_is_not_finite() -> None:
    model = Made(lambda self, x: self.layer(x) / 0, layer=nn.Linear(6, 3)).eval()
    with pytest.raises(PellucidError, match="NaN"):
        check_restores(model, X, lambda: pl.explain(model, X, target=0))


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
def test_parameters_that_are_not_finite(bad: str) -> None:
    model = dense()
    pl.explain(model, X, target=0)
    with torch.no_grad():
        model[2].bias[1] = float(bad)
    refused(model, X, ModelError, r"The parameter '2.bias' of Sequential holds 1 values that are NaN or infinite, of 3")
    with torch.no_grad():
        model[2].bias[1] = 0
    pl.explain(model, X, target=0)


TRAINING: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "dropout": (lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3)), r"'1' \(Dropout\)"),
    "batch norm": (lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)), r"'1' \(BatchNorm1d\)"),
    "lstm": (
        lambda: Made(lambda s, x: s.net(x[:, None])[0][:, -1], net=nn.LSTM(6, 3, 2, dropout=0.1)),
        r"'net' \(LSTM\)",
    ),
    "attention": (
        lambda: Made(
            lambda s, x: s.net(x[:, None], x[:, None], x[:, None])[0][:, 0], net=nn.MultiheadAttention(6, 2, 0.1)
        ),
        r"'net' \(MultiheadAttention\)",
    ),
    "functional": (
        lambda: Made(lambda s, x: s.net(F.dropout(x, 0.5, s.training)), net=nn.Linear(6, 3)),
        r"'\(the model itself\)' is in training mode and the forward draws random numbers",
    ),
}


@pytest.mark.parametrize("kind", TRAINING)
def test_training_mode(kind: str) -> None:
    build, text = TRAINING[kind]
    model = build().train()
    refused(model, X, ModelError, f"{text}.*Call model.eval")
    assert pl.explain(model.eval(), X, target=0).relevance.shape == X.shape


def test_training_mode_of_one_part_only() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3)).eval()
    model[1].train()
    refused(model, X, ModelError, r"The module '1' \(Dropout\) is in training mode")


def test_training_mode_without_anything_random_is_fine() -> None:
    model = dense().train()
    assert torch.equal(pl.explain(model, X, target=0).relevance, pl.explain(dense(), X, target=0).relevance)
    assert model.training
    harmless = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.0)).train()
    assert pl.explain(harmless, X, target=0).relevance.shape == X.shape


class Unheard(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 2


def test_an_unknown_function_is_named_with_its_module_and_can_be_registered() -> None:
    model = seeded(lambda: Layers(lambda layer, x: Unheard.apply(layer(x))))
    text = (
        r"No rule for 1 operation\(s\) on a live path: UnheardBackward in module 'inner'\. A plain gradient there "
        r"would be silently wrong\. Register one: pellucid\.engine\.registry\.register\('UnheardBackward', rule\)"
    )
    refused(model, X, UnknownOpError, text)
    check = pl.check(model, X, target=0)
    assert [(item.name, item.module) for item in check.unknown] == [("UnheardBackward", "inner")]
    assert not check.ok
    assert "unknown: UnheardBackward in module 'inner'" in str(check)

    with overlay({"UnheardBackward": native}):
        result = pl.explain(model, X, target=0)
        assert result.ledger is not None
        assert result.ledger.closed(1e-5)
        assert pl.check(model, X, target=0).ok
    refused(model, X, UnknownOpError, "UnheardBackward")

    register("UnheardBackward", native)
    try:
        assert torch.equal(pl.explain(model, X, target=0).relevance, result.relevance)
        with pytest.raises(ValueError, match="UnheardBackward has a rule already"):
            register("UnheardBackward", native)
    finally:
        unregister("UnheardBackward")


def test_a_function_is_registered_by_its_class() -> None:
    model = seeded(lambda: Layers(lambda layer, x: Unheard.apply(layer(x))))
    with overlay({"UnheardBackward": native}):
        expected = pl.explain(model, X, target=0).relevance
    with overlay({Unheard: native}):
        assert torch.equal(pl.explain(model, X, target=0).relevance, expected)
    refused(model, X, UnknownOpError, "UnheardBackward")
    register(Unheard, native)
    try:
        assert torch.equal(pl.explain(model, X, target=0).relevance, expected)
        with pytest.raises(ValueError, match=r"test_models\.Unheard has a rule already"):
            register(Unheard, native)
    finally:
        unregister(Unheard)
    assert check_rule(native, model, X, at=Unheard) == 1
    refused(model, X, UnknownOpError, "UnheardBackward")


@pytest.mark.parametrize("key", [nn.Linear, 3, None])
def test_what_is_no_operation_gets_no_rule(key: Any) -> None:
    with pytest.raises(TypeError, match=r"Expected an Op, a class of torch\.autograd\.Function or the name of an"):
        register(key, native)


def test_an_unknown_operation_of_torch() -> None:
    def invert(layer: nn.Module, x: Tensor) -> Tensor:
        return torch.linalg.inv(torch.diag_embed(layer(x)) + 9 * torch.eye(6)).sum(1)

    refused(seeded(lambda: Layers(invert)), X, UnknownOpError, r"LinalgInvExBackward0 in module 'inner'")


def test_an_operation_that_is_unknown_but_carries_nothing_is_no_matter() -> None:
    def beside(layer: nn.Module, x: Tensor) -> Tensor:
        return layer(x) + torch.linalg.inv(layer.weight + 9 * torch.eye(6)).sum(0)

    result = pl.explain(seeded(lambda: Layers(beside)), X, target=0)
    assert result.ledger is not None
    assert result.ledger.closed(1e-5)


@pytest.mark.parametrize("name", ["sigmoid_", "tanh_", "exp_", "relu_", "clamp_"])
def test_a_function_in_place_through_a_view(name: str) -> None:
    def write(layer: nn.Module, x: Tensor) -> Tensor:
        h = layer(x)
        part = h[:, 1:]
        _ = part.clamp_(0, 1) if name == "clamp_" else getattr(part, name)()
        return h

    hidden = f"({name}|an operation that was not seen)"
    text = rf"CopySlices in module 'inner' hides {hidden}, written in place through a view.*with torch\.cat or "
    refused(seeded(lambda: Layers(write)), X, UnknownOpError, text)


def test_reentrant_checkpoints() -> None:
    model = seeded(lambda: Layers(lambda layer, x: checkpoint(layer, x, use_reentrant=True)))
    refused(model, X, ModelError, r"The module 'inner' is checkpointed with use_reentrant=True.*use_reentrant=False")
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not pl.check(model, X, target=0).ok


def test_a_recurrent_kernel_called_by_hand() -> None:
    weights = nn.ParameterList([parameter.detach() for parameter in nn.LSTM(6, 3).parameters()])

    def forward(self: Any, x: Tensor) -> Tensor:
        state = (torch.zeros(1, 4, 3), torch.zeros(1, 4, 3))
        return torch._VF.lstm(x[None], state, list(self.weights), True, 1, 0.0, False, False, False)[0][0]

    refused(
        Made(forward, weights=weights).eval(),
        X,
        UnknownOpError,
        r"fused recurrent kernel that hides its gates.*use those",
    )


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_recurrent_cells_are_explained(cell: type[nn.Module]) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        state = None
        for _ in range(2):
            state = self.cell(x, state)
        return self.head(state[0] if isinstance(state, tuple) else state)

    result = pl.explain(seeded(lambda: Made(forward, cell=cell(6, 8), head=nn.Linear(8, 3))), X, target=0)
    assert result.ledger is not None
    assert result.ledger.closed(1e-4)


def test_meta_models() -> None:
    with pytest.raises(
        ModelError, match=r"The tensor '0.weight' of Sequential is on the 'meta' device.*Load the weights"
    ):
        pl.explain(dense().to("meta"), X, target=0)


def test_quantised_models() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(dense(), {nn.Linear}, dtype=torch.qint8)
        with pytest.raises(
            ModelError, match=r"The module '0' \(Linear\) is quantised.*explain the model it was made from"
        ):
            pl.explain(model, X, target=0)
        held = dense()
        held.register_buffer("table", torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8))
    with pytest.raises(ModelError, match=r"The tensor 'table' of Sequential is quantised \(torch.qint8\)"):
        pl.explain(held, X, target=0)


def test_a_model_that_cannot_be_copied() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def __deepcopy__(self, memo: object) -> Any:
            raise RuntimeError("holds a socket")

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)

    refused(
        Fixed().eval(), X, ModelError, r"The model Fixed could not be copied \(RuntimeError: holds a socket\).*deepcopy"
    )
