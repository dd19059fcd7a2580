"""A model as the plain function that other libraries call: arrays or tensors in, scores out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.engine.inputs import check_model
from pellucid.errors import InputError, TargetError
from pellucid.models import LoadedModel
from pellucid.outputs import main_output
from pellucid.targets import Target, resolve_targets

__all__ = ["PlainFunction", "as_function"]


def as_function(
    model: nn.Module | LoadedModel,
    target: Any = None,
    *,
    probabilities: bool = False,
    channels_last: bool = False,
    batch_size: int = 64,
) -> PlainFunction:
    """The model as a plain function, for SHAP, LIME, Captum and whatever else asks for one.

    Give it arrays and it computes without gradients and answers with an array, as SHAP and LIME want it; give it
    tensors and it answers with a tensor, differentiable where a tensor needs a gradient, as Captum wants it. Arrays of
    whole numbers are taken as token ids by a model with an embedding, else as numbers of the model's dtype.

    Args:
        model: any module in evaluation mode, or a LoadedModel.
        target: what the function gives, one number per row: anything that ``explain`` takes, for all rows the same.
            What depends on the output ("a~rest", the top class) is taken from each row's own output. None: the whole
            output, (N, classes).
        probabilities: the softmax of the output instead of the output (LIME's classifiers); without ``target``.
        channels_last: arrays of pictures come as (N, H, W, C), as LIME and SHAP make them; tensors as the model wants.
        batch_size: rows that are run at once.

    Returns:
        ``f(x)``, or ``f(x, y, ...)`` for several inputs, each (N, ...): (N,) with a target, else (N, classes).

    Raises:
        InputError: something given cannot be used. TargetError: the target cannot.
        ModelError: the model is in training mode.
    """
    names = model.class_names if isinstance(model, LoadedModel) else None
    module = check_model(model.module if isinstance(model, LoadedModel) else model)
    if probabilities and target is not None:
        raise InputError("probabilities=True gives all classes: leave target= out.")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"Expected batch_size as a whole number from 1, got {batch_size!r}.")
    if isinstance(target, list | tuple) or (hasattr(target, "ndim") and target.ndim > 0):
        raise TargetError("A function has one target for all rows: give one, not a list.")
    resolved = None if target is None else resolve_targets(target, 1, class_names=names)
    if resolved is not None:
        resolved.check_layers(dict(module.named_modules()))
    return PlainFunction(module, resolved, probabilities, channels_last, batch_size)


@dataclass(frozen=True)
class PlainFunction:
    """What :func:`as_function` returns; see there."""

    module: nn.Module
    target: Target | None
    probabilities: bool
    channels_last: bool
    batch_size: int

    def __call__(self, *inputs: Any) -> Any:
        """Scores of every row: (N,) with a target, else (N, classes).

        Raises:
            InputError: no input, inputs of different lengths, arrays that are no numbers, or the model raised.
        """
        if not inputs:
            raise InputError("Expected at least one array or tensor.")
        as_arrays = not any(isinstance(x, Tensor) for x in inputs)
        tensors = [x if isinstance(x, Tensor) else self._tensor(x) for x in inputs]
        sizes = [len(x) if x.ndim else -1 for x in tensors]
        if len(set(sizes)) != 1 or sizes[0] < 0:
            raise InputError(
                f"Expected inputs with the same number of rows, got shapes {[tuple(x.shape) for x in tensors]}."
            )
        differentiable = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
        with torch.enable_grad() if differentiable else torch.no_grad():
            starts = range(0, max(sizes[0], 1), self.batch_size)
            scores = torch.cat(
                [self._scores([x[start : start + self.batch_size] for x in tensors]) for start in starts]
            )
        if not as_arrays:
            return scores
        scores = scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores
        return scores.cpu().numpy()

    def _tensor(self, x: Any) -> Tensor:
        """An array as the model wants it: its dtype for floating numbers, its device, channels first."""
        array = np.asarray(x)
        if array.dtype.kind not in "fiub":
            raise InputError(f"Expected arrays of numbers, got one of {array.dtype}.")
        own = chain(self.module.parameters(), self.module.buffers())
        like = next((part for part in own if part.is_floating_point()), torch.empty(0))
        tensor = torch.as_tensor(np.array(array, order="C")).to(like.device)
        if self.channels_last:
            if tensor.ndim < 4:
                raise InputError(f"channels_last=True is for pictures (N, H, W, C); got shape {tuple(tensor.shape)}.")
            tensor = tensor.movedim(-1, 1).contiguous()
        if not tensor.is_floating_point() and not self.channels_last and self._takes_ids():
            return tensor.long()
        return tensor.to(like.dtype)

    def _takes_ids(self) -> bool:
        """Whether whole numbers are token ids rather than numbers of a table."""
        return any(isinstance(part, nn.Embedding | nn.EmbeddingBag) for part in self.module.modules())

    def _scores(self, inputs: Sequence[Tensor]) -> Tensor:
        layers = () if self.target is None else self.target.layers()
        with _watched(self.module, layers) as activations:
            try:
                raw = self.module(*inputs)
            except Exception as error:
                shapes = [(tuple(x.shape), str(x.dtype)) for x in inputs]
                raise InputError(
                    f"The model {type(self.module).__name__} raised {type(error).__name__} on inputs {shapes}: {error}."
                ) from error
        if self.target is None:
            output, _ = main_output(raw)
            return output.softmax(1) if self.probabilities else output
        output = raw if self.target.takes_raw else main_output(raw)[0]
        return self.target.fix(output).scalar(output, activations)


@contextmanager
def _watched(module: nn.Module, layers: Sequence[str]) -> Iterator[Mapping[str, Tensor]]:
    """The outputs of some modules during a forward; the hooks are gone afterwards."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            found[name] = main_output(output)[0]

        return hook

    with ExitStack() as stack:
        for name in layers:
            handle = module.get_submodule(name).register_forward_hook(keep(name))
            stack.callback(handle.remove)
        yield found
