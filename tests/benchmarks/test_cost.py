"""The cost benchmarks run and write what they promise; no time is judged here."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

pytest.importorskip("torchvision")

from benchmarks import memory, speed, subjects


def test_gradient_is_of_the_classes_explained():
    subject = subjects.make("tiny", batch=2)
    assert subject.targets == subject.logits(subject.x).argmax(1).tolist()
    assert subjects.gradient(subject).shape == subject.x.shape
    assert all(not parameter.requires_grad for parameter in subject.model.parameters())


def test_speed_writes_ratios_shadow_and_goals(tmp_path: Path):
    path = tmp_path / "speed.csv"
    options = ["--models", "tiny", "--methods", "pellucid eps*", "--rounds", "2", "--batch", "2", "--output", str(path)]
    speed.main(options)
    with path.open(encoding="utf-8") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert float(rows["gradient"]["ratio"]) == 1
    assert float(rows["pellucid epsilon"]["ratio"]) > 0
    assert float(rows["pellucid shadow, once"]["seconds"]) > 0
    assert float(rows["pellucid epsilon, ten targets / ten calls"]["ratio"]) > 0
    assert rows["pellucid epsilon"]["machine"]


def test_goals_are_set_for_our_rows_only():
    assert subjects.goal("vgg16", "pellucid epsilon") == "1.1"
    assert subjects.goal("vgg16", "zennit epsilon") == ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_of_the_gradient_covers_its_activations(tmp_path: Path):
    path = tmp_path / "memory.csv"
    memory.main(["--models", "tiny", "--methods", "pellucid epsilon", "--batch", "256", "--output", str(path)])
    with path.open(encoding="utf-8") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    activations = 256 * 8 * 14 * 14 * 4 / 2**20
    assert float(rows["gradient"]["mebibytes"]) > activations
    assert float(rows["pellucid epsilon"]["ratio"]) > 0
