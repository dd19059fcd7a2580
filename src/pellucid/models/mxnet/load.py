"""``mxnet:NAME-symbol.json``: a graph and its weights as a torch module."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from pellucid.errors import FileError
from pellucid.models.files import regular_file
from pellucid.models.graph.assembly import assemble
from pellucid.models.graph.module import GraphModule
from pellucid.models.graph.nodes import Graph
from pellucid.models.loaded import LoadedModel
from pellucid.models.mxnet.heads import chosen, labels_of_losses, without_post_processing
from pellucid.models.mxnet.params import read_params
from pellucid.models.mxnet.symbol import read_symbol
from pellucid.models.mxnet.table import OPERATORS
from pellucid.models.spec import Spec

SUFFIX = "-symbol.json"


def load_mxnet(spec: Spec) -> LoadedModel:
    """Load ``mxnet:NAME-symbol.json``, with the newest ``NAME-0000.params`` beside it or ``?params=FILE``.

    ``&outputs=NODE,NODE`` takes other nodes' results than the file's own.

    Raises:
        FileError: a file is missing, damaged or hostile, or the two do not belong together.
        ModelError: operators are not known; the text lists all of them.
    """
    symbol = regular_file(spec.name)
    weights = Path(spec.params) if spec.params is not None else newest_params(symbol)
    return LoadedModel(build(symbol, weights, outputs=spec.outputs))


def build(symbol: Path, params: Path, *, outputs: Iterable[str] = ()) -> GraphModule:
    """The module from the two files; see :func:`load_mxnet`."""
    graph = read_symbol(symbol)
    graph = chosen(graph, tuple(outputs), origin=str(symbol)) if outputs else without_post_processing(graph)
    tensors = _fitted(read_params(params), graph, str(params), str(symbol))
    return assemble(graph, tensors, OPERATORS, kind="mxnet", ignored=labels_of_losses(graph, tensors)).eval()


def newest_params(symbol: Path) -> Path:
    """The ``.params`` file of the highest epoch beside a ``-symbol.json`` file.

    Raises:
        FileError: there is none.
    """
    name = symbol.name.removesuffix(SUFFIX)
    pattern = re.compile(re.escape(name) + r"-(\d{4,})\.params")
    found = [(int(match[1]), path) for path in symbol.parent.iterdir() if (match := pattern.fullmatch(path.name))]
    if not found:
        raise FileError(
            f"{symbol} has no weights beside it; they are expected as {name}-0000.params (any four digits). Name "
            f"them: mxnet:{symbol}?params=FILE."
        )
    return max(found)[1]


def _fitted(arrays: Mapping[str, Tensor], graph: Graph, params: str, symbol: str) -> dict[str, Tensor]:
    """The weights by the names of the graph's variables, in one floating type."""
    weights = {re.sub(r"^(arg|aux):", "", name): array for name, array in arrays.items()}
    variables = {node.name for node in graph.nodes if not node.op}
    if weights and not variables & set(weights):
        structural = any("." in name for name in weights)
        raise FileError(
            f"{params} holds none of the weights of {symbol} (it holds {', '.join(sorted(weights)[:4])}). "
            + (
                "These are names as Block.save_parameters() writes them, which only the Python code of the network can "
                "place; write both files with net.export(NAME) in MXNet."
                if structural
                else "Do the two files belong together?"
            )
        )
    doubles = all(array.dtype == torch.float64 for array in weights.values() if array.is_floating_point())
    for name in list(weights):
        array = weights.pop(name)
        if name in variables:
            floating = array.is_floating_point() and not doubles
            weights[name] = array.to(torch.float32) if floating else array
    return weights
