"""The options that several commands share, and the parsers of those that are more than a word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pellucid.errors import InputError

if TYPE_CHECKING:
    import torch

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="demo, torchvision:NAME, timm:NAME (also with ?weights=FILE), hf:FOLDER, python:package.module:factory.",
        show_default=False,
    ),
]
Input = Annotated[
    str,
    typer.Argument(
        metavar="INPUT",
        help="An image, a folder of images, a csv, parquet, npy or npz file, or demo (a photo of a cat).",
        show_default=False,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        help="What to explain: a class (285, tabby), a margin (a~b), a class against the rest (a~rest), layer:unit, "
        "or a sum (0.5*a - b). Left out: the top class against the rest.",
        show_default=False,
    ),
]
CompositeName = Annotated[
    str | None, typer.Option(help="A rule-set by name: see pellucid composites.", show_default="auto")
]
Labels = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Class names, one a line, or a JSON list.", show_default=False)
]
Preprocess = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="How images become tensors: JSON with resize, crop, mean, std.", show_default=False
    ),
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Read model files that can run code when read. Only for files that you trust.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, nothing else.")]

_UNITS = {"": 1} | {
    letter + mark: base**power
    for mark, base in (("", 1000), ("i", 1024))
    for power, letter in enumerate("kmgt", start=1)
}


def parse_memory(text: str | None) -> int | None:
    """``"2GiB"`` as bytes; None stays None.

    Raises:
        InputError: not a positive number with a unit of bytes.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", text.lower())
    size = int(float(match[1]) * _UNITS[match[2]]) if match and match[2] in _UNITS else 0
    if size < 1:
        raise InputError(f"--memory expects a size such as 500MB or 2GiB, and got {text!r}.")
    return size


def parse_keep(specs: Sequence[str]) -> dict[str, list[int]] | None:
    """``["layer3=1,2,5"]`` as ``{"layer3": [1, 2, 5]}``; no spec at all as None.

    Raises:
        InputError: a spec is not ``LAYER=UNIT,UNIT,...``.
    """
    kept: dict[str, list[int]] = {}
    for spec in specs:
        layer, _, units = spec.rpartition("=")
        if not layer or not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", units):
            raise InputError(f"--keep expects LAYER=UNIT,UNIT,... such as layer3=1,2,5, and got {spec!r}.")
        kept.setdefault(layer, []).extend(int(unit) for unit in units.split(","))
    return kept or None


def parse_dtype(name: str | None) -> torch.dtype | None:
    """``"float64"`` as the torch dtype; None stays None.

    Raises:
        InputError: torch has no floating dtype of that name.
    """
    if name is None:
        return None
    import torch

    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise InputError(f"--dtype expects a floating dtype such as float32, float64 or bfloat16, and got {name!r}.")
    return dtype
