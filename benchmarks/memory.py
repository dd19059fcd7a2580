"""How much memory an explanation needs, against `autograd.grad(y, x)`: `python benchmarks/memory.py [--device cuda]`.

On the processor: the rise of the resident peak above what the process held once libraries, model and input were in
place, each method in a fresh process. On a GPU: the same of `torch.cuda.max_memory_allocated`. Writes
benchmarks/results/memory.csv.
"""

from __future__ import annotations

import argparse
import fnmatch
import logging
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks import machine, subjects

RESULTS = machine.RESULTS / "memory.csv"
KEYS = ("model", "method", "device")
GOAL = 1.3
log = logging.getLogger("memory")


def _resident(field: str) -> int:
    """VmRSS (now) or VmHWM (the peak since it was last reset) of this process in bytes. Linux only."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}.")


def rise(name: str, method: str, *, batch: int, device: str) -> int:
    """Bytes by which the peak rises during one call of `method` on subject `name`."""
    run = subjects.gradient if method == "gradient" else subjects.methods(name)[method]
    return rise_of(run, name, batch=batch, device=device)


def rise_of(run: subjects.Run, name: str, *, batch: int, device: str) -> int:
    """Bytes by which the peak rises during one call of `run` on subject `name`."""
    torch.set_num_threads(1)
    run(subjects.make("tiny" if not name.startswith("bert") else name, batch=1))  # loads what is loaded on first use
    subject = subjects.make(name, batch=batch)
    if device != "cpu":
        subject = subjects.Subject(name, subject.model.to(device), subject.x.to(device), subject.targets)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(subject)
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the peak
    before = _resident("VmRSS")
    run(subject)
    return _resident("VmHWM") - before


def main(arguments: list[str] | None = None) -> None:
    """Runs the table, or with --one measures one method in this process and prints the bytes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[name for name in subjects.MAKERS if name != "tiny"])
    parser.add_argument("--methods", nargs="+", default=["*"], help="names or patterns of methods")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "METHOD"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.one:
        print(rise(*options.one, batch=options.batch, device=options.device))
        return
    facts = machine.facts("torchvision", "transformers", "zennit", "captum", "autolrp")
    for name in options.models:
        rows: list[dict[str, object]] = []
        wanted = [m for m in subjects.methods(name) if any(fnmatch.fnmatch(m, pattern) for pattern in options.methods)]
        base = 0
        for method in ("gradient", *wanted):
            command = [sys.executable, __file__, "--one", name, method]
            command += ["--batch", str(options.batch), "--device", options.device]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            row: dict[str, object] = {"model": name, "method": method, "device": options.device}
            if done.returncode:
                last = done.stderr.strip().splitlines()[-1:]
                log.warning("%s, %s: %s", name, method, *last)
                rows.append(row | {"note": f"fails: {' '.join(last).partition(':')[0]}"} | facts)
                continue
            found = int(done.stdout.split()[-1])
            base = found if method == "gradient" else base
            row |= {"mebibytes": f"{found / 2**20:.1f}", "ratio": f"{found / base:.3f}"}
            row |= {"goal": str(GOAL) if method.startswith("pellucid") else "", "batch": options.batch}
            rows.append(row | facts)
            log.info("%-16s %-28s %8.1f MiB, ratio %s", name, method, found / 2**20, row["ratio"])
        machine.write(options.output, rows, keys=KEYS)


if __name__ == "__main__":
    main()
