"""``pellucid explain``: from a model and an input to prediction, ledger, pictures, report and saved explanations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pellucid.cli import options
from pellucid.cli.printing import complain, console, print_json
from pellucid.errors import InputError


def explain(
    model: options.Model,
    input: options.Input,
    target: options.Target = None,
    targets: Annotated[
        list[str] | None,
        typer.Option(
            help="Explain this target too, from the same forward. May be given several times.", show_default=False
        ),
    ] = None,
    method: Annotated[str, typer.Option(help="How to explain.")] = "lrp",
    composite: options.CompositeName = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(help="Keep the relevance at this layer too. May be given several times.", show_default=False),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER=UNITS",
            help="Walk only through these units of a layer: layer3=1,2,5. May be given several times.",
            show_default=False,
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            help="Which of several inputs to explain, by name. May be given several times.", show_default=False
        ),
    ] = None,
    labels: options.Labels = None,
    preprocess: options.Preprocess = None,
    trust: options.Trust = False,
    dtype: Annotated[
        str | None, typer.Option(help="Compute in this dtype: float32, float64, bfloat16.", show_default="the model's")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Compute on this device: cpu, cuda, cuda:1.", show_default="the model's")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Use at most this much memory: 2GiB.", show_default="no limit")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of methods that draw random numbers.")] = 0,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the files; made if missing.")] = Path("out"),
    scale: Annotated[
        float | None,
        typer.Option(
            help="Relevance at the ends of the colour scale; give the same to compare pictures.",
            show_default="each picture's own",
        ),
    ] = None,
    cmap: Annotated[
        str | None, typer.Option(help="Colour map for signed data, zero in its middle.", show_default="the library's")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Explain what MODEL says about INPUT: a heatmap, an HTML report and a .pellucid file, with the ledger of each.

    INPUT may be a folder: every image is explained and written as soon as it is done; Ctrl-C keeps what is done.
    """
    from pellucid.cli.job import Job
    from pellucid.cli.samples import load_model

    if target is not None and targets:
        raise InputError("--target names the one scalar to explain, --targets several: give one of the two, not both.")
    if scale is not None and not scale > 0:
        raise InputError(f"--scale expects a number above zero, and got {scale:g}.")
    choices = {
        "method": method,
        "composite": composite,
        "layer": layer or None,
        "keep": options.parse_keep(keep or []),
        "inputs": inputs or None,
        "dtype": dtype,
        "device": device,
        "memory": memory,
        "seed": seed,
    }
    choices["target" if not targets else "targets"] = targets or target
    job = Job(
        output, choices={name: value for name, value in choices.items() if value is not None}, scale=scale, cmap=cmap
    )
    loaded = load_model(model, labels=labels, preprocess=preprocess, trust=trust)
    try:
        complete = job.run(loaded, input, quiet=as_json)
    finally:
        if as_json and job.done:
            print_json(job.to_dict())
    if job.done and not as_json:
        console().print(f"Wrote {job.report}", soft_wrap=True)
    if not complete:
        complain(f"{len(job.done)} of {job.total} inputs are done and kept in {output}", kind="interrupted")
        raise typer.Exit(130)
    if job.failures:
        raise InputError(f"{len(job.failures)} of {job.total} inputs could not be read; the first: {job.failures[0]}")
