"""``pellucid check``: what a model does and which rule each operation would get, before anything is explained."""

from __future__ import annotations

import typer

from pellucid.cli import options
from pellucid.cli.printing import complain, console, print_json


def check(
    model: options.Model,
    input: options.Input,
    target: options.Target = None,
    composite: options.CompositeName = None,
    layer: options.Layer = None,
    inputs: options.Inputs = None,
    labels: options.Labels = None,
    preprocess: options.Preprocess = None,
    trust: options.Trust = False,
    dtype: options.DType = None,
    device: options.Device = None,
    memory: options.Memory = None,
    as_json: options.AsJson = False,
) -> None:
    """Show the operations of MODEL on INPUT, the rule for each, sources, and what would stop an explanation.

    Ends with 1 if an operation is unknown. Of a folder the first image is used.
    """
    import pellucid
    from pellucid.cli.samples import load_model, samples

    loaded = load_model(model, labels=labels, preprocess=preprocess, trust=trust)
    x = samples(input, preprocessing=loaded.preprocessing)[0].read().x
    result = pellucid.check(
        loaded,
        x,
        target=target,
        composite=composite,
        layer=layer or None,
        inputs=inputs or None,
        dtype=dtype,
        device=device,
        memory=memory,
    )
    if as_json:
        print_json(result.to_dict())
    else:
        console().print(str(result), soft_wrap=True)
    if result.unknown:
        complain("at least one operation has no rule, so this model cannot be explained as it is: see 'unknown' above.")
        raise typer.Exit(1)
