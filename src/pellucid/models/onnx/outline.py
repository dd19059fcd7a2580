"""The file without its weights: what protobuf has to parse, and where in the file the numbers lie.

Protobuf would hold a model's weights once more beside the tensors made of them. They mostly fill the file, so only what
is left over is parsed, and each weight is then read from its place straight into its tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pellucid.errors import FileError

LARGE = 4096  # bytes of a tensor from which on its numbers stay in the file
MOST_FIELDS = 400_000
_MODEL_GRAPH, _GRAPH_INITIALIZER = 7, 5
_NUMBERS = {4: "float_data", 9: "raw_data", 10: "double_data"}
"""Fields of a tensor whose bytes are its numbers as they lie in memory."""
_FIXED = {1: 8, 5: 4}  # wire type -> length
_VARINT, _BYTES = 0, 2


@dataclass(frozen=True)
class Span:
    """Where the numbers of a tensor lie in the file, and in which field of it."""

    field: str
    offset: int
    length: int


@dataclass(frozen=True)
class Outline:
    """The model without the numbers of its larger tensors.

    Args:
        skeleton: the model's bytes without them.
        spans: where they lie, by the place of the tensor among the graph's initializers.
    """

    skeleton: bytes
    spans: dict[int, Span]


def outline(content: memoryview, *, origin: str) -> Outline:
    """Divide the bytes of a ``.onnx`` file.

    Raises:
        FileError: they are no protobuf message, or cut off.
    """
    scan = _Scan(content, origin)
    model = bytearray()
    for field in scan.fields(0, len(content)):
        if field.number == _MODEL_GRAPH and field.wire == _BYTES:
            scan.put(model, field.number, scan.graph(field.start, field.end))
        else:
            model += content[field.tag : field.end]
    return Outline(bytes(model), scan.spans)


@dataclass(frozen=True)
class _Field:
    number: int
    wire: int
    tag: int
    start: int
    end: int


class _Scan:
    def __init__(self, content: memoryview, origin: str) -> None:
        self.content = content
        self.origin = origin
        self.spans: dict[int, Span] = {}
        self.tensors = 0
        self.seen = 0

    def fields(self, start: int, end: int) -> Iterator[_Field]:
        """The fields of the message between two places."""
        while start < end:
            self.seen += 1
            if self.seen > MOST_FIELDS:
                raise FileError(f"{self.origin} holds more than {MOST_FIELDS:,} fields, so it is refused.")
            tag = start
            key, start = self.varint(start, end)
            number, wire = key >> 3, key & 7
            if wire == _VARINT:
                stop = self.varint(start, end)[1]
            elif wire == _BYTES:
                length, start = self.varint(start, end)
                stop = start + length
            else:
                stop = start + _FIXED.get(wire, end)
            if not number or (wire not in _FIXED and wire not in (_VARINT, _BYTES)):
                raise self.broken()
            if stop > end:
                raise FileError(
                    f"{self.origin} is cut off or no ONNX model: a field ends {stop - end:,} bytes too late."
                )
            yield _Field(number, wire, tag, start, stop)
            start = stop

    def varint(self, place: int, end: int) -> tuple[int, int]:
        """A number of up to 64 bits, and the place after it."""
        value = 0
        for shift in range(0, 70, 7):
            if place >= end:
                break
            byte = self.content[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, place
        raise self.broken()

    def graph(self, start: int, end: int) -> bytearray:
        """A graph without the numbers of its larger tensors."""
        kept = bytearray()
        for field in self.fields(start, end):
            if field.number != _GRAPH_INITIALIZER or field.wire != _BYTES:
                kept += self.content[field.tag : field.end]
                continue
            if field.end - field.start < LARGE:
                kept += self.content[field.tag : field.end]
            else:
                self.put(kept, field.number, self.tensor(field.start, field.end))
            self.tensors += 1
        return kept

    def tensor(self, start: int, end: int) -> bytes | bytearray:
        """A tensor without its numbers, where they lie in one piece."""
        kept, spans = bytearray(), []
        for field in self.fields(start, end):
            if field.number in _NUMBERS and field.wire == _BYTES:
                spans.append(Span(_NUMBERS[field.number], field.start, field.end - field.start))
            else:
                kept += self.content[field.tag : field.end]
        if len(spans) != 1:
            return bytes(self.content[start:end])
        self.spans[self.tensors] = spans[0]
        return kept

    @staticmethod
    def put(message: bytearray, number: int, part: bytes | bytearray) -> None:
        """Add a field of bytes."""
        for value in (number << 3 | _BYTES, len(part)):
            while value > 0x7F:
                message.append(value & 0x7F | 0x80)
                value >>= 7
            message.append(value)
        message += part

    def broken(self) -> FileError:
        return FileError(f"{self.origin} must be an ONNX model, but is none, or a damaged one.")
