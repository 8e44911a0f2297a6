"""One node for every schedule family: its fields as widgets, its noise levels in sigma or in the user's other terms."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import kdist  # absolute: as a custom node this folder is not part of the package
from kdist.schedules.terms import TERMS, InTerms

from .hooks import apply_schedule

__all__ = ["FAMILIES", "GUIDANCE_INPUTS", "ScheduleNode"]

CATEGORY = "sampling/kdist"
SHOWN = {"sigma": "sigma", "percent": "percent of steps", "s": "flow s (0 to 1)", "log_snr": "log-SNR"}
# any schedule node can take these
GUIDANCE_INPUTS: dict[str, Any] = {
    "rule": ("KDIST_RULE", {"tooltip": "how the two predictions combine; without it ComfyUI's own way"}),
    "weak_model": ("MODEL", {"tooltip": "a weaker model in place of the negative prompt (autoguidance)"}),
}


def scale(default: float, tooltip: str) -> tuple[str, dict[str, Any]]:
    return number(default, f"{tooltip} (1: conditional, 0: unconditional; both cost one network pass instead of two)")


def level(default: float, tooltip: str) -> tuple[str, dict[str, Any]]:
    widget = {"default": default, "min": -100.0, "max": 1e4, "step": 0.01, "round": 0.0001}
    return "FLOAT", {**widget, "tooltip": f"{tooltip}: a noise level in the terms chosen below"}


def number(default: float, tooltip: str, low: float = -100.0, high: float = 100.0) -> tuple[str, dict[str, Any]]:
    return "FLOAT", {"default": default, "min": low, "max": high, "step": 0.1, "round": 0.001, "tooltip": tooltip}


class ScheduleNode:
    """What the schedule nodes share: a model goes in, and comes out guided, with the schedule for the curve node."""

    FAMILY: ClassVar[type[kdist.Schedule]]
    FIELDS: ClassVar[dict[str, Any]]
    LATER_FIELDS: ClassVar[dict[str, Any]] = {}  # after the others, so that saved workflows keep their widgets
    RETURN_TYPES = ("MODEL", "KDIST_SCHEDULE")
    RETURN_NAMES = ("model", "schedule")
    FUNCTION = "apply"
    CATEGORY = CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        terms = (list(SHOWN.values()), {"tooltip": "what the noise levels above are given in"})
        has_levels = any(name.startswith("sigma") for name in cls.FIELDS)
        optional = {**cls.LATER_FIELDS, **({"terms": terms} if has_levels else {}), **GUIDANCE_INPUTS}
        return {"required": {"model": ("MODEL",), **cls.FIELDS}, "optional": optional}

    @classmethod
    def VALIDATE_INPUTS(cls, **inputs: Any) -> bool:
        """True; what is wrong is raised, before anything runs. None: a value comes from another node.

        A sentence that is returned, ComfyUI repeats for each input of the node; one that is raised stands there once.
        """
        fields = {name: value for name, value in inputs.items() if name in {**cls.FIELDS, **cls.LATER_FIELDS}}
        if None not in fields.values() and inputs.get("terms", "sigma") is not None:
            schedule = cls.schedule_of(inputs.get("terms", "sigma"), fields)
            if isinstance(schedule, InTerms):
                schedule.on([2.0**-step for step in range(1001)])  # any levels show what is wrong
        return True

    @classmethod
    def schedule_of(cls, terms: str, fields: dict[str, Any]) -> kdist.Schedule | InTerms:
        """The schedule of the widgets' values; one in percent of the steps waits for each run's levels."""
        term = {shown: term for term, shown in SHOWN.items()}.get(terms, terms)
        if term not in TERMS:
            raise ValueError(f"unknown terms {terms!r}; known: {', '.join(SHOWN.values())}")
        waiting = InTerms(term, cls.FAMILY, cls.plain_fields(fields))
        return waiting if term == "percent" else waiting.on(None)

    @classmethod
    def plain_fields(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return fields

    def apply(
        self, model: Any, terms: str = "sigma", rule: Any = None, weak_model: Any = None, **fields: Any
    ) -> tuple[Any, kdist.Schedule | InTerms]:
        schedule = self.schedule_of(terms, fields)
        return apply_schedule(model, schedule, rule=rule, weak_model=weak_model), schedule


class ConstantNode(ScheduleNode):
    """The same scale throughout; for a rule or a weak model without a schedule."""

    FAMILY = kdist.Constant
    FIELDS: ClassVar[dict[str, Any]] = {"scale": scale(4.0, "guidance at every noise level")}


class IntervalNode(ScheduleNode):
    """Guidance at `scale` between two noise levels, `outside` elsewhere (arXiv 2404.07724). Replaces the cfg."""

    FAMILY = kdist.Interval
    FIELDS: ClassVar[dict[str, Any]] = {
        "scale": scale(7.5, "guidance inside the interval"),
        "sigma_lo": level(0.3, "lower edge of the interval"),
        "sigma_hi": level(5.0, "upper edge of the interval"),
        "outside": scale(1.0, "guidance outside"),
    }


class NegativeWindowNode(ScheduleNode):
    """Guidance at `scale`, `inside` the window of noise levels, `after` below it. Replaces the cfg."""

    FAMILY = kdist.NegativeWindow
    FIELDS: ClassVar[dict[str, Any]] = {
        "scale": scale(7.5, "guidance above the window"),
        "sigma_lo": level(0.5, "lower edge of the window"),
        "sigma_hi": level(2.0, "upper edge of the window"),
        "inside": scale(0.0, "guidance inside the window"),
        "after": scale(7.5, "guidance below the window, usually the same as scale"),
    }
    LATER_FIELDS: ClassVar[dict[str, Any]] = {
        "ramp": number(0.0, "width of soft edges in natural log sigma", 0.0, 10.0)
    }


class LateNegativeNode(ScheduleNode):
    """Guidance at `scale` down to `sigma_switch`, then `late`: the experiment of arXiv 2602.00716. Replaces the cfg."""

    FAMILY = kdist.LateNegative
    FIELDS: ClassVar[dict[str, Any]] = {
        "scale": scale(7.5, "guidance above the switch"),
        "sigma_switch": level(1.5, "the switch"),
        "late": scale(0.0, "guidance below the switch"),
    }


class EarlyNegativeNode(ScheduleNode):
    """`early` down to `sigma_switch`, then `scale`, 1 at and below `sigma_end`. Replaces the cfg."""

    FAMILY = kdist.EarlyNegative
    FIELDS: ClassVar[dict[str, Any]] = {
        "scale": scale(4.0, "guidance below the switch"),
        "sigma_switch": level(4.0, "the switch"),
        "early": scale(0.0, "guidance above the switch"),
        "sigma_end": level(0.1, "no guidance from here on"),
    }


class LinearInVarianceNode(ScheduleNode):
    """scale = 1 + w0 + omega sigma^2, between two limits: the schedule of the theory. Replaces the cfg."""

    FAMILY = kdist.LinearInVariance
    FIELDS: ClassVar[dict[str, Any]] = {
        "w0": number(-0.5, "the weight (scale - 1) where no noise is left"),
        "omega": number(0.5, "growth of the weight with the variance sigma^2"),
        "min_scale": scale(0.0, "not below this"),
        "max_scale": scale(7.5, "not above this"),
    }


_RANGE = {
    "sigma_min": level(0.03, "lower end of the curve (Stable Diffusion: 0.03)"),
    "sigma_max": level(14.6, "upper end of the curve (Stable Diffusion: 14.6)"),
}


class RampNode(ScheduleNode):
    """From `start` at `sigma_max` to `end` at `sigma_min` along log sigma (arXiv 2404.13040). Replaces the cfg."""

    FAMILY = kdist.Ramp
    FIELDS: ClassVar[dict[str, Any]] = {
        "start": scale(1.0, "guidance at sigma_max and above"),
        "end": scale(7.5, "guidance at sigma_min and below"),
        **_RANGE,
        "shape": (["linear", "cosine", "power"], {"tooltip": "the curve between the ends"}),
        "power": number(2.0, "exponent of the shapes cosine and power", 0.01, 20.0),
    }

    @classmethod
    def plain_fields(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "power": None} if fields.get("shape") == "linear" else fields


class TriangleNode(ScheduleNode):
    """Up from `floor` to `scale` at `sigma_peak`, and down again, along log sigma. Replaces the cfg."""

    FAMILY = kdist.Triangle
    FIELDS: ClassVar[dict[str, Any]] = {
        "scale": scale(7.5, "guidance at the peak"),
        "sigma_peak": level(2.0, "the peak"),
        **_RANGE,
        "floor": scale(1.0, "guidance at both ends"),
    }


class ExponentialNode(ScheduleNode):
    """Falls from `scale` to `floor` along log sigma, exponentially. Replaces the cfg."""

    FAMILY = kdist.Exponential
    FIELDS: ClassVar[dict[str, Any]] = {
        "scale": scale(7.5, "the highest guidance"),
        **_RANGE,
        "decay": number(2.0, "how fast it falls"),
        "floor": scale(1.0, "the lowest guidance"),
    }


class BetaNode(ScheduleNode):
    """A Beta(a, b) bump of height `scale` along log sigma. Replaces the cfg."""

    FAMILY = kdist.Beta
    FIELDS: ClassVar[dict[str, Any]] = {
        "scale": scale(7.5, "guidance at the peak"),
        **_RANGE,
        "a": number(2.0, "above 1; larger moves the peak to lower noise", 1.001, 50.0),
        "b": number(2.0, "above 1; larger moves the peak to higher noise", 1.001, 50.0),
        "floor": scale(1.0, "guidance at both ends"),
    }


FAMILIES: dict[str, tuple[type[ScheduleNode], str]] = {
    "KdistConstant": (ConstantNode, "constant"),
    "KdistInterval": (IntervalNode, "interval"),
    "KdistNegativeWindow": (NegativeWindowNode, "negative window"),
    "KdistLateNegative": (LateNegativeNode, "late negative"),
    "KdistEarlyNegative": (EarlyNegativeNode, "early negative"),
    "KdistLinearInVariance": (LinearInVarianceNode, "linear in variance"),
    "KdistRamp": (RampNode, "ramp"),
    "KdistTriangle": (TriangleNode, "triangle"),
    "KdistExponential": (ExponentialNode, "exponential"),
    "KdistBeta": (BetaNode, "beta curve"),
}
for _node, _ in FAMILIES.values():
    _node.DESCRIPTION = inspect.getdoc(_node)  # type: ignore[attr-defined]
