"""Targets as values: what a target is, sums of targets, and one target for each sample."""

# ruff: noqa: ARG002 - every target has the same methods, and not every one needs all their arguments.

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import TargetError
from pellucid.outputs import main_output
from pellucid.targets.names import near_layers


class Target(ABC):
    """The scalar that is explained, one per sample: a frozen value that prints, compares, and supports + - * /."""

    @abstractmethod
    def scalar(self, output: Any, activations: Mapping[str, Tensor]) -> Tensor:
        """The explained scalar.

        Args:
            output: the logits as ``outputs.main_output`` finds them, or whatever the model returned if ``takes_raw``.
            activations: output of each module named by ``layers()``.

        Returns:
            Tensor of shape (batch,), differentiable in the logits or activations.

        Raises:
            TargetError: this target cannot be computed on this output.
            InputError: the output holds NaN or is not floating.
        """

    @abstractmethod
    def describe(self, names: Sequence[str] | None, index: int | None = None) -> str:
        """Label of the scalar for sample ``index``, such as ``285 Egyptian cat ~ rest``."""

    @property
    def takes_raw(self) -> bool:
        """Whether ``scalar`` and ``fix`` take what the model returned, so that ``main_output`` need not be called."""
        return False

    def weights(self, logits: Tensor) -> Tensor | None:
        """The constants w with scalar = sum(w * logits) per sample, in the logits' shape; None if not linear in them.

        The dtype is that of the logits, at least float32. Weights are detached also where they depend on the logits.
        """
        return None

    def layers(self) -> tuple[str, ...]:
        """Names of the modules whose activations ``scalar`` needs, each once."""
        return ()

    def bind(self, names: Sequence[str] | None) -> Target:
        """The same target with class names replaced by indices.

        Raises:
            TargetError: a name is unknown or ambiguous, or ``names`` is None and a name occurs.
        """
        return self

    def fix(self, output: Any) -> Target:
        """The same target with everything decided that depends on the output, such as which class is on top."""
        return self

    def check_layers(self, available: Iterable[str]) -> None:
        """Refuse a target that needs a layer which is not among ``available``.

        Raises:
            TargetError: names the missing layer and those with similar names.
        """
        known = list(available)
        for layer in self.layers():
            if layer not in known:
                near = near_layers(layer, known)
                shown = near or [name for name in known if name][:8]
                raise TargetError(
                    f"The target {self} needs the layer {layer!r}, but the model has no such module. "
                    f"{'Near matches' if near else 'It has such as'}: {', '.join(shown)}. Names are those of "
                    "model.named_modules(); a class whose name holds a colon must be quoted."
                )

    def __add__(self, other: object) -> Target:
        return _combined([(1.0, self), (1.0, other)]) if isinstance(other, Target) else NotImplemented

    def __radd__(self, other: object) -> Target:
        return self if other == 0 else NotImplemented  # so that sum() of targets works

    def __sub__(self, other: object) -> Target:
        return _combined([(1.0, self), (-1.0, other)]) if isinstance(other, Target) else NotImplemented

    def __mul__(self, other: object) -> Target:
        return _combined([(float(other), self)]) if isinstance(other, Real) else NotImplemented

    def __rmul__(self, other: object) -> Target:
        return self * other

    def __truediv__(self, other: object) -> Target:
        return _combined([(1.0 / float(other), self)]) if isinstance(other, Real) and other else NotImplemented

    def __neg__(self) -> Target:
        return self * -1.0


class LinearTarget(Target):
    """A target that is a weighted sum of the logits; a subclass gives ``weights``."""

    @abstractmethod
    def weights(self, logits: Tensor) -> Tensor:
        """The constant weights, in the shape of the logits."""

    def scalar(self, output: Any, activations: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the logits (batch, ...) per sample: (batch,)."""
        return weighted_sum(output, self.weights(output))


def weighted_sum(logits: Tensor, weights: Tensor) -> Tensor:
    """Sum of ``weights * logits`` over all but the batch: (batch,).

    A logit of -inf (a masked class) with weight 0 counts as nothing instead of NaN.

    Raises:
        TargetError: a logit of -inf has a weight.
    """
    values = logits.to(weights.dtype)
    masked = torch.isinf(values.detach())
    if bool(masked.any()):
        used = masked & (weights != 0)
        if bool(used.any()):
            first = tuple(int(place) for place in used.nonzero()[0])
            raise TargetError(
                f"The target uses a logit that is -inf (at {first} of the output of shape {tuple(logits.shape)}): the "
                "model has masked that class, so there is no finite score to explain. Choose another class."
            )
        values = values.masked_fill(masked, 0.0)
    product = values * weights
    return product.sum(dim=tuple(range(1, product.ndim))) if product.ndim > 1 else product.reshape(-1)


@dataclass(frozen=True)
class Combination(Target):
    """A weighted sum of targets, ``0.5*3 - 4~rest``; made by + - * on targets; no part twice or times 0."""

    terms: tuple[tuple[float, Target], ...]

    @property
    def takes_raw(self) -> bool:
        """True as soon as one part takes the raw output."""
        return any(part.takes_raw for _, part in self.terms)

    def scalar(self, output: Any, activations: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the parts' scalars: (batch,)."""
        if not self.takes_raw:
            weights = self.weights(output)
            if weights is not None:
                return weighted_sum(output, weights)
        total = None
        for factor, part in self.terms:
            value = factor * part.scalar(_seen_by(part, output, raw=self.takes_raw), activations)
            total = value if total is None else total + value
        assert total is not None, "a combination has terms"
        return total

    def weights(self, logits: Tensor) -> Tensor | None:
        """The sum of the parts' weights, None if a part has none."""
        total: Tensor | None = None
        for factor, part in self.terms:
            weights = part.weights(logits)
            if weights is None:
                return None
            total = factor * weights if total is None else total + factor * weights
        return total

    def layers(self) -> tuple[str, ...]:
        """Layers of all parts."""
        return tuple(dict.fromkeys(layer for _, part in self.terms for layer in part.layers()))

    def bind(self, names: Sequence[str] | None) -> Target:
        """Every part bound."""
        return _combined([(factor, part.bind(names)) for factor, part in self.terms])

    def fix(self, output: Any) -> Target:
        """Every part fixed; one combination per sample where the parts differ between samples."""
        fixed = [(factor, part.fix(_seen_by(part, output, raw=self.takes_raw))) for factor, part in self.terms]
        sizes = {len(part.parts) for _, part in fixed if isinstance(part, PerSample)}
        if not sizes:
            return _combined(fixed)
        samples = range(max(sizes))
        return per_sample([_combined([(factor, of_sample(part, i)) for factor, part in fixed]) for i in samples])

    def describe(self, names: Sequence[str] | None, index: int | None = None) -> str:
        """Labels of the parts with their factors."""
        return _written([(factor, part.describe(names, index)) for factor, part in self.terms], times=" * ")

    def __str__(self) -> str:
        return _written([(factor, str(part)) for factor, part in self.terms], times="*")


@dataclass(frozen=True)
class PerSample(Target):
    """Another target for each sample of the batch; ``parts`` has one entry per sample."""

    parts: tuple[Target, ...]

    @property
    def takes_raw(self) -> bool:
        """True as soon as one part takes the raw output."""
        return any(part.takes_raw for part in self.parts)

    def scalar(self, output: Any, activations: Mapping[str, Tensor]) -> Tensor:
        """Entry i is the scalar of part i on sample i: (batch,)."""
        if not self.takes_raw:
            weights = self.weights(output)
            if weights is not None:
                return weighted_sum(output, weights)
        columns: list[Tensor] = []
        order: list[int] = []
        for part, rows in self._groups().items():
            value = part.scalar(_seen_by(part, output, raw=self.takes_raw), activations)
            self._require_batch(value.shape[0])
            columns.append(value[rows])
            order.extend(rows)
        return torch.cat(columns)[sorted(range(len(order)), key=order.__getitem__)]

    def weights(self, logits: Tensor) -> Tensor | None:
        """Row i holds the weights of part i on sample i; None if a part has none."""
        self._require_batch(logits.shape[0] if logits.ndim else 1)
        batch = logits.reshape(1) if logits.ndim == 0 else logits
        result: Tensor | None = None
        for part, rows in self._groups().items():
            weights = part.weights(batch[rows])
            if weights is None:
                return None
            if result is None:
                result = weights.new_zeros(batch.shape)
            result[rows] = weights
        assert result is not None, "per-sample targets have parts"
        return result.reshape(logits.shape)

    def layers(self) -> tuple[str, ...]:
        """Layers of all parts."""
        return tuple(dict.fromkeys(layer for part in self.parts for layer in part.layers()))

    def bind(self, names: Sequence[str] | None) -> Target:
        """Every part bound."""
        return per_sample([part.bind(names) for part in self.parts])

    def fix(self, output: Any) -> Target:
        """Part i fixed on sample i."""
        fixed = {part: part.fix(_seen_by(part, output, raw=self.takes_raw)) for part in self._groups()}
        return per_sample([of_sample(fixed[part], row) for row, part in enumerate(self.parts)])

    def describe(self, names: Sequence[str] | None, index: int | None = None) -> str:
        """The label of part ``index``; without an index those of all parts."""
        if index is not None:
            return self.parts[index].describe(names, index)
        return "; ".join(part.describe(names, row) for row, part in enumerate(self.parts))

    def __str__(self) -> str:
        return f"[{', '.join(map(str, self.parts))}]"

    def _groups(self) -> dict[Target, list[int]]:
        groups: dict[Target, list[int]] = {}
        for row, part in enumerate(self.parts):
            groups.setdefault(part, []).append(row)
        return groups

    def _require_batch(self, batch: int) -> None:
        if batch != len(self.parts):
            raise TargetError(
                f"There are {len(self.parts)} targets, one per sample, but the model's output has {batch} samples. "
                "Give one target for all samples, or a list with one per sample."
            )


def per_sample(parts: Sequence[Target]) -> Target:
    """One target per sample; simply that target where all are the same."""
    return parts[0] if all(part == parts[0] for part in parts) else PerSample(tuple(parts))


def of_samples(target: Target, rows: Tensor) -> Target:
    """The target of some samples, by their places (n,) in the batch."""
    if isinstance(target, PerSample):
        return per_sample([target.parts[row] for row in rows.tolist()])
    if isinstance(target, Combination) and any(isinstance(part, PerSample) for _, part in target.terms):
        return _combined([(factor, of_samples(part, rows)) for factor, part in target.terms])
    return target


def of_sample(target: Target, row: int) -> Target:
    """The target of a sample, of a fixed target."""
    return target.parts[row] if isinstance(target, PerSample) else target


def _seen_by(part: Target, output: Any, *, raw: bool) -> Any:
    """What a part of a compound target takes, when the compound itself was given the raw output."""
    return main_output(output)[0] if raw and not part.takes_raw else output


def _combined(terms: Sequence[tuple[float, Target]]) -> Target:
    """The sum of ``factor * target`` in normal form: nested sums opened, equal targets merged, a lone one bare."""
    total: dict[Target, float] = {}
    for factor, target in terms:
        for inner, part in target.terms if isinstance(target, Combination) else ((1.0, target),):
            total[part] = total.get(part, 0.0) + factor * inner
    kept = tuple((factor, part) for part, factor in total.items() if factor != 0)
    if not kept:
        raise TargetError(
            f"The combination of {', '.join(map(str, total))} cancels to zero, so there is nothing to explain. Check "
            "its factors."
        )
    for factor, part in kept:
        if not math.isfinite(factor):
            raise TargetError(f"The factor of {part} in a combination must be a finite number; got {factor}.")
    return kept[0][1] if len(kept) == 1 and kept[0][0] == 1.0 else Combination(kept)


def _written(terms: Sequence[tuple[float, str]], *, times: str) -> str:
    text = ""
    for factor, part in terms:
        size = abs(factor)
        number = "" if size == 1 else f"{int(size) if size.is_integer() and size < 1e15 else repr(size)}{times}"
        sign = ("-" if factor < 0 else "") if not text else (" - " if factor < 0 else " + ")
        text += f"{sign}{number}{part}"
    return text
