"""Contenders of F9: annealed conditions stay pure functions, choices follow the rule that the page states."""

import numpy as np
import pytest
import torch
from torch import nn

import kdist
from scripts.results import network_tables
from scripts.results.cads import Annealed, annealing, dynamic_scales
from scripts.results.families import FAMILIES, PLAIN, Network
from scripts.results.figures import FIGURES
from scripts.results.networks import TARGETS, at_least, compute, texts
from scripts.results.store import Store

SIGMAS = kdist.solvers.karras_sigmas(10, 0.02, 80.0)


class Embedded(nn.Module):
    """Returns its class vector, so that a test sees what the network gets."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(4, 256)

    def forward(self, x, sigma, *, class_cond):
        return self.embedding(class_cond)


@pytest.fixture
def annealed():
    model = Embedded()
    return Annealed(model, model.embedding, 3, SIGMAS, strength=0.25, low=0.3, high=0.8)


def call(model, sigma, classes=(0, 1, 3), seeds=(7, 8, 9)):
    classes = torch.tensor(classes)
    level = torch.full((len(classes),), float(sigma))
    return model(torch.zeros(len(classes), 1), level, class_cond=classes, seed=torch.tensor(seeds)).detach()


def test_annealing_is_the_papers_ramp():
    gamma = annealing(SIGMAS, 0.3, 0.8)
    time = 1 - np.arange(10) / 10
    assert gamma[:2] == [0, 0]
    assert gamma[-3:] == [1, 1, 1]
    middle = (time > 0.3) & (time < 0.8)
    np.testing.assert_allclose(np.array(gamma)[middle], (0.8 - time[middle]) / 0.5)


def test_dynamic_scales_begin_at_1_and_end_at_the_scale():
    scale = dynamic_scales(5.0, SIGMAS, 0.3, 0.8)
    assert scale(SIGMAS[0]) == 1
    assert scale(SIGMAS[-2]) == 5
    assert scale(SIGMAS[5]) == pytest.approx(1 + 4 * (0.8 - 0.5) / 0.5)


def test_a_call_made_twice_or_in_another_order_is_the_same(annealed):
    first = call(annealed, 5.0)
    assert torch.equal(call(annealed, 5.0), first)
    assert torch.equal(call(annealed, 5.0, (1, 0), (8, 7)), first[[1, 0]])
    assert not torch.equal(call(annealed, 5.0, seeds=(1, 2, 3))[:2], first[:2])
    assert not torch.equal(call(annealed, 4.0)[:2], first[:2])


def test_nothing_is_changed_without_a_class_nor_at_the_end(annealed):
    with torch.no_grad():
        plain = annealed.embedding(torch.tensor([0, 1, 3]))
    noisy = call(annealed, 5.0)
    assert torch.equal(noisy[2], plain[2])
    assert torch.equal(call(annealed, 0.03), plain)
    # brought back to the mean and deviation of the class's vector, to float32's rounding
    torch.testing.assert_close(noisy.mean(1), plain.mean(1), atol=1e-6, rtol=0)
    torch.testing.assert_close(noisy.std(1), plain.std(1), atol=1e-5, rtol=0)
    # in the first steps nothing of the class is left: the correlation of 256 independent numbers is below 4 / sqrt(256)
    start = call(annealed, 80.0)[0] - plain[0].mean()
    centred = plain[0] - plain[0].mean()
    assert abs(float((start * centred).sum() / start.norm() / centred.norm())) < 0.25


def test_families_are_tuned_equally_hard():
    assert {len(family.settings) for family in FAMILIES} == {6}
    assert len({family.name for family in (*FAMILIES, PLAIN)}) == len(FAMILIES) + 1
    model = Embedded()
    for family in FAMILIES:
        assert len(set(family.settings)) == 6
        for setting in family.settings:
            assert setting.guided(Network(model, model, model.embedding, 3, SIGMAS)) is not None
            assert str(setting)


def test_the_nearest_that_reaches_the_target():
    found = [
        {"accuracy": [accuracy, 0, 1], "energy_distance": [distance, 0, 1]}
        for accuracy, distance in ((0.8, 0.0), (0.9, 0.3), (0.95, 0.2), (1.0, 0.4))
    ]
    assert at_least(found, 0.85) == 2
    assert at_least(found, 0.99) == 3
    assert at_least(found, 1.01) is None


def test_rows_tables_and_picture(toys):
    options = FIGURES["F9"].quick
    out = toys.make("F9")
    rows = compute(Store(out / "data" / "F9.json", frozen=True), **options)  # frozen: nothing is measured twice
    tried = sum(6 * len(families) + 1 for families in options["networks"].values())
    assert [row["kind"] for row in rows].count("tried") == tried
    reported = [row for row in rows if row["kind"] == "reported"]
    assert {row["target"] for row in reported} == {*TARGETS, "unguided"}
    shown = texts(rows)
    assert shown["tried"] == str(tried)
    assert shown["trainings_digits"] == "2"
    assert "TCFG" in shown["rules"]
    assert texts([row for row in rows if row.get("family") != "TCFG"])["rules"] == ""
    assert "| digits, 2 |" in shown["holds"]
    assert "| digits | " in shown["information"]
    assert "no guidance" in shown["real_digits"]
    assert "weak model" in shown["constant_digits"]
    assert "means displaced" in shown["digits"]
    assert (out / "figures" / "F9.png").read_bytes()[:4] == b"\x89PNG"


def reported(network, family, distance, setting="2", target="real"):
    """A row as F9 reports it, standard error 0.01."""
    around = [distance, distance - 0.0196, distance + 0.0196]
    return {"kind": "reported", "network": network, "family": family, "target": target, "setting": setting,
            "energy_distance": around, "accuracy": [0.9, 0.8, 1.0]}  # fmt: skip


def test_what_holds_on_every_training_is_counted():
    constant = reported("digits", "constant", 0.1)
    # two standard errors of 0.01: a difference beyond 1.96 * 0.0141 = 0.0277 is told
    said = [
        network_tables.against(reported("digits", "interval", 0.1 + step), constant) for step in (-0.03, 0.02, 0.03)
    ]
    assert said == ["nearer", "like it", "further"]
    assert network_tables.against(reported("digits", "interval", 0.1, setting=None), constant) == "not reached"
    assert network_tables.against(None, constant) == "not tried"
    assert network_tables.against(constant, None) == "no constant"
    networks = ["digits", "digits-1"]
    rows = [reported(name, "constant", 0.1) for name in networks]
    rows += [reported(name, "interval", 0.02) for name in networks]
    rows += [reported("digits", "CADS", 0.02), reported("digits-1", "CADS", 0.3)]
    rows += [reported(name, "late negative", 0.5) for name in networks]
    rows += [reported(name, "weak model", 0.0, setting=None) for name in networks]
    rows += [reported("digits", "TCFG", 0.5)]  # tried on one training only
    found = network_tables._verdicts(rows, [{"network": name} for name in networks])
    assert found["always_nearer"] == "interval"
    assert found["always_further"] == "late negative"  # TCFG was not tried on each
    assert found["never_reached"] == "weak model"
    assert found["disagree"] == "CADS"
    assert found["cads_spread"] == "0.160 (0.020 to 0.300)"
    table = network_tables._distances(rows, [{"network": name, "real": 0.9} for name in networks], "real")
    lines = {line.split(" | ")[0].strip("| "): line for line in table.splitlines()}
    assert "1 nearer, 1 further" in lines["CADS"]
    assert "TCFG" not in lines  # not tried on each
    assert table.index("interval") < table.index("| constant") < table.index("late negative")
    networks = [{"network": name} for name in networks]
    assert network_tables._rules(rows, networks) == ""
    rules = network_tables._rules([row | {"group": "rule"} for row in rows if row["network"] == "digits"], networks)
    assert [line.split(" | ")[0].strip("| ") for line in rules.splitlines()[2:]] == ["interval", "constant", "TCFG"]
    assert rules.splitlines()[4] == "| TCFG | `2` | 0.500 [0.480, 0.520] at 0.900 | further |"
