"""Writes the pages of the reference that are read from the code: the command line, methods, rules, composites.

``python docs/generate.py`` writes them; ``tests/project/test_docs.py`` fails when a page differs from what this makes.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import typer

from pellucid.cli import app, catalogue

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Made by docs/generate.py; do not edit. -->\n\n"


def command_line() -> str:
    """Every command with its arguments and options."""
    root: Any = typer.main.get_command(app)
    parts = [
        NOTE + "# Command line\n\n",
        "Exit codes: 0 done, 1 failure, 2 bad use or input (one line on stderr), 130 interrupted with Ctrl-C.\n\n",
        "`pellucid --install-completion` sets up completion for your shell.\n\n",
        "    pellucid [--version] COMMAND ...\n",
    ]
    for name, command in root.commands.items():
        arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
        options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
        words = " ".join(["pellucid", name, *(str(argument.metavar) for argument in arguments), "[OPTIONS]"])
        parts.append(f"\n## pellucid {name}\n\n{_paragraphs(command.help)}\n\n    {words}\n")
        if arguments:
            rows = [(f"`{argument.metavar}`", argument.help) for argument in arguments]
            parts.append("\n" + _table(("argument", "meaning"), rows))
        shown = [option for option in options if option.name != "help"]
        rows = [(f"`{', '.join(option.opts)}`", option.help, _default(option)) for option in shown]
        parts.append("\n" + _table(("option", "meaning", "default"), rows))
    return "".join(parts)


def methods() -> str:
    """Every method by family: what it costs and needs, when to use it, its settings and papers."""
    rows = catalogue.method_rows()
    parts = [
        NOTE + "# Methods\n\n",
        "What `pellucid methods` prints. Every one is a class in `pellucid.methods` whose fields are its settings:\n"
        '`method="rise"` takes the defaults, `method=pellucid.methods.RISE(samples=500)` or\n'
        "`--method rise --set samples=500` others. Costs are of one sample.\n",
    ]
    for family, members in groupby(rows, key=lambda row: row.family):
        here = list(members)
        parts.append(f"\n## {family.capitalize()}\n\n")
        cells = [(f"[`{row.name}`](#{_anchor(row.name)})", row.advice, row.cost) for row in here]
        parts.append(_table(("method", "when to use it", "cost"), cells))
        for row in here:
            parts.append(f"\n### {row.name} {{ #{_anchor(row.name)} }}\n\n{row.summary}\n\nNeeds: {row.needs}.\n")
            if row.settings:
                settings = [(f"`{name}`", f"`{default}`", kind, text) for name, default, kind, text in row.settings]
                parts.append("\n" + _table(("setting", "default", "values", "meaning"), settings))
            parts.append("".join(f"\n{who}: *{title}*.\n" for who, title in row.papers))
    return "".join(parts)


def _anchor(name: str) -> str:
    """grad-cam++ as grad-cam-plus-plus: an anchor of its own, whatever a Markdown reader makes of the signs."""
    return name.replace("+", "-plus")


def rules() -> str:
    """Every rule with its parameters."""
    rows = [
        (f"`{row.name}`", row.where, f"`{row.parameters}`" if row.parameters else "", row.summary)
        for row in catalogue.rule_rows()
    ]
    intro = (
        "What `pellucid rules` prints. A rule says how relevance crosses one operation. Those in capitals are in\n"
        "`pellucid.rules`, to be put into [composites](../how-to/composites.md); the others are what an operation has\n"
        "unless a composite says otherwise, and at the end what the composites that are gradients put in their place.\n"
        "Written with relevance R, density G (R = value times G), signal a or x, weight w, output z.\n"
        "DeepLIFT has rules of its own, for multipliers over two runs: `pellucid.rules.difference`.\n\n"
    )
    return NOTE + "# Rules\n\n" + intro + _table(("rule", "for", "parameters", "what it does"), rows)


def composites() -> str:
    """Every composite with its rows."""
    intro = (
        "What `pellucid composites` prints. A composite is an ordered table of (selection, rule): the first\n"
        "selection that fits an operation gives its rule.\n"
    )
    parts = [NOTE + "# Composites\n\n" + intro]
    for name, summary, rows in catalogue.composite_tables():
        cells = [(f"`{where}`" if where else "", f"`{rule}`") for where, rule in rows]
        parts.append(f"\n## {name}\n\n{summary}\n\n" + _table(("selection", "rule"), cells))
    return "".join(parts)


def _paragraphs(text: str | None) -> str:
    return "\n\n".join(" ".join(part.split()) for part in (text or "").split("\n\n"))


def _default(option: Any) -> str:
    if isinstance(option.show_default, str):
        return option.show_default
    if not option.show_default or option.default in (None, False):
        return ""
    return f"`{option.default}`"


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; a bar in a cell would end it."""
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": command_line,
    "methods.md": methods,
    "rules.md": rules,
    "composites.md": composites,
}


def main() -> None:
    """Write every page."""
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
