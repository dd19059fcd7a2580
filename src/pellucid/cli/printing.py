"""What the commands print: one console a stream, tables, one-line complaints, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import typer
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text


def console() -> Console:
    """The console on stdout. Made when needed, because stdout may have been replaced since the import."""
    return Console(highlight=False, markup=False)


def error_console() -> Console:
    """The console on stderr: progress, warnings and complaints."""
    return Console(stderr=True, highlight=False, markup=False)


def complain(message: str, *, kind: str = "error") -> None:
    """Print one line on stderr; what would break the line or command the terminal is made harmless.

    Args:
        message: any text.
        kind: the word in front of it.
    """
    typer.echo(f"pellucid: {kind}: {printable(message)}", err=True)


def printable(text: str) -> str:
    """``text`` on one line and without control characters: a file's or class's name must not steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def print_json(document: Mapping[str, object]) -> None:
    """Print one JSON document on stdout. Numbers that JSON does not know (NaN, infinity) become null."""
    typer.echo(json.dumps(_json_able(document), indent=2, ensure_ascii=False, allow_nan=False))


def _json_able(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _json_able(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_able(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
    shares: Mapping[str, int] | None = None,
) -> Table:
    """A table of plain strings.

    Args:
        title: printed above it.
        columns: headings.
        rows: one sequence of cells each, as many as there are columns.
        right: the columns that hold numbers and are aligned to the right.
        whole: the columns whose cells stay on one line.
        shares: of the width of the terminal, by column; then the table is as wide as the terminal.
    """
    result = Table(
        title=Text(title), title_justify="left", title_style="bold", header_style="bold", expand=shares is not None
    )
    for column in columns:
        justify: JustifyMethod = "right" if column in right else "left"
        result.add_column(
            Text(column), justify=justify, overflow="fold", no_wrap=column in whole, ratio=(shares or {}).get(column)
        )
    for row in rows:
        result.add_row(*(Text(printable(cell)) for cell in row))
    return result
