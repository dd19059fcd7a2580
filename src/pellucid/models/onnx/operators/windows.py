"""Settings that convolutions and pooling share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pellucid.errors import FileError, ModelError
from pellucid.models.graph.assembly import Call
from pellucid.models.graph.nodes import Value
from pellucid.models.onnx.attributes import Attributes
from pellucid.models.operators.shapes import pad
from pellucid.models.operators.windows import pad_same


@dataclass(frozen=True)
class Windows:
    """How windows lie on the spatial axes.

    Args:
        kernel: their lengths.
        stride: from window to window.
        dilation: from place to place in a window.
        before: padding before each axis.
        after: and after it.
        same: ``SAME_UPPER`` or ``SAME_LOWER`` where the padding follows from the input's size, else nothing.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    same: str = ""

    @property
    def symmetric(self) -> bool:
        """Whether all axes have the same padding at both ends."""
        return not self.same and self.before == self.after

    @property
    def lower(self) -> bool:
        """Whether an odd place of ``same`` padding goes before an axis."""
        return self.same == "SAME_LOWER"


def windows_of(call: Call, a: Attributes, kernel: tuple[int, ...] | None) -> Windows:
    """The settings of a node.

    Raises:
        FileError: they do not fit each other.
        ModelError: more than three spatial axes.
    """
    if not kernel or any(length < 1 for length in kernel):
        raise a.wrong("kernel_shape", "positive whole numbers")
    axes = len(kernel)
    if axes > 3:
        raise ModelError(f"{call.where} has {axes} spatial axes; torch has such layers for one to three.")
    stride, dilation = a.integers("strides", (1,) * axes), a.integers("dilations", (1,) * axes)
    pads = a.integers("pads", (0,) * 2 * axes)
    if len(stride) != axes or len(dilation) != axes or len(pads) != 2 * axes or min(*stride, *dilation) < 1:
        raise FileError(
            f"{call.where}: strides, dilations and pads must fit {axes} spatial axes, but are {stride}, {dilation}, "
            f"{pads}."
        )
    auto = a.choice("auto_pad", ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"), "NOTSET")
    before, after = pads[:axes], pads[axes:]
    if auto == "VALID":
        before = after = (0,) * axes
    elif auto != "NOTSET":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        if max(stride) == 1 and not any(total % 2 for total in totals):
            before = after = tuple(total // 2 for total in totals)
        else:
            return Windows(kernel, stride, dilation, (), (), auto)
    return Windows(kernel, stride, dilation, before, after)


def padded(call: Call, x: Value, w: Windows) -> tuple[Value, tuple[int, ...]]:
    """The input, with zeros around it where a layer's own padding cannot do that, and the padding left to the layer."""
    if w.symmetric and min(w.before) >= 0:
        return x, w.before
    settings: dict[str, Any]
    if w.same:
        settings = {"kernel": w.kernel, "stride": w.stride, "dilation": w.dilation, "lower": w.lower}
        return call.apply(pad_same, x, label="padded", **settings), (0,) * len(w.kernel)
    widths = {"before": (0, 0, *w.before), "after": (0, 0, *w.after)}
    return call.apply(pad, x, label="padded", **widths), (0,) * len(w.kernel)
