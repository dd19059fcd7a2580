"""Modules that tell a test what ran: the inputs that a model was given, or Ctrl-C after some passes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Watched(nn.Module):
    """A model that tells what it is given; ``see`` may raise."""

    def __init__(self, model: nn.Module, see: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.model = model
        self.see = [see]  # in a list, so that the copy of the model calls the very same

    def forward(self, x: Tensor) -> Tensor:
        self.see[0](x)
        return self.model(x)


class Given:
    """Collects what a model was given, pass by pass; the first ones are of the explained input itself."""

    def __init__(self) -> None:
        self.passes: list[Tensor] = []

    def __call__(self, x: Tensor) -> None:
        self.passes.append(x.detach().clone())

    def rows(self) -> Tensor:
        """All rows that were not of the explained input."""
        return torch.cat([x for x in self.passes if not torch.equal(x, self.passes[0])])

    def __deepcopy__(self, _: object) -> Given:
        return self


class Stop:
    """Raises KeyboardInterrupt in one pass of a model."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, _: Tensor) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def __deepcopy__(self, _: object) -> Stop:
        return self
