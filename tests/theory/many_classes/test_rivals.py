"""The bulk of other classes, frozen or not, and the potential behind the mean field's drift."""

import math

import numpy as np
import pytest
import torch

import kdist
from kdist.compat import import_k_diffusion
from kdist.solvers import sample
from kdist.theory.many_classes.phases import critical_alpha, guided_critical_alpha, mean_field
from kdist.theory.many_classes.rivals import bulk_entropy_cost, bulk_state, potential
from kdist.theory.mixture import GaussianMixtureDenoiser

C = 0.1
TOP = math.sqrt(2000)


@pytest.mark.parametrize("delta", [0.05, 0.7, 6.0])
@pytest.mark.parametrize("alpha", [0.05, 0.3, 1.0])
def test_bulk_score_is_the_gradient_of_the_bulk_log_density(delta, alpha):
    """- x y / Delta = d(bulk)/dx, that is 2 d(bulk)/dr = - y / Delta, free or frozen; and y solves KL(y) = alpha."""
    for q in (0.05, 0.8, 3.0, 9.0):
        step = 1e-5
        up, down = (bulk_state(0.0, q + s, delta, alpha).log_density for s in (step, -step))
        state = bulk_state(0.0, q, delta, alpha)
        # central differences: step^2 times a third derivative of order 10, and rounding over the step
        assert (up - down) / step == pytest.approx(-state.ratio / delta, rel=1e-6, abs=1e-8)
        cost = bulk_entropy_cost(state.ratio, q)
        assert cost == pytest.approx(alpha, abs=1e-12) if state.ratio > delta / (1 + delta) + 1e-12 else cost <= alpha


def test_bulk_is_continuous_where_it_freezes():
    delta, r = 0.5, 1.5
    alpha = float(bulk_entropy_cost(np.float64(delta / (1 + delta)), np.float64(r)))
    free, frozen = bulk_state(0.0, r, delta, alpha + 1e-9), bulk_state(0.0, r, delta, alpha - 1e-9)
    assert free.log_density == pytest.approx(frozen.log_density, abs=1e-8)
    assert free.ratio == pytest.approx(frozen.ratio, abs=1e-7)
    assert free.ratio < frozen.ratio


def test_frozen_bulk_is_the_distance_to_the_nearest_of_exponentially_many_centres():
    """M4 is - (smallest |x - xi|^2) / (2 Delta d) as d grows; finite d misses it by about log(d) / d."""
    rng, alpha, r = np.random.default_rng(0), 0.3, 1.4
    misses = []
    for d in (8, 16, 32):
        x = math.sqrt(r / 1.0) * np.ones(d)
        nearest = [
            np.square(rng.standard_normal((round(math.exp(alpha * d)), d)) - x).sum(1).min() / d for _ in range(24)
        ]
        # any Delta in the frozen phase gives the same distance
        limit = float(-2 * 0.01 * bulk_state(0.0, r, 0.01, alpha).log_density)
        misses.append(np.mean(nearest) - limit)
    assert misses[0] > misses[1] > misses[2] > 0
    assert misses[2] < 1.2 * math.log(32) / 32


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("scale", [3.0, 0.6])
def test_mean_field_descends_the_potential(scale, noise):
    """dm/dt = (1 + noise)/2 dV/dm at the path's own variance, on both sides of the switch and in the frozen phase."""
    path = mean_field(0.35, scale, within_var=C, sigma_max=10.0, noise=noise)
    t = path.sigma**2
    slope = np.gradient(path.overlap, t)
    step = 1e-5
    up, down = (
        potential(path.overlap + s, path.sigma, alpha=0.35, scale=scale, within_var=C, variance=path.variance)
        for s in (step, -step)
    )
    drift = (1 + noise) / 2 * (up - down) / (2 * step)
    inside = np.ones(len(t), dtype=bool)
    inside[[0, 1, -1, -2]] = False
    inside &= np.abs(np.log(path.sigma.clip(1e-9) / path.switch_sigma)) > 0.03  # V has its kink there
    assert (path.sigma[inside] > path.switch_sigma).any()
    assert (path.sigma[inside] < path.switch_sigma).any()
    # second differences over steps of 2.5 % in Delta, and of the kinks where the bulk freezes
    np.testing.assert_allclose(slope[inside], drift[inside], rtol=2e-3, atol=3e-4 * np.abs(slope).max())


def minima(sigma, scale, alpha=0.35):
    m = np.linspace(-0.5, 4, 9001)
    v = potential(m, sigma, alpha=alpha, scale=scale, within_var=C)
    return m[1:-1][(v[1:-1] < v[:-2]) & (v[1:-1] <= v[2:])]


def test_minimum_moves_from_overshoot_to_the_class_and_never_splits_at_positive_weight():
    scale = 4.0
    places = []
    for sigma in np.geomspace(20, 0.05, 40):
        (place,) = minima(sigma, scale)
        places.append(place)
    y = (C + 400) / (1 + C + 400)
    assert places[0] == pytest.approx(scale / (scale - (scale - 1) * y), abs=1e-3)  # M10, at the grid's spacing
    assert places[-1] == pytest.approx(1, abs=1e-3)
    assert (np.diff(places) <= 1e-9).all()


def test_negative_weight_makes_two_wells():
    """Below scale 1 V is the smaller of two wells (M11): both the class and the crowd can hold a sample."""
    counts = {len(minima(sigma, 0.2)) for sigma in np.geomspace(20, 0.05, 60)}
    assert counts == {1, 2}
    assert minima(0.05, 0.2)[-1] == pytest.approx(1, abs=1e-3)
    assert minima(20, 0.2) == pytest.approx([0.2 / (0.2 + 0.8 * 400.1 / 401.1)], abs=1e-3)


def test_guided_samples_are_resolved_where_unguided_ones_overlap():
    """alpha = 1.35 lies between the unguided (1.20) and the guided (1.63 at scale 2) critical value (M12)."""
    alpha, d = 1.35, 6
    assert critical_alpha(C) < alpha < guided_critical_alpha(2.0, within_var=C, sigma_max=TOP)
    count, n = round(math.exp(alpha * d)), 64
    g = torch.Generator().manual_seed(0)
    centres = torch.randn(count, d, generator=g)
    model = GaussianMixtureDenoiser(centres, C, dtype=torch.float32)
    classes = torch.arange(n)
    start = TOP * torch.randn(n, d, generator=g)
    sigmas = import_k_diffusion().sampling.get_sigmas_karras(30, 0.02, TOP)
    guided = kdist.guide(model, 2.0, uncond={"class_cond": count})
    drawn = sample("dpmpp_2m", guided, start, sigmas, extra_args={"class_cond": classes})

    def own_part(x):
        return (model.log_prob(x, 0.0, classes) - math.log(count) - model.log_prob(x, 0.0, count)).exp()

    with_guidance, without = own_part(drawn), own_part(model.sample(classes, generator=g))
    error = math.hypot(float(with_guidance.std()), float(without.std())) / math.sqrt(n)
    assert float(with_guidance.mean() - without.mean()) > 4 * error


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 0.0},
        {"within_var": -1.0},
        {"sigma": -1.0},
        {"overlap": math.nan},
        {"variance": 0.0},
        {"scale": math.inf},
    ],
)
def test_bad_potential_arguments(change):
    arguments = {"overlap": 1.0, "sigma": 1.0, "alpha": 0.3, "scale": 2.0, "within_var": C, **change}
    with pytest.raises(ValueError, match="must"):
        potential(arguments.pop("overlap"), arguments.pop("sigma"), **arguments)
