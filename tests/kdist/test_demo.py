"""``kdist demo``: the whole pipeline, from the shipped model to the report."""

import json
import re

import pytest

from kdist import digits
from kdist.demo import run_demo
from kdist.demo.report import summary
from kdist.schedules import Constant, EarlyNegative, LateNegative
from scripts.pages.command_line import kdist


@pytest.fixture(scope="module")
def outcomes():
    schedules = [Constant(1.0), Constant(3.0), LateNegative(3.0, 1.5), EarlyNegative(3.0, 1.5, sigma_end=0.1)]
    return run_demo(schedules, per_class=12, steps=12, seed=1, resamples=20)


def test_guidance_shrinks_and_a_negative_end_gives_back(outcomes):
    """The paper's two statements, on the shipped network; the standard errors are about 0.03."""
    plain, constant, late, _ = (outcome.pixels.pooled.trace_ratio for outcome in outcomes)
    assert constant < plain - 0.1
    assert late > constant + 0.04
    calls = [outcome.schedule.nfe(digits.sigmas(12)) for outcome in outcomes[2:]]
    assert [outcome.nfe for outcome in outcomes] == [12, 24, *calls]


def test_a_negative_beginning_keeps_the_variance_and_the_class(outcomes):
    """On the digits: at least as wide and at least as often right as without guidance, in 16 calls."""
    plain, early = outcomes[0].pixels.pooled, outcomes[3].pixels.pooled
    assert early.trace_ratio > plain.trace_ratio - 0.02  # from the same noise; seeds 0 to 3: -0.00, +0.01, -0.00, +0.01
    assert early.accuracy >= plain.accuracy  # measured: 0.983 against 0.933
    assert abs(early.overshoot) < 0.1
    assert outcomes[3].nfe == 16


def test_same_noise_for_all_and_repeatable():
    first, second = Constant(1.0), Constant(3.0)
    both = run_demo([first, second], per_class=3, steps=5, resamples=0)
    (again,) = run_demo([second], per_class=3, steps=5, resamples=0)
    # other batch mates and no random state in between: equal up to the order of float32 sums
    assert (again.samples - both[1].samples).abs().max() < 1e-4
    assert (both[0].samples - both[1].samples).abs().max() > 0.1


def test_fashion_under_guidance():
    plain, guided = run_demo([Constant(1.0), Constant(3.0)], data="fashion", per_class=4, resamples=0, steps=6)
    assert plain.samples.shape == (40, 1, 28, 28)
    # the same noise; measured on 100 per class: 0.9 against 0.5. Here 1.03 against 0.79, from seeds 1 and 2 likewise
    assert guided.pixels.pooled.trace_ratio < plain.pixels.pooled.trace_ratio - 0.1
    assert guided.pixels.pooled.accuracy > plain.pixels.pooled.accuracy
    assert re.search(r"like real garments \(0\.9\d\d", summary([plain, guided]))


@pytest.mark.parametrize("solver", ["euler_ancestral", "dpmpp_2m_sde"])
def test_stochastic_solvers_repeat_too(solver):
    first, second = (run_demo([Constant(1.0)], per_class=2, resamples=0, steps=4, solver=solver)[0] for _ in range(2))
    assert (first.samples == second.samples).all()


def test_summary_names_the_farthest_and_the_closest(outcomes):
    text = summary(outcomes)
    assert re.match(r"constant 3: recognised 1\.000 \(real 1\.000\), 0\.\d+ from the real classes \(floor", text)
    assert re.search(r"[23]\d % of the variance gone; means 0\.\d\d out", text)
    # of those recognised like real digits the early negative one is closest here, and constant 3 is farther (seeds 1
    # and 3; with so few samples another one is on seeds 0 and 2)
    assert re.search(r"Smallest distance: 0, then 3 below sigma 1.5, 1 below 0.1 \(0\.\d+, 16 calls\)\. Farther", text)
    assert re.search(r"constant 3 by 0\.\d+ \[0\.\d+, 0\.\d+\]", text)
    assert summary(outcomes[:1]).count("from the real classes") + summary(outcomes[:1]).count("by distance") == 1


def test_command_line_end_to_end(tmp_path):
    done = kdist(
        "demo", "--quick", "--per-class", 4, "--steps", 4, "--out", tmp_path / "out", "--solver", "heun",
        "--schedule", "1", "--schedule", "late-negative:scale=3,sigma_switch=1", COLUMNS="200",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no guidance" in done.stdout
    assert "3, then 0 below sigma 1" in done.stdout
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["schema"] == "kdist.demo/1"
    assert results["schedules"][0]["nfe"] == 7  # Heun: 2 calls a step, 1 in the last
    page = (tmp_path / "out" / "report.html").read_text()
    assert "3, then 0 below sigma 1" in page
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)  # self-contained
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "report.html",
        "results.json",
        "trade_off.png",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "fasion"], "unknown data set 'fasion'; known: digits, fashion"),
        (["--schedule", "constnt:scale=3"], "unknown schedule 'constnt'"),
        (["--schedule", "nan"], "scale must be finite"),
        (["--solver", "hoin"], "unknown solver 'hoin'; known: euler"),
        (["--device", "cuda:77"], "--device cuda:77 is not available"),
        (["--stepps", "3"], "No such option"),
        (["--per-class", "1"], "--per-class"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(options, message, tmp_path):
    done = kdist("demo", "--out", tmp_path / "out", *options, COLUMNS="200")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_unwritable_output_is_found_before_sampling(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    done = kdist("demo", "--out", blocked / "out", COLUMNS="200")
    assert done.returncode == 2
    assert f"cannot write to --out {blocked / 'out'}" in done.stderr
    assert "no guidance" not in done.stdout  # nothing was sampled


def test_pages_label_noise_levels_with_numbers(outcomes):
    """Pages draw all text as it stands: Matplotlib's formulas for powers of ten would show their source."""
    from matplotlib.text import Text

    from kdist.demo.report import _curves

    figure = _curves(outcomes)
    figure.draw_without_rendering()
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert {"10", "1", "0.1"} <= set(texts)
    assert not any("$" in text for text in texts)
    # three panels in the first row, one in the second: the last panel of each column has the axis
    assert [ax.get_xlabel() != "" for ax in figure.axes[:4]] == [False, True, True, True]


def test_everything_is_in_the_json(outcomes):
    names = ("energy_distance", "displacement", "variance_main", "variance_rest", "precision", "density", "kid")
    pooled = outcomes[0].pixels.to_dict()["pooled"]
    assert all(pooled[name]["value"] is not None for name in names)
