"""Rows of results with what they were measured on: versions and machine."""

from __future__ import annotations

import csv
import datetime
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


def version(package: str) -> str:
    """Installed version of `package`, "-" where it is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def _processor() -> str:
    """The processor's name, as the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def facts(*packages: str) -> dict[str, str]:
    """Date, machine and versions, one column each."""
    found = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
    }
    return found | {package: version(package) for package in ("pellucid", "torch", *packages)}


def write(path: Path, rows: Iterable[Mapping[str, object]], *, keys: Sequence[str] = ()) -> None:
    """Writes `rows` as CSV; with `keys`, rows already there stay unless a new one agrees with them in all of `keys`."""
    new = [{name: str(value) for name, value in row.items()} for row in rows]
    old: list[dict[str, str]] = []
    if keys and path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            old = list(csv.DictReader(file))

    def replaces(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
        # An empty key stands for all: a method that failed has no scores, and its next success replaces the failure.
        pairs = [(one.get(key, ""), other.get(key, "")) for key in keys]
        return all(a == b or not a or not b for a, b in pairs)

    merged = [row for row in old if not any(replaces(row, fresh) for fresh in new)] + new
    columns = list(dict.fromkeys(name for row in merged for name in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(merged)
