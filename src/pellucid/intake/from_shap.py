"""SHAP's explanations: values for every output, their base values and the explained data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.engine.ledger import Entry, Ledger
from pellucid.errors import InputError
from pellucid.intake.tensors import Targets, fields_of, fitted, labels_of, output_of, tensors_of

__all__ = ["shap_fields"]


def shap_fields(found: Any, x: Any, output: Any, target: Targets, settings: dict[str, object]) -> dict[str, Any]:
    """``values`` (N, ...) or (N, ..., outputs), ``base_values`` (N,), (N, outputs) or a number; one sample has no N."""
    values, base = np.asarray(found.values), np.asarray(found.base_values)
    if values.dtype == object:
        raise InputError(
            "This shap.Explanation holds samples of different lengths (texts): give one sample, explanation[i]."
        )
    data = getattr(found, "data", None)
    alone = base.ndim == 0 or (data is not None and np.shape(data)[:1] == values.shape[:1] != base.shape[:1])
    outputs = getattr(found, "output_names", None)
    several = _outputs_last(values, base, data, alone=alone)
    if alone:
        values, base = values[None], base[None]
    size = len(values)
    labels = labels_of(target, size)
    names = [str(name) for name in outputs] if several and isinstance(outputs, list | tuple | np.ndarray) else None
    if several:
        chosen = [_index(label, names, values.shape[-1], given=target is not None) for label in labels]
        values = np.stack([values[k][..., place] for k, place in enumerate(chosen)])
        base = base[np.arange(size), chosen] if base.ndim > 1 else base[chosen]
        labels = tuple(names[place] if names else str(place) for place in chosen)
    base_values = torch.as_tensor(np.broadcast_to(base.reshape(-1), (size,)).astype(np.float64))
    notes: list[str] = []
    relevance = tensors_of(values, "the values of a shap.Explanation")
    if x is None:
        x = _data(data, values.shape)
        if relevance.ndim == 4 and relevance.shape[-1] in (1, 3) and relevance.shape[1] not in (1, 3):
            relevance, x = relevance.movedim(-1, 1), None if x is None else x.movedim(-1, 1)
            notes.append("Pictures (N, H, W, C) were brought to (N, C, H, W).")
    else:
        relevance = fitted(relevance, x, notes)
    total = base_values + relevance.double().reshape(size, -1).sum(1)
    features = getattr(found, "feature_names", None)
    if relevance.ndim == 2 and isinstance(features, list | tuple | np.ndarray) and len(features) == relevance.shape[1]:
        settings.setdefault("feature names", [str(name) for name in features])
    settings.setdefault("base values", base_values.tolist())
    ledger = None
    if output is None:
        notes.append("The output is taken as the base value plus the sum of the values.")
        explained = total.to(relevance.dtype)
    else:
        explained = output_of(output, size, notes)
        entries = (
            Entry("baseline", "", float(base_values.sum())),
            Entry("input", "x", float(relevance.double().sum())),
        )
        ledger = Ledger(float(explained.double().sum()), entries)
    return fields_of(relevance, explained, labels, x, notes, ledger=ledger)


def _outputs_last(values: Any, base: Any, data: Any, *, alone: bool) -> bool:
    """Whether the last dimension of the values counts outputs."""
    if data is not None and np.ndim(data) and np.shape(data) != values.shape:
        return bool(values.ndim == np.ndim(data) + 1)
    return bool(base.ndim == (1 if alone else 2) and values.ndim > 1 and base.shape[-1] == values.shape[-1])


def _data(data: Any, shape: tuple[int, ...]) -> Tensor | None:
    """The explained input that a shap.Explanation holds, where it is numbers."""
    array = None if data is None else np.asarray(data)
    if array is None or array.dtype.kind not in "fiu" or array.size != math.prod(shape):
        return None
    return torch.as_tensor(np.array(array.reshape(shape)))


def _index(label: str, names: Sequence[str] | None, count: int, *, given: bool) -> int:
    """The output that a label means."""
    if names and label in names:
        return names.index(label)
    if given and label.lstrip("-").isdigit() and -count <= int(label) < count:
        return int(label) % count
    there = ", ".join(names) if names else f"0 to {count - 1}"
    raise InputError(f"{count} outputs were explained: say which with target=, one of {there}.")
