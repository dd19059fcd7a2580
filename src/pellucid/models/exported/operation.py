"""One of torch's operators as a layer, and which operators a program may name."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.engine.private import has_kernel
from pellucid.errors import InputError

PYTHON: Mapping[str, Callable[..., Any]] = {
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in "add sub mul floordiv mod neg truediv eq ne lt le gt ge and_ or_ not_ getitem".split()
    },
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc")},
    **{
        f"torch.{name}": getattr(torch, name)
        for name in "sym_int sym_float sym_max sym_min sym_not sym_ite sym_sum".split()
        if hasattr(torch, name)
    },
}
"""Functions of lengths; nothing else of Python can be named."""

NAMESPACES = ("aten", "torchvision")
_UNDERSCORED = frozenset(
    "_softmax _log_softmax _to_copy _unsafe_view _assert_scalar _assert_tensor_metadata _assert_async "
    "_prelu_kernel _adaptive_avg_pool2d _adaptive_avg_pool3d _native_batch_norm_legit_no_training "
    "_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_attention_math _upsample_bicubic2d_aa "
    "_upsample_bilinear2d_aa _weight_norm _weight_norm_interface _shape_as_tensor _cdist_forward _trilinear "
    "_fft_r2c _fft_c2r _fft_c2c _safe_softmax _euclidean_dist _embedding_bag _reshape_from_tensor __and__ "
    "__or__ __xor__ __lshift__ __rshift__".split()
)
"""Private operators that exported programs hold; others are refused, for some do not check what they are given."""
_REFUSED = frozenset("set_ set resize_ resize_as_ resize from_file save as_strided_ empty_strided".split())
_KINDS = frozenset(
    "Tensor int bool float number Device Generator List[int] List[Tensor] List[float] List[bool] List[number] "
    "List[Optional[Tensor]]".split()
)
_WORDS = frozenset(
    "rounding_mode approximate mode equation indexing reduce norm pad_mode padding side padding_side interpolation ord "
    "UPLO assert_msg".split()
)
"""The arguments of operators that may be text: none is the name of a file."""


def allowed(target: str) -> bool:
    """Whether a program may name this function: an operator on tensors and numbers that touches nothing else."""
    return target in PYTHON or _operator(target) is not None


def resolve(target: str) -> Callable[..., Any]:
    """The function of a target that :func:`allowed` lets pass."""
    found = PYTHON.get(target) or _operator(target)
    if found is None:
        raise ValueError(f"{target} is no operator that a program may name")
    return found


@functools.lru_cache(4096)
def _operator(target: str) -> Any:
    parts = target.split(".")
    if len(parts) != 5 or parts[:2] != ["torch", "ops"] or parts[2] not in NAMESPACES:
        return None
    namespace, name, overload = parts[2:]
    if (
        not all(part.isidentifier() for part in parts)
        or name in _REFUSED
        or (name.startswith("_") and name not in _UNDERSCORED)
    ):
        return None
    qualified = f"{namespace}::{name}" + ("" if overload == "default" else f".{overload}")
    if not has_kernel(qualified):
        return None
    found = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    return found if all(_harmless(argument) for argument in found._schema.arguments) else None


def _harmless(argument: Any) -> bool:
    kind = str(argument.type)
    kind = kind.removeprefix("Optional[").removesuffix("]") if kind.startswith("Optional[") else kind
    return argument.name in _WORDS if kind == "str" else kind in _KINDS


def mutates(target: str) -> bool:
    """Whether the operator writes into a tensor that it is given."""
    found = _operator(target)
    return found is not None and bool(found._schema.is_mutable)


@dataclass(frozen=True)
class Slot:
    """Stands in the arguments of an operation for a value that is computed."""

    index: int


@dataclass(frozen=True)
class Here:
    """Stands for the device that the model is on, or for the floating type that it computes in."""

    what: str
    dtype: torch.dtype | None = None

    def __repr__(self) -> str:
        return f"<{self.what}>"


class Operation(nn.Module):
    """One of torch's operators, with the settings that a program fixes.

    Args:
        target: the operator, ``torch.ops.aten.relu.default``.
        arguments: what it is called with; a :class:`Slot` for each value that a forward makes, a :class:`Here` for what
            follows the model when it moves.
        keywords: likewise, by name.

    Raises:
        ValueError: a program may not name the target.
    """

    anchor: Tensor

    def __init__(self, target: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        super().__init__()
        resolve(target)
        self.target, self.arguments, self.keywords = target, arguments, dict(keywords)
        self.mutates = mutates(target)
        held = [part for part in leaves((*arguments, *keywords.values())) if isinstance(part, Here)]
        if held:
            dtype = next((part.dtype for part in held if part.dtype is not None), None)
            self.register_buffer("anchor", torch.empty(0, dtype=dtype), persistent=False)

    def forward(self, *values: Any) -> Any:
        """Apply the operator to the values of the slots."""
        arguments = [self._filled(argument, values) for argument in self.arguments]
        keywords = {key: self._filled(value, values) for key, value in self.keywords.items()}
        result = resolve(self.target)(*arguments, **keywords)
        return tuple(result) if isinstance(result, list) else result

    def _filled(self, template: Any, values: tuple[Any, ...]) -> Any:
        if isinstance(template, Slot):
            return values[template.index]
        if isinstance(template, Here):
            return getattr(self.anchor, template.what)
        if isinstance(template, (list, tuple)):
            return [self._filled(part, values) for part in template]
        return template

    def extra_repr(self) -> str:
        """The operator and what it is called with."""
        settings = [*map(_words, self.arguments), *(f"{key}={_words(value)}" for key, value in self.keywords.items())]
        return f"{self.target.removeprefix('torch.ops.')}: {', '.join(settings)}"


class WithoutGradient(nn.Module):
    """A part of a program that runs without autograd, or in another precision's context.

    Args:
        body: the part.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, *values: Any) -> Any:
        """What the part gives, with no path back to what it took."""
        with torch.no_grad():
            result = self.body(*values)
        return result if isinstance(result, tuple) else (result,)


class Inline(nn.Module):
    """A part of a program that runs as it is, always giving a tuple."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, *values: Any) -> Any:
        """What the part gives."""
        result = self.body(*values)
        return result if isinstance(result, tuple) else (result,)


def leaves(template: Any) -> Iterator[Any]:
    """The parts of an argument that are no lists."""
    if isinstance(template, (list, tuple)):
        for part in template:
            yield from leaves(part)
    else:
        yield template


def _words(template: Any) -> str:
    if isinstance(template, Slot):
        return "_" if template.index == 0 else f"_{template.index + 1}"
    if isinstance(template, (list, tuple)):
        return f"[{', '.join(map(_words, template))}]"
    return repr(template)


def expect_shape(x: Tensor, name: str, sizes: tuple[int | None, ...]) -> Tensor:
    """``x`` itself, if its shape is one that the program was exported for.

    Raises:
        InputError: it is not.
    """
    if x.ndim != len(sizes) or any(size not in (None, found) for size, found in zip(sizes, x.shape, strict=True)):
        wanted = ", ".join("any" if size is None else str(size) for size in sizes)
        raise InputError(
            f"this program was exported for an input {name!r} of shape ({wanted}), but got {tuple(x.shape)}. Methods "
            "run several variants at once, so export it with a free batch axis: torch.export.export(..., "
            "dynamic_shapes={'" + name + "': {0: torch.export.Dim('batch')}})."
        )
    return x
