"""Rules for ``autograd.Function`` classes of other libraries, by qualified name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pellucid.engine.numerics import quotient
from pellucid.engine.step import Relevance, Step

__all__ = ["FOREIGN"]


def bloom_gelu(step: Step, densities: Sequence[Tensor | None]) -> list[Tensor | Relevance | None]:
    """GELU of transformers' BLOOM, in the tanh form: ``G_x = G f(x) / x``."""
    node: Any = step.node
    (x,) = node.saved_tensors
    factor, _ = quotient(lambda value: torch.nn.functional.gelu(value, approximate="tanh"), x)
    density = densities[0]
    return [None if density is None else factor.mul_(density)]


FOREIGN = {"transformers.models.bloom.modeling_bloom.GeLUFunction": bloom_gelu}
