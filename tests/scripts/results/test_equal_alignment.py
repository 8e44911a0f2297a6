"""F4 at equal alignment: closed forms by sampling, the tilted law as the least, and that the comparison is fair."""

import math

import numpy as np
import pytest

from kdist.theory import GaussianPair
from scripts.results import equal_alignment as script
from scripts.results.class_moments import separability

PAIR = GaussianPair(1.5, 0.2, 0.3, 1.2)


def log_density(x, mean, var):
    return -((x - mean) ** 2) / (2 * var) - 0.5 * np.log(2 * np.pi * var)


def test_alignment_and_costs_by_sampling():
    law = (2.0, 0.1)
    x = law[0] + math.sqrt(law[1]) * np.random.default_rng(0).standard_normal(200_000)
    gain = log_density(x, 1.5, 0.2) - log_density(x, 0.3, 1.2)
    assert script.alignment(law, PAIR) == pytest.approx(gain.mean(), abs=4 * gain.std() / math.sqrt(len(x)))
    apart = log_density(x, *law) - log_density(x, 1.5, 0.2)
    assert script.costs(law, PAIR)["kl"] == pytest.approx(apart.mean(), abs=4 * apart.std() / math.sqrt(len(x)))
    # sorted samples are the optimal transport; in standard deviations of the class
    y = np.sort(1.5 + math.sqrt(0.2) * np.random.default_rng(1).standard_normal(200_000))
    moved = math.sqrt(np.mean((np.sort(x) - y) ** 2) / 0.2)
    assert script.costs(law, PAIR)["w2"] == pytest.approx(moved, abs=0.01)  # some standard errors of 1 / sqrt(200000)
    assert script.costs((1.5, 0.2), PAIR) == {"kl": pytest.approx(0), "w2": pytest.approx(0)}


@pytest.mark.parametrize("aligned", [1.2, 1.5])  # of the class 1.08; the largest of any point is 1.62
def test_no_gaussian_of_that_alignment_is_nearer_than_the_tilted_one(aligned):
    law = script.tilted(PAIR, aligned)
    assert script.alignment(law, PAIR) == pytest.approx(aligned)
    assert law[1] < 0.2  # narrower than the class
    least = script.costs(law, PAIR)["kl"]
    for var in np.linspace(0.02, 0.5, 60):
        # the means of this alignment for a given variance: A is a parabola in the mean
        curve = [script.alignment((m, var), PAIR) - aligned for m in (0.0, 1.0, 2.0)]
        roots = np.roots(np.polyfit([0.0, 1.0, 2.0], curve, 2))
        for m in roots[np.isreal(roots)].real:
            assert script.costs((m, var), PAIR)["kl"] >= least - 1e-9


def test_every_family_is_compared_at_that_alignment(monkeypatch):
    seen = []
    real = script.costs
    monkeypatch.setattr(script, "costs", lambda law, pair: seen.append((law, pair)) or real(law, pair))
    case = script.compare(0.5, 0.2, 1.0, 2.0, [0.5, 2.0])
    assert len(seen) >= 10  # shapes that come to it
    for law, pair in seen:
        assert script.alignment(law, pair) == pytest.approx(case["alignment"], abs=1e-4)
    constant = script._outcome(GaussianPair(0.5, 0.2, 0.0, 1.0), 1.0, script.Constant(2.0))
    for name, value in real(constant, GaussianPair(0.5, 0.2, 0.0, 1.0)).items():
        assert case["families"]["constant"][name] == pytest.approx(value, rel=1e-4)  # the scale is solved for
    for entry in case["families"].values():
        assert math.isnan(entry["kl"]) or entry["kl"] >= case["least"] * (1 - 1e-6)


def test_winners_ties_and_words():
    cost = lambda kl, w2: {"kl": kl, "w2": w2}  # noqa: E731
    families = {"constant": cost(1.0, 3.0), "late negative": cost(1.005, 2.0), "early negative": cost(2.0, math.nan)}
    cases = [{"families": families}, {"families": families | {"constant": cost(1.1, 3.0)}}]
    assert script.winners(cases[0], "kl") == ["constant", "late negative"]
    assert script.winners(cases[1], "kl") == ["late negative"]
    said = script.summary(cases)
    assert said == {"cases": "2", "positive_kl": "1", "plain_kl": "1", "positive_w2": "0", "plain_w2": "0"}
    lines = script.table(cases).splitlines()
    assert lines[2] == "| constant | 1 | 1.05 | 0 | 1.50 | 2 |"  # sqrt(1 * 1.1 / 1.005), 3 / 2
    assert lines[4].endswith("| 0 | never there | 0 |")


def test_separability_is_the_ratio_of_scatters():
    """Two classes 3 apart instead of 2, with half of the variance: (1.5)**2 / 0.5."""
    rng = np.random.default_rng(0)
    before = [rng.normal(m, 1, 50_000) for m in (-1, 1)]
    after = [rng.normal(m, math.sqrt(0.5), 50_000) for m in (-1.5, 1.5)]
    measured = [np.var([a.mean() for a in both]) / np.mean([a.var() for a in both]) for both in (before, after)]
    assert measured[1] / measured[0] == pytest.approx(separability(1.5, 0.5), rel=0.03)  # 4 standard errors
