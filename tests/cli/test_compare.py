"""``pellucid compare`` from words to files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pellucid as library
from tests.cli.conftest import MODEL, Ran

pytestmark = pytest.mark.core

Run = Callable[..., Ran]
TWO = ("--method", "lrp", "--method", "gradient")


def compare(run: Run, place: str | Path, *more: str | Path) -> Ran:
    return run("compare", MODEL[0], place, *MODEL[1:], *more)


def test_one_photo_gives_costs_agreement_and_files(pellucid: Run, place: Path) -> None:
    ran = compare(pellucid, "photos/photo0.png", *TWO, "--output", "o", "--target", "dog")
    assert ran.code == 0, ran.err
    for word in ("lrp", "gradient", "Explained scalar: 1 dog", "Spearman"):
        assert word in ran.out
    names = [f"photo0-comparison.{ending}" for ending in ("html", "pellucid", "png")]
    assert sorted(path.name for path in (place / "o").iterdir()) == names
    assert all(name in ran.out for name in names)
    back = library.load(place / "o" / "photo0-comparison.pellucid")
    assert list(back) == ["lrp", "gradient"]
    with Image.open(place / "o" / "photo0-comparison.png") as picture:
        assert picture.width > 3 * 224
    page = (place / "o" / "photo0-comparison.html").read_text(encoding="utf-8")
    assert "photo0.png" in page
    assert "well-read owl" in page


def test_json_is_one_document(pellucid: Run, place: Path) -> None:
    ran = compare(pellucid, "photos/photo1.png", *TWO, "--json", "--output", "o")
    document = json.loads(ran.out)
    assert document["methods"] == ["lrp", "gradient"]
    assert document["agreement"][0][0] == pytest.approx(1)
    assert document["costs"]["gradient"]["gradients"] == 1
    assert all((place / path).is_file() for path in document["files"])


def test_a_folder_is_one_batch(pellucid: Run, place: Path) -> None:
    ran = compare(pellucid, "photos", *TWO, "--output", "o")
    assert ran.code == 0, ran.err
    assert len(list((place / "o").glob("*.png"))) == 3
    assert library.load(place / "o" / "photos-comparison.pellucid").output.shape == (3,)


def test_all_methods_that_fit_where_none_is_named(pellucid: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    real = library.compare

    def few(*given: Any, methods: Any, **options: Any) -> Any:
        asked.append(methods)
        return real(*given, methods=["gradient"], **options)

    monkeypatch.setattr(library, "compare", few)
    assert compare(pellucid, "photos/photo0.png", "--output", "o").code == 0
    assert asked == ["all"]


def test_settings_are_of_a_method(pellucid: Run, place: Path) -> None:
    given = (
        "--method",
        "lrp",
        "--method",
        "integrated-gradients",
        "--set",
        "integrated-gradients.steps=3",
        "--output",
        "o",
    )
    assert compare(pellucid, "photos/photo0.png", *given).code == 0
    back = library.load(place / "o" / "photo0-comparison.pellucid")
    assert back["integrated-gradients"].settings["steps"] == 3
    for word in ("gradient.steps=3", "steps=3", "integrated-gradients.stepz=3", "integrated-gradients"):
        ran = compare(pellucid, "photos/photo0.png", *given[:4], "--set", word, "--output", "o")
        assert ran.code == 2
        assert ran.err.count("\n") == 1
        assert "--set" in ran.err


def test_a_table_is_compared_with_its_columns_names(pellucid: Run, place: Path) -> None:
    pytest.importorskip("pandas")
    (place / "people.csv").write_text("age,income\n1,2\n3,0.5\n", encoding="utf-8")
    (place / "credit.py").write_text("import torch\ndef make():\n    return torch.nn.Linear(2, 1)\n", encoding="utf-8")
    ran = pellucid("compare", "python:credit:make", "people.csv", *TWO, "--output", "o")
    assert ran.code == 0, ran.err
    assert "income" in (place / "o" / "people-comparison.html").read_text(encoding="utf-8")
    assert not list((place / "o").glob("*.png"))


def test_what_was_left_out_is_told(pellucid: Run, place: Path) -> None:
    np.save(place / "row.npy", np.ones((1, 3, 24, 24), dtype=np.float32))
    ran = compare(pellucid, "row.npy", "--method", "gradient", "--method", "lrp", "--target", "cat", "--layer", "0")
    assert ran.code == 0, ran.err
    ran = pellucid("compare", "python:tiny:Strange", "row.npy", *TWO, "--output", "o")
    assert ran.code == 0, ran.err
    assert "Left out" in ran.out
    assert "Curious" in ran.out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--method", "magic"), "magic"),
        (("--target", "cta"), "cat"),
        (("--layer", "nowhere"), "nowhere"),
        (("--cmap", "jet"), "jet"),
        (("--memory", "much"), "much"),
    ],
)
def test_bad_use_ends_with_2_and_one_line(pellucid: Run, place: Path, words: tuple[str, ...], hint: str) -> None:
    ran = compare(pellucid, "photos/photo0.png", *(() if "--method" in words else TWO), *words, "--output", "o")
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert hint in ran.err


def test_ctrl_c_keeps_the_methods_that_are_done(pellucid: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = library.compare

    def interrupted(*given: Any, **options: Any) -> Any:
        raise library.Interrupted("stopped", real(*given, **options))

    monkeypatch.setattr(library, "compare", interrupted)
    ran = compare(pellucid, "photos/photo0.png", *TWO, "--output", "o")
    assert ran.code == 130
    assert "2 methods are done and kept in o" in ran.err
    assert (place / "o" / "photo0-comparison-partial.pellucid").is_file()
    assert (place / "o" / "photo0-comparison-partial.png").is_file()
