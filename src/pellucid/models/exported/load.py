"""``model.pt2``: an exported program as a torch module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pellucid.errors import FileError, PellucidError
from pellucid.models.exported.archive import Archive, read_archive
from pellucid.models.exported.operators import table_for
from pellucid.models.exported.program import Program
from pellucid.models.files import reason
from pellucid.models.graph.assembly import assemble
from pellucid.models.graph.module import GraphModule
from pellucid.models.graph.nodes import Graph
from pellucid.models.loaded import LoadedModel
from pellucid.models.mxnet.heads import chosen
from pellucid.models.spec import Spec

SUFFIX = ".pt2"


def load_exported(spec: Spec) -> LoadedModel:
    """Load ``pt2:FILE``, a program as ``torch.export.save`` writes it; ``?outputs=NODE,NODE`` takes other results.

    Raises:
        FileError: the file is missing, damaged or hostile, or cannot be had without unpickling.
        ModelError: operators are not known; the text lists all of them.
    """
    return LoadedModel(build(read_archive(spec.name), origin=spec.name, outputs=spec.outputs))


def build(archive: Archive, *, origin: str | Path, outputs: Sequence[str] = ()) -> GraphModule:
    """The module from what an archive holds; layers and weights bear the names of the exported model."""
    try:
        program = Program(archive, str(origin))
        graph = chosen(program.graph, tuple(outputs), origin=str(origin)) if outputs else program.graph
        module = assemble(
            graph,
            program.tensors,
            table_for(set(_targets(graph))),
            kind="pt2",
            learned=program.learned.__contains__,
            keep_inputs=True,
            nested=True,
        )
    except PellucidError:
        raise
    # What programs that torch did not write may come to: names that meet, settings that no operator has, and the like.
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, OverflowError) as error:
        raise FileError(f"{origin} is a damaged program: {reason(error)[:300]}.") from error
    return module.eval()


def _targets(graph: Graph) -> Iterator[str]:
    for node in graph.nodes:
        if node.op:
            yield node.op
        for body in node.subgraphs:
            yield from _targets(body)
