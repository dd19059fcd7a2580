"""``pellucid explain`` from words to files: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import pellucid as library
from tests.cli.conftest import MODEL, Ran

pytestmark = pytest.mark.core

Run = Callable[..., Ran]


def explain(run: Run, place: str | Path, *more: str | Path) -> Ran:
    return run("explain", MODEL[0], place, *MODEL[1:], *more)


def test_one_photo_gives_prediction_ledger_and_files(pellucid: Run, place: Path) -> None:
    ran = explain(pellucid, "photos/photo0.png", "--output", "made/here")
    assert ran.code == 0, ran.err
    for word in ("Prediction", "well-read owl", "%", "Explained scalar: ", "lrp", "unaccounted"):
        assert word in ran.out
    made = place / "made" / "here"
    assert sorted(path.name for path in made.iterdir()) == ["photo0.pellucid", "photo0.png", "report.html"]
    for path in made.iterdir():
        assert path.name in ran.out
    with Image.open(made / "photo0.png") as picture:
        assert picture.width > 100
    page = (made / "report.html").read_text(encoding="utf-8")
    assert "photo0.png" in page
    assert "unaccounted" in page
    assert "http" not in page.split("<body>")[1].split("<footer")[0].replace("https://arxiv.org", "")


def test_the_printed_scalar_is_the_saved_one(pellucid: Run, place: Path) -> None:
    ran = explain(pellucid, "photos/photo1.png", "--target", "dog~cat", "--output", "o")
    saved = library.load(place / "o" / "photo1.pellucid")
    assert f"= {float(saved.output[0]):.6g}" in ran.out
    assert saved.target[0] in ran.out
    assert saved.relevance.shape == (1, 3, 24, 24)


def test_json_is_one_document_and_nothing_else(pellucid: Run, place: Path) -> None:
    ran = explain(pellucid, "photos", "--json", "--output", "o")
    assert ran.code == 0, ran.err
    document = json.loads(ran.out)
    assert [done["input"] for done in document["inputs"]] == ["photo0.png", "photo1.png", "photo2.png"]
    first = document["inputs"][0]
    assert sum(guess["probability"] for guess in first["predictions"][0]) == pytest.approx(1)
    assert {guess["name"] for guess in first["predictions"][0]} == {"cat", "dog", "well-read owl"}
    assert first["explanations"][0]["method"] == "lrp"
    assert first["explanations"][0]["ledger"]["entries"]
    assert all((place / path).is_file() for path in [*first["files"], document["report"]])


def test_settings_reach_the_explanation(pellucid: Run, place: Path) -> None:
    ran = explain(pellucid, "photos/photo0.png", "--composite", "epsilon", "--dtype", "float64", "--layer", "0",
                  "--layer", "2", "--target", "1", "--output", "o")  # fmt: skip
    assert ran.code == 0, ran.err
    saved = library.load(place / "o" / "photo0.pellucid")
    assert saved.settings["composite"] == "epsilon"
    assert set(saved.layers) == {"0", "2"}
    assert str(saved.output.dtype) == "torch.float64"


def test_several_targets_give_several_files(pellucid: Run, place: Path) -> None:
    ran = explain(pellucid, "photos/photo0.png", "--targets", "cat", "--targets", "well-read owl", "--output", "o")
    assert ran.code == 0, ran.err
    names = sorted(path.name for path in (place / "o").glob("*.pellucid"))
    assert names == ["photo0-0-cat.pellucid", "photo0-2-well-read-owl.pellucid"]


def test_photos_of_one_stem_do_not_overwrite_each_other(pellucid: Run, place: Path) -> None:
    photos = place / "photos"
    Image.new("RGB", (30, 30), "red").save(photos / "photo0.bmp")
    assert explain(pellucid, "photos", "--output", "o").code == 0
    assert len(list((place / "o").glob("*.pellucid"))) == 4


def test_a_corrupt_file_of_a_folder_is_passed_over_and_told(pellucid: Run, place: Path) -> None:
    (place / "photos" / "photo1.png").write_bytes(b"\x89PNG nothing more")
    ran = explain(pellucid, "photos", "--output", "o")
    assert ran.code == 2
    assert "photo1.png" in ran.err
    assert "1 of 3 inputs" in ran.err
    assert {path.stem for path in (place / "o").glob("*.pellucid")} == {"photo0", "photo2"}
    assert "photo2.png" in (place / "o" / "report.html").read_text(encoding="utf-8")


def test_ctrl_c_keeps_what_is_done(pellucid: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = library.explain

    def interrupted(*given: object, **options: object) -> object:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given, **options)

    monkeypatch.setattr(library, "explain", interrupted)
    ran = explain(pellucid, "photos", "--output", "o")
    assert ran.code == 130
    assert "1 of 3 inputs are done" in ran.err
    assert {path.name for path in (place / "o").iterdir()} == {"photo0.pellucid", "photo0.png", "report.html"}


def test_ctrl_c_within_a_method_keeps_its_estimate(pellucid: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = library.explain

    def interrupted(*given: object, **options: object) -> object:
        calls.append(options)
        found = real(*given, **options)
        if len(calls) == 2:
            marked = replace(found, settings={**found.settings, "partial": True})
            raise library.Interrupted("stopped", marked)
        return found

    monkeypatch.setattr(library, "explain", interrupted)
    ran = explain(pellucid, "photos", "--output", "o", "--json")
    assert ran.code == 130
    assert callable(calls[0]["progress"])
    assert "1 of 3 inputs are done and kept in o; the estimate so far of photo1.png is in" in ran.err
    assert {path.name for path in (place / "o").iterdir()} == {
        "photo0.pellucid", "photo0.png", "report.html", "photo1-partial.pellucid", "photo1-partial.png"
    }  # fmt: skip
    assert library.load(place / "o" / "photo1-partial.pellucid").settings["partial"] is True
    document = json.loads(ran.out)
    assert [done["input"] for done in document["inputs"]] == ["photo0.png"]
    assert document["partial"]["input"] == "photo1.png"


def test_settings_of_the_method(pellucid: Run, place: Path) -> None:
    words = "--method", "integrated-gradients", "--set", "steps=4", "--set", "baseline=mean"
    ran = explain(pellucid, "photos/photo0.png", *words, "--output", "o")
    assert ran.code == 0, ran.err
    saved = library.load(place / "o" / "photo0.pellucid")
    assert (saved.settings["steps"], saved.settings["baseline"]) == (4, "mean")


def test_groups_that_the_user_names(pellucid: Run, place: Path) -> None:
    groups = 'features={"red": [0], "green and blue": [1, 2]}'
    ran = explain(pellucid, "photos/photo0.png", "--method", "exact-shapley", "--set", groups, "--output", "o")
    assert ran.code == 0, ran.err
    saved = library.load(place / "o" / "photo0.pellucid")
    assert saved.settings["feature names"] == ["red", "green and blue"]
    assert saved.details["feature scores"].shape == (1, 2)


def test_array_of_several_samples(pellucid: Run, place: Path) -> None:
    import numpy as np

    np.save(place / "batch.npy", np.random.default_rng(0).normal(size=(2, 3, 24, 24)).astype(np.float32))
    ran = pellucid("explain", "python:tiny:make", "batch.npy", "--output", "o")
    assert ran.code == 0, ran.err
    assert "Predictions" in ran.out
    assert len(library.load(place / "o" / "batch.npy.pellucid")) == 2


def test_a_table_is_explained_with_its_columns_names(pellucid: Run, place: Path) -> None:
    pytest.importorskip("pandas")
    (place / "people.csv").write_text("age,income\n1,2\n3,0.5\n", encoding="utf-8")
    (place / "credit.py").write_text("import torch\ndef make():\n    return torch.nn.Linear(2, 1)\n", encoding="utf-8")
    ran = pellucid("explain", "python:credit:make", "people.csv", "--output", "o")
    assert ran.code == 0, ran.err
    assert "Prediction" not in ran.out  # one output is no classifier
    page = (place / "o" / "report.html").read_text(encoding="utf-8")
    assert "income" in page


def test_an_input_of_another_shape_is_one_line(pellucid: Run, place: Path) -> None:
    pytest.importorskip("pandas")
    (place / "people.csv").write_text("age,income\n1,2\n3,0.5\n", encoding="utf-8")
    ran = pellucid("explain", "python:tiny:make", "people.csv", "--output", "o")
    assert ran.code == 2
    assert ran.err.count("\n") == 1


def test_two_kinds_of_target_at_once_are_refused(pellucid: Run, place: Path) -> None:
    ran = explain(pellucid, "photos", "--target", "cat", "--targets", "dog", "--output", "o")
    assert ran.code == 2
    assert "not both" in ran.err


BAD = {
    "unknown class": (("--target", "cta"), "cat"),
    "class out of range": (("--target", "7"), "7"),
    "unknown composite": (("--composite", "epsilonn"), "epsilon"),
    "unknown method": (("--method", "magic"), "lrp"),
    "unknown setting": (("--set", "steps=4"), "Its settings are: composite"),
    "wrong setting": (("--method", "integrated-gradients", "--set", "steps=x"), "a whole number"),
    "unknown layer": (("--layer", "nowhere"), "nowhere"),
    "dtype": (("--dtype", "int64"), "int64"),
    "dtype that is none": (("--dtype", "load"), "load"),
    "memory": (("--memory", "much"), "much"),
    "keep": (("--keep", "layer3"), "LAYER=UNIT"),
    "scale": (("--scale", "-1"), "above zero"),
    "colour map": (("--cmap", "jet"), "jet"),
    "device": (("--device", "toaster"), "toaster"),
    "labels file": (("--labels", "missing.txt"), "missing.txt"),
    "preprocess file": (("--preprocess", "labels.txt"), "labels.txt"),
}


@pytest.mark.parametrize("words", BAD.values(), ids=BAD)
def test_bad_use_ends_with_2_and_one_line(pellucid: Run, place: Path, words: tuple[tuple[str, ...], str]) -> None:
    ran = explain(pellucid, "photos/photo0.png", *words[0], "--output", "o")
    assert ran.code == 2, ran.err
    assert ran.out == ""
    assert ran.err.count("\n") == 1, ran.err
    assert ran.err.startswith("pellucid: error: ")
    assert words[1] in ran.err


@pytest.mark.parametrize("name", ["nothing.png", "empty", "empty.png", "text.png", "a" * 5000])
def test_bad_input_ends_with_2_and_one_line(pellucid: Run, place: Path, name: str) -> None:
    (place / "empty").mkdir()
    (place / "empty.png").touch()
    (place / "text.png").write_text("no picture at all", encoding="utf-8")
    ran = explain(pellucid, name, "--output", "o")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert name in ran.err


@pytest.mark.parametrize(
    "spec", ["nonsense", "python:tiny:missing", "python:nowhere:make", "torchvision:resnet1888", ""]
)
def test_bad_model_is_one_line(pellucid: Run, place: Path, spec: str) -> None:
    ran = pellucid("explain", spec, "photos", "--output", "o")
    assert ran.code in (1, 2)
    assert ran.err.count("\n") == 1


def test_output_that_is_a_file_is_refused_before_any_work(pellucid: Run, place: Path) -> None:
    ran = pellucid("explain", "nonsense", "photos", "--output", "labels.txt")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert "labels.txt" in ran.err
    assert "--output" in ran.err


def test_a_name_cannot_steer_the_terminal(pellucid: Run, place: Path) -> None:
    (place / "labels.txt").write_text("cat\n\x1b[31mred\x1b[0m\nowl\n", encoding="utf-8")
    ran = explain(pellucid, "photos/photo0.png", "--output", "o", "--target", "1")
    assert "\x1b" not in ran.out + ran.err


def test_an_operation_without_a_rule_ends_with_1(pellucid: Run, place: Path) -> None:
    ran = pellucid("explain", "python:tiny:Strange", "photos/photo0.png", *MODEL[1:], "--output", "o")
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert "Curious" in ran.err
