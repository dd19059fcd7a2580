"""``torchvision:NAME``: its models, with its weights, class names and preprocessing."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from pellucid.errors import FileError, InputError, ModelError, require
from pellucid.models.files import reason
from pellucid.models.labels import full_names
from pellucid.models.loaded import LoadedModel
from pellucid.models.preprocessing import Preprocessing
from pellucid.models.spec import Spec, did_you_mean
from pellucid.models.weights import classes_in, load_weights, read_state_dict

logger = logging.getLogger(__name__)

# Their pretrained weights expect inputs that the network first brings from ImageNet's normalisation to its own.
TRANSFORM_INPUT = ("googlenet", "inception_v3")
HASH_IN_NAME = re.compile(r"-([a-f0-9]{8,})\.")


def load_torchvision(spec: Spec) -> LoadedModel:
    """Load ``torchvision:NAME``; see :func:`pellucid.load_model` for the options.

    The class names and the preprocessing are those of the weights: of the named ones, of those whose file name the
    given file bears, else of the library's default ones.
    """
    models = require("torchvision.models", extra="vision", caller=repr(spec.text))
    name = spec.name.lower()
    if name not in models.list_models():
        raise InputError(
            f"{spec.text!r}: torchvision has no model {spec.name!r}{did_you_mean(name, models.list_models())}. "
            "torchvision.models.list_models() lists all."
        )
    entries = models.get_model_weights(name)
    entry = _entry(entries, spec.weights)
    classes = spec.classes
    if spec.random:
        module = _build(models, name, entry, classes, {})
    elif spec.weights is None or spec.weights in ("DEFAULT", *entries.__members__):
        if classes is not None:
            raise InputError(
                f"{spec.text!r}: pretrained weights have their own number of classes; &classes= goes with weights=none "
                "or with a file."
            )
        module = _pretrained(models, name, entry, spec)
    else:
        module, classes = _from_file(models, name, entry, spec)
    names = full_names(entry.meta.get("categories") or ())
    return LoadedModel(module, names if names and classes in (None, len(names)) else None, _preprocessing(entry))


def _entry(entries: Any, weights: str | None) -> Any:
    """Return the library's entry that describes the weights."""
    if weights in entries.__members__:
        return entries[weights]
    file = Path(weights or "").name
    return next((entry for entry in entries if Path(urlparse(entry.url).path).name == file), entries.DEFAULT)


def _pretrained(models: Any, name: str, entry: Any, spec: Spec) -> nn.Module:
    """Fetch the checkpoint, read it once without running code, then let the library build around its cached file."""
    place = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(entry.url).path).name
    if not place.exists():
        logger.info("%s: downloading %s to %s", spec.text, entry.url, place)
        digest = HASH_IN_NAME.search(place.name)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(entry.url, str(place), digest and digest.group(1), progress=False)
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: the hash differs
            raise ModelError(
                f"{spec.text!r} needs pretrained weights that are not in torch's cache, and {entry.url} could not be "
                f"fetched: {reason(error)}. Give a file ({spec.prefix}:{name}?weights=FILE), ask for random weights "
                "(?weights=none), or load it once where there is a network."
            ) from error
    read_state_dict(place)
    return _make(models, name, {"weights": entry, "progress": False})


def _from_file(models: Any, name: str, entry: Any, spec: Spec) -> tuple[nn.Module, int | None]:
    """Return the module and its number of classes where that is not the library's."""
    path = spec.weights or ""
    if not Path(path).exists():
        named = ", ".join(models.get_model_weights(name).__members__)
        raise FileError(f"{spec.text!r}: there is no file {path!r}, and no weights of that name (there are {named}).")
    state = read_state_dict(path, trust=spec.trust)
    module = _build(models, name, entry, spec.classes, state)
    classes = spec.classes
    if classes is None and (classes := classes_in(state, module)) is not None:
        module = _build(models, name, entry, classes, state)
    load_weights(module, state, origin=path)
    return module, classes


def _build(models: Any, name: str, entry: Any, classes: int | None, state: Mapping[str, Tensor]) -> nn.Module:
    """Build the architecture that ``entry`` describes, without its weights and without fetching a backbone's."""
    arguments: dict[str, Any] = {"weights": None}
    known = entry.meta.get("categories")
    if classes is not None or known:
        arguments["num_classes"] = classes if classes is not None else len(known)
    annotations = models.get_model_builder(name).__annotations__
    if "weights_backbone" in annotations:
        arguments["weights_backbone"] = None
    if any("aux_classifier." in key for key in state):
        arguments["aux_loss"] = True
    if name in TRANSFORM_INPUT:
        aux = any("aux1." in key or "AuxLogits." in key for key in state)
        arguments.update(transform_input=True, init_weights=True, aux_logits=aux)
    if name.startswith("vit_"):
        arguments["image_size"] = entry.meta["min_size"][0]
    return _make(models, name, arguments)


def _make(models: Any, name: str, arguments: dict[str, Any]) -> nn.Module:
    try:
        return models.get_model(name, **arguments)  # type: ignore[no-any-return]
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise ModelError(f"torchvision could not build {name} with {arguments}: {reason(error)}.") from error


def _preprocessing(entry: Any) -> Preprocessing | None:
    transforms = entry.transforms()
    kind = type(transforms).__name__
    if kind == "ObjectDetection":
        return Preprocessing()
    if kind not in ("ImageClassification", "SemanticSegmentation"):
        return None  # clips and pairs of frames are no single photos
    crop = transforms.crop_size[0] if kind == "ImageClassification" else None
    return Preprocessing(
        resize=transforms.resize_size[0],
        crop=crop and (crop, crop),
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation.value,
    )
