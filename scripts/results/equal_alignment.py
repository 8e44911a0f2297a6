"""F4's second question: which schedule leaves a Gaussian class least changed, at equal alignment with it?

One direction, class ``p_c = N(mu, c)`` in a whole ``p_u = N(0, 1)``, from infinity. *Alignment* is what guidance is
wanted for, ``A = E log p_c(x) / p_u(x)`` over the guided samples: how much more they look like the class than like
anything. At equal ``A`` the schedules are compared by how far their law is from the class: by the Kullback-Leibler
divergence of the guided law from it, and by the displacement (Wasserstein-2) in the class's standard deviations.

What any law with that alignment must pay is known: the least divergence is that of the tilted law
``p_c (p_c / p_u)**w``, with ``1/V = (1 + w)/c - w/u``, which is *narrower* than the class. So whoever wants alignment
at the least divergence gives up variance; keeping all of it, as a negative part can, is paid by a mean further out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy.optimize import brentq

from kdist import Constant, EarlyNegative, Interval, LateNegative, LinearInVariance, NegativeWindow, Ramp, Schedule
from kdist.theory import GaussianPair, moments
from scripts.style import markdown

__all__ = ["compare", "summary", "table"]

Build = Callable[[float], Schedule]
Law = tuple[float, float]

MEANS = (0.5, 1.5)
SCALES = (0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.2, 3.2, 4.5, 6.5, 9.0)  # less 1: looked at before the scale is solved for
TIE = 0.01  # relative
POSITIVE = ("constant", "interval", "ramp")
COSTS = {"kl": "divergence", "w2": "displacement"}


def alignment(law: Law, pair: GaussianPair) -> float:
    """``E log p_c / p_u`` in nats."""
    (m, v), (mu, c), (nu, u) = law, *_laws(pair)
    return 0.5 * math.log(u / c) - ((m - mu) ** 2 + v) / (2 * c) + ((m - nu) ** 2 + v) / (2 * u)


def costs(law: Law, pair: GaussianPair) -> dict[str, float]:
    """``kl`` (nats) and ``w2`` (in standard deviations of the class)."""
    (m, v), (mu, c), _ = law, *_laws(pair)
    return {
        "kl": 0.5 * (v / c - 1 - math.log(v / c) + (m - mu) ** 2 / c),
        "w2": math.sqrt(((m - mu) ** 2 + (math.sqrt(v) - math.sqrt(c)) ** 2) / c),
    }


def tilted(pair: GaussianPair, aligned: float) -> Law:
    """The law of least divergence from the class that has this alignment."""
    (mu, c), (nu, u) = _laws(pair)

    def law(w: float) -> Law:
        v = 1 / ((1 + w) / c - w / u)
        return v * ((1 + w) * mu / c - w * nu / u), v

    return law(brentq(lambda w: alignment(law(w), pair) - aligned, 0.0, 1e6))


def families(edges: Sequence[float]) -> dict[str, list[Build]]:
    """Every shape of every family, as a function of its scale."""
    low, high = edges[0] / 30, edges[-1] * 30
    inside = list(itertools.combinations(edges, 2))
    return {
        "constant": [Constant],
        "interval": [lambda s, a=a, b=b: Interval(s, a, b) for a, b in itertools.combinations([low, *edges, high], 2)],
        "ramp": [lambda s: Ramp(1.0, s, low, high), lambda s: Ramp(s, 1.0, low, high)],
        "late negative": [lambda s, e=e, v=v: LateNegative(s, e, v) for e in edges for v in (0.0, 0.5)],
        "window, then the scale again": [lambda s, a=a, b=b: NegativeWindow(s, a, b) for a, b in inside],
        "window, then scale 1": [lambda s, a=a, b=b: NegativeWindow(s, a, b, after=1.0) for a, b in inside],
        "early negative": [lambda s, e=e: EarlyNegative(s, e) for e in edges],
        "w0 + omega t": [
            lambda s, w=w, e=e: LinearInVariance(w, 1 / e**2, max_scale=s) for e in edges for w in (-1.0, -0.5)
        ],
    }


def compare(mu: float, c: float, lam: float, scale: float, edges: Sequence[float]) -> dict[str, Any]:
    """Each family's best at the alignment of the constant ``scale``, by each cost; nan where it never comes to it."""
    pair = GaussianPair(mu, c, 0.0, 1.0)
    aligned = alignment(_outcome(pair, lam, Constant(scale)), pair)
    found = {}
    for family, builds in families(edges).items():
        laws = [law for build in builds for law in _at(pair, lam, build, aligned)]
        each = [costs(law, pair) for law in laws]
        found[family] = {name: min((cost[name] for cost in each), default=math.nan) for name in COSTS}
    least = costs(tilted(pair, aligned), pair)["kl"]
    return {"mu": mu, "c": c, "lam": lam, "scale": scale, "alignment": aligned, "least": least, "families": found}


def _at(pair: GaussianPair, lam: float, build: Build, aligned: float) -> Iterator[Law]:
    """The laws of this shape with that alignment, at every scale where the shape comes to it."""

    def miss(weight: float) -> float:
        return alignment(_outcome(pair, lam, build(1 + weight)), pair) - aligned

    misses = [miss(w) for w in SCALES]
    for (a, low), (b, high) in itertools.pairwise(zip(SCALES, misses, strict=True)):
        if low * high <= 0:
            yield _outcome(pair, lam, build(1 + brentq(miss, a, b, xtol=1e-5)))


def _outcome(pair: GaussianPair, lam: float, schedule: Schedule) -> Law:
    law = moments(pair, schedule, sigma_max=math.inf, noise=lam)
    return float(law.mean[0]), float(law.var[0])


def _laws(pair: GaussianPair) -> tuple[Law, Law]:
    cond, uncond = (pair.cond_mean, pair.cond_var), (pair.uncond_mean, pair.uncond_var)
    return (float(cond[0][0]), float(cond[1][0])), (float(uncond[0][0]), float(uncond[1][0]))


def winners(case: dict[str, Any], cost: str) -> list[str]:
    """Families within :data:`TIE` of the least cost."""
    values = {family: entry[cost] for family, entry in case["families"].items() if not math.isnan(entry[cost])}
    return [family for family, value in values.items() if value <= min(values.values()) * (1 + TIE)]


def summary(cases: Sequence[dict[str, Any]]) -> dict[str, str]:
    """How often a family that never goes below scale 1 is best or ties, and a negative one is best alone."""
    said = {"cases": str(len(cases))}
    for cost in COSTS:
        best = [winners(case, cost) for case in cases]
        said[f"positive_{cost}"] = str(sum(any(family in POSITIVE for family in names) for names in best))
        said[f"plain_{cost}"] = str(sum(bool({"constant", "interval"} & set(names)) for names in best))
    return said


def table(cases: Sequence[dict[str, Any]]) -> str:
    """Mean over the cases of a family's cost over the least of any family, and in how many it is best or ties."""
    body = []
    for family in cases[0]["families"]:
        cells = [family]
        for cost in COSTS:
            over = [
                case["families"][family][cost] / min(np.nanmin([e[cost] for e in case["families"].values()]), math.inf)
                for case in cases
            ]
            reached = [value for value in over if not math.isnan(value)]
            cells.append(str(sum(family in winners(case, cost) for case in cases)))
            cells.append(f"{np.exp(np.mean(np.log(reached))):.2f}" if reached else "never there")
        body.append([*cells, str(len(reached))])
    head = ["family", *(f"{name}: {what}" for name in COSTS.values() for what in ("best or ties", "over the best"))]
    return markdown([*head, "comes to the alignment"], body)
