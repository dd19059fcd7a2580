"""Decoders of text, explained by the top word at the last position."""

from __future__ import annotations

from benchmarks.zoo.families.family import GROUPED, Family, decoder, plain

DECODERS = (
    plain("gpt2", "GPT2", suffix="LMHeadModel", vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    plain(
        "openai-gpt", "OpenAIGPT", suffix="LMHeadModel", vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64
    ),
    plain(
        "gpt_neo",
        "GPTNeo",
        vocab_size=64,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        max_position_embeddings=64,
        attention_types=[[["global", "local"], 1]],
        window_size=4,
    ),
    decoder("gpt_neox", "GPTNeoX"),
    plain("gptj", "GPTJ", vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64, rotary_dim=4),
    plain("gpt_bigcode", "GPTBigCode", vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    plain("codegen", "CodeGen", vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64, rotary_dim=4),
    plain("ctrl", "CTRL", suffix="LMHeadModel", vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64, dff=64),
    decoder("opt", "OPT", ffn_dim=64, word_embed_proj_dim=32),
    plain("bloom", "Bloom", vocab_size=64, hidden_size=32, n_layer=2, n_head=4),
    plain("mpt", "Mpt", vocab_size=64, d_model=32, n_layers=2, n_heads=4, max_seq_len=64),
    decoder("falcon", "Falcon", new_decoder_architecture=False, multi_query=True, parallel_attn=True),
    Family(
        "xglm",
        "decoder",
        "XGLMForCausalLM",
        "XGLMConfig",
        dtypes=("float32",),
        settings={
            "vocab_size": 64,
            "d_model": 32,
            "num_layers": 2,
            "attention_heads": 4,
            "ffn_dim": 64,
            "max_position_embeddings": 64,
        },
    ),
    decoder("biogpt", "BioGpt"),
    decoder("llama", "Llama"),
    decoder("mistral", "Mistral", sliding_window=8),
    decoder("qwen2", "Qwen2"),
    decoder("qwen3", "Qwen3", head_dim=8),
    decoder("gemma", "Gemma", head_dim=8),
    decoder("gemma2", "Gemma2", head_dim=8, query_pre_attn_scalar=8, sliding_window=8),
    Family(
        "gemma3",
        "decoder",
        "Gemma3ForCausalLM",
        "Gemma3TextConfig",
        settings=GROUPED | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8},
    ),
    decoder("phi", "Phi"),
    decoder("phi3", "Phi3"),
    decoder("stablelm", "StableLm"),
    decoder("starcoder2", "Starcoder2"),
    decoder("olmo", "Olmo"),
    decoder("olmo2", "Olmo2"),
    decoder("cohere", "Cohere", logit_scale=1.0),
    decoder("granite", "Granite", embedding_multiplier=2.0, residual_multiplier=0.5, attention_multiplier=0.3),
    decoder("glm", "Glm", head_dim=8),
    decoder("nemotron", "Nemotron"),
    decoder("persimmon", "Persimmon"),
    decoder("smollm3", "SmolLM3"),
    decoder("helium", "Helium", head_dim=8),
)
