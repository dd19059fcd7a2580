"""``pellucid rules`` and ``pellucid composites``: what there is, as tables made from the code itself."""

from __future__ import annotations

from pellucid.cli import options
from pellucid.cli.printing import console, print_json, table


def rules(as_json: options.AsJson = False) -> None:
    """List the rules, their parameters with defaults, and what each does."""
    from pellucid.cli.catalogue import rule_rows

    rows = rule_rows()
    if as_json:
        print_json({"rules": [{"name": name, "parameters": given, "summary": text} for name, given, text in rows]})
        return
    console().print(table("Rules", ("rule", "parameters", "what it does"), rows))


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
