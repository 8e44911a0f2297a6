"""What a bound asks for, on the scale of the surrogate."""

import math

import pytest

from kdist.tuning.bounds import FEWEST, straight_limit, told


@pytest.mark.parametrize("samples", [1, 30, 300])
def test_samples_show_no_error_of_the_told_share_in_one_of_two_cases(samples):
    assert (1 - told(samples)) ** samples == pytest.approx(0.5)


def test_what_is_told_goes_down_with_samples_to_the_surrogate_s_own_end():
    assert told(100) > told(200) > told(10_000) == FEWEST


def test_a_bound_on_accuracy_asks_for_no_fewer_errors_than_are_told():
    assert straight_limit("accuracy", 1.0, 1.0, fewest=0.02) == -math.log(0.02)
    assert straight_limit("accuracy", 0.99, 1.0, fewest=0.02) == -math.log(0.02)
    assert straight_limit("accuracy", 0.9, 1.0, fewest=0.02) == pytest.approx(-math.log(0.1))
    assert straight_limit("alignment", 1.0, 1.0, fewest=0.02) == 1.0
