"""Which results of an MXNet graph a model gives, and which of its variables are no inputs."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Container

from pellucid.errors import InputError, ModelError
from pellucid.models.graph.nodes import Graph, Ref

logger = logging.getLogger(__name__)

LOSSES = frozenset(
    "SoftmaxOutput Softmax LinearRegressionOutput _sparse_LinearRegressionOutput MAERegressionOutput "
    "_sparse_MAERegressionOutput LogisticRegressionOutput _sparse_LogisticRegressionOutput SVMOutput".split()
)
"""Operators whose second input is the right answer, which only training needs."""

POST_PROCESSING = frozenset(
    "_contrib_box_nms _contrib_box_non_maximum_suppression _contrib_MultiBoxDetection _npx_multibox_detection "
    "_contrib_Proposal _contrib_MultiProposal _contrib_bipartite_matching".split()
)
"""Operators that pick boxes after a network has answered; what they take is what can be explained."""

WEIGHTED = frozenset("Convolution Convolution_v1 Deconvolution FullyConnected RNN".split())


def labels_of_losses(graph: Graph, known: Container[str]) -> frozenset[int]:
    """The places of variables that only feed the second input of a loss."""
    fed: dict[int, bool] = {}
    for node in graph.nodes:
        for index, ref in enumerate(node.inputs):
            if ref is not None and not graph.nodes[ref[0]].op and graph.nodes[ref[0]].name not in known:
                label = node.op in LOSSES and index == 1
                fed[ref[0]] = fed.get(ref[0], True) and label
    return frozenset(place for place, only in fed.items() if only)


def chosen(graph: Graph, names: tuple[str, ...], *, origin: str) -> Graph:
    """The graph with these nodes' results as its outputs.

    Args:
        names: of nodes, or of outputs as MXNet counts them: ``NODE_output``, ``NODE_output1``.

    Raises:
        InputError: no node has that name; the text lists near ones.
    """
    places = {node.name: place for place, node in enumerate(graph.nodes) if node.op}
    heads: list[Ref] = []
    for name in names:
        match = re.fullmatch(r"(.+)_output(\d*)", name)
        if name in places:
            heads.append((places[name], 0))
        elif match and match[1] in places:
            heads.append((places[match[1]], int(match[2] or 0)))
        else:
            import difflib

            near = difflib.get_close_matches(name, places, n=5) or list(places)[-5:]
            raise InputError(f"{origin} has no node {name!r}. Near ones: {', '.join(near)}.")
    return dataclasses.replace(graph, heads=tuple(heads))


def without_post_processing(graph: Graph) -> Graph:
    """The graph up to the answers of a detector: what its post-processing takes become the outputs, and it is said so.

    Boxes that a layer with weights looks at again, as the second stage of Faster R-CNN does, are no post-processing. A
    graph without any stays as it is.

    Raises:
        ModelError: nothing is left.
    """
    inner = _before_weights(graph)
    cut = {place for place in graph.reached() if graph.nodes[place].op in POST_PROCESSING and place not in inner}
    if not cut:
        return graph
    live = _live(graph)
    heads: dict[Ref, None] = {head: None for head in graph.heads if not _after(graph, head[0], cut)}
    for place in sorted(cut):
        if not _after(graph, place, cut - {place}):
            heads |= {ref: None for ref in graph.nodes[place].inputs if ref is not None and ref[0] in live}
    if not heads:
        ops = ", ".join(sorted({graph.nodes[place].op for place in cut}))
        raise ModelError(f"the graph holds post-processing alone ({ops}); there is no network in it to explain.")
    names = ", ".join(graph.nodes[ref[0]].name for ref in heads)
    logger.warning("post-processing is left out; the model's outputs are %s (choose others with ?outputs=).", names)
    return Graph(graph.nodes, tuple(heads))


def _before_weights(graph: Graph) -> frozenset[int]:
    """The places that some layer with weights depends on."""
    weighted = [place for place in graph.reached() if graph.nodes[place].op in WEIGHTED]
    taken = [ref for place in weighted for ref in graph.nodes[place].inputs if ref is not None]
    return Graph(graph.nodes, tuple(taken)).reached()


def _live(graph: Graph) -> set[int]:
    """The places whose results depend on a variable."""
    live: set[int] = set()
    for place, node in enumerate(graph.nodes):
        if node.op and any(ref is not None and (ref[0] in live or not graph.nodes[ref[0]].op) for ref in node.inputs):
            live.add(place)
    return live


def _after(graph: Graph, place: int, others: set[int]) -> bool:
    """Whether a node depends on one of ``others``."""
    return bool(Graph(graph.nodes, ((place, 0),)).reached() & others)
