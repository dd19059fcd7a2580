"""LIME's explanations of a row, a text or a picture: weights of features for some labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import InputError
from pellucid.intake.tensors import Targets, fields_of, fitted, output_of

__all__ = ["lime_fields"]


def lime_fields(found: Any, x: Any, output: Any, target: Targets, settings: dict[str, object]) -> dict[str, Any]:
    """One sample; ``local_exp`` holds (feature, weight) pairs by label, ``segments`` (H, W) a picture's features."""
    weights = {int(label): {int(feature): float(w) for feature, w in pairs} for label, pairs in found.local_exp.items()}
    names = getattr(found, "class_names", None)
    regression = getattr(found, "mode", "") == "regression"
    label = int(found.dummy_label) if regression else _lime_label(weights, names, target)
    if label not in weights:
        raise InputError(f"LIME explained the labels {sorted(weights)}, not {label}. Name one of them with target=.")
    pairs = weights[label]
    segments = getattr(found, "segments", None)
    notes: list[str] = []
    details: dict[str, Tensor] = {}
    if segments is not None:
        relevance, details["feature scores"] = _of_segments(np.asarray(segments), pairs, x)
    else:
        features = _feature_names(found)
        count = x.shape[1] if isinstance(x, Tensor) and x.ndim == 2 else len(features or ()) or max(pairs) + 1
        if max(pairs) >= count:
            raise InputError(f"LIME weighs feature {max(pairs)}, and the input has {count} features.")
        relevance = torch.zeros(1, count, dtype=torch.float64)
        for feature, weight in pairs.items():
            relevance[0, feature] = weight
        if features:
            settings.setdefault("feature names", features)
    relevance = relevance if x is None else fitted(relevance, x, notes)
    if output is None:
        output = getattr(found, "predicted_value", None) if regression else _probability(found, label)
    for key, value in (("intercept", found.intercept), ("score", getattr(found, "score", None))):
        value = value.get(label, value.get(np.int64(label))) if isinstance(value, Mapping) else value
        if value is not None:
            settings.setdefault(key, float(value))
    shown = str(target) if regression and target is not None else "prediction" if regression else _name(names, label)
    return fields_of(relevance, output_of(output, 1, notes), (shown,), x, notes, details=details)


def _lime_label(weights: Mapping[int, Any], names: Sequence[Any] | None, target: Targets) -> int:
    if target is None:
        if len(weights) == 1:
            return min(weights)
        raise InputError(f"LIME explained several labels: say which with target=, one of {sorted(weights)}.")
    known = [str(name) for name in names] if names is not None else []
    if str(target) in known:
        return known.index(str(target))
    if str(target).isdigit():
        return int(str(target))
    raise InputError(f"No label is called {target!r}. LIME explained {[_name(names, label) for label in weights]}.")


def _name(names: Sequence[Any] | None, label: int) -> str:
    return str(names[label]) if names is not None and label < len(names) else str(label)


def _of_segments(segments: Any, weights: Mapping[int, float], x: Any) -> tuple[Tensor, Tensor]:
    """A map whose sum over a segment is its weight, and the weights (1, segments)."""
    if segments.ndim != 2:
        raise InputError(f"Expected LIME's segments as (height, width); got shape {segments.shape}.")
    places = torch.as_tensor(segments.astype(np.int64))
    scores = torch.zeros(int(places.max()) + 1, dtype=torch.float64)
    for feature, weight in weights.items():
        scores[feature] = weight
    counts = torch.bincount(places.reshape(-1), minlength=len(scores)).clamp(min=1)
    shared = (scores / counts)[places][None, None]
    channels = x.shape[1] if isinstance(x, Tensor) and x.ndim == 4 else 1
    return shared.expand(1, channels, *places.shape) / channels, scores[None]


def _feature_names(found: Any) -> list[str] | None:
    mapper = getattr(found, "domain_mapper", None)
    text = getattr(mapper, "indexed_string", None)
    if text is not None:
        return [str(text.word(k)) for k in range(text.num_words())]
    names = getattr(mapper, "exp_feature_names", None)
    return None if names is None else [str(name) for name in names]


def _probability(found: Any, label: int) -> Any:
    probabilities = getattr(found, "predict_proba", None)
    return None if probabilities is None else probabilities[label]
