"""Targets on the classes of an output: one logit, a margin, a class against the rest; at a position, over a region."""

# ruff: noqa: ARG002 - every target has the same methods, and not every one needs all their arguments.

from __future__ import annotations

import enum
import operator
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, SupportsIndex, cast

import torch
from torch import Tensor

from pellucid.errors import TargetError
from pellucid.targets.base import LinearTarget, Target, per_sample
from pellucid.targets.layout import Grid, flat_position
from pellucid.targets.names import find_class, label


class Top(enum.Enum):
    """The type of ``TOP``, which stands for the class with the highest score of each sample."""

    TOP = "top"

    def __str__(self) -> str:
        return "top"


TOP = Top.TOP
Index = int | str | Top  # a class: its index, its name, or whichever is on top
Place = tuple[int, ...] | Literal["mask", "all"]


def integer(value: object) -> int | None:
    """``value`` as an int if it is of any integer type (a bool is none), else None."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        return None
    try:
        return operator.index(value)
    except TypeError:  # tensors and arrays have __index__ whatever they hold
        return None


def place(at: object) -> Place | None:
    """Check a place: None, "mask", "all", a position or a tuple of coordinates.

    Raises:
        TargetError: it is something else.
    """
    if at is None or at == "all" or at == "mask":
        return cast("Place | None", at)
    numbers = [integer(part) for part in (at if isinstance(at, (tuple, list)) else [at])]
    if not numbers or None in numbers:
        raise TargetError(
            f"The place of a target must be a position such as -1 or (3, 5), or 'mask' or 'all'; got {at!r}."
        )
    return tuple(number for number in numbers if number is not None)


def write_places(at: Place | None, dim: int | None) -> str:
    """The ``@`` suffixes of the grammar."""
    where = "" if at is None else f"@{at}" if isinstance(at, str) else f"@{','.join(map(str, at))}"
    return ("" if dim is None else f"@dim{dim}") + where


def describe_place(at: Place | None) -> str:
    """The same in words, for labels."""
    if at is None:
        return ""
    if isinstance(at, str):
        return " @ its region" if at == "mask" else " @ all positions"
    return f" @ position {at[0] if len(at) == 1 else at}"


def write_class(index: Index) -> str:
    """A class in the grammar: names are quoted, a quote inside is doubled."""
    return f'"{index.replace(chr(34), 2 * chr(34))}"' if isinstance(index, str) else str(index)


@dataclass(frozen=True)
class ClassTarget(LinearTarget):
    """Base of the targets about one class.

    Args:
        index: the class: an index, a name, or ``TOP``.
        at: for outputs with positions (segmentation, sequences): a position such as ``-1`` or ``(3, 5)``; ``"mask"``,
            the sum over the positions where the class has the highest score (above 0 where it is the only class); or
            ``"all"``, the sum over all positions.
        dim: dimension of the classes, where it is not the one that ``pellucid.targets.layout`` expects.
    """

    index: Index
    at: Place | None = field(default=None, kw_only=True)
    dim: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", _checked(self.index))
        object.__setattr__(self, "at", place(self.at))

    @abstractmethod
    def _rows(self, values: Tensor, index: Tensor) -> Tensor:
        """Weights (rows, classes) for rows of logits (rows, classes) whose class is ``index`` (rows,)."""

    def weights(self, logits: Tensor) -> Tensor:
        """Constant weights in the shape of the logits (N, classes) or with positions."""
        with torch.no_grad():
            grid = Grid.of(logits, self.dim)
            index = self._indices(grid)
            region = self._region(grid, index)
            weights = grid.blank()
            sample = region.nonzero()[:, 0]
            weights[region] = self._rows(grid.values[region], index[sample]).to(weights.dtype)
            return grid.restore(weights)

    def bind(self, names: Sequence[str] | None) -> Target:
        """The same target with the class as an index."""
        return replace(self, index=find_class(self.index, names)) if isinstance(self.index, str) else self

    def fix(self, output: Any) -> Target:
        """The same target with ``TOP`` replaced by the class that is on top of each sample."""
        if not isinstance(self.index, Top):
            return self
        with torch.no_grad():
            indices = self._indices(Grid.of(output, self.dim)).tolist()
        return per_sample([replace(self, index=index) for index in indices])

    def _indices(self, grid: Grid) -> Tensor:
        """The class of each sample: (N,)."""
        self._require_place(grid)
        batch = grid.values.shape[0]
        if not isinstance(self.index, Top):
            require_class(self.index, grid.classes)
            return torch.full((batch,), cast(int, self.index), device=grid.values.device)
        winners = grid.values.argmax(2)
        if isinstance(self.at, tuple):
            return winners[:, flat_position(self.at, grid.positions, what="the output")]
        if not grid.positions:
            return winners[:, 0]
        # Over a region "on top" can only mean: at most positions.
        return torch.stack([torch.bincount(row, minlength=grid.classes).argmax() for row in winners])

    def _region(self, grid: Grid, index: Tensor) -> Tensor:
        """Which positions of each sample are summed: bool (N, positions)."""
        region = torch.ones(grid.values.shape[:2], dtype=torch.bool, device=grid.values.device)
        if isinstance(self.at, tuple):
            region.zero_()
            region[:, flat_position(self.at, grid.positions, what="the output")] = True
        elif self.at == "mask":
            region = grid.values.argmax(2) == index[:, None] if grid.classes > 1 else grid.values[:, :, 0] > 0
            empty = ~region.any(1)
            if bool(empty.any()):
                sample = int(empty.nonzero()[0, 0])
                raise TargetError(
                    f"Class {int(index[sample])} is on top at no position of sample {sample}, so the region of {self} "
                    "is empty. Choose another class, a position, or '@all' for the sum over all positions."
                )
        return region

    def _require_place(self, grid: Grid) -> None:
        if grid.positions and self.at is None:
            raise TargetError(dense_choices(grid.shape, grid.dim, self.index))
        if not grid.positions and self.at is not None:
            raise TargetError(
                f"The target {self} names a place, but the output of shape {grid.shape} has no positions, only "
                f"{grid.classes} classes. Leave out '{write_places(self.at, None)}'."
            )

    def _suffix(self) -> str:
        return write_places(self.at, self.dim)


@dataclass(frozen=True)
class Logit(ClassTarget):
    """The logit of a class; in the grammar ``285``, ``"tabby"``, ``top``, ``15@mask``, ``1234@-1``."""

    def _rows(self, values: Tensor, index: Tensor) -> Tensor:
        return one_hot(index, values.shape[1])

    def describe(self, names: Sequence[str] | None, index: int | None = None) -> str:
        """Such as ``285 Egyptian cat``."""
        return describe_class(self.index, names) + describe_place(self.at)

    def __str__(self) -> str:
        return write_class(self.index) + self._suffix()


@dataclass(frozen=True)
class Margin(ClassTarget):
    """The logit of a class minus that of another, ``against``; in the grammar ``a~b``."""

    against: Index

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "against", _checked(self.against))
        if self.index == self.against:
            raise TargetError(f"The target {self} sets a class against itself, which is always 0. Name two classes.")

    def bind(self, names: Sequence[str] | None) -> Target:
        """The same target with both classes as indices."""
        index, against = (find_class(c, names) if isinstance(c, str) else c for c in (self.index, self.against))
        return replace(self, index=index, against=against)

    def describe(self, names: Sequence[str] | None, index: int | None = None) -> str:
        """Such as ``285 Egyptian cat ~ 282 tiger cat``."""
        pair = f"{describe_class(self.index, names)} ~ {describe_class(self.against, names)}"
        return pair + describe_place(self.at)

    def _rows(self, values: Tensor, index: Tensor) -> Tensor:
        classes = values.shape[1]
        if isinstance(self.against, Top):
            other = values.argmax(1)
        else:
            require_class(self.against, classes)
            other = torch.full_like(index, cast(int, self.against))
        if bool((index == other).any()):
            same = int(index[index == other][0])
            raise TargetError(
                f"The target {self} sets class {same} against itself for one of the samples, which is always 0. Name "
                "another class, or 'rest'."
            )
        return one_hot(index, classes) - one_hot(other, classes)

    def __str__(self) -> str:
        return f"{write_class(self.index)}~{write_class(self.against)}{self._suffix()}"


@dataclass(frozen=True)
class Rest(ClassTarget):
    """The logit of a class minus the mean of the others weighted by their softmax; in the grammar ``a~rest``.

    The weights are constants: the softmax over the other classes alone, computed in float64.
    """

    def describe(self, names: Sequence[str] | None, index: int | None = None) -> str:
        """Such as ``285 Egyptian cat ~ rest``."""
        return f"{describe_class(self.index, names)} ~ rest{describe_place(self.at)}"

    def _rows(self, values: Tensor, index: Tensor) -> Tensor:
        # Apple's GPUs have no float64; the softmax is shifted by its maximum and safe in float32 as well.
        wide = torch.float32 if values.device.type == "mps" else torch.float64
        others = values.to(wide).scatter(1, index[:, None], -torch.inf)
        if bool(torch.isinf(others).all(1).any()):
            raise TargetError(
                f"The target {self} needs other classes to compare with, but the output has {values.shape[1]} "
                "class(es) and no other one with a finite score. Explain the logit itself: leave out '~rest'."
            )
        return one_hot(index, values.shape[1]).to(wide) - torch.softmax(others, 1)

    def __str__(self) -> str:
        return f"{write_class(self.index)}~rest{self._suffix()}"


def one_hot(index: Tensor, classes: int) -> Tensor:
    """Rows with a 1 at ``index`` (rows,): (rows, classes), float32."""
    return torch.nn.functional.one_hot(index, classes).to(torch.float32)


def require_class(index: int | str, classes: int) -> None:
    """Refuse a class that the output does not have.

    Raises:
        TargetError: a name that was never looked up, or an index out of range.
    """
    if isinstance(index, str):
        find_class(index, None)
    elif index >= classes:
        have = "only 1 value per sample, class 0" if classes == 1 else f"{classes} classes, 0 to {classes - 1}"
        raise TargetError(f"Class {index} is out of range: the model's output has {have}.")


def describe_class(index: Index, names: Sequence[str] | None) -> str:
    """``285 Egyptian cat``, a name as it is, or ``top class``."""
    return "top class" if isinstance(index, Top) else label(index, names) if isinstance(index, int) else index


def dense_choices(shape: Sequence[int], dim: int, index: Index) -> str:
    """The error for an output with positions and a target without a place: what there is to choose from."""
    size, free = f"{shape[dim]} classes", [axis for axis in range(1, len(shape)) if axis != dim]
    written = write_class(index)
    positions = " x ".join(str(shape[axis]) for axis in free)
    middle = ",".join(str(shape[axis] // 2) for axis in free)
    chosen = "-1" if len(free) == 1 else middle
    class_ = index if isinstance(index, int) else "c"
    slices = ", ".join([":"] * dim + [str(class_)])
    summed = f"lambda y: y[{slices}].sum({1 if len(free) == 1 else tuple(range(1, len(free) + 1))})"
    other = "" if len(shape) != 3 else f" Classes in dimension {3 - dim} are written '@dim{3 - dim}'."
    return (
        f"The output has shape {tuple(shape)}, read as {size} at each of {positions} positions, so a class alone is "
        f"not one number per sample. Choose a position, '{written}@{chosen}'; the region where the class is on top, "
        f"'{written}@mask'; the sum over all positions, '{written}@all'; '~rest' may stand before the '@', and 'top' "
        f"for the class on top; or give a callable such as {summed}{' with c the class' * (class_ == 'c')}.{other}"
    )


def _checked(index: object) -> Index:
    if isinstance(index, Top):
        return index
    if isinstance(index, str):
        if not index.strip():
            raise TargetError("A class name in a target is empty. Give a name, or the index of a class.")
        return index
    number = integer(index)
    if number is None or number < 0:
        raise TargetError(
            f"A class is an index of 0 or more, or a name; got {index!r}. The negative of a class is written with a "
            "string, '-1', or with a sign before the target."
        )
    return number
