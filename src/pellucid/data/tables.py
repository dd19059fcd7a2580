"""Tables: csv through pandas, parquet through pyarrow."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.data.arrays import to_tensor
from pellucid.data.batch import Batch
from pellucid.errors import FileError, InputError, require
from pellucid.models.files import reason, regular_file
from pellucid.models.spec import did_you_mean

MOST_CELLS = 2**29  # 4 GiB as float64


def read_csv(path: str | Path, *, label: str | None = None) -> Batch:
    """Return a csv (or ``.tsv``) file with a header line as a batch ``(rows, columns)``.

    A first column without a name, as pandas writes its index, names the rows.

    Args:
        path: the file, UTF-8.
        label: the column that holds the labels, which is then no input.

    Raises:
        FileError: unreadable or no table; columns that hold no numbers, or gaps (all are listed).
        InputError: there is no column ``label``.
        MissingDependencyError: pandas is not installed.
    """
    place = regular_file(path)
    pandas = require("pandas", extra="tables", caller=f"reading {place.name}")
    separator = "\t" if place.suffix.lower() == ".tsv" else ","
    try:
        _refuse_longer_rows(place, separator)
        table = pandas.read_csv(place, sep=separator, compression=None, low_memory=False)
    except FileError:
        raise
    except Exception as error:  # the parser raises nearly every kind on what is no table
        raise FileError(
            f"{path} must be a table in UTF-8 with a header line, but cannot be read: {reason(error)}."
        ) from error
    if table.shape[1] > 1 and table.columns[0] == "Unnamed: 0":
        table = table.set_index("Unnamed: 0")
    return _batch(table, path, label)


def read_parquet(path: str | Path, *, label: str | None = None) -> Batch:
    """Return a parquet file as a batch ``(rows, columns)``; see :func:`read_csv`.

    Raises:
        FileError: as :func:`read_csv`, or the file declares more than 2**29 cells.
        InputError: there is no column ``label``.
        MissingDependencyError: pyarrow or pandas is not installed.
    """
    place = regular_file(path)
    parquet = require("pyarrow.parquet", extra="tables", caller=f"reading {place.name}")
    require("pandas", extra="tables", caller=f"reading {place.name}")
    try:
        with parquet.ParquetFile(place) as file:
            cells = file.metadata.num_rows * file.metadata.num_columns
            if cells > MOST_CELLS:
                raise FileError(f"{path} declares {cells:,} cells, over the limit of {MOST_CELLS:,}, so it is refused.")
            table = file.read().to_pandas()
    except FileError:
        raise
    except Exception as error:  # as above
        raise FileError(f"{path} is no parquet file or a damaged one: {reason(error)[:300]}.") from error
    return _batch(table, path, label)


def _refuse_longer_rows(path: Path, separator: str) -> None:
    """Refuse a first row with more cells than the header: pandas would silently take its first for an index."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = list(itertools.islice((row for row in csv.reader(file, delimiter=separator) if row), 2))
    if len(first) == 2 and len(first[1]) > len(first[0]):
        raise FileError(f"{path}: its rows hold {len(first[1])} cells, but the header names {len(first[0])} columns.")


def _batch(table: Any, path: str | Path, label: str | None) -> Batch:
    """Return a pandas table as a batch, after looking at every column."""
    columns = [str(column) for column in table.columns]
    table.columns = columns
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise FileError(f"{path}: column names must differ, but {', '.join(repeated)} stand for several.")
    if label is not None and label not in columns:
        raise InputError(f"{path} has no column {label!r}{did_you_mean(label, columns)}; it has {_few(columns)}.")
    inputs = table[[column for column in columns if column != label]]
    if inputs.shape[0] == 0 or inputs.shape[1] == 0:
        raise FileError(f"{path} must hold at least one row and one column of numbers, but is {inputs.shape}.")
    words = [column for column in inputs.columns if inputs[column].dtype.kind not in "fiub"]
    if words:
        raise FileError(
            f"{path}: every input column must hold numbers, but these do not: {_few(words)}. Encode them as numbers, "
            "remove them, or name the one that holds the labels (label=...)."
        )
    gaps = [column for column in inputs.columns if inputs[column].isna().any()]
    if gaps:
        raise FileError(
            f"{path}: every cell must hold a number, but these columns have gaps: {_few(gaps)}. Fill them first."
        )
    x = to_tensor(inputs.to_numpy(dtype=np.float64), str(path))
    labels = None if label is None else tuple(table[label].tolist())
    return Batch(x, tuple(str(name) for name in table.index), None, "table", labels, tuple(inputs.columns))


def _few(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
