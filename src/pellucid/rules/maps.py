"""Linear maps of a signal by weights, whatever node holds them: convolutions, dense layers, matrix products.

A map has the signal ``x``, the weight ``w`` and maybe a bias; ``forward(x, w)`` is the map without bias and
``backward(s, w)`` its transpose, both for any x, s and any other weight of the same shape. A batch-norm that is folded
into the map scales its weight and replaces its bias (``w * scale``, ``b * scale + shift`` per output channel).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from pellucid.engine.numerics import inner, reduce_to
from pellucid.engine.ops import Op
from pellucid.engine.private import CONVOLUTIONS, DENSE, FACTORS, GROUPED_MM, OPERANDS, saved
from pellucid.engine.record import Live
from pellucid.engine.step import Fresh, Relevance, Step
from pellucid.errors import ModelError
from pellucid.rules.elementwise import relu
from pellucid.rules.norm import batch_norm_affine

__all__ = ["InputNotSavedError", "LinearMap", "linear_map"]

aten = torch.ops.aten

_FEW = 4
"""Input channels up to which the transposed map of a convolution by two weights at once is quicker than by each."""


class InputNotSavedError(Exception):
    """A rule asks for the input of a dense layer in a forward that was run without saving it; run it again with."""


def saved_input_is_gone(step: Step, signal: int, weights: int) -> bool:
    """Whether the signal of a dense layer was not saved because its weight needed no gradient."""
    field = OPERANDS.get(step.walk.graph.names[step.index], {}).get(signal)
    unweighed = step.walk.graph.edges[step.index][weights][0] < 0
    return field is not None and unweighed and saved(step.node, field) is None


class LinearMap(ABC):
    """A linear map at one node of the walk."""

    def __init__(self, step: Step, *, signal: int, weights: int) -> None:
        self.step = step
        self.signal = signal
        self.weights = weights
        norm = step.walk.plan.folded.get(step.index)
        self.norm = None if norm is None else Step(step.walk, norm)
        self._fold = None if self.norm is None else batch_norm_affine(self.norm)
        self.added: int | None = None
        self.added_factor = 1.0
        self._is_split = False

    @cached_property
    def x(self) -> Tensor:
        """The signal.

        Raises:
            InputNotSavedError: nothing holds it, as the forward was told to save none, nor what it could be made from.
        """
        try:
            return self.step.operand(self.signal)
        except ModelError as error:
            if saved_input_is_gone(self.step, self.signal, self.weights):
                raise InputNotSavedError(self.step.describe()) from error
            raise

    @cached_property
    def weight(self) -> Tensor:
        """The weight, with a folded batch-norm's scale."""
        weight = self.step.operand(self.weights)
        return weight if self._fold is None else self.scale_outputs(weight, self._fold[0].to(weight.dtype))

    @cached_property
    def bias(self) -> Tensor | None:
        """The bias in a shape that broadcasts to the output, or None."""
        bias = self.own_bias()
        if self._fold is None:
            return bias
        scale, shift = (self.per_channel(part) for part in self._fold)
        return shift if bias is None else bias * scale + shift

    @cached_property
    def output(self) -> Tensor:
        """The output with bias where relevance arrives, taken from what is kept where that is exact, else computed.

        Where only a ReLU takes it, nothing arrives at what is not positive, and the ReLU's result stands for it.
        """
        rectified = self._rectified()
        return self.whole_output if rectified is None else rectified

    @cached_property
    def whole_output(self) -> Tensor:
        """The output with bias, also where nothing arrives."""
        if self.norm is not None:
            kept = self.norm.output()
            if kept is not None:
                return kept
            before = self.norm.operand(0)
            assert self._fold is not None
            scale, shift = (part.to(before.dtype) for part in self._fold)
            # The affine map as a batch-norm of mean 0 and variance 1: its kernel takes half the time of addcmul's.
            return torch.batch_norm(
                before, scale, shift, torch.zeros_like(scale), torch.ones_like(scale), False, 0.0, 0.0, False
            )
        kept = self.step.output() if self.added is None else None
        if kept is not None:
            return kept + self.bias if self._is_split and self.bias is not None else kept
        return self.forward(self.x, self.weight, self.bias)

    def _rectified(self) -> Tensor | None:
        """The result of the ReLU that is the only one to send relevance here, and only to what is positive."""
        if self.step.converted or self.added is not None or self._is_split:
            return None
        plan, graph = self.step.walk.plan, self.step.walk.graph
        last = self.step.index if self.norm is None else self.norm.index
        takers = [c for c, _ in graph.consumers[last] if plan.on_path[c]]
        if len(takers) != 1 or plan.ops[takers[0]] is not Op.RELU or plan.rules[takers[0]] is not relu:
            return None
        return saved(graph.nodes[takers[0]], "result")

    @property
    def module(self) -> str:
        """Where the map ran."""
        return self.step.module

    def book_bias(self, s: Tensor, bias: Tensor | None = None) -> None:
        """Book ``sum s * b``: what a bias (by default the map's own) took."""
        bias = self.bias if bias is None else bias
        if bias is not None:
            self.step.book("bias", inner(reduce_to(s, bias.shape), bias.to(s.dtype)))

    def messages(
        self, arrived: Tensor, share: Callable[[], Tensor | Relevance]
    ) -> list[Tensor | Fresh | Relevance | None]:
        """What ``share()`` makes for the signal; for a live signal that is added in the same node, what arrived."""
        out: list[Tensor | Fresh | Relevance | None] = [None] * len(self.step.live)
        if self.added is not None:
            out[self.added] = reduce_to(arrived * self.added_factor, self.step.shape(self.added))
        made = share()
        out[self.signal] = Fresh(made) if isinstance(made, Tensor) else made
        return out

    @abstractmethod
    def forward(self, x: Tensor, weight: Tensor, plus: Tensor | None = None) -> Tensor:
        """The map of ``x`` by ``weight``, with ``plus`` (in the shape of :attr:`bias`, or one number) added to it."""

    @abstractmethod
    def backward(self, s: Tensor, weight: Tensor) -> Tensor:
        """The transposed map: shaped as the signal."""

    def backward_both(self, s: Tensor, weight: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """The transposed maps by two weights."""
        return self.backward(s, weight), self.backward(s, other)

    @abstractmethod
    def own_bias(self) -> Tensor | None:
        """The layer's own bias, broadcastable to the output."""

    @abstractmethod
    def per_channel(self, values: Tensor) -> Tensor:
        """Values per output channel in a shape that broadcasts to the output."""

    @abstractmethod
    def scale_outputs(self, weight: Tensor, scale: Tensor) -> Tensor:
        """The weight times a factor per output channel."""


class _Convolution(LinearMap):
    """Convolutions of 1 to 3 dimensions, transposed, grouped, dilated, strided."""

    def __init__(self, step: Step) -> None:
        super().__init__(step, signal=0, weights=1)
        record = step.record
        if record is None:
            raise ModelError(f"{step.describe()} ran where it could not be observed.")
        self._settings = record.args[3:9]
        bias = record.args[2]
        self._bias = bias.detach() if isinstance(bias, Tensor) else None
        self._transposed = bool(record.args[6])

    def forward(self, x: Tensor, weight: Tensor, plus: Tensor | None = None) -> Tensor:
        if plus is not None:
            channels = self.step.walk.graph.shape((self.step.index, 0))[1]
            plus = plus.to(x.dtype).reshape(-1).expand(channels)  # one number, or one per channel
        result: Tensor = aten.convolution(x, weight, plus, *self._settings)
        return result

    def backward(self, s: Tensor, weight: Tensor) -> Tensor:
        if self._pointwise(s, weight):
            return self._product(s, weight)
        padding = self._mirrored_padding(s, weight)
        if padding is not None:
            return self._mirrored(s, weight, padding)
        x = saved(self.step.node, "input")
        template = s.new_empty(self.step.shape(0)) if x is None else x
        result: Tensor = aten.convolution_backward(s, template, weight, None, *self._settings, [True, False, False])[0]
        return result

    def backward_both(self, s: Tensor, weight: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        inputs = weight.shape[1]
        if int(self._settings[5]) > 1 or self._transposed or inputs > _FEW:
            return super().backward_both(s, weight, other)
        size = self.step.shape(0)
        template = s.new_empty((size[0], 2 * inputs, *size[2:]))
        both = torch.cat([weight, other], 1)
        found = aten.convolution_backward(s, template, both, None, *self._settings, [True, False, False])[0]
        return found[:, :inputs], found[:, inputs:]

    def _pointwise(self, s: Tensor, weight: Tensor) -> bool:
        """Whether the map is one matrix at every position, whose transposed product is quicker on a CPU."""
        _, padding, _, transposed, _, groups = self._settings
        plain = not any(padding) and not transposed and int(groups) == 1
        return plain and weight.shape[2:].numel() == 1 and s.device.type == "cpu" and s.is_contiguous()

    def _product(self, s: Tensor, weight: Tensor) -> Tensor:
        found = torch.matmul(weight.flatten(1).t(), s.flatten(2)).view(s.shape[0], weight.shape[1], *s.shape[2:])
        size, stride = self.step.shape(0)[2:], self._settings[0]
        if found.shape[2:] == size:
            return found
        whole = s.new_zeros((*found.shape[:2], *size))  # with a stride, most positions take no part
        met = [slice(None, None, t) for t in (list(stride) * len(size))[: len(size)]]
        whole[(slice(None), slice(None), *met)] = found
        return whole

    def _mirrored_padding(self, s: Tensor, weight: Tensor) -> list[int] | None:
        """The padding with which the transposed map of one channel each is a plain convolution, where it is one.

        With stride 1 it is the convolution by the mirrored weight, which spares on a CPU what the backward of a
        convolution does besides; for dense kernels it is no gain.
        """
        stride, padding, dilation, transposed, _, groups = self._settings
        kernel = weight.shape[2:]
        if s.device.type != "cpu" or transposed or any(step != 1 for step in stride):
            return None
        if int(groups) != weight.shape[0] or weight.shape[1] != 1:
            return None
        spatial = len(kernel)
        padding, dilation = ((list(v) * spatial)[:spatial] for v in (padding, dilation))
        rest = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True)]
        return rest if min(rest) >= 0 else None

    def _mirrored(self, s: Tensor, weight: Tensor, padding: list[int]) -> Tensor:
        stride, _, dilation, _, output_padding, groups = self._settings
        turned = weight.flip(list(range(2, weight.ndim)))
        result: Tensor = aten.convolution(s, turned, None, stride, padding, dilation, False, output_padding, groups)
        return result

    def own_bias(self) -> Tensor | None:
        return None if self._bias is None else self.per_channel(self._bias)

    def per_channel(self, values: Tensor) -> Tensor:
        return values.view(-1, *[1] * (len(self.step.shape(0)) - 2)).unsqueeze(0)

    def scale_outputs(self, weight: Tensor, scale: Tensor) -> Tensor:
        ones = [1] * (weight.ndim - 2)
        if not self._transposed:
            return weight * scale.view(-1, 1, *ones)
        groups = int(self._settings[5])
        per_group = scale.view(groups, 1, -1, *ones)
        return (weight.view(groups, -1, *weight.shape[1:]) * per_group).view_as(weight)


class _Matrix(LinearMap):
    """Matrix products with the weight on either side, batched or not."""

    def __init__(self, step: Step, *, signal: int, weights: int, bias: int | None) -> None:
        super().__init__(step, signal=signal, weights=weights)
        self._left = signal < weights
        record = step.record
        self._factor = 1.0
        self._bias: Tensor | None = None
        if record is not None:
            self._factor = float(record.kwargs.get("alpha", 1))
            held = record.args[bias] if bias is not None else None
            beta = float(record.kwargs.get("beta", 1))
            if isinstance(held, Tensor):
                self._bias = held.detach() if beta == 1 else held.detach() * beta
            elif isinstance(held, Live):
                self.added, self.added_factor = bias, beta
        split = step.walk.plan.biases.get(step.index)
        if split is not None:
            self._bias, self._is_split = split, True

    def forward(self, x: Tensor, weight: Tensor, plus: Tensor | None = None) -> Tensor:
        z = self._product(x, weight)
        if self._factor != 1:
            z = z * self._factor
        return z if plus is None else z.add_(plus.to(z.dtype))

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight if self._left else weight @ x

    def backward(self, s: Tensor, weight: Tensor) -> Tensor:
        if self._factor != 1:
            s = s * self._factor
        if weight.ndim == 1:
            return s.unsqueeze(-1) * weight
        if not self._left and s.ndim == 1:
            return weight.mT @ s
        return s @ weight.mT if self._left else weight.mT @ s

    def own_bias(self) -> Tensor | None:
        return self._bias

    def per_channel(self, values: Tensor) -> Tensor:
        return values.view(1, -1)

    def scale_outputs(self, weight: Tensor, scale: Tensor) -> Tensor:
        return weight * scale.view(1, -1)


class _Linear(_Matrix):
    """``x @ w.T + b`` in one node."""

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight.T

    def backward(self, s: Tensor, weight: Tensor) -> Tensor:
        return s @ weight

    def scale_outputs(self, weight: Tensor, scale: Tensor) -> Tensor:
        return weight * scale.view(-1, 1)


class _Grouped(_Matrix):
    """One matrix per group of rows, as experts in a mixture are: rows ``offs[g - 1]`` to ``offs[g]`` meet ``w[g]``."""

    def __init__(self, step: Step) -> None:
        super().__init__(step, signal=0, weights=1, bias=None)
        record = step.record
        ends = None if record is None else record.kwargs.get("offs", record.args[2] if len(record.args) > 2 else None)
        if not isinstance(ends, Tensor):
            raise ModelError(f"{step.describe()} multiplies groups without offsets, which no rule is written for.")
        self._ends = [0, *ends.tolist()]

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        return self._by_group(x, weight)

    def backward(self, s: Tensor, weight: Tensor) -> Tensor:
        return self._by_group(s, weight.mT)

    def _by_group(self, rows: Tensor, weight: Tensor) -> Tensor:
        out = rows.new_zeros(rows.shape[0], weight.shape[-1])
        for group, (start, end) in enumerate(pairwise(self._ends)):
            out[start:end] = rows[start:end] @ weight[group]
        return out


def linear_map(step: Step) -> LinearMap:
    """The linear map at a node.

    Raises:
        ModelError: the node is none.
    """
    name = step.walk.graph.names[step.index]
    if name in CONVOLUTIONS:
        if step.live[1]:
            return _WeightLive(step)
        return _Convolution(step)
    if name == DENSE:
        return _Linear(step, signal=0, weights=1, bias=2)
    if name == GROUPED_MM:
        return _Grouped(step)
    if name not in FACTORS:
        raise ModelError(f"{step.describe()} is not a linear map that is known.")
    a, b = FACTORS[name]
    signal, weights = (a, b) if step.live[a] else (b, a)
    return _Matrix(step, signal=signal, weights=weights, bias=0 if a == 1 else None)


class _WeightLive(_Convolution):
    """A convolution whose weight is the signal and whose input is constant."""

    def __init__(self, step: Step) -> None:
        super().__init__(step)
        self.signal, self.weights = 1, 0

    def forward(self, x: Tensor, weight: Tensor, plus: Tensor | None = None) -> Tensor:
        return super().forward(weight, x, plus)

    def backward(self, s: Tensor, weight: Tensor) -> Tensor:
        template = s.new_empty(self.step.shape(1))
        result: Tensor = aten.convolution_backward(s, weight, template, None, *self._settings, [False, True, False])[1]
        return result

    def backward_both(self, s: Tensor, weight: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        return self.backward(s, weight), self.backward(s, other)
