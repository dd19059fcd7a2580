"""Layers with weights, built from weights that a file holds: torch's own wherever torch has them.

Layers are made without memory and then given the file's weights, so that no weight is held twice and none is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.errors import FileError
from pellucid.models.graph.assembly import Call, as_parameter
from pellucid.models.graph.nodes import Value

_CONVOLUTIONS: tuple[Any, ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED: tuple[Any, ...] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FUNCTIONS = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED_FUNCTIONS = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm along axis 1 of inputs with any number of axes."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected an input with at least 2 axes, got {input.ndim}")


class Embedding(nn.Embedding):
    """Looks up rows by whole numbers of any type; those outside mean the nearest row, as in MXNet."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., D) from indices (...)."""
        return F.embedding(input.long().clamp(0, self.num_embeddings - 1), self.weight)


class ConvTransposeTo(nn.Module):
    """A transposed convolution whose padding follows from the size that its result is to have.

    Args:
        weight: (C, O / groups, *kernel).
        bias: (O,), or None.
        target: the lengths of the result's axes.
        stride: one for each of them, as dilation.
    """

    def __init__(
        self,
        weight: nn.Parameter,
        bias: nn.Parameter | None,
        *,
        target: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias
        self.target, self.stride, self.dilation, self.groups = tuple(target), tuple(stride), tuple(dilation), groups

    def forward(self, x: Tensor) -> Tensor:
        """(N, O, *target) from (N, C, ...)."""
        axes = zip(x.shape[2:], self.weight.shape[2:], self.target, self.stride, self.dilation, strict=True)
        surplus = [s * (length - 1) + d * (k - 1) + 1 - wanted for length, k, wanted, s, d in axes]
        adjust = tuple(total % 2 for total in surplus)
        padding = tuple((total + odd) // 2 for total, odd in zip(surplus, adjust, strict=True))
        function = _TRANSPOSED_FUNCTIONS[len(padding) - 1]
        return function(x, self.weight, self.bias, self.stride, padding, adjust, self.groups, self.dilation)

    def extra_repr(self) -> str:
        """The settings."""
        return f"{tuple(self.weight.shape)}, target={self.target}, stride={self.stride}, groups={self.groups}"


def convolution(
    call: Call,
    x: Value,
    weight: Value,
    bias: Value | None,
    *,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    transposed: bool = False,
    output_padding: Sequence[int] = (),
    label: str = "",
) -> Value:
    """A convolution; a layer where its weights are known, else a function of three live tensors."""
    settings: dict[str, Any] = {
        "stride": tuple(stride),
        "padding": tuple(padding),
        "dilation": tuple(dilation),
        "groups": groups,
    }
    if transposed:
        settings["output_padding"] = tuple(output_padding) or (0,) * len(settings["stride"])
    axes = len(settings["stride"])
    if weight.tensor is None or (bias is not None and bias.tensor is None):
        function = (_TRANSPOSED_FUNCTIONS if transposed else _FUNCTIONS)[axes - 1]
        return call.apply(function, x, weight, bias, label=label, **settings)
    shape = weight.tensor.shape
    if len(shape) != axes + 2:
        raise FileError(f"{call.where} must have a weight with {axes + 2} axes, but has one of shape {tuple(shape)}.")
    kind = (_TRANSPOSED if transposed else _CONVOLUTIONS)[axes - 1]
    channels = (shape[0], shape[1] * groups) if transposed else (shape[1] * groups, shape[0])

    def make() -> nn.Module:
        layer: nn.Module = kind(*channels, tuple(shape[2:]), bias=bias is not None, device="meta", **settings)
        return _filled(layer, call, weight=weight, bias=bias)

    return call.layer(make, x, label=label, key=(kind, weight, bias, *settings.values()))


def linear(call: Call, x: Value, weight: Value, bias: Value | None, *, label: str = "") -> Value:
    """A dense layer on the last axis, weight (out, in)."""
    if weight.tensor is None or (bias is not None and bias.tensor is None):
        return call.apply(F.linear, x, weight, bias, label=label)
    if weight.tensor.ndim != 2:
        shape = tuple(weight.tensor.shape)
        raise FileError(f"{call.where} must have a weight of shape (out, in), but has one of shape {shape}.")
    out, width = weight.tensor.shape

    def make() -> nn.Module:
        return _filled(nn.Linear(width, out, bias=bias is not None, device="meta"), call, weight=weight, bias=bias)

    return call.layer(make, x, label=label, key=(nn.Linear, weight, bias))


def embedding(call: Call, ids: Value, weight: Value) -> Value:
    """A look-up of rows."""
    table = weight.tensor
    if table is None or table.ndim != 2:
        raise FileError(f"{call.where} must have a weight of shape (entries, width) in the file.")
    rows, width = table.shape

    def make() -> nn.Module:
        return _filled(Embedding(rows, width, _weight=table), call, weight=weight)  # draws no numbers

    return call.layer(make, ids, key=(Embedding, weight))


def batch_norm(
    call: Call,
    x: Value,
    weight: Value | None,
    bias: Value,
    mean: Value,
    var: Value,
    *,
    eps: float,
    momentum: float = 0.1,
    label: str = "",
) -> Value:
    """Batch norm along axis 1 with kept statistics; without ``weight`` its scale is 1 and stays so in training."""
    assert bias.tensor is not None
    size = bias.tensor.numel()

    def make() -> nn.Module:
        layer = BatchNorm(size, eps=eps, momentum=momentum, device="meta")
        _filled(layer, call, weight=weight, bias=bias)
        layer.register_buffer("running_mean", known(call, mean).clone())
        layer.register_buffer("running_var", known(call, var).clone())
        layer.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64))
        if weight is None:
            layer.weight = nn.Parameter(torch.ones(size, dtype=layer.bias.dtype), requires_grad=False)
        return layer

    return call.layer(make, x, label=label, key=(BatchNorm, weight, bias, mean, var, eps))


def layer_norm(
    call: Call, x: Value, weight: Value | None, bias: Value | None, shape: Sequence[int], *, eps: float, label: str = ""
) -> Value:
    """Layer norm over the last axes."""

    def make() -> nn.Module:
        layer = nn.LayerNorm(
            tuple(shape), eps=eps, bias=bias is not None, elementwise_affine=weight is not None, device="meta"
        )
        return _filled(layer, call, weight=weight, bias=bias)

    return call.layer(make, x, label=label, key=(nn.LayerNorm, weight, bias, tuple(shape), eps))


def group_norm(call: Call, x: Value, weight: Value, bias: Value, groups: int, *, eps: float) -> Value:
    """Group norm with a scale and shift for each channel; one channel a group is instance norm."""
    assert weight.tensor is not None
    channels = weight.tensor.numel()

    def make() -> nn.Module:
        return _filled(
            nn.GroupNorm(groups or channels, channels, eps=eps, device="meta"), call, weight=weight, bias=bias
        )

    return call.layer(make, x, key=(nn.GroupNorm, weight, bias, groups, eps))


def prelu(call: Call, x: Value, weight: Value) -> Value:
    """A leaky ReLU with one learned slope a channel."""
    flat = call.apply(torch.flatten, weight, label="slope")
    slopes = known(call, flat).numel()

    def make() -> nn.Module:
        return _filled(nn.PReLU(slopes, device="meta"), call, weight=flat)

    return call.layer(make, x)


def _filled(layer: nn.Module, call: Call, **weights: Value | None) -> nn.Module:
    """``layer`` with its parameters replaced by the file's.

    Raises:
        FileError: a weight is not known, or has another shape than the layer's.
    """
    for name, value in weights.items():
        if value is None:
            continue
        tensor, expected = known(call, value), getattr(layer, name)
        if tensor.shape != expected.shape:
            raise FileError(
                f"{call.where} needs {value.name!r} with shape {tuple(expected.shape)}, but the file has "
                f"{tuple(tensor.shape)}."
            )
        setattr(layer, name, as_parameter(value))
    return layer


def weight_of(call: Call, value: Value) -> nn.Parameter:
    """A weight as a parameter; see :func:`known`."""
    known(call, value)
    return as_parameter(value)


def known(call: Call, value: Value) -> Tensor:
    """The numbers of a weight.

    Raises:
        FileError: the file does not hold them.
    """
    if value.tensor is None:
        raise FileError(f"{call.where} needs the weight {value.name!r}, which is not in the file with the weights.")
    return value.tensor


def unchanged(call: Call) -> Value:
    """An operator that gives its first input as it is."""
    return call.input(0)


def module(kind: Callable[..., nn.Module], *arguments: Any, **settings: Any) -> Callable[[Call], Value]:
    """An operator that is a torch layer without weights, of one input."""

    def build(call: Call) -> Value:
        return call.layer(lambda: kind(*arguments, **settings), call.input(0))

    return build


def function(operation: Callable[..., Any], **settings: Any) -> Callable[[Call], Value]:
    """An operator that is a function of all its inputs."""

    def build(call: Call) -> Value:
        return call.apply(operation, *call.inputs, **settings)

    return build
