"""How :func:`kdist.tune` searches, and where it keeps what it found: the keyword arguments that few need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    import torch

    from ..schedules import Schedule

__all__ = ["Options", "with_defaults"]


class Options(TypedDict, total=False):
    """Further keyword arguments of :func:`kdist.tune`.

    Examples:
        >>> from kdist.tuning import Options
        >>> options: Options = {"families": ["constant", "interval"], "scales": (1.0, 4.0), "per_class": 10}
        >>> sorted(options)  # kdist.tune(generate, labels=..., **options)
        ['families', 'per_class', 'scales']
    """

    per_class: int
    """Samples of each class for a first look at a schedule (5)."""
    certify: float
    """Share of the budget for the fresh seeds (0.3)."""
    families: Sequence[str] | None
    """Of :data:`kdist.tuning.space.FAMILIES`; None is all."""
    scales: tuple[float, float]
    """Smallest and largest guidance scale, k-diffusion's ``cond_scale`` (-1, 6)."""
    choices: Mapping[str, Sequence[Any]] | None
    """Other arguments of ``generate`` to choose among, e.g. ``{"rule": [rules.linear, rules.projected], "weak": [False,
    True]}``; the first of each is the default."""
    warm_starts: Sequence[Schedule]
    """Schedules to look at early, e.g. of :func:`kdist.theory.design`."""
    sigmas: Sequence[float] | torch.Tensor | None
    """The noise levels at which the sampler asks for the scale, where ``generate`` does not show them by calling the
    schedule (it runs elsewhere)."""
    sampler: Any
    """An Optuna sampler to choose candidates with instead."""
    storage: str | None
    """URL of an Optuna storage instead of ``out/study.db``, shared by several workers."""
    resume: bool
    """Insist that there is something to go on with."""


def with_defaults(given: Mapping[str, Any]) -> Options:
    """The options given, the others at their defaults.

    Raises:
        TypeError: an option of another name.
        ValueError: an option out of range.
    """
    options: Options = {
        "per_class": 5,
        "certify": 0.3,
        "families": None,
        "scales": (-1.0, 6.0),
        "choices": None,
        "warm_starts": (),
        "sigmas": None,
        "sampler": None,
        "storage": None,
        "resume": False,
    }
    if unknown := sorted(given.keys() - options.keys()):
        raise TypeError(f"kdist.tune has no option {', '.join(unknown)}; there are also {', '.join(options)}")
    options.update(given)  # type: ignore[typeddict-item]
    if options["per_class"] < 2:
        raise ValueError(
            f"per_class must be at least 2, distances within a class need two samples; got {options['per_class']}"
        )
    if not 0 < options["certify"] < 1:
        raise ValueError(f"certify is a share of the budget, between 0 and 1; got {options['certify']}")
    return options
