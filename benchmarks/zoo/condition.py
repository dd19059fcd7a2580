"""Random weights under which the signals of any model are of order 1, so that a lost or doubled share shows.

Libraries draw weights for training: batch norms that know no data, layer scales of 1e-6, last norms and gates at zero,
biases at zero. Under these whole branches are silent and an engine that drops them looks right. One pass in the order
of the forward sets every linear map to unit output, every running statistic from the data, every gain near 1 and every
shift to something small that is not zero (or exactly zero: see ``additive``).
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

ADDITIVE = re.compile(
    r"(^|[._])(bias|b|beta|shift|offset|mean|mu)\d*($|[._])|bias|pos|cls|class_emb|token|quer(y|ies)(_feat|_embed|$)|"
    r"latents?$|prompt|register|type_emb|segment|absolute|seg_embed|row_emb|col(umn)?_emb|time_mix|spatial_gate_shift",
    re.IGNORECASE,
)
EXTRA_EMBEDDINGS = re.compile(
    r"pos(ition)?|(^|[._])wpe|token_type|type_emb|segment|h_embed|w_embed|row_emb|column_emb|quer(y|ies)|height|width|lang_emb|task",
    re.IGNORECASE,
)
NORM_NAME = re.compile(r"norm|affine|(^|\.)ln|bn", re.IGNORECASE)
SHIFT, GAIN_SPREAD, POSITION = 0.05, 0.3, 0.3


def condition(model: nn.Module, forward: Callable[[], object], *, additive: bool) -> None:
    """Set the parameters and statistics of ``model`` in place, by one run of ``forward``.

    Args:
        model: in eval mode and float64.
        forward: runs the model on its input.
        additive: False sets additive parameters to zero instead of small random numbers.
    """
    with torch.no_grad():
        for name, module in model.named_modules():
            _draw(name, module, additive=additive)
        scaled: set[int] = set()
        handles = []
        for module in model.modules():
            if _is_linear_map(module):
                handles.append(module.register_forward_hook(lambda m, a, y: _unit_output(m, a, y, scaled)))
            elif _has_statistics(module):
                handles.append(
                    module.register_forward_pre_hook(lambda m, a: _set_statistics(m, a[0], additive, scaled))
                )
        try:
            forward()
        finally:
            for handle in handles:
                handle.remove()


def _is_linear_map(module: nn.Module) -> bool:
    return isinstance(module, (nn.Linear, _ConvNd)) or type(module).__name__ == "Conv1D"


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(getattr(module, "running_var", None), Tensor)


def _draw(name: str, module: nn.Module, *, additive: bool) -> None:
    """Draw a module's own parameters, data not seen yet."""
    if not additive and hasattr(module, "image_mean"):
        module.image_mean = [0.0] * len(module.image_mean)  # a detector's own normalisation of its pictures
    for key, value in module.named_parameters(recurse=False):
        path = f"{name}.{key}"
        if _is_linear_map(module) and key == "weight":
            fan_in = value.shape[0] if type(module).__name__ == "Conv1D" else value[0].numel()
            value.normal_(0, fan_in**-0.5)
        elif isinstance(module, (nn.RNNBase, nn.RNNCellBase)) and key.startswith("weight"):
            value.normal_(0, value.shape[1] ** -0.5)
        elif isinstance(module, nn.Embedding):
            extra = EXTRA_EMBEDDINGS.search(name) is not None
            value.normal_(0, POSITION if extra and additive else 0.0 if extra else 1.0)
        elif ADDITIVE.search(key):
            spread = SHIFT if key.endswith("bias") or value.dim() == 1 else POSITION
            value.normal_(0, spread) if additive else value.zero_()
        elif isinstance(module, (nn.LayerNorm, _BatchNorm, nn.GroupNorm)) or (
            value.dim() == 1 and NORM_NAME.search(f"{name} {type(module).__name__}")
        ):
            value.normal_(1, GAIN_SPREAD).clamp_(0.2, 2)
        elif value.dim() > 1 and value.numel() > max(value.shape) and value[0].numel() > 1:
            value.normal_(0, value.shape[-1] ** -0.5)
        elif value.abs().mean() < 0.1 and "A_log" not in path:
            value.normal_(1, GAIN_SPREAD).clamp_(0.2, 2)


def _unit_output(module: nn.Module, args: tuple[Tensor, ...], y: Tensor, scaled: set[int]) -> Tensor:
    """Rescale the weight so that the output without its bias has standard deviation 1; the new output goes on."""
    weight = _scale_of(module)
    if weight is None or id(weight) in scaled or not args or not isinstance(y, Tensor):
        return y
    scaled.add(id(weight))
    bias = module.bias
    spread = _linear_part(y, bias, module).std()
    if not torch.isfinite(spread) or spread < 1e-12:
        return y
    weight.mul_(1 / spread)
    return module.forward(*args)


def _linear_part(y: Tensor, bias: Tensor | None, module: nn.Module) -> Tensor:
    if bias is None:
        return y
    axes = y.dim() - 1 - (module.weight.dim() - 2 if isinstance(module, _ConvNd) else 0)
    return y - bias.view([-1 if axis == axes else 1 for axis in range(y.dim())])


def _scale_of(module: nn.Module) -> Tensor | None:
    """The tensor that scales the module's output: its weight, or the magnitude of a weight norm."""
    own = dict(module.named_parameters(recurse=True))
    for key in ("weight", "parametrizations.weight.original0", "weight_g", "gain"):
        if key in own:
            return own[key]
    return None


def _set_statistics(module: nn.Module, x: Tensor, additive: bool, scaled: set[int]) -> None:
    """Running statistics from the data, per channel where a channel has enough values, else of all together.

    A twentieth of the data's mean, and no channel scaled above the mean of all: a random net of sixty layers with norms
    that centre and stretch every channel of one picture would multiply relevance at each, as no trained net does.
    """
    if id(module) in scaled:
        return
    scaled.add(id(module))
    rows = x.transpose(0, 1).flatten(1) if x.dim() > 1 else x[:, None]
    if rows.shape[1] < 8:
        rows = rows.flatten()[None].expand(rows.shape[0], -1)
    mean = rows.mean(1) * (0.05 if additive else 0.0)
    square = (rows - mean[:, None]).square().mean(1)
    module.running_mean.copy_(mean)
    module.running_var.copy_(square.clamp_min(square.mean() + 1e-12))
