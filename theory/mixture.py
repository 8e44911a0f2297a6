"""Gaussian mixtures with their exact scores, as a model that every k-diffusion solver can sample.

Notation: component ``j`` is ``N(mu_j, C_j)`` with weight ``p_j`` and belongs to one class; ``t = sigma**2``. Noised, it
is ``N(mu_j, C_j + t)``, so with the responsibilities ``r_j(x) ~ p_j N(x; mu_j, C_j + t)``, summing to 1,

    score    = sum_j r_j (C_j + t)^-1 (mu_j - x)                                                                (E1)
    denoised = sum_j r_j [mu_j + C_j (C_j + t)^-1 (x - mu_j)] = x + t score                                     (E2)

Both are evaluated as written, not one from the other, so neither loses digits at small or large sigma. Covariances are
diagonalised once; the sum over components runs in chunks with a running maximum, so memory does not grow with their
number. Class ``c`` conditions on its own components, class ``K`` on none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from .covariance import Shrinkage, covariance
from .mixture_terms import Quantity, alike, eigen_terms, isotropic_terms, lifted

__all__ = ["GaussianMixtureDenoiser"]


class GaussianMixtureDenoiser(nn.Module):
    """The exact denoiser of a Gaussian mixture: ``forward(x, sigma, class_cond) -> denoised``.

    Args:
        means: (M, ...) component means; a sample has the shape ``...`` and ``d`` numbers.
        covariances: full (M, d, d), diagonal (M, d) or shaped as ``means``, isotropic (M,), or one number for all.
        weights: (M,) positive weights, normalised here; None makes all equal.
        labels: (M,) the class of each component, ``0..K-1``, none empty; None makes each component a class. Components
            are kept sorted by class.
        dtype: Type of the stored parameters and of all arithmetic; float32 halves memory and time for many components.
        chunk_elements: how many numbers one intermediate array may hold; what fits a processor's cache is fastest.

    Attributes:
        num_classes: K; ``class_cond = K`` is unconditional.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, a covariance that is not symmetric and positive
            definite, an empty class.

    Examples:
        >>> import torch
        >>> from kdist.theory import GaussianMixtureDenoiser
        >>> model = GaussianMixtureDenoiser(means=[[-1.0], [1.0]], covariances=0.1)
        >>> x, sigma = torch.full((2, 1), 0.5), torch.ones(2)
        >>> model(x, sigma, class_cond=torch.tensor([1, 2]))  # the second class, then no class
        tensor([[0.9545],
                [0.4324]])
    """

    means: torch.Tensor  # (M, d)
    variances: torch.Tensor  # (M, d) eigenvalues, or (M, 1) where isotropic
    axes: torch.Tensor | None  # (M, d, d) eigenvectors in columns, None where the axes are the coordinates
    log_weights: torch.Tensor  # (M,)
    labels: torch.Tensor  # (M,) increasing
    offsets: torch.Tensor  # (K + 1,) class c owns components offsets[c]:offsets[c + 1]
    lifted: torch.Tensor | None  # (M, d + 3), see mixture_terms; None where components differ in more than their means

    def __init__(
        self,
        means: ArrayLike | torch.Tensor,
        covariances: ArrayLike | torch.Tensor | float,
        weights: ArrayLike | torch.Tensor | None = None,
        *,
        labels: ArrayLike | torch.Tensor | None = None,
        dtype: torch.dtype = torch.float64,
        chunk_elements: int = 2**19,
    ) -> None:
        super().__init__()
        centres = _finite("means", means, dtype)
        if centres.ndim < 2 or 0 in centres.shape:
            raise ValueError(f"means must be (components, ...), not empty; got shape {tuple(centres.shape)}")
        if chunk_elements < 1:
            raise ValueError(f"chunk_elements must be at least 1; got {chunk_elements}")
        self.sample_shape = centres.shape[1:]
        self.chunk_elements = chunk_elements
        count = len(centres)
        variances, axes = _diagonalise(_finite("covariances", covariances, dtype), centres)
        mass = torch.ones(count, dtype=dtype) if weights is None else _finite("weights", weights, dtype)
        if mass.shape != (count,) or not (mass > 0).all():
            raise ValueError(f"weights must be {count} positive numbers, one per component; got {_brief(mass)}")
        owner = torch.arange(count) if labels is None else _class_labels("labels", labels, count)
        order = torch.argsort(owner, stable=True) if labels is not None else slice(None)
        self.num_classes = int(owner.max()) + 1
        self.register_buffer("means", centres.flatten(1)[order])
        self.register_buffer("variances", variances[order])
        self.register_buffer("axes", None if axes is None else axes[order])
        self.register_buffer("log_weights", (mass / mass.sum()).log()[order])
        self.register_buffer("labels", owner[order])
        sizes = torch.bincount(owner, minlength=self.num_classes)
        self.register_buffer("offsets", torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]))
        same = variances.shape[1] == 1 and bool((variances == variances[0]).all())
        self.register_buffer("lifted", lifted(self.means, self.log_weights) if same else None, persistent=False)

    @classmethod
    def fit(
        cls,
        x: ArrayLike | torch.Tensor,
        y: ArrayLike | torch.Tensor,
        *,
        shrinkage: Shrinkage | float | None = None,
        floor: float = 1e-6,
        **options: Any,
    ) -> GaussianMixtureDenoiser:
        """One Gaussian per class, weighted by the class frequencies.

        Args:
            x: (N, ...) samples.
            y: (N,) their classes, ``0..K-1``.
            shrinkage: None for the sample covariance; ``"ledoit_wolf"``, ``"oas"`` or a number in [0, 1] to shrink it
                towards a multiple of the identity (:func:`kdist.theory.covariance.covariance`).
            floor: smallest eigenvalue, as a part of the class's mean variance. Constant pixels and classes with fewer
                samples than dimensions have directions without variance; this keeps them usable.
            options: passed to the constructor.

        Raises:
            ValueError: an empty class, or one with a single sample (its covariance is undefined: use
                :meth:`empirical`) or with no variance at all; numbers that are not finite.
        """
        rows, labels = _finite("x", x, torch.float64), _class_labels("y", y, len(torch.as_tensor(x)))
        if not 0 < floor < 1:
            raise ValueError(f"floor is a part of the mean variance, in (0, 1); got {floor}")
        flat = rows.flatten(1).numpy()
        means, covariances = [], []
        for c in range(int(labels.max()) + 1):
            own = flat[labels.numpy() == c]
            if len(own) < 2:
                raise ValueError(f"class {c} has one sample, which gives no covariance; use empirical() or add samples")
            values, vectors = np.linalg.eigh(covariance(own, shrinkage))
            if not values.mean() > 0:
                raise ValueError(f"class {c} has no variance: all of its {len(own)} samples are equal")
            values = np.maximum(values, floor * values.mean())
            means.append(own.mean(0))
            covariances.append((vectors * values) @ vectors.T)
        centres = torch.as_tensor(np.stack(means)).reshape(-1, *rows.shape[1:])
        return cls(centres, np.stack(covariances), torch.bincount(labels).double(), **options)

    @classmethod
    def empirical(
        cls, x: ArrayLike | torch.Tensor, y: ArrayLike | torch.Tensor, width: float, **options: Any
    ) -> GaussianMixtureDenoiser:
        """Each class the mixture of its own samples, each a Gaussian of standard deviation ``width``.

        Unconditional is the mixture of all samples. A class with one sample is one Gaussian.

        Args:
            x: (N, ...) samples.
            y: (N,) their classes, ``0..K-1``, none empty.
            width: standard deviation of each component, in the units of ``x``.
            options: passed to the constructor.
        """
        if not (math.isfinite(width) and width > 0):
            raise ValueError(f"width is a standard deviation, positive and finite; got {width}")
        return cls(x, width**2, labels=y, **options)

    def forward(self, x: torch.Tensor, sigma: torch.Tensor | float, class_cond: torch.Tensor | int) -> torch.Tensor:
        """The posterior mean of the clean sample given ``x``, equation E2.

        Args:
            x: (N, ...) noisy samples of ``d`` numbers each, in any shape.
            sigma: (N,) or one noise level.
            class_cond: (N,) or one class in ``0..K``, K unconditional.

        Returns:
            As ``x`` in shape and dtype (the arithmetic is in the mixture's own dtype).

        Raises:
            ValueError: a shape that does not fit, a negative or non-finite sigma, a class out of range.
        """
        return self._evaluate(x, sigma, class_cond, "denoised").reshape(x.shape).to(x.dtype)

    def score(self, x: torch.Tensor, sigma: torch.Tensor | float, class_cond: torch.Tensor | int) -> torch.Tensor:
        """The gradient of :meth:`log_prob` in ``x``, equation E1; arguments and errors as for :meth:`forward`."""
        return self._evaluate(x, sigma, class_cond, "score").reshape(x.shape).to(x.dtype)

    def log_prob(self, x: torch.Tensor, sigma: torch.Tensor | float, class_cond: torch.Tensor | int) -> torch.Tensor:
        """(N,) log-density of the noised class at ``x``; arguments and errors as for :meth:`forward`."""
        return self._evaluate(x, sigma, class_cond, "log_prob")[:, 0].to(x.dtype)

    def sample(
        self, class_cond: torch.Tensor, *, sigma: float = 0.0, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Exact samples of each class in ``class_cond`` (N,), noised to ``sigma``: (N, ...) in the mixture's dtype."""
        level = self._variance(sigma, len(class_cond), self.means)
        classes = self._classes(class_cond, len(class_cond))
        total = self.log_weights.exp().cumsum(0)
        edges = torch.cat([total.new_zeros(1), total])
        unconditional = classes == self.num_classes
        own = classes.clamp_max(self.num_classes - 1)
        first = torch.where(unconditional, 0, self.offsets[own])
        last = torch.where(unconditional, len(total), self.offsets[own + 1])
        uniform = torch.rand(len(classes), dtype=total.dtype, generator=generator, device=total.device)
        place = edges[first] + uniform * (edges[last] - edges[first])
        component = torch.minimum(torch.maximum(torch.searchsorted(total, place, right=True), first), last - 1)
        shape = (len(classes), self.means.shape[1])
        noise = torch.randn(shape, dtype=total.dtype, generator=generator, device=total.device)
        offset = (self.variances[component] + level).sqrt() * noise
        if self.axes is not None:
            for j in component.unique():  # not axes[component]: that would copy d x d numbers for each sample
                offset[component == j] = offset[component == j] @ self.axes[j].T
        return (self.means[component] + offset).reshape(-1, *self.sample_shape)

    # Evaluation

    def _evaluate(
        self, x: torch.Tensor, sigma: torch.Tensor | float, class_cond: torch.Tensor | int, quantity: Quantity
    ) -> torch.Tensor:
        """(N, d), or (N, 1) for log_prob: rows are grouped by the components that they see."""
        rows = x.flatten(1).to(self.means.dtype)
        if rows.shape[1] != self.means.shape[1]:
            raise ValueError(
                f"x must hold {self.means.shape[1]} numbers per sample, as the means do; got shape {tuple(x.shape)}"
            )
        t = self._variance(sigma, len(x), rows)
        classes = self._classes(class_cond, len(x))
        if not len(x):
            return rows[:, :1] if quantity == "log_prob" else rows
        index, parts = [], []
        for first, last, group in self._groups(classes):
            index.append(group)
            if last is None:  # row i sees component first[i] alone
                parts.append(self._pair(rows[group], t[group], first, quantity))
            else:
                parts.append(self._mix(rows[group], t[group], first, last, quantity))
        return torch.cat(parts)[torch.cat(index).argsort()]

    def _groups(self, classes: torch.Tensor) -> Iterator[tuple[Any, int | None, torch.Tensor]]:
        """``(first, last, rows)``: these rows see components first:last, or (last None) row i the one first[i]."""
        remaining = torch.ones_like(classes, dtype=torch.bool)
        if self.axes is None:
            own = classes.clamp_max(self.num_classes - 1)
            single = (classes < self.num_classes) & (self.offsets[own + 1] - self.offsets[own] == 1)
            if single.any():
                yield self.offsets[own[single]], None, single.nonzero()[:, 0]
            remaining = ~single
        for c in classes[remaining].unique().tolist():
            whole = c == self.num_classes
            first, last = (0, len(self.means)) if whole else self.offsets[c : c + 2].tolist()
            yield first, last, (classes == c).nonzero()[:, 0]

    def _pair(self, x: torch.Tensor, t: torch.Tensor, component: torch.Tensor, quantity: Quantity) -> torch.Tensor:
        means, variances = self.means[component], self.variances[component]
        log_density, combine = eigen_terms(x, t, means[None], variances[None], None, quantity)
        return log_density if quantity == "log_prob" else combine(torch.ones_like(log_density))

    def _mix(self, x: torch.Tensor, t: torch.Tensor, first: int, last: int, quantity: Quantity) -> torch.Tensor:
        """E1, E2 or the log-density over components first:last, by a softmax that never holds all of them."""
        if self.lifted is not None:
            rows = self.lifted[first:last]
            out = alike(x, t, rows, self.variances[0], self.chunk_elements, quantity)
            return out - self.log_weights[first:last].logsumexp(0) if quantity == "log_prob" else out
        isotropic = self.variances.shape[1] == 1
        step = max(1, self.chunk_elements // (len(x) * (1 if isotropic else x.shape[1])))
        peak = x.new_full((len(x), 1), -math.inf)
        total, out = torch.zeros_like(peak), torch.zeros_like(x)
        for start in range(first, last, step):
            chunk = slice(start, min(start + step, last))
            means, variances = self.means[chunk], self.variances[chunk]
            if isotropic:
                log_density, combine = isotropic_terms(x, t, means, variances[:, 0], quantity)
            else:
                axes = None if self.axes is None else self.axes[chunk]
                log_density, combine = eigen_terms(x, t, means[:, None], variances[:, None], axes, quantity)
            logits = log_density + self.log_weights[chunk]
            higher = torch.maximum(peak, logits.detach().amax(1, keepdim=True))
            weight, shrink = (logits - higher).exp(), (peak - higher).exp()
            total = total * shrink + weight.sum(1, keepdim=True)
            if quantity != "log_prob":
                out = out * shrink + combine(weight)
            peak = higher
        if quantity == "log_prob":
            return peak + total.log() - self.log_weights[first:last].logsumexp(0)
        return out / total

    def _variance(self, sigma: torch.Tensor | float, count: int, like: torch.Tensor) -> torch.Tensor:
        """(N, 1) ``sigma**2``."""
        level = torch.as_tensor(sigma, dtype=like.dtype, device=like.device)
        if level.numel() not in (1, count):
            raise ValueError(f"sigma must be one number or {count}, one per sample; got shape {tuple(level.shape)}")
        if not ((level >= 0) & (level < math.inf)).all():
            raise ValueError(f"sigma must be finite and not negative; got {_brief(level)}")
        return level.reshape(-1, 1).expand(count, 1) ** 2

    def _classes(self, class_cond: torch.Tensor | int, count: int) -> torch.Tensor:
        classes = torch.as_tensor(class_cond, device=self.means.device)
        if classes.is_floating_point() or classes.numel() not in (1, count):
            raise ValueError(
                f"class_cond must be one integer or {count}, one per sample; got {_brief(classes)} ({classes.dtype})"
            )
        classes = classes.long().reshape(-1).expand(count)
        if ((classes < 0) | (classes > self.num_classes)).any():
            raise ValueError(
                f"class_cond must be in 0..{self.num_classes} ({self.num_classes} is unconditional); "
                f"got {_brief(classes)}"
            )
        return classes


# Checks


def _diagonalise(covariances: torch.Tensor, means: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Eigenvalues (M, d) or (M, 1), and eigenvectors (M, d, d) or None."""
    count, d = len(means), means[0].numel()
    axes = None
    if covariances.shape == ():
        values = covariances.expand(count, 1)
    elif covariances.shape == (count,):
        values = covariances[:, None]
    elif covariances.shape in ((count, d), means.shape):
        values = covariances.reshape(count, d)
    elif covariances.shape == (count, d, d):
        size = covariances.abs().amax((1, 2), keepdim=True)
        if ((covariances - covariances.mT).abs() > 1e-6 * size).any():
            raise ValueError("covariances must be symmetric; at least one differs from its transpose")
        values, axes = torch.linalg.eigh((covariances + covariances.mT) / 2)
    else:
        raise ValueError(
            f"covariances must be a number, ({count},), ({count}, {d}) or ({count}, {d}, {d}) for {count} means of "
            f"{d} numbers; got shape {tuple(covariances.shape)}"
        )
    # an eigenvalue below the rounding of the largest is a singular matrix, whatever its sign came out as
    least = torch.finfo(values.dtype).eps * values.amax(1, keepdim=True) if axes is not None else 0
    if not (values > least).all():
        raise ValueError(
            f"covariances must be positive definite; the smallest variance found is {float(values.min()):.3g} "
            "(add a multiple of the identity, or estimate with shrinkage)"
        )
    return values, axes


def _finite(name: str, value: Any, dtype: torch.dtype) -> torch.Tensor:
    try:
        tensor = torch.as_tensor(value, dtype=dtype, device="cpu").detach()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers: {error}") from None
    if not tensor.isfinite().all():
        raise ValueError(f"{name} must be finite; {int((~tensor.isfinite()).sum())} of {tensor.numel()} are not")
    return tensor


def _class_labels(name: str, value: Any, count: int) -> torch.Tensor:
    labels = torch.as_tensor(value, device="cpu")
    if labels.shape != (count,) or labels.is_floating_point() or labels.is_complex() or not count:
        raise ValueError(f"{name} must be {count} integers; got {labels.dtype} of shape {tuple(labels.shape)}")
    labels = labels.long()
    if labels.min() < 0:
        raise ValueError(f"{name} must be classes 0..K-1; got {int(labels.min())}")
    empty = (torch.bincount(labels) == 0).nonzero()[:, 0]
    if len(empty):
        raise ValueError(f"{name} must use every class from 0 to {int(labels.max())}; none is in class {_brief(empty)}")
    return labels


def _brief(values: torch.Tensor) -> str:
    shown = ", ".join(f"{v:.4g}" for v in values.reshape(-1)[:6].tolist())
    return f"{shown}{', ...' if values.numel() > 6 else ''} (shape {tuple(values.shape)})"
