"""What a family of transformers is, and the settings that make its members tiny."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Family:
    """One family: its name, its kind, the classes, the settings, the inputs, which output, and which scalar of it."""

    name: str
    kind: str
    model: str
    configuration: str
    inputs: str = "ids"
    output: str = "logits"
    scalar: str = "last token"
    settings: dict[str, Any] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ("float64", "float32")
    grouped: bool = False


BASE: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
WIDE = BASE | {"intermediate_size": 64}
TEXT = WIDE | {"vocab_size": 64, "max_position_embeddings": 64}
GROUPED = TEXT | {"num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
BART = {
    "vocab_size": 64,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
T5 = {
    "vocab_size": 64,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
}
IMAGE = WIDE | {"image_size": 32, "patch_size": 8, "num_labels": 10}
CONV_AUDIO = WIDE | {
    "vocab_size": 32,
    "conv_dim": (16, 16, 16),
    "conv_stride": (5, 4, 4),
    "conv_kernel": (10, 4, 4),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "num_feat_extract_layers": 3,
    "num_labels": 5,
    "mask_time_prob": 0.0,
}
STAGES = {"depths": (1, 1, 1, 1), "num_labels": 10}


def encoder(name: str, model: str, inputs: str = "ids", **settings: Any) -> Family:
    return Family(name, "encoder", f"{model}Model", f"{model}Config", inputs, "pooled", "total", TEXT | settings)


def decoder(name: str, model: str, kind: str = "decoder", suffix: str = "ForCausalLM", **settings: Any) -> Family:
    return Family(name, kind, f"{model}{suffix}", f"{model}Config", settings=GROUPED | settings)


def plain(name: str, model: str, kind: str = "decoder", suffix: str = "ForCausalLM", **settings: Any) -> Family:
    return Family(name, kind, f"{model}{suffix}", f"{model}Config", settings=settings)


def pair(
    name: str, model: str, settings: dict[str, Any], suffix: str = "ForConditionalGeneration", **more: Any
) -> Family:
    inputs = more.pop("inputs", "ids+ids")
    kind = more.pop("kind", "encoder-decoder")
    return Family(name, kind, f"{model}{suffix}", f"{model}Config", inputs, settings=settings | more)


def image(name: str, model: str, size: int = 32, **settings: Any) -> Family:
    classes = f"{model}ForImageClassification", f"{model}Config"
    return Family(name, "vision", *classes, f"pixels:{size}", scalar="top logit", settings=settings)


def audio(name: str, model: str, inputs: str = "wave:2000", **settings: Any) -> Family:
    classes = f"{model}ForSequenceClassification", f"{model}Config"
    return Family(name, "audio", *classes, inputs, scalar="top logit", settings=CONV_AUDIO | settings)
