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
    return tuple(f"{name}Backward0" if name[-1].isalpha() else f"{name[:-1]}Backward{name[-1]}" for name in names.split())


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
            "View UnsafeView ReshapeAlias Reshape Squeeze Squeeze1 Squeeze2 Unsqueeze Permute Transpose T Expand Alias"
            " Unfold Movedim PixelShuffle PixelUnshuffle ViewAsReal ViewAsComplex Flip Roll Rot90 Repeat Unflatten"
            " AsStrided AsStrided1 Im2Col ChannelShuffle NativeChannelShuffle SwapAxes Col2ImView LiftFresh"
        ),
    )
    SELECT = (
        Kind.MOVE,
        _nodes(
            "Slice Select Narrow Split SplitWithSizes Chunk Unbind Index IndexSelect Gather Diagonal Take Tril Triu"
            " TakeAlongDim MaskedSelect UnsafeSplit UnsafeSplitWithSizes"
        ),
    )
    COPY = (
        Kind.MOVE,
        _nodes("Clone ToCopy Contiguous Cast Detach Dropout NativeDropout FusedDropout LiftCopy Copy"),
    )
    SCALE = (Kind.ELEMENTWISE, _nodes("Neg"))
    SUM = (Kind.MIX, _nodes("Sum Sum1 Mean Mean1 Trace Cumsum NanSum NanToNum"))
    AVERAGE_POOL = (
        Kind.MIX,
        _nodes("AvgPool1D AvgPool2D AvgPool3D AdaptiveAvgPool2D AdaptiveAvgPool3D MkldnnAdaptiveAvgPool2D"),
    )
    RESAMPLE = (
        Kind.MIX,
        _nodes(
            "UpsampleNearest1D UpsampleNearest2D UpsampleNearest3D UpsampleLinear1D UpsampleBilinear2D"
            " UpsampleBicubic2D UpsampleTrilinear3D UpsampleBilinear2DAa UpsampleBicubic2DAa UpsampleNearestExact1D"
            " UpsampleNearestExact2D UpsampleNearestExact3D GridSampler2D GridSampler3D Col2Im ReflectionPad1D"
            " ReflectionPad2D ReflectionPad3D ReplicationPad1D ReplicationPad2D ReplicationPad3D"
        )
        + ("torchvision::autograd::ROIAlignFunction", "CppFunction<vision::ops::ROIAlign>"),
    )
    FOURIER = (Kind.MIX, _nodes("FftR2C FftC2C FftC2R Real Imag Conj ConjPhysical ResolveConj ResolveNeg Complex"))

    ADD = (Kind.AFFINE, _nodes("Add Add1 Sub Sub1 Rsub Rsub1 Lerp Lerp1 Lerp2"))
    JOIN = (Kind.AFFINE, _nodes("Cat Stack"))
    FILL = (
        Kind.AFFINE,
        _nodes(
            "ConstantPadNd ConstantPadNd1 Where MaskedFill MaskedFill1 MaskedScatter IndexPut IndexCopy IndexAdd"
            " IndexFill IndexFill1 Scatter Scatter1 ScatterAdd ScatterReduce SliceScatter SelectScatter"
            " DiagonalScatter IndexReduce UnsafeIndexPut Fill Fill1 Zero UnsafeIndex UnsafeMaskedIndex"
            " UnsafeMaskedIndexPutAccumulate"
        ),
    )
    WRITE = (Kind.AFFINE, ("torch::autograd::CopySlices", "CopySlices", "CopyBackwards", "torch::autograd::CopyBackwards"))

    MAX_POOL = (
        Kind.WINNER,
        _nodes(
            "MaxPool2DWithIndices MaxPool3DWithIndices MaxPool2D AdaptiveMaxPool2D AdaptiveMaxPool3D"
            " FractionalMaxPool2D MkldnnMaxPool2D MaxUnpool2D MaxUnpool3D"
        ),
    )
    MAX = (
        Kind.WINNER,
        _nodes(
            "Max Max1 Max2 Min Min1 Min2 Amax Amin Maximum Minimum Topk Sort Sort1 Kthvalue Median Median1 Mode"
            " Cummax Cummin Fmax Fmin Aminmax NanMedian Argsort"
        ),
    )

    RELU = (Kind.ELEMENTWISE, _nodes("Relu Threshold"))
    LEAKY_RELU = (Kind.ELEMENTWISE, _nodes("LeakyRelu LeakyRelu1 PreluKernel Prelu RreluWithNoise RreluWithNoise1"))
    GELU = (Kind.ELEMENTWISE, _nodes("Gelu"))
    SILU = (Kind.ELEMENTWISE, _nodes("Silu"))
    ACTIVATION = (
        Kind.ELEMENTWISE,
        _nodes(
            "Hardtanh Hardswish Elu Elu1 Mish Softplus Softshrink Hardshrink LogSigmoid Clamp Clamp1 ClampMin ClampMin1"
            " ClampMax ClampMax1 Celu Celu1 Selu Hardtanh1"
        ),
    )
    FUNCTION = (
        Kind.ELEMENTWISE,
        _nodes(
            "Tanh Sin Cos Tan Abs Erf Erfc Expm1 Log1p Atan Asinh Sinh Cosh Square Round Floor Ceil Trunc Sign Frac"
            " SpecialNdtr Erfinv Remainder Fmod Sinc Asin Acos Atanh Acosh Logit Lgamma Heaviside Round1"
        ),
    )
    SIGMOID = (Kind.GATE, _nodes("Sigmoid Hardsigmoid"))
    EXPONENTIAL = (Kind.GATE, _nodes("Exp Exp2"))
    POWER = (Kind.GATE, _nodes("Rsqrt Sqrt Reciprocal Pow Pow1 Pow2 Log Log2 Log10"))
    STATISTIC = (Kind.GATE, _nodes("Norm Norm1 Norm2 Norm3 Norm4 LinalgVectorNorm Var Std VarMean StdMean Cdist Dist Prod Prod1 Cumprod"))

    PRODUCT = (Kind.PRODUCT, _nodes("Mul Mul1 Addcmul Glu Dot Addcdiv Cross LinalgCross") + ("ComplexMulBackward0",))
    DIVISION = (Kind.DIVISION, _nodes("Div Div1 Div2 Div3"))
    MATMUL = (Kind.PRODUCT, _nodes("Bmm Baddbmm Addbmm Mv Addmv Ger Addr Inner GroupedMm"))
    LINEAR = (Kind.LINEAR, _nodes("Addmm Mm Linear AddmmActivation Bilinear"))
    CONVOLUTION = (
        Kind.LINEAR,
        _nodes("Convolution ConvolutionOverrideable MkldnnConvolution CudnnConvolution ConvDepthwise2D ConvTbc SlowConv2D"),
    )

    BATCH_NORM = (Kind.NORM, _nodes("NativeBatchNorm CudnnBatchNorm MiopenBatchNorm NativeBatchNormLegitNoTraining"))
    LAYER_NORM = (Kind.NORM, _nodes("NativeLayerNorm"))
    GROUP_NORM = (Kind.NORM, _nodes("NativeGroupNorm"))
    RMS_NORM = (Kind.NORM, _nodes("FusedRmsNorm RmsNorm"))

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
