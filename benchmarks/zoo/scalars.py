"""The scalars that the zoo explains, as a user would write them: functions of the model's main output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Cell:
    """One cell of the flattened output: a class at a position, a class of a candidate box, a feature."""

    index: int

    def __call__(self, logits: Tensor) -> Tensor:
        return logits.flatten(1)[:, self.index]


@dataclass(frozen=True)
class ClassSum:
    """The logits of one class summed over all positions of a segmentation (batch, classes, height, width)."""

    index: int

    def __call__(self, logits: Tensor) -> Tensor:
        return logits[:, self.index].flatten(1).sum(1)


@dataclass(frozen=True)
class Total:
    """The sum of the whole output: of a pooled state (batch, features), or of a forecast."""

    def __call__(self, logits: Tensor) -> Tensor:
        return logits.flatten(1).sum(1)


Scalar = Cell | ClassSum | Total


def choose_scalar(name: str, logits: Tensor) -> int | Scalar:
    """The scalar to explain, chosen from the output of a plain forward.

    Args:
        name: "top logit" (batch, classes), "top class" (segmentation), "top cell" (detection: candidates x classes),
            "last token" (batch, length, words) or "total".
        logits: output of a batch of one.

    Raises:
        ValueError: the name is none of these, or the output does not have the shape that it needs.
    """
    shape = tuple(logits.shape)
    if name == "top logit" and logits.dim() == 2:
        return int(logits[0].argmax())
    if name == "top class" and logits.dim() >= 3:
        return ClassSum(int(logits[0].flatten(1).sum(1).argmax()))
    if name == "top cell":
        return Cell(int(logits[0].flatten().argmax()))
    if name == "last token" and logits.dim() == 3:
        return Cell((shape[1] - 1) * shape[2] + int(torch.argmax(logits[0, -1])))
    if name == "total":
        return Total()
    raise ValueError(f"no scalar {name!r} for an output of shape {shape}")
