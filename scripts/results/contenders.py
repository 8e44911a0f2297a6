"""The ways to guide that figure F5 compares, each with the settings that the tuning seed chooses among.

Two of them are designed before the network is guided at all: by :func:`kdist.theory.design` on one Gaussian pair per
class, and by :func:`kdist.theory.design_on_mixture` on the exact mixture of ten class Gaussians.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

import kdist
from kdist import digits, rules

__all__ = ["FAMILIES", "Contender", "Setting", "contenders"]

RANGE = {"sigma_min": digits.SIGMA_MIN, "sigma_max": digits.SIGMA_MAX}
PEAKS = (1.25, 1.5, 2, 3)
RULES: dict[str, Callable[..., Any]] = {
    "rescaled": rules.rescaled,
    "projected": rules.projected,
    "zero_star": rules.zero_star,
    "thresholded": rules.thresholded,
}
FAMILIES = {
    "constant": "constant scale",
    "standard": "standard schedules",
    "negative": "schedules that go below 1",
    "rule": "rules",
    "weak": "weak model",
    "noise": "solvers with noise",
}


@dataclass(frozen=True)
class Setting:
    """One way to sample: a schedule in ``kdist.parse``'s form and what else is not the default."""

    schedule: str
    rule: str = ""  # of RULES; "" is linear
    weak: bool = False
    solver: str = "dpmpp_2m"

    def guided(self, model: torch.nn.Module, weak_model: torch.nn.Module) -> torch.nn.Module:
        """The network under this guidance."""
        schedule = kdist.parse(self.schedule)
        if self.weak:
            return kdist.guide(model, schedule, weak_model=weak_model)
        rule = RULES[self.rule] if self.rule else None
        return kdist.guide(model, schedule, uncond={"class_cond": digits.UNCOND}, rule=rule)


@dataclass(frozen=True)
class Contender:
    """A name, a family for the colour, and the settings among which the tuning seed chooses."""

    name: str
    family: str
    settings: Sequence[Setting] = field(default_factory=tuple)
    # finds the only setting, from the unguided network's (trace ratio, overshoot) and the number of steps
    design: Callable[[tuple[float, float], int], dict[str, Any]] | None = None


def _each(text: str, values: Sequence[Any], **others: Any) -> tuple[Setting, ...]:
    """``text`` filled with each of ``values``, which are numbers or tuples of them."""
    return tuple(Setting(text.format(*(v if isinstance(v, tuple) else (v,))), **others) for v in values)


def designed_on_pairs(unguided: tuple[float, float], steps: int) -> dict[str, Any]:
    """What ``kdist design --scale 3 --keep-variance 0.95`` gives; it asks for neither argument."""
    from kdist.cli.runs import GaussianRun
    from kdist.theory import design

    pairs, _ = GaussianRun().pairs()
    return {"schedule": str(design(list(pairs.values()), 3.0, sigmas=[80.0, 0.0], keep_variance=0.95))}


def designed_on_mixture(unguided: tuple[float, float], steps: int) -> dict[str, Any]:
    """What ``kdist design-early`` finds on the training images, and what it promises."""
    from kdist.theory import GaussianMixtureDenoiser, design_on_mixture

    mixture = GaussianMixtureDenoiser.fit(*digits.load_data("train"))
    design = design_on_mixture(mixture, digits.sigmas(steps), unguided=unguided)
    promised = {"trace_ratio": design.trace_ratio, "overshoot": design.overshoot}
    return {"schedule": str(design.schedule), "promised": promised}


def contenders() -> list[Contender]:
    """Everything that is compared."""
    return [*_constants(), *_standard(), *_negative(), *_rules_and_weak_model(), *_noisy()]


def _constants() -> list[Contender]:
    """Constant scales."""
    return [
        Contender("no guidance", "constant", _each("{}", [1])),
        *(Contender(f"constant {s:g}", "constant", _each("{}", [s])) for s in (1.25, 1.5, 2, 3)),
        Contender("constant, tuned", "constant", _each("{}", (1.05, 1.1, 1.15, 1.2, 1.25, 1.3))),
    ]


def _standard() -> list[Contender]:
    """Schedules of the field that never go below 1."""
    bounds = f"sigma_min={RANGE['sigma_min']},sigma_max={RANGE['sigma_max']}"
    mid = [(s, low, high) for s in PEAKS for low, high in ((0.5, 5), (0.3, 2))]
    return [
        Contender("interval", "standard", _each("interval:scale={},sigma_lo={},sigma_hi={}", mid)),
        Contender("linear ramp", "standard", _each(f"ramp:start=1,end={{}},{bounds}", PEAKS)),
        Contender("cosine ramp", "standard", _each(f"ramp:start=1,end={{}},{bounds},shape=cosine", PEAKS)),
        Contender("falling ramp", "standard", _each(f"ramp:start={{}},end=1,{bounds}", PEAKS)),
        Contender("triangle", "standard", _each(f"triangle:scale={{}},sigma_peak=1,{bounds}", PEAKS)),
        Contender("exponential", "standard", _each(f"exponential:scale={{}},{bounds}", PEAKS)),
        Contender("beta", "standard", _each(f"beta:scale={{}},{bounds}", PEAKS)),
    ]


def _negative() -> list[Contender]:
    """Schedules that go below 1."""
    return [
        Contender(
            "linear in variance",
            "negative",
            _each("linear-in-variance:w0={},omega={},max_scale={}", [(-1, 0.5, 2), (-0.5, 0.5, 2), (-0.5, 0.25, 1.5)]),
        ),
        Contender(
            "late negative",
            "negative",
            _each(
                "late-negative:scale={},sigma_switch={},late={}",
                [(3, 1.5, 0), (3, 1.2, 0), (2, 1.5, 0.5), (2, 1.2, 0.5), (1.5, 1.5, 0.5), (1.5, 1.5, 0)],
            ),
        ),
        Contender(
            "window, then guided again",
            "negative",
            _each(
                "negative-window:scale={},sigma_lo={},sigma_hi={},inside={}",
                [(3, 0.7, 2, 0), (2, 0.7, 2, 0), (1.5, 0.7, 2, 0), (2, 0.7, 2, 0.5), (1.5, 1, 2, 0), (2, 1, 2, 0)],
            ),
        ),
        Contender(
            "window, then conditional",
            "negative",
            _each(
                "negative-window:scale={},sigma_lo={},sigma_hi={},inside={},after=1",
                [(3, 0.7, 2, 0), (2, 0.7, 2, 0), (2, 0.7, 2, 0.5), (1.5, 1, 2, 0), (2, 1, 2, 0), (3, 1, 1.5, 0)],
            ),
        ),
        Contender(
            "early negative",
            "negative",
            _each(
                "early-negative:scale={},sigma_switch={},early=0,sigma_end=0.1",
                [(3, 1.2), (4, 1.2), (5, 1.2), (2, 2), (3, 1.5)],
            ),
        ),
        Contender(
            "early negative, 0.25",
            "negative",
            _each("early-negative:scale={},sigma_switch=1.2,early=0.25,sigma_end=0.1", (3, 4)),
        ),
        Contender("designed on Gaussian pairs", "negative", design=designed_on_pairs),
        Contender("designed on the class mixture", "negative", design=designed_on_mixture),
    ]


def _rules_and_weak_model() -> list[Contender]:
    """Guidance rules, and the weak model as guide."""
    return [
        Contender("rescaled", "rule", _each("{}", PEAKS, rule="rescaled")),
        Contender("projected (APG)", "rule", _each("{}", PEAKS, rule="projected")),
        Contender("CFG-Zero*", "rule", _each("{}", PEAKS, rule="zero_star")),
        Contender("thresholded", "rule", _each("{}", PEAKS, rule="thresholded")),
        Contender(
            "late negative, rescaled", "rule", _each("late-negative:scale={},sigma_switch=1.5", (2, 3), rule="rescaled")
        ),
        Contender("weak model", "weak", _each("{}", (1.5, 1.75, 2, 2.5), weak=True)),
        Contender(
            "weak model, interval",
            "weak",
            _each(
                "interval:scale={},sigma_lo={},sigma_hi={}",
                [(2, 0.3, 5), (2, 0.2, 2), (2.5, 0.3, 5), (2.5, 0.2, 2), (3, 0.3, 2)],
                weak=True,
            ),
        ),
    ]


def _noisy() -> list[Contender]:
    """Solvers that draw noise on the way."""
    return [
        Contender("SDE, no guidance", "noise", (Setting("1", solver="dpmpp_2m_sde"),)),
        Contender("SDE, constant", "noise", _each("{}", (1.25, 1.5, 2), solver="dpmpp_2m_sde")),
        Contender(
            "SDE, late negative",
            "noise",
            _each(
                "late-negative:scale={},sigma_switch={}", [(3, 1.5), (3, 1), (2, 1.5), (2, 1)], solver="dpmpp_2m_sde"
            ),
        ),
        Contender(
            "SDE, early negative",
            "noise",
            _each(
                "early-negative:scale={},sigma_switch={},sigma_end=0.1",
                [(3, 1.2), (4, 1.2), (2, 2), (3, 1.5)],
                solver="dpmpp_2m_sde",
            ),
        ),
        Contender("Euler ancestral, no guidance", "noise", (Setting("1", solver="euler_ancestral"),)),
        Contender("Euler ancestral, constant 1.25", "noise", (Setting("1.25", solver="euler_ancestral"),)),
        Contender(
            "Euler ancestral, early negative",
            "noise",
            _each("early-negative:scale=4,sigma_switch={},sigma_end=0.1", (0.9, 1.2), solver="euler_ancestral"),
        ),
        Contender("SDE, weak model", "noise", _each("{}", (1.5, 2, 2.5), weak=True, solver="dpmpp_2m_sde")),
    ]
