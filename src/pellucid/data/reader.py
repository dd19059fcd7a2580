"""The one reader: by name or extension to the right kind of batch."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable
from pathlib import Path

from pellucid.data.arrays import read_npy, read_npz
from pellucid.data.batch import Batch
from pellucid.data.images import EXTENSIONS, demo_image, images_to_batch, photos_in, read_photos
from pellucid.data.tables import read_csv, read_parquet
from pellucid.errors import FileError, InputError
from pellucid.models.files import reason, regular_file
from pellucid.models.preprocessing import Preprocessing

logger = logging.getLogger(__name__)

TABLES: dict[str, Callable[..., Batch]] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}
ARRAYS: dict[str, Callable[[Path], Batch]] = {
    ".npy": read_npy,
    ".npz": read_npz,
}
KNOWN = "a photo, a folder of photos, .csv, .tsv, .parquet, .npy, .npz, or the word demo"


def read_input(path_or_name: str | Path, *, preprocessing: Preprocessing | None = None) -> Batch:
    """Read what is to be explained.

    Args:
        path_or_name: a photo, a folder of photos (sorted by name, subfolders not entered), a table (``.csv``, ``.tsv``,
            ``.parquet``), an array (``.npy``, ``.npz``), or ``demo`` (a photo of a cat).
        preprocessing: what the model expects of photos; without one a photo's pixels come as 0..1 in full size.

    Raises:
        FileError: missing, unreadable, corrupt or hostile files; the text names the file.
        InputError: photos of one folder that come out in different sizes.
        MissingDependencyError: a table needs the extra ``tables``, ``demo`` the extra ``demo``.
    """
    if path_or_name == "demo":
        return images_to_batch([demo_image], names=["demo"], preprocessing=preprocessing)
    path = Path(path_or_name)
    if _is_folder(path):
        photos = photos_in(path)
        if not photos:
            raise FileError(f"{path} must be a folder of photos, but holds none directly in it.")
        return read_photos(photos, preprocessing=preprocessing)
    return _read_file(path, preprocessing, None)


def read_data(
    path: str | Path,
    *,
    preprocessing: Preprocessing | None = None,
    label: str | None = None,
    limit: int | None = None,
) -> Batch:
    """Read a data set, with labels where it has some.

    Args:
        path: a folder of photos, or of one subfolder of photos per class (its name is then the label); a table or array
            as for :func:`read_input`.
        preprocessing: what the model expects of photos.
        label: the column of a table that holds the labels.
        limit: read at most so many samples: photos evenly from all classes, otherwise the first rows.

    Raises:
        FileError: missing, unreadable, corrupt or hostile files; the text names the file.
        InputError: an unknown column, a limit under 1, a label where the data are no table.
        MissingDependencyError: a table needs the extra ``tables``.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, but is {limit}.")
    place = Path(path)
    if not _is_folder(place):
        return _first(_read_file(place, preprocessing, label), limit)
    if label is not None:
        raise InputError(
            f"label={label!r} names a column of a table, but {path} is a folder: there subfolders are labels."
        )
    photos, labels = _labelled_photos(place)
    if limit is not None:
        order = _in_turn(labels)[:limit]
        photos, labels = [photos[index] for index in order], [labels[index] for index in order]
    names = [photo.relative_to(place).as_posix() for photo in photos]
    found = labels if any(labels) else None
    return read_photos(photos, preprocessing=preprocessing, names=names, labels=found)


def _read_file(path: Path, preprocessing: Preprocessing | None, label: str | None) -> Batch:
    suffix = path.suffix.lower()
    if suffix in TABLES:
        return TABLES[suffix](path, label=label)
    if label is not None:
        raise InputError(f"label={label!r} names a column of a table, but {path} is none.")
    if suffix in ARRAYS:
        return ARRAYS[suffix](path)
    regular_file(path)  # a missing file is said to be missing, whatever its extension
    if suffix and suffix not in EXTENSIONS:
        raise FileError(f"{path}: the extension {suffix!r} is not known. It must be {KNOWN}.")
    return read_photos([path], preprocessing=preprocessing)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be opened: {reason(error)}.") from error


def _labelled_photos(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the photos directly in ``folder``, or those of its subfolders with their names."""
    photos = photos_in(folder)
    if photos:
        return photos, [""] * len(photos)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        # A link to a folder may lead back up; it is followed once, as the subfolder's own content is not walked.
        classes = [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except OSError as error:
        raise FileError(f"{folder} must be a readable folder, but cannot be listed: {reason(error)}.") from error
    pairs = [(photo, entry.name) for entry in classes for photo in photos_in(Path(entry.path))]
    if not pairs:
        raise FileError(f"{folder} must hold photos, or one subfolder of photos per class, but holds neither.")
    return [photo for photo, _ in pairs], [name for _, name in pairs]


def _in_turn(labels: list[str]) -> list[int]:
    """Return the indices so that classes take turns: the first of each, the second of each, ..."""
    seen: dict[str, int] = {}
    turns = []
    for index, name in enumerate(labels):
        turns.append((seen.get(name, 0), index))
        seen[name] = seen.get(name, 0) + 1
    return [index for _, index in sorted(turns)]


def _first(batch: Batch, limit: int | None) -> Batch:
    if limit is None or limit >= len(batch):
        return batch
    x = batch.x[:limit] if not isinstance(batch.x, dict) else {name: value[:limit] for name, value in batch.x.items()}
    return dataclasses.replace(
        batch,
        x=x,
        names=batch.names[:limit],
        displays=batch.displays and batch.displays[:limit],
        labels=batch.labels and batch.labels[:limit],
    )
