"""Gaussian class and whole whose covariances do not commute: the same prediction with matrices.

With ``C``, ``U`` the covariances, ``A = (1+w)(C+tI)^-1 - w (U+tI)^-1``:

    dM/dt = (1 + lam)/2 (A M - B)          dS/dt = (1 + lam)/2 (A S + S A^T) - lam I

Goes past arXiv 2602.00716, which takes commuting covariances. Solved in the eigenbasis of ``C`` for
``Y = (C + tI)^-1/2 S (C + tI)^-1/2``, which is constant where nothing is guided, so that an adaptive method takes
long steps (docs/theory.md, section 3).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.integrate import solve_ivp
from scipy.linalg import eigh

from ..integrate import Array, ScheduleLike, run_limits, scale_function, split_log_range
from .estimate import class_and_pooled
from .pair import Law, Moments, Pair

__all__ = ["FullGaussianPair", "FullMoments"]

_RTOL, _ATOL = 1e-10, 1e-15  # of the adaptive method; Y is of order one
_END = 1e-6  # sigma / sqrt(smallest variance) that stands for 0: Y has stopped moving to 1e-12


@dataclass(frozen=True)
class FullMoments(Moments):
    """Mean (d,), covariance ``cov`` (d, d) and its diagonal ``var`` (d,).

    Examples:
        >>> import numpy as np
        >>> from kdist.theory import FullGaussianPair, moments
        >>> pair = FullGaussianPair([1.0, 0.0], [[0.5, 0.2], [0.2, 0.4]], [0.0, 0.0], np.eye(2))
        >>> moments(pair, 2.0, sigma_max=80).cov.round(2)
        array([[0.29, 0.18],
               [0.18, 0.2 ]])
    """

    cov: Array


@dataclass(frozen=True, eq=False)
class FullGaussianPair(Pair):
    """A class and the whole it belongs to, Gaussian both, with any covariances.

    Args:
        cond_mean: (d,) mean of the class.
        cond_cov: (d, d) covariance of the class, symmetric, positive definite.
        uncond_mean: (d,) mean of the whole.
        uncond_cov: (d, d) covariance of the whole, symmetric, positive definite.

    :func:`kdist.theory.moments` then gives :class:`FullMoments`, to about 1e-8, at the cost of some thousand products
    of (d, d) matrices.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, covariances that are not symmetric or not
            positive definite.

    Examples:
        >>> import numpy as np
        >>> from kdist.theory import FullGaussianPair, distortion
        >>> pair = FullGaussianPair([1.0, 0.0], [[0.5, 0.2], [0.2, 0.4]], [0.0, 0.0], np.eye(2))
        >>> round(distortion(pair, 2.0, sigma_max=80).trace_ratio, 2)
        0.54
    """

    cond_mean: Array
    cond_cov: Array
    uncond_mean: Array
    uncond_cov: Array
    mixes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("cond_mean", "cond_cov", "uncond_mean", "uncond_cov"):
            value = np.asarray(getattr(self, name), dtype=np.float64)
            if not np.isfinite(value).all():
                raise ValueError(f"{name} must be finite")
            object.__setattr__(self, name, value)
        d = self.cond_mean.size
        for name, shape in (("cond_mean", (d,)), ("uncond_mean", (d,)), ("cond_cov", (d, d)), ("uncond_cov", (d, d))):
            value = getattr(self, name)
            if value.shape != shape or not d:
                raise ValueError(f"{name} must have shape {shape} to fit cond_mean; got {value.shape}")
            if len(shape) == 2:
                size = float(np.abs(value).max())
                if np.abs(value - value.T).max() > 1e-8 * size:
                    raise ValueError(f"{name} must be symmetric")
                smallest = float(np.linalg.eigvalsh(value)[0])
                if not smallest > 1e-14 * size:
                    raise ValueError(
                        f"{name} must be positive definite; its smallest eigenvalue is {smallest:.3g} "
                        "(drop constant features, or estimate with shrinkage)"
                    )
                object.__setattr__(self, name, (value + value.T) / 2)

    @classmethod
    def from_data(
        cls, features: Any, labels: Any, class_: Any, *, shrinkage: str | None = "ledoit_wolf"
    ) -> FullGaussianPair:
        """Class and pooled law of labelled data with their whole covariances; arguments and errors as for
        :meth:`kdist.theory.GaussianPair.from_data`."""
        law = class_and_pooled(features, labels, class_, shrinkage=shrinkage)
        return cls(law.cond_mean, law.cond_cov, law.uncond_mean, law.uncond_cov)

    def capped(self) -> FullGaussianPair:
        """The pair with ``uncond_cov`` raised by the positive part of ``cond_cov - uncond_cov``, so that the class is
        nowhere wider than the whole."""
        values, vectors = np.linalg.eigh(self.cond_cov - self.uncond_cov)
        raised = self.uncond_cov + (vectors * values.clip(0)) @ vectors.T
        return FullGaussianPair(self.cond_mean, self.cond_cov, self.uncond_mean, raised)

    def laws(self) -> tuple[Law, Law]:
        cond, uncond = np.linalg.eigh(self.cond_cov), np.linalg.eigh(self.uncond_cov)
        return (self.cond_mean, *cond), (self.uncond_mean, *uncond)

    def moments(self, mean: Array, spread: Array) -> FullMoments:
        return FullMoments(mean, np.diag(spread).copy(), spread)

    def guided_moments(self, schedule: ScheduleLike, sigma_min: float, sigma_max: float, lam: float) -> FullMoments:
        kappa = (1 + lam) / 2
        c, basis = np.linalg.eigh(self.cond_cov)
        u, vectors = np.linalg.eigh(self.uncond_cov)
        rotation = basis.T @ vectors  # the whole's eigenvectors in the class's eigenbasis
        gap = basis.T @ (self.cond_mean - self.uncond_mean)
        limits = run_limits(schedule, sigma_min=sigma_min, sigma_max=sigma_max, variances=(c, u), floor=_END)
        scale, d = scale_function(schedule), len(c)
        w_start = limits.end_weight
        if limits.infinite:
            # the covariance a run from infinity has, to first order in 1 / t: t I + C - w (U - C)
            root = np.sqrt(c + limits.high**2)
            excess = (rotation * u) @ rotation.T - np.diag(c)
            shift, cov = w_start * gap, np.eye(d) - w_start * excess / np.outer(root, root)
        else:
            shift, cov = -basis.T @ self.cond_mean, np.diag(limits.high**2 / (c + limits.high**2))

        def slope(log_sigma: float, state: Array) -> Array:
            """d/d log sigma of (mean minus class mean, Y)."""
            t = np.exp(2 * log_sigma)
            w = float(scale(np.array([np.exp(log_sigma)]))[0]) - 1
            own, delta, y = 1 / (c + t), state[:d], state[d:].reshape(d, d)
            whole = (rotation / (u + t)) @ rotation.T
            root = np.sqrt(c + t)
            # guidance's part of A, seen by Y
            guided = w * (np.diag(own) - whole * (root / root[:, None]))
            d_delta = kappa * ((1 + w) * own * delta - w * whole @ (delta + gap))
            turned = guided @ y
            d_y = kappa * (turned + turned.T) + lam / 2 * (own[:, None] + own) * y
            d_y[np.diag_indices(d)] -= lam * own
            return 2 * t * np.concatenate([d_delta, d_y.ravel()])

        state = np.concatenate([shift, cov.ravel()])
        edges = split_log_range(schedule, limits.low, limits.high)[::-1]
        for a, b in itertools.pairwise(edges):
            inside = 1e-12 * (a - b)  # never ask for the scale on the far side of a jump
            run = solve_ivp(slope, (a - inside, b + inside), state, method="DOP853", rtol=_RTOL, atol=_ATOL)
            if not run.success or not np.isfinite(run.y[:, -1]).all():
                raise ValueError(
                    f"the guided moments could not be integrated below sigma={np.exp(a):.4g}: {run.message}"
                )
            state = run.y[:, -1]
        root = np.sqrt(c + (sigma_min**2 if sigma_min else 0.0))
        cov = basis @ (root[:, None] * state[d:].reshape(d, d) * root) @ basis.T
        return self.moments(self.cond_mean + basis @ state[:d], (cov + cov.T) / 2)

    def variance_ratio(self, law: Moments) -> Array:
        """Eigenvalues (d,) of ``C^-1 S``, increasing.

        Raises:
            TypeError: ``law`` has no covariance.
        """
        if not isinstance(law, FullMoments):
            raise TypeError("a FullGaussianPair is compared with FullMoments, which carry the whole covariance")
        return eigh(law.cov, self.cond_cov, eigvals_only=True)

    @property
    def total_variance(self) -> float:
        return float(np.trace(self.cond_cov))
