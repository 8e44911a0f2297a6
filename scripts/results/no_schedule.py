"""No standard schedule keeps the variance: published schedules, negative windows, and the most that any can reach.

At equal overshoot, that is; what schedules cost at equal alignment with the class is in :mod:`.equal_alignment`.

One direction, class ``N(mu, c)`` in a whole ``N(nu, u)``, ``k = 1/(c+t) - 1/(u+t)``, ``kappa = (1 + lam)/2``,
``0 <= lam <= 1``, from infinity. Let ``L(t) = int_0^t w k`` and ``z = exp(-kappa L)``, which falls from 1 at the data.
Equations (5) and (6) of docs/theory.md become, because ``w/(u+t) dt = (c+t)/(u-c) dL`` and by parts,

    overshoot (u-c) = c (1 - z(inf)) + (1-kappa) c**kappa int (c+t)**-kappa (z - z(inf)) dt
    V(0) = [c z(inf)**2, where lam = 0]  +  lam int (c/(c+t))**(2 kappa) z**2 dt

Both grow with ``z`` at every ``t`` for given ``z(inf)``. With ``w`` between two limits and ``L(inf)`` given, ``L(t)``
is least at all ``t`` at once for the lower limit up to some ``t*`` and the upper limit above it. So
``LateNegative(s_max, sigma*, late=s_min)`` has at least the overshoot and at least the variance of any schedule with
the same ``L(inf)``: the curve over ``sigma*`` bounds every schedule with scale in ``[s_min, s_max]``, with or without
noise. With noise 1 the overshoot depends on ``L(inf)`` alone.

The mean field of many classes is the pair ``c, 1 + c`` in which the weight is 0 once the own class has taken over
(docs/theory_mixtures.md). The same curve bounds it, where ``s_min <= 1``, and a constant scale is on the curve for
``s_min = 1``: the takeover ends guidance at one ``t*`` by itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from kdist import (
    Beta,
    Constant,
    EarlyNegative,
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
from kdist.theory import GaussianPair, distortion, phase_diagram
from scripts.results import equal_alignment
from scripts.results.class_moments import separability
from scripts.results.law_distance import in_many_dimensions, in_one_dimension
from scripts.results.store import Store
from scripts.style import COLOURS, MARKERS, markdown, save

__all__ = ["compute", "draw", "frontier", "reachable", "same_budget", "texts"]

Build = Callable[[float], Schedule]
Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]

GAUSSIAN = GaussianPair(0.5, 0.3, 0.0, 1.0)
ALPHA, WITHIN_VAR, SIGMA_MAX = 0.3, 0.1, math.sqrt(2000)  # of the mean field
STARTS = {"one Gaussian pair": math.inf, "many classes": SIGMA_MAX}
WORLDS = {"one Gaussian pair": GAUSSIAN, "many classes": GaussianPair(1.0, WITHIN_VAR, 0.0, 1.0 + WITHIN_VAR)}
NOISES = {"ODE": 0.0, "SDE": 1.0}
LOWS = (0.0, 1.0)  # bounds: the whole is not left, or the class is never guided negatively
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

FRAMES = {  # of the panels: overshoot from, to, variance ratio from, to, and its ticks
    ("one Gaussian pair", "ODE"): (-0.25, 1.7, 0.008, 4.0, (0.01, 0.03, 0.1, 0.3, 1, 3)),
    ("one Gaussian pair", "SDE"): (-0.25, 0.45, 0.09, 4.0, (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3)),
    ("many classes", "ODE"): (-0.15, 0.7, 0.45, 2.0, (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.5, 2)),
    ("many classes", "SDE"): (-0.03, 0.11, 0.93, 1.1, (0.95, 1, 1.05, 1.1)),
}

WINDOWS = ((0.2, 0.6), (0.5, 1.5), (1.0, 3.0), (2.0, 6.0))
NEGATIVE: dict[str, list[Build]] = {
    "window, then the scale again": [lambda s, w=w: NegativeWindow(s, *w) for w in WINDOWS],
    "window, then scale 1": [lambda s, w=w: NegativeWindow(s, *w, after=1.0) for w in WINDOWS],
    "late negative": [lambda s, at=at: LateNegative(s, at) for _, at in WINDOWS],
    "early negative": [lambda s, at=at: EarlyNegative(s, at) for _, at in WINDOWS],
    "w0 + omega t, w0 = -1": [lambda s, o=o: LinearInVariance(-1.0, o, max_scale=s) for o in (0.3, 3.0)],
}
"""Below scale 1 somewhere, never below 0."""


def run(world: str, lam: float, schedules: Sequence[Schedule]) -> Curve:
    """Overshoot and variance ratio of each schedule."""
    if world == "many classes":
        setting = {"within_var": WITHIN_VAR, "sigma_max": SIGMA_MAX, "noise": lam}
        result = phase_diagram([ALPHA], range(len(schedules)), family=lambda i: schedules[int(i)], **setting)
        return result.overlap[0] - 1, result.variance_ratio[0]
    return outcome(WORLDS[world], lam, schedules)


def outcome(pair: GaussianPair, lam: float, schedules: Sequence[Schedule | float]) -> Curve:
    """The same for a Gaussian pair of one direction, from infinity."""
    found = [distortion(pair, schedule, sigma_max=math.inf, noise=lam) for schedule in schedules]
    return np.array([d.overshoot for d in found]), np.array([d.trace_ratio for d in found])


def switch_sigma(pair: GaussianPair, share: float) -> float:
    """Noise level below which ``share`` of ``int k = log(u/c)`` lies."""
    c, u = pair.cond_var[0], pair.uncond_var[0]
    ratio = (u / c) ** share  # u (c + t) / (c (u + t))
    return math.sqrt(c * u * (ratio - 1) / (u - c * ratio)) if share < 1 else math.inf


def frontier(pair: GaussianPair, lam: float, low: float, high: float, points: int, start: float = math.inf) -> Curve:
    """The bound on all schedules with scale in [low, high] below the noise level ``start``, and 1 above it.

    Returns:
        Overshoot, rising, and the largest variance ratio there.
    """
    c, u = pair.cond_var[0], pair.uncond_var[0]
    guided = 1 - math.log1p((u - c) / (c + start**2)) / math.log(u / c)  # share of int k below the start
    shares = guided * (1 + np.cos(np.linspace(0, math.pi, points)[1:-1])) / 2  # dense at both ends, where it bends
    late = [LateNegative(high, switch_sigma(pair, share), late=low) for share in shares]
    schedules: list[Schedule] = [Constant(low), *late, Constant(high)]
    if start < math.inf:
        schedules = [Constant(1.0).then(schedule, at=start) for schedule in schedules]
    overshoot, ratio = outcome(pair, lam, schedules)
    # lower switches only lose variance once the overshoot is at its largest
    end = int(overshoot.argmax()) + 1
    return overshoot[:end], ratio[:end]


def reachable(curve: Curve, overshoot: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The largest variance ratio at these overshoots on a frontier; nan where no schedule reaches the overshoot."""
    grid, first = np.unique(curve[0], return_index=True)  # stored numbers may tie
    line = PchipInterpolator(grid, np.log(np.asarray(curve[1])[first]), extrapolate=False)
    return np.exp(line(np.maximum(overshoot, grid[0])))


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


def excess(world: str, lam: float, low: float, high: float, points: int, count: int, seed: int) -> dict[str, float]:
    """Largest variance ratio of random schedules over the bound at their overshoot, at most 1; and how many."""
    schedules = random_schedules(count, low, high, seed)
    overshoot, ratio = run(world, lam, schedules)
    bound = reachable(frontier(WORLDS[world], lam, low, high, points, STARTS[world]), overshoot)
    return {"count": count, "largest": float((ratio / bound).max())}


def compute(
    store: Store,
    *,
    peaks: Sequence[float],
    points: int,
    random: int,
    random_peak: float,
    seed: int,
    aligned: Sequence[float],
    variances: Sequence[float],
    edges: int,
    finer: int = 10,
) -> list[dict[str, Any]]:
    """One row per world and noise; the first carries the comparison at equal alignment.

    Args:
        peaks: largest scales of the schedules; bounds are computed for each.
        points: along each bound.
        random, random_peak, seed: random schedules up to this scale, held against the bounds.
        aligned, variances: constant scales whose alignment is asked for, of classes of these variances.
        edges: how many noise levels are tried as edges there.
        finer: the bounds that random schedules are held against have so many times ``points``.
    """
    rows = []
    every = [
        (kind, family, build(peak), peak)
        for kind, families in (("standard", STANDARD), ("negative", NEGATIVE))
        for family, builds in families.items()
        for build in builds
        for peak in peaks
    ]
    described = [{"kind": k, "family": f, "schedule": str(s), "peak": p} for k, f, s, p in every]
    chosen = [schedule for _, _, schedule, _ in every]
    for world, pair in WORLDS.items():
        for noise, lam in NOISES.items():
            place = {"world": world, "lam": lam, "alpha": ALPHA, "sigma_max": SIGMA_MAX}
            place |= {"c": float(pair.cond_var[0]), "u": float(pair.uncond_var[0])}
            curve = store.get(place | {"schedules": [str(s) for s in chosen]}, partial(listed, run, world, lam, chosen))
            found = [about | {"overshoot": o, "ratio": r} for about, o, r in zip(described, *curve, strict=True)]
            bounds = {
                (low, peak): store.get(
                    place | {"bound": [low, peak], "points": points},
                    partial(listed, frontier, pair, lam, low, peak, points, STARTS[world]),
                )
                for low in LOWS
                for peak in peaks
            }
            checks = [
                store.get(
                    place | {"random": random, "points": finer * points, "range": [low, random_peak], "seed": seed},
                    partial(excess, world, lam, low, random_peak, finer * points, random, seed),
                )
                for low in LOWS
            ]
            rows.append({"world": world, "noise": noise, "points": found, "bounds": bounds, "random": checks})
    sigmas = np.geomspace(0.1, 8, edges).round(4).tolist()
    settings = itertools.product(equal_alignment.MEANS, variances, NOISES.values(), aligned)
    rows[0]["aligned"] = [
        store.get(
            dict(zip(("mu", "c", "lam", "scale"), setting, strict=True)) | {"edges": sigmas},
            partial(equal_alignment.compare, *setting, sigmas),
        )
        for setting in settings
    ]
    return rows


def listed(make: Callable[..., Curve], *arguments: Any) -> list[list[float]]:
    """A curve for the store, six digits."""
    return [[float(f"{value:.6g}") for value in values] for values in make(*arguments)]


def verdict(row: dict[str, Any], point: dict[str, Any]) -> str:
    """Whether a negative part buys variance that no schedule from scale 1 to the same peak has at that overshoot."""
    if point["overshoot"] <= 0:
        return "mean short"
    best = reachable(row["bounds"][1.0, point["peak"]], point["overshoot"])
    return "helps" if not point["ratio"] <= best * (1 + 1e-3) else "no help"  # 1e-3: between the bound's points


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """One panel per world and noise: variance ratio against overshoot."""
    import matplotlib.pyplot as plt

    top = max(peak for _, peak in rows[0]["bounds"])
    fig, axes = plt.subplots(2, 2, figsize=(10, 9), layout="constrained")
    for ax, row in zip(axes.flat, rows, strict=True):
        for low, style in zip(LOWS, ("--", "-"), strict=True):
            label = f"most that any schedule with scale {low:g} to {top:g} can keep"
            ax.plot(*row["bounds"][low, top], "k", ls=style, lw=1.2, label=label)
        for family, marker in zip(STANDARD, ("o", "s", "^", "v", "D", "P", "X", "*"), strict=True):
            scatter(ax, row, family, marker, facecolors="none", edgecolors="0.45")
        for family, marker, colour in zip(NEGATIVE, MARKERS, COLOURS, strict=False):
            scatter(ax, row, family, marker, facecolors=colour, edgecolors="none")
        ax.axhline(1, color="0.6", lw=0.8, zorder=0)
        ax.axvline(0, color="0.6", lw=0.8, zorder=0)
        ax.set_yscale("log")
        left, right, bottom, high, ticks = FRAMES[row["world"], row["noise"]]
        ax.set_xlim(left, right)
        ax.set_ylim(bottom, high)
        ax.set_yticks(ticks)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(plt.NullLocator())
        lost = sum(p["overshoot"] < left for p in row["points"])
        title = f"{row['world']}, {row['noise']}"
        ax.set_title(title + (f" ({lost} points further left: mean short)" if lost else ""), fontsize=10)
        ax.set_xlabel("overshoot of the mean")
        ax.set_ylabel("variance / true variance")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), ncols=4, fontsize=8, loc="outside lower center", frameon=False)
    save(fig, path, dpi=100)


def scatter(ax: Any, row: dict[str, Any], family: str, marker: str, **look: Any) -> None:
    mine = [point for point in row["points"] if point["family"] == family]
    ax.scatter(
        [p["overshoot"] for p in mine], [p["ratio"] for p in mine], s=22, marker=marker, label=family, lw=0.9, **look
    )


def texts(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Tables ``gaussian``, ``classes`` (all schedules at one peak), ``verdicts``, ``bounds``, and single numbers."""
    checks = [check for row in rows for check in row["random"]]
    gaussian, classes = ([row for row in rows if row["world"] == world] for world in WORLDS)
    return {
        "peak": f"{quoted_peak(rows):g}",
        "gaussian": at_one_peak(gaussian, LOWS),
        "classes": at_one_peak(classes, LOWS[1:]),
        "verdicts": verdicts(rows),
        "bounds": bounds_table(gaussian),
        "standard": str(sum(point["kind"] == "standard" for point in rows[0]["points"])),
        "random": str(checks[0]["count"]),
        "aligned": equal_alignment.table(rows[0]["aligned"]),
        **{f"aligned_{name}": text for name, text in equal_alignment.summary(rows[0]["aligned"]).items()},
        "random_largest": f"{max(check['largest'] for check in checks):.5f}",
        **{
            f"standard_{name}_{row['noise'].lower()}": span(row)
            for name, group in (("gaussian", gaussian), ("classes", classes))
            for row in group
        },
    }


def span(row: dict[str, Any]) -> str:
    """Smallest and largest variance ratio of the standard schedules that move the mean by more than 1 %."""
    ratios = [p["ratio"] for p in row["points"] if p["kind"] == "standard" and p["overshoot"] > 0.01]
    return f"{min(ratios):.2g} to {max(ratios):.4f}"


def quoted_peak(rows: list[dict[str, Any]]) -> float:
    return min({peak for _, peak in rows[0]["bounds"]}, key=lambda peak: abs(peak - 4))


def at_one_peak(rows: list[dict[str, Any]], lows: Sequence[float]) -> str:
    """Every schedule at the quoted peak: overshoot, variance, separability, energy distance, the most any keeps."""
    peak = quoted_peak(rows)
    body = []
    for together in zip(*(row["points"] for row in rows), strict=True):
        if together[0]["peak"] != peak:
            continue
        cells = [f"`{together[0]['schedule']}`"]
        for row, point in zip(rows, together, strict=True):
            cells += [f"{point['overshoot']:+.3f}", f"{point['ratio']:.3g}"]
            cells.append(f"{separability(1 + point['overshoot'], point['ratio']):.3g}")
            cells.append(f"{distance(row['world'], point):.3f}")
            cells += [most(row["bounds"][low, peak], point["overshoot"]) for low in reversed(lows)]
        body.append(cells)
    columns = [
        "overshoot",
        "variance",
        "separability",
        "distance",
        *(f"most from scale {low:g}" for low in reversed(lows)),
    ]
    return markdown(["schedule", *(f"{row['noise']} {column}" for row in rows for column in columns)], body)


def distance(world: str, point: dict[str, Any]) -> float:
    """Energy distance of the guided law from the class."""
    pair = WORLDS[world]
    moved = point["overshoot"] * (pair.cond_mean - pair.uncond_mean)[0] / math.sqrt(pair.cond_var[0])
    law = in_many_dimensions if world == "many classes" else in_one_dimension
    return float(law(moved, point["ratio"]))


def most(curve: Curve, overshoot: float) -> str:
    """:func:`reachable` in words; nothing is said of a mean that falls short."""
    if overshoot < 0:
        return ""
    value = float(reachable(curve, overshoot))
    return "out of reach" if math.isnan(value) else f"{value:.3g}"


def verdicts(rows: list[dict[str, Any]]) -> str:
    """How many of each negative family keep more than any schedule from 1 to the same peak at the same overshoot."""
    body = []
    for family in NEGATIVE:
        cells = [family]
        for row in rows:
            said = [verdict(row, point) for point in row["points"] if point["family"] == family]
            cells.append(" / ".join(str(said.count(word)) for word in ("helps", "no help", "mean short")))
        body.append(cells)
    return markdown(["helps / no help / mean short", *(f"{row['world']}, {row['noise']}" for row in rows)], body)


def bounds_table(rows: list[dict[str, Any]]) -> str:
    """The bounds at a small and a large overshoot for each peak."""
    wanted = [(row, at) for row in rows for at in ((0.25, 0.5) if row["noise"] == "ODE" else (0.2, 0.4))]
    body = [
        [f"{low:g} to {peak:g}", *(most(row["bounds"][low, peak], at) for row, at in wanted)]
        for peak in sorted({peak for _, peak in rows[0]["bounds"]})
        for low in reversed(LOWS)
    ]
    return markdown(["scale", *(f"{row['noise']}, overshoot {at:g}" for row, at in wanted)], body)
