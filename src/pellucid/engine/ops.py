"""The canonical operations, and for each the autograd nodes that mean it.

This table and ``SAVED`` in ``values.py`` are everything that is relied on of PyTorch's half-private node names and
saved fields; a test checks both against the installed torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

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


def _nodes(names: str) -> tuple[str, ...]:
    """Node names from their stems; ``Name/1`` is the variant that PyTorch numbers 1."""
    parts = [name.partition("/") for name in names.split()]
    return tuple(f"{stem}Backward{number or 0}" for stem, _, number in parts)


class Op(Enum):
    """A canonical operation: its kind and every autograd node that means it."""

    def __init__(self, kind: Kind, nodes: tuple[str, ...]) -> None:
        self.kind = kind
        self.nodes = nodes

    LEAF = (Kind.LEAF, ("torch::autograd::AccumulateGrad",))
    EMBEDDING = (Kind.LEAF, _nodes("Embedding EmbeddingBag"))

    RESHAPE = (
        Kind.MOVE,
        _nodes(
            "View UnsafeView ReshapeAlias ReshapeCopy Squeeze Squeeze/1 Squeeze/2 Squeeze/3 Squeeze/4 Squeeze/5 "
            "Unsqueeze"
            " Unsqueeze/1 Permute Transpose Transpose/1 T T/1 Expand Alias Unfold PixelShuffle PixelUnshuffle "
            "ViewAsReal"
            " ViewAsComplex Flip Roll Rot90 Repeat AsStrided AsStrided/1 Im2Col ChannelShuffle"
        ),
    )
    SELECT = (
        Kind.MOVE,
        _nodes(
            "Slice Select Split SplitWithSizes Unbind Index IndexSelect Gather Diagonal Take Tril Triu MaskedSelect"
            " UnsafeSplit UnsafeSplitWithSizes NarrowCopy UnsafeIndex DiagEmbed PackPaddedSequence"
        ),
    )
    COPY = (
        Kind.MOVE,
        (*_nodes("Clone ToCopy NativeDropout FusedDropout Lift LazyClone"), "torch::autograd::CopyBackwards"),
    )
    SCALE = (Kind.ELEMENTWISE, _nodes("Neg NegView"))
    SUM = (Kind.MIX, _nodes("Sum Sum/1 Mean Mean/1 Trace Cumsum Nansum NanToNum"))
    AVERAGE_POOL = (
        Kind.MIX,
        _nodes("AvgPool2D AvgPool3D AdaptiveAvgPool2D AdaptiveAvgPool3D MkldnnAdaptiveAvgPool2D"),
    )
    RESAMPLE = (
        Kind.MIX,
        (
            *_nodes(
                "UpsampleNearest1D UpsampleNearest2D UpsampleNearest3D UpsampleLinear1D UpsampleBilinear2D"
                " UpsampleBicubic2D UpsampleTrilinear3D UpsampleBilinear2DAa UpsampleBicubic2DAa UpsampleLanczos2DAa"
                " UpsampleNearestExact1D UpsampleNearestExact2D UpsampleNearestExact3D GridSampler2D GridSampler3D"
                " GridSampler2DCpuFallback Col2Im ReflectionPad1D ReflectionPad2D ReflectionPad3D ReplicationPad1D"
                " ReplicationPad2D ReplicationPad3D"
            ),
            # torchvision's region pooling, whose regions get no gradient: linear in the features.
            "GeneratedBackwardFor_torchvision_roi_align_defaultBackward",
        ),
    )
    FOURIER = (Kind.MIX, _nodes("FftR2C FftC2C FftC2R Conj ConjPhysical Complex"))

    ADD = (Kind.AFFINE, _nodes("Add Add/1 Sub Sub/1 Rsub Rsub/1 Lerp Lerp/1"))
    JOIN = (Kind.AFFINE, _nodes("Cat Stack"))
    FILL = (
        Kind.AFFINE,
        _nodes(
            "ConstantPadNd Where MaskedFill MaskedFill/1 MaskedScatter IndexPut IndexPutImpl IndexCopy IndexAdd "
            "IndexFill"
            " IndexFill/1 Scatter Scatter/1 ScatterAdd ScatterReduce SliceScatter SelectScatter DiagonalScatter"
            " AsStridedScatter IndexReduce Put Fill Fill/1 Zero UnsafeMaskedIndex UnsafeMaskedIndexPutAccumulate"
        ),
    )
    WRITE = (Kind.AFFINE, ("torch::autograd::CopySlices",))

    MAX_POOL = (
        Kind.WINNER,
        _nodes(
            "MaxPool2DWithIndices MaxPool3DWithIndices MaxPool2D AdaptiveMaxPool2D AdaptiveMaxPool3D "
            "FractionalMaxPool2D"
            " FractionalMaxPool3D MkldnnMaxPool2D MkldnnMaxPool3D MaxUnpool2D MaxUnpool3D"
        ),
    )
    MAX = (
        Kind.WINNER,
        _nodes(
            "Max Max/1 Min Min/1 Amax Amin Maximum Minimum Topk Sort Sort/1 Kthvalue Median Median/1 Mode Cummax Cummin"
            " Fmax Fmin Aminmax Nanmedian Nanmedian/1"
        ),
    )

    RELU = (Kind.ELEMENTWISE, _nodes("Relu"))
    LEAKY_RELU = (Kind.ELEMENTWISE, _nodes("LeakyRelu LeakyRelu/1 PreluKernel RreluWithNoise RreluWithNoise/1"))
    GELU = (Kind.ELEMENTWISE, _nodes("Gelu"))
    SILU = (Kind.ELEMENTWISE, _nodes("Silu"))
    ACTIVATION = (
        Kind.ELEMENTWISE,
        _nodes(
            "Hardtanh Hardswish Elu Elu/1 Mish Softplus Softshrink Hardshrink LogSigmoid Clamp Clamp/1 ClampMin "
            "ClampMin/1"
            " ClampMax ClampMax/1 Celu Celu/1 Threshold Threshold/1"
        ),
    )
    FUNCTION = (
        Kind.ELEMENTWISE,
        _nodes(
            "Tanh Sin Cos Tan Abs Erf Erfc Expm1 Log1P Atan Asinh Sinh Cosh Round Round/1 Floor Ceil Trunc Sign "
            "Sgn Frac"
            " Erfinv Remainder Fmod Sinc Asin Acos Atanh Logit Deg2Rad Rad2Deg I0"
        ),
    )
    SIGMOID = (Kind.GATE, _nodes("Sigmoid Hardsigmoid"))
    EXPONENTIAL = (Kind.GATE, _nodes("Exp Exp2"))
    POWER = (Kind.GATE, _nodes("Rsqrt Sqrt Reciprocal Pow Pow/1 Pow/2 Log Log2 Log10"))
    STATISTIC = (
        Kind.GATE,
        _nodes("Norm Norm/1 Norm/2 Norm/3 LinalgVectorNorm Var Std VarMean StdMean Cdist Dist Prod Prod/1 Cumprod"),
    )

    PRODUCT = (Kind.PRODUCT, _nodes("Mul Mul/1 Addcmul Glu Dot Vdot Addcdiv LinalgCross"))
    DIVISION = (Kind.DIVISION, _nodes("Div Div/1 Div/2 Div/3"))
    MATMUL = (Kind.PRODUCT, _nodes("Bmm Baddbmm Addbmm Mv Addmv Addr GroupedMm Matmul"))
    LINEAR = (Kind.LINEAR, _nodes("Addmm Mm Linear"))
    CONVOLUTION = (Kind.LINEAR, _nodes("Convolution Convolution/1 MkldnnConvolution"))

    BATCH_NORM = (Kind.NORM, _nodes("NativeBatchNorm CudnnBatchNorm MiopenBatchNorm"))
    LAYER_NORM = (Kind.NORM, _nodes("NativeLayerNorm"))
    GROUP_NORM = (Kind.NORM, _nodes("NativeGroupNorm"))
    RMS_NORM = (Kind.NORM, _nodes("FusedRmsNorm"))

    SOFTMAX = (Kind.SOFTMAX, _nodes("Softmax SafeSoftmax LogSoftmax Logsumexp MaskedSoftmax"))
    ATTENTION = (
        Kind.ATTENTION,
        _nodes(
            "ScaledDotProductFlashAttentionForCpu ScaledDotProductFlashAttention ScaledDotProductEfficientAttention"
            " ScaledDotProductCudnnAttention ScaledDotProductFusedAttentionOverrideable"
        ),
    )
    RECURRENT = (Kind.RECURRENT, _nodes("MkldnnRnnLayer CudnnRnn ThnnFusedLstmCell ThnnFusedGruCell MiopenRnn"))

    @property
    def label(self) -> str:
        """The name used in selections and tables."""
        return self.name.lower()


NODE_OPS: Mapping[str, Op] = MappingProxyType({node: op for op in Op for node in op.nodes})
"""Node name -> operation. A name outside this table is unknown."""
