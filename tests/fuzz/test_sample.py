"""A sample of the spoilt files of `make fuzz`, and the fuzzer caught by itself."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from pellucid.errors import FileError, PellucidError
from tests.fuzz import run
from tests.fuzz.mutations import GIANTS, mutated
from tests.fuzz.readers import Reader, readers

CASES = 300


def test_spoilt_files_end_in_clear_errors(tmp_path: Path) -> None:
    failures, kinds = [], Counter[str]()
    for _, reader, failure, _ in run.cases(tmp_path, range(CASES)):
        kinds[reader.name] += 1
        failures += [failure] if failure else []
    assert failures == []
    assert len(kinds) >= 12


def test_sound_files_are_read(tmp_path: Path) -> None:
    refused = []
    for reader in readers(tmp_path):
        for seed in reader.seeds:
            path = tmp_path / f"sound{reader.suffix}"
            path.write_bytes(seed)
            try:
                reader.read(path)
            except PellucidError as error:
                refused.append(str(error))
    # Two of the seeds are refused for what they hold, not as damaged.
    assert len(refused) == 2
    assert any("model.eval()" in text for text in refused)
    assert any("must hold real numbers" in text for text in refused)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (KeyError("x"), "KeyError"),
        (FileError("no"), "2 letters"),
        (MemoryError(), "MemoryError"),
        (None, "longer than"),
    ],
)
def test_a_parser_with_a_fault_is_caught(tmp_path: Path, monkeypatch, fault: Exception | None, said: str) -> None:
    def read(path: Path) -> None:
        if fault is not None:
            raise fault
        while True:
            pass

    monkeypatch.setattr(run, "SECONDS", 0.05)
    monkeypatch.setattr(run, "readers", lambda folder: [Reader("faulty", ".txt", read, (b"x",))])
    ((_, _, failure, _),) = run.cases(tmp_path, range(1))
    assert failure is not None
    assert said in failure.what


def test_mutations_reach_what_they_are_for() -> None:
    """Most spoilt JSON still parses, numbers become giant, and a number of a case always gives the same file."""
    seed = json.dumps({"nodes": [{"op": "null", "inputs": [[0, 0]]}], "shape": [2, 3]}).encode()
    made = [mutated(seed, random.Random(number)) for number in range(300)]
    assert made == [mutated(seed, random.Random(number)) for number in range(300)]
    assert len(set(made)) > 250
    parsed = 0
    for data in made:
        try:
            json.loads(data)
        except (ValueError, RecursionError):
            continue
        parsed += 1
    assert 40 < parsed < 280
    assert any(str(number).encode() in data for data in made for number in GIANTS if number > 2**30)
