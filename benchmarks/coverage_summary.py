"""The coverage table in words: by set and composite, and every miss with its reason."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import median

CLOSE = 1e-4
SETS = ("torchvision", "timm", "transformers", "rnn", "torchscript", "export")
Record = dict[str, str]


def summary(rows: Sequence[Record]) -> str:
    """Markdown: one table of ledgers with biases in place, one of conservation with them zeroed, and the misses."""
    if not rows:
        return "The table is empty: run `make coverage`."
    parts = [_ledgers(rows), _conservation(rows), _misses(rows)]
    codes = {row["code"] for row in rows}
    if len(codes) > 1:
        parts.append(f"The rows are of {len(codes)} versions of the code; `make coverage` brings them to one.")
    return "\n\n".join(part for part in parts if part)


def methods_summary(rows: Sequence[Record]) -> str:
    """Markdown: for every method on how many models it is defined, ran and is finite; then the misses, with reasons."""
    if not rows:
        return "The table is empty: run `python -m benchmarks.coverage --methods`."
    lines = [
        "| method | models | defined | ran | finite | zero everywhere | not defined because |",
        "|---|---|---|---|---|---|---|",
    ]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for method in methods:
        here = [row for row in rows if row["method"] == method]
        defined = [row for row in here if row["defined"] != "False"]
        counts = [sum(row[column] == "True" for row in defined) for column in ("ran", "finite", "zero")]
        reasons = Counter(_general(row["reason"]) for row in here if row["defined"] == "False")
        why = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
        lines.append(f"| {method} | {len(here)} | {len(defined)} | {' | '.join(map(str, counts))} | {why} |")
    missed: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        if row["passed"] != "True":
            missed[row["method"], row["reason"]].append(f"`{row['set']}:{row['model']}`")
    if missed:
        lines += ["", "Rows that miss:", ""]
        lines += [f"- {method} on {', '.join(models)}: {reason}" for (method, reason), models in missed.items()]
    return "\n".join(lines)


def beside_peers(rows: Sequence[Record], peers: Sequence[Record]) -> str:
    """Markdown: conservation with additive parameters zeroed, ours and other tools', where all were tried."""
    cells = [row for row in (*rows, *peers) if row["mode"] == "zeroed" and row["dtype"] == "float64"]
    tools = list(dict.fromkeys(row["composite"] for row in cells))
    given = {tool: {(row["set"], row["model"]) for row in cells if row["composite"] == tool} for tool in tools}
    common = set.intersection(*given.values()) if peers else set()
    if not common:
        return ""
    ours = {row["composite"] for row in rows}
    lines = [
        f"| additive zeroed, float64, {len(common)} models | ran | error < 1e-2 | error < {CLOSE:.0e} |",
        "|---|---|---|---|",
    ]
    for tool in tools:
        here = [row for row in cells if row["composite"] == tool and (row["set"], row["model"]) in common]
        errors = [float(row["conservation_error"]) for row in here if row["conservation_error"]]
        counts = (
            sum(row["ran"] == "True" for row in here),
            sum(e < 1e-2 for e in errors),
            sum(e < CLOSE for e in errors),
        )
        name = f"pellucid {tool}" if tool in ours else tool
        lines.append(f"| {name} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


def _general(reason: str) -> str:
    """A reason without the names and shapes of one model, so that alike ones are counted together."""
    words = re.sub(r"'[^']*'|\([\d, ]+\)", "...", reason.split(". ")[0]).replace("|", "/")
    return re.sub(r"\b\d+\b", "n", words)


def _ledgers(rows: Sequence[Record]) -> str:
    groups = _groups([row for row in rows if row["mode"] == "biases"])
    lines = [
        "| set | composite | dtype | rows | ran | passed | median share of inputs |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name, composite, dtype), members in groups.items():
        ran = [row for row in members if row["ran"] == "True"]
        lines.append(
            f"| {name} | {composite} | {dtype} | {len(members)} | {len(ran)} | {_passed(members)} | "
            f"{_median(ran, 'inputs_share')} |"
        )
    return "\n".join(lines) if groups else ""


def _conservation(rows: Sequence[Record]) -> str:
    groups = _groups([row for row in rows if row["mode"] == "zeroed"])
    lines = [
        f"| additive zeroed | composite | dtype | rows | error < 1e-2 | error < {CLOSE:.0e} | ledger closed |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name, composite, dtype), members in groups.items():
        errors = [float(row["conservation_error"]) for row in members if row["conservation_error"]]
        lines.append(
            f"| {name} | {composite} | {dtype} | {len(members)} | {sum(error < 1e-2 for error in errors)} | "
            f"{sum(error < CLOSE for error in errors)} | {_passed(members)} |"
        )
    return "\n".join(lines) if groups else ""


def _misses(rows: Sequence[Record]) -> str:
    missed: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        if row["passed"] != "True":
            missed[f"{row['set']}:{row['model']}", row["reason"]].append(
                f"{row['composite']} {row['mode']} {row['dtype']}"
            )
    lines = [f"- `{name}` ({', '.join(cells)}): {reason}" for (name, reason), cells in missed.items()]
    return "\n".join(["Rows that miss:", "", *lines]) if lines else ""


def _groups(rows: Sequence[Record]) -> dict[tuple[str, str, str], list[Record]]:
    """Rows by set, composite and dtype, and all sets together at the end."""
    groups: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    rows = sorted(rows, key=lambda row: (SETS.index(row["set"]), row["composite"], -int(row["dtype"][-2:])))
    for row in rows:
        groups[row["set"], row["composite"], row["dtype"]].append(row)
    for row in rows:
        groups["all", row["composite"], row["dtype"]].append(row)
    return groups


def _passed(rows: Sequence[Record]) -> int:
    return sum(row["passed"] == "True" for row in rows)


def _median(rows: Sequence[Record], column: str) -> str:
    return f"{median(float(row[column]) for row in rows):.2f}" if rows else "-"
