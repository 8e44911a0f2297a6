"""``kdist tune`` with a user's own code: what fails there is said in one line that names it."""

import sys

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from kdist.cli.tune import tune


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return {}['inside']", "mine:generate raised KeyError: 'inside'"),
        ("return labels.none", "mine:generate raised AttributeError"),
        ("raise SystemExit(0)", "mine:generate raised SystemExit: 0"),
    ],
)
def test_errors_of_the_users_code_name_it(tmp_path, monkeypatch, body, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(f"def generate(schedule, labels, seeds): {body}\n")
    sys.modules.pop("mine", None)  # of another test's folder
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "real.npz", images=images, labels=np.repeat([0, 1], 20))
    app = typer.Typer(add_completion=False)
    app.command()(tune)
    options = ["--real", "real.npz", "--calls", "100000", "--out", "tuned"]
    result = CliRunner().invoke(app, ["mine:generate", *options])
    assert isinstance(result.exception, ValueError), result.exception  # what the command makes one line and code 2 of
    assert message in str(result.exception)
