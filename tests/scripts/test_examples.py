"""The examples of docs/adapters.md run, and say what they are there to say."""

import importlib
import re
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"


@pytest.fixture
def run(monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLES)

    def run_example(name):
        # another test directory may have imported a module of the same name
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.import_module(name).main()
        return capsys.readouterr().out

    return run_example


def test_diffusers_guider(run):
    """Half of 10 Heun steps: 5 levels, asked 1 + 4 * 2 times. The built-in window of 5 iterations ends after 3."""
    out = run("diffusers_guider")
    assert "kdist schedule: 28 network calls in 19 iterations" in out
    assert "built-in, stop=0.5: 24 network calls in 19 iterations" in out


def test_diffusers_k_sampling(run):
    assert "32 network calls per image (predicted 32)" in run("diffusers_k_sampling")


def test_edm(run):
    """Constant scale 2 shrinks the variance 0.25 to 1/16 (arXiv 2602.00716), the window gives it back."""
    lines = run("edm").splitlines()
    variances = [float(re.search(r"variance (\S+)", line).group(1)) for line in lines]
    # 4000 samples: relative standard error sqrt(2 / 4000) = 0.022, and 32 Heun steps are off by less than that
    assert variances[:2] == pytest.approx([0.25] * 2, rel=0.07)
    assert variances[2:4] == pytest.approx([1 / 16] * 2, rel=0.1)
    assert variances[4:] == pytest.approx([0.25] * 2, rel=0.1)


def test_compvis_cfg(run):
    out = run("compvis_cfg")
    assert "constant, as before: 60 network calls" in out
    assert "late negative: 48 network calls" in out


def test_model_levels(run):
    """Stable Diffusion starts at 14.6, EDM at 80, flows at infinity: the table of docs/schedules.md."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in run("model_levels").splitlines()[2:]]
    assert {row[2] for row in rows} == {"14.6", "80", "inf"}
    assert all(sum(map(int, row[-4:])) == int(row[1]) for row in rows)
    page = (EXAMPLES.parents[1] / "docs" / "schedules.md").read_text()
    assert all(" | ".join(row) in page for row in rows)


def test_information(run, monkeypatch):
    """One image of each digit: enough to see that the network claims more than there is (log 10 = 2.30)."""
    monkeypatch.setattr(sys, "argv", ["information.py", "--per-class", "1"])
    lines = run("information").splitlines()
    totals = [float(line.split()[-2]) for line in lines[2:]]
    assert "bound: log 10 = 2.30" in lines[0]
    # ten samples of spread 1: 4 is above what the exact mixture says by more than four standard errors
    assert totals[0] > 4
    assert totals[1] > 4
    assert totals[2] < 4


def test_tune_diffusers(run):
    """The recipe of docs/tuning.md, end to end on random networks; the page quotes its generator."""
    out = run("tune_diffusers")
    # which of the verdicts it is depends on rounding, which differs between versions of NumPy
    assert re.search(r"etter than (a constant scale|constant \S+: energy distance)", out)
    assert re.search(r"alignment -?\d\.\d+ on 40 fresh samples", out)


def test_information_of_wrong_samples(run, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["information.py", "--per-class", "1", "--wrong"])
    first, *levels, last = run("information").splitlines()
    share = float(first.split()[0])
    assert 0 <= share < 0.5
    # one line for each noise level of the run; a share of the whole, and nothing where no sample is wrong
    assert len(levels) == 40
    assert 0 <= float(last.split()[1]) < 1
    assert share > 0 or float(last.split()[1]) == 0
