"""Inputs of a model: which are explained, fresh leaves for them, and refusals before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.engine.numerics import all_finite
from pellucid.errors import InputError, ModelError
from pellucid.structures import named_tensors

__all__ = ["Prepared", "batch_size", "check_model", "prepare", "samples"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """An input ready for a forward pass: leaves to walk to, and what the model is called with."""

    original: Any
    leaves: dict[str, Tensor]
    """Explained floating inputs: fresh leaves that share the caller's storage where dtype and device allow."""
    ids: dict[str, Tensor]
    """Explained integer inputs."""
    values: dict[str, Tensor]
    """All tensors by name."""
    batch: int

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return next(iter(self.values.values())).device

    def sample(self, i: int) -> Prepared:
        """Sample ``i`` alone, with leaves of its own."""

        def take(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {
                name: t[i : i + 1].detach() if t.ndim and t.shape[0] == self.batch else t for name, t in tensors.items()
            }

        leaves = {name: leaf.requires_grad_() for name, leaf in take(self.leaves).items()}
        return replace(self, leaves=leaves, ids=take(self.ids), values={**take(self.values), **leaves}, batch=1)

    def arguments(self, given: Mapping[str, Tensor] | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments, explained tensors as clones of their leaves, so that a model may write
        into what it is given.

        Args:
            given: other tensors by name, for all of ``values``.
        """
        given = given or {
            name: self.leaves[name].clone() if name in self.leaves else value.clone() if name not in self.ids else value
            for name, value in self.values.items()
        }
        if isinstance(self.original, Tensor):
            return (given["x"],), {}
        if isinstance(self.original, Mapping):
            return (), {str(key): given.get(str(key), value) for key, value in self.original.items()}
        return tuple(given.get(str(k), value) for k, value in enumerate(self.original)), {}


def prepare(
    x: Any,
    *,
    inputs: str | int | Iterable[str | int] | None,
    dtype: torch.dtype | None,
    device: torch.device | None,
    like: Tensor | None,
) -> Prepared:
    """Check ``x`` and make its leaves.

    Args:
        x: tensor, tuple or dict of tensors; floating inputs (N, ...), token ids (N, L).
        inputs: names (dict keys, tuple indices) of those that are explained; None: every floating one that is no mask,
            and every integer one.
        dtype: compute in this floating dtype.
        device: compute there.
        like: a parameter of the model, whose dtype and device the inputs must have.

    Raises:
        InputError: no tensor, unknown names, NaN or infinite values, wrong dtype or device.
    """
    if isinstance(x, list):
        x = tuple(x)
    tensors = _tensors_of(x)
    wanted = _wanted(tensors, inputs)
    values: dict[str, Tensor] = {}
    leaves: dict[str, Tensor] = {}
    ids: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise InputError(f"The input {name!r} is on the 'meta' device: it has a shape but no values.")
        if tensor.layout is not torch.strided:
            raise InputError(
                f"The input {name!r} has the layout {tensor.layout}; expected a dense tensor, such as x.to_dense()."
            )
        moved = tensor.detach().to(dtype=dtype if tensor.is_floating_point() else None, device=device)
        if moved.is_inference() and not torch.is_inference_mode_enabled():
            moved = moved.clone()  # made in inference mode, it could not take part in a graph
        _check_like(name, moved, like)
        values[name] = moved
        if name not in wanted:
            continue
        if moved.is_floating_point():
            if not all_finite(moved):
                bad = int((~torch.isfinite(moved)).sum())
                raise InputError(
                    f"The explained input {name!r} holds {bad} values that are NaN or infinite, of {moved.numel()}. "
                    "Relevance would be NaN everywhere: replace them (torch.nan_to_num), or pass inputs=[...] "
                    "without it."
                )
            leaves[name] = (
                moved.requires_grad_()
                if moved is not tensor and not moved.requires_grad
                else moved.detach().requires_grad_()
            )
        else:
            ids[name] = values[name] = moved.clone()  # a model may write into them; look-ups are known by this tensor
    return Prepared(x, leaves, ids, values, batch_size(values, wanted))


def samples(x: Any, inputs: str | int | Iterable[str | int] | None) -> int:
    """The number of samples of ``x``; see :func:`prepare` for the arguments and errors."""
    tensors = _tensors_of(x)
    return batch_size(tensors, _wanted(tensors, inputs))


def _tensors_of(x: Any) -> dict[str, Tensor]:
    if not isinstance(x, (Tensor, list, tuple, Mapping)):
        raise InputError(f"Expected x as a tensor, a tuple or a dict of tensors, got {type(x).__name__}.")
    tensors = named_tensors(x)
    if not tensors:
        raise InputError("Expected at least one tensor in x, got none.")
    return tensors


def _wanted(tensors: Mapping[str, Tensor], inputs: str | int | Iterable[str | int] | None) -> set[str]:
    if inputs is None:
        chosen = {
            name
            for name, tensor in tensors.items()
            if tensor.dtype != torch.bool
            and not (tensor.is_floating_point() and "mask" in name)
            and "attention_mask" not in name
        }
        return chosen or set(tensors)
    names = {str(inputs)} if isinstance(inputs, (str, int)) else {str(name) for name in inputs}
    missing = names - set(tensors)
    if missing or not names:
        raise InputError(
            f"inputs={sorted(names)} names inputs that are not there: {sorted(missing)}. The inputs are: "
            f"{sorted(tensors)}."
        )
    return names


def _check_like(name: str, tensor: Tensor, like: Tensor | None) -> None:
    if like is None:
        return
    if tensor.device != like.device:
        raise InputError(
            f"The input {name!r} is on {tensor.device} but the model is on {like.device}. Move one of them, or pass "
            "device=."
        )
    if tensor.is_floating_point() and tensor.dtype != like.dtype and not torch.is_autocast_enabled(tensor.device.type):
        raise InputError(
            f"The input {name!r} has dtype {tensor.dtype} but the model's parameters have {like.dtype}. Convert one "
            "of them, "
            f"or pass dtype= to compute both in one."
        )


def batch_size(values: Mapping[str, Tensor], wanted: Sequence[str] | set[str]) -> int:
    """The first dimension that the explained inputs share.

    Raises:
        InputError: an explained input has no dimension, or they disagree.
    """
    sizes = {}
    for name in wanted:
        if values[name].ndim == 0:
            raise InputError(f"The explained input {name!r} is a single number; expected a first dimension of samples.")
        sizes[name] = values[name].shape[0]
    if len(set(sizes.values())) > 1:
        raise InputError(f"The explained inputs have different numbers of samples: {sizes}.")
    size = next(iter(sizes.values()))
    if size == 0:
        raise InputError("Expected at least one sample, got an input whose first dimension is 0.")
    return size


def check_model(model: object) -> nn.Module:
    """The module, in evaluation mode where it matters.

    Raises:
        InputError: not a module.
        ModelError: dropout or batch statistics are active.
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"Expected a torch.nn.Module or a LoadedModel, got {type(model).__name__}. A plain function can be "
            "wrapped in a "
            f"module whose forward calls it."
        )
    for name, part in model.named_modules():
        if part.training and _is_random(part):
            raise ModelError(
                f"The module {name or '(the model itself)'!r} ({type(part).__name__}) is in training mode: its "
                "output is random "
                f"or depends on the other samples, so there is no one decision to explain. Call model.eval() first."
            )
    return model


def _is_random(part: nn.Module) -> bool:
    if isinstance(part, (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)):
        return getattr(part, "p", 1) > 0
    dropout = getattr(part, "dropout", 0)
    return isinstance(dropout, float) and dropout > 0 and isinstance(part, (nn.RNNBase, nn.MultiheadAttention))
