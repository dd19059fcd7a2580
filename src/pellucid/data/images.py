"""Photos: one file, a folder of them, or the demonstration's cat."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from pellucid.data.batch import Batch
from pellucid.errors import FileError, InputError, require
from pellucid.models.files import reason, regular_file
from pellucid.models.preprocessing import Preprocessing

logger = logging.getLogger(__name__)

# Only these are opened: other formats of Pillow start programs (EPS), fetch, or are seldom tested.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        *("png", "jpg", "jpeg", "jpe", "jfif", "mpo", "webp", "avif"),
        *("bmp", "gif", "tif", "tiff", "ppm", "pgm", "pbm", "pnm"),
    )
)
MOST_PIXELS = 80_000_000  # of one picture; a decoded pixel takes 3 or 4 bytes
MOST_PHOTOS_PIXELS = 2**28  # of all photos of one call; as float32 of three channels 3 GiB


def read_image(path: str | Path) -> Image.Image:
    """Return a photo as an upright RGB (or L) picture of 8 bits.

    The camera's rotation is applied. Palettes and CMYK become RGB, 16 bits become 8, and what is transparent shows
    white, as in a viewer. Of an animation the first picture is taken.

    Raises:
        FileError: missing, empty, truncated or corrupt, no picture, or over 80 million pixels.
    """
    place = regular_file(path)
    Image.init()  # fills Image.OPEN; an older Pillow lacks some formats
    try:
        with Image.open(place, formats=[name for name in FORMATS if name in Image.OPEN]) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise FileError(
                    f"{path} has {picture.width} x {picture.height} pixels, over the limit of {MOST_PIXELS:,} "
                    "(a small file can unpack to all memory). Make it smaller first."
                )
            picture.load()
            return _upright_rgb(picture, path)
    except FileError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise FileError(f"{path} has too many pixels and is refused: {reason(error)}. Make it smaller.") from error
    except UnidentifiedImageError as error:
        raise FileError(
            f"{path} must be a picture ({', '.join(FORMATS)}), but its content is none that can be read. "
            "Its extension may be wrong, or it is damaged."
        ) from error
    except Exception as error:  # decoders raise nearly every kind on damaged files
        raise FileError(f"{path} is a truncated or corrupt picture: {reason(error)}.") from error


def read_photos(
    paths: Sequence[Path],
    *,
    preprocessing: Preprocessing | None = None,
    names: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
) -> Batch:
    """Return a batch of the photos in ``paths``, by default named as the files; see :func:`images_to_batch`."""
    pictures = [functools.partial(read_image, path) for path in paths]
    chosen = names or [path.name for path in paths]
    return images_to_batch(pictures, names=chosen, preprocessing=preprocessing, labels=labels)


def images_to_batch(
    pictures: Sequence[Callable[[], Image.Image]],
    *,
    names: Sequence[str],
    preprocessing: Preprocessing | None = None,
    labels: Sequence[str] | None = None,
) -> Batch:
    """Return the pictures as one tensor ``(N, C, H, W)``; without a preprocessing their pixels as 0..1.

    Args:
        pictures: one function per picture, so that only one full-sized picture is in memory at a time.
        names: one per picture.
        preprocessing: what the model expects.
        labels: one per picture.

    Raises:
        InputError: the tensors differ in shape, or would take too much memory together.
    """
    prepare = preprocessing or Preprocessing()
    tensors, displays = [], []
    for make, name in zip(pictures, names, strict=True):
        picture = make()
        tensors.append(prepare(picture))
        displays.append(prepare.display(picture))
        if tensors[-1].shape != tensors[0].shape:
            raise InputError(
                f"the photos of one batch must come out in one size, but {name} gives {tuple(tensors[-1].shape)} and "
                f"{names[0]} {tuple(tensors[0].shape)}. Use a preprocessing with a crop (preprocess={{'resize': 256, "
                "'crop': 224}}), or read them one by one."
            )
        if len(tensors) * tensors[0][0].numel() > MOST_PHOTOS_PIXELS:
            raise InputError(
                f"the {len(names)} photos hold over {MOST_PHOTOS_PIXELS:,} pixels after the preprocessing. Read fewer."
            )
    return Batch(
        torch.stack(tensors), tuple(names), tuple(displays), "image", None if labels is None else tuple(labels)
    )


def demo_image() -> Image.Image:
    """Return scikit-image's photo of the cat Chelsea, 451 x 300 pixels."""
    data = require("skimage.data", extra="demo", caller="the input 'demo'")
    return Image.fromarray(data.chelsea())


def photos_in(folder: Path) -> list[Path]:
    """Return the photos of a folder by their extensions, sorted by name; hidden files are left out.

    Raises:
        FileError: the folder cannot be listed.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise FileError(f"{folder} must be a readable folder, but cannot be listed: {reason(error)}.") from error
    photos = [
        Path(entry.path)
        for entry in entries
        if not entry.name.startswith(".") and Path(entry.name).suffix.lower() in EXTENSIONS
    ]
    logger.debug("%s: %d of %d entries are photos", folder, len(photos), len(entries))
    return photos


def _upright_rgb(picture: Image.Image, path: str | Path) -> Image.Image:
    try:
        upright = ImageOps.exif_transpose(picture)
    except Exception:  # damaged metadata must not hide a sound picture
        logger.warning("%s: its metadata are damaged, so a rotation noted there is not applied", path)
        upright = picture
    if upright.mode.startswith("I") or upright.mode == "F":
        return _from_wide(upright, path)
    if upright.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return upright.copy() if upright.mode in ("RGB", "L") else upright.convert("RGB")


def _from_wide(picture: Image.Image, path: str | Path) -> Image.Image:
    """Return 8 bits of a grey picture of 16; Pillow's own conversion would clip at 255."""
    values = np.asarray(picture)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise FileError(
            f"{path} holds {values.dtype} values from {values.min()} to {values.max()}, which have no fixed white. "
            "Save it with 8 or 16 bits, or its array as .npy."
        )
    return Image.fromarray(np.round(values / 257).astype(np.uint8))
