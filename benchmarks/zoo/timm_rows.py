"""One variant of every timm module, as the table timm.csv lists them (made by choose_timm.py)."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from benchmarks.zoo.registry import Row

TABLE = Path(__file__).with_name("timm.csv")
KINDS = {
    "vision_transformer": "vision transformer",
    "swin_transformer": "window transformer",
    "mlp_mixer": "mixer",
    "efficientnet": "gated convolutional",
    "maxxvit": "hybrid",
}
# modules whose smallest variant ends in pooled features: a class head is put on them
HEADLESS = ("deepseek_vit", "eva", "gemma4_vit", "hieradet_sam2", "qwen3_vit", "vitamin")
SETTINGS: dict[str, dict[str, Any]] = {module: {"num_classes": 10} for module in HEADLESS}
SETTINGS["deepseek_vit"] |= {"depth": 4}  # of 24 equal blocks: 412 M parameters in float64 take a minute a forward
SETTINGS["coat"] = {"global_pool": "avg"}  # its class token keeps its product with everything: zeroed, it is zero


def _make(line: dict[str, str]) -> tuple[nn.Module, Tensor]:
    size = int(line["size"])
    settings = dict(SETTINGS.get(line["module"], {}))
    if line["size_argument"]:
        settings[line["size_argument"]] = size
    return timm.create_model(line["variant"], pretrained=False, **settings), torch.randn(1, 3, size, size)


def rows() -> list[Row]:
    """The rows of the set "timm"."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    return [
        Row(
            name=line["variant"],
            set="timm",
            family=line["module"],
            kind=KINDS.get(line["module"], "picture classifier"),
            make=partial(_make, line),
        )
        for line in table
    ]
