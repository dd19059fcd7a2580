"""Dense layers that files hold in two pieces, a product and a sum, as one."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

from torch import Tensor

from pellucid.models.graph.nodes import Graph, Node
from pellucid.models.onnx.flow import Flow


def fused(graph: Graph, tensors: Mapping[str, Tensor]) -> Graph:
    """The graph with every product with a weight to which a bias is added as one dense layer.

    Exporters write torch's ``nn.Linear`` so where its input has more than two axes. As one layer, its bias is booked as
    that of every other layer is.
    """
    flow = Flow(graph, tensors)
    uses = Counter(ref for node in graph.nodes for ref in node.inputs if ref is not None)
    uses.update(graph.heads)
    nodes = list(graph.nodes)
    for place, node in enumerate(graph.nodes):
        made = _dense(node, flow, uses) if node.op == "Add" and place in flow.live else None
        if made is not None:
            nodes[place] = made
    return dataclasses.replace(graph, nodes=tuple(nodes))


def _dense(node: Node, flow: Flow, uses: Mapping[tuple[int, int], int]) -> Node | None:
    """The layer that a sum and the product before it are together, if they are one."""
    for product_ref, bias_ref in (node.inputs, node.inputs[::-1]):
        if product_ref is None or not flow.is_live(product_ref) or uses[product_ref] > 1:
            continue
        product = flow.graph.nodes[product_ref[0]]
        if product.op != "MatMul" or not flow.is_live(product.inputs[0]):
            continue
        weight, bias = flow.known(product.inputs[1]), flow.known(bias_ref)
        if weight is not None and bias is not None and weight.ndim == 2 and bias.shape == weight.shape[1:]:
            return Node("Gemm", product.name, (*product.inputs[:2], bias_ref), version=node.version)
    return None
