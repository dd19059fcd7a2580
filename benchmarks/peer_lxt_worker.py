"""One side of `peer_lxt.py`, run by the interpreter of an environment in which LXT works: a gradient, or LXT's AttnLRP.

`python peer_lxt_worker.py gradient|lxt vit_b_16|bert-12 BATCH` builds the subject, prints "ready", and then for every
line that it reads runs once and prints the seconds that it took. LXT changes classes of the whole process, so that the
gradient it is measured against needs a process of its own.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks import subjects


def main(what: str, name: str, batch: int) -> None:
    """Answers until the input ends."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # LXT tells of every class that it leaves out
    if what == "lxt":
        from lxt.efficient import monkey_patch

        if name.startswith("bert"):
            from transformers.models.bert import modeling_bert as library
        else:
            from torchvision.models import vision_transformer as library
        monkey_patch(library)
    subject = subjects.make(name, batch=batch)

    def run() -> torch.Tensor:
        return subject.x * subjects.gradient(subject)  # what LXT's rules make of it is relevance

    run()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
