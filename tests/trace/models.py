"""Small models of every form that the tests explain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.testing import check_restores


class Made(nn.Module):
    """A module whose forward is the function given, with submodules by name."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """`build()` with fixed weights, in evaluation mode; the caller's random state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return build().eval()


def dense() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)))


def convolutional() -> nn.Module:
    def build() -> nn.Module:
        norm = nn.BatchNorm2d(4)
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3))

    return seeded(build)


def series() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(16, 3)))


def volumes() -> nn.Module:
    def build() -> nn.Module:
        norm = nn.BatchNorm3d(3)
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        return nn.Sequential(nn.Conv3d(2, 3, 2), norm, nn.GELU(), nn.Flatten(), nn.Linear(24, 3))

    return seeded(build)


def pooled(axes: int = 2) -> nn.Module:
    """A convolution, global average pooling and one linear layer, for positions along one to three axes."""
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    pool = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[axes - 1]
    return seeded(lambda: nn.Sequential(convolution(3, 4, 3), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(4, 3)))


def transformer() -> nn.Module:
    return seeded(
        lambda: nn.Sequential(nn.TransformerEncoderLayer(6, 2, 12, batch_first=True), nn.Flatten(), nn.Linear(30, 3))
    )


def recurrent() -> nn.Module:
    return seeded(Recurrent)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dense": (dense, (4, 6)),
    "convolutional": (convolutional, (2, 3, 8, 8)),
    "transformer": (transformer, (2, 5, 6)),
    "recurrent": (recurrent, (2, 5, 6)),
    "series": (series, (2, 2, 10)),
    "volumes": (volumes, (2, 2, 3, 3, 3)),
}


def numbers(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def explained(model: nn.Module, x: Any, *, tolerance: float = 1e-4, **settings: Any) -> pl.Explanation:
    """Explain class 0; nothing may be changed, the ledger must close, and the output be what the model gives."""
    result: pl.Explanation = check_restores(model, x, lambda: pl.explain(model, x, target=0, **settings))
    assert result.ledger is not None
    assert result.ledger.closed(tolerance), str(result.ledger)
    return result


def same(one: pl.Explanation, other: pl.Explanation) -> None:
    torch.testing.assert_close(one.relevance, other.relevance, rtol=1e-4, atol=1e-6)
