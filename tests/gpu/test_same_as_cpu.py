"""On a GPU: the same relevance as on the processor, within rounding. Skipped where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import pellucid as pl
from pellucid.testing import check_restores
from tests.trace.models import convolutional, dense, numbers, recurrent, seeded, transformer

pytestmark = [pytest.mark.core, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]

COMPOSITES = ("epsilon", "epsilon-plus", "epsilon-gamma-box", "auto")


class Attention(nn.Module):
    """Heads as wide and tokens as many as every fused kernel takes."""

    def __init__(self, *, causal: bool = False, masked: bool = False) -> None:
        super().__init__()
        self.project = nn.Linear(64, 192)
        self.head = nn.Linear(64, 3)
        self.causal, self.masked = causal, masked

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x).view(len(x), -1, 3, 2, 32).permute(2, 0, 3, 1, 4)
        mask = None
        if self.masked:
            mask = torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype, device=x.device)
            mask[:, -8:] = -torch.inf
        out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=self.causal)
        return self.head(out.transpose(1, 2).flatten(2).mean(1))


class Series(nn.Module):
    """A stack of recurrent layers, both ways."""

    def __init__(self, kind: Callable[..., nn.RNNBase]) -> None:
        super().__init__()
        self.inner = kind(6, 8, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x)[0][:, -1])


@contextmanager
def exact() -> Iterator[None]:
    """Without TF32, whose products have ten bits."""
    products, convolutions = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = products, convolutions


def on_both(model: nn.Module, x: Tensor, *, rounding: float, **settings: Any) -> pl.Explanation:
    """Explain class 1 on the processor and on the GPU; the model must be found as it was, the ledger closed."""
    here = pl.explain(model.cpu(), x.cpu(), target=1, **settings)
    moved, there = model.cuda(), x.cuda()
    with exact():
        found: pl.Explanation = check_restores(moved, there, lambda: pl.explain(moved, there, target=1, **settings))
    assert found.relevance.device.type == "cuda"
    size = float(here.relevance.abs().max())
    error = float((found.relevance.cpu().double() - here.relevance.double()).abs().max()) / size
    assert error <= rounding, f"{error:.2e} of the largest relevance"
    if found.ledger is not None:
        assert found.ledger.closed(5e-2 if x.dtype == torch.bfloat16 else 1e-4), str(found.ledger)
    return found


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_convolutions(composite: str, dtype: torch.dtype) -> None:
    rounding = 1e-3 if dtype == torch.float32 else 1e-9
    x = numbers(2, 3, 8, 8).clamp(-1, 1).to(dtype)
    on_both(convolutional().to(dtype), x, rounding=rounding, composite=composite, layer="0", keep={"0": [0, 2]})


@pytest.mark.parametrize("composite", ["epsilon", "attn-lrp", "cp-lrp", "auto"])
def test_a_transformer(composite: str) -> None:
    on_both(transformer(), numbers(2, 5, 6), rounding=1e-3, composite=composite)
    on_both(transformer().double(), numbers(2, 5, 6).double(), rounding=1e-9, composite=composite)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers(kind: Callable[..., nn.RNNBase]) -> None:
    """cuDNN, and the fused cells that stand in for it, would hide the gates."""
    model = seeded(lambda: Series(kind))
    on_both(model, numbers(2, 5, 6), rounding=1e-3, composite="epsilon")
    on_both(model.double(), numbers(2, 5, 6).double(), rounding=1e-9)
    on_both(recurrent(), numbers(2, 5, 6), rounding=1e-3)


BACKENDS = {
    "math": (SDPBackend.MATH, torch.float32),
    "memory-efficient": (SDPBackend.EFFICIENT_ATTENTION, torch.float32),
    "flash": (SDPBackend.FLASH_ATTENTION, torch.bfloat16),
    "cudnn": (SDPBackend.CUDNN_ATTENTION, torch.bfloat16),
}


@pytest.mark.parametrize("composite", ["attn-lrp", "cp-lrp"])
@pytest.mark.parametrize("form", ["plain", "causal", "masked"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_kernel_of_attention(backend: str, form: str, composite: str) -> None:
    """Against the processor in float32; kernels for 16 bits within what these hold."""
    kernel, dtype = BACKENDS[backend]
    if backend == "flash" and form == "masked":
        pytest.skip("flash attention takes no mask")
    model = seeded(lambda: Attention(causal=form == "causal", masked=form == "masked"))
    x = numbers(2, 64, 64)
    here = pl.explain(model, x, target=1, composite=composite).relevance
    narrow = model.to(dtype).cuda()
    with exact(), sdpa_kernel(kernel):
        found = pl.explain(narrow, x.to(dtype).cuda(), target=1, composite=composite)
    error = float((found.relevance.cpu().float() - here).abs().max() / here.abs().max())
    assert error <= (5e-2 if dtype == torch.bfloat16 else 1e-3)
    assert found.ledger is not None
    assert found.ledger.closed(5e-2 if dtype == torch.bfloat16 else 1e-4), str(found.ledger)


def test_half_precision() -> None:
    on_both(convolutional().bfloat16(), numbers(2, 3, 8, 8).bfloat16(), rounding=5e-2)
    model, x = dense().cuda(), numbers(4, 6).cuda()
    plain = pl.explain(model, x, target=1)
    with torch.autocast("cuda", torch.bfloat16):
        found = pl.explain(model, x, target=1)
    assert found.ledger is not None
    assert found.ledger.closed(5e-2)
    assert torch.allclose(found.relevance, plain.relevance, atol=5e-2 * float(plain.relevance.abs().max()))


@pytest.mark.parametrize("method", ["gradient", "integrated-gradients", "smoothgrad", "occlusion", "deeplift"])
def test_methods_draw_the_same_numbers_and_give_the_same(method: str) -> None:
    on_both(convolutional(), numbers(2, 3, 8, 8), rounding=1e-3, method=method)


def test_the_device_that_is_asked_for() -> None:
    """The model stays where it is; relevance is where it was computed."""
    model, x = convolutional(), numbers(2, 3, 8, 8)
    here = pl.explain(model, x, target=1)
    with exact():
        there = pl.explain(model, x, target=1, device="cuda")
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert there.relevance.device.type == "cuda"
    assert torch.allclose(there.relevance.cpu(), here.relevance, atol=1e-3 * float(here.relevance.abs().max()))
