"""Rules for the mean of a function over [0, 1]: nodes, weights, and an order in which a part of them is a rule too."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import InputError

__all__ = ["Quadrature", "quadrature", "spread"]

Quadrature = Literal["gauss-legendre", "trapezoid", "midpoint", "left", "right"]


def quadrature(rule: str, steps: int) -> tuple[Tensor, Tensor]:
    """Nodes in [0, 1] and weights that sum to 1, both (steps,), float64.

    Raises:
        InputError: no such rule, or too few steps for it.
    """
    least = 2 if rule == "trapezoid" else 1
    if not isinstance(steps, int) or steps < least:
        raise InputError(f"Expected steps as a whole number of {least} or more for the rule {rule!r}, got {steps!r}.")
    if rule == "gauss-legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
    even = torch.arange(steps, dtype=torch.float64)
    if rule == "trapezoid":
        ends = torch.full((steps,), 1 / (steps - 1), dtype=torch.float64)
        ends[[0, -1]] /= 2
        return even / (steps - 1), ends
    shift = {"left": 0.0, "midpoint": 0.5, "right": 1.0}
    if rule not in shift:
        raise InputError(
            f"No quadrature rule is called {rule!r}. Expected one of: gauss-legendre, trapezoid, {', '.join(shift)}."
        )
    return (even + shift[rule]) / steps, torch.full((steps,), 1 / steps, dtype=torch.float64)


def spread(count: int) -> Tensor:
    """The numbers below ``count`` in an order whose beginnings lie evenly (van der Corput): 0, 1/2, 1/4, 3/4, ...

    So a rule that is broken off, its weights divided by their sum, is still one for the whole of [0, 1].
    """
    bits = max(1, (count - 1).bit_length())
    reverse = [int(f"{number:0{bits}b}"[::-1], 2) for number in range(2**bits)]
    return torch.tensor([number for number in reverse if number < count])
