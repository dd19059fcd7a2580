"""Tiny transformers of random weights, float64, eval mode, with every parameter (biases, norms) drawn."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def _drawn(model: nn.Module, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.copy_(1 + 0.2 * noise)
            elif parameter.dim() > 1 and "embed" not in name:
                parameter.copy_(1.5 * noise / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.3 * noise if parameter.dim() == 1 else noise)
    return model


def vit(implementation: str, *, seed: int = 0) -> Any:
    """ViT on 8 x 8 images, 5 classes."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=8,
        patch_size=4,
        num_labels=5,
    )
    config._attn_implementation = implementation
    return _drawn(ViTForImageClassification(config), seed)


def bert(implementation: str, *, seed: int = 0) -> Any:
    """BERT with a sequence classifier, 40 words, 3 classes."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=12,
        num_labels=3,
    )
    config._attn_implementation = implementation
    return _drawn(BertForSequenceClassification(config), seed)


def llama(implementation: str, *, seed: int = 0) -> Any:
    """Llama with grouped keys and values, 40 words."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=24,
        max_position_embeddings=16,
        use_cache=False,
    )
    config._attn_implementation = implementation
    return _drawn(LlamaForCausalLM(config), seed)
