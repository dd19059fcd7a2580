"""What a model returned, and which tensor of it targets refer to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

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
    found = [(path, value) for path, value in _leaves(output, "") if isinstance(value, Tensor)]
    floating = [(path, value) for path, value in found if value.is_floating_point()]
    if len(floating) == 1:
        path, tensor = floating[0]
        return tensor, path
    kind = type(output).__name__
    if not floating:
        there = f"It holds {_listing(found)}" if found else "It holds no tensor at all"
        raise InputError(
            f"The model returned a {kind} without a floating-point tensor, so there is no score to explain. {there}. "
            "Explain a module whose output is a tensor, a tuple or a dictionary with scores."
        )
    path, tensor = floating[-1]
    access = f"output{path}" if path.startswith("[") else f"output.{path}"
    if isinstance(output, Mapping) and "." not in path and "[" not in path:
        access = f"output[{path!r}]"
    summed = ".flatten(1).sum(1)" if tensor.ndim > 1 else ""
    raise InputError(
        f"The model returned a {kind} with several tensors and none is called 'logits' or 'out', so it is not clear "
        f"which one is explained. There are {_listing(floating)}. Say it with a target that takes the whole output, "
        f"for example target=pellucid.targets.raw(lambda output: {access}{summed})."
    )


def _fields(output: object) -> Mapping[str, Any]:
    """The named entries of a container, empty for one without names."""
    if isinstance(output, Mapping):
        return {str(key): value for key, value in output.items()}
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return dict(zip(output._fields, output, strict=True))
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    return {}


def _leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    """Everything inside nested containers with its path; other objects (caches, strings) are leaves themselves."""
    named = _fields(value)
    if named:
        for key, inner in named.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, (tuple, list)):
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{place}]")
    else:
        yield path, value


def _listing(found: list[tuple[str, Tensor]]) -> str:
    shown = [f"{path} {tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}" for path, tensor in found]
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "")
