"""The codes by which MXNet's Reshape says what becomes of each axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

CLASSIC = {0: "copy", -1: "infer", -2: "rest", -3: "merge", -4: "split"}
"""The codes of ``Reshape``."""

NUMPY = {-1: "infer", -2: "copy", -3: "drop", -4: "rest", -5: "merge", -6: "split"}
"""The codes of ``npx.reshape``, which number the same wishes otherwise."""


def reshape(x: Tensor, codes: Sequence[int], reverse: bool = False) -> Tensor:
    """``x`` in the shape that the codes of ``Reshape`` give; with ``reverse`` read from the last axis."""
    return x.reshape(coded_shape(x.shape, codes, CLASSIC, reverse))


def reshape_np(x: Tensor, codes: Sequence[int], reverse: bool = False) -> Tensor:
    """``x`` in the shape that the codes of ``npx.reshape`` give; with ``reverse`` read from the last axis."""
    return x.reshape(coded_shape(x.shape, codes, NUMPY, reverse))


def reshape_legacy(x: Tensor, target: Sequence[int], keep_first: bool) -> Tensor:
    """``x`` in a target shape as before 0.9: 0 is what is left over; the first axis may stay."""
    shape = [x.shape[0], *target[1:]] if keep_first else list(target)
    return x.reshape([length or -1 for length in shape])


def coded_shape(
    lengths: Sequence[int], codes: Sequence[int], meaning: Mapping[int, str], reverse: bool = False
) -> list[int]:
    """The shape that codes give, walking over the axes of the input.

    A code without a meaning is a length and passes one axis over. ``copy`` copies one, ``infer`` is computed at the end
    and passes one over, ``rest`` copies all that are left, ``merge`` multiplies the next two, ``drop`` leaves out one
    of length 1, and ``split``, with the two numbers after it (one of them may be -1), splits the next one.

    Raises:
        ValueError: the codes do not fit the axes.
    """
    if reverse:
        return coded_shape(lengths[::-1], _backwards(codes, meaning), meaning)[::-1]
    shape: list[int] = []
    axis, place = 0, 0
    while place < len(codes):
        wish = meaning.get(codes[place], "length")
        if wish == "rest":
            shape += lengths[axis:]
            axis = len(lengths)
        elif wish == "merge":
            shape.append(math.prod(_next(lengths, axis, 2)))
            axis += 2
        elif wish == "split":
            (whole,), (first, second) = _next(lengths, axis, 1), _next(codes, place + 1, 2)
            shape += [whole // second if first == -1 else first, whole // first if second == -1 else second]
            axis, place = axis + 1, place + 2
        elif wish in ("copy", "drop"):
            (length,) = _next(lengths, axis, 1)
            if wish == "drop" and length != 1:
                raise ValueError(f"an axis of length {length} cannot be dropped")
            shape += [length] if wish == "copy" else []
            axis += 1
        else:
            shape.append(codes[place])
            axis += 1
        place += 1
    if shape.count(-1) == 1:
        known = math.prod(length for length in shape if length != -1)
        shape[shape.index(-1)] = math.prod(lengths) // known if known else 0
    return shape


def _next(values: Sequence[int], place: int, count: int) -> list[int]:
    taken = list(values[place : place + count])
    if len(taken) < count:
        raise ValueError(f"the codes ask for more than the {len(values)} axes or numbers that there are")
    return taken


def _backwards(codes: Sequence[int], meaning: Mapping[int, str]) -> list[int]:
    """The codes in reverse order, each split followed by its two numbers."""
    groups: list[list[int]] = []
    place = 0
    while place < len(codes):
        width = 3 if meaning.get(codes[place]) == "split" else 1
        code, *numbers = codes[place : place + width]
        groups.append([code, *reversed(numbers)])
        place += width
    return [code for group in reversed(groups) for code in group]
