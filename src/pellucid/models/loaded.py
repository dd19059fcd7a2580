"""A model with what is needed to feed it and to read its answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from pellucid.models.preprocessing import Preprocessing


@dataclass(frozen=True)
class LoadedModel:
    """What :func:`pellucid.load_model` returns; every verb takes it in place of a plain module.

    Args:
        module: the network, in evaluation mode.
        class_names: one name per output, or None where the model has no classes or they are unknown. A name may hold
            synonyms, divided by commas.
        preprocessing: from a PIL image to the input tensor ``(C, H, W)``; None where the input is no photo.
        input_range: lowest and highest value the input can hold after the preprocessing, or None where unknown.
        source: the specification that it was loaded from.
        tokenizer: the transformers tokenizer of a text model.
        processor: the transformers image or feature processor, where there is one.
    """

    module: nn.Module
    class_names: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    input_range: tuple[float, float] | None = None
    source: str = ""
    tokenizer: Any = None
    processor: Any = None
