"""The canonical operations, and for each the autograd nodes that mean it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from pellucid.engine.private import NODES

__all__ = ["NODE_OPS", "Kind", "Op"]


class Kind(Enum):
    """How an operation carries relevance; one family of rules each."""

    LEAF = "leaf"
    MOVE = "move"  # every output element is one input element: relevance moves with it
    MIX = "mix"  # linear and homogeneous, but several inputs meet in one output
    AFFINE = "affine"  # linear in its live operands, plus what its dead operands bring
    WINNER = "winner"  # every output element is one chosen input element
    ELEMENTWISE = "elementwise"
    GATE = "gate"  # elementwise or statistic that scales another signal
    PRODUCT = "product"
    DIVISION = "division"
    LINEAR = "linear"  # a linear map of the signal by weights
    NORM = "norm"
    SOFTMAX = "softmax"
    ATTENTION = "attention"
    RECURRENT = "recurrent"


class Op(Enum):
    """A canonical operation: its kind and every autograd node that means it."""

    def __init__(self, kind: Kind, nodes: tuple[str, ...]) -> None:
        self.kind = kind
        self.nodes = nodes

    LEAF = (Kind.LEAF, NODES["LEAF"])
    EMBEDDING = (Kind.LEAF, NODES["EMBEDDING"])

    RESHAPE = (Kind.MOVE, NODES["RESHAPE"])
    SELECT = (Kind.MOVE, NODES["SELECT"])
    COPY = (Kind.MOVE, NODES["COPY"])
    SCALE = (Kind.ELEMENTWISE, NODES["SCALE"])
    SUM = (Kind.MIX, NODES["SUM"])
    AVERAGE_POOL = (Kind.MIX, NODES["AVERAGE_POOL"])
    RESAMPLE = (Kind.MIX, NODES["RESAMPLE"])
    FOURIER = (Kind.MIX, NODES["FOURIER"])

    ADD = (Kind.AFFINE, NODES["ADD"])
    JOIN = (Kind.AFFINE, NODES["JOIN"])
    FILL = (Kind.AFFINE, NODES["FILL"])
    WRITE = (Kind.AFFINE, NODES["WRITE"])

    MAX_POOL = (Kind.WINNER, NODES["MAX_POOL"])
    MAX = (Kind.WINNER, NODES["MAX"])

    RELU = (Kind.ELEMENTWISE, NODES["RELU"])
    LEAKY_RELU = (Kind.ELEMENTWISE, NODES["LEAKY_RELU"])
    GELU = (Kind.ELEMENTWISE, NODES["GELU"])
    SILU = (Kind.ELEMENTWISE, NODES["SILU"])
    ACTIVATION = (Kind.ELEMENTWISE, NODES["ACTIVATION"])
    FUNCTION = (Kind.ELEMENTWISE, NODES["FUNCTION"])
    SIGMOID = (Kind.GATE, NODES["SIGMOID"])
    EXPONENTIAL = (Kind.GATE, NODES["EXPONENTIAL"])
    POWER = (Kind.GATE, NODES["POWER"])
    STATISTIC = (Kind.GATE, NODES["STATISTIC"])

    PRODUCT = (Kind.PRODUCT, NODES["PRODUCT"])
    DIVISION = (Kind.DIVISION, NODES["DIVISION"])
    MATMUL = (Kind.PRODUCT, NODES["MATMUL"])
    LINEAR = (Kind.LINEAR, NODES["LINEAR"])
    CONVOLUTION = (Kind.LINEAR, NODES["CONVOLUTION"])

    BATCH_NORM = (Kind.NORM, NODES["BATCH_NORM"])
    LAYER_NORM = (Kind.NORM, NODES["LAYER_NORM"])
    GROUP_NORM = (Kind.NORM, NODES["GROUP_NORM"])
    RMS_NORM = (Kind.NORM, NODES["RMS_NORM"])

    SOFTMAX = (Kind.SOFTMAX, NODES["SOFTMAX"])
    ATTENTION = (Kind.ATTENTION, NODES["ATTENTION"])
    RECURRENT = (Kind.RECURRENT, NODES["RECURRENT"])

    @property
    def label(self) -> str:
        """The name used in selections and tables."""
        return self.name.lower()


NODE_OPS: Mapping[str, Op] = MappingProxyType({node: op for op in Op for node in op.nodes})
"""Node name -> operation. A name outside this table is unknown."""
