"""Reading parameters holds them once; on a small file, to see that the measurement runs."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_loading_holds_parameters_once(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "benchmarks.loading", "--megabytes", "80", "--output", str(tmp_path / "out.csv")]
    subprocess.run(words, check=True, timeout=300, cwd=Path(__file__).parents[2])
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert all(float(row["private memory"]) < 1.2 for row in rows), rows
