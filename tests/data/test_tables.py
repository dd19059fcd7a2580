from __future__ import annotations

import sys

import pytest
import torch

from pellucid.data import read_data, read_input
from pellucid.errors import FileError, InputError, MissingDependencyError

pandas = pytest.importorskip("pandas")


@pytest.fixture(params=["csv", "tsv", "parquet"])
def path(request, tmp_path):
    table = pandas.DataFrame(
        {"age": [1, 2, 3], "height": [0.5, 1.5, 2.5], "male": [True, False, True], "kind": list("aba")}
    )
    place = tmp_path / f"table.{request.param}"
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
        table.to_parquet(place)
    else:
        table.to_csv(place, sep="\t" if request.param == "tsv" else ",", index=False)
    return place


def test_numbers_and_labels(path) -> None:
    batch = read_data(path, label="kind")
    assert torch.equal(batch.x, torch.tensor([[1, 0.5, 1], [2, 1.5, 0], [3, 2.5, 1]]))
    assert batch.columns == ("age", "height", "male")
    assert batch.labels == ("a", "b", "a")
    assert (batch.names, batch.kind) == (("0", "1", "2"), "table")
    assert read_data(path, label="kind", limit=2).x.shape == (2, 3)


def test_columns_without_numbers_are_listed(path) -> None:
    with pytest.raises(FileError, match="do not: kind"):
        read_input(path)
    with pytest.raises(InputError, match=r"no column 'kidn' .did you mean kind"):
        read_data(path, label="kidn")


def test_gaps_are_listed(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("x,y,z\n1,,3\n4,5,\n")
    with pytest.raises(FileError, match="gaps: y, z"):
        read_input(tmp_path / "a.csv")


def test_an_index_names_the_rows(tmp_path) -> None:
    pandas.DataFrame({"x": [1.0, 2.0]}, index=["ann", "bob"]).to_csv(tmp_path / "a.csv")
    batch = read_input(tmp_path / "a.csv")
    assert (batch.names, batch.columns) == (("ann", "bob"), ("x",))


def test_many_columns_are_shortened(tmp_path) -> None:
    names = [f"c{index}" for index in range(30)]
    (tmp_path / "a.csv").write_text(",".join(names) + "\n" + ",".join(["word"] * 30) + "\n")
    with pytest.raises(FileError, match="c9 and 20 more"):
        read_input(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x,y\n",
        b"\n\n",
        b"x,y\n1,2\n3,4,5\n",
        b"x,y\n1,2,3\n4,5,6\n",
        b'x,y\n"1,2\n',
        b"x,y\n\xff\xfe,2\n",
        b"\x89PNG\r\n\x1a\n\x00\x00",
        b"PAR1 cut",
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_is_no_table_is_named(tmp_path, content: bytes, suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / f"odd.{suffix}").write_bytes(content)
    with pytest.raises(FileError, match=rf"odd\.{suffix}"):
        read_input(tmp_path / f"odd.{suffix}")


def test_repeated_columns(tmp_path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.Table.from_arrays([pyarrow.array([1]), pyarrow.array([2])], names=["x", "x"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(FileError, match="x stand for several"):
        read_input(tmp_path / "a.parquet")


def test_declared_cells_are_limited(tmp_path, monkeypatch) -> None:
    pytest.importorskip("pyarrow")
    pandas.DataFrame({"x": range(100)}).to_parquet(tmp_path / "a.parquet")
    monkeypatch.setattr("pellucid.data.tables.MOST_CELLS", 99)
    with pytest.raises(FileError, match="declares 100 cells"):
        read_input(tmp_path / "a.parquet")


def test_truncated_parquet(tmp_path) -> None:
    pytest.importorskip("pyarrow")
    pandas.DataFrame({"x": range(100)}).to_parquet(tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    for part in (content[:-20], content[:40] + content[80:], content[:9]):
        (tmp_path / "cut.parquet").write_bytes(part)
        with pytest.raises(FileError, match=r"cut\.parquet"):
            read_input(tmp_path / "cut.parquet")


def test_a_missing_library_names_the_extra(tmp_path, monkeypatch) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match=r"a\.csv.*pellucid\[tables\]"):
        read_input(tmp_path / "a.csv")


def test_a_label_needs_a_table(tmp_path) -> None:
    (tmp_path / "a.npy").write_bytes(b"x")
    with pytest.raises(InputError, match="column of a table"):
        read_data(tmp_path / "a.npy", label="y")
