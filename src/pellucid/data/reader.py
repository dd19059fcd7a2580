"""The one reader: by name or content to the right kind of batch."""

from __future__ import annotations

from pathlib import Path

from pellucid.data.batch import Batch
from pellucid.data.images import demo_image, images_to_batch, photos_in, read_photos
from pellucid.errors import FileError
from pellucid.models.preprocessing import Preprocessing


def read_input(path_or_name: str | Path, *, preprocessing: Preprocessing | None = None) -> Batch:
    """Read what is to be explained.

    Args:
        path_or_name: a photo, a folder of photos, or ``demo`` (a photo of a cat).
        preprocessing: what the model expects of photos; without one a photo's pixels come as 0..1 in full size.

    Raises:
        FileError: missing, unreadable, corrupt or hostile files; the text names the file.
    """
    if path_or_name == "demo":
        return images_to_batch([demo_image], names=["demo"], preprocessing=preprocessing)
    path = Path(path_or_name)
    if path.is_dir():
        photos = photos_in(path)
        if not photos:
            raise FileError(f"{path} must be a folder of photos, but holds none.")
        return read_photos(photos, preprocessing=preprocessing)
    return read_photos([path], preprocessing=preprocessing)
