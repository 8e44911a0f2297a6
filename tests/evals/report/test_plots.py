"""What the axes of a report show: everything near, and far values as numbers at the edge."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest

from kdist.evals import measure
from kdist.evals.report import plots
from kdist.evals.report.glossary import STATISTICS
from kdist.evals.report.html import breakable
from kdist.evals.statistics.estimate import Estimate

DISTANCE, VARIANCE_KEPT = STATISTICS[:2]


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_range_leaves_out_what_is_far_from_all_others():
    many = np.linspace(0.8, 1.2, 99)
    assert plots._range(many) == (0.8, 1.2)
    assert plots._range(np.append(many, [8.0, np.nan])) == (0.8, 1.2)
    assert plots._range(np.append(many, -5.0)) == (0.8, 1.2)


@pytest.mark.parametrize("few", [[1.0], [1.0, 1.0], [0.5, 8.0], [0.9, 1.0, 8.0, 0.95, 1.1]])
def test_range_of_few_values_is_all_of_them(few):
    assert plots._range(np.array(few)) == (min(few), max(few))


def test_values_beyond_the_axis_stand_at_its_edge(ax):
    ax.set_xlim(0, 2)
    plots._say_what_is_beyond(ax, [Estimate(v) for v in (1.0, 8.043, -3.0, np.nan)], np.arange(4.0))
    said = {text.get_text(): text.xy for text in ax.texts}
    assert said == {"8.04 →": (0.99, 1.0), "← -3.00": (0.01, 2.0)}


@pytest.mark.parametrize("resamples", [0, 99])
def test_what_would_be_perfect_is_in_the_picture_however_far_all_classes_are_from_it(resamples):
    rng, labels = np.random.default_rng(0), np.arange(24).repeat(40)
    real, fake = rng.normal(size=(2, len(labels), 64))
    report = measure(real, 0.5 * fake, labels, labels, resamples=resamples, splits=0, fid=False, neighbour_queries=0)
    shown = [DISTANCE, VARIANCE_KEPT]
    forest = plots.class_forest({"a": report}, [plots.Column("", report.classes, statistic) for statistic in shown])
    curve = plots.class_curve({"a": report})
    limits = [*(ax.get_xlim() for ax in forest.axes), curve.axes[0].get_ylim()]
    for statistic, (low, high) in zip([*shown, VARIANCE_KEPT], limits, strict=True):
        bands = [statistic.of(entry).floor for entry in report.classes] if resamples else []
        middle = [np.median([band.lo for band in bands]), np.median([band.hi for band in bands])] if bands else []
        for place in (statistic.ideal, *middle):
            assert low < place < high, statistic.field
    for figure in (forest, curve):
        plt.close(figure)


@pytest.mark.parametrize("end", [np.inf, np.nan])
def test_a_floor_without_an_end_bounds_no_axis(end):
    """As of a class of very few samples."""
    report = measure(*np.random.default_rng(0).normal(size=(2, 40, 8)), resamples=0, splits=0, fid=False)
    endless = Estimate(0.5, (0.4, 0.6), floor=Estimate(1.0, (0.9, end)))
    entry = dataclasses.replace(report.classes[0], trace_ratio=endless)
    figure = plots.class_forest(
        {"a": dataclasses.replace(report, classes=[entry])}, [plots.Column("", [entry], VARIANCE_KEPT)]
    )
    low, high = figure.axes[0].get_xlim()
    assert low < 0.5 < 1 < high < 2
    plt.close(figure)


def test_names_break_between_words_and_numbers_do_not():
    assert breakable("late_negative/run.a-b") == "late_<wbr>negative/<wbr>run.<wbr>a-<wbr>b"
    assert breakable("0.05 [-0.01, 1e-05]") == "0.05 [-0.01, 1e-05]"
    assert breakable("a<b&c") == "a&lt;b&amp;c"
