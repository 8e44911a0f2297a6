import warnings

import pytest

import kdist

SIGMAS = [8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.0]


def quiet(schedule, sigmas=SIGMAS):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return schedule.describe_on(sigmas)


def test_which_steps_get_which_scale():
    text = quiet(kdist.NegativeWindow(4.0, 0.7, 2.0, after=1.0))
    assert text.splitlines() == [
        "4, 0 for sigma 0.7 to 2, then 1, on 6 steps from sigma 8 to 0.25",
        "steps 1-2  sigma 8 to 4  scale 4",
        "steps 3-4  sigma 2 to 1  scale 0, unconditional only",
        "steps 5-6  sigma 0.5 to 0.25  scale 1, conditional only",
        "8 network passes per sample with one call per step, 12 without a schedule",
    ]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (kdist.Interval(4.0, 1.2, 1.8), "sigma 1.2 to 1.8 catches no level"),
        (kdist.NegativeWindow(4.0, 0.7, 1.2), "only 1 level"),
        (kdist.NegativeWindow(4.0, 0.7, 1.2, ramp=0.1), "only 1 level"),
        (kdist.LateNegative(4.0, 0.3), "sigma 0 to 0.3 catches only 1 level"),
        (kdist.LateNegative(4.0, 20.0), "sigma above 20 catches no level"),
        (kdist.EarlyNegative(4.0, 1.9, sigma_end=1.1), "sigma 1.1 to 1.9 catches no level"),
    ],
)
def test_parts_that_a_run_hardly_sees(schedule, message):
    with pytest.warns(UserWarning, match=message):
        assert message in schedule.describe_on(SIGMAS)


@pytest.mark.parametrize(
    "schedule",
    [
        kdist.Constant(3.0),
        kdist.Interval(4.0, 0.7, 1e3),  # no upper limit
        kdist.LateNegative(4.0, 1.0),
        kdist.Ramp(4.0, 1.0, 0.25, 8.0),
        kdist.Piecewise.from_steps([4, 3, 2, 1, 0, 1], SIGMAS),
    ],
)
def test_nothing_to_warn_of(schedule):
    assert quiet(schedule)


def test_curves_have_one_line_a_step_and_bad_levels_are_refused():
    assert len(quiet(kdist.Ramp(4.0, 2.0, 0.25, 8.0)).splitlines()) == 8
    with pytest.raises(ValueError, match="at least two"):
        kdist.Constant(1.0).describe_on([1.0])
