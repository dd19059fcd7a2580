"""Where the classes or units of a tensor are, and where its positions: one rule for outputs and activations.

Dimension 0 is the batch. The classes (channels, units, tokens of the vocabulary) are dimension 1 of a 2-D tensor
``(N, C)``, the **last** dimension of a 3-D one ``(N, L, D)``, and dimension 1 of a tensor with four or more
``(N, C, H, W)``. All other dimensions are positions. Where this guess is wrong, as for ``(N, C, L)`` from a 1-D
convolution or for channels-last maps ``(N, H, W, C)``, the target says which dimension it is: ``dim=1``, in a string
``@dim1``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.errors import InputError, TargetError


def unit_dimension(shape: Sequence[int], dim: int | None, *, what: str) -> int:
    """The dimension of ``shape`` (at least 2-D) that holds classes or units.

    Raises:
        TargetError: ``dim`` is not a dimension of the tensor other than the batch.
    """
    if dim is None:
        return len(shape) - 1 if len(shape) <= 3 else 1
    if not 1 <= dim < len(shape):
        raise TargetError(
            f"The target puts the units in dimension {dim} (@dim{dim}), but {what} has shape {tuple(shape)}: choose a "
            f"dimension from 1 to {len(shape) - 1}."
        )
    return dim


def flat_position(at: Sequence[int], positions: Sequence[int], *, what: str) -> int:
    """The place of position ``at`` in a grid of ``positions``, counted row by row; negative numbers count from the end.

    Raises:
        TargetError: the number of coordinates differs, or one is out of range.
    """
    written = ",".join(map(str, at))
    if len(at) != len(positions):
        raise TargetError(
            f"The position @{written} has {len(at)} coordinate(s), but {what} has positions of shape "
            f"{tuple(positions)}: give {len(positions)}."
        )
    flat = 0
    for coordinate, size in zip(at, positions, strict=True):
        if not -size <= coordinate < size:
            raise TargetError(
                f"The position @{written} is out of range: {what} has positions of shape {tuple(positions)}, and "
                f"coordinate {coordinate} must lie between {-size} and {size - 1}."
            )
        flat = flat * size + coordinate % size
    return flat


@dataclass(frozen=True)
class Grid:
    """An output seen as ``values[sample, position, class]``, detached; ``positions`` is () where there are none."""

    values: Tensor
    positions: tuple[int, ...]
    dim: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, logits: Tensor, dim: int | None) -> Grid:
        """View ``logits`` of any shape; (N,) counts as one class, () as one sample of one class.

        Raises:
            InputError: the output is not floating, is empty, or holds NaN or +inf.
            TargetError: ``dim`` does not fit.
        """
        values = logits.detach()
        _require_finite(values)
        shape = tuple(values.shape)
        if values.ndim < 2:
            return cls(values.reshape(-1, 1, 1), (), 1, shape)
        where = unit_dimension(shape, dim, what="the output")
        positions = tuple(size for axis, size in enumerate(shape) if axis not in (0, where))
        # The number of positions is spelled out because -1 cannot be inferred where a dimension is empty.
        rows = values.movedim(where, -1).reshape(shape[0], math.prod(positions), shape[where])
        return cls(rows, positions, where, shape)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.values.shape[2]

    def blank(self) -> Tensor:
        """Zero weights (N, positions, classes) in the output's precision, at least float32."""
        return torch.zeros_like(self.values, dtype=torch.promote_types(self.values.dtype, torch.float32))

    def restore(self, weights: Tensor) -> Tensor:
        """Weights (N, positions, classes) back in the shape of the output."""
        if len(self.shape) < 2:
            return weights.reshape(self.shape)
        return weights.reshape(self.shape[0], *self.positions, self.classes).movedim(-1, self.dim).contiguous()


def _require_finite(values: Tensor) -> None:
    """Refuse an output that is no number; -inf is allowed, as models mask classes with it."""
    if not values.is_floating_point():
        raise InputError(
            f"The explained output must hold floating-point numbers; this one is {values.dtype} of shape "
            f"{tuple(values.shape)}. Explain the scores that come before the rounding or arg-max, not its result."
        )
    if values.numel() == 0:
        raise InputError(f"The explained output is empty, of shape {tuple(values.shape)}. Give at least one sample.")
    bad = torch.isnan(values) | (values == math.inf)
    if bool(bad.any()):
        first = tuple(int(place) for place in bad.nonzero()[0])
        raise InputError(
            f"The model's output holds {int(bad.sum())} values that are NaN or +inf out of {values.numel()} (the first "
            f"at {first} of shape {tuple(values.shape)}), so there is nothing to explain. Check the input and the "
            "parameters for NaN; where the model computes in float16, overflow is the usual cause: use float32."
        )
