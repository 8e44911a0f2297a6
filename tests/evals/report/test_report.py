"""The report of a comparison: its numbers are those of `measure`, its files are whole, its page stands alone."""

import base64
import csv
import dataclasses
import errno
import io
import json
import re

import numpy as np
import pytest
from feature_sets import make_set
from PIL import Image
from rich.console import Console

from kdist import files
from kdist.evals import measure
from kdist.evals.features.feature_set import Features
from kdist.evals.report import MeasuredSet, compare_sets, write_report
from kdist.evals.report.gallery import gallery
from kdist.evals.report.glossary import MEANINGS, STATISTICS, number
from kdist.evals.report.paired import paired_distance
from kdist.evals.report.table import measure_table, print_tables
from kdist.evals.sources import ArraySource
from kdist.evals.statistics.estimate import Estimate
from kdist.evals.statistics.results import PooledDistortion

QUICK = {"resamples": 39, "splits": 3, "neighbour_queries": 200}


@pytest.fixture(scope="module")
def comparison():
    real = make_set("real", seed=1)
    fakes = [make_set("plain", seed=2), make_set("shrunk", seed=2, scale=[0.4, 0.5, 0.6, 0.7])]
    return compare_sets(real, fakes, **QUICK)


def written(comparison, folder):
    write_report(folder, comparison, command="kdist compare real.npz plain.npz shrunk.npz")
    return {path.name: path for path in folder.iterdir()}


# -- what is said --------------------------------------------------------------------------------------------------


def test_numbers_are_those_of_measure(comparison):
    real, fake = comparison.real.features, comparison.fakes[1].features
    again = measure(real.x, fake.x, real.y, fake.y, class_names=None, **QUICK)
    assert comparison.reports["shrunk"].to_dict() == again.to_dict()


def test_some_samples_of_a_class_are_compared_in_pairs_too(comparison):
    some = compare_sets(comparison.real, comparison.fakes, per_class=20, resamples=0, splits=0, neighbour_queries=0)
    real, plain, shrunk = (entry.features for entry in (comparison.real, *comparison.fakes))
    assert some.farther["shrunk"] == paired_distance(real, plain, shrunk, per_class=20)
    assert some.farther["shrunk"] != comparison.farther["shrunk"]


def test_ranking_and_summary(comparison):
    assert comparison.worst_set == "shrunk"
    assert [entry.label for entry in comparison.ranked()] == [0, 1, 2, 3]  # scales 0.4 to 0.7, far beyond noise
    plain, shrunk, verdict = comparison.summary()
    # scales 0.4 to 0.7 keep 0.16 to 0.49, 0.315 on average
    assert re.match(r"shrunk: nearest to their own class 1\.000 \(real 1\.000\), 0\.\d+ from the real classes ", shrunk)
    assert re.search(r"6\d % of the variance gone; .*4 of 4 classes shrunk, 0 widened\.$", shrunk)
    assert "not to be told from real by distance" in plain
    assert "of the variance gone" not in plain
    assert re.match(r"Smallest distance: plain\. Farther than it, by their paired intervals: shrunk by 0\.\d", verdict)
    assert comparison.against_first["shrunk"].smaller == 4


def test_front_is_what_nobody_beats(comparison):
    def with_values(ratio, accuracy):
        report = comparison.first
        pooled = dataclasses.replace(
            report.pooled, trace_ratio=type(report.pooled.trace_ratio)(ratio), neighbour_accuracy=accuracy
        )
        return dataclasses.replace(report, pooled=pooled)

    reports = {
        "varied": with_values(1.0, 0.8),
        "sharp": with_values(0.5, 0.99),
        "beaten": with_values(0.5, 0.8),
        "between": with_values(0.8, 0.9),
        "wide": with_values(1.4, 0.7),  # more than the real variance is no merit
    }
    assert dataclasses.replace(comparison, reports=reports).front() == ["varied", "sharp", "between"]


def test_one_judge_for_all_sets(comparison, tmp_path):
    def with_accuracy(report):
        return dataclasses.replace(report, pooled=dataclasses.replace(report.pooled, accuracy=report.pooled.recall))

    plain, shrunk = comparison.reports.values()
    some = dataclasses.replace(comparison, reports={"plain": with_accuracy(plain), "shrunk": shrunk})
    assert (comparison.judge, some.judge) == ("neighbour_accuracy", "neighbour_accuracy")
    every = dataclasses.replace(comparison, reports={name: with_accuracy(r) for name, r in comparison.reports.items()})
    assert every.judge == "accuracy"
    unjudged = compare_sets(comparison.real, comparison.fakes, resamples=0, splits=0, neighbour_queries=0)
    assert unjudged.judge is None
    assert unjudged.front() == []
    assert all("recognised" not in sentence and "neighbours" not in sentence for sentence in unjudged.summary())
    assert "trade_off.png" in written(unjudged, tmp_path)  # separability is left
    console = Console(file=io.StringIO(), width=80)
    print_tables(unjudged, console)
    assert "plain" in console.file.getvalue()


def test_every_number_has_a_meaning():
    fields = {field.name for field in dataclasses.fields(PooledDistortion)}
    assert {s.field for s in STATISTICS} | {s.reference for s in STATISTICS if s.reference} <= fields
    assert len({title for title, _ in MEANINGS}) == len(MEANINGS)


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (-0.001, "+.2f", "+0.00"),
        (-0.001, ".2f", "0.00"),
        (-0.5, "+.2f", "-0.50"),
        (np.nan, ".2f", "–"),
        (None, "", "–"),
    ],
)
def test_number(value, form, text):
    assert number(value, form) == text


def test_warnings_of_all_sets_are_said_once():
    real = make_set("real", seed=1, per_class=25)
    few, also_few = make_set("few", seed=2, per_class=10), make_set("also few", seed=3, per_class=10)
    shared = "fewer than 20 samples: 4 of 4 classes (0, 1, 2, 3)"
    assert compare_sets(real, [few, also_few], **QUICK).warnings[0] == shared
    enough = make_set("enough", seed=3, per_class=25)
    warnings = compare_sets(real, [few, enough], **QUICK).warnings
    assert f"few: {shared}" in warnings
    assert shared not in warnings


# -- files ---------------------------------------------------------------------------------------------------------


def test_files_are_whole_and_agree(comparison, tmp_path):
    for former in ("prompts.csv", "sets.png", "extreme_classes.png", "mine.csv"):  # of other comparisons, and a user's
        (tmp_path / former).write_text("old")
    files = written(comparison, tmp_path)
    pictures = {"trade_off.png", "classes.png", "directions.png", "statistics.png"}
    assert set(files) == {"results.json", "classes.csv", "report.html", "mine.csv"} | pictures

    def no_constants(text):
        raise AssertionError(f"{text} is no JSON")

    results = json.loads(files["results.json"].read_text(), parse_constant=no_constants)
    assert results["schema"] == "kdist.report/2"
    assert [entry["name"] for entry in results["sets"]] == ["plain", "shrunk"]
    assert results["sets"][0]["against_first"] is None
    assert results["sets"][1]["against_first"]["pairs"] == 120
    assert results["sets"][1]["distortion"] == json.loads(json.dumps(comparison.reports["shrunk"].to_dict()))

    rows = list(csv.DictReader(io.StringIO(files["classes.csv"].read_text())))
    assert [(row["set"], row["label"]) for row in rows] == [(s, str(k)) for s in ("plain", "shrunk") for k in range(4)]
    ratio = comparison.reports["shrunk"][2].trace_ratio
    expected = [ratio, ratio.lo, ratio.hi, ratio.floor, ratio.floor.lo, ratio.floor.hi, ratio.p_value, ratio.q_value]
    ends = ("", "_lo", "_hi", "_floor", "_floor_lo", "_floor_hi", "_p", "_q")
    assert [float(rows[6][f"trace_ratio{end}"]) for end in ends] == [float(value) for value in expected]
    assert float(rows[6]["direction_0"]) == comparison.reports["shrunk"][2].directional_ratios[0]
    for name in pictures:
        Image.open(files[name]).verify()


def test_page_stands_alone_and_escapes(tmp_path):
    names = {0: "<script>alert(1)</script>", 1: "a & b", 2: "[/red]", 3: "ß"}
    real, fake = make_set("real", seed=1, names=names), make_set("[bold]<i>fake", seed=2, names=names)
    comparison = compare_sets(real, [fake], **QUICK)
    text = written(comparison, tmp_path)["report.html"].read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "<i>fake" not in text
    console = Console(file=io.StringIO(), width=80, record=True)
    print_tables(comparison, console)
    shown = console.export_text()
    assert "[bold]<i>fake: mean over 4 classes" in shown  # no markup is taken from names
    assert "[/red]" in shown


@pytest.mark.parametrize("count", [1, 3])
def test_tables_fit_80_columns(comparison, count):
    long = "a-very-long-name-of-a-schedule-with-many-options"
    names = ("plain", "shrunk", long)[:count]
    reports = dict.fromkeys(names, comparison.reports["shrunk"])
    console = Console(file=io.StringIO(), width=80, record=True)
    print_tables(dataclasses.replace(comparison, reports=reports, fakes=comparison.fakes[:1] * count), console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines[:14])  # the numbers are not cut
    assert any(line.strip().startswith(("variance kept", "real vs real")) for line in lines)


def test_no_number_is_cut_in_80_columns(comparison):
    report = comparison.reports["shrunk"]
    tiny = Estimate(5.4e-4, (1.1e-4, 9.8e-4), floor=Estimate(-1.2e-5, (-3.1e-4, 3.2e-4)), p_value=0.001)
    report = dataclasses.replace(report, pooled=dataclasses.replace(report.pooled, kid=tiny, fid_mean=1.0))
    console = Console(file=io.StringIO(), width=80, record=True)
    console.print(measure_table(dataclasses.replace(comparison, reports={"shrunk": report})))
    said = console.export_text()
    assert "…" not in said
    assert "0.00054 [0.00011, 0.00098] [-0.00031, 0.00032] 0.001" in " ".join(said.split())


def test_many_classes_stay_readable(tmp_path):
    classes = 60
    scale = np.linspace(0.5, 1.1, classes)
    real = make_set("real", seed=1, classes=classes, per_class=12)
    fake = make_set("fake", seed=2, classes=classes, per_class=12, scale=scale)
    files = written(compare_sets(real, [fake], **QUICK), tmp_path)
    assert {"classes.png", "extreme_classes.png"} <= set(files)
    width, height = Image.open(files["extreme_classes.png"]).size
    assert height < 1.5 * width
    text = files["report.html"].read_text()
    table = text[text.index("classes in numbers") :]
    table = table[: table.index("</details>")]
    assert table.count("<tr>") == 1 + 40
    assert len(files["classes.csv"].read_text().splitlines()) == 1 + classes


def test_one_class_and_no_resamples(tmp_path):
    real, fake = make_set("real", seed=1, classes=1), make_set("fake", seed=2, classes=1)
    options = {"resamples": 0, "splits": 0}
    files = written(compare_sets(real, [fake, dataclasses.replace(fake, name="again")], **options), tmp_path)
    assert set(files) == {"results.json", "classes.csv", "classes.png", "report.html"}
    assert "trade_off.png" not in files  # one class is neither accurate nor separable
    assert "directions.png" not in files  # nor has it other classes to take directions from
    text = files["report.html"].read_text()
    assert "classes shrunk" not in text  # nothing was tested
    assert "nan" not in re.sub(r"data:[^\"]*", "", text).lower()
    assert (
        json.loads(files["results.json"].read_text())["sets"][0]["distortion"]["pooled"]["separability"]["value"]
        is None
    )


def test_numbers_survive_a_failure_of_the_pictures(comparison, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("no display")

    for name in ("report.html", "trade_off.png", "results.json", "mine.txt"):
        (tmp_path / name).write_text("the previous one")
    monkeypatch.setattr("kdist.evals.report.make_figures", broken)
    with pytest.raises(OSError, match="no display"):
        write_report(tmp_path, comparison, command="")
    assert json.loads((tmp_path / "results.json").read_text())["summary"] == comparison.summary()
    # what showed other numbers is gone, what is not the report's is not
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "classes.csv", "mine.txt"}


def test_full_disk(comparison, tmp_path, monkeypatch):
    real_write = files._write

    def full(path, data):
        if path.name.startswith("classes.png"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real_write(path, data)

    monkeypatch.setattr(files, "_write", full)
    with pytest.raises(OSError, match=r"no space left for .*classes\.png"):
        write_report(tmp_path, comparison, command="")
    assert json.loads((tmp_path / "results.json").read_text())["schema"] == "kdist.report/2"
    assert not (tmp_path / "report.html").exists()
    assert not list(tmp_path.glob("*.partial"))


# -- images --------------------------------------------------------------------------------------------------------


def decode(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


def test_gallery_shows_the_same_seeds_beside_real():
    """Image i has grey level i (real: 200 + class): the strips say which images were taken."""
    y = np.repeat(np.arange(4), 30)
    grey = np.broadcast_to(np.arange(120, dtype=np.uint8)[:, None, None, None], (120, 1, 4, 4))
    real_grey = np.broadcast_to((200 + y).astype(np.uint8)[:, None, None, None], (120, 1, 4, 4))
    real = make_set("real", seed=1, images=ArraySource(real_grey, y))
    one, two = (make_set(name, seed=2, images=ArraySource(grey, y)) for name in ("one", "two"))
    kept = np.delete(np.arange(120), [60, 62])  # set two lost two images of class 2
    lost = two.features
    two = dataclasses.replace(two, features=Features(lost.x[kept], lost.y[kept], lost.index[kept], {}))
    comparison = compare_sets(real, [one, two], **QUICK)
    strips = gallery(comparison, [comparison.first[2]], shown=3)[0]
    assert strips.pixelated
    assert [name for name, _, _ in strips.strips] == ["real", "one", "two"]
    shown = [decode(uri)[2, 2::5].tolist() for _, _, uri in strips.strips]  # one pixel of each 4 x 4 image and its gap
    assert shown == [[202, 202, 202], [61, 63, 64], [61, 63, 64]]
    assert [ratio for _, ratio, _ in strips.strips] == [
        None,
        *(float(r[2].trace_ratio) for r in comparison.reports.values()),
    ]


def test_large_and_odd_images_become_thumbnails():
    generator = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 30)
    images = generator.integers(0, 256, (120, 3, 90, 180), dtype=np.uint8)
    real = make_set("real", seed=1, images=ArraySource(images, y))
    fake = make_set("fake", seed=2, images=ArraySource(images[:, :1, :20, :20], y))
    comparison = compare_sets(real, [fake], **QUICK)
    strips = gallery(comparison, [comparison.first[0]], shown=2)[0]
    assert not strips.pixelated
    assert [decode(uri).shape for _, _, uri in strips.strips] == [(38, 2 * 73 + 1, 3), (38, 2 * 73 + 1)]  # one size


def test_no_images_no_gallery(comparison):
    assert gallery(comparison, comparison.ranked()) == []


# -- classes of one side only --------------------------------------------------------------------------------------


def test_common_classes_leaves_out_and_says_so():
    names = {0: "cat", 1: "dog", 2: "emu", 3: "fox"}
    real, whole = make_set("real", seed=1, names=names), make_set("whole", seed=2, names=names)
    rows = whole.features.y != 1
    rows[np.flatnonzero(whole.features.y == 3)[1:]] = False  # and a single sample of class 3
    kept = (getattr(whole.features, field)[rows] for field in ("x", "y", "index"))
    part = MeasuredSet("part", "part.npz", Features(*kept, whole.features.metadata))
    with pytest.raises(ValueError, match=r"part.npz: no fake samples of class dog.*--common-classes"):
        compare_sets(real, [whole, part], **QUICK)
    comparison = compare_sets(real, [whole, part], common_classes=True, **QUICK)
    assert [entry.name for entry in comparison.first.classes] == ["cat", "emu"]
    assert comparison.warnings[0] == "2 classes that not every set has were left out: dog, fox"


def test_nothing_in_common():
    real, fake = make_set("real", seed=1), make_set("fake", seed=2)
    other = dataclasses.replace(fake, features=dataclasses.replace(fake.features, y=fake.features.y + 10))
    with pytest.raises(ValueError, match=r"no class in common: 0, 1, 2, \.\.\. against 10, 11, 12, \.\.\."):
        compare_sets(real, [other], common_classes=True)
    rows = np.arange(0, 120, 30)  # one sample of each class
    single = Features(*(getattr(fake.features, field)[rows] for field in ("x", "y", "index")), {})
    with pytest.raises(ValueError, match="no class with two samples in every set"):
        compare_sets(real, [dataclasses.replace(fake, features=single)], common_classes=True)
    with pytest.raises(ValueError, match="at least one generated set"):
        compare_sets(real, [])
