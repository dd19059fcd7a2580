"""The rules and composites as rows of text, read from the code: for the command line and the reference."""

from __future__ import annotations

import inspect
from collections.abc import Callable


def summary(thing: object) -> str:
    """The first paragraph of its docstring on one line, without the marks of the documentation's language."""
    paragraph = (inspect.getdoc(thing) or "").split("\n\n")[0]
    return " ".join(paragraph.split()).replace("``", "")


def rule_rows() -> list[tuple[str, str, str]]:
    """(name, parameters with defaults, what it does) of every public rule."""
    from pellucid import rules

    found = ((name, getattr(rules, name)) for name in sorted(rules.__all__))
    return [
        (name, _parameters(rule), summary(rule)) for name, rule in found if name[0].isupper() and name != "LinearRule"
    ]


def composite_tables() -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(name, what it is for, its rows of (selection, rule)) of every composite, the default first."""
    from pellucid import composites

    named = sorted(composites.COMPOSITES.items(), key=lambda item: (item[0] != "auto", item[0]))
    return [(name, summary(make), list(make().table())) for name, make in named]


def _parameters(rule: Callable[..., object]) -> str:
    parts = []
    for parameter in inspect.signature(rule).parameters.values():
        default = "" if parameter.default is inspect.Parameter.empty else f"={parameter.default!r}"
        parts.append(f"{parameter.name}{default}")
    return ", ".join(parts)
