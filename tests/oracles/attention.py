"""AttnLRP (Achtibat et al. 2024) and CP-LRP (Ali et al. 2022) through a ViT, a BERT and a Llama written out by hand.

Each forward below computes exactly the model's output from its state dict, but its gradient is the *density* of the
method: gradient times input is the relevance. The papers' rules as gradients:

- softmax: its own gradient (first-order Taylor); CP-LRP: a constant;
- product of two signals, matrix or elementwise: each operand gets half; with a constant softmax the value takes all;
- elementwise f with f(0) = 0: the quotient f(x) / x in place of f';
- layer and RMS norm: the deviation is a constant, centring is linear;
- linear layers: epsilon, z / stab(z) times the gradient (0: the gradient itself).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

State = Mapping[str, Tensor]


def scaled_gradient(y: Tensor, factor: Tensor | float) -> Tensor:
    """The value of `y`, `factor` times its gradient."""
    held = y.detach()
    return held + (y - held) * factor


def quotient(x: Tensor, f: Any) -> Tensor:
    """f(x) for f with f(0) = 0, gradient f(x) / x."""
    held = x.detach()
    factor = torch.where(held == 0, 0.0, f(held) / torch.where(held == 0, 1.0, held))
    return x * factor


@dataclass(frozen=True)
class Rules:
    """Which paper ("attn-lrp" or "cp-lrp") and the epsilon of the linear layers."""

    paper: str
    epsilon: float = 0.0

    def linear(self, x: Tensor, state: State, name: str) -> Tensor:
        z = F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))
        return self._stabilise(z)

    def _stabilise(self, z: Tensor) -> Tensor:
        held = z.detach()
        return scaled_gradient(z, held / torch.where(held >= 0, held + self.epsilon, held - self.epsilon))

    def patches(self, x: Tensor, state: State, name: str) -> Tensor:
        weight = state[f"{name}.weight"]
        z = F.conv2d(x, weight, state[f"{name}.bias"], stride=weight.shape[-1])
        return self._stabilise(z).flatten(2).transpose(1, 2)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """a * b of two signals, half each."""
        return scaled_gradient(a * b, 0.5)

    def attention(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Scaled dot-product attention, (N, heads, L, d); `mask` is added to the scores."""
        scores = scaled_gradient(q @ k.transpose(-1, -2), 0.5) / q.shape[-1] ** 0.5
        weights = torch.softmax(scores if mask is None else scores + mask, -1)
        if self.paper == "cp-lrp":
            return weights.detach() @ v
        return scaled_gradient(weights @ v, 0.5)


def layer_norm(x: Tensor, state: State, name: str, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + eps).sqrt().detach()
    return centred / deviation * state[f"{name}.weight"] + state[f"{name}.bias"]


def rms_norm(x: Tensor, state: State, name: str, eps: float) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt().detach() * state[f"{name}.weight"]


def _heads(x: Tensor, count: int) -> Tensor:
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def _merged(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def vit(model: Any, pixels: Tensor, rules: Rules) -> Tensor:
    """Logits (N, classes) of transformers' ViTForImageClassification."""
    state, config = model.state_dict(), model.config
    x = rules.patches(pixels, state, "vit.embeddings.patch_embeddings.projection")
    x = torch.cat([state["vit.embeddings.cls_token"].expand(len(x), -1, -1), x], 1)
    x = x + state["vit.embeddings.position_embeddings"]
    for i in range(config.num_hidden_layers):
        layer = f"vit.layers.{i}"
        h = layer_norm(x, state, f"{layer}.layernorm_before", config.layer_norm_eps)
        q, k, v = (
            _heads(rules.linear(h, state, f"{layer}.attention.{n}_proj"), config.num_attention_heads) for n in "qkv"
        )
        x = x + rules.linear(_merged(rules.attention(q, k, v, None)), state, f"{layer}.attention.o_proj")
        h = layer_norm(x, state, f"{layer}.layernorm_after", config.layer_norm_eps)
        h = quotient(rules.linear(h, state, f"{layer}.mlp.fc1"), F.gelu)
        x = x + rules.linear(h, state, f"{layer}.mlp.fc2")
    x = layer_norm(x, state, "vit.layernorm", config.layer_norm_eps)
    return rules.linear(x[:, 0], state, "classifier")


def bert(model: Any, words: Tensor, keep: Tensor, rules: Rules) -> Tensor:
    """Logits (N, classes) of transformers' BertForSequenceClassification from word embeddings (N, L, d).

    `keep` (N, L): 1 for tokens, 0 for padding.
    """
    state, config = model.state_dict(), model.config
    length = words.shape[1]
    x = words + state["bert.embeddings.token_type_embeddings.weight"][0]
    x = x + state["bert.embeddings.position_embeddings.weight"][:length]
    x = layer_norm(x, state, "bert.embeddings.LayerNorm", config.layer_norm_eps)
    mask = torch.zeros(keep.shape, dtype=x.dtype).masked_fill(keep == 0, float("-inf"))[:, None, None]
    for i in range(config.num_hidden_layers):
        layer = f"bert.encoder.layer.{i}"
        q, k, v = (
            _heads(rules.linear(x, state, f"{layer}.attention.self.{n}"), config.num_attention_heads)
            for n in ("query", "key", "value")
        )
        h = rules.linear(_merged(rules.attention(q, k, v, mask)), state, f"{layer}.attention.output.dense")
        x = layer_norm(h + x, state, f"{layer}.attention.output.LayerNorm", config.layer_norm_eps)
        h = quotient(rules.linear(x, state, f"{layer}.intermediate.dense"), F.gelu)
        h = rules.linear(h, state, f"{layer}.output.dense")
        x = layer_norm(h + x, state, f"{layer}.output.LayerNorm", config.layer_norm_eps)
    pooled = quotient(rules.linear(x[:, 0], state, "bert.pooler.dense"), torch.tanh)
    return rules.linear(pooled, state, "classifier")


def _rotated(x: Tensor, theta: float) -> Tensor:
    """Rotary position embedding, (N, heads, L, d); pairs are the two halves of d. Linear in x."""
    half = x.shape[-1] // 2
    frequencies = theta ** (-torch.arange(half, dtype=torch.float32) / half)
    angles = torch.outer(torch.arange(x.shape[-2], dtype=torch.float32), frequencies)
    cos, sin = angles.cos().to(x), angles.sin().to(x)
    left, right = x[..., :half], x[..., half:]
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)


def llama(model: Any, words: Tensor, rules: Rules) -> Tensor:
    """Logits (N, L, words) of transformers' LlamaForCausalLM from word embeddings (N, L, d)."""
    state, config = model.state_dict(), model.config
    x = words
    length = x.shape[1]
    mask = torch.full((length, length), float("-inf"), dtype=x.dtype).triu(1)
    theta = config.rope_parameters["rope_theta"]
    groups = config.num_attention_heads // config.num_key_value_heads
    for i in range(config.num_hidden_layers):
        layer = f"model.layers.{i}"
        h = rms_norm(x, state, f"{layer}.input_layernorm", config.rms_norm_eps)
        q = _heads(rules.linear(h, state, f"{layer}.self_attn.q_proj"), config.num_attention_heads)
        k = _heads(rules.linear(h, state, f"{layer}.self_attn.k_proj"), config.num_key_value_heads)
        v = _heads(rules.linear(h, state, f"{layer}.self_attn.v_proj"), config.num_key_value_heads)
        q, k = _rotated(q, theta), _rotated(k, theta)
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        x = x + rules.linear(_merged(rules.attention(q, k, v, mask)), state, f"{layer}.self_attn.o_proj")
        h = rms_norm(x, state, f"{layer}.post_attention_layernorm", config.rms_norm_eps)
        gate = quotient(rules.linear(h, state, f"{layer}.mlp.gate_proj"), F.silu)
        h = rules.product(gate, rules.linear(h, state, f"{layer}.mlp.up_proj"))
        x = x + rules.linear(h, state, f"{layer}.mlp.down_proj")
    x = rms_norm(x, state, "model.norm", config.rms_norm_eps)
    return rules.linear(x, state, "lm_head")


def relevance(source: Tensor, forward: Any) -> tuple[Tensor, Tensor]:
    """Relevance like `source` of the scalars `forward(source)` (N,), and those scalars."""
    leaf = source.detach().clone().requires_grad_()
    scalars = forward(leaf)
    (density,) = torch.autograd.grad(scalars.sum(), leaf)
    return leaf.detach() * density, scalars.detach()
