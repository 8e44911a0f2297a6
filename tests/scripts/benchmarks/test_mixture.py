"""The mixture's benchmark runs, and both of its sides are what they are said to be."""

import json
import math

import torch
from typer import Typer
from typer.testing import CliRunner

from scripts.benchmarks import mixture


def test_it_runs_and_writes(tmp_path):
    app = Typer()
    app.command()(mixture.main)
    sizes = ["--centres", "300", "--centres", "50", "--batch", "4", "--rounds", "2"]
    arguments = [*sizes, "--json", str(tmp_path / "m.json")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "m.json").read_text())
    assert [row["centres"] for row in rows] == [300, 50]
    assert all(row["ratio"] > 0 and row["peak_gb"] > 0.05 for row in rows)
    assert "300 centres" in result.output


def test_the_least_is_one_product():
    x, means = torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    expected = torch.tensor([math.e + 2, 2 + math.e**2])
    torch.testing.assert_close(mixture.least(x, means), expected)
