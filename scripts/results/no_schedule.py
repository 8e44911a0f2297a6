"""No standard schedule keeps the variance: published schedules, negative windows, and the most that any can reach.

One direction, class ``N(mu, c)`` in a whole ``N(nu, u)``, ``k = 1/(c+t) - 1/(u+t)``, ``kappa = (1 + lam)/2``,
``0 <= lam <= 1``, from infinity. Let ``L(t) = int_0^t w k`` and ``z = exp(-kappa L)``, which falls from 1 at the data.
Equations (5) and (6) of docs/theory.md become, because ``w/(u+t) dt = (c+t)/(u-c) dL`` and by parts,

    overshoot (u-c) = c (1 - z(inf)) + (1-kappa) c**kappa int (c+t)**-kappa (z - z(inf)) dt
    V(0) = [c z(inf)**2, where lam = 0]  +  lam int (c/(c+t))**(2 kappa) z**2 dt

Both grow with ``z`` at every ``t`` for given ``z(inf)``. With ``w`` between two limits and ``L(inf)`` given, ``L(t)``
is least at all ``t`` at once for the lower limit up to some ``t*`` and the upper limit above it. So **LateNegative(s_max,
sigma*, late=s_min) has at least the overshoot and at least the variance of any schedule with the same L(inf)**, with
any noise: the curve over ``sigma*`` bounds every schedule with scale in ``[s_min, s_max]``. With noise 1 the overshoot
depends on ``L(inf)`` alone.

The mean field of many classes is the pair ``c, 1 + c`` in which the weight is 0 once the own class has taken over
(docs/theory_mixtures.md). The same curve bounds it, where ``s_min <= 1``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kdist import (
    Beta,
    Constant,
    Exponential,
    Interval,
    LateNegative,
    LinearInVariance,
    NegativeWindow,
    Piecewise,
    Ramp,
    Schedule,
    Triangle,
)
from kdist.theory import GaussianPair, moments, phase_diagram

from .store import Store
from .style import COLOURS, MARKERS, markdown

__all__ = ["compute", "draw", "frontier", "reachable", "same_budget", "texts"]

Build = Callable[[float], Schedule]
Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]

GAUSSIAN = GaussianPair(0.5, 0.3, 0.0, 1.0)
ALPHA, WITHIN_VAR, SIGMA_MAX = 0.3, 0.1, math.sqrt(2000)  # of the mean field
WORLDS = {"one Gaussian pair": GAUSSIAN, "many classes": GaussianPair(1.0, WITHIN_VAR, 0.0, 1.0 + WITHIN_VAR)}
NOISES = {"ODE": 0.0, "SDE": 1.0}
LOW, HIGH = 0.03, 80.0  # noise levels that the shaped schedules run over

STANDARD: dict[str, list[Build]] = {
    "constant": [Constant],
    "interval": [
        lambda s: Interval(s, 0.2, 1.0),
        lambda s: Interval(s, 0.5, 3.0),
        lambda s: Interval(s, 1.0, 10.0),
        lambda s: Interval(s, 3.0, HIGH),
    ],
    "ramp up": [lambda s: Ramp(1.0, s, LOW, HIGH), lambda s: Ramp(1.0, s, LOW, HIGH, "cosine")],
    "ramp down": [lambda s: Ramp(s, 1.0, LOW, HIGH), lambda s: Ramp(s, 1.0, LOW, HIGH, "cosine")],
    "triangle": [lambda s: Triangle(s, 0.5, LOW, HIGH), lambda s: Triangle(s, 3.0, LOW, HIGH)],
    "beta": [lambda s: Beta(s, LOW, HIGH), lambda s: Beta(s, LOW, HIGH, a=2.0, b=5.0)],
    "exponential": [lambda s: Exponential(s, LOW, HIGH), lambda s: Exponential(s, LOW, HIGH, decay=5.0)],
    "linear in variance": [
        lambda s: LinearInVariance(0.0, 0.3, min_scale=1.0, max_scale=s),
        lambda s: LinearInVariance(0.0, 3.0, min_scale=1.0, max_scale=s),
    ],
}
"""Never below scale 1."""

WINDOWS = ((0.2, 0.6), (0.5, 1.5), (1.0, 3.0), (2.0, 6.0))
NEGATIVE: dict[str, list[Build]] = {
    "window, then the scale again": [lambda s, w=w: NegativeWindow(s, *w) for w in WINDOWS],
    "window, then scale 1": [lambda s, w=w: NegativeWindow(s, *w, after=1.0) for w in WINDOWS],
    "late negative": [lambda s, at=at: LateNegative(s, at) for _, at in WINDOWS],
    "w0 + omega t, w0 = -1": [lambda s, o=o: LinearInVariance(-1.0, o, max_scale=s) for o in (0.3, 3.0)],
}
"""Below scale 1 somewhere, never below 0."""


def run(world: str, lam: float, build: Build, peaks: Sequence[float]) -> Curve:
    """Overshoot and variance ratio of a family of schedules at each peak."""
    if world == "many classes":
        result = phase_diagram([ALPHA], peaks, within_var=WITHIN_VAR, sigma_max=SIGMA_MAX, noise=lam, family=build)
        return result.overlap[0] - 1, result.variance_ratio[0]
    return outcome(WORLDS[world], lam, [build(peak) for peak in peaks])


def outcome(pair: GaussianPair, lam: float, schedules: Sequence[Schedule | float]) -> Curve:
    """The same for a Gaussian pair of one direction, from infinity."""
    laws = [moments(pair, schedule, sigma_max=math.inf, noise=lam) for schedule in schedules]
    gap = pair.cond_mean[0] - pair.uncond_mean[0]
    return (
        np.array([(law.mean[0] - pair.cond_mean[0]) / gap for law in laws]),
        np.array([law.var[0] / pair.cond_var[0] for law in laws]),
    )


def switch_sigma(pair: GaussianPair, share: float) -> float:
    """Noise level below which ``share`` of ``int k = log(u/c)`` lies."""
    c, u = pair.cond_var[0], pair.uncond_var[0]
    ratio = (u / c) ** share  # u (c + t) / (c (u + t))
    return math.sqrt(c * u * (ratio - 1) / (u - c * ratio)) if share < 1 else math.inf


def frontier(pair: GaussianPair, lam: float, low: float, high: float, points: int) -> Curve:
    """The bound on all schedules with scale in [low, high]: overshoot rising, and the largest variance ratio there."""
    shares = np.linspace(1, 0, points)[1:-1]
    schedules = [LateNegative(high, switch_sigma(pair, share), late=low) for share in shares]
    overshoot, ratio = outcome(pair, lam, [low, *schedules, high])
    # lower switches only lose variance once the overshoot is at its largest
    end = int(overshoot.argmax()) + 1
    return overshoot[:end], ratio[:end]


def reachable(curve: Curve, overshoot: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The largest variance ratio at these overshoots on a frontier; nan where no schedule reaches the overshoot."""
    return np.exp(np.interp(overshoot, curve[0], np.log(curve[1]), right=math.nan))


def same_budget(pair: GaussianPair, schedule: Schedule, low: float, high: float) -> LateNegative:
    """The best schedule in [low, high] with the ``L(inf)`` of ``schedule``: no less overshoot, no less variance."""
    c, u = pair.cond_var[0], pair.uncond_var[0]
    budget = -math.log(outcome(pair, 0.0, [schedule])[1][0])  # the ODE's log-variance ratio is -L(inf)
    share = ((high - 1) - budget / math.log(u / c)) / (high - low)
    return LateNegative(high, switch_sigma(pair, min(max(share, 0.0), 1 - 1e-12)), late=low)


def random_schedules(count: int, low: float, high: float, seed: int) -> list[Piecewise]:
    """Held steps over eight noise levels, half of them at the two limits only."""
    rng = np.random.default_rng(seed)
    sigmas = np.geomspace(20, 0.05, 8).tolist()
    values = rng.uniform(low, high, (count, 8))
    values[::2] = np.where(values[::2] > (low + high) / 2, high, low)
    return [Piecewise(sigmas, row.tolist()) for row in values]


def excess(world: str, lam: float, low: float, high: float, count: int, seed: int) -> dict[str, float]:
    """Largest variance ratio of random schedules over the bound at their overshoot, at most 1; and how many."""
    schedules = random_schedules(count, low, high, seed)
    overshoot, ratio = run(world, lam, lambda i: schedules[int(i)], list(range(count)))
    bound = reachable(frontier(WORLDS[world], lam, low, high, 800), overshoot)
    return {"count": count, "largest": float((ratio / bound).max())}


def compute(
    store: Store, *, peaks: Sequence[float], points: int, random: int, random_range: Sequence[float], seed: int
) -> list[dict[str, Any]]:
    """One row per world and noise.

    Args:
        peaks: largest scales of the schedules; bounds are computed for each.
        points: along each bound.
        random, random_range, seed: random schedules held against the bound, and the limits of their scale.
    """
    rows = []
    for world, pair in WORLDS.items():
        for noise, lam in NOISES.items():
            place = {"world": world, "lam": lam, "alpha": ALPHA, "sigma_max": SIGMA_MAX}
            place |= {"c": float(pair.cond_var[0]), "u": float(pair.uncond_var[0])}
            found: list[dict[str, Any]] = []
            for kind, families in (("standard", STANDARD), ("negative", NEGATIVE)):
                for family, builds in families.items():
                    for build in builds:
                        names = [str(build(peak)) for peak in peaks]
                        curve = store.get(place | {"schedules": names}, lambda: listed(run(world, lam, build, peaks)))
                        found += [
                            {"kind": kind, "family": family, "schedule": n, "peak": p, "overshoot": o, "ratio": r}
                            for n, p, o, r in zip(names, peaks, *curve, strict=True)
                        ]
            bounds = {
                (low, peak): store.get(
                    place | {"bound": [low, peak], "points": points},
                    lambda: listed(frontier(pair, lam, low, peak, points)),
                )
                for low in (0.0, 1.0)
                for peak in peaks
            }
            limits = [float(limit) for limit in random_range]
            check = store.get(
                place | {"random": random, "range": limits, "seed": seed},
                lambda: excess(world, lam, limits[0], limits[1], random, seed),
            )
            rows.append({"world": world, "noise": noise, "points": found, "bounds": bounds, "random": check})
    return rows


def listed(curve: Curve) -> list[list[float]]:
    return [[float(f"{value:.6g}") for value in values] for values in curve]


def verdict(row: dict[str, Any], point: dict[str, Any]) -> str:
    """Whether a negative part buys variance that no schedule from scale 1 to the same peak has at that overshoot."""
    if point["overshoot"] <= 0:
        return "mean lost"
    best = reachable(row["bounds"][1.0, point["peak"]], point["overshoot"])
    return "helps" if not point["ratio"] <= best * (1 + 1e-3) else "no help"  # 1e-3: between the bound's points


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """One panel per world and noise: variance ratio against overshoot."""
    import matplotlib.pyplot as plt

    top = max(peak for _, peak in rows[0]["bounds"])
    fig, axes = plt.subplots(2, 2, figsize=(10, 8.6), layout="constrained")
    for ax, row in zip(axes.flat, rows, strict=True):
        for low, style in ((0.0, "--"), (1.0, "-")):
            ax.plot(*row["bounds"][low, top], "k", ls=style, lw=1.2, label=f"most that scale {low:g} to {top:g} can reach")
        for (family, _), marker in zip(STANDARD.items(), ("o", "s", "^", "v", "D", "P", "X", "*"), strict=True):
            scatter(ax, row, family, marker, facecolors="none", edgecolors="0.45")
        for (family, _), marker, colour in zip(NEGATIVE.items(), MARKERS, COLOURS, strict=False):
            scatter(ax, row, family, marker, facecolors=colour, edgecolors="none")
        ax.axhline(1, color="0.6", lw=0.8, zorder=0)
        ax.axvline(0, color="0.6", lw=0.8, zorder=0)
        ax.set_yscale("log")
        ax.set_title(f"{row['world']}, {row['noise']}", fontsize=11)
        ax.set_xlabel("overshoot of the mean")
        ax.set_ylabel("variance / true variance")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), ncols=4, fontsize=8, loc="outside lower center", frameon=False)
    fig.savefig(path, dpi=100)
    plt.close(fig)


def scatter(ax: Any, row: dict[str, Any], family: str, marker: str, **look: Any) -> None:
    mine = [point for point in row["points"] if point["family"] == family]
    ax.scatter(
        [p["overshoot"] for p in mine], [p["ratio"] for p in mine], s=22, marker=marker, label=family, lw=0.9, **look
    )


def texts(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {}
