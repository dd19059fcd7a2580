from __future__ import annotations

import pytest

from pellucid.errors import FileError, InputError
from pellucid.models.labels import full_names, imagenet_names, read_labels

pytestmark = pytest.mark.core


def test_imagenet_has_a_thousand_names_in_order() -> None:
    names = imagenet_names()
    assert len(names) == 1000
    assert names[0] == "tench, Tinca tinca"
    assert names[281] == "tabby, tabby cat"
    assert names[285] == "Egyptian cat"
    assert names[999].startswith("toilet tissue")


def test_equals_torchvisions_classes() -> None:
    models = pytest.importorskip("torchvision.models")
    short = models.ResNet18_Weights.DEFAULT.meta["categories"]
    assert full_names(short) == imagenet_names()
    assert full_names(short[:10]) == tuple(short[:10])
    assert full_names(list(reversed(short))) == tuple(reversed(short))


@pytest.mark.parametrize(
    "text", ["cat\ndog\n", "cat\r\ndog", "\ufeffcat\ndog\n\n", '["cat", "dog"]', ' {"1": "dog", "0": "cat"}']
)
def test_the_three_forms(tmp_path, text: str) -> None:
    path = tmp_path / "labels"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_labels(path) == ("cat", "dog")
    assert read_labels(str(path)) == ("cat", "dog")
    assert read_labels(["cat", "dog"]) == ("cat", "dog")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cat\n\ndog\n", "class 1"),
        ("[1, 2]", "class 0"),
        ("[]", "from 1 to"),
        ('["cat"', "JSON"),
        ('{"0": "cat", "2": "dog"}', "0 to 1"),
        ('{"cat": 0}', "indices"),
        ("\n", "from 1 to"),
    ],
)
def test_broken_files_are_named(tmp_path, text: str, said: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(text)
    with pytest.raises(FileError, match=said) as caught:
        read_labels(path)
    assert "labels.txt" in str(caught.value)


def test_binary_is_no_text(tmp_path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(FileError, match="UTF-8"):
        read_labels(path)


def test_a_sequence_of_others_is_refused() -> None:
    with pytest.raises(InputError, match="class 1"):
        read_labels(["cat", 3])  # type: ignore[list-item]
