"""The methods, rules and composites as rows of text, read from the code: for the command line and the reference."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass


def summary(thing: object) -> str:
    """The first paragraph of its docstring on one line, without the marks of the documentation's language."""
    paragraph = (inspect.getdoc(thing) or "").split("\n\n")[0]
    return " ".join(paragraph.split()).replace("``", "")


@dataclass(frozen=True)
class RuleRow:
    """What there is to say of a rule.

    Args:
        name: of its class or function.
        where: the operations that may have it, or have it by default.
        parameters: with their defaults.
        summary: its formula and paper.
    """

    name: str
    where: str
    parameters: str
    summary: str


def rule_rows() -> list[RuleRow]:
    """Every rule: those to put into composites, then those that operations have by default, then what is left.

    The last are the rules of composites that are gradients.
    """
    from pellucid import composites, rules

    rows: dict[str, RuleRow] = {}

    def add(rule: object, where: Iterable[str], name: str = "", parameters: str = "") -> None:
        name = name or str(getattr(rule, "__name__", None) or type(rule).__name__)
        if name not in rows:
            rows[name] = RuleRow(name, ", ".join(where), parameters, summary(rule))

    for name in sorted(name for name in rules.__all__ if name[0].isupper() and name != "LinearRule"):
        rule = getattr(rules, name)
        add(rule, composites.operations_of(rule()), name, _parameters(rule))
    for default, where in rules.default_rules().items():
        add(default, where)
    for make in composites.COMPOSITES.values():
        composite = make()
        for selection, rule in composite.rows:
            add(rule, [str(selection)])
        if composite.gradient:
            add(composites.native_gradient, ["any operation"])
    return list(rows.values())


def composite_tables() -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(name, what it is for, its rows of (selection, rule)) of every composite, the default first."""
    from pellucid import composites

    named = sorted(composites.COMPOSITES.items(), key=lambda item: (item[0] != "auto", item[0]))
    return [(name, summary(make), list(make().table())) for name, make in named]


_BLOCK = re.MULTILINE | re.DOTALL
_SETTING = ("name", "default", "values", "meaning")


@dataclass(frozen=True)
class MethodRow:
    """What there is to say of a method.

    Args:
        name: as in ``--method``.
        family: "relevance", "gradient", ...
        cost: in words.
        needs: of model and input.
        advice: when to use it.
        summary: what it does.
        papers: "Sundararajan 2017" and its title, one for each.
        settings: of each its name, its default, what it may be and what it means.
        citation: BibTeX.
    """

    name: str
    family: str
    cost: str
    needs: str
    advice: str
    summary: str
    papers: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str, str, str], ...]
    citation: str

    @property
    def paper(self) -> str:
        """The papers in short."""
        return "; ".join(who for who, _ in self.papers)

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        fields = {
            name: getattr(self, name) for name in ("name", "family", "cost", "needs", "advice", "summary", "citation")
        }
        return {
            **fields,
            "papers": [{"paper": who, "title": title} for who, title in self.papers],
            "settings": [dict(zip(_SETTING, setting, strict=True)) for setting in self.settings],
        }


def method_rows() -> list[MethodRow]:
    """Every method, the library's own first, in the order of their families."""
    import pellucid
    from pellucid.cli.settings import setting_types, type_text

    rows = []
    for name in pellucid.methods.methods():
        method = pellucid.methods.method_named(name)
        kinds, meant = setting_types(type(method)), meanings(type(method))
        settings = tuple(
            (item.name, str(getattr(method, item.name)), type_text(kinds[item.name]), meant.get(item.name, ""))
            for item in dataclasses.fields(method)
        )
        about = (method.family, method.cost, method.needs, method.advice, summary(type(method)))
        rows.append(MethodRow(name, *about, papers(method.citation), settings, method.citation))
    families = list(dict.fromkeys(row.family for row in rows))
    return sorted(rows, key=lambda row: families.index(row.family))


def meanings(kind: type) -> dict[str, str]:
    """What each setting means, from the Args of the docstrings of a class and its bases."""
    found: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        text = inspect.cleandoc(part.__dict__.get("__doc__") or "")
        section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
        for name, meaning in re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", section[1] if section else "", _BLOCK):
            found[name] = " ".join(meaning.split()).replace("``", "").removesuffix(".")
    return found


def papers(bibtex: str) -> tuple[tuple[str, str], ...]:
    """("Sundararajan 2017", title) of every entry; the family name of the first author."""
    found = []
    for entry in re.split(r"(?m)^\s*@", bibtex)[1:]:
        authors = _field(entry, "author").split(" and ")[0]
        first = authors.split(",")[0] if "," in authors else authors.split(" ")[-1]
        found.append((f"{first} {_field(entry, 'year')}".strip(), _field(entry, "title")))
    return tuple(dict.fromkeys(found))


def _field(entry: str, name: str) -> str:
    """A field of a BibTeX entry without its braces."""
    begin = re.search(rf"\b{name}\s*=\s*([{{\"]?)", entry)
    if begin is None:
        return ""
    text, depth = "", 1
    ends = {"{": (), '"': '"', "": ","}[begin[1]]
    for letter in entry[begin.end() :]:
        depth += (letter == "{") - (letter == "}")
        if depth == 0 or (letter in ends and depth == 1):
            break
        text += letter
    return " ".join(text.replace("{", "").replace("}", "").split())


def _parameters(rule: Callable[..., object]) -> str:
    parts = []
    for parameter in inspect.signature(rule).parameters.values():
        default = "" if parameter.default is inspect.Parameter.empty else f"={parameter.default!r}"
        parts.append(f"{parameter.name}{default}")
    return ", ".join(parts)
