"""``--trust``: a model file that would run code is refused without it, and read with it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Ran

Run = Callable[..., Ran]
MODEL = "torchvision:squeezenet1_1?weights=evil.pt"


class Marks:
    """Unpickled, it makes a folder, as it could have done anything."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.fixture
def mark(place: Path) -> Path:
    """What is there once the code in the file has run."""
    torchvision = pytest.importorskip("torchvision")
    model = torchvision.models.squeezenet1_1(weights=None, num_classes=3)
    torch.save({"state_dict": model.state_dict(), "extra": Marks(str(place / "ran"))}, place / "evil.pt")
    return place / "ran"


@pytest.mark.parametrize("command", ["explain", "check", "compare"])
def test_a_pickle_that_would_run_code_is_refused(pellucid: Run, mark: Path, command: str) -> None:
    ran = pellucid(command, MODEL, "photos/photo0.png")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert "evil.pt is a pickle that would run code when loaded" in ran.err
    assert "pass trust=True (--trust)" in ran.err
    assert not mark.exists()


def test_with_trust_it_is_read(pellucid: Run, mark: Path) -> None:
    ran = pellucid("explain", MODEL, "photos/photo0.png", "--trust", "--target", "1", "--output", "o", "--json")
    assert ran.code == 0, ran.err
    assert mark.is_dir()
    assert json.loads(ran.out)
