"""What all class activation maps share: the layer, its positions, and the way of the map to the input."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pellucid.engine.ledger import Ledger
from pellucid.engine.passes import Pass, Scalar
from pellucid.errors import InputError, ModelError, TargetError, reason
from pellucid.methods.base import Attribution, Cost, Family, Method
from pellucid.methods.positions.choice import Site, Sites, sites_for
from pellucid.methods.positions.resize import spread
from pellucid.targets import Target

if TYPE_CHECKING:
    from pellucid.methods.call import Call

__all__ = ["ActivationMap", "ChannelMap", "GradientMap", "Map", "jackknife", "weighted"]


@dataclass(frozen=True)
class Map:
    """What was found at a layer.

    Args:
        values: (N, positions).
        channels: (N, channels), what each channel got, where the method gives that.
        replicates: (k, N, positions), the map with one of k parts of the random numbers left out each.
        ledger: what sums to what, where something does.
        notes: what a reader must know.
        settings: what was found on the way.
    """

    values: Tensor
    channels: Tensor | None = None
    replicates: Tensor | None = None
    ledger: Ledger | None = None
    notes: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class ActivationMap(Method):
    """A method that makes a map at a layer: the named ones, or for every input the last one with its positions."""

    family: ClassVar[Family] = "class activation"
    needs: ClassVar[str] = "a layer with positions (a feature map or tokens) on the way to the explained scalar"
    unit: ClassVar[str] = "activation"
    walks: ClassVar[bool] = True
    placed: ClassVar[bool] = True
    shares: ClassVar[bool] = False
    """Whether the map's values are shares of the output, of which the sum is kept when the map is resized."""
    divided: ClassVar[bool] = True
    """Whether the values at one position of the input share the map's value there; otherwise each has all of it."""
    channel_detail: ClassVar[str] = "channel weights"

    @abstractmethod
    def at(self, call: Call, target: Target, site: Site) -> tuple[Scalar, Map]:
        """The map at one layer.

        Args:
            call: what is explained.
            target: the explained scalar, not yet fixed.
            site: the layer.

        Returns:
            The scalar, fixed at the explained input, and the map.
        """

    def sites(self, call: Call, target: Target) -> Sites:
        """The layers of the map.

        Raises:
            InputError, ModelError: there is none that suits the method.
        """
        return sites_for(call, target)

    def attribute(self, call: Call, target: Target) -> Attribution:
        """See the class."""
        target.check_layers(call.shadow.modules)
        sites = self.sites(call, target)
        call.partial = None
        found: list[tuple[Scalar, Map]] = []
        for site in sites.sites:
            found.append(self.at(call, target, site))
            call.partial = partial(self._first, call, sites, tuple(found))
        return self._first(call, sites, found)

    def offer(self, call: Call, target: Target, scalar: Scalar, site: Site, estimate: Callable[[], Map]) -> None:
        """Let Ctrl-C give ``estimate()``, the map so far; not where the maps of layers before this one are there."""
        if call.partial is None:
            inputs = self.sites(call, target).inputs
            call.partial = lambda: self.dressed(call, scalar, Sites((site,), inputs, ()), [estimate()])

    def _first(self, call: Call, sites: Sites, found: Sequence[tuple[Scalar, Map]]) -> Attribution:
        """An attribution of the maps at the first layers, or at all."""
        without = sites.without if len(found) == len(sites.sites) else ()
        first = Sites(sites.sites[: len(found)], sites.inputs, without)
        return self.dressed(call, found[0][0], first, [one for _, one in found])

    def dressed(self, call: Call, scalar: Scalar, sites: Sites, maps: Sequence[Map]) -> Attribution:
        """An attribution of the maps at all layers; the first layer that shows an input gives its relevance."""
        details: dict[str, Tensor] = {}
        names = [site.name for site in sites.sites]
        for name, one in zip(names, maps, strict=True):
            if one.channels is not None:
                details[self.channel_detail if name == names[0] else f"{self.channel_detail} of {name}"] = one.channels
        relevance: dict[str, Tensor] = {}
        for name, given in sites.inputs.items():
            like = call.prepared.values[name]
            dtype = like.dtype if like.is_floating_point() else maps[0].values.dtype
            shown = _showing(sites, name)
            if shown is None:
                relevance[name] = torch.zeros(like.shape, dtype=dtype, device=like.device)
                continue
            place, part = shown
            grid = sites.sites[place].layout.fields[part]

            def on_input(values: Tensor) -> Tensor:
                maps = values[:, grid.part].reshape(-1, *grid.grid)  # noqa: B023
                shown = spread(maps, grid, name, given, shares=self.shares, divided=self.divided)  # noqa: B023
                return shown.to(dtype)  # noqa: B023

            relevance[name] = on_input(maps[place].values)
            replicates = maps[place].replicates
            if replicates is not None:
                several = torch.stack([on_input(one) for one in replicates])
                key = "standard error" if len(sites.inputs) == 1 else f"standard error of {name}"
                details[key] = jackknife(several)
        return Attribution(
            relevance=relevance,
            output=scalar.output,
            target=scalar.target,
            ledger=maps[0].ledger,
            layers={site.name: _in_grid(one.values, site) for site, one in zip(sites.sites, maps, strict=True)},
            details=details,
            notes=(*call.notes(), *_notes(sites), *(note for one in maps for note in one.notes)),
            settings={"layer": names[0] if len(names) == 1 else names, **maps[0].settings},
        )

    def unfit(self, call: Call) -> str | None:
        """Why there is no layer for it."""
        try:
            self.sites(call, call.target)
        except TargetError:
            return None  # which layer it is depends on the target
        except (ModelError, InputError) as error:
            return reason(error)
        return None

    def passes(self, call: Call) -> Cost:  # noqa: ARG002
        """One."""
        return Cost(0, 1)


@dataclass(frozen=True)
class ChannelMap(ActivationMap):
    """An activation map that runs the model once for every channel of its layers."""

    def passes(self, call: Call) -> Cost:
        """One forward, and one for every channel; unknown where there is no layer for it."""
        try:
            return Cost(1 + sum(site.channels for site in self.sites(call, call.target).sites))
        except (InputError, ModelError):
            return Cost(None)


@dataclass(frozen=True)
class GradientMap(ActivationMap):
    """A map that one forward and the gradient down to the layer give; nothing before the layer is recorded."""

    @abstractmethod
    def weigh(self, value: Tensor, gradient: Tensor) -> Map:
        """The map of a layer's value and its gradient, both (N, channels, positions)."""

    def at(self, call: Call, target: Target, site: Site) -> tuple[Scalar, Map]:
        """See :meth:`weigh`."""
        done = self._recorded(call, [target], site)
        return self._of(call, target, site, done, again=False)

    def attribute_all(self, call: Call, targets: Sequence[Target]) -> Iterable[Attribution]:
        """Targets that are explained at the same layer share the forward."""
        for target in targets:
            target.check_layers(call.shadow.modules)
        chosen = [self.sites(call, target) for target in targets]
        if len(targets) == 1 or len(chosen[0].sites) > 1 or any(sites is not chosen[0] for sites in chosen):
            yield from super().attribute_all(call, targets)
            return
        site = chosen[0].sites[0]
        done = self._recorded(call, targets, site)
        for k, target in enumerate(targets):
            scalar, found = self._of(call, target, site, done, again=k < len(targets) - 1)
            yield self.dressed(call, scalar, chosen[0], [found])

    def _recorded(self, call: Call, targets: Sequence[Target], site: Site) -> Pass:
        function = call.function
        layers = [function.layer(name) for target in targets for name in target.layers()]
        return function.run({}, read=[site.point, *layers], leaves=[site.point], differentiate=True)

    def _of(self, call: Call, target: Target, site: Site, done: Pass, *, again: bool) -> tuple[Scalar, Map]:
        function = call.function
        scalar = function.fix(target, done)
        with torch.enable_grad():
            scalars = scalar.of(done)
        _, gradients = function.differentiate(scalars, done, [site.point], again=again)
        value, gradient = done.values[site.point].detach(), gradients[site.point]
        found = self.weigh(site.layout.unfold(value), site.layout.unfold(gradient))
        return scalar, self.audited(call, scalar, site, found, value)

    def audited(self, call: Call, scalar: Scalar, site: Site, found: Map, value: Tensor) -> Map:  # noqa: ARG002
        """The map with its ledger, where the method promises one."""
        return found


def weighted(weights: Tensor, value: Tensor, *, relu: bool) -> Map:
    """The channels (N, C, P) weighed (N, C) and added: ``sum_k w_k A_k``, only what is above zero if ``relu``."""
    values = torch.einsum("nc,ncp->np", weights, value)
    return Map(values.clamp(min=0) if relu else values, weights)


def _showing(sites: Sites, name: str) -> tuple[int, int] | None:
    """The first layer, and the field of it, that has positions of an input."""
    for place, site in enumerate(sites.sites):
        for part, one in enumerate(site.layout.fields):
            if name in one.inputs:
                return place, part
    return None


def _in_grid(values: Tensor, site: Site) -> Tensor:
    fields = site.layout.fields
    return values.reshape(-1, *fields[0].grid) if len(fields) == 1 else values


def _notes(sites: Sites) -> list[str]:
    notes = [
        f"Part of the way to the explained scalar leads around the layer {site.name!r}, which the map does not show."
        for site in sites.sites
        if not site.whole
    ]
    if sites.without:
        layers, inputs = ", ".join(repr(site.name) for site in sites.sites), ", ".join(sites.without)
        notes.append(f"{layers} has no positions of the input {inputs}, whose relevance is left at 0.")
    return notes


def jackknife(replicates: Tensor) -> Tensor:
    """The standard error from estimates (k, ...) that leave out one of k equal parts each."""
    count = len(replicates)
    return ((count - 1) * replicates.var(0, correction=0)).sqrt()
