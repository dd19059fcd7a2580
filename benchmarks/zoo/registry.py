"""The rows of the coverage table: what a row is, and how a model of the zoo is made ready to be explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.zoo.condition import condition
from benchmarks.zoo.scalars import Scalar, choose_scalar

Inputs = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
SETS = ("torchvision", "timm", "transformers", "rnn", "torchscript", "export")
SEED = 20
SMALLEST, TRIES = 0.3, 8  # a scalar that happens to cancel says nothing about shares of it: draw again


@dataclass(frozen=True)
class Row:
    """One model of the zoo.

    Attributes:
        name: unique within its set.
        set: one of SETS.
        family: what the table groups by: the task, the module of timm, or the kind of transformer.
        kind: the broad kind; the default tests explain one model of each.
        make: builds the model and its input, in float32, with whatever weights its library draws.
        scalar: which scalar is explained, see ``choose_scalar``.
        convert: makes the explained model out of the conditioned one (scripts, traces or exports it).
        dtypes: those in which the model's own forward runs on a processor, by name.
    """

    name: str
    set: str
    family: str
    kind: str
    make: Callable[[], tuple[nn.Module, Inputs]]
    scalar: str = "top logit"
    convert: Callable[[nn.Module, Inputs], nn.Module] | None = None
    dtypes: tuple[str, ...] = ("float64", "float32")

    @property
    def key(self) -> str:
        """Name that is unique in the whole zoo."""
        return f"{self.set}:{self.name}"


@dataclass(frozen=True)
class Case:
    """A conditioned model, its input, and the scalar that is explained."""

    model: nn.Module
    x: Inputs
    target: int | Scalar

    def output(self) -> Tensor:
        """Logits (batch, ...) of a plain forward, graph kept."""
        return logits_of(call(self.model, self.x))

    def scalar(self) -> Tensor:
        """The explained scalar (batch,) of a plain forward, graph kept."""
        return self.scalar_of(self.output())

    def scalar_of(self, logits: Tensor) -> Tensor:
        """The explained scalar (batch,) of an output."""
        return logits[:, self.target] if isinstance(self.target, int) else self.target(logits)


def call(model: nn.Module, x: Inputs) -> object:
    """Call the model as a user would: a dict by keyword, a tuple by position."""
    if isinstance(x, dict):
        return model(**x)
    if isinstance(x, tuple):
        return model(*x)
    return model(x)


def logits_of(output: object) -> Tensor:
    """The tensor that targets refer to: the output, its ``logits`` or ``out``, or its first tensor."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        for key in ("logits", "out"):
            if key in output:
                return output[key]
        return next(iter(output.values()))
    if isinstance(output, tuple):
        return output[0]
    raise TypeError(f"expected a tensor, mapping or tuple from the model, got {type(output).__name__}")


def cast(x: Inputs, dtype: torch.dtype) -> Inputs:
    """Inputs with floating tensors in ``dtype``; token ids and masks as they are."""
    if isinstance(x, dict):
        return {key: value.to(dtype) if value.is_floating_point() else value for key, value in x.items()}
    if isinstance(x, tuple):
        return tuple(value.to(dtype) if value.is_floating_point() else value for value in x)
    return x.to(dtype) if x.is_floating_point() else x


def prepare(row: Row, *, additive: bool = True, dtype: torch.dtype = torch.float64) -> Case:
    """Build, condition and convert the model of a row and choose its scalar; the same result on every call.

    Args:
        row: the row.
        additive: False sets every additive parameter to zero (biases, norm shifts, running means, positions, learned
            tokens), so that the relevance of the inputs must sum to the explained scalar.
        dtype: of the parameters and inputs, torch.float64 or torch.float32.
    """
    for seed in range(SEED, SEED + TRIES):
        case, scalar = _draw(row, seed, additive=additive, dtype=dtype)
        if abs(scalar) >= SMALLEST:
            return case
    raise RuntimeError(f"{row.key}: the explained scalar was below {SMALLEST} with {TRIES} seeds")


def _cast_model(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The model in ``dtype``, without the old one's tensors that some attention layers keep from forward to
    forward."""
    for module in model.modules():
        cache = getattr(module, "attention_bias_cache", None)
        if isinstance(cache, dict):
            cache.clear()
    return model.to(dtype)


def recast(row: Row, case: Case, dtype: torch.dtype) -> Case:
    """The same case in another dtype; its model is cast in place. Not for converted models."""
    model, x = _cast_model(case.model, dtype), cast(case.x, dtype)
    with torch.no_grad():
        return Case(model, x, choose_scalar(row.scalar, logits_of(call(model, x))))


def _draw(row: Row, seed: int, *, additive: bool, dtype: torch.dtype) -> tuple[Case, float]:
    torch.manual_seed(seed)
    model, x = row.make()
    wide = torch.float64 if "float64" in row.dtypes else torch.float32
    model, x = model.eval().to(wide), cast(x, wide)
    condition(model, lambda: call(model, x), additive=additive)
    model, x = _cast_model(model, dtype), cast(x, dtype)
    if row.convert is not None:
        model = row.convert(model, x)
    with torch.no_grad():
        logits = logits_of(call(model, x))
    case = Case(model, x, choose_scalar(row.scalar, logits))
    return case, float(case.scalar_of(logits))
