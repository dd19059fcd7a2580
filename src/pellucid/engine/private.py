"""All that is relied on of PyTorch's half-private interface; no other module spells any of it.

Nodes of the autograd graph by name, the values that they save, and attributes that begin with an underscore. A test
checks all of it against the installed torch, and that the other modules take it from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from operator import attrgetter, methodcaller
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

# -- nodes --------------------------------------------------------------------------------------------------------


def _nodes(stems: str) -> tuple[str, ...]:
    """Node names from their stems; ``Name/1`` is the variant that PyTorch numbers 1."""
    parts = [stem.partition("/") for stem in stems.split()]
    return tuple(f"{stem}Backward{number or 0}" for stem, _, number in parts)


ACCUMULATE_GRAD = "torch::autograd::AccumulateGrad"
COPY_SLICES = "torch::autograd::CopySlices"
COPY_BACKWARDS = "torch::autograd::CopyBackwards"
ROI_ALIGN = "GeneratedBackwardFor_torchvision_roi_align_defaultBackward"
"""torchvision's region pooling, whose regions get no gradient."""
CHECKPOINT = "CheckpointFunctionBackward"
"""Reentrant checkpointing: a Python function that runs its part of the model again."""

NODES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "LEAF": (ACCUMULATE_GRAD,),
        "EMBEDDING": _nodes("Embedding EmbeddingBag"),
        "RESHAPE": _nodes(
            "View UnsafeView ReshapeAlias ReshapeCopy Squeeze Squeeze/1 Squeeze/2 Squeeze/3 Squeeze/4 Squeeze/5"
            " Unsqueeze Unsqueeze/1 Permute Transpose Transpose/1 T T/1 Expand Alias Unfold PixelShuffle PixelUnshuffle"
            " ViewAsReal ViewAsComplex Flip Roll Rot90 Repeat AsStrided AsStrided/1 Im2Col ChannelShuffle"
        ),
        "SELECT": _nodes(
            "Slice Select Split SplitWithSizes Unbind Index IndexSelect Gather Diagonal Take Tril Triu MaskedSelect"
            " UnsafeSplit UnsafeSplitWithSizes NarrowCopy UnsafeIndex DiagEmbed PackPaddedSequence"
        ),
        "COPY": (*_nodes("Clone ToCopy NativeDropout FusedDropout Lift LazyClone"), COPY_BACKWARDS),
        "SCALE": _nodes("Neg NegView"),
        "SUM": _nodes("Sum Sum/1 Mean Mean/1 Trace Cumsum Nansum NanToNum"),
        "AVERAGE_POOL": _nodes("AvgPool2D AvgPool3D AdaptiveAvgPool2D AdaptiveAvgPool3D MkldnnAdaptiveAvgPool2D"),
        "RESAMPLE": (
            *_nodes(
                "UpsampleNearest1D UpsampleNearest2D UpsampleNearest3D UpsampleLinear1D UpsampleBilinear2D"
                " UpsampleBicubic2D UpsampleTrilinear3D UpsampleBilinear2DAa UpsampleBicubic2DAa UpsampleLanczos2DAa"
                " UpsampleNearestExact1D UpsampleNearestExact2D UpsampleNearestExact3D GridSampler2D GridSampler3D"
                " GridSampler2DCpuFallback Col2Im ReflectionPad1D ReflectionPad2D ReflectionPad3D ReplicationPad1D"
                " ReplicationPad2D ReplicationPad3D"
            ),
            ROI_ALIGN,
        ),
        "FOURIER": _nodes("FftR2C FftC2C FftC2R Conj ConjPhysical Complex"),
        "ADD": _nodes("Add Add/1 Sub Sub/1 Rsub Rsub/1 Lerp Lerp/1"),
        "JOIN": _nodes("Cat Stack"),
        "FILL": _nodes(
            "ConstantPadNd Where MaskedFill MaskedFill/1 MaskedScatter IndexPut IndexPutImpl IndexCopy IndexAdd"
            " IndexFill IndexFill/1 Scatter Scatter/1 ScatterAdd ScatterReduce SliceScatter SelectScatter"
            " DiagonalScatter AsStridedScatter IndexReduce Put Fill Fill/1 Zero UnsafeMaskedIndex"
            " UnsafeMaskedIndexPutAccumulate"
        ),
        "WRITE": (COPY_SLICES,),
        "MAX_POOL": _nodes(
            "MaxPool2DWithIndices MaxPool3DWithIndices MaxPool2D AdaptiveMaxPool2D AdaptiveMaxPool3D"
            " FractionalMaxPool2D FractionalMaxPool3D MkldnnMaxPool2D MkldnnMaxPool3D MaxUnpool2D MaxUnpool3D"
        ),
        "MAX": _nodes(
            "Max Max/1 Min Min/1 Amax Amin Maximum Minimum Topk Sort Sort/1 Kthvalue Median Median/1 Mode Cummax Cummin"
            " Fmax Fmin Aminmax Nanmedian Nanmedian/1"
        ),
        "RELU": _nodes("Relu"),
        "LEAKY_RELU": _nodes("LeakyRelu LeakyRelu/1 PreluKernel RreluWithNoise RreluWithNoise/1"),
        "GELU": _nodes("Gelu"),
        "SILU": _nodes("Silu"),
        "ACTIVATION": _nodes(
            "Hardtanh Hardswish Elu Elu/1 Mish Softplus Softshrink Hardshrink LogSigmoid Clamp Clamp/1 ClampMin"
            " ClampMin/1 ClampMax ClampMax/1 Celu Celu/1 Threshold Threshold/1"
        ),
        "FUNCTION": _nodes(
            "Tanh Sin Cos Tan Abs Erf Erfc Expm1 Log1P Atan Asinh Sinh Cosh Round Round/1 Floor Ceil Trunc Sign Sgn"
            " Frac Erfinv Remainder Fmod Sinc Asin Acos Atanh Logit Deg2Rad Rad2Deg I0"
        ),
        "SIGMOID": _nodes("Sigmoid Hardsigmoid"),
        "EXPONENTIAL": _nodes("Exp Exp2"),
        "POWER": _nodes("Rsqrt Sqrt Reciprocal Pow Pow/1 Pow/2 Log Log2 Log10"),
        "STATISTIC": _nodes(
            "Norm Norm/1 Norm/2 Norm/3 LinalgVectorNorm Var Std VarMean StdMean Cdist Dist Prod Prod/1 Cumprod"
        ),
        "PRODUCT": _nodes("Mul Mul/1 Addcmul Glu Dot Vdot Addcdiv LinalgCross"),
        "DIVISION": _nodes("Div Div/1 Div/2 Div/3"),
        "MATMUL": _nodes("Bmm Baddbmm Addbmm Mv Addmv Addr GroupedMm Matmul"),
        "LINEAR": _nodes("Addmm Mm Linear"),
        "CONVOLUTION": _nodes("Convolution Convolution/1 MkldnnConvolution"),
        "BATCH_NORM": _nodes("NativeBatchNorm CudnnBatchNorm MiopenBatchNorm"),
        "LAYER_NORM": _nodes("NativeLayerNorm"),
        "GROUP_NORM": _nodes("NativeGroupNorm"),
        "RMS_NORM": _nodes("FusedRmsNorm"),
        "SOFTMAX": _nodes("Softmax SafeSoftmax LogSoftmax Logsumexp MaskedSoftmax"),
        "ATTENTION": _nodes(
            "ScaledDotProductFlashAttentionForCpu ScaledDotProductFlashAttention ScaledDotProductEfficientAttention"
            " ScaledDotProductCudnnAttention ScaledDotProductFusedAttentionOverrideable"
        ),
        "RECURRENT": _nodes("MkldnnRnnLayer CudnnRnn ThnnFusedLstmCell ThnnFusedGruCell MiopenRnn"),
    }
)
"""Name of an ``Op`` -> every node that means it."""


def _named(stems: str) -> frozenset[str]:
    """Some nodes of the table."""
    names = frozenset(_nodes(stems))
    assert names <= {name for group in NODES.values() for name in group}, stems
    return names


ADD, MUL, DIV, GLU, ADDCMUL, ADDCDIV = _nodes("Add Mul Div Glu Addcmul Addcdiv")
MM, ADDMM, BMM, BADDBMM, MV, DENSE, GROUPED_MM = _nodes("Mm Addmm Bmm Baddbmm Mv Linear GroupedMm")
LERP, LERP_LIVE = _nodes("Lerp Lerp/1")
"""Lerp with a number and with a tensor for its weight."""
CONSTANT_PAD, WHERE, INDEX_REDUCE, SCATTER_REDUCE, NAN_TO_NUM = _nodes(
    "ConstantPadNd Where IndexReduce ScatterReduce NanToNum"
)
CDIST, LOG_SOFTMAX, LOG_SUM_EXP, POWER_OF_NUMBER = _nodes("Cdist LogSoftmax Logsumexp Pow")

ADDED_PRODUCTS = _named("Addcmul Addcdiv Addmm Baddbmm Addbmm Addmv Addr")
"""Products with a third operand that is added, which comes first."""
CHOICES = _named("Where MaskedFill MaskedFill/1")
CONVOLUTIONS = _named("Convolution Convolution/1")
DEVIATIONS = _named("Std StdMean")
EMBEDDINGS = _named("Embedding EmbeddingBag")
FLATTENED = _named("View UnsafeView Squeeze Squeeze/1 Squeeze/2 Unsqueeze")
"""Views that a model may end in."""
GRID_SAMPLERS = _named("GridSampler2D GridSampler3D GridSampler2DCpuFallback")
GROWING = _named("Expand Repeat")
HOMOGENEOUS = _named("Norm Norm/1 Norm/2 Norm/3 LinalgVectorNorm Std StdMean Cdist Dist")
"""Statistics of degree one."""
LERPS = _named("Lerp Lerp/1")
MAX_UNPOOLS = _named("MaxUnpool2D MaxUnpool3D")
MINIMA = _named("Min Min/1 Minimum Amin Cummin Fmin")
MULS = _named("Mul Mul/1")
OUTPUT_GATES = _named("Softmax LogSoftmax Sigmoid")
PLACED_EXTREMA = _named("Max Min")
"""Maxima and minima along a dimension, which tell where they lie."""
POOLS_3D = _named("MaxPool3DWithIndices AdaptiveMaxPool3D FractionalMaxPool3D MkldnnMaxPool3D MaxUnpool3D")
POWERS = _named("Pow Pow/1 Pow/2")
PRODUCTS_ALONG = _named("Prod Prod/1 Cumprod")
RANKED = _named("Topk Sort Sort/1 Kthvalue Median Median/1 Mode Nanmedian Nanmedian/1")
RECIPROCALS = _named("Rsqrt Reciprocal")
SAME_ELEMENTS = _named(
    "View UnsafeView ReshapeAlias Unsqueeze Unsqueeze/1 Squeeze Squeeze/1 Squeeze/2 Squeeze/3 Squeeze/4 Squeeze/5"
)
"""Views that hold all elements in their order."""
SOFTMAXES = _named("Softmax SafeSoftmax")
SPLITS = _named("Split SplitWithSizes Unbind UnsafeSplit UnsafeSplitWithSizes")
SUMMING_PRODUCTS = _named("Glu Dot LinalgCross")
"""Products whose result has other elements than their factors."""
VARIANCES = _named("Var VarMean")
VIEWS = _named("View UnsafeView")
WITH_MEAN = _named("VarMean StdMean")
"""Statistics whose second result is the mean."""

FACTORS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        **dict.fromkeys((MM, BMM, MV, DENSE, GROUPED_MM, *CONVOLUTIONS), (0, 1)),
        **dict.fromkeys((ADDMM, BADDBMM), (1, 2)),
    }
)
"""The two operands that a bilinear node multiplies."""


def short_name(node: str) -> str:
    """``Softmax`` for ``SoftmaxBackward0``, for people."""
    return node.rpartition("Backward")[0] or node


# -- what nodes save ----------------------------------------------------------------------------------------------

OPERANDS: Mapping[str, Mapping[int, str]] = MappingProxyType(
    {
        **{node: {0: "input", 1: "weight"} for node in CONVOLUTIONS},
        ADDMM: {1: "mat1", 2: "mat2"},
        MM: {0: "self", 1: "mat2"},
        BMM: {0: "self", 1: "mat2"},
        BADDBMM: {1: "batch1", 2: "batch2"},
        MV: {0: "self", 1: "vec"},
        DENSE: {0: "input", 1: "weight"},
        GROUPED_MM: {0: "self", 1: "mat2"},
        MUL: {0: "self", 1: "other"},
        DIV: {1: "other"},
        **{node: {0: "input", 1: "weight"} for node in _nodes("NativeBatchNorm NativeLayerNorm NativeGroupNorm")},
        **{node: {0: "self"} for node in _nodes("Gelu Silu Hardswish Hardtanh Pow Logsumexp MaxPool2DWithIndices")},
        **{node: {0: "query", 1: "key", 2: "value"} for node in NODES["ATTENTION"]},
    }
)
"""Node -> operand -> the field in which the node holds that operand's value."""

RESULTS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(_nodes("Relu Tanh Sigmoid Softmax"), "result"),
        **dict.fromkeys(NODES["ATTENTION"][:4], "output"),
    }
)
"""Node -> the field in which the node holds its own first output."""

FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "eps": _nodes("NativeBatchNorm"),
        "training": _nodes("NativeBatchNorm"),
        "running_mean": _nodes("NativeBatchNorm"),
        "running_var": _nodes("NativeBatchNorm"),
        "result2": _nodes("NativeBatchNorm NativeLayerNorm NativeGroupNorm"),
        "group": _nodes("NativeGroupNorm"),
        "result1": _nodes("FusedRmsNorm"),
        "result": _nodes("Relu Softmax SafeSoftmax LogSoftmax Logsumexp"),
        "output": NODES["ATTENTION"],
        "query": NODES["ATTENTION"],
        "key": NODES["ATTENTION"],
        "value": NODES["ATTENTION"],
        "scale": NODES["ATTENTION"],
        "is_causal": NODES["ATTENTION"],
        "attn_mask": _nodes("ScaledDotProductFlashAttentionForCpu"),
        "attn_bias": _nodes("ScaledDotProductEfficientAttention ScaledDotProductCudnnAttention"),
        "dropout_p": NODES["ATTENTION"],
        "input": (*CONVOLUTIONS, DENSE),
        "other": (MUL, DIV),
        "mat2": (MM, BMM),
        "self": (MM, BMM, MUL),
    }
)
"""Field that is read by name besides those tables -> the nodes of which it is read."""

_NONE = object()


def field(node: Node, name: str, default: Any = _NONE) -> Any:
    """The field of that name, of any type.

    Raises:
        AttributeError: this node has no such field and no default was given.
        RuntimeError: what it saved was freed, or changed in place since.
    """
    return getattr(node, f"_saved_{name}") if default is _NONE else getattr(node, f"_saved_{name}", default)


def saved(node: Node, name: str) -> Tensor | None:
    """The tensor in that field; None where it is absent, freed, or was overwritten in place since."""
    try:
        value = getattr(node, f"_saved_{name}", None)
    except RuntimeError:  # the version counter says that the saved tensor was changed in place
        return None
    return value if isinstance(value, Tensor) else None


# -- attributes ---------------------------------------------------------------------------------------------------

metadata: Callable[[Node], Any] = attrgetter("_input_metadata")
"""Per output of a node: its shape, dtype and device."""
sequence_number: Callable[[Node], int] = methodcaller("_sequence_nr")
"""The number that a node was given when it was made, per thread; leaves have 2**64 - 1."""
next_sequence_number: Callable[[], int] = torch._C._autograd._get_sequence_nr
"""The number that the next node made in this thread will get."""
version: Callable[[Tensor], int] = attrgetter("_version")
"""How often a tensor was written in place."""
has_kernel: Callable[[str], bool] = torch._C._dispatch_has_kernel
"""Whether an operation of that name ("aten::add.Tensor") is there."""
mkldnn_enabled: Callable[[], bool] = torch._C._get_mkldnn_enabled
set_mkldnn_enabled: Callable[[bool], None] = torch._C._set_mkldnn_enabled


def python_dispatcher() -> AbstractContextManager[None]:
    """Inside it operations run as their decompositions in Python, where they have one."""
    from torch._dispatch.python import enable_python_dispatcher  # slow to load, and needed by few

    context: AbstractContextManager[None] = enable_python_dispatcher()
    return context


def function_class(node: Node) -> type | None:
    """The ``autograd.Function`` class that made ``node``."""
    return getattr(type(node), "_forward_cls", None)


def saved_tensors_hooks() -> object:
    """The innermost hooks for saved tensors of this thread, or None."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True)


SETTINGS: Mapping[str, Callable[[], object]] = MappingProxyType(
    {
        "mkldnn": mkldnn_enabled,
        "cudnn": torch._C._get_cudnn_enabled,
        "optimisation of scripts": torch._C._get_graph_executor_optimize,
        "active dispatch modes": torch._C._len_torch_dispatch_stack,
        "active function modes": torch._C._len_torch_function_stack,
    }
)
"""Settings of this thread or process that nothing public tells; each is read by calling."""

ATTRIBUTES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "torch.Tensor": ("_backward_hooks", "_base", "_is_view", "_version"),
        "torch.nn.Module": (
            "_buffers",
            "_forward_hooks",
            "_forward_pre_hooks",
            "_modules",
            "_non_persistent_buffers_set",
            "_parameters",
        ),
        "torch.ops.aten.add.Tensor": ("_overloadname", "_overloadpacket", "_schema"),
        "torch.ops.aten": ("_embedding_bag", "_log_softmax", "_prelu_kernel", "_softmax", "_unsafe_view"),
        "torch.nn.modules.batchnorm": ("_BatchNorm",),
        "torch.nn.modules.dropout": ("_DropoutNd",),
        "torch.nn.modules.module": ("_global_backward_hooks", "_global_forward_hooks", "_global_forward_pre_hooks"),
        "torch": ("_ops",),
        "torch._dynamo.eval_frame": ("_orig_mod", "_stance"),
    }
)
"""Where in torch -> attributes that modules read there by their own name."""
