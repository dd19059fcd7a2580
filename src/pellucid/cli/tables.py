"""``pellucid methods``, ``rules`` and ``composites``: what there is, as tables made from the code itself."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from pellucid.cli import options
from pellucid.cli.printing import console, print_json, printable, table

if TYPE_CHECKING:
    from pellucid.cli.catalogue import MethodRow

WIDE = 120
"""Columns of a terminal from which every property of a method has its own."""


def methods(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this one, with its settings.", show_default=False)
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """List the methods: what they cost and need, when to use them, and their papers."""
    from pellucid.cli.catalogue import method_rows

    rows = method_rows()
    if name is not None:
        import pellucid

        wanted = pellucid.methods.method_named(name).name
        rows = [row for row in rows if row.name == wanted]
    if as_json:
        print_json({"methods": [row.to_dict() for row in rows]})
    elif name is not None:
        _print_method(rows[0])
    else:
        _print_methods(rows)


def _print_method(row: MethodRow) -> None:
    out = console()
    out.print(Text(printable(row.name), style="bold"), Text(f"({printable(row.paper)})", style="dim"))
    _print_facts(out, (("family", row.family), ("when", row.advice), ("cost", row.cost), ("needs", row.needs)))
    if row.settings:
        out.print(table("Settings, for --set", ("setting", "default", "values", "meaning"), row.settings))
    out.print(row.citation, soft_wrap=True)


def _print_methods(rows: list[MethodRow]) -> None:
    out = console()
    if out.width >= WIDE:
        columns = ("method", "family", "cost", "needs", "when to use it", "paper")
        cells = [(row.name, row.family, row.cost, row.needs, row.advice, row.paper) for row in rows]
        shares = {"cost": 3, "needs": 3, "when to use it": 5, "paper": 3}
        out.print(table("Methods", columns, cells, whole=("method", "family"), shares=shares))
        return
    for family, members in groupby(rows, key=lambda row: row.family):
        out.print(Text(family, style="bold"))
        for row in members:
            out.print(Text(f"  {printable(row.name)}", style="bold"), Text(f"({printable(row.paper)})", style="dim"))
            _print_facts(out, (("when", row.advice), ("cost", row.cost), ("needs", row.needs)))


def _print_facts(out: Console, facts: Sequence[tuple[str, str]]) -> None:
    """Each on lines of its own, set in."""
    for word, text in facts:
        lines = textwrap.wrap(
            f"{word}: {printable(text)}", out.width, initial_indent=" " * 4, subsequent_indent=" " * 6
        )
        out.print("\n".join(lines), soft_wrap=True)


def rules(as_json: options.AsJson = False) -> None:
    """List the rules: for which operations, their parameters with defaults, their formulas and papers."""
    from pellucid.cli.catalogue import rule_rows

    rows = rule_rows()
    if as_json:
        print_json({"rules": [asdict(row) for row in rows]})
        return
    columns = ("rule", "for", "parameters", "what it does")
    cells = [(row.name, row.where, row.parameters, row.summary) for row in rows]
    console().print(table("Rules", columns, cells, whole=("rule",), shares={"what it does": 3, "for": 2}))


def composites(as_json: options.AsJson = False) -> None:
    """List the composites: which rule each gives to which layers."""
    from pellucid.cli.catalogue import composite_tables

    tables = composite_tables()
    if as_json:
        print_json(
            {
                "composites": [
                    {
                        "name": name,
                        "summary": summary,
                        "rows": [{"selection": where, "rule": rule} for where, rule in rows],
                    }
                    for name, summary, rows in tables
                ]
            }
        )
        return
    out = console()
    for name, summary, rows in tables:
        out.print(table(name, ("selection", "rule"), rows))
        out.print(summary, style="dim")
        out.print()
