"""Numbers on pages are those of the records in docs/data: a page that is made of them, or rows that results.md has too.

docs/results.md itself follows from docs/data (tests/scripts/test_reproduce.py), the gallery from its record
(tests/scripts/test_gallery.py).
"""

from pathlib import Path

import pytest

import kdist
from scripts.pages import choosing, overhead
from scripts.results import digits_front, glyph_classes, network_tables, networks
from scripts.results.families import FAMILIES
from scripts.results.figures import FIGURES
from scripts.results.store import Store

DOCS = Path(__file__).parents[2] / "docs"


def test_choosing_is_made_of_the_records():
    assert (DOCS / "choosing.md").read_text() == choosing.page()


@pytest.fixture(scope="module")
def f9():
    return networks.compute(Store(DOCS / "data" / "F9.json", frozen=True), **FIGURES["F9"].full)


RULES = [family.name for family in FAMILIES if family.group == "rule"]


def test_what_the_pages_say_in_words_of_the_rules(f9):
    """Results.md, choosing.md: which of nine rules are nearer than a constant, on which network."""
    assert len(RULES) == 9
    by_target = {
        (network, target): {
            row["family"]: row
            for row in f9
            if row["kind"] == "reported" and (row["network"], row["target"]) == (network, target)
        }
        for network in ("fashion", "digits")
        for target in ("real", "constant")
    }
    said = {
        place: {name: network_tables.against(own[name], own["constant"]) for name in RULES}
        for place, own in by_target.items()
    }
    fashion, digits = said["fashion", "real"], said["digits", "real"]
    assert [name for name in RULES if fashion[name] == "nearer"] == ["MAMBO-G"]
    assert [name for name in RULES if fashion[name] == "not reached"] == ["power law"]
    assert [name for name in RULES if digits[name] == "nearer"] == ["MAMBO-G", "power law"]
    assert {*fashion.values(), *digits.values()} == {"nearer", "like it", "not reached"}
    own = by_target["fashion", "real"]
    assert network_tables.told_apart(own["MAMBO-G"], own["interval"]) == "like it"
    # the constant 1.25 stands for its family at the lower target only
    assert by_target["digits", "real"]["constant"]["setting"] == "1.5"
    assert by_target["digits", "constant"]["constant"]["setting"] == "1.25"
    assert set(said["digits", "constant"].values()) == {"like it"}
    tried = {(row["network"], row["setting"]): row for row in f9 if row["kind"] == "tried"}
    for network in ("fashion", "digits"):  # TCFG is a constant of half the guidance
        for scale, half in ((2, "1.5"), (3, "2"), (5, "3")):
            rule, constant = tried[network, f"TCFG, {scale}"], tried[network, half]
            assert rule["energy_distance"][0] == pytest.approx(constant["energy_distance"][0], abs=0.002)
            assert rule["accuracy"][0] == pytest.approx(constant["accuracy"][0], abs=0.005)


def test_what_the_pages_say_in_words_of_f9(f9):
    """The sentences around the numbers of results.md and choosing.md: orders, overlaps and what was not reached."""
    figure, rows = FIGURES["F9"], f9
    real = [row for row in rows if row["kind"] == "reported" and row["target"] == "real"]
    by_network = {name: {} for name in figure.full["networks"]}
    for row in real:
        by_network[row["network"]][row["family"]] = row
    fashion, other, third, digits, *further = by_network.values()
    assert list(by_network) == ["fashion", "fashion-1", "fashion-2", "digits", "digits-1", "digits-2"]

    def by_distance(own):
        reached = [row for name, row in own.items() if row["setting"] and name not in RULES]
        return [row["family"] for row in sorted(reached, key=lambda row: row["energy_distance"][0])]

    assert by_distance(fashion)[:3] == ["interval", "dynamic CFG", "CADS"]
    for own in by_network.values():
        assert set(by_distance(own)[-3:]) >= {"late negative", "linear in variance"}
        for family in ("late negative", "linear in variance"):
            assert network_tables.against(own[family], own["constant"]) == "further"
    for own in (fashion, other, third):
        assert set(by_distance(own)[:2]) == {"interval", "dynamic CFG"}
        assert own["opposite, then guided"]["setting"] is None
        for family in ("interval", "dynamic CFG"):
            assert network_tables.against(own[family], own["constant"]) == "nearer"
        assert network_tables.against(own["interval"], own["dynamic CFG"]) == "like it"
        assert network_tables.against(own["early negative"], own["constant"]) == "like it"
    window = "window, then guided again"
    said = [network_tables.against(own[window], own["constant"]) for own in (fashion, other, third)]
    assert said == ["like it", "further", "like it"]
    assert other["weak model"]["setting"] is third["weak model"]["setting"] is None
    assert fashion["weak model"]["energy_distance"][0] > fashion["constant"]["energy_distance"][0]
    assert fashion["early negative"]["energy_distance"][0] < fashion["constant"]["energy_distance"][0]
    assert "sigma_switch=10" in fashion["early negative"]["setting"]
    middle = ("interval", "dynamic CFG", "CADS", "opposite, then guided", "window, then guided again")
    for own in (digits, *further):
        assert own["weak model"]["setting"] is None
        said = {family: network_tables.against(own[family], own["constant"]) for family in own}
        assert {said[family] for family in middle} == ({"like it"} if own is digits else {"further"})
        assert said["early negative"] == ("nearer" if own is digits else "like it")
        assert own["constant"]["setting"] == ("1.5" if own is digits else "1.25")
        assert by_distance(own)[0] == ("early negative" if own is digits else "constant")
    ends = {row["network"]: row["passes"] for row in rows if row["kind"] == "network"}
    for name, own in by_network.items():
        upper = kdist.parse(own["interval"]["setting"]).sigma_hi
        assert (upper / ends[name] > 3) == name.startswith("digits")


def test_what_the_pages_say_in_words_of_f5():
    """Which rows are further than a constant that is recognised as often, and which are like no guidance."""
    made = digits_front.compute(Store(DOCS / "data" / "F5.json", frozen=True), **FIGURES["F5"].full)
    rows = {row["name"]: row for row in made}

    def value(name, quantity="energy_distance"):
        return rows[name][quantity][0]

    def said(name, other):
        return network_tables.told_apart(rows[name], rows[other])

    for name in ("late negative", "linear in variance", "early negative", "designed on the class mixture"):
        assert said(name, "constant 1.25") == "further"
    for name in ("late negative", "linear in variance"):
        assert value(name, "accuracy") == pytest.approx(value("constant 1.25", "accuracy"), abs=0.001)
        assert value(name, "trace_ratio") < value("constant 1.25", "trace_ratio")
    for name in ("early negative", "window, then conditional"):
        assert value(name, "accuracy") <= value("constant 1.5", "accuracy")
        assert said(name, "constant 1.5") == "further"
    assert value("SDE, late negative", "accuracy") < 0.985
    for quantity in ("energy_distance", "accuracy"):
        returning = value("window, then guided again", quantity)
        assert value("constant 1.25", quantity) < returning < value("constant 1.5", quantity)
    assert said("early negative, 0.25", "constant 1.25") == "like it"
    for quantity in ("recall", "coverage"):
        assert value("early negative", quantity) < value("no guidance", quantity)
    weak = ("weak model", "weak model, interval")
    for name in (*weak, "linear ramp", "cosine ramp", "constant, tuned", "interval"):
        assert said(name, "no guidance") == "like it"
        assert value(name, "accuracy") > rows["no guidance"]["accuracy"][2]
        assert (abs(value(name, "trace_ratio") - 1) < 0.03) == (name in weak)
    for name in ("rescaled", "projected (APG)", "CFG-Zero*"):
        assert rows[name]["schedule"] == "1.25"
        assert said(name, "constant 1.25") == "like it"


def test_what_the_pages_say_in_words_of_f8():
    """Which families are further than a constant against 2048 classes, and what grows with their number."""
    found = glyph_classes.compute(Store(DOCS / "data" / "F8.json", frozen=True), **FIGURES["F8"].full)
    by_place = {(row["solver"], row["schedule"], row["set"]): row for row in found["network"]}
    for solver, schedule in {place[:2] for place in by_place if place[1] != "1"}:
        few, many = by_place[solver, schedule, 8], by_place[solver, schedule, 2048]
        for quantity in ("energy_distance", "displacement", "overshoot"):
            assert few[quantity][0] < many[quantity][0]
    against = {name: by_place["dpmpp_2m", name, 2048] for name in ("2", "late", "window", "early")}
    said = {name: network_tables.told_apart(row, against["2"]) for name, row in against.items()}
    assert said == {"2": "like it", "late": "further", "window": "further", "early": "like it"}
    shares = [row["accuracy"]["2048"][0] for row in against.values()]
    assert max(shares) - min(shares) < 0.04
    most = [row for row in found["tuned"] if row["kind"] == "reported" and row["set"] == 2048 and row["setting"]]
    real, constant = ({row["family"]: row for row in most if row["target"] == t} for t in ("real", "constant"))
    nearest = sorted(real, key=lambda family: real[family]["energy_distance"][0])
    assert nearest[:2] == ["interval", "constant"]
    for family in ("late negative", "early negative", "window, then guided again"):
        assert network_tables.told_apart(real[family], real["constant"]) == "further"
    order = sorted(constant, key=lambda family: constant[family]["energy_distance"][0])
    assert order[0] == "dynamic CFG"
    assert order[-2:] == ["constant", "linear in variance"]


@pytest.mark.parametrize(
    ("page", "heading"),
    [
        ("predicted_vs_measured.md", "| predictor | log trace ratio: r |"),
        ("tuning.md", "| network | method | repeats |"),
        ("tuning.md", "| network | method | distance: part"),
        ("tuning.md", "| network | seed |"),
        ("tuning.md", "| warm starts |"),
    ],
)
def test_shared_tables_are_those_of_the_results(page, heading):
    results = (DOCS / "results.md").read_text().splitlines()
    (table,) = [block for block in (DOCS / page).read_text().split("\n\n") if block.startswith(heading)]
    rows = table.splitlines()
    assert len(rows) > 2
    assert [row for row in rows if row not in results] == []


def test_overhead_has_the_tables_of_its_records():
    page = overhead.PAGE.read_text()
    assert overhead.filled(page) == page
    assert page.count("| time / by hand |") == 2
