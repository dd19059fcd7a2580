"""``convert``: any model that can be loaded as a ``.pt2`` file, or as safetensors with the code that takes them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from pellucid.errors import FileError, InputError, ModelError
from pellucid.models.convert.code import Code
from pellucid.models.convert.exporting import Example, export
from pellucid.models.exported.archive import read_archive
from pellucid.models.exported.load import build
from pellucid.models.files import reason
from pellucid.models.graph.module import GraphModule
from pellucid.models.loaded import LoadedModel
from pellucid.models.registry import load_model

SUFFIXES = (".pt2", ".safetensors")
TOLERANCE = 1e-4
"""Largest difference of a written model's outputs, relative to the largest output."""


def convert(
    model: str | nn.Module | LoadedModel,
    out: str | Path,
    x: Example | None = None,
    *,
    trust: bool = False,
    force: bool = False,
) -> tuple[Path, ...]:
    """Write a model to files that need neither this package nor the framework that it comes from.

    The files are read back, and their outputs on ``x`` compared with the model's, before anything appears at ``out``.

    Args:
        model: a specification as :func:`pellucid.load_model` takes it, a module, or a LoadedModel.
        out: ``NAME.pt2``, a program of torch.export; or ``NAME.safetensors``, the weights, with ``NAME.py`` beside it,
            readable code that builds the module.
        x: an example of what the model is called with: a tensor, a tuple, or a dict by name. Only its shapes and types
            count. Left out, it is an image where the model comes with a preprocessing that cuts to a size. Code for a
            model that was read from a graph (MXNet, ONNX, .pt2) needs none, but is compared only with one.
        trust: see :func:`pellucid.load_model`.
        force: whether files that are there are replaced.

    Returns:
        The files written.

    Raises:
        InputError: the suffix is another, or an example is needed.
        FileError: a file is there already, or the folder cannot be written.
        ModelError: the model cannot be exported or written as code, or what was written computes something else.
    """
    place = Path(out)
    if place.suffix not in SUFFIXES:
        raise InputError(f"{str(out)!r} must end in .pt2 (torch.export) or .safetensors (weights, with code beside).")
    targets = (place,) if place.suffix == ".pt2" else (place, place.with_suffix(".py"))
    _refuse(targets, force)
    loaded = model if isinstance(model, LoadedModel) else None
    if isinstance(model, str):
        loaded = load_model(model, trust=trust)
    module = loaded.module if loaded is not None else model
    if not isinstance(module, nn.Module):
        raise InputError(f"convert expects a model or a specification, but got {type(model).__name__}.")
    if x is None and loaded is not None:
        x = _image(loaded)
    source = model if isinstance(model, str) else type(module).__name__
    training = [part for part in module.modules() if part.training]
    try:
        module.eval()
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".convert-") as folder:
            made = [Path(folder) / target.name for target in targets]
            _write(module, made, x, source)
            for temporary, target in zip(made, targets, strict=True):
                temporary.replace(target)
    except OSError as error:
        raise FileError(
            f"cannot write {str(place)!r}: {reason(error)}. Give a path in an existing folder that you may write to."
        ) from error
    finally:
        for part in training:
            part.training = True
    return targets


def _refuse(targets: tuple[Path, ...], force: bool) -> None:
    for target in targets:
        if target.is_dir():
            raise FileError(f"{str(target)!r} is a folder; name a file.")
        if target.exists() and not force:
            raise FileError(f"{str(target)!r} is there already; pass force=True (--force) to replace it.")


def _image(loaded: LoadedModel) -> Tensor | None:
    """An image as the model's preprocessing gives it, where that fixes its size."""
    preparing = loaded.preprocessing
    if preparing is None or preparing.crop is None:
        return None
    height, width = (preparing.crop, preparing.crop) if isinstance(preparing.crop, int) else preparing.crop
    first = next(loaded.module.parameters(), torch.empty(0))
    generator = torch.Generator().manual_seed(0)
    channels = 1 if preparing.channels == "L" else 3
    return torch.randn(2, channels, height, width, generator=generator).to(first.device, first.dtype)


def _write(module: nn.Module, places: list[Path], x: Example | None, source: str) -> None:
    program = len(places) == 1
    if x is None and (program or not isinstance(module, GraphModule)):
        raise InputError(
            f"to convert this {type(module).__name__} it must be run once; give an example of its input: "
            "convert(model, out, x), or on the command line a file (INPUT) or --shape 1,3,224,224."
        )
    if program and x is not None:
        export(module, x, places[0])
        _compare(module, build(read_archive(places[0]), origin=places[0]), x)
        return
    graph = module
    if not isinstance(graph, GraphModule):
        assert x is not None
        between = places[0].with_suffix(".pt2")
        export(module, x, between)
        graph = build(read_archive(between), origin=between)
        between.unlink()
    code = Code(graph)
    text = code.text(f"The model {source}, written by pellucid convert.")
    state = {name: tensor.cpu().contiguous().clone() for name, tensor in code.state.items()}
    safetensors.torch.save_file(state, places[0])
    places[1].write_text(text, encoding="utf-8")
    spaces: dict[str, Any] = {"__file__": str(places[1]), "__name__": "converted"}
    exec(compile(text, str(places[1]), "exec", dont_inherit=True), spaces)  # our own text
    again: nn.Module = spaces["load"]()
    if x is not None:
        _compare(module, again, x)


def _compare(module: nn.Module, again: nn.Module, x: Example) -> None:
    with torch.no_grad():
        first = next(module.parameters(), torch.empty(0))
        expected, found = (_outputs(each.to(first.device) if each is again else each, x) for each in (module, again))
    if len(found) != len(expected) or any(a.shape != b.shape for a, b in zip(expected, found, strict=True)):
        raise ModelError("what was written gives other outputs than the model, so nothing is kept.")
    for one, other in zip(expected, found, strict=True):
        scale = one.abs().nan_to_num().max().clamp(min=1e-12) if one.numel() else torch.ones(())
        worst = float((one - other).abs().nan_to_num().max() / scale) if one.numel() else 0.0
        if worst > TOLERANCE or not torch.equal(one.isnan(), other.isnan()):
            raise ModelError(
                f"what was written differs from the model by {worst:.1e} of its largest output, so nothing is kept; "
                "does the model draw random numbers?"
            )


def _outputs(module: nn.Module, x: Example) -> list[Tensor]:
    if isinstance(module, nn.Module) and isinstance(x, Mapping):
        result: Any = module(**x)
    else:
        result = module(*x) if isinstance(x, tuple) else module(x)
    return [part.double() for part in _leaves(result)]


def _leaves(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    parts = result.values() if isinstance(result, Mapping) else result if isinstance(result, (tuple, list)) else ()
    return [leaf for part in parts for leaf in _leaves(part)]
