"""The ladder of predictors: judging against known laws, the affine fit, agreement and its ceiling, all on a toy."""

import json

import numpy as np
import pytest
import torch

from kdist import digits
from kdist.evals import measure
from kdist.theory import GaussianMixtureDenoiser
from scripts.results import predictors
from scripts.results.class_moments import Digits, responses, some_of_each
from scripts.results.figures import FIGURES
from scripts.results.linearised import linearise, unconditional
from scripts.results.store import NotMade, Store

TOY = FIGURES["F6"].quick  # as many of a class from a rung as are measured


@pytest.fixture(scope="module")
def real():
    return Digits()


def test_known_distortion_is_read_off(real):
    """Shrinking about the class mean by 0.8 and moving it by 0.3 of its distance gives log 0.64 and 0.3."""
    count = 170  # of each class, below the smallest class's size
    rows = [own[:count] for own in real.rows]
    moved = [m + 0.8 * (own - own.mean(0)) + 0.3 * (m - real.centre) for own, m in zip(rows, real.means, strict=True)]
    x = torch.tensor(np.concatenate(moved)).float().reshape(-1, 1, 8, 8)
    found = real.moments(x, count)
    kept = [np.log(0.64 * own.var(0, ddof=1).sum() / t) for own, t in zip(rows, real.traces, strict=True)]
    # float32 images, five decimals kept
    np.testing.assert_allclose(found["log_trace"], kept, atol=2e-5)
    np.testing.assert_allclose(found["along"], 0.3, atol=2e-5)
    # halves: their means average to the whole's; parts of the variance add up
    np.testing.assert_allclose(np.add(found["along_even"], found["along_odd"]) / 2, found["along"], atol=3e-5)
    np.testing.assert_allclose(np.add(found["between"], found["within"]), np.exp(found["log_trace"]), atol=5e-5)


def test_some_of_each_class_are_taken_from_all_of_it():
    labels = torch.tensor([1, 0, 1, 1, 0, 1, 1])
    assert some_of_each(labels, 2).tolist() == [1, 4, 0, 6]  # the first and the last of either
    assert some_of_each(labels, None).tolist() == list(range(7))


def test_correct_samples_agree_with_the_evaluation(real):
    """Half of the rows of another digit: judged among the correct, as kdist.evals does."""
    x, y = digits.load_data("held_out")
    of = [x[y == c][:20] for c in range(10)]
    mixed = torch.cat([torch.cat([of[c], of[(c + 1) % 10]]) for c in range(10)])
    found = real.moments(mixed, 40)
    with torch.no_grad():
        guesses = {
            "real_predictions": real.labels,  # all real images count
            "fake_predictions": real.classifier(mixed).argmax(1),
        }
    asked = torch.arange(10).repeat_interleave(40)
    options = {"resamples": 0, "subspace": 0, "splits": 0, "fid": False, "neighbour_queries": 0}
    report = measure(real.images.flatten(1), mixed.flatten(1), real.labels, asked, **options, **guesses)
    expected = [float(np.log(entry.trace_ratio_correct)) for entry in report.classes]
    np.testing.assert_allclose(found["log_trace_correct"], expected, atol=2e-5)
    assert all(abs(a - 0.5) < 0.1 for a in found["accuracy"])
    # the intruders are most of the variance that is too much
    assert np.mean(found["log_trace"]) > np.mean(found["log_trace_correct"]) + 0.3


def test_affine_fit_of_an_affine_network_is_that_network():
    """One Gaussian per class and one for all: the least squares fit is exact, away from the training points too."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(80, 1, 2, 2, generator=generator), torch.arange(2).repeat(40)
    single = GaussianMixtureDenoiser(torch.tensor([[[[1.0, 0], [0, 0]]], [[[0.0, -1], [0, 0]]]]), 0.3)
    whole = GaussianMixtureDenoiser(torch.zeros(1, 1, 2, 2), 1.5)

    def model(x, sigma, class_cond):
        own = single(x, sigma, class_cond.clamp_max(1))
        return torch.where((class_cond == 2)[:, None, None, None], whole(x, sigma, 0), own)

    fitted = linearise(model, x, y, [5.0, 0.5], draws=1, seed=0)
    far, labels = 3 * torch.randn(20, 1, 2, 2, generator=generator), torch.arange(2).repeat(10)
    for sigma in (5.0, 0.5):
        level = torch.full((20,), sigma)
        # float32 predictions
        torch.testing.assert_close(fitted(far, level, labels), model(far, level, labels), atol=1e-4, rtol=1e-4)
        shifted = fitted(far, level, labels + 2)  # two classes here, ten in `unconditional`
        torch.testing.assert_close(shifted, whole(far, level, 0), atol=1e-4, rtol=1e-4)
    assert unconditional({"class_cond": torch.tensor([0, 9])})["class_cond"].tolist() == [10, 19]


def rows_of(truth, noise, seed=0):
    """Rows with a given truth (S, K), measured with independent noise in each half, and predicted exactly."""
    generator = np.random.default_rng(seed)
    schedules = {f"{2 + k}": "constant" if k % 2 else "window" for k in range(len(truth))}
    zero = np.zeros(truth.shape[1])

    def entry(row):
        halves = [row + noise * generator.standard_normal(row.shape) for _ in range(2)]
        named = {}
        for name in ("log_trace", "along"):
            named |= {name: np.mean(halves, axis=0), f"{name}_even": halves[0], f"{name}_odd": halves[1]}
        named |= {"accuracy": zero + 1, "log_trace_correct": row, "between": zero + 0.5, "within": zero + 0.4}
        return {k: v.tolist() for k, v in named.items()} | {"calls": 40}

    measured = {text: entry(row) for text, row in zip(schedules, truth, strict=True)}
    measured["1"] = {k: v if k == "calls" else (np.array(v) * 0 + (k in ("between", "within"))).tolist()
                     for k, v in entry(zero).items()}  # fmt: skip
    exact = {
        text: {"log_trace": row.tolist(), "along": row.tolist()} for text, row in zip(schedules, truth, strict=True)
    }
    exact["1"] = {"log_trace": zero.tolist(), "along": zero.tolist()}
    quality = {name: {"pooled": 0.9, "classes": 0.8, "reliability": 0.7} for name in ("log_trace", "overshoot")}
    return {
        "schedules": schedules,
        "early": ["2"],
        "measured": measured,
        "fresh": measured,
        "rungs": dict.fromkeys(predictors.TITLES, exact),
        "quality": {rung: {"calls": 4000, **quality} for rung in ("response, few", "response")},
        "titles": predictors.TITLES,
    }


def test_agreement_and_ceiling():
    """A perfect predictor reaches the ceiling that the halves give, sqrt(1 / (1 + noise**2 / 2 / spread**2))."""
    truth = np.random.default_rng(1).standard_normal((200, 10))
    rows = rows_of(truth, noise=0.8)
    fit = predictors.agreement(*predictors.points(rows, "response", "trace"))
    expected = 1 / np.sqrt(1 + 0.8**2 / 2)
    # 2000 points: three standard errors of a correlation of 0.87 are 0.017
    assert fit["r"] == pytest.approx(expected, abs=0.017)
    assert predictors.ceiling(rows, "trace") == pytest.approx(expected, abs=0.017)
    # predictions without noise: the slope of measured against predicted is 1, within 3 x 0.57 / sqrt(2000)
    assert fit["slope"] == pytest.approx(1, abs=0.04)
    assert fit["rms"] == pytest.approx(0.8 / np.sqrt(2), abs=0.03)
    assert predictors.agreement(2 * truth, truth)["slope"] == pytest.approx(0.5)
    assert np.isnan(predictors.agreement(np.ones(3), truth[0, :3])["r"])


def test_tables_say_what_the_rows_hold():
    truth = np.log(np.full((2, 10), 0.5)) * np.array([[1.0], [2.0]]) + 0.01 * np.arange(10)
    found = predictors.texts(rows_of(truth, noise=0.0))
    assert found["points"] == "20"
    assert found["ceiling_trace"] == "1.000"
    assert found["response_trace_r"] == found["response_few_overshoot_r"] == "1.00"
    assert found["fresh_trace_slope"] == found["fresh_overshoot_mean_r"] == "1.00"
    assert found["images_0_1_trace_rms"] == "0.000"
    assert found["response_runs"] == "100"  # 4000 calls against 40
    assert found["table"].count("\n") == 1 + len(predictors.TITLES)
    # averages -0.693 + 0.045 and twice that
    line = "| `2` | " + " | ".join(["0.52 / -0.65"] * 9) + " |"
    assert line in found["averages"]
    assert found["early"].splitlines()[2:] == [line]
    # accuracy, log ratio, inside, outliers, log(0.5 / 1), log(0.4 / 1)
    assert "| `3` | 1.000 | -1.341 | -1.341 | +0.000 | -0.693 | -0.916 |" in found["removal"]


def test_guidances_own_part():
    base = {"log_trace": [0.1, 0.2], "along": [0.0, 0.5]}
    own = {"log_trace": [0.3, 0.1], "along": [0.25, 0.5]}
    found = responses(own, base)
    np.testing.assert_allclose(found["trace"], [0.2, -0.1])
    np.testing.assert_allclose(found["overshoot"], [0.25, 0])


def test_the_whole_on_an_exact_network(tmp_path, monkeypatch):
    """The mixture of class Gaussians in the network's place: every rung runs, and is read back, not run, again."""
    x, y = digits.load_data("train")
    known = some_of_each(y, TOY["train_per_class"])
    monkeypatch.setattr(predictors, "_model", lambda: GaussianMixtureDenoiser.fit(x[known], y[known]))
    store = Store(tmp_path / "F6.json")
    rows = predictors.compute(store, **TOY)
    store.finish()
    assert list(rows["rungs"]) == list(predictors.TITLES)
    assert rows["titles"]["response"] == "response, 5 per class"
    assert len(rows["schedules"]) == len(predictors.FAMILIES)
    again = predictors.compute(Store(tmp_path / "F6.json", frozen=True), **TOY)
    assert json.dumps(again) == json.dumps(rows)
    with pytest.raises(NotMade):
        predictors.compute(Store(tmp_path / "F6.json", frozen=True), **{**TOY, "per_class": 5})
    # what is drawn from the same noise by the same model is the same, so this rung must be the measured one
    rungs = predictors._rungs
    monkeypatch.setattr(predictors, "_rungs", lambda *given: {"mixture": rungs(*given)["mixture"]})
    same = predictors.compute(store, **{**TOY, "seed": 0})
    for text in rows["schedules"]:
        np.testing.assert_array_equal(same["rungs"]["mixture"][text]["along"], rows["measured"][text]["along"])


def test_parts_of_the_variance_are_called_by_their_names(real):
    """Every sample at the centre of a sub-class, then every sample around one centre only."""
    centres = [km.cluster_centers_ for km in real.clusters]
    at_centres = torch.tensor(np.concatenate([np.repeat(c, 2, 0) for c in centres])).float().reshape(-1, 1, 8, 8)
    found = real.moments(at_centres, 8)
    np.testing.assert_allclose(found["within"], 0, atol=1e-5)
    assert min(found["between"]) > 0.1
    rng = np.random.default_rng(0)
    near = np.concatenate([c[:1] + 0.01 * rng.normal(size=(8, 64)) for c in centres])
    found = real.moments(torch.tensor(near).float().reshape(-1, 1, 8, 8), 8)
    np.testing.assert_allclose(found["between"], 0, atol=1e-5)
    assert min(found["within"]) > 0
