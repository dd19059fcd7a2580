"""How many architectures the library explains as they are, with the books closed.

    python -m benchmarks.coverage                        what is missing of the whole table (resumes where it stopped)
    python -m benchmarks.coverage --set timm --match vit --composite epsilon --mode biases
    python -m benchmarks.coverage --failed               again what did not pass
    python -m benchmarks.coverage --peers                the other tools on the same models, in coverage_peers.csv
    python -m benchmarks.coverage --methods              other methods on the same models, in coverage_methods.csv
    python -m benchmarks.coverage --methods gradient grad-cam chefer --match resnet
    python -m benchmarks.coverage --summary              the table by set, and the misses with their reasons

Each model is built, conditioned (see ``benchmarks.zoo.condition``) and explained in a process of its own, under a limit
of time and memory. A row that is present for the present code is skipped unless ``--fresh``.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from benchmarks import machine

ROOT = Path(__file__).resolve().parents[1]
TABLE, PEERS_TABLE = machine.RESULTS / "coverage.csv", machine.RESULTS / "coverage_peers.csv"
METHODS_TABLE = machine.RESULTS / "coverage_methods.csv"
COMPOSITES = {"biases": ("epsilon", "auto"), "zeroed": ("epsilon", "cp-lrp")}
MODES = ("biases", "zeroed")
PEERS = ("autoLRP", "zennit", "captum")
KEYS = ("set", "model", "mode", "dtype", "composite")
METHOD_KEYS = ("set", "model", "dtype", "method")
METHOD_COLUMNS = (
    "set", "family", "model", "dtype", "method", "defined", "ran", "finite", "zero", "seconds", "passed", "reason",
    "code",
)  # fmt: skip
COLUMNS = (
    "set", "family", "model", "mode", "dtype", "composite", "ran", "finite", "output", "inputs_share", "unaccounted",
    "tolerance_ratio", "entries_over_output", "conservation_error", "output_error", "map_error", "seconds",
    "gradient_ratio", "passed", "reason", "code",
)  # fmt: skip
PRELOAD = [
    "pellucid",
    "torch",
    "torchvision",
    "timm",
    "transformers.modeling_utils",
    "benchmarks.zoo.measure",
    "benchmarks.zoo.torchvision_rows",
]
APART = (
    "cli", "data", "models", "show", "visualization", "inspection", "surrogates", "evaluation", "web", "testing",
    "intake", "_compare.py", "callables.py", "comparison.py", "flightcheck.py", "saved.py",
)  # fmt: skip


def code_version() -> str:
    """Twelve digits that change with the zoo or with a module that an explanation runs through."""
    source = ROOT / "src" / "pellucid"
    files = [path for path in source.rglob("*.py") if path.relative_to(source).parts[0] not in APART]
    files += [*(ROOT / "benchmarks" / "zoo").glob("*.py"), *(ROOT / "benchmarks" / "zoo").glob("*.csv")]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(str(path.relative_to(ROOT)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table of results, none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def store(path: Path, row: dict[str, Any], keys: tuple[str, ...] = KEYS) -> None:
    """Put a row into the table in place of an older one; an interrupt leaves the table as it was or as it will be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    if path.exists():
        shutil.copyfile(path, new)
    machine.write(new, [row], keys=keys)
    new.replace(path)


@dataclass
class Task:
    """One process: a model and the cells of the table to fill for it."""

    set: str
    family: str
    model: str
    jobs: list[Any]
    started: float = 0.0
    process: Any = None
    pipe: Connection | None = None
    done: set[Any] = field(default_factory=set)


def child(set_name: str, model: str, jobs: list[Any], pipe: Connection, memory: int) -> None:
    """Body of a model's process: sends (job, columns, traceback) for each job."""
    import resource
    import warnings

    import torch

    from benchmarks.zoo import all_rows
    from benchmarks.zoo.measure import measure

    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    row = next(row for row in all_rows(sets=(set_name,)) if row.name == model)
    for message in measure(row, jobs):
        pipe.send(message)
    pipe.close()


def wanted(options: argparse.Namespace) -> list[Task]:
    """The processes to run, in the order of the zoo."""
    from benchmarks.zoo import all_rows
    from benchmarks.zoo.measure import Job

    version = code_version()
    keys = METHOD_KEYS if options.methods else KEYS
    present = {tuple(row[key] for key in keys): row for row in read(options.output)}
    tasks = []
    for row in all_rows(sets=tuple(options.set)):
        if options.match not in row.key:
            continue
        jobs = []
        for dtype in options.dtype:
            if dtype not in row.dtypes:
                continue
            modes = (
                options.mode
                if dtype == "float64" or row.dtypes == (dtype,)
                else [m for m in options.mode if m == "biases"]
            )
            if options.methods:
                jobs += [Job("biases", dtype, method=name) for name in options.methods]
                continue
            jobs += [Job(mode, dtype, name) for mode in modes for name in options.composite or COMPOSITES[mode]]
        kept = []
        for job in jobs:
            cell = {"set": row.set, "model": row.name, **asdict(job)}
            old = present.get(tuple(cell[key] for key in keys))
            current = old is not None and old["code"] == version
            missed = old is not None and old["passed"] != "True"
            keep = missed if options.failed else options.fresh or not current
            if keep:
                kept.append(job)
        if kept:
            tasks.append(Task(row.set, row.family, row.name, kept))
    return tasks[: options.limit]


class Sweep:
    """Runs tasks in processes, writes each row as it comes, tells the progress."""

    def __init__(self, tasks: list[Task], options: argparse.Namespace) -> None:
        self.options = options
        self.waiting = list(tasks)
        self.running: list[Task] = []
        self.total = sum(len(task.jobs) for task in tasks)
        self.finished = self.passed = 0
        self.began = time.monotonic()
        self.facts = machine.facts("torchvision", "timm", "transformers", *options.peers * PEERS) | {
            "code": code_version()
        }
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOAD)

    def run(self) -> None:
        """Until all tasks are done; on an interrupt the running processes are stopped and what is written stays."""
        try:
            while self.waiting or self.running:
                while self.waiting and len(self.running) < self.options.jobs:
                    self._start(self.waiting.pop(0))
                ready = wait([task.pipe for task in self.running], timeout=1.0)
                for task in list(self.running):
                    if task.pipe in ready:
                        self._receive(task)
                    elif time.monotonic() - task.started > self.options.time_limit:
                        self._stop(task, f"over the time limit of {self.options.time_limit} s")
        finally:
            for task in self.running:
                task.process.kill()

    def _start(self, task: Task) -> None:
        task.pipe, theirs = self.context.Pipe(duplex=False)
        memory = self.options.memory * 2**30
        task.process = self.context.Process(
            target=child, args=(task.set, task.model, task.jobs, theirs, memory), daemon=True
        )
        task.process.start()
        theirs.close()
        task.started = time.monotonic()
        self.running.append(task)

    def _receive(self, task: Task) -> None:
        try:
            job, columns, trace = task.pipe.recv()
        except EOFError:
            task.process.join()
            self._stop(
                task, f"the process ended with code {task.process.exitcode} (memory limit {self.options.memory} GiB)"
            )
            return
        task.done.add(job)
        self._record(task, job, columns, trace)

    def _stop(self, task: Task, reason: str) -> None:
        task.process.kill()
        task.process.join()
        self.running.remove(task)
        for job in task.jobs:
            if job not in task.done:
                self._record(task, job, {"ran": False, "passed": False, "reason": reason}, "")

    def _record(self, task: Task, job: Any, columns: dict[str, Any], trace: str) -> None:
        row = {"set": task.set, "family": task.family, "model": task.model}
        names, keys = (METHOD_COLUMNS, METHOD_KEYS) if self.options.methods else (COLUMNS, KEYS)
        row |= {key: value for key, value in asdict(job).items() if key in names}
        row = dict.fromkeys(names, "") | row | columns | self.facts
        store(self.options.output, row, keys)
        if trace and self.options.tracebacks:
            with self.options.tracebacks.open("a", encoding="utf-8") as file:
                file.write(f"=== {task.set}:{task.model} {_words(job)}\n{trace}\n")
        self.finished += 1
        self.passed += bool(columns["passed"])
        spent = time.monotonic() - self.began
        left = spent / self.finished * (self.total - self.finished) / 60
        verdict = "MISSED" if not columns["passed"] else "passed" if columns["ran"] else "not defined:"
        verdict = " ".join(filter(None, [verdict, columns.get("reason", "")]))
        print(
            f"[{self.finished}/{self.total}, {self.passed} passed, about {left:.0f} min left] "
            f"{task.set}:{task.model} {_words(job)}: {verdict}",
            flush=True,
        )


def _words(job: Any) -> str:
    return f"{job.dtype} {job.method}" if job.method else f"{job.mode} {job.dtype} {job.composite}"


def parse(arguments: Iterable[str] | None = None) -> argparse.Namespace:
    """The command line."""
    from benchmarks.zoo.methods import ALIASES, METHODS
    from benchmarks.zoo.registry import SETS

    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--set", nargs="+", default=list(SETS), choices=SETS, help="sets of models, by default all")
    parser.add_argument("--match", default="", help="only models whose set:name contains this")
    parser.add_argument("--limit", type=int, default=None, help="at most this many models")
    parser.add_argument("--jobs", type=int, default=1, help="models at a time, one thread each")
    parser.add_argument(
        "--mode", nargs="+", default=list(MODES), choices=MODES, help="with biases, or additive parameters zeroed"
    )
    parser.add_argument("--dtype", nargs="+", default=["float64", "float32"], choices=["float64", "float32"])
    parser.add_argument("--composite", nargs="+", default=None, help="composites by name")
    parser.add_argument("--fresh", action="store_true", help="also rows that are present for the present code")
    parser.add_argument("--failed", action="store_true", help="only rows that are present and did not pass")
    parser.add_argument("--time-limit", type=int, default=600, help="seconds for one model (600)")
    parser.add_argument("--memory", type=int, default=12, help="GiB of memory for one model (12)")
    parser.add_argument("--output", type=Path, default=TABLE, help="the table, a CSV file")
    parser.add_argument("--tracebacks", type=Path, default=None, help="file to which tracebacks are added")
    parser.add_argument("--summary", action="store_true", help="print the table by set and the misses; runs nothing")
    parser.add_argument(
        "--methods", nargs="*", default=None, help="explain by these methods in float32 instead of by composites"
    )
    parser.add_argument("--peers", action="store_true", help="explain by autoLRP, zennit and captum, parameters zeroed")
    options = parser.parse_args(None if arguments is None else list(arguments))
    if options.methods is not None:
        options.methods = [ALIASES.get(name, name) for name in options.methods or METHODS]
        options.mode, options.dtype = ["biases"], ["float32"]
        options.output = METHODS_TABLE if options.output == TABLE else options.output
    if options.peers:
        options.mode, options.dtype = ["zeroed"], ["float64"]
        options.composite = options.composite or list(PEERS)
        options.output = PEERS_TABLE if options.output == TABLE else options.output
    return options


def main() -> int:
    """Run the sweep, or print its summary."""
    options = parse()
    if options.summary:
        from benchmarks.coverage_summary import methods_summary, summary

        print((methods_summary if options.methods else summary)(read(options.output)))
        return 0
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    tasks = wanted(options)
    cells = sum(len(task.jobs) for task in tasks)
    print(f"{len(tasks)} models, {cells} rows; at most {options.time_limit} s and {options.memory} GiB for each model")
    Sweep(tasks, options).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
