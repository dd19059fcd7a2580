"""``FILE.onnx``: a graph with its weights as a torch module."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import FileError, require
from pellucid.models.files import reason, regular_file
from pellucid.models.graph.assembly import assemble
from pellucid.models.graph.module import GraphModule
from pellucid.models.loaded import LoadedModel
from pellucid.models.onnx.batch import fixed_batch, freed
from pellucid.models.onnx.fuse import fused
from pellucid.models.onnx.outline import outline
from pellucid.models.onnx.read import Reader
from pellucid.models.onnx.table import OPERATORS
from pellucid.models.onnx.tensors import TYPES, TensorReader
from pellucid.models.spec import Spec

SUFFIX = ".onnx"


def load_onnx(spec: Spec) -> LoadedModel:
    """Load ``FILE.onnx``; ``onnx:FILE?outputs=NAME,NAME`` takes other values or nodes than the file's own outputs.

    Raises:
        FileError: the file, or one with weights beside it, is missing, damaged or hostile.
        ModelError: operators are not known; the text lists all of them.
        MissingDependencyError: the onnx library is not installed.
    """
    return LoadedModel(build(regular_file(spec.name), outputs=spec.outputs))


def build(path: Path, *, outputs: Sequence[str] = ()) -> GraphModule:
    """The module of a file; see :func:`load_onnx`."""
    library = require("onnx", extra="onnx", caller="a model in ONNX")
    decoder = require("google.protobuf.message", extra="onnx", caller="a model in ONNX")
    try:
        with path.open("rb") as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
                parts = outline(view, origin=str(path))
            model = library.ModelProto()
            try:
                model.ParseFromString(parts.skeleton)
            except (decoder.DecodeError, ValueError) as error:  # as well where messages nest too deeply
                raise FileError(
                    f"{path} must be an ONNX model, but is none, or a damaged one: {reason(error)}."
                ) from error
            reader = TensorReader(file, path)
            floating = _floating(model)

            def read(proto: Any, place: int = -1) -> Tensor:
                tensor = reader.read(proto, parts.spans.get(place))
                return tensor.to(floating) if tensor.is_floating_point() else tensor

            graph = Reader(model, read, str(path)).graph(outputs)
            wanted = {graph.nodes[place].name for place in graph.reached() if not graph.nodes[place].op}
            initializers = enumerate(model.graph.initializer)
            tensors = {proto.name: read(proto, place) for place, proto in initializers if proto.name in wanted}
    except OSError as error:
        raise FileError(f"{path} must be a readable file, but cannot be read: {reason(error)}.") from error
    flat = {name for name, tensor in tensors.items() if not tensor.ndim}  # a lone number is a constant, no weight
    graph = fused(graph, tensors)
    batch = fixed_batch(model)
    if batch is not None:
        free = freed(graph, tensors, batch)
        graph, batch = (graph, batch) if free is None else (free, None)
    return assemble(
        graph, tensors, OPERATORS, kind="onnx", learned=lambda name: name not in flat, nested=True, batch=batch
    ).eval()


def _floating(model: Any) -> torch.dtype:
    """The one type in which all floating numbers of the model are computed: double where all are, else single."""
    inputs = [value.type.tensor_type.elem_type for value in model.graph.input]
    found = {TYPES.get(number) for number in (*inputs, *(proto.data_type for proto in model.graph.initializer))}
    floating = {kind for kind in found if kind is not None and kind.is_floating_point}
    return torch.float64 if floating == {torch.float64} else torch.float32
