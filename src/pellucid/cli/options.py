"""The options that several commands share, and the parsers of those that are more than a word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pellucid.errors import InputError

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="demo, torchvision:NAME, timm:NAME (also with ?weights=FILE), hf:FOLDER, python:package.module:factory, "
        "NAME-symbol.json (MXNet), FILE.onnx, FILE.pt2, FILE.pt (TorchScript, with --trust).",
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
Layer = Annotated[
    list[str] | None,
    typer.Option(help="Keep the relevance at this layer too. May be given several times.", show_default=False),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(help="Which of several inputs to explain, by name. May be given several times.", show_default=False),
]
DType = Annotated[
    str | None, typer.Option(help="Compute in this dtype: float32, float64, bfloat16.", show_default="the model's")
]
Device = Annotated[
    str | None, typer.Option(help="Compute on this device: cpu, cuda, cuda:1.", show_default="the model's")
]
Memory = Annotated[str | None, typer.Option(help="Use at most this much memory: 2GiB.", show_default="no limit")]
Seed = Annotated[int, typer.Option(help="Seed of methods that draw random numbers.")]
Output = Annotated[Path, typer.Option(metavar="DIR", help="Folder for the files; made if missing.")]
ColourMap = Annotated[
    str | None, typer.Option(help="Colour map for signed data, zero in its middle.", show_default="the library's")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, nothing else.")]


def parse_keep(specs: Sequence[str]) -> dict[str, list[int] | str] | None:
    """``["layer3=1,2,5"]`` as ``{"layer3": [1, 2, 5]}``, ``["attn=heads:0"]`` as it is; no spec at all as None.

    Raises:
        InputError: a spec is neither, or one layer has both.
    """
    kept: dict[str, list[int] | str] = {}
    for spec in specs:
        layer, _, units = spec.rpartition("=")
        heads = re.fullmatch(r"\s*heads?\s*:(.*)", units)
        numbers = units if heads is None else heads[1]
        before = kept.get(layer)
        alike = before is None or isinstance(before, str) == (heads is not None)
        if not layer or not alike or not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", numbers):
            raise InputError(
                "--keep expects LAYER=UNIT,UNIT,... such as layer3=1,2,5, or LAYER=heads:HEAD,... such as "
                f"blocks.0.attn=heads:0,2, and got {spec!r}."
            )
        if heads is not None:
            kept[layer] = f"heads:{numbers}" if before is None else f"{before},{numbers}"
        else:
            kept[layer] = [*(before or ()), *(int(unit) for unit in numbers.split(","))]
    return kept or None
