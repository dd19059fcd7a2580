"""``python -m tests.fuzz [CASES] [--from N]``: cases in processes of their own, so that a crash is a finding too."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.run import cases

CHUNK = 2_000


def main() -> int:
    """Run them and tell what failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=int, nargs="?", default=100_000)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        return _work(given.first, given.cases)
    start, failures, end = time.perf_counter(), Counter[str](), given.first + given.cases
    first = given.first
    while first < end:
        words = [sys.executable, "-m", "tests.fuzz", str(min(CHUNK, end - first)), "--from", str(first), "--worker"]
        ran = subprocess.run(words, capture_output=True, text=True, timeout=CHUNK * 12)
        last = first - 1
        for line in ran.stdout.splitlines():
            word, _, rest = line.partition(" ")
            if word == "at":
                last = int(rest)
            elif word == "failed":
                number, _, what = rest.partition(" ")
                failures[what[:90]] += 1
                print(f"case {number}: {what}", flush=True)
        if ran.returncode != 0:
            failures["crashed"] += 1
            print(f"case {last}: the process ended with {ran.returncode}: {ran.stderr[-500:]}", flush=True)
        first = last + 1 if ran.returncode != 0 else min(first + CHUNK, end)
        print(f"{first - given.first:,} cases, {sum(failures.values())} failures", file=sys.stderr, flush=True)
    print(f"{given.cases:,} cases in {time.perf_counter() - start:,.0f} s: {sum(failures.values())} failures")
    return 1 if failures else 0


def _work(first: int, count: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        print(f"at {first}", flush=True)
        for number, reader, failure, seconds in cases(Path(folder), range(first, first + count)):
            if failure is not None:
                print(f"failed {number} {reader.name}: {failure.what}".replace("\n", " "))
            if seconds > 5:
                print(f"failed {number} {reader.name}: took {seconds:.1f} s")
            print(f"at {number + 1}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
