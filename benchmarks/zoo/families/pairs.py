"""Encoder-decoder pairs over text, explained by the top word at the last position; both inputs get relevance."""

from __future__ import annotations

from benchmarks.zoo.families.family import BART, T5, pair

PAIRS = (
    pair("t5", "T5", T5),
    pair("t5 gated", "T5", T5, feed_forward_proj="gated-gelu"),
    pair("mt5", "MT5", T5),
    pair("umt5", "UMT5", T5),
    pair("longt5", "LongT5", T5, local_radius=3),
    pair("bart", "Bart", BART),
    pair("mbart", "MBart", BART),
    pair("pegasus", "Pegasus", BART),
    pair("marian", "Marian", BART, suffix="MTModel"),
    pair("blenderbot", "Blenderbot", BART),
    pair("m2m_100", "M2M100", BART),
    pair(
        "led",
        "LED",
        BART,
        attention_window=4,
        max_encoder_position_embeddings=64,
        max_decoder_position_embeddings=64,
        inputs="ids+ids:16",
    ),
    pair(
        "prophetnet",
        "ProphetNet",
        {
            "vocab_size": 64,
            "hidden_size": 32,
            "encoder_ffn_dim": 64,
            "num_encoder_layers": 2,
            "num_encoder_attention_heads": 4,
            "decoder_ffn_dim": 64,
            "num_decoder_layers": 2,
            "num_decoder_attention_heads": 4,
            "max_position_embeddings": 64,
            "pad_token_id": 0,
            "decoder_start_token_id": 1,
            "ngram": 2,
            "num_buckets": 8,
            "relative_max_distance": 16,
        },
    ),
)
