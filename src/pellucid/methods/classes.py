"""The class of every sample, for methods that compare it with others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from pellucid.errors import InputError, PellucidError, reason
from pellucid.targets import PerSample, Target
from pellucid.targets.base import of_samples

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["classes_of", "no_classes"]


def classes_of(target: Target, logits: Tensor, *, caller: str) -> list[int]:
    """The class that ``target`` means, for every sample.

    Args:
        target: a class, with or without something it is compared with.
        logits: (N, classes).
        caller: the method, for the error.

    Raises:
        InputError: the target is no class of a classifier of several. TargetError: it is out of range.
    """
    fixed = target.fix(logits)
    fixed.weights(logits)
    parts = fixed.parts if isinstance(fixed, PerSample) else (fixed,) * len(logits)
    classes = [getattr(part, "index", None) for part in parts]
    known = [index for index in classes if isinstance(index, int)]
    if logits.ndim != 2 or logits.shape[1] < 2 or len(known) < len(classes):
        raise InputError(
            f"{caller} compares a class with others: expected a class as the target of a model that gives one "
            f"score for each of several classes, got the target {target} of an output {tuple(logits.shape)}."
        )
    return known


def no_classes(call: Call, *, caller: str) -> str | None:
    """Why ``call.target`` means no class of the model; None if it does."""
    function = call.function
    try:
        for rows in function.parts():
            target = call.target if rows is None else of_samples(call.target, rows)
            classes_of(target, function.run({}, rows).logits, caller=caller)
    except PellucidError as error:
        return reason(error)
    return None
