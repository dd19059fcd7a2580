"""Time and memory of reading the parameters of large files: ``python -m benchmarks.loading [--megabytes 500]``.

For each format a file of random weights is made, and read in a process of its own. ``memory`` is the most that the
process held beyond what it held before, over the size of the parameters; ``private`` leaves out pages that are the
file's own and need no memory (a mapped file). ``disk`` is the time that reading the same bytes takes alone, from the
same cache.
"""

from __future__ import annotations

import argparse
import csv
import json
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "loading.csv"
WIDTH = 1024
READERS = {
    "mxnet .params": "net-symbol.json",
    "state dict, safetensors": "net.safetensors",
    "state dict, .pt": "net.pt",
    "exported program, .pt2": "net.pt2",
}


def factory() -> object:
    """The network that state dicts are loaded into: as many dense layers as the environment says."""
    import os

    from torch import nn

    layers = int(os.environ["PELLUCID_LAYERS"])
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(layers)))


def make(folder: Path, layers: int) -> None:
    """Write the files."""
    import torch
    from safetensors.torch import save_file

    module = factory()
    assert isinstance(module, torch.nn.Module)
    state = module.state_dict()
    save_file(state, folder / "net.safetensors")
    torch.save(state, folder / "net.pt")
    shapes = ({0: torch.export.Dim("batch")},)
    torch.export.save(
        torch.export.export(module.eval(), (torch.ones(2, WIDTH),), dynamic_shapes=shapes), folder / "net.pt2"
    )
    nodes: list[dict[str, object]] = [{"op": "null", "name": "data", "inputs": []}]
    settings = {"num_hidden": str(WIDTH), "flatten": "True", "no_bias": "False"}
    for k in range(layers):
        last = len(nodes) - 1
        nodes += [{"op": "null", "name": f"{k}_{part}", "inputs": []} for part in ("weight", "bias")]
        inputs = [[last, 0, 0], [last + 1, 0, 0], [last + 2, 0, 0]]
        nodes.append({"op": "FullyConnected", "name": f"fc{k}", "attrs": settings, "inputs": inputs})
    graph = {"nodes": nodes, "heads": [[len(nodes) - 1, 0, 0]], "attrs": {"mxnet_version": ["int", 10901]}}
    (folder / "net-symbol.json").write_text(json.dumps(graph))
    with (folder / "net-0000.params").open("wb") as file:
        file.write(struct.pack("<QQQ", 0x112, 0, len(state)))
        for tensor in state.values():
            head = struct.pack(f"<Iii{tensor.ndim}q", 0xF993FAC9, 0, tensor.ndim, *tensor.shape)
            file.write(head + struct.pack("<iii", 1, 0, 0) + tensor.numpy().tobytes())
        file.write(struct.pack("<Q", len(state)))
        for name in state:
            text = f"arg:{name.replace('.', '_')}".encode()
            file.write(struct.pack("<Q", len(text)) + text)


def held(kind: str) -> int:
    """What this process holds, in KiB, by a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{kind}:")).split()[1])


def read(folder: Path, file: str) -> None:
    """Load one file here, and print what it took."""
    import threading

    import torch

    import pellucid as pl

    pl.load_model("python:benchmarks.loading:small")  # what loading imports is no part of it
    place = str(folder / file)
    spec = place if file.endswith((".json", ".pt2")) else f"python:benchmarks.loading:factory?weights={place}"
    path = folder / "net-0000.params" if file.endswith(".json") else folder / file
    for _ in range(2):  # the second time from the cache
        start = time.perf_counter()
        with path.open("rb", buffering=0) as raw:
            while raw.read(2**24):
                pass
        disk = time.perf_counter() - start
    before, private = held("VmRSS"), held("RssAnon")
    most, done = [private], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            most[0] = max(most[0], held("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    start = time.perf_counter()
    module = pl.load_model(spec).module
    loaded = time.perf_counter() - start
    with torch.no_grad():
        total = sum(float(parameter.sum()) for parameter in module.parameters())
    touched = time.perf_counter() - start
    done.set()
    watcher.join()
    size = sum(parameter.nbytes for parameter in module.parameters())
    peak = (held("VmHWM") - before) * 1024 / size
    print(json.dumps([size, disk, loaded, touched, peak, (most[0] - private) * 1024 / size, total]))


def small() -> object:
    """A module of no weight, to load once before the clock runs."""
    from torch import nn

    return nn.Linear(1, 1)


def main() -> None:
    """Make the files, read each, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--read", nargs=2, metavar=("FOLDER", "FILE"))
    given = parser.parse_args()
    if given.read:
        read(Path(given.read[0]), given.read[1])
        return
    import os

    import torch

    layers = max(1, round(given.megabytes * 1e6 / (4 * WIDTH * (WIDTH + 1))))
    os.environ["PELLUCID_LAYERS"] = str(layers)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), layers)
        for name, file in READERS.items():
            words = [sys.executable, "-W", "ignore", "-m", "benchmarks.loading", "--read", folder, file]
            found = json.loads(
                subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            )
            size, disk, loaded, touched, memory, private, _ = found
            numbers = [f"{value:.3f}" for value in (disk, loaded, touched, memory, private)]
            rows.append([name, f"{size / 1e6:.0f}", *numbers, torch.__version__])
            print(*rows[-1])
    with given.output.open("w", newline="") as file_:
        head = ["format", "MB", "disk s", "load s", "load and read all s", "memory", "private memory", "torch"]
        csv.writer(file_, lineterminator="\n").writerows([head, *rows])


if __name__ == "__main__":
    main()
