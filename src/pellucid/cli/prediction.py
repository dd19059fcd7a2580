"""What the model says about a sample: its likeliest classes, printed beside every explanation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from pellucid.models import LoadedModel


@dataclass(frozen=True)
class Guess:
    """One class the model considers: its index, its name (the index where it has none), its probability in 0..1."""

    index: int
    name: str
    probability: float

    def to_dict(self) -> dict[str, object]:
        """The fields, for JSON."""
        return asdict(self)


def predict(
    loaded: LoadedModel, x: Tensor | tuple[Tensor, ...] | dict[str, Tensor], *, top: int = 5
) -> tuple[tuple[Guess, ...], ...]:
    """The ``top`` likeliest classes of every sample, likeliest first.

    Args:
        loaded: a model and its class names.
        x: the model's input, a batch.
        top: how many at most.

    Returns:
        One tuple a sample; nothing at all where the output is not a row of two or more classes a sample (regression,
        segmentation, detection).
    """
    import torch

    from pellucid.outputs import main_output

    with torch.no_grad():
        output = (
            loaded.module(**x)
            if isinstance(x, dict)
            else loaded.module(*x)
            if isinstance(x, tuple)
            else loaded.module(x)
        )
    logits, _ = main_output(output)
    if logits.ndim != 2 or logits.shape[1] < 2:
        return ()
    rows = logits.double()
    already = bool((rows >= 0).all()) and bool(((rows.sum(1) - 1).abs() < 1e-3).all())
    probabilities, indices = (rows if already else rows.softmax(1)).topk(min(top, rows.shape[1]))
    return tuple(
        tuple(Guess(index, _name(loaded.class_names, index), chance) for index, chance in zip(*row, strict=True))
        for row in zip(indices.tolist(), probabilities.tolist(), strict=True)
    )


def _name(names: tuple[str, ...] | None, index: int) -> str:
    return names[index] if names is not None and index < len(names) else str(index)
