"""Pooling: the winner takes all; averages, sums and moves share by contribution."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rules.helpers import explained

pytestmark = pytest.mark.core

IMAGES = (2, 3, 6, 6)
CLIPS = (2, 2, 4, 4, 4)
SEQUENCES = (2, 3, 8)

WINNERS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "max-pool1d": (nn.MaxPool1d(2), SEQUENCES),
    "max-pool2d": (nn.MaxPool2d(2), IMAGES),
    "max-pool2d-overlapping": (nn.MaxPool2d(3, stride=1, padding=1), IMAGES),
    "max-pool3d": (nn.MaxPool3d(2), CLIPS),
    "adaptive-max-pool2d": (nn.AdaptiveMaxPool2d(2), IMAGES),
    "max-over-dimension": (lambda x: x.max(-1).values, SEQUENCES),
    "amax": (lambda x: x.amax((-1, -2)), IMAGES),
    "min-over-dimension": (lambda x: x.min(-1).values, SEQUENCES),
    "topk": (lambda x: x.topk(3, -1).values, SEQUENCES),
    "sort": (lambda x: x.sort(-1).values, SEQUENCES),
    "maximum": (lambda x: torch.maximum(x, 0.5 * x + 0.1 * x.flip(-1)), SEQUENCES),
}
LINEAR: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "avg-pool1d": (nn.AvgPool1d(2), SEQUENCES),
    "avg-pool2d": (nn.AvgPool2d(3, stride=2, padding=1), IMAGES),
    "avg-pool3d": (nn.AvgPool3d(2), CLIPS),
    "adaptive-avg-pool2d": (nn.AdaptiveAvgPool2d((4, 3)), IMAGES),
    "mean": (lambda x: x.mean((-1, -2)), IMAGES),
    "sum": (lambda x: x.sum(-1), SEQUENCES),
    "cumsum": (lambda x: x.cumsum(-1), SEQUENCES),
    "interpolate": (lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"), IMAGES),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2.0), IMAGES),
    "pad": (lambda x: F.pad(x, (1, 2, 0, 1)), IMAGES),
    "reflect": (lambda x: F.pad(x, (1, 2, 0, 1), mode="reflect"), IMAGES),
    "pixel-shuffle": (lambda x: F.pixel_shuffle(torch.cat([x, x[:, :1]], 1), 2), IMAGES),
    "slices-and-cat": (lambda x: torch.cat([x[..., 1:], x[..., :2] * 3], -1), SEQUENCES),
    "stack": (lambda x: torch.stack([x, -x], 1), SEQUENCES),
    "permute": (lambda x: x.permute(0, 2, 1).reshape(2, -1, 4), SEQUENCES),
    "gather": (lambda x: x.gather(-1, torch.tensor([[[0, 2, 2]] * 3] * 2)), SEQUENCES),
    "where": (lambda x: torch.where(torch.arange(8) % 2 == 0, x, 2 * x.flip(-1)), SEQUENCES),
    "residual": (lambda x: x + x - 0.5 * x.roll(1, -1), SEQUENCES),
    "unfold": (lambda x: F.unfold(x, 2, stride=2), IMAGES),
    "fourier": (lambda x: torch.fft.irfft(torch.fft.rfft(x) * torch.linspace(0, 1, 5), n=8), SEQUENCES),
    "spectrum": (lambda x: torch.fft.fft(x).abs(), SEQUENCES),
    "real-part": (lambda x: torch.fft.fft2(x).real, SEQUENCES),
    "length": (lambda x: x.norm(dim=1), SEQUENCES),
    "spread": (lambda x: x.std(-1), SEQUENCES),
    "einsum-constant": (lambda x: torch.einsum("ncl,lk->nck", x, torch.ones(8, 2).to(x)), SEQUENCES),
}


def _against_gradient(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    leaf = x.clone().requires_grad_()
    y = function(leaf)
    density = torch.randn(y.shape, dtype=torch.float64, generator=generator)
    (gradient,) = torch.autograd.grad((y * density).sum(), leaf)

    class Wrapped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    return explained(Wrapped(), x, density).relevance, x * gradient


@pytest.mark.parametrize("name", [*WINNERS, *LINEAR])
def test_native(name: str) -> None:
    """Homogeneous of degree one: relevance is gradient times input and conserved."""
    relevance, expected = _against_gradient(*{**WINNERS, **LINEAR}[name])
    torch.testing.assert_close(relevance, expected, atol=1e-12, rtol=1e-12)


def test_winner_takes_all_by_hand() -> None:
    x = torch.tensor([[[[1.0, 5.0], [-2.0, 3.0]]]], dtype=torch.float64)
    relevance = explained(nn.MaxPool2d(2), x, torch.full((1, 1, 1, 1), 2.0, dtype=torch.float64)).relevance
    torch.testing.assert_close(relevance, torch.tensor([[[[0.0, 10.0], [0.0, 0.0]]]], dtype=torch.float64))
