"""The two conventions for the strength of guidance: k-diffusion's ``cond_scale``, and the papers' weight."""

from __future__ import annotations

__all__ = ["scale_to_weight", "weight_to_scale"]


def scale_to_weight(scale: float) -> float:
    """k-diffusion's ``scale`` as the papers' ``w``: 0 conditional, -1 unconditional.

    Examples:
        >>> import kdist
        >>> kdist.scale_to_weight(4.0)
        3.0
    """
    return scale - 1


def weight_to_scale(weight: float) -> float:
    """The papers' ``w`` as k-diffusion's ``scale``.

    Examples:
        >>> import kdist
        >>> kdist.weight_to_scale(3.0)
        4.0
    """
    return weight + 1
