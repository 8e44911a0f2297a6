"""Soft errors against the errors that they stand for."""

import numpy as np
import pytest
import torch

from kdist.tuning.margins import SoftErrors, margins


def test_margins_are_log_odds_of_probabilities_and_differences_of_logits():
    logits = torch.tensor([[2.0, 0.5, -1.0], [0.0, 3.0, 1.0]])
    assert margins(logits, ["a", "c"], ["a", "b", "c"]) == pytest.approx([1.5, -2.0])
    # a softmax changes no difference of logarithms; float32
    assert margins(logits.softmax(1), ["a", "c"], ["a", "b", "c"]) == pytest.approx([1.5, -2.0], abs=1e-5)
    assert margins(torch.tensor([0, 2]), ["a", "c"], ["a", "b", "c"]) is None


def block(rng, share, length=0.7, samples=50):
    """Margins with an exponential lower tail, of which ``share`` lies below 0."""
    margin = length * (np.log(1 / share) - rng.exponential(size=samples))
    return {"margin": margin, "accuracy": (margin >= 0).astype(float)}


def test_soft_errors_are_as_many_as_errors_and_vary_less():
    rng = np.random.default_rng(0)
    share = 0.01
    blocks = [block(rng, share) for _ in range(400)]
    soft = SoftErrors.of(blocks)
    assert soft is not None
    shares = np.array([soft.share(b) for b in blocks])
    hard = np.array([1 - b["accuracy"].mean() for b in blocks])
    # half of the 200 errors calibrate, and the better half was chosen by its luck: some 20 %
    assert shares.mean() == pytest.approx(share, rel=0.4)
    assert shares.var() < 0.7 * hard.var()


def test_judges_of_labels_give_no_soft_errors():
    assert SoftErrors.of([{"accuracy": np.ones(5)}]) is None
    assert SoftErrors.of([]) is None


def test_a_judge_that_is_always_sure_has_no_errors():
    soft = SoftErrors.of([{"margin": np.full(20, 9.0), "accuracy": np.ones(20)}])
    assert soft is not None
    assert soft.share({"margin": np.full(20, 9.0)}) == 0
