"""Attributions as tensors, brought to the form of the input."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import InputError
from pellucid.structures import named_tensors

__all__ = ["Targets", "fields_of", "fitted", "labels_of", "output_of", "tensor_fields", "tensors_of"]

Targets = int | str | Sequence[int | str] | None

_KINDS = (
    "a tensor or array (N, ...), a tuple or dict of them for several inputs, a shap.Explanation, or an explanation by "
    "LIME"
)


def tensor_fields(attribution: Any, x: Any, output: Any, target: Targets) -> dict[str, Any]:
    """The fields of an Explanation of tensors."""
    if isinstance(attribution, list):
        raise InputError(
            "An attribution as a list is ambiguous: give a tuple for several inputs; of an older SHAP's list of "
            "classes give the one array that is meant."
        )
    relevance = tensors_of(attribution, "the attribution")
    notes: list[str] = []
    if x is not None:
        relevance = fitted(relevance, x, notes)
    sizes = {len(tensor) if tensor.ndim else 0 for tensor in named_tensors(relevance).values()}
    if len(sizes) != 1 or 0 in sizes:
        raise InputError(f"Expected attributions with the same first dimension, the samples; got {sorted(sizes)}.")
    size = sizes.pop()
    return fields_of(relevance, output_of(output, size, notes), labels_of(target, size), x, notes)


def fields_of(
    relevance: Any, output: Tensor, labels: tuple[str, ...], x: Any, notes: Sequence[str], **more: Any
) -> dict[str, Any]:
    """The fields of an Explanation."""
    return {
        "relevance": relevance,
        "output": output,
        "target": labels,
        "input": x,
        "warnings": tuple(notes),
        **more,
    }


def tensors_of(value: Any, what: str) -> Any:
    """The same structure with tensors in it; floating numbers keep their dtype."""
    if isinstance(value, Tensor):
        if value.is_complex() or value.layout is not torch.strided:
            raise InputError(f"{what} must be made of real, dense numbers; got {value.dtype}, {value.layout}.")
        return value
    if isinstance(value, Mapping):
        return {str(name): None if part is None else tensors_of(part, what) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(None if part is None else tensors_of(part, what) for part in value)
    if isinstance(value, np.ndarray | np.generic | float | int) or hasattr(value, "__array__"):
        array = np.asarray(value)
        if array.dtype.kind in "fiub":
            return torch.as_tensor(np.array(array, order="C"))
        raise InputError(f"{what} must be made of numbers; got an array of {array.dtype}.")
    raise InputError(f"{what} cannot be used: expected {_KINDS}; got {type(value).__name__}.")


def fitted(relevance: Any, x: Any, notes: list[str]) -> Any:
    """Relevance in the form of the input."""
    if isinstance(relevance, tuple) and not isinstance(x, tuple):
        _refuse_pairs(relevance, x)
    if type(relevance) is not type(x) and not (isinstance(relevance, Tensor) and isinstance(x, Tensor)):
        raise InputError(
            f"The attribution is a {type(relevance).__name__}, the input a {type(x).__name__}: give both in one form."
        )
    inputs, found = named_tensors(x), named_tensors(relevance)
    if isinstance(x, tuple) and len(relevance) != len(x):
        raise InputError(f"The attribution has {len(relevance)} parts, the input {len(x)}.")
    unknown = [name for name in found if name not in inputs]
    if unknown:
        raise InputError(f"The attribution names {unknown}, which are no inputs. Those are: {sorted(inputs)}.")
    fitted = {name: _one(name, value, inputs[name], notes) for name, value in found.items()}
    if isinstance(relevance, Tensor):
        return fitted["x"]
    if isinstance(relevance, Mapping):
        return fitted
    return tuple(fitted.get(str(k)) for k in range(len(relevance)))


def _refuse_pairs(pair: tuple[Any, ...], x: Any) -> None:
    """What Captum and zennit return beside the attribution."""
    shapes = [tuple(part.shape) for part in pair if isinstance(part, Tensor)]
    if isinstance(x, Tensor) and len(pair) == len(shapes) == 2:
        if shapes[1] == tuple(x.shape) and shapes[0] != shapes[1]:
            raise InputError("This looks like zennit's pair (output, relevance): give the second alone.")
        if len(shapes[1]) == 1:
            raise InputError("This looks like Captum's pair (attributions, convergence delta): give the first alone.")


def _one(name: str, value: Tensor, x: Tensor, notes: list[str]) -> Tensor:
    """One input's relevance in its shape."""
    value = value if value.is_floating_point() else value.float()
    shape = tuple(x.shape)
    if tuple(value.shape) == shape:
        return value
    if tuple(value.shape) == shape[1:] and shape[0] == 1:
        return value[None]
    if not x.is_floating_point() and tuple(value.shape[:-1]) == shape:
        return value.sum(-1)  # of the features of each token's vector
    if value.ndim == len(shape) > 2 and tuple(value.movedim(-1, 1).shape) == shape:
        return value.movedim(-1, 1)
    if (
        value.ndim == len(shape) > 2
        and value.shape[1] == 1
        and (shape[0], *shape[2:]) == (len(value), *value.shape[2:])
    ):
        notes.append(f"One map for all channels of input {name!r}: it is shared out equally among them.")
        return value.expand(shape) / shape[1]
    hint = ""
    if value.ndim == len(shape) and value.shape[0] == shape[0]:
        hint = " Maps of a layer must be brought to the input's size first (captum.attr.LayerAttribution.interpolate)."
    raise InputError(f"The attribution of input {name!r} has shape {tuple(value.shape)}, the input {shape}.{hint}")


def output_of(output: Any, size: int, notes: list[str]) -> Tensor:
    """The explained scalars (N,); NaN where they are not known.

    Raises:
        InputError: not one per sample.
    """
    if output is None:
        notes.append("The explained output was not given: relevance is shown as it is, not as a share of the output.")
        return torch.full((size,), math.nan)
    tensor = tensors_of(np.asarray(output) if isinstance(output, list | tuple) else output, "output")
    if not isinstance(tensor, Tensor) or tensor.numel() != size:
        raise InputError(f"output= must hold one scalar per sample, {size} in all; got {output!r}.")
    return (tensor if tensor.is_floating_point() else tensor.float()).reshape(size)


def labels_of(target: Targets, size: int) -> tuple[str, ...]:
    """One label per sample.

    Raises:
        InputError: another number of them.
    """
    if target is None:
        return ("output",) * size
    if isinstance(target, str | int | np.integer):
        return (str(target),) * size
    labels = tuple(str(label) for label in (target.tolist() if hasattr(target, "tolist") else target))
    if len(labels) != size:
        raise InputError(f"target= must be one label, or one per sample, {size} in all; got {len(labels)}.")
    return labels
