"""Families of transformers: tiny configurations with random weights, each with the head that its users explain."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from benchmarks.zoo.families import FAMILIES, Family
from benchmarks.zoo.registry import Inputs, Row

WORDS, LENGTH = 64, 12


class Pooled(nn.Module):
    """A base model up to its pooled state: the pooler's, else the mean of the last hidden state over positions.

    Shape: whatever the model takes -> (batch, features).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Tensor) -> Tensor:
        output = self.model(**inputs)
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)
        return output.last_hidden_state.flatten(2).mean(2 if output.last_hidden_state.dim() == 4 else 1)


class Field(nn.Module):
    """A model up to one tensor of its output. Shape: whatever the model takes -> that tensor's."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, **inputs: Tensor) -> Tensor:
        return getattr(self.model(**inputs), self.name)


def _ids(length: int = LENGTH) -> Tensor:
    return torch.randint(4, WORDS, (1, length))


def _pixels(size: int) -> Tensor:
    return torch.randn(1, 3, size, size)


def _inputs(kind: str) -> Inputs:
    """Inputs of one sample: the kind is a word, with a size after a colon where it takes one."""
    word, _, size = kind.partition(":")
    number = int(size or 0)
    if word == "ids":
        return {"input_ids": _ids(number or LENGTH)}
    if word == "ids+ids":
        return {"input_ids": _ids(number or LENGTH), "decoder_input_ids": _ids(6)}
    if word == "ids+mask":
        mask = torch.ones(1, LENGTH, dtype=torch.long)
        mask[:, -3:] = 0
        return {"input_ids": _ids(), "attention_mask": mask}
    if word == "ids+boxes":
        low, high = torch.randint(0, 30, (1, LENGTH, 2)), torch.randint(31, 60, (1, LENGTH, 2))
        return {"input_ids": _ids(), "bbox": torch.cat([low, high], -1)}
    if word == "pixels":
        return {"pixel_values": _pixels(number or 32)}
    if word == "gray":
        return {"pixel_values": torch.randn(1, 1, number, number)}
    if word == "video":
        return {"pixel_values": torch.randn(1, 4, 3, number, number)}
    if word == "ids+pixels":
        return {"input_ids": _ids(), "pixel_values": _pixels(number)}
    if word == "ids+visual":
        return {"input_ids": _ids(), "visual_embeds": torch.randn(1, 4, number)}
    if word == "lxmert":
        return {"input_ids": _ids(), "visual_feats": torch.randn(1, 4, 16), "visual_pos": torch.rand(1, 4, 4)}
    if word == "states":
        return {
            "states": torch.randn(1, 4, 5), "actions": torch.randn(1, 4, 3), "rewards": torch.randn(1, 4, 1),
            "returns_to_go": torch.randn(1, 4, 1), "timesteps": torch.arange(4)[None],
            "attention_mask": torch.ones(1, 4, dtype=torch.long),
        }  # fmt: skip
    if word == "wave":
        return {"input_values": torch.randn(1, number)}
    if word == "frames":
        return {"input_values": torch.randn(1, number, 16)}
    if word == "spectrogram":
        return {"input_features": torch.randn(1, number, 16)}
    if word == "spectrogram+ids":
        return {"input_features": torch.randn(1, 16, number), "decoder_input_ids": _ids(6)}
    if word == "frames+ids":
        return {"input_features": torch.randn(1, number, 16), "decoder_input_ids": _ids(6)}
    if word == "series":
        return {"past_values": torch.randn(1, number, 3)}
    raise ValueError(f"no inputs of kind {kind!r}")


def _make(family: Family) -> tuple[nn.Module, Inputs]:
    configuration: Any = getattr(transformers, family.configuration)(**_nested(family.settings))
    model: Any = getattr(transformers, family.model)(configuration)
    if not family.grouped and hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")  # the grouped product of experts has no float64 on a processor
    if family.output == "pooled":
        model = Pooled(model)
    elif family.output != "logits":
        model = Field(model, family.output)
    return model, _inputs(family.inputs)


def _nested(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings whose "backbone_config" names its class: that configuration is built first."""
    made = dict(settings)
    if "backbone_config" in made:
        name, inner = made["backbone_config"]
        made["backbone_config"] = getattr(transformers, name)(**inner)
    return made


def rows() -> list[Row]:
    """The rows of the set "transformers"."""
    return [
        Row(
            name=family.name, set="transformers", family=family.kind, kind=f"transformers {family.kind}",
            make=partial(_make, family), scalar=family.scalar,
            dtypes=family.dtypes,
        )
        for family in FAMILIES
    ]  # fmt: skip
