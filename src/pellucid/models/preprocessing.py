"""From a PIL image to the tensor that a model expects, as a value that can be compared, printed and kept as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pellucid.errors import FileError, InputError
from pellucid.models.files import read_text

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
FITS = ("cover", "contain", "stretch")
CHANNELS = {"RGB": 3, "BGR": 3, "L": 1}
LARGEST_SIDE = 16384  # pixels; a typing error in a JSON file must not ask for all memory


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop at the centre, scale to numbers, normalise: ``(pixel * scale - mean) / std``.

    Called on a PIL image it returns a float32 tensor ``(C, H, W)``. Without ``resize`` and ``crop`` the picture keeps
    its size.

    Args:
        resize: the size in pixels before the crop. One number with ``fit="cover"`` is the shorter side, with
            ``"contain"`` the longer one, with ``"stretch"`` both; a pair is (height, width).
        crop: (height, width) cut from the centre; what lies outside the picture is filled. One number is a square.
        mean: per channel, in units of the scaled pixel; one number serves all channels.
        std: per channel, in units of the scaled pixel; one number serves all channels.
        interpolation: ``nearest``, ``bilinear``, ``bicubic``, ``lanczos``, ``box`` or ``hamming``, as Pillow does them.
        channels: ``RGB``, ``BGR`` or ``L`` (one grey channel).
        scale: factor from 0..255 to the model's units.
        fit: ``cover`` keeps the proportions and covers the size, ``contain`` keeps them and stays inside it,
            ``stretch`` does not keep them.
        fill: colour of what the crop adds, 0..255, one per channel of the picture.

    Raises:
        InputError: a field is out of range; the text names it.
    """

    resize: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    interpolation: str = "bilinear"
    channels: str = "RGB"
    scale: float = 1 / 255
    fit: str = "cover"
    fill: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("interpolation", self.interpolation, tuple(INTERPOLATIONS)),
            ("channels", self.channels, tuple(CHANNELS)),
            ("fit", self.fit, FITS),
        ):
            if value not in choices:
                raise InputError(f"Preprocessing: {name} must be one of {', '.join(choices)}, but is {value!r}.")
        if self.resize is not None and not isinstance(self.resize, int):
            object.__setattr__(self, "resize", _pair("resize", self.resize))
        elif self.resize is not None:
            _pair("resize", self.resize)
        if self.crop is not None:
            object.__setattr__(self, "crop", _pair("crop", self.crop))
        for name in ("mean", "std", "fill"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name), CHANNELS[self.channels]))
        if any(value == 0 for value in self.std):
            raise InputError(f"Preprocessing: std must not be zero, but is {self.std}.")
        if any(not 0 <= value <= 255 or value != int(value) for value in self.fill):
            raise InputError(f"Preprocessing: fill must hold whole numbers from 0 to 255, but is {self.fill}.")
        object.__setattr__(self, "fill", tuple(int(value) for value in self.fill))
        if not _is_number(self.scale) or self.scale <= 0:
            raise InputError(f"Preprocessing: scale must be positive (1/255 gives 0..1), but is {self.scale!r}.")

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the tensor ``(C, H, W)``, float32, that the model is to see for a PIL ``image``."""
        pixels = np.array(self._cropped(image), dtype=np.uint8)
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        if self.channels == "BGR":
            pixels = pixels[:, :, ::-1]
        x = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).to(torch.float32)
        # 1/255 is meant as a division: x * (1 / 255) differs from x / 255 in the last bit, and libraries divide.
        x = x / 255 if self.scale == 1 / 255 else x * self.scale
        mean, std = (torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (self.mean, self.std))
        return (x - mean) / std

    def display(self, image: Image.Image) -> Image.Image:
        """Return the resized and cropped picture that the tensor shows, mode RGB, (H, W) as the tensor's."""
        return self._cropped(image).convert("RGB")

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """The lowest and highest value per channel that the tensor can hold (black and white)."""
        return tuple(
            ((0 - mean) / std, (255 * self.scale - mean) / std) for mean, std in zip(self.mean, self.std, strict=True)
        )

    @property
    def input_range(self) -> tuple[float, float]:
        """The lowest and highest value over all channels."""
        values = [value for pair in self.bounds for value in pair]
        return min(values), max(values)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-able values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Preprocessing:
        """Build from :meth:`to_dict`'s result, or from any part of it.

        Raises:
            InputError: a field is unknown or out of range.
        """
        known = tuple(field.name for field in dataclasses.fields(cls))
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise InputError(f"Preprocessing: unknown fields {unknown}; there are {', '.join(known)}.")
        return cls(**fields)

    @classmethod
    def from_file(cls, path: str | Path) -> Preprocessing:
        """Read a JSON object with the fields of :meth:`to_dict`.

        Raises:
            FileError: the file is missing, no JSON, or holds unusable fields.
        """
        text = read_text(path)
        try:
            fields = json.loads(text)
        except ValueError as error:
            raise FileError(f"{path} must hold the preprocessing as a JSON object, but is no JSON: {error}.") from error
        except RecursionError as error:
            raise FileError(f"{path} must hold the preprocessing as a JSON object, but nests too deeply.") from error
        if not isinstance(fields, dict):
            raise FileError(
                f"{path} must hold the preprocessing as a JSON object like "
                f'{{"resize": 256, "crop": 224, "mean": [0.5], "std": [0.5]}}, but holds a {type(fields).__name__}.'
            )
        try:
            return cls.from_dict(fields)
        except InputError as error:
            raise FileError(f"{path}: {error}") from error

    def _cropped(self, image: Image.Image) -> Image.Image:
        picture = image.convert("L" if self.channels == "L" else "RGB")
        if self.resize is not None:
            size = self._resized(*picture.size)
            if size != picture.size:
                picture = picture.resize(size, INTERPOLATIONS[self.interpolation])
        if self.crop is None or (picture.height, picture.width) == self.crop:
            return picture
        return _centre(picture, self.crop, self.fill)

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) after the resize, rounded as torchvision does for one number, as timm for a pair."""
        if isinstance(self.resize, int):
            if self.fit == "stretch":
                return self.resize, self.resize
            shorter, longer = min(width, height), max(width, height)
            if self.fit == "cover":
                sides = self.resize, int(self.resize * longer / shorter)
            else:
                sides = max(1, int(self.resize * shorter / longer)), self.resize
            new = sides if width <= height else (sides[1], sides[0])
        else:
            rows, columns = self.resize or (height, width)
            if self.fit == "stretch":
                return columns, rows
            ratios = height / rows, width / columns
            ratio = min(ratios) if self.fit == "cover" else max(ratios)
            new = max(1, round(width / ratio)), max(1, round(height / ratio))
        if max(new) > LARGEST_SIDE:
            raise InputError(
                f"a picture of {width} x {height} pixels would grow to {new[0]} x {new[1]} by resize={self.resize}; "
                f"at most {LARGEST_SIDE} pixels a side are made. Use fit='contain' or a picture of other proportions."
            )
        return new


def _centre(picture: Image.Image, crop: tuple[int, int], fill: tuple[int, ...]) -> Image.Image:
    """Cut ``crop`` (height, width) from the centre, filling what lies outside; halves round as in torchvision."""
    rows, columns = crop
    if picture.height < rows or picture.width < columns:
        left, top = max(0, (columns - picture.width) // 2), max(0, (rows - picture.height) // 2)
        colour = fill[0] if picture.mode == "L" else (fill[0], fill[1], fill[2])
        canvas = Image.new(picture.mode, (max(columns, picture.width), max(rows, picture.height)), colour)
        canvas.paste(picture, (left, top))
        picture = canvas
    top, left = round((picture.height - rows) / 2.0), round((picture.width - columns) / 2.0)
    return picture.crop((left, top, left + columns, top + rows))


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _pair(name: str, value: object) -> tuple[int, int]:
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in values)
    if len(values) != 2 or not whole or not all(1 <= side <= LARGEST_SIDE for side in values):
        raise InputError(
            f"Preprocessing: {name} must be a number of pixels or a pair (height, width), from 1 to {LARGEST_SIDE}, "
            f"but is {value!r}."
        )
    return values[0], values[1]


def _numbers(name: str, value: object, channels: int) -> tuple[float, ...]:
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if len(values) not in (1, channels) or not all(_is_number(each) for each in values):
        raise InputError(
            f"Preprocessing: {name} must hold one finite number or {channels}, one per channel, but is {value!r}."
        )
    return tuple(float(each) for each in values) * (channels // len(values))
