"""Ways to spoil a file: cut it, flip bits, put giant numbers, nest deeply, and trick with archives."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

GIANTS = (0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**40, 2**63 - 1, 2**63, 2**64 - 1, 0)
WORDS = (
    "../../x",
    "/etc/passwd",
    "\0",
    "",
    "a" * 5000,
    "NaN",
    "__class__",
    "%s%n",
    "..\\x",
    "\ud83d\ude00",
    "-1",
    "None",
)
PLACES = ("../../../tmp/x", "/tmp/x", "a\\..\\x", "", "x" * 300, "con", "a/../a/b", "\u202ex")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """``data`` with one to four things wrong."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(_ways(data))(data, rng)[: 2**22]
    return data


def _ways(data: bytes) -> list[Callable[[bytes, random.Random], bytes]]:
    ways: list[Callable[[bytes, random.Random], bytes]] = [cut, flip, giant, giant, stretch, drop, garbage]
    if data[:1] in (b"{", b"["):
        ways += [nested, json_changed, json_changed, json_changed]
    if data[:2] == b"PK":
        ways += [members_changed, members_changed, members_changed]
    if data[8:9] == b"{":
        ways += [header_changed, header_changed]
    return ways


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3, 20)) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def giant(data: bytes, rng: random.Random) -> bytes:
    """A number that no honest file holds, where a count may be; early more often."""
    width = rng.choice((1, 2, 4, 8))
    end = min(len(data), rng.choice((16, 200, 2**30)))
    place = rng.randrange(end + 1)
    order = "big" if rng.random() < 0.3 else "little"
    return data[:place] + (rng.choice(GIANTS) % 256**width).to_bytes(width, order) + data[place + width :]


def stretch(data: bytes, rng: random.Random) -> bytes:
    start, length = rng.randrange(len(data) + 1), rng.choice((1, 8, 64, 1000))
    return data[:start] + data[start : start + length] * rng.choice((2, 10, 200)) + data[start:]


def drop(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.choice((1, 4, 8, 100)) :]


def garbage(data: bytes, rng: random.Random) -> bytes:
    start, length = rng.randrange(len(data) + 1), rng.choice((1, 4, 16, 200))
    return data[:start] + rng.randbytes(length) + data[start + length :]


def nested(data: bytes, rng: random.Random) -> bytes:
    depth = rng.choice((10, 1000, 100_000))
    opening = rng.choice((b"[", b'{"a":', b"[["))
    place = rng.randrange(len(data) + 1)
    return data[:place] + opening * depth + (data[place:] if rng.random() < 0.5 else b"")


def json_changed(data: bytes, rng: random.Random) -> bytes:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return flip(data, rng)
    for _ in range(rng.choice((1, 1, 3))):
        content = _value_changed(content, rng)
    return json.dumps(content).encode("utf-8", "surrogatepass")


def _value_changed(content: Any, rng: random.Random) -> Any:
    """One value somewhere in the content replaced, taken away or doubled."""
    holder, key, here = None, None, content
    for _ in range(rng.randrange(1, 9)):
        if isinstance(here, dict) and here:
            holder, key = here, rng.choice(list(here))
        elif isinstance(here, list) and here:
            holder, key = here, rng.randrange(len(here))
        else:
            break
        here = holder[key]
    if holder is None:
        return rng.choice(_values(rng))
    deed = rng.random()
    if deed < 0.7:
        holder[key] = rng.choice(_values(rng))
    elif deed < 0.85 and isinstance(holder, list):
        holder.extend([holder[key]] * rng.choice((1, 50)))
    elif deed < 0.85:
        holder[f"{key}{rng.choice(WORDS)}"] = here
    else:
        del holder[key]
    return content


def _values(rng: random.Random) -> list[Any]:
    number = rng.choice((*GIANTS, -1, 1, 2, 3, 7, -(2**31)))
    return [number, str(number), rng.choice(WORDS), None, True, [], {}, [number] * 3, 1e308, float("nan"), [[number]],
            {"as_int": number}, {"as_name": "x"}, f"({number}, {number})", [0, 0, 0]]  # fmt: skip


def header_changed(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file with something else in its header, whose length then is right or not."""
    length = int.from_bytes(data[:8], "little")
    header = json_changed(data[8 : 8 + length].rstrip(), rng)
    told = len(header) if rng.random() < 0.9 else rng.choice(GIANTS) % 2**64
    return told.to_bytes(8, "little") + header + data[8 + length :]


def members_changed(data: bytes, rng: random.Random) -> bytes:
    """An archive written anew with one member renamed, spoilt, doubled, blown up or left out."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            held = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:  # spoilt before
        return flip(data, rng)
    if not held:
        return flip(data, rng)
    place = rng.randrange(len(held))
    name, content = held[place]
    deed = rng.choice(("rename", "spoil", "spoil", "double", "bomb", "drop", "add"))
    if deed == "rename":
        held[place] = (rng.choice((*PLACES, f"{name}x", name.partition("/")[2], f"x/{name}")), content)
    elif deed == "spoil":
        held[place] = (name, rng.choice(_ways(content))(content, rng) if content else b"\0")
    elif deed == "double":
        held.append((name, content))
    elif deed == "bomb":
        held[place] = (name, bytes(rng.choice((10**4, 10**6, 3 * 10**7))))
    elif deed == "drop":
        del held[place]
    else:
        held.append((rng.choice(PLACES), rng.randbytes(50)))
    compression = zipfile.ZIP_DEFLATED if deed == "bomb" or rng.random() < 0.1 else zipfile.ZIP_STORED
    target = io.BytesIO()
    import warnings

    with warnings.catch_warnings(), zipfile.ZipFile(target, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of doubled names
        for name, content in held:
            archive.writestr(name or "_", content)
    return target.getvalue()
