from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.errors import FileError, InputError
from pellucid.models import Preprocessing
from pellucid.models.from_timm import _preprocessing as of_timm
from pellucid.models.from_torchvision import _preprocessing as of_torchvision
from pellucid.models.image_processor import preprocessing_of

SIZES = [(451, 300), (300, 451), (97, 224), (224, 224), (33, 31), (641, 233)]


def photo(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.core
def test_pixels_are_scaled_and_normalised_per_channel() -> None:
    image = Image.fromarray(np.array([[[0, 51, 255]]], dtype=np.uint8))
    x = Preprocessing(mean=(0.0, 0.2, 0.5), std=(1.0, 0.5, 0.25))(image)
    assert x.shape == (3, 1, 1)
    assert x.dtype == torch.float32
    assert torch.allclose(x.flatten(), torch.tensor([0.0, 0.0, 2.0]))
    assert Preprocessing(channels="BGR")(image).flatten().tolist() == [1.0, pytest.approx(0.2), 0.0]
    assert Preprocessing(channels="L", scale=1.0)(image).flatten().tolist() == [59.0]


@pytest.mark.core
def test_display_shows_what_the_tensor_holds() -> None:
    prepare = Preprocessing(resize=40, crop=(32, 24), mean=(0.5,), std=(0.25,))
    image = photo(90, 60)
    shown = prepare.display(image)
    assert shown.size == (24, 32)
    restored = (prepare(image) * 0.25 + 0.5) * 255
    assert torch.equal(restored.round().to(torch.uint8), torch.from_numpy(np.array(shown)).permute(2, 0, 1))


@pytest.mark.core
def test_the_image_is_left_as_it_was() -> None:
    image = photo(50, 40)
    before = image.tobytes()
    Preprocessing(resize=20, crop=16)(image)
    assert image.size == (50, 40)
    assert image.tobytes() == before


@pytest.mark.core
def test_bounds_are_reached_by_black_and_white() -> None:
    prepare = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    for level, side in ((0, 0), (255, 1)):
        x = prepare(Image.new("RGB", (2, 2), (level,) * 3))[:, 0, 0].tolist()
        assert x == pytest.approx([pair[side] for pair in prepare.bounds], abs=1e-6)
    assert prepare.input_range == (prepare.bounds[0][0], prepare.bounds[2][1])


@pytest.mark.core
def test_a_picture_smaller_than_the_crop_is_filled() -> None:
    x = Preprocessing(crop=(5, 5), fill=(255, 0, 0), channels="RGB")(Image.new("RGB", (3, 3), "black"))
    assert x[0].sum() == 16
    assert x[1:].sum() == 0


@pytest.mark.core
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"interpolation": "cubic"}, "bicubic"),
        ({"channels": "CMYK"}, "RGB"),
        ({"fit": "crop"}, "cover"),
        ({"resize": 0}, "resize"),
        ({"resize": True}, "resize"),
        ({"resize": (1, 2, 3)}, "resize"),
        ({"crop": 10**9}, "crop"),
        ({"crop": "224"}, "crop"),
        ({"mean": (0.1, 0.2)}, "mean"),
        ({"mean": (float("nan"),)}, "mean"),
        ({"std": (1.0, 0.0, 1.0)}, "std"),
        ({"std": "1"}, "std"),
        ({"fill": (256,)}, "fill"),
        ({"fill": (0.5,)}, "fill"),
        ({"scale": -1}, "scale"),
        ({"scale": None}, "scale"),
        ({"size": 224}, "size"),
    ],
)
def test_unusable_fields_are_named(fields: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        Preprocessing.from_dict(fields)


@pytest.mark.core
def test_an_absurd_enlargement_is_refused() -> None:
    with pytest.raises(InputError, match="proportions"):
        Preprocessing(resize=224)(Image.new("L", (1, 5000)))


@pytest.mark.core
def test_json_round_trip(tmp_path) -> None:
    prepare = Preprocessing(resize=(20, 30), crop=8, mean=(0.1, 0.2, 0.3), interpolation="bicubic", fit="contain")
    path = tmp_path / "p.json"
    path.write_text(json.dumps(prepare.to_dict()))
    assert Preprocessing.from_file(path) == prepare
    assert hash(Preprocessing.from_file(path)) == hash(prepare)


@pytest.mark.core
@pytest.mark.parametrize("text", ["[1]", "{", '{"crop": -1}', '{"what": 1}', "[" * 10**5, "\ufffe"])
def test_a_broken_file_is_named(tmp_path, text: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(FileError, match=r"broken\.json"):
        Preprocessing.from_file(path)


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "efficientnet_b0", "fcn_resnet50", "ssd300_vgg16"])
@pytest.mark.parametrize("size", SIZES)
def test_equals_torchvision(name: str, size: tuple[int, int]) -> None:
    models = pytest.importorskip("torchvision.models")
    entry = models.get_model_weights(name).DEFAULT
    image = photo(*size)
    prepare = of_torchvision(entry)
    assert prepare is not None
    assert torch.allclose(prepare(image), entry.transforms()(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("input_size", [(3, 224, 224), (3, 160, 96)])
@pytest.mark.parametrize("size", SIZES)
def test_equals_timm(crop_mode: str, input_size: tuple[int, int, int], size: tuple[int, int]) -> None:
    timm = pytest.importorskip("timm")
    from timm.data.transforms_factory import transforms_imagenet_eval

    model = torch.nn.Module()
    model.pretrained_cfg = {
        "input_size": input_size,
        "crop_pct": 0.9,
        "crop_mode": crop_mode,
        "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    theirs = transforms_imagenet_eval(
        img_size=input_size[1:],
        crop_pct=0.9,
        crop_mode=crop_mode,
        interpolation="bicubic",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    image = photo(*size)
    prepare = of_timm(timm, model)
    assert prepare is not None
    assert torch.allclose(prepare(image), theirs(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"size": {"height": 40, "width": 56}, "do_normalize": True},
        {"size": {"shortest_edge": 48}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}},
        {"do_resize": False, "do_rescale": True, "do_normalize": False},
    ],
)
def test_equals_transformers(settings: dict[str, object]) -> None:
    transformers = pytest.importorskip("transformers")
    processor = transformers.CLIPImageProcessor(
        **{"do_center_crop": False, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], **settings}
    )
    # Smooth, as photos are: their resize works on tensors and may differ by a step of 255 where ours rounds.
    image = photo(9, 7).resize((90, 70), Image.Resampling.BICUBIC)
    prepare = preprocessing_of(processor)
    assert prepare is not None
    theirs = processor(images=image, return_tensors="pt")["pixel_values"][0]
    assert torch.allclose(prepare(image), theirs, rtol=0, atol=1.01 / 255 / min(prepare.std))


def test_a_processor_with_other_steps_is_left_alone() -> None:
    transformers = pytest.importorskip("transformers")
    assert preprocessing_of(transformers.ConvNextImageProcessor(size={"shortest_edge": 224}, crop_pct=0.875)) is None
