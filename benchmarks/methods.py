"""What attribution methods cost against the model alone and against other libraries: `python benchmarks/methods.py`.

One process, one thread, batch 4, parameters frozen. In each round everything runs once, in another order each time: the
evaluations that the method needs by its definition and nothing else (`own`), ours, and each peer. A ratio is the median
over the rounds of paired ratios; `upper` is its 95 % bound by the bootstrap over the rounds. Columns: `ratio` of this
row's time to `own`, in wall time, `cpu_ratio` in processor time, which other work on the machine disturbs less; on the
rows of peers `ours` is our time over theirs. `mebibytes`: the rise of the resident peak during one call, in a process
of its own. Writes benchmarks/results/methods.csv.
"""

from __future__ import annotations

import argparse
import fnmatch
import logging
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from benchmarks import contenders, machine, memory, subjects
from benchmarks.speed import clock

RESULTS = machine.RESULTS / "methods.csv"
KEYS = ("model", "method", "library")
PEER_GOAL = "1.05"
RESAMPLES = 2000
log = logging.getLogger("methods")

Times = list[tuple[float, float]]


def upper(ratios: Sequence[float]) -> float:
    """The 95 % upper bound of the median, by the bootstrap."""
    values = np.asarray(ratios)
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    return float(np.quantile(np.median(values[drawn], axis=1), 0.95))


def measured(
    subject: subjects.Subject, entry: contenders.Entry, rounds: int
) -> tuple[dict[str, Times], dict[str, str]]:
    """Times of the model alone ("own"), ours ("pellucid") and every peer that runs at all; and how the others fail."""
    runs: dict[str, subjects.Run] = {"own": entry.alone, "pellucid": entry.ours, **entry.peers}
    failed: dict[str, str] = {}
    for library, run in list(runs.items()):
        try:
            run(subject)  # warms up, makes what is made once
        except Exception as error:  # a peer may fail in any way; the table says how
            if library in ("own", "pellucid"):
                raise
            log.warning("%s, %s, %s: %s: %s", subject.name, entry.name, library, type(error).__name__, str(error)[:200])
            failed[library] = f"fails: {type(error).__name__}"
            del runs[library]
    order = list(runs)
    times: dict[str, Times] = {library: [] for library in runs}
    for number in range(rounds):
        for library in order[number % len(order) :] + order[: number % len(order)]:
            times[library].append(clock(runs[library], subject))
    return times, failed


def rows(
    subject: subjects.Subject, entry: contenders.Entry, times: Mapping[str, Times], failed: Mapping[str, str]
) -> Iterator[dict[str, object]]:
    """Rows of one method: ours, then the peers."""

    def ratios(one: Times, other: Times, kind: int) -> list[float]:
        return [a[kind] / b[kind] for a, b in zip(one, other, strict=True)]

    evaluations = " + ".join(
        f"{count} {what}{'s' if count > 1 else ''}"
        for count, what in ((entry.forwards, "forward"), (entry.gradients, "gradient"))
        if count
    )
    for library, taken in times.items():
        if library == "own":
            continue
        row: dict[str, object] = {"model": subject.name, "method": entry.name, "library": library}
        row |= {"evaluations": evaluations, "rounds": len(taken)}
        for name, kind in (("ratio", 0), ("cpu_ratio", 1)):
            found = ratios(taken, times["own"], kind)
            row |= {name: f"{statistics.median(found):.3f}", f"{name}_upper": f"{upper(found):.3f}"}
        row |= {"seconds": f"{statistics.median(t[0] for t in taken):.4f}"}
        if library == "pellucid":
            row |= {"goal": entry.goal}
        else:
            for name, kind in (("ours", 0), ("cpu_ours", 1)):
                found = ratios(times["pellucid"], taken, kind)
                row |= {name: f"{statistics.median(found):.3f}", f"{name}_upper": f"{upper(found):.3f}"}
            row |= {"ours_goal": PEER_GOAL}
        log.info("%-16s %-24s %-10s %s", subject.name, entry.name, library, _in_words(row))
        yield row
    for library, note in failed.items():
        yield {"model": subject.name, "method": entry.name, "library": library, "note": note}


def _in_words(row: Mapping[str, object]) -> str:
    own = f"{row['ratio']} (up to {row['ratio_upper']}) of the model alone, processor {row['cpu_ratio']}"
    return own + (f"; ours over it {row['ours']} (up to {row['ours_upper']})" if "ours" in row else "")


def peak(name: str, method: str, library: str, *, batch: int) -> str:
    """Mebibytes of one call in a process of its own; empty where it fails."""
    command = [sys.executable, __file__, "--one", name, method, library, "--batch", str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode else f"{int(done.stdout.split()[-1]) / 2**20:.1f}"


def _one(name: str, method: str, library: str, batch: int) -> int:
    """Bytes by which the resident peak rises during one call."""
    entry = next(entry for entry in contenders.entries(name) if entry.name == method)
    run = {"pellucid": entry.ours, "own": entry.alone, **entry.peers}[library]
    return memory.rise_of(run, name, batch=batch, device="cpu")


def main(arguments: list[str] | None = None) -> None:
    """Runs the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["efficientnet_b0", "vgg16", "resnet50", "vit_b_16"])
    parser.add_argument("--methods", nargs="+", default=["*"], help="names or patterns of methods")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--no-memory", action="store_true", help="measure time alone")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--one", nargs=3, metavar=("MODEL", "METHOD", "LIBRARY"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    if options.one:
        print(_one(*options.one, batch=options.batch))
        return
    facts = machine.facts("torchvision", "transformers", "captum", "grad-cam", "shap", "zennit")
    for name in options.models:
        subject = subjects.make(name, batch=options.batch)
        for entry in contenders.entries(name):
            if not any(fnmatch.fnmatch(entry.name, pattern) for pattern in options.methods):
                continue
            found = list(rows(subject, entry, *measured(subject, entry, options.rounds)))
            if not options.no_memory:
                for row in found:
                    row["mebibytes"] = peak(name, entry.name, str(row["library"]), batch=options.batch)
            machine.write(options.output, [row | {"batch": options.batch} | facts for row in found], keys=KEYS)


if __name__ == "__main__":
    main()
