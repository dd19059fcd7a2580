"""From what a caller gives as a target to a ``Target``: coercion, one per sample, and the default."""

# ruff: noqa: ARG002 - every target has the same methods, and not every one needs all their arguments.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import TargetError
from pellucid.targets.base import Target, per_sample
from pellucid.targets.classes import TOP, Logit, Rest, dense_choices, integer
from pellucid.targets.grammar import parse
from pellucid.targets.layout import Grid
from pellucid.targets.single import Function, Output

TargetSpec = int | str | Callable[[Any], Tensor] | Target | None


@dataclass(frozen=True)
class Default(Target):
    """What is explained when nobody says: decided by ``default_target`` as soon as there is an output."""

    def scalar(self, output: Any, activations: Mapping[str, Tensor]) -> Tensor:
        """The scalar of ``default_target(output)``: (batch,)."""
        return default_target(output).scalar(output, activations)

    def weights(self, logits: Tensor) -> Tensor | None:
        """The weights of ``default_target(logits)``."""
        return default_target(logits).weights(logits)

    def fix(self, output: Any) -> Target:
        """``default_target(output)``."""
        return default_target(output)

    def describe(self, names: Sequence[str] | None, index: int | None = None) -> str:
        """Says that it is still open."""
        return "default target"

    def __str__(self) -> str:
        return "default target"


def parse_target(spec: TargetSpec, *, class_names: Sequence[str] | None = None) -> Target:
    """Make a target of an index, a string of the grammar, a callable, a target, or None for the default.

    Args:
        spec: any integer type counts as an index; a callable gets the logits (batch, classes) and returns (batch,).
        class_names: names are looked up here if given, else kept (``Target.bind`` looks them up).

    Raises:
        TargetError: the string does not follow the grammar, a name is unknown or ambiguous, or ``spec`` is no target.
    """
    target = _coerced(spec, class_names)
    return target if class_names is None else target.bind(class_names)


def resolve_targets(spec: object, batch: int, *, class_names: Sequence[str] | None = None) -> Target:
    """One target that computes a scalar for each of ``batch`` samples, all names looked up.

    Args:
        spec: one target for all samples, or a list, tuple or 1-D integer tensor or array with one per sample.
        batch: number of samples.
        class_names: names of the classes, None if unknown.

    Raises:
        TargetError: as ``parse_target``; or the list has another length than the batch.
    """
    several = _as_list(spec)
    if several is None:
        return _coerced(spec, class_names).bind(class_names)
    if len(several) != batch:
        raise TargetError(
            f"A list of targets has one per sample: got {len(several)} for a batch of {batch}. To explain several "
            "targets of every sample use targets=[...]; a place in a dense output is written '15@3,5'."
        )
    return per_sample([_coerced(part, class_names).bind(class_names) for part in several])


def default_target(logits: Tensor) -> Target:
    """What is explained when the caller gives no target.

    On (N, C) with C > 1 the top class of each sample against the rest, fixed to the index it has now; on (N,) and
    (N, 1) the output itself. An output with several regression values counts as classes: name the one that is meant.

    Raises:
        TargetError: the output is dense (segmentation, sequences); offers choices.
        InputError: the output holds NaN, +inf, or no floating numbers.
    """
    grid = Grid.of(logits, None)
    if grid.positions:
        choices = dense_choices(grid.shape, grid.dim, TOP)
        raise TargetError(f"No target was given, and there is no natural one. {choices}")
    return Output() if grid.classes == 1 else Rest(TOP).fix(logits)


def _coerced(spec: object, class_names: Sequence[str] | None) -> Target:
    if spec is None:
        return Default()
    if isinstance(spec, Target):
        return spec
    if isinstance(spec, str):
        return parse(spec, class_names=class_names)
    if not isinstance(spec, (bool, torch.Tensor)) and callable(spec):
        return Function(spec)
    number = integer(spec)
    if number is None:
        raise TargetError(
            "A target must be a class index, a string such as '285~rest', a callable that takes the output and returns "
            "one number per sample, a Target, or a list with one of these per sample; got "
            f"{type(spec).__name__} {spec!r}."
        )
    return Logit(number)


def _as_list(spec: object) -> list[object] | None:
    """The entries of a list, tuple, or 1-D tensor or array; None for a single target."""
    if isinstance(spec, (list, tuple)):
        return list(spec)
    if not isinstance(spec, Target) and getattr(spec, "ndim", None) == 1 and hasattr(spec, "tolist"):
        return list(spec.tolist())
    return None
