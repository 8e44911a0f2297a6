"""What a guidance schedule does to a Gaussian class inside a Gaussian whole: mean and variance, exactly.

Per shared eigen-direction the class is ``N(mu, c)`` and the whole ``N(nu, u)``. With ``t = sigma**2``,
``w = scale - 1`` and sampling noise ``lam`` (0: probability-flow ODE, 1: reverse SDE) the guided sample obeys

    dm/dt = (1 + lam)/2 (a m - b)          dV/dt = (1 + lam) a V - lam          (t falls from sigma_max**2)
    a = (1 + w)/(c + t) - w/(u + t)        b = (1 + w) mu/(c + t) - w nu/(u + t)

Both are linear, so one integral over the schedule solves them: docs/theory.md, equations (1) to (8).

Source: Ventura, Achilli, Ambrogioni, Lucibello, *Emergence of Distortions in High-Dimensional Guided Diffusion
Models*, arXiv 2602.00716 (2026).
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..integrate import Array, Quadrature, ScheduleLike, quadrature
from .estimate import class_and_pooled

__all__ = ["GaussianPair", "GuidanceWidensWarning", "Moments", "Pair", "moments"]


_BLOCK = 256  # directions at a time, so that all nodes of a block stay in the processor's cache


class GuidanceWidensWarning(UserWarning):
    """Some direction of the class is wider than the whole: there guidance (scale > 1) widens without bound.

    Examples:
        >>> import warnings
        >>> from kdist.theory import GaussianPair, GuidanceWidensWarning
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", GuidanceWidensWarning)
        ...     pair = GaussianPair(0.0, 2.0, 1.0, 1.0).capped()
        >>> pair.uncond_var
        array([2.])
    """


@dataclass(frozen=True)
class Moments:
    """A law's mean and variance per direction, each (d,) float64, in the units of the data.

    Examples:
        >>> from kdist.theory import GaussianPair, moments
        >>> pair = GaussianPair([1.0, 0.5], [0.3, 0.6], 0.0, 1.0)  # two directions
        >>> found = moments(pair, 2.0, sigma_max=80)
        >>> found.mean.round(2), found.var.round(2)
        (array([1.43, 0.85]), array([0.09, 0.36]))
    """

    mean: Array
    var: Array


Law = tuple[Array, Array, Array | None]


class Pair(ABC):
    """A Gaussian class inside a Gaussian whole: what :func:`moments` and its kin ask of one.

    ``mixes`` says whether directions mix: a spread is then a covariance (d, d), else the variances (d,).
    """

    mixes: ClassVar[bool]
    cond_mean: Array
    uncond_mean: Array

    @abstractmethod
    def laws(self) -> tuple[Law, Law]:
        """Class and whole as mean (d,), eigenvalues (d,) and eigenvectors in columns (d, d); None: the axes."""

    @abstractmethod
    def moments(self, mean: Array, spread: Array) -> Moments:
        """The moments of a law of this kind."""

    @abstractmethod
    def guided_moments(self, schedule: ScheduleLike, sigma_min: float, sigma_max: float, lam: float) -> Moments:
        """See :func:`moments`."""

    @abstractmethod
    def variance_ratio(self, law: Moments) -> Array:
        """(d,) variance of ``law`` in units of the class's, per direction."""

    @property
    @abstractmethod
    def total_variance(self) -> float:
        """Trace of the class covariance."""


@dataclass(frozen=True, eq=False)
class GaussianPair(Pair):
    """A class and the whole it belongs to, Gaussian both, with covariances that share their eigenvectors.

    Args:
        cond_mean: (d,) mean of the class per direction. Here and below a number stands for all directions.
        cond_var: (d,) variance of the class per direction.
        uncond_mean: (d,) mean of the whole.
        uncond_var: (d,) variance of the whole.
        basis: (d, D) rows that take centred features to these directions, where the pair came from data.

    Warns:
        GuidanceWidensWarning: ``cond_var > uncond_var`` somewhere. Allowed: the formulas hold, and say that guidance
            widens the class there by ``(c/u)**w``; see :meth:`capped` and :meth:`projected`.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, or variances that are not positive.

    Examples:
        >>> from kdist.theory import GaussianPair
        >>> pair = GaussianPair(cond_mean=[1.0, 0.5], cond_var=[0.3, 0.6], uncond_mean=0.0, uncond_var=1.0)
        >>> pair.cond_var
        array([0.3, 0.6])
    """

    cond_mean: Array
    cond_var: Array
    uncond_mean: Array
    uncond_var: Array
    basis: Array | None = field(default=None, repr=False)
    mixes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        names = ("cond_mean", "cond_var", "uncond_mean", "uncond_var")
        values = {name: np.asarray(getattr(self, name), dtype=np.float64) for name in names}
        shapes = {value.shape for value in values.values() if value.ndim}
        if len(shapes) > 1 or any(len(shape) != 1 or not shape[0] for shape in shapes):
            given = ", ".join(f"{name} {value.shape}" for name, value in values.items())
            raise ValueError(f"a Gaussian pair takes four arrays of one shape (d,), d >= 1; got {given}")
        size = next(iter(shapes))[0] if shapes else 1
        for name, value in values.items():
            if not np.isfinite(value).all():
                raise ValueError(f"{name} must be finite; got {_first(value, ~np.isfinite(value))}")
            if name.endswith("var") and not (value > 0).all():
                raise ValueError(
                    f"{name} must be positive in every direction; got {_first(value, value <= 0)} "
                    "(drop constant features, or estimate with shrinkage)"
                )
            object.__setattr__(self, name, np.broadcast_to(value, (size,)).copy())
        if self.wider.any():
            warnings.warn(
                f"the class is wider than the whole in {self.wider.sum()} of {size} directions: guidance widens it "
                "there; capped() or projected() take these directions out",
                GuidanceWidensWarning,
                stacklevel=3,
            )

    def __getitem__(self, index: slice | npt.NDArray[np.bool_]) -> GaussianPair:
        """The pair restricted to some directions."""
        part = object.__new__(GaussianPair)  # checked already, and warned about once
        for name in ("cond_mean", "cond_var", "uncond_mean", "uncond_var", "basis"):
            value = getattr(self, name)
            object.__setattr__(part, name, None if value is None else value[index])
        return part

    @property
    def wider(self) -> npt.NDArray[np.bool_]:
        """(d,) True where the class is wider than the whole."""
        # a hair's breadth is rounding, not width
        return self.cond_var > self.uncond_var * (1 + 1e-12)

    def capped(self) -> GaussianPair:
        """The pair with ``uncond_var`` raised to ``cond_var`` where it was smaller: guidance then leaves the variance
        of these directions alone."""
        return GaussianPair(
            self.cond_mean, self.cond_var, self.uncond_mean, np.maximum(self.cond_var, self.uncond_var), self.basis
        )

    def projected(self) -> GaussianPair:
        """The pair without the directions in which the class is wider than the whole.

        Raises:
            ValueError: no direction is left.
        """
        keep = ~self.wider
        if not keep.any():
            raise ValueError("the class is wider than the whole in every direction: nothing is left to project on")
        return self[keep]

    @classmethod
    def from_data(
        cls, features: Any, labels: Any, class_: Any, *, shrinkage: str | None = "ledoit_wolf"
    ) -> GaussianPair:
        """Class and pooled law of labelled data, in the eigenbasis of the class covariance.

        The two covariances of real data do not commute. Kept are the class's eigenvectors and variances, exactly, and
        the pooled variance *along* each of them; the pooled covariance between them is dropped
        (:meth:`FullGaussianPair.from_data` keeps it).

        Args:
            features: (N, ...) array or tensor, flattened to (N, D).
            labels: (N,) class of each row.
            class_: the class to take, a value in ``labels``.
            shrinkage: ``ledoit_wolf``, ``oas`` (scikit-learn's estimators of how much) or None for the plain sample
                covariance; see :func:`kdist.theory.gaussian.estimate.class_and_pooled`.

        Raises:
            ValueError: an empty class, a class with one sample, lengths that differ, values that are not finite.
            ImportError: shrinkage needs scikit-learn.
        """
        law = class_and_pooled(features, labels, class_, shrinkage=shrinkage)
        variances, vectors = np.linalg.eigh(law.cond_cov)
        variances, basis = variances[::-1], vectors.T[::-1]
        return cls(
            basis @ law.cond_mean,
            variances,
            basis @ law.uncond_mean,
            np.einsum("di,ij,dj->d", basis, law.uncond_cov, basis, optimize=True),
            basis,
        )

    def laws(self) -> tuple[Law, Law]:
        return (self.cond_mean, self.cond_var, None), (self.uncond_mean, self.uncond_var, None)

    def moments(self, mean: Array, spread: Array) -> Moments:
        return Moments(mean, spread)

    def guided_moments(self, schedule: ScheduleLike, sigma_min: float, sigma_max: float, lam: float) -> Moments:
        quad = quadrature(
            schedule, sigma_min=sigma_min, sigma_max=sigma_max, variances=(self.cond_var, self.uncond_var)
        )
        blocks = [slice(i, i + _BLOCK) for i in range(0, len(self.cond_var), _BLOCK)]
        parts = [_solve(self[block], quad, lam) for block in blocks]
        shift, var = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Moments(self.cond_mean + shift, var)

    def variance_ratio(self, law: Moments) -> Array:
        return law.var / self.cond_var

    @property
    def total_variance(self) -> float:
        return float(self.cond_var.sum())


def _first(values: Array, where: Any) -> str:
    return f"{float(values[where].flat[0])} at index {int(np.flatnonzero(where)[0])}"


def moments(
    pair: Pair, schedule: ScheduleLike, *, sigma_max: float, sigma_min: float = 0.0, noise: float = 0.0
) -> Moments:
    """Mean and variance of guided samples of ``pair``, without sampling and at infinitely many steps.

    Args:
        pair: the class and the whole: a :class:`GaussianPair`, or a :class:`kdist.theory.FullGaussianPair`, whose
            answer carries the whole covariance (:class:`kdist.theory.FullMoments`).
        schedule: a :class:`kdist.Schedule`, a scale, or any callable ``sigma -> scale``; jumps are found and split at.
        sigma_max: noise level of the start ``x ~ N(0, sigma_max**2)``; ``math.inf`` gives the limit, where the start
            is forgotten (docs/theory.md, section 2).
        sigma_min: noise level of the end.
        noise: ``lam``: 0 probability-flow ODE, 1 reverse SDE, anything above 0 allowed. k-diffusion's ancestral
            solvers and ``dpmpp_sde`` have ``eta**2``, ``dpmpp_2m_sde`` and ``dpmpp_3m_sde`` ``eta``.

    Returns:
        Mean and variance (d,). The relative error is below 1e-8 (Gauss-Legendre in log sigma, :mod:`.integrate`).

    Raises:
        ValueError: a bad range or noise, a schedule undefined at some sigma, a moment beyond float64.

    Examples:
        >>> from kdist.theory import GaussianPair, moments
        >>> pair = GaussianPair([1.0, 0.5], [0.3, 0.6], 0.0, 1.0)  # two directions
        >>> moments(pair, 2.0, sigma_max=80).var.round(2)
        array([0.09, 0.36])
    """
    lam = float(noise)
    if not 0 <= lam < math.inf:
        raise ValueError(f"noise must be finite and not negative (0 ODE, 1 reverse SDE); got {noise}")
    with np.errstate(over="ignore", invalid="ignore"):
        law = pair.guided_moments(schedule, sigma_min, sigma_max, lam)
    if not (np.isfinite(law.mean).all() and np.isfinite(law.var).all()):
        raise ValueError("the guided moments overflow float64: the class is far wider than the whole, or scale too big")
    return law


def _solve(pair: GaussianPair, quad: Quadrature, lam: float) -> tuple[Array, Array]:
    """Mean minus class mean, and variance, at the end of the run: docs/theory.md, equations (5) and (6)."""
    growth, growth_end = contraction(pair, quad, lam)
    shift, var = start_moments(pair, quad, lam)
    # the whole pulls the mean away from the class's by w (mu - nu) / (u + t)
    pull = growth * (quad.weight[..., None] / (pair.uncond_var + quad.t[..., None]))
    gap = pair.cond_mean - pair.uncond_mean
    shift = growth_end * shift + (1 + lam) / 2 * gap * quad.integral(pull)
    var = growth_end**2 * var
    return shift, var + lam * quad.integral(growth**2) if lam else var


def contraction(pair: GaussianPair, quad: Quadrature, lam: float) -> tuple[Array, Array]:
    """``exp(-(1 + lam)/2 int_start^t a)`` at the nodes (P, n, d) and at the range's end (d,)."""
    c, u, t = pair.cond_var, pair.uncond_var, quad.t[..., None]
    exponent, total = quad.running(quad.weight[..., None] * ((u - c) / ((c + t) * (u + t))))
    # int a = log((c + t) / (c + start)) + int w k: the first part needs no quadrature
    exponent += np.log((c + t) / (c + quad.start))
    total = total + np.log((c + quad.end) / (c + quad.start))
    half = -(1 + lam) / 2
    return np.exp(half * exponent), np.exp(half * total)


def start_moments(pair: GaussianPair, quad: Quadrature, lam: float) -> tuple[Array, Array]:
    """Mean minus class mean, and variance, where the quadrature starts: (d,) each."""
    c, u, w, end = pair.cond_var, pair.uncond_var, quad.end_weight, quad.end
    if not quad.infinite:
        return -pair.cond_mean, np.full_like(c, end)
    # from infinity the start is forgotten: the mean follows b / a, and the variance its slow solution
    shift = w * (pair.cond_mean - pair.uncond_mean)
    if lam:
        return shift, end + (1 + w) * c - w * u
    return shift, (c + end) * ((c + end) / (u + end)) ** w
