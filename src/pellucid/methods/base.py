"""What an attribution method is: a frozen value of its settings that makes an attribution of a call."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from pellucid.engine.ledger import Ledger
from pellucid.engine.point import Point
from pellucid.errors import InputError
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["Attribution", "Cost", "Family", "Keep", "Method", "by_input", "per_sample_sum"]

Keep = Mapping[str, int | Sequence[int] | str]
"""Units by module name: a walk goes on only through these."""

Family = Literal["relevance", "gradient", "class activation", "attention", "perturbation"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a method needs for one sample, in passes of the model; None where it depends on how soon it converges.

    Args:
        forwards: forward passes without gradient.
        gradients: forward passes with a backward pass.
    """

    forwards: int | None = 0
    gradients: int | None = 0

    def __str__(self) -> str:
        parts = [
            f"{'?' if count is None else count} {what}{'' if count == 1 else 's'}"
            for count, what in ((self.forwards, "forward"), (self.gradients, "gradient"))
            if count != 0
        ]
        return " + ".join(parts) or "nothing"


@dataclass(frozen=True)
class Attribution:
    """What a method gives, before it is dressed as an Explanation.

    Args:
        relevance: by input name, each in the shape of the input; one value per token for ids.
        output: (N,), the explained scalar.
        target: what was explained, fixed.
        ledger: what sums to what, where the method promises that something does.
        layers: the same at further layers, by module name.
        details: further tensors by name: "standard error", "feature scores", ...
        notes: what a reader must know.
        settings: what was found on the way (steps taken, layer chosen), JSON-able.
    """

    relevance: Mapping[str, Tensor]
    output: Tensor
    target: Target
    ledger: Ledger | None = None
    layers: Mapping[str, Tensor] = field(default_factory=dict)
    details: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Method(ABC):
    """An attribution method; the fields of a subclass are its settings, with defaults.

    A subclass is registered in ``methods.catalogue`` (or, a user's own, with ``pellucid.methods.register``) and gives
    the class attributes below, which are what ``pellucid methods`` prints.
    """

    name: ClassVar[str]
    """As in ``method="..."``."""
    family: ClassVar[Family]
    cost: ClassVar[str]
    """In words: "n forwards + gradients"."""
    needs: ClassVar[str] = "any model"
    """What it asks of model and input."""
    advice: ClassVar[str]
    """When to use it, in a sentence."""
    citation: ClassVar[str]
    """BibTeX."""
    unit: ClassVar[str] = ""
    """Unit of the relevance where it is not that of the output: "gradient", "activation", ..."""
    walks: ClassVar[bool] = False
    """Whether it walks a recorded graph, whose memory grows with the batch, instead of calling the model row by row."""

    placed: ClassVar[bool] = False
    """Whether ``layer=`` says where it works, so that what the inputs get depends on that."""

    @abstractmethod
    def attribute(self, call: Call, target: Target) -> Attribution:
        """Explain ``target`` for every sample of the call.

        Raises:
            InputError, TargetError, ModelError: it cannot be done; says why.
        """

    def attribute_all(self, call: Call, targets: Sequence[Target]) -> Iterable[Attribution]:
        """Explain several targets of every sample; methods that can share work among them override this.

        One comes by as soon as it is done, so that Ctrl-C does not lose it.
        """
        for target in targets:
            yield self.attribute(call, target)

    def unfit(self, call: Call) -> str | None:  # noqa: ARG002  (a method that fits everything looks at nothing)
        """Why it cannot be used on this model and input for ``call.target``; None if it can.

        A line that names the layer to blame; nothing but the forward is run to find out.
        """
        return None

    def remark(self, call: Call) -> str | None:  # noqa: ARG002
        """What to know of it on this model and input though it fits, in a line; None if there is nothing."""
        return None

    @abstractmethod
    def passes(self, call: Call) -> Cost:
        """What one sample costs."""

    def settings(self) -> dict[str, object]:
        """Its fields in a form that JSON can hold."""
        return {item.name: _plain(getattr(self, item.name)) for item in dataclasses.fields(self)}

    def with_settings(self, **changes: object) -> Method:
        """The same method with other settings.

        Raises:
            InputError: it has no such setting.
        """
        known = [item.name for item in dataclasses.fields(self)]
        wrong = [name for name in changes if name not in known]
        if wrong:
            raise InputError(
                f"The method {self.name!r} has no setting {wrong[0]!r}. Its settings are: {', '.join(known) or 'none'}."
            )
        return dataclasses.replace(self, **changes)

    def __str__(self) -> str:
        return self.name


def _plain(value: object) -> object:
    if isinstance(value, Tensor):
        return f"tensor of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, "__name__", None) or str(value)


def by_input(values: Mapping[Point, Tensor], ids: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Relevance by input name: that of ids summed over the features of their vectors, and over several look-ups."""
    result: dict[str, Tensor] = {}
    for point, value in values.items():
        part = value.reshape(*ids[point.name].shape, -1).sum(-1) if point.name in ids else value
        result[point.name] = result[point.name] + part if point.name in result else part
    return result


def per_sample_sum(values: Mapping[Point, Tensor]) -> Tensor:
    """The sum over all points and features of every sample: (N,), float64."""
    parts = [value.reshape(len(value), -1).sum(1, dtype=torch.float64) for value in values.values()]
    return torch.stack(parts).sum(0)
