"""What an explanation costs, in units of `autograd.grad(y, x)` on the same model: `python benchmarks/speed.py`.

One process, one thread, batch 4, parameters frozen. In each round the gradient and then every method runs once; a ratio
is the median over the rounds. The shadow is made beforehand, its cost is a row of its own. `ratio` is of wall time,
`cpu_ratio` of processor time, which other work on the machine disturbs less. Writes benchmarks/results/speed.csv.
"""

from __future__ import annotations

import argparse
import fnmatch
import logging
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks import machine, subjects

RESULTS = machine.RESULTS / "speed.csv"
KEYS = ("model", "method")
log = logging.getLogger("speed")


def clock(run: subjects.Run, subject: subjects.Subject) -> tuple[float, float]:
    """Wall and processor seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    run(subject)
    return time.perf_counter() - wall, time.process_time() - cpu


def compare(subject: subjects.Subject, runs: Mapping[str, subjects.Run], rounds: int) -> Iterator[dict[str, object]]:
    """Rows of all methods that run at all, each with its medians over `rounds` alternations."""
    alive: dict[str, subjects.Run] = {}
    for method, run in runs.items():
        try:
            run(subject)  # warms up, makes the shadow
        except Exception as error:  # a peer may fail in any way; the table says how
            log.warning("%s, %s: %s: %s", subject.name, method, type(error).__name__, str(error)[:200])
            yield {"model": subject.name, "method": method, "note": f"fails: {type(error).__name__}"}
        else:
            alive[method] = run
    base: list[tuple[float, float]] = []
    taken: dict[str, list[tuple[float, float]]] = {method: [] for method in alive}
    subjects.gradient(subject)
    for _ in range(rounds):
        base.append(clock(subjects.gradient, subject))
        for method, run in alive.items():
            taken[method].append(clock(run, subject))
    for method, times in {"gradient": base, **taken}.items():
        wall, cpu = ([t[k] / b[k] for t, b in zip(times, base, strict=True)] for k in (0, 1))
        seconds = statistics.median(t[0] for t in times)
        row = {"model": subject.name, "method": method, "ratio": f"{statistics.median(wall):.3f}"}
        row |= {
            "cpu_ratio": f"{statistics.median(cpu):.3f}",
            "lowest": f"{min(wall):.3f}",
            "highest": f"{max(wall):.3f}",
        }
        yield row | {"goal": subjects.goal(subject.name, method), "seconds": f"{seconds:.4f}", "rounds": rounds}
        log.info("%-16s %-28s %s (processor %s)", subject.name, method, row["ratio"], row["cpu_ratio"])


def shadow(subject: subjects.Subject) -> dict[str, object]:
    """What the copy of the model's structure costs, once per model."""
    from pellucid.engine.shadow import shadow_of

    start = time.perf_counter()
    shadow_of(subject.model)
    seconds = time.perf_counter() - start
    return {"model": subject.name, "method": "pellucid shadow, once", "seconds": f"{seconds:.4f}", "rounds": 1}


def ten_targets(subject: subjects.Subject, rounds: int) -> dict[str, object]:
    """Ten classes of one input from one forward, against ten separate explanations."""
    import pellucid as pl

    x = subject.x[:1]
    targets = list(range(10))
    together, apart = [], []
    for _ in range(rounds):
        together.append(clock(lambda s: pl.explain(s.model, x, targets=targets, composite="epsilon"), subject))
        apart.append(clock(lambda s: [pl.explain(s.model, x, target=t, composite="epsilon") for t in targets], subject))
    wall, cpu = (statistics.median(a[k] / b[k] for a, b in zip(together, apart, strict=True)) for k in (0, 1))
    row = {"model": subject.name, "method": "pellucid epsilon, ten targets / ten calls", "ratio": f"{wall:.3f}"}
    log.info("%-16s %-28s %s (processor %.3f)", subject.name, "ten targets / ten calls", row["ratio"], cpu)
    seconds = statistics.median(t[0] for t in together)
    return row | {"cpu_ratio": f"{cpu:.3f}", "goal": "0.8", "seconds": f"{seconds:.4f}", "rounds": rounds}


def main(arguments: list[str] | None = None) -> None:
    """Runs the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[name for name in subjects.MAKERS if name != "tiny"])
    parser.add_argument("--methods", nargs="+", default=["*"], help="names or patterns of methods")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    facts = machine.facts("torchvision", "transformers", "zennit", "captum", "autolrp")
    for name in options.models:
        subject = subjects.make(name, batch=options.batch)
        wanted = {
            method: run
            for method, run in subjects.methods(name).items()
            if any(fnmatch.fnmatch(method, pattern) for pattern in options.methods)
        }
        rows = []
        if any(method.startswith("pellucid") for method in wanted):
            rows.append(shadow(subject))
        rows += compare(subject, wanted, options.rounds)
        if name in ("resnet50", "tiny") and "pellucid epsilon" in wanted:
            rows.append(ten_targets(subject, options.rounds))
        machine.write(options.output, [row | {"batch": options.batch} | facts for row in rows], keys=KEYS)


if __name__ == "__main__":
    main()
