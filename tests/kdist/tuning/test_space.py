"""Families, edges between the sampler's levels, and proposals near what is good."""

import numpy as np
import pytest
from optuna.trial import FixedTrial

import kdist
from kdist.tuning.space import FAMILIES, Draw, Space

LEVELS = [20.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1]


@pytest.fixture
def space():
    return Space(LEVELS, share=[0.01, 0.02, 0.1, 0.3, 0.3, 0.1, 0.02, 0.01])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_stays_in_range_and_is_given_back_by_its_parameters(family):
    space = Space(LEVELS, scales=(-0.5, 3.0), families=[family])
    rng = np.random.default_rng(0)
    for _ in range(50):
        draw = Draw(rng)
        schedule, _ = space.suggest(draw)
        at = space.scales_at_levels(schedule)
        assert at.min() >= -0.5
        assert at.max() <= 3.0
        assert space.suggest(FixedTrial(draw.params))[0] == schedule
        assert kdist.parse(str(schedule)) == schedule


def test_edges_lie_between_levels(space):
    edges = [space.edge(index) for index in range(len(LEVELS) + 1)]
    assert edges[0] > LEVELS[0]
    assert edges[-1] == 0
    assert all(low < edge < high for high, low, edge in zip(LEVELS, LEVELS[1:], edges[1:], strict=False))


def test_bands_are_narrow_where_guidance_does_something(space):
    cut = space.bands(4)
    assert cut[0] == 0
    assert cut[-1] == len(LEVELS)
    widths = np.diff(cut)
    assert max(widths[0], widths[-1]) > min(widths)
    # without a share, equal parts of the run in log sigma are equal numbers of even levels
    assert Space([2.0**-k for k in range(8)]).bands(4) == [0, 2, 4, 6, 8]


def test_a_share_of_small_updates_is_little():
    levels = np.array([16.0 * 2.0**-k for k in range(12)])  # even in log sigma, from noise alone to none
    weight = Space(levels, share=[0.1] * 12).importance()
    update = levels / np.hypot(levels, 0.5)  # of a noisy image
    assert weight == pytest.approx(np.maximum(weight[0] / update[0] * update, min(weight)))
    assert min(weight) == weight[-1] > 0


def test_scales_near_one_and_zero_spare_a_call(space):
    schedule, _ = space.suggest(FixedTrial({"family": "interval", "scale": 2.0, "start": 2, "stop": 5}))
    assert schedule.nfe([*LEVELS, 0.0]) == len(LEVELS) + 3
    schedule, _ = space.suggest(FixedTrial({"family": "constant", "scale": 1.04}))
    assert schedule == kdist.Constant(1.0)


def test_a_neighbour_differs_in_a_part(space):
    rng = np.random.default_rng(0)
    start = Draw(rng, near={"family": "piecewise"}, change=0.0)
    space.suggest(start)
    moved = Draw(rng, near=start.params)
    space.suggest(moved)
    same = [name for name in start.params if moved.params.get(name) == start.params[name]]
    assert 0 < len(same) < len(start.params)


def test_warm_starts_are_tried_within_the_scales():
    space = Space(LEVELS, scales=(0.5, 1.6))
    for start in space.warm_starts([kdist.LateNegative(4.0, 1.0)]):
        at = space.scales_at_levels(space.suggest(FixedTrial(start))[0])
        assert 0.5 <= at.min() <= at.max() <= 1.6


def _draw(space, rng):
    draw = Draw(rng)
    space.suggest(draw)
    return draw.params


@pytest.mark.parametrize("steps", [2, 3, 4, 6])
def test_few_levels(steps, recwarn):
    space, rng = Space(LEVELS[:steps]), np.random.default_rng(0)
    for start in [*space.warm_starts(), *(dict(_draw(space, rng)) for _ in range(100))]:
        space.suggest(FixedTrial(start))
    assert [str(warning.message) for warning in recwarn if "out of the range" in str(warning.message)] == []


def test_choices_are_kept_by_name():
    space = Space(LEVELS, choices={"rule": [kdist.rules.linear, kdist.rules.projected], "weak": [False, True]})
    params = {"family": "constant", "scale": 2.0, "rule": "projected", "weak": "True"}
    assert space.suggest(FixedTrial(params))[1] == {"rule": kdist.rules.projected, "weak": True}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": [10.0]}, "needs two noise levels"),
        ({"families": ["spiral"]}, "families has no spiral"),
        ({"scales": (2.0, 4.0)}, "scales must be"),
        ({"choices": {"weak": []}}, "weak has no values"),
    ],
)
def test_bad_spaces(options, message):
    with pytest.raises(ValueError, match=message):
        Space(**{"levels": LEVELS} | options)
