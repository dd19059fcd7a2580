"""``timm:NAME``: its models, with its weights, class names and preprocessing."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pellucid.errors import FileError, InputError, ModelError, require
from pellucid.models.files import reason
from pellucid.models.loaded import LoadedModel
from pellucid.models.preprocessing import Preprocessing
from pellucid.models.spec import Spec, did_you_mean
from pellucid.models.weights import classes_in, load_weights, read_state_dict, without_prefix

ELSEWHERE = ("hf-hub:", "hf_hub:", "local-dir:")


def load_timm(spec: Spec) -> LoadedModel:
    """Load ``timm:NAME`` or ``timm:NAME.TAG``; see :func:`pellucid.load_model` for the options.

    The class names and the preprocessing are those that timm's configuration gives for the name and tag, also where the
    weights are random or come from a file.
    """
    timm = require("timm", extra="vision", caller=repr(spec.text))
    if not spec.name.startswith(ELSEWHERE) and not timm.is_model(spec.name):
        near = did_you_mean(spec.name, timm.list_models()) or did_you_mean(spec.name.split(".")[0], timm.list_models())
        raise InputError(f"{spec.text!r}: timm has no model {spec.name!r}{near}. timm.list_models() lists all.")
    family, dot, _ = spec.name.partition(".")
    tagged = timm.list_models(f"{family}.*", pretrained=True) if dot and not spec.name.startswith(ELSEWHERE) else ()
    if dot and tagged and spec.name not in tagged:
        raise InputError(f"{spec.text!r}: timm has {family} only as {', '.join(tagged[:8])}.")
    if spec.random:
        module = _create(timm, spec, spec.classes)
    elif spec.weights in (None, "DEFAULT"):
        module = _pretrained(timm, spec)
    else:
        module = _from_file(timm, spec)
    return LoadedModel(module, _class_names(timm, module), _preprocessing(timm, module))


def _create(timm: Any, spec: Spec, classes: int | None) -> nn.Module:
    arguments = {} if classes is None else {"num_classes": classes}
    try:
        return timm.create_model(spec.name, pretrained=False, **arguments)  # type: ignore[no-any-return]
    except (RuntimeError, TypeError, ValueError, OSError, NotImplementedError) as error:
        raise ModelError(f"timm could not build {spec.name}: {reason(error)}.") from error


def _pretrained(timm: Any, spec: Spec) -> nn.Module:
    arguments = {} if spec.classes is None else {"num_classes": spec.classes}
    try:
        return timm.create_model(spec.name, pretrained=True, **arguments)  # type: ignore[no-any-return]
    except Exception as error:  # the hub's client raises its own kinds, and they change with its version
        raise ModelError(
            f"{spec.text!r} needs pretrained weights, which timm could not get: {reason(error)[:300]}. Give a file "
            f"(timm:{spec.name}?weights=FILE), ask for random weights (?weights=none), or load it once where there is "
            "a network."
        ) from error


def _from_file(timm: Any, spec: Spec) -> nn.Module:
    path = spec.weights or ""
    if not Path(path).exists():
        raise FileError(f"{spec.text!r}: there is no file {path!r}. Weights are a file, none (random) or DEFAULT.")
    state: Mapping[str, Tensor] = read_state_dict(path, trust=spec.trust)
    module = _create(timm, spec, spec.classes)
    state = _converted(without_prefix(state, module), module)
    classes = classes_in(state, module) if spec.classes is None else None
    if classes is not None:
        module = _create(timm, spec, classes)
    load_weights(module, state, origin=path)
    return module


def _converted(state: Mapping[str, Tensor], module: nn.Module) -> Mapping[str, Tensor]:
    """Rename a model family's original checkpoint with timm's own filter where the names differ."""
    convert = getattr(importlib.import_module(type(module).__module__), "checkpoint_filter_fn", None)
    if convert is None or set(state) == set(module.state_dict()):
        return state
    try:
        converted = convert(dict(state), module)
    except Exception:  # a filter met a checkpoint of another family: load_weights then says what differs
        return state
    return converted if isinstance(converted, Mapping) else state


def _class_names(timm: Any, module: nn.Module) -> tuple[str, ...] | None:
    settings = getattr(module, "pretrained_cfg", None) or {}
    classes = getattr(module, "num_classes", None)
    labels = settings.get("label_names")
    if labels and len(labels) == classes:
        described = settings.get("label_descriptions") or {}
        return tuple(described.get(label, label) for label in labels)
    subset = timm.data.infer_imagenet_subset(module)
    if not classes or subset is None:
        return None
    return tuple(timm.data.ImageNetInfo(subset).label_descriptions())


def _preprocessing(timm: Any, module: nn.Module) -> Preprocessing | None:
    settings = timm.data.resolve_model_data_config(module)
    channels, *crop = settings["input_size"]
    if channels not in (1, 3):
        return None
    scaled = [math.floor(side / settings["crop_pct"]) for side in crop]
    mean = tuple(settings["mean"])
    fits = {"squash": "stretch", "border": "contain"}
    fit = fits.get(settings["crop_mode"], "cover")
    square = fit == "cover" and scaled[0] == scaled[1]
    return Preprocessing(
        resize=scaled[0] if square else (scaled[0], scaled[1]),
        crop=(crop[0], crop[1]),
        mean=mean,
        std=tuple(settings["std"]),
        interpolation=settings["interpolation"],
        channels="RGB" if channels == 3 else "L",
        fit=fit,
        fill=tuple(round(255 * value) for value in mean) if fit == "contain" else (0,),
    )
