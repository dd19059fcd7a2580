from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.data import read_data, read_input
from pellucid.data.images import read_image
from pellucid.errors import FileError, InputError
from pellucid.models import Preprocessing

pytestmark = pytest.mark.core
root_only_reads = pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")


def photo(width: int = 8, height: int = 6, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


def test_a_photo_is_one_sample(tmp_path) -> None:
    photo().save(tmp_path / "a.png")
    batch = read_input(tmp_path / "a.png")
    assert batch.x.shape == (1, 3, 6, 8)
    assert batch.x.dtype == torch.float32
    assert torch.equal(batch.x[0], torch.tensor(pixels(photo())).permute(2, 0, 1) / 255)
    assert (batch.names, batch.kind, len(batch), batch.labels) == (("a.png",), "image", 1, None)
    assert batch.displays[0].tobytes() == photo().tobytes()


def test_a_folder_is_sorted_and_prepared(tmp_path) -> None:
    for index, name in enumerate(["b.jpg", "a.PNG", "c.webp", ".hidden.png", "notes.txt"]):
        photo(20 + index, 30, seed=index).save(tmp_path / name, format="PNG")
    batch = read_input(str(tmp_path), preprocessing=Preprocessing(resize=12, crop=10))
    assert batch.names == ("a.PNG", "b.jpg", "c.webp")
    assert batch.x.shape == (3, 3, 10, 10)
    assert [display.size for display in batch.displays] == [(10, 10)] * 3
    assert torch.equal(batch.x[1], Preprocessing(resize=12, crop=10)(photo(20, 30, seed=0)))
    with pytest.raises(InputError, match=r"b\.jpg .* a\.PNG .*crop"):
        read_input(tmp_path)


def test_subfolders_are_classes(tmp_path) -> None:
    for name, count in (("dog", 3), ("cat", 2), ("empty", 0)):
        (tmp_path / name).mkdir()
        for index in range(count):
            photo(seed=index).save(tmp_path / name / f"{index}.png")
    batch = read_data(tmp_path)
    assert batch.names == ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png", "dog/2.png")
    assert batch.labels == ("cat", "cat", "dog", "dog", "dog")
    assert read_data(tmp_path, limit=3).labels == ("cat", "dog", "cat")
    assert read_data(tmp_path / "dog", limit=2).labels is None
    with pytest.raises(FileError, match="none directly"):
        read_input(tmp_path)
    with pytest.raises(InputError, match="column of a table"):
        read_data(tmp_path, label="y")
    with pytest.raises(InputError, match="at least 1"):
        read_data(tmp_path, limit=0)


def test_a_link_back_up_is_no_endless_walk(tmp_path) -> None:
    (tmp_path / "cat").mkdir()
    photo().save(tmp_path / "cat" / "0.png")
    (tmp_path / "cat" / "up").symlink_to(tmp_path)
    assert read_data(tmp_path).names == ("cat/0.png",)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_rotation_is_applied(tmp_path, orientation: int) -> None:
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    turn = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, 3),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(turn(upright))).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(pixels(read_image(tmp_path / "a.png")), upright)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_metadata_leave_the_picture(tmp_path) -> None:
    photo().save(tmp_path / "a.jpg", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff", quality=95)
    assert read_image(tmp_path / "a.jpg").size == (8, 6)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_other_modes_keep_their_colour(tmp_path, mode: str) -> None:
    image = Image.new("RGB", (4, 4), (255, 255, 255) if mode in "1L" else (250, 30, 30))
    image = image.convert(mode, palette=Image.Palette.ADAPTIVE) if mode == "P" else image.convert(mode)
    path = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png")
    image.save(path)
    read = pixels(read_image(path).convert("RGB")).reshape(-1, 3).astype(int)
    expected = (255, 255, 255) if mode in "1L" else (250, 30, 30)
    assert abs(read - expected).max() <= 4


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
def test_transparent_shows_white(tmp_path, mode: str) -> None:
    if mode == "P":
        image = Image.new("P", (2, 2), 0)
        image.putpalette([0, 0, 0, 9, 9, 9])
        image.save(tmp_path / "a.png", transparency=0)
    elif mode == "L":
        Image.new("L", (2, 2), 7).save(tmp_path / "a.png", transparency=7)
    else:
        Image.new(mode, (2, 2), (0,) * len(mode)).save(tmp_path / "a.png")
    assert pixels(read_image(tmp_path / "a.png")).min() == 255


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_become_eight_without_clipping(tmp_path, suffix: str) -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    assert pixels(read_image(tmp_path / f"a.{suffix}")).tolist() == [[0, 1, 128, 255]]


def test_floats_have_no_white(tmp_path) -> None:
    Image.fromarray(np.array([[0.0, 7.5]], dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(FileError, match=r"a\.tif holds float32"):
        read_image(tmp_path / "a.tif")


def test_the_first_picture_of_an_animation(tmp_path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert pixels(read_image(tmp_path / "a.gif"))[0, 0].tolist() == [255, 0, 0]


def test_the_content_decides_not_the_extension(tmp_path) -> None:
    photo().save(tmp_path / "a.jpg", format="PNG")
    assert pixels(read_image(tmp_path / "a.jpg")).tolist() == pixels(photo()).tolist()


def huge_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(9000, 9000), (50_000, 50_000), (2**31 - 1, 2**31 - 1)])
def test_decompression_bombs_are_refused(tmp_path, size: tuple[int, int]) -> None:
    (tmp_path / "bomb.png").write_bytes(huge_png(*size))
    with pytest.raises(FileError, match=r"bomb\.png"):
        read_input(tmp_path / "bomb.png")


def saved(kind: str) -> bytes:
    stream = io.BytesIO()
    photo(64, 64).save(stream, format=kind)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_truncated_files_are_named(tmp_path, kind: str, share: float) -> None:
    content = saved(kind)
    (tmp_path / "cut.png").write_bytes(content[: max(4, int(len(content) * share))])
    with pytest.raises(FileError, match=r"cut\.png"):
        read_input(tmp_path / "cut.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_flipped_bytes_never_raise_anything_else(tmp_path, kind: str) -> None:
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(40):
        content = bytearray(saved(kind))
        for position in random.integers(0, min(len(content), 200), 4):
            content[position] = random.integers(256)
        (tmp_path / "odd.png").write_bytes(content)
        try:
            read_image(tmp_path / "odd.png")
        except FileError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.png", b"", "zero bytes"),
        ("text.png", b"this is no picture", "content"),
        ("page.svg", b"<svg/>", r"'\.svg' is not known"),
        ("print.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", r"'\.eps' is not known"),
        ("print.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "content"),
    ],
)
def test_what_is_no_photo(tmp_path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=said) as caught:
        read_input(tmp_path / name)
    assert name in str(caught.value)


def test_places_that_cannot_be_read(tmp_path) -> None:
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "none").mkdir()
    for name in ("loop.png", "pipe.png", "missing.png", "none", "missing/a.png", "x" * 300, "nul\0.png"):
        with pytest.raises(FileError):
            read_input(tmp_path / name)
        with pytest.raises(FileError):
            read_data(tmp_path / name)


@root_only_reads
def test_forbidden_places(tmp_path) -> None:
    photo().save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    (tmp_path / "dir").mkdir(mode=0)
    for name in ("a.png", "dir"):
        with pytest.raises(FileError, match=name):
            read_input(tmp_path / name)


def test_one_bad_photo_of_a_folder_is_named(tmp_path) -> None:
    photo().save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(saved("PNG")[:200])
    with pytest.raises(FileError, match=r"b\.png"):
        read_input(tmp_path)


def test_the_pixels_of_one_call_are_limited(tmp_path, monkeypatch) -> None:
    for index in range(4):
        photo(10, 10).save(tmp_path / f"{index}.png")
    monkeypatch.setattr("pellucid.data.images.MOST_PHOTOS_PIXELS", 300)
    assert len(read_data(tmp_path, limit=3)) == 3
    with pytest.raises(InputError, match="the 4 photos hold over 300 pixels"):
        read_input(tmp_path)
