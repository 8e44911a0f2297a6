"""More guidance rules of the field, each a pure function of one call: what people compare a schedule with.

All are :data:`kdist.rules.Rule`; they look at ``denoised`` predictions unless their sentence says otherwise. Methods
that remember earlier steps (momentum, feedback, smoothing over steps) are not here: a prediction that depends on the
calls before it is wrong in mid-step, correction and adaptive calls.
"""

from __future__ import annotations

import math

import torch

from .rules import Rule, along, flat, linear, reduces_at, wide

__all__ = ["angular", "energy_preserving", "frequency_decoupled", "magnitude_aware", "power_law", "tangential"]


@reduces_at(cond=True, uncond=False)
def power_law(
    cond: torch.Tensor,
    uncond: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    sigma: torch.Tensor,
    *,
    alpha: float = 0.9,
) -> torch.Tensor:
    """Power-law guidance (Pavasovic et al. 2025, arXiv 2502.07849): guide less where both predictions agree.

    ``cond + (scale - 1) * r**alpha * (cond - uncond)``, ``r`` the root mean square over a sample's elements of the
    difference of the noise predictions, ``(cond - uncond) / sigma``. The paper takes the norm instead of the root
    mean square, so that its weights depend on the number of pixels; divide them by ``d**(alpha / 2)``.

    Args:
        alpha: the power, above -1; 0 is the linear rule. The paper's is 0.9.

    Raises:
        ValueError: ``alpha`` is not above -1.

    Examples:
        >>> import torch
        >>> from kdist.more_rules import power_law
        >>> cond, uncond = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 1.0]])
        >>> scale, x, sigma = torch.tensor([[3.0]]), torch.zeros(1, 2), torch.ones(1)
        >>> power_law(cond, uncond, scale, x, sigma)
        tensor([[ 4., -2.]])
    """
    if not -1 < alpha < math.inf:
        raise ValueError(
            f"power_law: alpha must be finite and above -1, where guidance would not vanish with it; got {alpha}"
        )
    difference = flat(cond) - flat(uncond)
    length = torch.linalg.vector_norm(difference / flat(sigma), dim=1, keepdim=True)
    size = length / math.sqrt(difference.shape[1])
    factor = torch.where(size > 0, size, 1) ** alpha
    return (cond + (scale - 1) * (factor * difference).view_as(cond)).to(cond.dtype)


@reduces_at(cond=True, uncond=False)
def magnitude_aware(
    cond: torch.Tensor,
    uncond: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    sigma: torch.Tensor,
    *,
    alpha: float = 8.0,
) -> torch.Tensor:
    """MAMBO-G (Zhu et al. 2025, arXiv 2508.03442): guide less where the difference is large beside the prediction.

    ``cond + (scale - 1) * exp(-alpha * |cond - uncond| / |uncond|) * (cond - uncond)``, norms per sample. A scale
    below 1 is damped, too. Its authors look at velocities: ``partial(on_noise, rule=magnitude_aware)`` is near that.

    Args:
        alpha: how soon guidance is damped, at least 0; 0 is the linear rule.

    Raises:
        ValueError: ``alpha`` is negative.

    Examples:
        >>> import torch
        >>> from kdist.more_rules import magnitude_aware
        >>> cond, uncond = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 1.0]])
        >>> scale, x, sigma = torch.tensor([[3.0]]), torch.zeros(1, 2), torch.ones(1)
        >>> magnitude_aware(cond, uncond, scale, x, sigma)
        tensor([[ 2.0007e+00, -6.7093e-04]])
    """
    if not 0 <= alpha < math.inf:
        raise ValueError(f"magnitude_aware: alpha must be at least 0 and finite; got {alpha}")
    difference, base = flat(cond) - flat(uncond), flat(uncond)
    sizes = [torch.linalg.vector_norm(vectors, dim=1, keepdim=True) for vectors in (difference, base)]
    damping = torch.exp(-alpha * sizes[0] / sizes[1].clamp_min(torch.finfo(base.dtype).tiny))
    return (cond + (scale - 1) * (damping * difference).view_as(cond)).to(cond.dtype)


@reduces_at(cond=True, uncond=False)
def energy_preserving(
    cond: torch.Tensor,
    uncond: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    sigma: torch.Tensor,
    *,
    rule: Rule = linear,
) -> torch.Tensor:
    """EP-CFG (Zhang et al. 2024, arXiv 2412.09966): the guided prediction with the energy of the conditional one.

    ``guided * |cond| / |guided|``, norms per sample. Unlike :func:`kdist.rules.rescaled` it counts the mean of the
    pixels as well. The authors' variant that takes the energy between two percentiles is left out.

    Args:
        rule: makes the guided prediction.

    Examples:
        >>> import torch
        >>> from kdist.more_rules import energy_preserving
        >>> cond, uncond = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 1.0]])
        >>> scale, x, sigma = torch.tensor([[3.0]]), torch.zeros(1, 2), torch.ones(1)
        >>> energy_preserving(cond, uncond, scale, x, sigma)
        tensor([[ 1.7889, -0.8944]])
    """
    guided = flat(rule(wide(cond), wide(uncond), scale, wide(x), sigma))
    wanted, size = (torch.linalg.vector_norm(vectors, dim=1, keepdim=True) for vectors in (flat(cond), guided))
    ratio = torch.where(size > 0, wanted / torch.where(size > 0, size, 1), 1)  # finite, and so is its gradient
    return (guided * ratio).view_as(cond).to(cond.dtype)


@reduces_at(cond=True, uncond=False)
def tangential(
    cond: torch.Tensor, uncond: torch.Tensor, scale: torch.Tensor, x: torch.Tensor, sigma: torch.Tensor
) -> torch.Tensor:
    """Tangential damping (TCFG, Kwon et al. 2025, arXiv 2503.18137): the linear rule with a filtered ``uncond``.

    Per sample the two predictions, as two vectors, have a common direction: the first right singular vector of the
    matrix of both. ``uncond`` is replaced by its part along that direction. The authors filter the noise predictions:
    ``partial(on_noise, rule=tangential)``.

    Examples:
        >>> import torch
        >>> from kdist.more_rules import tangential
        >>> cond, uncond = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 1.0]])
        >>> scale, x, sigma = torch.tensor([[3.0]]), torch.zeros(1, 2), torch.ones(1)
        >>> tangential(cond, uncond, scale, x, sigma)
        tensor([[ 3.6584, -0.5528]])
    """
    both = torch.stack([flat(cond), flat(uncond)], 1)
    # the eigenvectors of the 2 x 2 Gram matrix, for the thousands of elements that an SVD would turn around
    weights = torch.linalg.eigh(both @ both.transpose(1, 2))[1][:, :, -1:]
    common = (both * weights).sum(1)
    return linear(cond, along(flat(uncond), common).view_as(cond), scale, x, sigma)


@reduces_at(cond=True, uncond=False)
def angular(
    cond: torch.Tensor,
    uncond: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    sigma: torch.Tensor,
    *,
    max_angle: float = math.pi / 3,
) -> torch.Tensor:
    """Angle domain guidance (ADG, Jin et al. 2025, arXiv 2506.11039): turn away from ``uncond`` instead of going on.

    With ``theta`` the angle between both predictions and ``e`` the part of ``cond`` orthogonal to ``uncond``:
    ``cos(phi) cond + sin(phi) / sin(theta) e``, ``phi = min((scale - 1) * theta, max_angle)``, per sample. Below
    scale 1 the turn goes the other way, to ``-max_angle`` at most.

    Args:
        max_angle: largest turn, radians; the authors' pi / 3.

    Raises:
        ValueError: ``max_angle`` is not in (0, pi].

    Examples:
        >>> import torch
        >>> from kdist.more_rules import angular
        >>> cond, uncond = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 1.0]])
        >>> scale, x, sigma = torch.tensor([[3.0]]), torch.zeros(1, 2), torch.ones(1)
        >>> angular(cond, uncond, scale, x, sigma)
        tensor([[ 2.2247, -1.2247]])
    """
    if not 0 < max_angle <= math.pi:
        raise ValueError(f"angular: max_angle must be in (0, pi] radians; got {max_angle}")
    ours, other = flat(cond), flat(uncond)
    across = ours - along(ours, other)
    length, height = (torch.linalg.vector_norm(vectors, dim=1, keepdim=True) for vectors in (ours, across))
    towards = (ours * torch.nn.functional.normalize(other, dim=1)).sum(1, keepdim=True)
    theta = torch.atan2(height, towards)
    turn = ((flat(scale) - 1) * theta).clamp(-max_angle, max_angle)
    # |e| / sin(theta) is the length of cond; where both agree there is no direction to turn to
    sideways = torch.sin(turn) * length / torch.where(height > 0, height, 1) * across
    return (torch.cos(turn) * ours + sideways).view_as(cond).to(cond.dtype)


@reduces_at(cond=True, uncond=False)
def frequency_decoupled(
    cond: torch.Tensor,
    uncond: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    sigma: torch.Tensor,
    *,
    low: float = 0.5,
) -> torch.Tensor:
    """Frequency-decoupled guidance (FDG, Sadat et al. 2025, arXiv 2506.19713): coarse structure is guided less.

    The two levels of a Laplacian pyramid: fine structure gets the schedule's ``scale``, coarse structure
    ``1 + low * (scale - 1)``.

    Args:
        low: share of the weight that coarse structure gets; 1 is the linear rule.

    Raises:
        ValueError: the predictions are no images (N, C, H, W) of even height and width, at least 4.

    Examples:
        >>> import torch
        >>> from kdist.more_rules import frequency_decoupled
        >>> cond, uncond = torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)  # a difference in coarse structure only
        >>> frequency_decoupled(cond, uncond, torch.tensor(3.0), cond, torch.ones(1), low=0.5).unique()
        tensor([2.])
    """
    if not math.isfinite(low):
        raise ValueError(f"frequency_decoupled: low must be finite; got {low}")
    if cond.ndim != 4 or any(size % 2 or size < 4 for size in cond.shape[2:]):
        raise ValueError(
            "frequency_decoupled needs images (N, C, H, W) of even height and width, at least 4; "
            f"got {tuple(cond.shape)}"
        )
    difference = cond - uncond
    wide = difference if difference.dtype == torch.float64 else difference.float()
    coarse = _blurred(_resized(_resized(_blurred(wide), 0.5), 2.0))
    return (cond + (scale - 1) * (wide + (low - 1) * coarse)).to(cond.dtype)


def _blurred(images: torch.Tensor) -> torch.Tensor:
    """The binomial filter (1, 4, 6, 4, 1) / 16 along both axes, borders reflected."""
    taps = images.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = (taps[:, None] * taps).expand(images.shape[1], 1, 5, 5)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), mode="reflect")
    return torch.nn.functional.conv2d(padded, kernel, groups=images.shape[1])


def _resized(images: torch.Tensor, factor: float) -> torch.Tensor:
    return torch.nn.functional.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)
