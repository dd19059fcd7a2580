"""What LXT's AttnLRP costs against a gradient in its environment: `python benchmarks/peer_lxt.py --python PYTHON`.

LXT 2.1 does not work with the transformers release that the other measurements use, so that it is measured in an
environment of its own (`make bench-lxt` makes it), against that environment's gradient, in two processes that take
turns. Adds its rows to benchmarks/results/speed.csv.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from benchmarks.speed import KEYS, RESULTS

WORKER = Path(__file__).with_name("peer_lxt_worker.py")
log = logging.getLogger("peer_lxt")


class Worker:
    """A process that runs one thing when asked."""

    def __init__(self, python: str, what: str, name: str, batch: int) -> None:
        command = [python, str(WORKER), what, name, str(batch)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._line() != "ready":
            raise RuntimeError(f"{' '.join(command)} did not start.")

    def seconds(self) -> float:
        """How long one run takes."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def versions(python: str) -> dict[str, str]:
    """The releases in that environment."""
    names = ("torch", "torchvision", "transformers", "lxt")
    code = f"from importlib.metadata import version\nprint(*map(version, {names!r}))"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    return dict(zip(names, found, strict=True))


def main(arguments: list[str] | None = None) -> None:
    """Runs the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="interpreter of the environment with LXT")
    parser.add_argument("--models", nargs="+", default=["vit_b_16", "bert-12"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    facts = machine.facts() | versions(options.python)
    for name in options.models:
        base, theirs = (Worker(options.python, what, name, options.batch) for what in ("gradient", "lxt"))
        times = [(base.seconds(), theirs.seconds()) for _ in range(options.rounds)]
        base.close()
        theirs.close()
        ratios = [mine / gradient for gradient, mine in times]
        row = {
            "model": name,
            "method": "lxt attn-lrp",
            "ratio": f"{statistics.median(ratios):.3f}",
            "lowest": f"{min(ratios):.3f}",
            "highest": f"{max(ratios):.3f}",
            "seconds": f"{statistics.median(mine for _, mine in times):.4f}",
            "rounds": options.rounds,
            "batch": options.batch,
            "note": f"in an environment of its own: lxt {facts['lxt']}, transformers {facts['transformers']}",
        }
        machine.write(options.output, [row | facts], keys=KEYS)
        log.info("%-16s %-28s %s", name, "lxt attn-lrp", row["ratio"])


if __name__ == "__main__":
    main()
