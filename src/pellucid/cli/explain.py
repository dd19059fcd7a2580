"""``pellucid explain``: from a model and an input to prediction, ledger, pictures, report and saved explanations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pellucid.cli import options
from pellucid.cli.printing import complain, console, print_json
from pellucid.errors import InputError

if TYPE_CHECKING:
    from pellucid.cli.job import Job


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
    method: Annotated[str, typer.Option(help="How to explain: see pellucid methods.")] = "lrp",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting of the method: steps=100, baseline=blur. May be given several times; pellucid methods NAME "
            "lists them.",
            show_default=False,
        ),
    ] = None,
    composite: options.CompositeName = None,
    layer: options.Layer = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER=UNITS",
            help="Walk only through these units of a layer: layer3=1,2,5, or attn=heads:0. May be given several times.",
            show_default=False,
        ),
    ] = None,
    inputs: options.Inputs = None,
    labels: options.Labels = None,
    preprocess: options.Preprocess = None,
    trust: options.Trust = False,
    dtype: options.DType = None,
    device: options.Device = None,
    memory: options.Memory = None,
    seed: options.Seed = 0,
    output: options.Output = Path("out"),
    scale: Annotated[
        float | None,
        typer.Option(
            help="Relevance at the ends of the colour scale; give the same to compare pictures.",
            show_default="each picture's own",
        ),
    ] = None,
    cmap: options.ColourMap = None,
    as_json: options.AsJson = False,
) -> None:
    """Explain what MODEL says about INPUT: a heatmap, an HTML report and a .pellucid file, with the ledger of each.

    INPUT may be a folder: every image is explained and written as soon as it is done. Ctrl-C keeps what is done, of a
    long method also the estimate so far, in files whose names end in "partial".
    """
    from pellucid.cli.job import Job
    from pellucid.cli.samples import load_model
    from pellucid.cli.settings import method_with

    if target is not None and targets:
        raise InputError("--target names the one scalar to explain, --targets several: give one of the two, not both.")
    if scale is not None and not scale > 0:
        raise InputError(f"--scale expects a number above zero, and got {scale:g}.")
    choices = {
        "method": method_with(method, set_ or []),
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
        if as_json and (job.done or job.partial):
            print_json(job.to_dict())
    if job.done and not as_json:
        console().print(f"Wrote {job.report}", soft_wrap=True)
    if not complete:
        complain(
            f"{len(job.done)} of {job.total} inputs are done and kept in {output}{_so_far(job)}", kind="interrupted"
        )
        raise typer.Exit(130)
    if job.failures:
        raise InputError(f"{len(job.failures)} of {job.total} inputs could not be read; the first: {job.failures[0]}")


def _so_far(job: Job) -> str:
    if job.partial is None:
        return ""
    return f"; the estimate so far of {job.partial.name} is in {', '.join(path.name for path in job.partial.files)}"
