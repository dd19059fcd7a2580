"""``pellucid convert``: a model of any kind as a ``.pt2`` file, or as safetensors with readable code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.cli import options
from pellucid.cli.printing import console, print_json
from pellucid.errors import InputError


def convert(
    model: options.Model,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="NAME.pt2 (torch.export), or NAME.safetensors (weights, with NAME.py beside that builds the model).",
            show_default=False,
        ),
    ],
    input: Annotated[
        str | None,
        typer.Argument(
            metavar="[INPUT]",
            help="A file as explain takes it, to see what the model is called with. Models of images need none.",
            show_default=False,
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="The input's shape in place of INPUT: 1,3,224,224.", show_default=False),
    ] = None,
    preprocess: options.Preprocess = None,
    trust: options.Trust = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Write MODEL to files that need neither Pellucid nor the framework it comes from; they are checked first."""
    import pellucid
    from pellucid.cli.samples import load_model, samples

    loaded = load_model(model, labels=None, preprocess=preprocess, trust=trust)
    x: Any = None
    if shape is not None:
        if input is not None:
            raise InputError("give INPUT or --shape, not both.")
        x = _example(shape)
    elif input is not None:
        x = samples(input, preprocessing=loaded.preprocessing)[0].read().x
    written = pellucid.convert(loaded, out, x, force=force)
    if as_json:
        print_json({"model": model, "files": [str(path) for path in written]})
    else:
        for path in written:
            console().print(f"{path}  {path.stat().st_size:,} bytes", soft_wrap=True, highlight=False)


def _example(shape: str) -> Any:
    import torch

    sizes = [part.strip() for part in shape.split(",")]
    if not all(part.isascii() and part.isdigit() and 0 < int(part) < 2**31 for part in sizes):
        raise InputError(f"--shape expects whole numbers such as 1,3,224,224, and got {shape!r}.")
    return torch.randn([int(part) for part in sizes], generator=torch.Generator().manual_seed(0))
