"""The ways to guide that figure F9 compares on several networks: twenty families, six settings each.

The settings are the same on every network. They were written down before any of them was sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

import kdist
from kdist import more_rules, rules
from scripts.results.cads import Annealed, dynamic_scales

__all__ = ["FAMILIES", "PLAIN", "Family", "Network", "Setting"]

PEAKS = (1.25, 1.5, 2.0, 3.0, 5.0, 8.0)
RULES: dict[str, Callable[..., Any]] = {
    "rescaled": rules.rescaled,
    "projected (APG)": rules.projected,
    "CFG-Zero*": rules.zero_star,
    "TCFG": partial(rules.on_noise, rule=more_rules.tangential),
    "FDG": more_rules.frequency_decoupled,
    "MAMBO-G": more_rules.magnitude_aware,
    "power law": more_rules.power_law,
    "ADG": more_rules.angular,
    "EP-CFG": more_rules.energy_preserving,
}


@dataclass(frozen=True)
class Network:
    """What a setting guides: a denoiser that takes ``class_cond``, its weak model, where its class becomes a vector."""

    model: torch.nn.Module
    weak: torch.nn.Module
    embedding: torch.nn.Module
    uncond: int
    sigmas: torch.Tensor


@dataclass(frozen=True)
class Setting:
    """One way to sample: a schedule in ``kdist.parse``'s form and what else is not the default."""

    schedule: str = "1"
    rule: str = ""  # of RULES; "" is linear
    weak: bool = False
    dynamic: tuple[float, float, float] | None = None  # scale, low, high: takes the place of the schedule
    cads: tuple[float, float, float] | None = None  # strength, low, high

    def scales(self, sigmas: torch.Tensor) -> kdist.Schedule:
        """Its schedule on a run over these noise levels (steps + 1,)."""
        if self.dynamic is None:
            return kdist.parse(self.schedule)
        return dynamic_scales(self.dynamic[0], sigmas, *self.dynamic[1:])

    def guided(self, network: Network) -> kdist.GuidedDenoiser:
        """The network under this guidance."""
        schedule = self.scales(network.sigmas)
        if self.weak:
            return kdist.guide(network.model, schedule, weak_model=network.weak)
        model = network.model
        if self.cads is not None:
            strength, low, high = self.cads
            options: dict[str, Any] = {"strength": strength, "low": low, "high": high}
            model = Annealed(model, network.embedding, network.uncond, network.sigmas, **options)
        rule = RULES[self.rule] if self.rule else None
        return kdist.guide(model, schedule, uncond={"class_cond": network.uncond}, rule=rule)

    def __str__(self) -> str:
        if self.dynamic is not None:
            return "scale {:g}, annealed from {:g} to {:g}".format(*self.dynamic)
        text = f"{self.rule}, {self.schedule}" if self.rule else self.schedule
        if self.cads is not None:
            text += ", strength {:g}, from {:g} to {:g}".format(*self.cads)
        return f"{text}, weak model" if self.weak else text


@dataclass(frozen=True)
class Family:
    """A name, a group for the colour, and the settings that the tuning seed chooses among."""

    name: str
    group: str  # of networks.GROUPS
    settings: tuple[Setting, ...]


def _each(text: str, *values: tuple[float, ...], **others: Any) -> tuple[Setting, ...]:
    return tuple(Setting(text.format(*numbers), **others) for numbers in values)


PLAIN = Family("no guidance", "constant", (Setting("1"),))
FAMILIES = (
    Family("constant", "constant", _each("{:g}", (1.1,), (1.25,), (1.5,), (2,), (3,), (5,))),
    Family(
        "interval",
        "interval",
        _each("interval:scale={:g},sigma_lo={:g},sigma_hi={:g}",
              (1.5, 0.3, 5), (2, 0.3, 2.5), (3, 0.3, 2.5), (3, 0.3, 1.5), (5, 0.3, 1.5), (8, 0.2, 1)),
    ),
    Family(
        "dynamic CFG",
        "annealed",
        tuple(
            Setting(dynamic=numbers)
            for numbers in ((2, 0.6, 0.9), (3, 0.6, 0.9), (5, 0.6, 0.9), (3, 0.4, 0.8), (5, 0.4, 0.8), (3, 0.2, 0.6))
        ),
    ),
    Family(
        "CADS",
        "annealed",
        tuple(
            Setting(f"{scale:g}", cads=(strength, low, high))
            for scale, strength, low, high in (
                (1.5, 0.1, 0.6, 0.9), (2, 0.1, 0.6, 0.9), (2, 0.25, 0.6, 0.9), (3, 0.1, 0.6, 0.9), (3, 0.25, 0.6, 0.9),
                (2, 0.1, 0.4, 0.8),
            )
        ),
    ),
    Family(
        "late negative",
        "below 1",
        _each("late-negative:scale={:g},sigma_switch={:g},late={:g}",
              (3, 1.5, 0), (2, 1.5, 0.5), (2, 1, 0.5), (1.5, 1, 0.5), (3, 0.7, 0), (5, 0.7, 0)),
    ),
    Family(
        "early negative",
        "below 1",
        _each("early-negative:scale={:g},sigma_switch={:g},early={:g},sigma_end=0.1",
              (3, 1.2, 0), (5, 1.2, 0), (3, 1.2, 0.25), (3, 4, 0), (3, 10, 0), (2, 2, 0.5)),
    ),
    Family(
        "opposite, then guided",
        "below 1",
        _each("early-negative:scale={:g},sigma_switch={:g},early={:g},sigma_end=0.1",
              (3, 1.2, -1), (3, 4, -1), (3, 10, -1), (2, 4, -0.5), (2, 10, -1), (5, 10, -2)),
    ),
    Family(
        "window, then guided again",
        "below 1",
        _each("negative-window:scale={:g},sigma_lo={:g},sigma_hi={:g},inside={:g}",
              (3, 0.7, 2, 0), (2, 0.7, 2, 0), (2, 0.7, 2, 0.5), (1.5, 1, 2, 0), (2, 0.3, 1, 0.5), (3, 0.3, 1, 0)),
    ),
    Family(
        "linear in variance",
        "below 1",
        _each("linear-in-variance:w0={:g},omega={:g},max_scale={:g}",
              (-1, 0.5, 2), (-0.5, 0.5, 2), (-0.5, 0.25, 1.5), (-1, 1, 3), (-0.5, 1, 3), (-0.5, 2, 5)),
    ),
    *(Family(name, "rule", tuple(Setting(f"{peak:g}", rule=name) for peak in PEAKS)) for name in RULES),
    Family("weak model", "weak", _each("{:g}", (1.5,), (1.75,), (2,), (2.5,), (3,), (4,), weak=True)),
    Family(
        "weak model, interval",
        "weak",
        _each("interval:scale={:g},sigma_lo={:g},sigma_hi={:g}",
              (2, 0.3, 5), (2, 0.2, 2), (2.5, 0.3, 5), (3, 0.3, 2), (4, 0.3, 2), (3, 1, 10), weak=True),
    ),
)  # fmt: skip
