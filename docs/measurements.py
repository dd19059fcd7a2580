"""Writes what was measured, from benchmarks/results/*.csv: the page why/measurements.md and the README's tables.

``python docs/measurements.py`` after ``make coverage``, ``make bench`` or ``make truth``; a test compares page and
README with the CSV files.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "why" / "measurements.md"
README = ROOT / "README.md"
START, END = "<!-- measured -->\n", "<!-- /measured -->"

Row = dict[str, str]


def rows(name: str) -> list[Row]:
    """The rows of one table of results; none where it has not been measured."""
    path = RESULTS / f"{name}.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def pivot(records: Sequence[Row], *, line: Callable[[Row], str], column: Callable[[Row], str], cell: str) -> str:
    """A Markdown table, lines and columns in the order met; of several cells in one place the last counts."""
    lines = list(dict.fromkeys(map(line, records)))
    columns = list(dict.fromkeys(map(column, records)))
    cells = {(line(record), column(record)): record[cell] for record in records}
    table = [["", *columns], ["---", *("---:" for _ in columns)]]
    table += [[name, *(cells.get((name, other), "") for other in columns)] for name in lines]
    return "\n".join(f"| {' | '.join(words)} |" for words in table)


def conditions(records: Sequence[Row]) -> str:
    """On what the rows were measured."""
    dates = sorted({record["date"] for record in records})
    machines = sorted({record["machine"] for record in records})
    versions = sorted({f"torch {record['torch']}" for record in records})
    return (
        f"Measured {' to '.join(dict.fromkeys((dates[0], dates[-1])))} on {'; '.join(machines)}, {', '.join(versions)}."
    )


def coverage() -> tuple[str, str]:
    """(the table by set, all of it) as Markdown; empty where it has not been measured."""
    records = rows("coverage")
    if not records:
        return "", ""
    sys.path.insert(0, str(ROOT))
    from benchmarks.coverage_summary import beside_peers, summary

    whole = summary(records)
    return whole.split("\n\n")[0], "\n\n".join(filter(None, [whole, beside_peers(records, rows("coverage_peers"))]))


def methods() -> str:
    """What runs where, by method; empty where it has not been measured."""
    records = rows("coverage_methods")
    if not records:
        return ""
    sys.path.insert(0, str(ROOT))
    from benchmarks.coverage_summary import methods_summary

    return f"{methods_summary(records)}\n\n{conditions(records)}"


def speed() -> str:
    """Time in units of the gradient, methods by models."""
    records = [record for record in rows("speed") if record["model"] != "tiny" and record["ratio"]]
    if not records:
        return ""
    table = pivot(records, line=lambda row: row["method"], column=lambda row: row["model"], cell="ratio")
    return f"{table}\n\n{conditions(records)}"


def costs() -> str:
    """What methods cost beside the model alone, and beside other libraries; empty where it has not been measured."""
    records = [record for record in rows("methods") if record["model"] != "tiny" and record["ratio"]]
    if not records:
        return ""

    def against(record: Row) -> str:
        if record["library"] == "pellucid":
            return f"{record['model']}, of the model alone"
        return f"{record['model']}, of {record['library']}"

    for record in records:
        own = record["library"] == "pellucid"
        record["cell"] = record["ratio"] if own else f"{record['ours']} (≤ {record['ours_upper']})"
    table = pivot(records, line=lambda row: row["method"], column=against, cell="cell")
    return f"{table}\n\n{conditions(records)}"


def memory() -> str:
    """Peak memory in units of the gradient's, methods by models."""
    records = [record for record in rows("memory") if record["model"] != "tiny" and record["ratio"]]
    if not records:
        return ""
    table = pivot(
        records,
        line=lambda row: row["method"],
        column=lambda row: row["model"] if row["device"] == "cpu" else f"{row['model']} ({row['device']})",
        cell="ratio",
    )
    return f"{table}\n\n{conditions(records)}"


def truth() -> str:
    """Scores on tasks with known truth; empty where they have not been measured."""
    records = rows("truth")
    if not records:
        return ""
    sys.path.insert(0, str(ROOT))
    from benchmarks import truth_table

    tables = [
        f"### Pictures\n\n{truth_table.table(records, truth_table.IMAGES, scalars=True)}",
        f"### Words\n\n{truth_table.table(records, truth_table.WORDS, scalars=False)}",
        f"### Where `auto` is not the best\n\n{BEATEN}\n\n{truth_table.beaten(records)}",
    ]
    return "\n\n".join([*tables, conditions(records)])


def page() -> str:
    """The page of the documentation."""
    sections = [
        ("Coverage of architectures", "make coverage", COVERAGE, coverage()[1]),
        ("Methods on the same models", "make coverage-methods", METHODS, methods()),
        ("Time", "make bench", TIME, speed()),
        ("Time of every method", "make bench-methods", COSTS, costs()),
        ("Memory", "make bench", "The rise of the peak, in units of the gradient's.", memory()),
        ("Where the truth is known", "make truth", TRUTH, truth()),
    ]
    parts = ["<!-- Made by docs/measurements.py from benchmarks/results; do not edit. -->\n\n# Measurements\n"]
    for title, command, text, table in sections:
        if table:
            parts.append(f"\n## {title}\n\n{text} Again: `{command}`.\n\n{table}\n")
    return "".join(parts)


def readme_part() -> str:
    """The README's tables, between its two marks."""
    parts = []
    table = coverage()[0]
    if table:
        parts.append(f"**Coverage.** {COVERAGE} Again: `make coverage`.\n\n{table}\n")
    table = speed()
    if table:
        parts.append(f"**Time.** {TIME} Again: `make bench`.\n\n{table}\n")
    if not parts:
        return START
    more = "\nMemory, and tasks where the truth is known: [measurements](docs/why/measurements.md).\n"
    return START + "\n## Measured\n\n" + "\n".join(parts) + more + "\n"


COVERAGE = (
    "The smallest variant of every family of torchvision, timm and transformers, and RNN, TorchScript and "
    "`torch.export` forms, with random weights conditioned so that signals are of order 1, explained as they are. "
    "Passed: all is finite and the ledger is closed."
)
METHODS = (
    "One sample in float32, with few samples or windows. Not defined: the method says itself, in one line and before "
    "anything is run, why it has no meaning on the model."
)
TIME = (
    "Median ratio to `autograd.grad(y, x)` with frozen parameters on the same model: batch 4, one thread, one process, "
    "alternating; 1.0 costs what a gradient costs."
)
COSTS = (
    "*Of the model alone*: our time over that of the evaluations which the method needs by its definition, and nothing "
    "else; *of* a library: our time over its time for the same, with the upper 95 % bound. Medians of paired runs, "
    "batch 4, one thread."
)
TRUTH = (
    "Tasks in which it is known which part of the input decides. Shapes and tags: share of the positive relevance "
    "inside the true region / share of the highest values inside it. Pointing: four photos in one, share of the "
    "positive relevance in the photo of the class / share of photos whose highest value lies there. Insertion - "
    "deletion: area between the class's probabilities when patches are added and taken away in the order of their "
    "relevance. Words: share of sentence pairs in which the word of the highest relevance is the right one. Higher is "
    "better, `random` is chance; *contrast*: the class against the rest is explained."
)
BEATEN = (
    "The default is one set of rules for every model. In these columns another method scores higher than `auto`, for "
    "the better of logit and contrast:"
)


def main() -> None:
    """Write the page and the README's part."""
    PAGE.write_text(page(), encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    README.write_text(
        re.sub(f"{START}.*?{END}", lambda _: readme_part() + END, text, flags=re.DOTALL), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
