"""The .pellucid file: round trips, and files that are damaged or made to harm."""

from __future__ import annotations

import json
import pickle
import random
import struct

import pytest
import safetensors.torch
import torch

from pellucid.archive import FORMAT_VERSION, read_archive
from pellucid.engine.ledger import Entry, Ledger
from pellucid.errors import FileError, InputError
from pellucid.explanation import Explanation
from pellucid.saved import load

pytestmark = pytest.mark.core


def make(relevance=None, **fields):
    values = {
        "relevance": torch.arange(24, dtype=torch.float32).reshape(2, 3, 2, 2) if relevance is None else relevance,
        "output": torch.tensor([1.0, float("nan")]),
        "target": ("tabby~rest", "<b>Ünï \U0001f408"),
        "method": "lrp",
        "settings": {"composite": "auto", "nested": {"values": [1, 2.5, None, True, "a"]}},
        "citation": "@article{a}",
        "warnings": ("careful",),
        "ledger": Ledger(3.0, (Entry("input", "x", 2.5), Entry("bias", "fc", float("inf")))),
    }
    return Explanation(**(values | fields))


def same(first, second):
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first is None and second is None


STRUCTURES = {
    "tensor": torch.ones(2, 3),
    "half": torch.ones(2, 3).bfloat16(),
    "double": torch.ones(2, 3, dtype=torch.float64),
    "nan": torch.tensor([[float("inf"), -0.0], [1.0, 2.0]]),
    "tuple": (torch.ones(2, 3), None, torch.zeros(2, 1, dtype=torch.float16)),
    "dict": {"b": torch.ones(2, 3), "a": torch.zeros(2, 4)},
    "odd names": {
        "": torch.ones(2),
        "a/b c\"'\\\n": torch.zeros(2),
        "__metadata__": torch.ones(2),
        "ключ \U0001f408": torch.ones(2),
    },
    "views of one storage": (torch.arange(6.0)[:4].reshape(2, 2), torch.arange(6.0).reshape(2, 3).t().reshape(2, 3)),
    "strided": torch.arange(12.0).reshape(3, 4).t()[:2],
    "empty": torch.ones(2, 0),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_form_comes_back(name, tmp_path):
    relevance = STRUCTURES[name]
    explanation = make(relevance, layers={"layer3.conv": torch.ones(2, 5), "x": torch.zeros(1)})
    path = tmp_path / "a.pellucid"
    explanation.save(path)
    back = load(path)
    assert same(relevance, back.relevance)
    assert same(dict(explanation.layers), dict(back.layers))
    assert back.target == explanation.target
    assert back.settings == explanation.settings
    assert back.warnings == explanation.warnings
    assert (back.method, back.citation, back.ledger) == (explanation.method, explanation.citation, explanation.ledger)
    assert torch.equal(back.output.isnan(), torch.tensor([False, True]))


def test_shared_storage_is_copied(tmp_path):
    whole = torch.arange(8.0).reshape(2, 4)
    explanation = make((whole, whole, whole[:, 1:]))
    explanation.save(tmp_path / "a")
    assert same(explanation.relevance, load(tmp_path / "a").relevance)


def test_the_input_is_saved_only_when_asked(tmp_path):
    secret = {"ids": torch.tensor([[7, 8], [9, 10]]), "mask": None, "flag": True}
    explanation = make(input=secret)
    explanation.save(tmp_path / "without")
    explanation.save(tmp_path / "with", input=True)
    assert load(tmp_path / "without").input is None
    back = load(tmp_path / "with").input
    assert torch.equal(back["ids"], secret["ids"])
    assert back["mask"] is None
    assert back["flag"] is True
    with pytest.raises(InputError, match="holds no input"):
        make().save(tmp_path / "none", input=True)
    assert not (tmp_path / "none").exists()


def test_an_explanation_without_ledger_stays_without(tmp_path):
    make(ledger=None).save(tmp_path / "a")
    assert load(tmp_path / "a").ledger is None


def test_the_format_version_stands_in_the_metadata(tmp_path):
    make().save(tmp_path / "a")
    with safetensors.safe_open(tmp_path / "a", framework="pt") as file:
        assert file.metadata()["format_version"] == str(FORMAT_VERSION)
        assert set(file.keys()) == {"output", "relevance"}


def test_settings_that_json_cannot_hold_are_refused_and_leave_no_file(tmp_path):
    for change in (
        {"settings": {"model": object()}},
        {"layers": {"lone surrogate \ud800": torch.ones(2)}},
        {"layers": {"sparse": torch.ones(2, 2).to_sparse()}},
    ):
        with pytest.raises(InputError, match="cannot be saved"):
            make(**change).save(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_unwritable_paths_are_file_errors(tmp_path):
    for path in (tmp_path / "missing" / "a", tmp_path):
        with pytest.raises(FileError, match="cannot write"):
            make().save(path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    make(method="old").save(path)

    def fail(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    with pytest.raises(FileError, match="No space left"):
        make(method="new").save(path)
    assert load(path).method == "old"


def test_missing_files_folders_and_impossible_names(tmp_path):
    with pytest.raises(FileError, match="there is no file"):
        load(tmp_path / "a")
    with pytest.raises(FileError, match="is not a file"):
        load(tmp_path)
    with pytest.raises(FileError):
        load("a\0b")


def test_a_file_above_the_limit_is_not_read(tmp_path):
    make().save(tmp_path / "a")
    with pytest.raises(FileError, match="above 100 bytes are not read"):
        load(tmp_path / "a", max_bytes=100)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the file was executed",))


def test_a_pickle_is_refused_unexecuted(tmp_path):
    path = tmp_path / "a.pellucid"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(FileError):
        load(path)
    torch.save({"a": Bomb()}, path)
    with pytest.raises(FileError):
        load(path)


@pytest.mark.parametrize(
    "data", [b"", b"1234567", b"\x00" * 8, b"\xff" * 8, b"\xff" * 100, struct.pack("<Q", 2) + b"{}", b"hello " * 100]
)
def test_what_is_no_such_file_is_refused(data, tmp_path):
    path = tmp_path / "a.pellucid"
    path.write_bytes(data)
    with pytest.raises(FileError):
        load(path)


def test_every_truncation_and_random_damage_is_a_file_error_or_a_sound_result(tmp_path):
    make(input=torch.ones(2, 3), layers={"fc": torch.ones(2, 4)}).save(tmp_path / "a", input=True)
    data = (tmp_path / "a").read_bytes()
    path = tmp_path / "b"
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(FileError):
            load(path)
    dice = random.Random(0)
    refused = 0
    for _ in range(600):
        damaged = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            damaged[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(bytes(damaged))
        try:
            assert isinstance(load(path), Explanation)
        except FileError:
            refused += 1
    assert refused > 300


def _write(path, fields, *, tensors=None, **metadata):
    values = {
        "format": "pellucid",
        "format_version": "1",
        "json": json.dumps({"kind": "explanation", "fields": fields}),
    }
    plain = {"output": torch.ones(1), "relevance": torch.ones(1, 2)} if tensors is None else tensors
    path.write_bytes(safetensors.torch.save(plain, values | metadata))


FIELDS = {
    "relevance": {"kind": "tensor"},
    "input": None,
    "target": ["a"],
    "method": "lrp",
    "settings": {},
    "citation": "",
    "warnings": [],
    "ledger": None,
    "layers": [],
}


def test_the_smallest_file_loads(tmp_path):
    _write(tmp_path / "a", FIELDS)
    assert load(tmp_path / "a").target == ("a",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"relevance": None}, "relevance is missing"),
        ({"relevance": "tensor"}, "form of 'relevance' is unknown"),
        ({"relevance": {"kind": "tuple", "items": 3}}, "form of 'relevance' is unknown"),
        ({"relevance": {"kind": "tuple", "items": [["0"]]}}, "form of 'relevance' is damaged"),
        ({"relevance": {"kind": "tuple", "items": [["0", "tensor"]]}}, "'relevance/0' is missing"),
        ({"input": {"kind": "tensor"}}, "'input' is missing"),
        ({"layers": ["fc"]}, "'layers/fc' is missing"),
        ({"layers": [3]}, "'layers' must be a list of text"),
        ({"target": "a"}, "'target' is missing or not of type list"),
        ({"target": ["a", "b"]}, "one label per sample"),
        ({"method": 3}, "'method' is missing or not of type str"),
        ({"settings": []}, "'settings' is missing or not of type dict"),
        ({"ledger": {"total": 1.0}}, "ledger"),
    ],
)
def test_fields_of_the_wrong_form_are_named(change, message, tmp_path):
    _write(tmp_path / "a", FIELDS | change)
    with pytest.raises(FileError, match=message):
        load(tmp_path / "a")


def test_tensors_that_nothing_refers_to_are_refused(tmp_path):
    _write(
        tmp_path / "a", FIELDS, tensors={"output": torch.ones(1), "relevance": torch.ones(1), "extra": torch.ones(1)}
    )
    with pytest.raises(FileError, match="nothing refers to: extra"):
        load(tmp_path / "a")


def test_relevance_must_be_of_floating_point(tmp_path):
    _write(tmp_path / "a", FIELDS, tensors={"output": torch.ones(1), "relevance": torch.ones(1, dtype=torch.int64)})
    with pytest.raises(FileError, match="floating point"):
        load(tmp_path / "a")


def test_a_newer_format_says_what_to_do(tmp_path):
    _write(tmp_path / "a", FIELDS, format_version="2")
    with pytest.raises(FileError, match=r"format version 2.*Install a newer Pellucid"):
        load(tmp_path / "a")


@pytest.mark.parametrize("version", ["0", "-1", "one", "", "9" * 5000])
def test_a_senseless_version_is_refused(version, tmp_path):
    _write(tmp_path / "a", FIELDS, format_version=version)
    with pytest.raises(FileError):
        load(tmp_path / "a")


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{", "[" * 100_000, '{"kind": 3, "fields": {}}', '{"kind": "explanation"}']
)
def test_hostile_json_is_refused(text, tmp_path):
    _write(tmp_path / "a", FIELDS, json=text)
    with pytest.raises(FileError):
        load(tmp_path / "a")


def test_another_safetensors_file_is_refused(tmp_path):
    safetensors.torch.save_file({"weight": torch.ones(2)}, tmp_path / "weights")
    with pytest.raises(FileError, match=r"not a readable \.pellucid file"):
        load(tmp_path / "weights")


def test_a_file_of_another_kind_is_named(tmp_path):
    make().save(tmp_path / "a")
    with pytest.raises(FileError, match="holds the kind 'explanation'; expected 'surrogate'"):
        read_archive(tmp_path / "a", kinds=("surrogate",))
