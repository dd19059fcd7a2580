"""A module as an exported program, with a free batch axis where the module allows one."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.errors import ModelError
from pellucid.models.files import reason
from pellucid.models.graph.module import GraphModule

Example = Tensor | tuple[Any, ...] | Mapping[str, Any]


def export(module: nn.Module, x: Example, path: Path) -> None:
    """Write ``module`` to ``path`` as a program of torch.export.

    Args:
        module: in evaluation mode.
        x: what it is called with; a tensor, a tuple, or names and values. A batch of one is doubled, since torch fixes
            axes of length 1.
        path: the file, overwritten.

    Raises:
        ModelError: torch cannot export it; the text says why in torch's words.
    """
    given = x if isinstance(x, (tuple, Mapping)) else (x,)
    parts = list(given.values()) if isinstance(given, Mapping) else list(given)
    batch = next((part.shape[0] for part in parts if isinstance(part, Tensor) and part.ndim), 0)
    free = [isinstance(part, Tensor) and part.ndim > 0 and part.shape[0] == batch for part in parts]
    if batch == 1:
        parts = [torch.cat([part, part]) if whole else part for part, whole in zip(parts, free, strict=True)]
    shapes = [{0: torch.export.Dim.AUTO} if whole else None for whole in free]
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of what torch's own layers do while they are traced
            if isinstance(given, Mapping):
                names = dict(zip(given, parts, strict=True))
                program = torch.export.export(
                    _named(module), (), names, dynamic_shapes=dict(zip(given, shapes, strict=True))
                )
            else:
                program = torch.export.export(_named(module), tuple(parts), dynamic_shapes=tuple(shapes))
            torch.export.save(program, path)
    except Exception as error:  # of many kinds, of torch's tracing and of the module's own code
        raise ModelError(
            f"torch.export cannot export this {type(module).__name__}: {type(error).__name__}: {reason(error)[:300]}. "
            "What its forward decides by numbers, prints or keeps is no part of a program."
        ) from error


def _named(module: nn.Module) -> nn.Module:
    """``module`` with its inputs by name in the signature, as torch.export names them after it."""
    if not isinstance(module, GraphModule):
        return module
    twin = copy.copy(module)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD

    def forward(*inputs: Any, **named: Any) -> Any:
        return GraphModule.forward(module, *inputs, **named)

    forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind) for name in module.input_names]
    )
    twin.forward = forward  # type: ignore[method-assign]
    return twin
