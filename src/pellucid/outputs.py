"""What a model returned, and which tensor of it targets refer to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from pellucid.errors import InputError

_PREFERRED = ("logits", "out")  # "out" is the main head of torchvision's segmentation models, beside "aux"


def main_output(output: object) -> tuple[Tensor, str]:
    """Find the tensor that targets refer to in what a model returned.

    A tensor is itself. In a dictionary, a named tuple, a dataclass or a transformers ``ModelOutput`` it is the entry
    ``logits``, else ``out``; otherwise, and in tuples and lists, it is the only floating tensor, however deep.

    Args:
        output: whatever the model's forward returned.

    Returns:
        The tensor, unchanged, and its path: ``output`` for a lone tensor, else such as ``logits`` or ``[0].hidden``.

    Raises:
        InputError: there is no floating tensor, or several and nothing says which is meant; lists all there are.
    """
    if isinstance(output, Tensor):
        return output, "output"
    named = _fields(output)
    for key in _PREFERRED:
        value = named.get(key)
        if isinstance(value, Tensor) and value.is_floating_point():
            return value, key
    found = list(_tensors(output, "", "output"))
    floating = [leaf for leaf in found if leaf.tensor.is_floating_point()]
    if len(floating) == 1:
        return floating[0].tensor, floating[0].path
    kind = type(output).__name__
    if not floating:
        there = f"It holds {_listing(found)}" if found else "It holds no tensor at all"
        raise InputError(
            f"The model returned a {kind} without a floating-point tensor, so there is no score to explain. {there}. "
            "Explain a module whose output is a tensor, a tuple or a dictionary with scores."
        )
    last = floating[-1]
    summed = ".flatten(1).sum(1)" if last.tensor.ndim > 1 else ""
    raise InputError(
        f"The model returned a {kind} with several tensors and none is called 'logits' or 'out', so it is not clear "
        f"which one is explained. There are {_listing(floating)}. Say it with a target that takes the whole output, "
        f"for example target=pellucid.targets.raw(lambda output: {last.access}{summed})."
    )


class _Leaf(NamedTuple):
    """A tensor inside an output: its path for people, and the expression that reaches it."""

    path: str
    access: str
    tensor: Tensor


def _fields(output: object) -> Mapping[str, Any]:
    """The named entries of a container, empty for one without names."""
    if isinstance(output, Mapping):
        return {str(key): value for key, value in output.items()}
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return dict(zip(output._fields, output, strict=True))
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    return {}


def _tensors(value: object, path: str, access: str) -> Iterator[_Leaf]:
    """The tensors inside nested containers; other objects, such as caches, are not looked into."""
    if isinstance(value, Tensor):
        yield _Leaf(path, access, value)
    elif named := _fields(value):
        for key, inner in named.items():
            reach = f"[{key!r}]" if isinstance(value, Mapping) else f".{key}"
            yield from _tensors(inner, f"{path}.{key}" if path else key, access + reach)
    elif isinstance(value, (tuple, list)):
        for place, inner in enumerate(value):
            yield from _tensors(inner, f"{path}[{place}]", f"{access}[{place}]")


def _listing(found: list[_Leaf]) -> str:
    shown = [f"{leaf.path} {tuple(leaf.tensor.shape)} {str(leaf.tensor.dtype)[6:]}" for leaf in found]
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "")
