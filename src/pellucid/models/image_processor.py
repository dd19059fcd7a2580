"""A transformers image processor as a Preprocessing, where it does no more than one can say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from pellucid.models.preprocessing import INTERPOLATIONS, Preprocessing

# Settings that add a step of their own; a processor that uses one is left to the caller.
OTHER_STEPS = ("do_pad", "do_reduce_labels", "do_thumbnail", "do_align_long_axis", "do_flip_channel_order", "crop_pct")


def preprocessing_of(processor: Any) -> Preprocessing | None:
    """Return what ``processor`` does to one photo, or None where that is more than resize, crop, scale and normalise.

    Pictures are resized by Pillow; processors that resize tensors differ from it by about one step in 255.
    """
    settings: dict[str, Any] = processor.to_dict()
    if any(settings.get(step) for step in OTHER_STEPS):
        return None
    resize, fit = _resize(settings)
    if settings.get("do_resize") and resize is None:
        return None
    crop = settings.get("crop_size") if settings.get("do_center_crop") else None
    size = (crop["height"], crop["width"]) if isinstance(crop, Mapping) else crop
    scaled = settings.get("do_rescale", True)
    normalised = settings.get("do_normalize", False)
    names = {int(value): name for name, value in INTERPOLATIONS.items()}
    return Preprocessing(
        resize=resize,
        crop=size,
        mean=tuple(settings["image_mean"]) if normalised else (0.0,),
        std=tuple(settings["image_std"]) if normalised else (1.0,),
        interpolation=names[int(settings.get("resample") or Image.Resampling.BILINEAR)],
        scale=float(settings.get("rescale_factor") or 1 / 255) if scaled else 1.0,
        fit=fit,
    )


def _resize(settings: Mapping[str, Any]) -> tuple[int | tuple[int, int] | None, str]:
    size = settings.get("size") if settings.get("do_resize") else None
    if isinstance(size, Mapping) and set(size) == {"height", "width"}:
        return (int(size["height"]), int(size["width"])), "stretch"
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        return int(size["shortest_edge"]), "cover"
    return None, "cover"
