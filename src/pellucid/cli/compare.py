"""``pellucid compare``: several methods on one question, side by side, with their agreement and costs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pellucid.cli import options
from pellucid.cli.printing import complain, console, print_json, printable, table
from pellucid.errors import InputError, Interrupted

if TYPE_CHECKING:
    from pellucid.comparison import Comparison
    from pellucid.data import Batch
    from pellucid.methods import Method
    from pellucid.models import LoadedModel

MOST_PICTURES = 12
ALL = "all"


def compare(
    model: options.Model,
    input: options.Input,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="A method to compare: see pellucid methods. May be given several times.", show_default="all that fit"
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="METHOD.NAME=VALUE",
            help="A setting of one of the methods: rise.samples=500. May be given several times.",
            show_default=False,
        ),
    ] = None,
    target: options.Target = None,
    layer: options.Layer = None,
    inputs: options.Inputs = None,
    labels: options.Labels = None,
    preprocess: options.Preprocess = None,
    trust: options.Trust = False,
    dtype: options.DType = None,
    device: options.Device = None,
    memory: options.Memory = None,
    seed: options.Seed = 0,
    output: options.Output = Path("out"),
    cmap: options.ColourMap = None,
    as_json: options.AsJson = False,
) -> None:
    """Compare methods on what MODEL says about INPUT: maps on one scale, how far they agree, what each costs.

    A folder of images is one batch. Methods that do not fit are listed with the reason. Ctrl-C keeps the methods that
    are done, in files whose names end in "partial".
    """
    import pellucid
    from pellucid.cli.files import Folder
    from pellucid.cli.progress import Bar
    from pellucid.cli.samples import load_model

    folder = Folder(output)
    asked: Any = _methods(method or [], set_ or [])
    choices: dict[str, Any] = {"target": target, "layer": layer or None, "inputs": inputs or None}
    choices |= {"dtype": dtype, "device": device, "memory": memory, "seed": seed}
    loaded = load_model(model, labels=labels, preprocess=preprocess, trust=trust)
    batch = pellucid.read_input(input, preprocessing=loaded.preprocessing)
    complete = True
    try:
        with Bar(1) as bar:
            comparison: Comparison = pellucid.compare(loaded, batch.x, methods=asked, progress=bar.report, **choices)
    except Interrupted as stop:
        comparison, complete = stop.partial, False
    stem = "-".join([Path(input).stem or "input", "comparison", *["partial"] * (not complete)])
    look = {} if cmap is None else {"cmap": cmap}
    files = _write(folder, stem, loaded, batch, comparison, look)
    if as_json:
        print_json({**comparison.to_dict(), "files": [str(path) for path in files]})
    else:
        _print(comparison, files)
    if not complete:
        complain(f"{len(comparison)} methods are done and kept in {output}", kind="interrupted")
        raise typer.Exit(130)


def _methods(names: Sequence[str], words: Sequence[str]) -> list[Method] | str:
    """The methods with their settings; "all" where none is named.

    Raises:
        InputError: a setting is of no method that is compared.
    """
    import pellucid
    from pellucid.cli.settings import method_with

    if not names and not words:
        return ALL
    every = list(pellucid.methods.methods())
    wanted = [pellucid.methods.method_named(name).name for name in names] or every
    given: dict[str, list[str]] = {}
    for word in words:
        name, dot, setting = word.partition(".")
        if not dot or name not in wanted or "=" in name:
            raise InputError(
                f"--set expects METHOD.NAME=VALUE with one of the methods compared, such as {wanted[0]}.name=value; "
                f"got {word!r}. They are: {', '.join(wanted)}."
            )
        given.setdefault(name, []).append(setting)
    return [method_with(name, given.get(name, [])) for name in wanted]


def _write(
    folder: Any, stem: str, loaded: LoadedModel, batch: Batch, comparison: Comparison, look: Mapping[str, Any]
) -> list[Path]:
    """A picture of every photo, the page, and the comparison itself."""
    from pellucid.archive import replace_file
    from pellucid.cli.prediction import predict
    from pellucid.cli.samples import position_names
    from pellucid.show.comparison_html import report
    from pellucid.show.side_by_side import picture

    files = []
    name = folder.name(stem)
    shown = [] if batch.displays is None else list(batch.displays[:MOST_PICTURES])
    for place, photo in enumerate(shown):
        own = name if len(shown) == 1 else folder.name(f"{stem}-{Path(batch.names[place]).stem}")
        content = io.BytesIO()
        picture(comparison, photo=photo, sample=place, **look).save(content, format="PNG")
        files.append(folder.path / f"{own}.png")
        replace_file(files[-1], content.getvalue())
    files.append(folder.path / f"{name}.pellucid")
    comparison.save(files[-1])
    guesses = predict(loaded, batch.x)
    page = report(
        comparison,
        folder.path / f"{name}.html",
        names=batch.names,
        images=batch.displays,
        labels=position_names(loaded, batch),
        predictions=[[(guess.name, guess.probability) for guess in row] for row in guesses] or None,
        title=f"Methods on what {loaded.source} says",
        **look,
    )
    return [*files, page]


def _print(comparison: Comparison, files: Sequence[Path]) -> None:
    """Costs, agreement as a matrix where the terminal is wide enough, and what was left out."""
    from pellucid.comparison import correlation_text, seconds_text

    out = console()
    for label, value in zip(comparison.target[:3], comparison.output.tolist(), strict=False):
        out.print(printable(f"Explained scalar: {label} = {value:.6g}"), soft_wrap=True)
    names = list(comparison)
    agreement = comparison.agreement().tolist()
    numbers = [str(number + 1) for number in range(len(names))]
    wide = max(map(len, names)) + 46 + 8 * len(names) <= out.width
    rows = []
    for number, name in enumerate(names):
        cost = comparison.costs[name]
        counts = ["?" if count is None else str(count) for count in (cost.forwards, cost.gradients)]
        line = agreement[number]
        matrix = [correlation_text(value) for value in line] if wide else [_nearest(line, number)]
        rows.append([numbers[number], name, seconds_text(cost.seconds), *counts, *matrix])
    ends = numbers if wide else ["most alike"]
    right = ("", "time", "forwards", "gradients", *numbers)
    columns = ("", "method", "time", "forwards", "gradients", *ends)
    out.print(
        table(
            "Methods, and Spearman's rank correlation of their pooled maps", columns, rows, right=right, whole=columns
        )
    )
    if comparison.left_out:
        out.print(table("Left out", ("method", "why"), list(comparison.left_out.items()), whole=("method",)))
    for warning in comparison.warnings:
        complain(warning, kind="warning")
    for path in files:
        out.print(f"Wrote {path}", soft_wrap=True)


def _nearest(line: Sequence[float], own: int) -> str:
    """The method that agrees most, by its number: "3 (0.96)"."""
    from pellucid.comparison import correlation_text

    others = [(value, place) for place, value in enumerate(line) if place != own and value == value]
    if not others:
        return "-"
    value, place = max(others)
    return f"{place + 1} ({correlation_text(value)})"
