"""A tiny classifier of the user's own, photos, and the command line run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from pellucid.cli import main

TINY = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    return nn.Sequential(*layers)

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = make()

    def forward(self, x):
        import time
        time.sleep(0.3)
        return self.body(x)

class Telling(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = make()

    def forward(self, x):
        import sys
        import time
        print("forward", file=sys.stderr, flush=True)
        time.sleep(0.1)
        return self.body(x)

class Curious(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient

class Strange(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = make()

    def forward(self, x):
        return self.body(Curious.apply(x))
"""


class Ran(NamedTuple):
    """What one run of the command line left."""

    code: int
    out: str
    err: str


@pytest.fixture
def pellucid(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run the command line in this process."""

    def run(*words: str | Path) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        out, err = capfd.readouterr()
        return Ran(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, made the current one, with a model (tiny.py), its labels, its preprocessing and three photos."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "tiny", raising=False)
    (tmp_path / "tiny.py").write_text(TINY, encoding="utf-8")
    (tmp_path / "labels.txt").write_text("cat\ndog\nwell-read owl\n", encoding="utf-8")
    fields = {"resize": 24, "crop": 24, "mean": [0.5], "std": [0.5]}
    (tmp_path / "prep.json").write_text(json.dumps(fields), encoding="utf-8")
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"photo{number}.png")
    return tmp_path


MODEL = ("python:tiny:make", "--labels", "labels.txt", "--preprocess", "prep.json")
