"""The tables of benchmarks/results/truth.csv as Markdown: `python benchmarks/truth_table.py [FILE]`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from math import inf
from pathlib import Path

FILE = Path(__file__).resolve().parent / "results" / "truth.csv"
Column = tuple[str, str, tuple[str, ...]]  # task, pooling, scores shown
IMAGES: dict[str, Column] = {
    **{f"shapes, {name}": (f"shapes-{name}", "sum, positive", ("mass", "rank")) for name in ("cnn", "resnet", "vit")},
    **{f"tag, {name}": (f"tag-{name}", "sum, positive", ("mass", "rank")) for name in ("cnn", "resnet", "vit")},
    "pointing": ("pointing", "sum, positive", ("share", "hit")),
    "insertion - deletion": ("perturbation", "sum over patches of 8", ("insertion - deletion",)),
}
WORDS: dict[str, Column] = {
    "which word differs": ("words-differ", "sum over a word's tokens", ("hit@1",)),
    "which makes the distance": ("words-differ-distance", "sum over a word's tokens", ("hit@1",)),
    "which is shared": ("words-share", "sum over a word's tokens", ("hit@1",)),
}


def table(rows: list[dict[str, str]], columns: dict[str, Column], *, scalars: bool) -> str:
    """One line for each method (and, with `scalars`, each explained scalar); a task that defeats a method says so."""
    tasks = {task for task, _, _ in columns.values()}
    rows = [row for row in rows if row["task"] in tasks]

    def line(row: dict[str, str]) -> tuple[str, str]:
        return row["method"], row["scalar"] if scalars else ""

    values = {(*line(row), row["task"], row["pooling"], row["score"]): row["value"] for row in rows}
    heads = ["method", *(["scalar"] if scalars else []), *columns]
    texts = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for method, scalar in sorted({line(row) for row in rows}, key=lambda one: (not one[0].startswith("pellucid"), one)):
        cells = [method, *([scalar] if scalars else [])]
        for task, pooling, scores in columns.values():
            found = [values.get((method, scalar, task, pooling, score)) for score in scores]
            failed = (method, scalar, task, "", "") in values
            cells.append("fails" if failed else " / ".join(f"{float(value):.2f}" for value in found if value) or "-")
        texts.append(f"| {' | '.join(cells)} |")
    return "\n".join(texts)


def beaten(rows: Sequence[dict[str, str]], name: str = "pellucid auto") -> str:
    """One line for each score in which another method is better than `name`; each counts with its better scalar."""
    lines = []
    for column, (task, pooling, scores) in (IMAGES | WORDS).items():
        for score in scores:
            best: dict[str, float] = {}
            for row in rows:
                if (row["task"], row["pooling"], row["score"]) == (task, pooling, score) and row["value"]:
                    best[row["method"]] = max(float(row["value"]), best.get(row["method"], -inf))
            winner = max(best, key=best.__getitem__, default=name)
            if name in best and best[winner] > best[name]:
                place = f"{sum(value > best[name] for value in best.values()) + 1} of {len(best)}"
                cells = (column, score, f"{best[name]:.2f}", place, winner, f"{best[winner]:.2f}")
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([f"| task | score | {name} | place | best | its score |", f"|{'---|' * 6}", *lines])


def main() -> None:
    """Prints both tables."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    print(table(rows, IMAGES, scalars=True))
    print()
    print(table(rows, WORDS, scalars=False))


if __name__ == "__main__":
    main()
