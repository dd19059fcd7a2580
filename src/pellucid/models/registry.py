"""``load_model``: which loader serves which kind of specification, and what holds for all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pellucid.errors import FileError, InputError
from pellucid.models.demo import load_demo
from pellucid.models.exported.load import SUFFIX as PROGRAM
from pellucid.models.exported.load import load_exported
from pellucid.models.from_python import load_python
from pellucid.models.from_timm import load_timm
from pellucid.models.from_torchvision import load_torchvision
from pellucid.models.from_transformers import load_transformers
from pellucid.models.labels import read_labels
from pellucid.models.loaded import LoadedModel
from pellucid.models.mxnet.load import SUFFIX as SYMBOL
from pellucid.models.mxnet.load import load_mxnet
from pellucid.models.onnx.load import SUFFIX as ONNX
from pellucid.models.onnx.load import load_onnx
from pellucid.models.preprocessing import Preprocessing
from pellucid.models.spec import GRAMMAR, Spec, parse_spec
from pellucid.models.torchscript import SUFFIXES as SCRIPTS
from pellucid.models.torchscript import is_torchscript, load_torchscript

LOADERS: dict[str, Callable[[Spec], LoadedModel]] = {
    "demo": load_demo,
    "torchvision": load_torchvision,
    "timm": load_timm,
    "hf": load_transformers,
    "python": load_python,
    "mxnet": load_mxnet,
    "onnx": load_onnx,
    "pt2": load_exported,
    "torchscript": load_torchscript,
}
WHOLE_MODELS = (".pt", ".pth", ".pt2", ".ts", ".safetensors", ".params")


def load_model(
    spec: str,
    *,
    labels: str | Path | Sequence[str] | None = None,
    preprocess: str | Path | Preprocessing | Mapping[str, Any] | None = None,
    trust: bool = False,
    seed: int = 0,
) -> LoadedModel:
    """Load a model by a short specification, in evaluation mode, on the CPU.

    Args:
        spec: ``demo``; ``torchvision:NAME`` or ``timm:NAME`` (the library's default pretrained weights, downloaded
            unless they are in its cache), with ``?weights=FILE`` (safetensors or a PyTorch checkpoint),
            ``?weights=none`` (random) and ``&classes=N`` (another number of outputs); ``hf:FOLDER`` or ``hf:HUB_NAME``;
            ``python:package.module:factory``, any importable callable that returns a module or a LoadedModel, also with
            ``?weights=FILE``. The
            current folder is searched only where Python itself searches it; the command line adds it.
            ``NAME-symbol.json``, a model of MXNet, whose weights are the newest ``NAME-0000.params`` beside it;
            ``mxnet:FILE?params=FILE&outputs=NODE,NODE`` names the weights, or other outputs. ``FILE.onnx``, a model in
            ONNX; ``onnx:FILE?outputs=NAME,NAME`` names other outputs. ``FILE.pt2``, a program of torch.export;
            ``FILE.pt`` of TorchScript, with ``trust`` alone.
        labels: class names in place of the library's: a file with one name a line, a JSON list or {index: name}, or the
            names.
        preprocess: preprocessing in place of the library's: a JSON file, its fields, or a Preprocessing.
        trust: whether code may run that comes with the weights: a pickle, TorchScript, or a hub model's own modules.
        seed: of random weights. The process's random state is left as it was.

    Raises:
        InputError: the specification is not understood; the text gives the grammar and near matches.
        FileError: a file is missing, corrupt, hostile, or does not fit the model.
        ModelError: the library or the factory cannot make the model, or the weights cannot be downloaded.
        MissingDependencyError: the library is not installed.
    """
    if not isinstance(spec, str):
        raise InputError(f"load_model expects a specification ({GRAMMAR}), but got {type(spec).__name__}.")
    parsed = parse_spec(_of_file(spec), LOADERS, trust=trust)
    names = None if labels is None else read_labels(labels)
    given = _preprocessing(preprocess)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also touch the GPUs' generators
        loaded = LOADERS[parsed.prefix](parsed)
    if names is not None and loaded.class_names is not None and len(names) != len(loaded.class_names):
        raise FileError(f"the labels hold {len(names)} names, but {spec} has {len(loaded.class_names)} classes.")
    preprocessing = given or loaded.preprocessing
    input_range = loaded.input_range if given is None else None
    if input_range is None and preprocessing is not None:
        input_range = preprocessing.input_range
    return dataclasses.replace(
        loaded,
        module=loaded.module.eval(),
        class_names=names or loaded.class_names,
        preprocessing=preprocessing,
        input_range=input_range,
        source=spec,
    )


def _preprocessing(given: str | Path | Preprocessing | Mapping[str, Any] | None) -> Preprocessing | None:
    if given is None or isinstance(given, Preprocessing):
        return given
    return Preprocessing.from_dict(given) if isinstance(given, Mapping) else Preprocessing.from_file(given)


def _of_file(spec: str) -> str:
    """The specification that a bare file name stands for; other specifications as they are.

    Raises:
        InputError: the file cannot tell how its network is built.
    """
    name = spec.partition("?")[0]
    if name.endswith(SYMBOL) and name.partition(":")[0] not in LOADERS:
        return f"mxnet:{spec}"
    if name.lower().endswith(ONNX) and name.partition(":")[0] not in LOADERS:
        return f"onnx:{spec}"
    if name.endswith(PROGRAM) and name.partition(":")[0] not in LOADERS:
        return f"pt2:{spec}"
    if spec.endswith(SCRIPTS) and spec.partition(":")[0] not in LOADERS and is_torchscript(spec):
        return f"torchscript:{spec}"
    if ":" not in spec and (Path(spec).suffix.lower() in WHOLE_MODELS or Path(spec).is_file()):
        raise InputError(
            f"{spec!r} is a file of weights alone, which does not say how the network is built. "
            f"Name the architecture and the weights, for example torchvision:resnet18?weights={spec}, or "
            f"a function that builds the model, python:package.module:factory. A model is named as {GRAMMAR}."
        )
    return spec
