import math

import pytest
import torch

import kdist
from kdist.schedules import InTerms, from_sigma, in_terms_of, to_sigma
from kdist.schedules.terms import LARGEST_SIGMA, TERMS, flow_to_sigma

SIGMAS = [8.0, 4.0, 2.0, 1.0, 0.5, 0.0]


def test_closed_forms():
    assert to_sigma(0.75, "s") == 3.0
    assert to_sigma(0, "log_snr") == 1.0
    assert to_sigma(-2 * math.log(3), "log_snr") == pytest.approx(3.0, rel=1e-15)
    assert [to_sigma(p, "percent", SIGMAS) for p in (0, 20, 60, 100)] == [8.0, 4.0, 1.0, 0.0]  # exact at the nodes
    assert to_sigma(1, "s") == to_sigma(-100, "log_snr") == LARGEST_SIGMA


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("sigma", [0.6, 1.0, 3.7])
def test_there_and_back(term, sigma):
    # 1e-12: two logarithms and exponentials in float64
    assert to_sigma(from_sigma(sigma, term, SIGMAS), term, SIGMAS) == pytest.approx(sigma, rel=1e-12)


def test_flow_levels_are_finite():
    torch.testing.assert_close(flow_to_sigma(torch.tensor([0.0, 0.5, 1.0])), torch.tensor([0.0, 1.0, LARGEST_SIGMA]))


def test_schedules_in_terms():
    late = in_terms_of("percent", kdist.LateNegative, sigmas=SIGMAS, scale=7.5, sigma_switch=60)
    assert late == kdist.LateNegative(7.5, 1.0)
    # the third and fourth of five steps, whichever edge comes first
    expected = kdist.NegativeWindow(4.0, 0.5, 2.0)
    for edges in ({"sigma_lo": 80, "sigma_hi": 40}, {"sigma_lo": 40, "sigma_hi": 80}):
        assert in_terms_of("percent", "negative-window", sigmas=SIGMAS, scale=4.0, **edges) == expected
    assert in_terms_of("s", kdist.Interval, scale=4, sigma_lo=0.2, sigma_hi=0.75) == kdist.Interval(4, 0.25, 3)


def test_it_waits_for_the_levels_of_each_run():
    waiting = InTerms("percent", kdist.LateNegative, {"scale": 3.0, "sigma_switch": 50})
    assert waiting.on([4.0, 1.0, 0.0]).sigma_switch == 1.0
    assert waiting.on([8.0, 4.0, 2.0, 1.0, 0.0]).sigma_switch == 2.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: to_sigma(60, "percent"), "give sigmas="),
        (lambda: to_sigma(120, "percent", SIGMAS), "0 .start. to 100"),
        (lambda: to_sigma(1.5, "s"), r"0 \(data\) to 1"),
        (lambda: to_sigma(1, "timestep"), "known: sigma, percent"),
        (lambda: in_terms_of("s", "late-negativ", scale=1), "unknown schedule"),
        (lambda: in_terms_of("s", "late-negative", scale=1, sigma_swich=0.5), "sigma_swich"),
        (lambda: in_terms_of("sigma", kdist.Interval, scale=1, sigma_lo=2, sigma_hi=1), "swap"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
