"""A sentence encoder as one module: the transformer, its pooling, and the length set to 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.errors import FileError, ModelError
from pellucid.models.files import read_text

POOLING = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
    "pooling_mode_max_tokens": "max",
}


class SentenceEncoder(nn.Module):
    """Token ids in, one embedding a sentence out, as the sentence-transformers library composes it.

    Args:
        transformer: gives ``last_hidden_state`` (N, L, D).
        pooling: ``mean`` over the tokens of the mask, ``first`` token, or ``max`` over them.
        normalize: whether the embedding is divided by its length.
    """

    def __init__(self, transformer: nn.Module, *, pooling: str, normalize: bool) -> None:
        super().__init__()
        self.transformer = transformer
        self.pooling = pooling
        self.normalize = normalize

    @property
    def config(self) -> Any:
        """The transformer's configuration."""
        return self.transformer.config

    def forward(self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **inputs: Any) -> Tensor:
        """Return embeddings (N, D) for token ids (N, L), or for ``inputs_embeds`` (N, L, D)."""
        hidden = self.transformer(input_ids=input_ids, attention_mask=attention_mask, **inputs).last_hidden_state
        mask = torch.ones(hidden.shape[:2], device=hidden.device) if attention_mask is None else attention_mask
        mask = mask.unsqueeze(-1).to(hidden.dtype)
        if self.pooling == "first":
            pooled = hidden[:, 0]
        elif self.pooling == "max":
            pooled = hidden.masked_fill(mask == 0, -torch.inf).amax(1)
        else:
            pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return nn.functional.normalize(pooled, dim=-1) if self.normalize else pooled


def as_sentence_encoder(module: nn.Module, folder: Path) -> nn.Module:
    """Return ``module`` with the pooling that ``modules.json`` in ``folder`` describes, or as it is without that file.

    Raises:
        FileError: the description is broken.
        ModelError: it holds a step besides pooling and normalising.
    """
    if not (folder / "modules.json").is_file():
        return module
    steps = _read(folder / "modules.json", list)
    kinds = [str(step.get("type", "")).rpartition(".")[2] if isinstance(step, dict) else "" for step in steps]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ModelError(
            f"{folder}: its modules.json composes {' -> '.join(kinds)}; only Transformer -> Pooling [-> Normalize] is "
            "known here. Build it in a function of your own and load that: python:package.module:factory."
        )
    settings = _read(folder / str(steps[1].get("path", "")) / "config.json", dict)
    chosen = [name for key, name in POOLING.items() if settings.get(key) is True]
    others = [key for key, value in settings.items() if key.startswith("pooling_mode_") and value is True]
    if len(chosen) != 1 or len(others) != 1:
        raise ModelError(f"{folder}: its pooling {others} is not known here; one of {', '.join(POOLING)} is.")
    return SentenceEncoder(module, pooling=chosen[0], normalize="Normalize" in kinds).eval()


def _read(path: Path, kind: type) -> Any:
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path} must be JSON, but is not: {error}.") from error
    if not isinstance(content, kind):
        raise FileError(f"{path} must hold a JSON {kind.__name__}, but holds a {type(content).__name__}.")
    return content
