"""FullGrad: completeness of every operation's term, against gradients of the biases themselves, and the paper's map."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import pellucid as pl
from pellucid.errors import InputError
from pellucid.methods import FullGrad
from tests.trace.models import MODELS, Made, numbers, seeded

pytestmark = pytest.mark.core

SIGNED = FullGrad(form="signed")


def relu_net() -> nn.Module:
    """Convolutions with and without biases, batch-norms with statistics, pooling, a dense layer."""

    def build() -> nn.Module:
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 4 * 4, 3),
        )  # fmt: skip
        nn.init.normal_(net[4].running_mean)
        nn.init.uniform_(net[4].running_var, 0.5, 2)
        nn.init.normal_(net[4].bias)
        return net

    return seeded(build).double()


def bias_gradients(net: nn.Module, x: Tensor, target: int) -> tuple[Tensor, dict[str, Tensor]]:
    """``x df/dx`` and, by module, ``b df/db`` at every place that the bias is added: (N, channels, ...)."""
    kept: dict[str, Tensor] = {}
    handles = [
        part.register_forward_hook(lambda _m, _i, out, name=name: kept.__setitem__(name, out))
        for name, part in net.named_modules()
        if isinstance(part, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))
    ]
    leaf = x.clone().requires_grad_()
    # What a ReLU overwrites in place is no longer what the layer gave, but the gradient arrives there all the same.
    out = net(leaf)[:, target].sum()
    for handle in handles:
        handle.remove()
    found = torch.autograd.grad(out, [leaf, *kept.values()])
    terms = {}
    for name, gradient in zip(kept, found[1:], strict=True):
        part = net.get_submodule(name)
        bias = part.bias
        if isinstance(part, nn.BatchNorm2d):
            bias = part.bias - part.running_mean * part.weight / (part.running_var + part.eps).sqrt()
        if bias is not None:
            terms[name] = (gradient * bias.view(1, -1, *[1] * (gradient.ndim - 2))).detach()
    return x * found[0], terms


def test_the_ledger_has_the_gradients_of_the_biases_themselves() -> None:
    net = relu_net()
    net[1].inplace = False  # type: ignore[union-attr, index]
    x = numbers(3, 3, 12, 12).double()
    products, terms = bias_gradients(net, x, 1)
    found = pl.explain(relu_net(), x, target=1, method="fullgrad")
    assert found.ledger is not None
    assert found.ledger.closed(1e-12)
    assert set(found.ledger.amounts) == {"input", "bias", "unaccounted"}
    assert found.ledger.inputs == pytest.approx(float(products.sum()))
    assert {n: a for n, a in found.ledger.modules("bias").items() if a} == pytest.approx(
        {name: float(term.sum()) for name, term in terms.items()}
    )


def test_the_saliency_map_is_the_papers() -> None:
    """psi scales a layer of a sample as a whole, as the authors' own code does (pytorch-grad-cam: every channel)."""
    net = relu_net()
    net[1].inplace = False  # type: ignore[union-attr, index]
    x = numbers(3, 3, 12, 12).double()
    products, terms = bias_gradients(net, x, 1)

    def psi(term: Tensor) -> Tensor:
        size = term.abs()
        low, high = size.flatten(1).amin(1).view(-1, 1, 1, 1), size.flatten(1).amax(1).view(-1, 1, 1, 1)
        return functional.interpolate((size - low) / (high - low), size=(12, 12), mode="bilinear").sum(1)

    expected = psi(products) + sum(psi(term) for term in terms.values() if term.ndim == 4)
    found = pl.explain(net, x, target=1, method="fullgrad")
    assert torch.allclose(found.relevance.sum(1), expected, atol=1e-12)
    assert torch.allclose(found.pool(), expected, atol=1e-12)
    assert found.settings["unit"] == "saliency"
    signed = pl.explain(net, x, target=1, method=SIGNED)
    assert "unit" not in signed.settings
    assert torch.allclose(signed.relevance.flatten(1).sum(1), net(x)[:, 1].detach(), atol=1e-12)


def test_the_signed_map_keeps_every_sum_and_place() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 4, stride=4), nn.Flatten(), nn.Linear(4, 1, bias=False)).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net[0].bias.fill_(1)  # type: ignore[union-attr]
        net[2].weight[0, 1] = 8  # type: ignore[union-attr, index]
    found = pl.explain(net, numbers(1, 1, 8, 8).double(), method=SIGNED).relevance[0, 0]
    assert float(found.sum()) == pytest.approx(8)
    assert float(found[:4, 4:].sum()) > 4  # mostly where the lone bias-gradient is, linear resizing apart
    assert float(found[4:, :2].abs().max()) == 0


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.places, self.head = nn.Embedding(10, 6), nn.Embedding(8, 6), nn.Linear(6, 3)
        self.norm = nn.LayerNorm(6)

    def forward(self, ids: Tensor) -> Tensor:
        here = self.table(ids) + self.places(torch.arange(ids.shape[1]))
        return self.head(torch.relu(self.norm(here)).mean(1))


def test_token_ids_get_a_value_each() -> None:
    ids = torch.tensor([[1, 2, 3, 4, 5], [5, 5, 1, 0, 2]])
    model = seeded(Words).double()
    found = pl.explain(model, ids, target=1, method=SIGNED)
    assert found.relevance.shape == ids.shape
    assert torch.allclose(found.relevance.sum(1), model(ids)[:, 1].detach(), atol=1e-12)
    assert found.ledger is not None
    assert found.ledger.closed(1e-12)
    assert {"constant", "bias", "taylor remainder"} <= set(found.ledger.amounts)


OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh in place": lambda v: (v + 0).tanh_(),
    "relu6": functional.relu6,
    "hardswish": functional.hardswish,
    "elu": functional.elu,
    "product": lambda v: v * v.flip(1),
    "broadcast product": lambda v: v * v[:, :1],
    "square": lambda v: v**2,
    "quotient": lambda v: v / (1 + v.abs()),
    "by a number": lambda v: (2 - v) / 4 + 1,
    "one over": lambda v: 1 / (3 + v.abs()),
    "softmax": lambda v: torch.softmax(v, 1),
    "log softmax": lambda v: torch.log_softmax(v, 1),
    "logsumexp": lambda v: v.logsumexp(1, keepdim=True) + v,
    "variance": lambda v: v - v.var(1, keepdim=True),
    "standard deviation": lambda v: v / v.std(1, keepdim=True),
    "norm": lambda v: v / v.norm(dim=1, keepdim=True),
    "mean and variance": lambda v: torch.stack(torch.var_mean(v, 1), 1).repeat(1, 3),
    "layer norm": lambda v: functional.layer_norm(v, (6,), torch.ones(6).double(), torch.arange(6).double()),
    "group norm": lambda v: functional.group_norm(v, 2, torch.ones(6).double(), torch.arange(6).double()),
    "instance norm": lambda v: functional.instance_norm(v.view(-1, 2, 3), bias=torch.ones(2).double()).flatten(1),
    "rms norm": lambda v: functional.rms_norm(v, (6,)),
    "gated": lambda v: functional.glu(torch.cat([v, v.flip(1)], 1)),
    "matrix product": lambda v: (v.view(-1, 2, 3) @ v.view(-1, 3, 2)).flatten(1).repeat(1, 2)[:, :6],
    "added product": lambda v: (
        torch.baddbmm(torch.ones(1, 2, 2).double(), v.view(-1, 2, 3), v.view(-1, 3, 2)).flatten(1).repeat(1, 2)[:, :6]
    ),
    "attention": lambda v: functional.scaled_dot_product_attention(*[v.view(-1, 1, 3, 2)] * 3).flatten(1),
    "causal attention": lambda v: functional.scaled_dot_product_attention(
        *[v.view(-1, 1, 3, 2)] * 3, is_causal=True
    ).flatten(1),
    "added and multiplied": lambda v: torch.addcmul(torch.ones(6).double(), v, v, value=0.5),
    "affine addcmul": lambda v: torch.addcmul(torch.ones(6).double(), v, torch.full((6,), 2.0).double()),
    "maximum with a number": lambda v: torch.maximum(v, torch.tensor(0.1).double()),
    "clamp": lambda v: v.clamp(-0.3, 0.4),
    "where": lambda v: torch.where(v > 0, v, 0.5),
    "masked": lambda v: v.masked_fill(v > 0.5, 0.7),
    "joined": lambda v: torch.cat([v[:, :5], torch.ones(len(v), 1).double()], 1),
    "padded": lambda v: functional.pad(v[:, :5], (0, 1), value=2.0),
    "interpolated": lambda v: torch.lerp(v, torch.ones(6).double(), 0.3),
    "written": lambda v: _written(v),
    "exponential": lambda v: v.exp(),
    "logarithm": lambda v: (2 + v.abs()).log(),
    "power": lambda v: (1 + v.abs()) ** 1.5,
    "cumulative product": lambda v: v.cumprod(1),
    "einsum": lambda v: torch.einsum("ni,nj->nij", v, v).mean(2),
    "fourier": lambda v: torch.fft.rfft(v, dim=1).abs().repeat(1, 2)[:, :6],
}


def _written(v: Tensor) -> Tensor:
    out = torch.ones_like(v) + v
    out[:, 0] = v[:, 1]
    out[:, 2] += 3
    return out


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_operation_is_accounted_for(name: str) -> None:
    operation = OPERATIONS[name]
    net = seeded(
        lambda: Made(lambda self, x: self.head(operation(self.body(x))), body=nn.Linear(6, 6), head=nn.Linear(6, 3))
    ).double()
    x = numbers(3, 6).double()
    found = pl.explain(net, x, target=[0, 1, 2], method=SIGNED)
    assert found.ledger is not None
    assert found.ledger.closed(1e-9), str(found.ledger)
    assert torch.allclose(found.relevance.sum(1), found.output, atol=1e-9)
    if name in ("sigmoid", "product", "softmax"):
        assert abs(found.ledger.amounts["taylor remainder"]) > 1e-6


FORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "1-d": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)),
        (3, 2, 8),
    ),
    "3-d": (
        lambda: nn.Sequential(nn.Conv3d(1, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 3)),
        (2, 1, 4, 5, 4),
    ),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 2, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)),
        (2, 2, 2, 2),
    ),
    "samples second": (
        lambda: Made(
            lambda self, x: self.head(self.body(x.transpose(0, 1)).mean(0)),
            body=nn.TransformerEncoderLayer(6, 2, 12),
            head=nn.Linear(6, 3),
        ),
        (4, 4, 6),
    ),
    "residual and reused": (
        lambda: Made(
            lambda self, x: self.head(self.act(x + self.body(self.act(self.body(x))))),
            act=nn.ReLU(inplace=True),
            body=nn.Linear(6, 6),
            head=nn.Linear(6, 3),
        ),
        (3, 6),
    ),
}


@pytest.mark.parametrize("name", sorted(FORMS))
def test_models_of_every_form_add_up_sample_by_sample(name: str) -> None:
    build, shape = FORMS[name]
    model, x = seeded(build).double(), numbers(*shape).double()
    for form in ("signed", "saliency"):
        method = FullGrad(form=form)  # type: ignore[arg-type]
        found = pl.explain(model, x, target=0, method=method)
        assert found.ledger is not None
        assert found.ledger.closed(1e-10), str(found.ledger)
        if form == "signed":
            assert torch.allclose(found.relevance.flatten(1).sum(1), found.output, atol=1e-10)
        for i in range(len(x)):
            alone = pl.explain(model, x[i : i + 1], target=0, method=method)
            assert torch.allclose(alone.relevance[0], found.relevance[i], atol=1e-10)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_batches_cut_to_the_memory_are_the_same(name: str) -> None:
    build, shape = MODELS[name]
    model, x = build().double(), numbers(*shape).double()
    whole = pl.explain(model, x, target=0, method=SIGNED)
    parts = pl.explain(model, x, target=0, method=SIGNED, memory=60_000)
    assert torch.allclose(parts.relevance, whole.relevance, atol=1e-12)
    assert parts.ledger is not None
    assert whole.ledger is not None
    assert parts.ledger.amounts == pytest.approx(whole.ledger.amounts, abs=1e-10)


def test_at_a_layer_it_is_the_full_gradient_of_what_lies_behind() -> None:
    net, x = relu_net(), numbers(2, 3, 12, 12).double()
    found = pl.explain(net, x, target=1, method=SIGNED, layer="2")
    head, tail = net[:3], net[3:]  # type: ignore[index]
    behind = pl.explain(tail, head(x).detach(), target=1, method=SIGNED)
    assert torch.allclose(found.layers["2"], behind.relevance, atol=1e-12)
    assert torch.allclose(found.layers["2"].flatten(1).sum(1), found.output, atol=1e-12)


def test_a_neuron_and_a_contrast_add_up() -> None:
    net, x = relu_net(), numbers(2, 3, 12, 12).double()
    for target in ("3:2", "1~rest", "0.5*0 - 2", "0~2"):
        found = pl.explain(net, x, target=target, method=SIGNED)
        assert found.ledger is not None
        assert found.ledger.closed(1e-10)
        assert torch.allclose(found.relevance.flatten(1).sum(1), found.output, atol=1e-10)


def test_a_form_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="Expected form as 'saliency' or 'signed', got 'absolute'"):
        FullGrad(form="absolute")  # type: ignore[arg-type]
