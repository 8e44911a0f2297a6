"""The picture of a prediction: schedules, what they do to each direction's variance, and to each class's mean."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kdist import Schedule
from kdist.files import png
from kdist.plotting import PALETTE

from .gaussian.pair import GaussianPair
from .gaussian.summary import Distortion

__all__ = ["draw_prediction"]

STYLES = tuple(zip(PALETTE, "os^DvP", strict=False))  # markers say the same once more


def draw_prediction(
    schedules: Mapping[str, Schedule],
    pairs: Mapping[str, GaussianPair],
    results: Mapping[str, Mapping[str, Distortion]],
) -> bytes:
    """A three-panel picture, as the bytes of a PNG file.

    Args:
        schedules: curves of the first panel by name (a constant one needs none).
        pairs: each class and the whole, by class.
        results: prediction by schedule, then by class.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        import matplotlib.pyplot as plt
        from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'kdist[evals]'") from error
    figure, (curve, spectrum, mean) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    names = list(dict.fromkeys([*schedules, *results]))
    style = {name: STYLES[i % len(STYLES)] for i, name in enumerate(names)}
    places = np.arange(len(pairs))
    for name, schedule in schedules.items():
        schedule.plot(ax=curve, color=style[name][0], label=_short(name), linewidth=1.8)
    width = 0.6 / max(1, len(results))
    for i, (name, by_class) in enumerate(results.items()):
        colour, marker = style[name]
        relative = np.concatenate([pairs[key].cond_var / pairs[key].uncond_var for key in by_class])
        ratio = np.concatenate([d.variance_ratio for d in by_class.values()])
        spectrum.plot(relative, ratio, marker, color=colour, markersize=3.5, alpha=0.55, label=_short(name))
        shift = places + (i - (len(results) - 1) / 2) * width
        mean.plot(shift, [d.overshoot for d in by_class.values()], marker, color=colour, label=_short(name))
    curve.set_title("schedule")
    for axes in (spectrum, mean):
        axes.axhline(1.0 if axes is spectrum else 0.0, color="0.6", linewidth=0.8, zorder=0)
    spectrum.set_xscale("log")
    spectrum.set_yscale("log")
    for axis in (spectrum.xaxis, spectrum.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_formatter(NullFormatter())
    spectrum.set_xlabel("class variance / pooled variance, per direction")
    spectrum.set_ylabel("generated / class variance")
    spectrum.set_title("variance kept (1: no distortion)")
    mean.set_xticks(places, [_plain(name) for name in pairs], rotation=0 if len(pairs) <= 12 else 90)
    mean.set_xlabel("class")
    mean.set_ylabel("overshoot, in distances to the global mean")
    mean.set_title("mean (0: no distortion)")
    # one legend under all panels: inside one it would cover points
    found = {
        label: handle for axes in (curve, mean) for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=3, fontsize=8)
    return png(figure, dpi=150)


def _short(name: str) -> str:
    """A schedule's name as it fits in a legend; a bare number is a constant scale."""
    try:
        return f"constant {float(name):g}"
    except ValueError:
        return _plain(name if len(name) <= 40 else f"{name[:37]}...")


def _plain(name: str) -> str:
    """A dollar in a name begins no formula."""
    return name.replace("$", r"\$")
